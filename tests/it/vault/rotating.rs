//! Keys are changed while people are registered and written to. A step taken too early is refused, and says what to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assent_runtime::{Ids, SystemClock, SystemIds};
use assent_sealing::{DataKey, FileKek, Keks, KeyState, KeyStore, KeyStoreError};
use assent_tests::cluster::client::Client;
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::vault;

#[tokio::test]
async fn a_wrapping_key_may_go_when_no_key_is_left_under_it() {
    let vault = vault().await;
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let kek = |byte| FileKek::new(DataKey::from_bytes([byte; 32]), Arc::clone(&ids));
    let store = |keks: Keks| {
        KeyStore::new(vault.keys.clone(), keks, Arc::new(SystemClock), Arc::clone(&ids))
    };
    // As the replicas are at each step: the old key wraps; it wraps, and the new one is known; the other way round.
    let (knows, turned) =
        (store(Keks::moving(kek(1), kek(2))), store(Keks::moving(kek(2), kek(1))));
    let only_new = store(Keks::from(kek(2)));
    let before: Vec<Uuid> = (1..=5).map(Uuid::from_u128).collect();
    let minted = knows.mint(&before).await.unwrap();
    let gone = Uuid::from_u128(5);
    knows.destroy(&[gone]).await.unwrap();

    // Side by side each opens what the other wraps.
    let (late, new) = (Uuid::from_u128(6), Uuid::from_u128(7));
    turned.mint(&[new]).await.unwrap();
    knows.mint(&[late]).await.unwrap();
    for store in [&knows, &turned] {
        let states = store.get(&[new, late]).await.unwrap();
        assert!(states.iter().all(|state| matches!(state, KeyState::Live(_))));
    }
    assert_eq!(turned.wrapped_by_others().await.unwrap(), 5, "four of before, and the late one");

    let refused = only_new.check_wrapping_keys().await.unwrap_err();
    assert!(matches!(refused, KeyStoreError::Missing { keys: 5, .. }), "{refused}");
    assert!(refused.to_string().contains("assent keys rewrap"), "{refused}");

    // Piece by piece, stopped in the middle, begun again.
    let (last, written) = turned.rewrap(Uuid::nil(), 2).await.unwrap().unwrap();
    assert_eq!((last, written), (before[1], 2));
    assert_eq!(turned.wrapped_by_others().await.unwrap(), 3);
    assert!(only_new.check_wrapping_keys().await.is_err(), "not before the last one");
    let mut after = Uuid::nil();
    while let Some((last, _)) = turned.rewrap(after, 2).await.unwrap() {
        after = last;
    }
    assert_eq!(turned.wrapped_by_others().await.unwrap(), 0);
    only_new.check_wrapping_keys().await.unwrap();
    let now = only_new.get(&before).await.unwrap();
    for (now, then) in now.iter().zip(&minted).take(4) {
        let (KeyState::Live(now), KeyState::Live(then)) = (now, then) else { panic!("they live") };
        assert_eq!(now.key.expose(), then.key.expose());
    }
    assert!(matches!(now[4], KeyState::Destroyed), "who was destroyed stays so");
}

/// People who are registered and whose numbers are read again, one after the other, until it is stopped.
struct Traffic {
    stop: Arc<AtomicBool>,
    done: watch::Receiver<usize>,
    task: JoinHandle<Vec<Person>>,
}

impl Traffic {
    fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (count, done) = watch::channel(0);
        let (client, until_then) = (cluster.client(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut people = Vec::new();
            while !until_then.load(Ordering::Relaxed) {
                let person = Person::somebody();
                let rows = json!({"origin": "import", "rows": [{"phone": person.phone}]});
                let answer = answered(&client, "/v1/subjects/import", &rows).await;
                let outcome = &answer["outcomes"][0];
                let became = outcome["outcome"].as_str().unwrap_or_default();
                assert!(["created", "existing"].contains(&became), "{answer}");
                let asked = json!({"reason": "send", "subjects": [outcome["subject_id"]]});
                let answer = answered(&client, "/v1/addresses/resolve", &asked).await;
                assert_eq!(answer["addresses"][0]["phone"], person.phone, "{answer}");
                people.push(person);
                count.send_replace(people.len());
            }
            people
        });
        Self { stop, done, task }
    }

    /// Returns when some more are registered, and a message went out, by the services as they are now.
    async fn goes_on(&mut self, cluster: &Cluster, subject: &str) {
        let goal = *self.done.borrow() + 5;
        self.done.wait_for(|done| *done >= goal).await.expect("the traffic goes on");
        let message = cluster.queue_somewhere(subject).await;
        let settled = cluster.settled(&message).await;
        assert_eq!(settled["state"], "accepted", "{settled}");
    }

    async fn end(self) -> Vec<Person> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// The answer of the vault, of which one replica may be going: only no answer, or "not now", is tried again.
async fn answered(client: &Client, path: &str, body: &Value) -> Value {
    const TRIES: usize = 1000;
    for _ in 0..TRIES {
        match client.try_post("vault", path, body, None).await {
            Ok((200, answer)) => return answer,
            Ok((429 | 503, _)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok(other) => panic!("{path}: {other:?}"),
        }
    }
    panic!("{path}: no answer");
}

/// Changes a key file and replaces those who read it, one after the other.
async fn roll(cluster: &mut Cluster, step: &str, file: &Path, replicas: &[&str]) {
    change(cluster, step, file);
    for replica in replicas {
        cluster.replace(replica).await;
    }
}

fn change(cluster: &Cluster, step: &str, file: &Path) {
    let changed = cluster.assent(&["keys", "change", step, file.to_str().unwrap()]);
    assert_eq!(changed.status, 0, "{}", changed.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_key_changes_while_people_are_registered_and_written_to() {
    let replicated = vec!["vault"];
    let mut cluster = Cluster::with(Wishes { replicated, ..Wishes::default() }).await;
    let vaults = ["vault", "vault-2"];
    let file = cluster.dir.join("keys/vault.kek");
    let (her, subject) = cluster.willing().await;
    let mut traffic = Traffic::start(&cluster);
    traffic.goes_on(&cluster, &subject).await;

    for step in ["add", "turn"] {
        roll(&mut cluster, step, &file, &vaults).await;
        traffic.goes_on(&cluster, &subject).await;
    }
    let shown = cluster.assent(&["keys", "status", "vault"]);
    let keys = |n: usize| shown.json["wrapping_keys"][n]["keys"].as_u64().unwrap();
    assert!(shown.status == 1 && keys(0) > 0 && keys(1) > 0, "{}", shown.text);

    // Too early: the replica that lacks the old key doesn't start, and says why; the other one serves.
    let both = std::fs::read(&file).unwrap();
    change(&cluster, "drop", &file);
    cluster.begin_again("vault-2");
    until("it ends, and says what to do", async || {
        let process = cluster.process("vault-2");
        process.ended().is_some_and(|status| !status.success())
            && process.tail().contains("assent keys rewrap")
    })
    .await;
    traffic.goes_on(&cluster, &subject).await;
    std::fs::write(&file, both).unwrap();
    cluster.restart("vault-2").await;

    let rewrapped = cluster.assent(&["keys", "rewrap", "vault"]);
    assert_eq!((rewrapped.status, &rewrapped.json["left"]), (0, &json!(0)), "{}", rewrapped.text);
    assert!(rewrapped.json["rewrapped"].as_u64().is_some_and(|it| it > 0), "{}", rewrapped.text);
    assert_eq!(cluster.assent(&["keys", "status", "vault"]).status, 0);
    roll(&mut cluster, "drop", &file, &vaults).await;
    traffic.goes_on(&cluster, &subject).await;

    for person in traffic.end().await {
        assert!(cluster.subject(&person).await.is_some(), "who was registered is known");
    }
    assert_eq!(cluster.delivered_to(&her).await.len(), 5, "each message once");
}
