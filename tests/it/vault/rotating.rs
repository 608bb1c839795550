//! Keys are changed while people are registered and written to. A step taken too early is refused, and says what to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assent_contracts::api::vault::{
    IdentitiesRequest, IdentitiesResponse, IdentityOutcome, ImportOutcome, ImportRequest,
    ImportResponse, LookupRequest, LookupResponse, RenewRequest, RenewResponse, SuppressRequest,
    SuppressResponse, SuppressRow, ToldIdentity,
};
use assent_contracts::vault::Origin;
use assent_http::Code;
use assent_runtime::{Clock as _, Ids, SystemClock, SystemIds};
use assent_sealing::{
    DataKey, FileKek, IndexKeys, IndexKeysError, Keks, KeyState, KeyStore, KeyStoreError,
    index_keys,
};
use assent_tests::cluster::client::Client;
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use assent_tests::harness::unique;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Vault, code, number, row, vault, vault_with};

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

/// Changes key files and replaces those who read them, one after the other.
async fn roll(cluster: &mut Cluster, step: &str, files: &[&Path], replicas: &[&str]) {
    change(cluster, step, files);
    for replica in replicas {
        cluster.replace(replica).await;
    }
}

fn change(cluster: &Cluster, step: &str, files: &[&Path]) {
    let files = files.iter().map(|file| file.to_str().unwrap());
    let arguments: Vec<&str> = ["keys", "change", step].into_iter().chain(files).collect();
    let changed = cluster.assent(&arguments);
    assert_eq!(changed.status, 0, "{}", changed.text);
}

async fn does_not_start(cluster: &mut Cluster, name: &str, says: &str) {
    cluster.begin_again(name);
    until("it ends, and says what to do", async || {
        let process = cluster.process(name);
        process.ended().is_some_and(|status| !status.success()) && process.tail().contains(says)
    })
    .await;
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
        roll(&mut cluster, step, &[&file], &vaults).await;
        traffic.goes_on(&cluster, &subject).await;
    }
    let shown = cluster.assent(&["keys", "status", "vault"]);
    let keys = |n: usize| shown.json["wrapping_keys"][n]["keys"].as_u64().unwrap();
    assert!(shown.status == 1 && keys(0) > 0 && keys(1) > 0, "{}", shown.text);

    // Too early: the replica that lacks the old key doesn't start, and says why; the other one serves.
    let both = std::fs::read(&file).unwrap();
    change(&cluster, "drop", &[&file]);
    does_not_start(&mut cluster, "vault-2", "assent keys rewrap").await;
    traffic.goes_on(&cluster, &subject).await;
    std::fs::write(&file, both).unwrap();
    cluster.restart("vault-2").await;

    let rewrapped = cluster.assent(&["keys", "rewrap", "vault"]);
    assert_eq!((rewrapped.status, &rewrapped.json["left"]), (0, &json!(0)), "{}", rewrapped.text);
    assert!(rewrapped.json["rewrapped"].as_u64().is_some_and(|it| it > 0), "{}", rewrapped.text);
    assert_eq!(cluster.assent(&["keys", "status", "vault"]).status, 0);
    roll(&mut cluster, "drop", &[&file], &vaults).await;
    traffic.goes_on(&cluster, &subject).await;

    for person in traffic.end().await {
        assert!(cluster.subject(&person).await.is_some(), "who was registered is known");
    }
    assert_eq!(cluster.delivered_to(&her).await.len(), 5, "each message once");
}

/// Index keys, the same with one more, and the same when the first looks only, as `assent keys change` makes them.
fn steps() -> [IndexKeys; 3] {
    let folder = std::env::temp_dir().join(unique("index"));
    std::fs::create_dir(&folder).unwrap();
    let files = [folder.join("index.toml")];
    let one = IndexKeys::generate(&SystemIds);
    one.write(&files[0]).unwrap();
    IndexKeys::add(&files, &SystemIds).unwrap();
    let two = IndexKeys::load(&files[0]).unwrap();
    IndexKeys::turn(&files).unwrap();
    let turned = IndexKeys::load(&files[0]).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    [one, two, turned]
}

/// Hashes everybody by every key; gives how many lacked one.
async fn renew(vault: &Vault) -> u64 {
    let mut request = RenewRequest::default();
    let mut renewed = 0;
    loop {
        let answer: RenewResponse =
            vault.all.post("/v1/index/renew", &request, None).await.unwrap();
        renewed += answer.renewed;
        request.after = answer.last;
        if answer.last.is_none() {
            return renewed;
        }
    }
}

#[tokio::test]
async fn everybody_is_found_by_an_added_index_key_and_nobody_is_lost_meanwhile() {
    let [one, two, _] = steps();
    let vault = vault_with(&one).await;
    let [before, gone] = [vault.register(&number(1)).await, vault.register(&number(2)).await];
    vault.erase(gone).await;
    vault.suppress(&[&number(3)]).await.unwrap();

    // Side by side, whichever of them registers her: she is one person, and both find her.
    let added = vault.replica_with(&two).await;
    let late = vault.register(&number(4)).await;
    let fresh = added.register(&number(5)).await;
    // One name of hers is added by the one that doesn't know the new key.
    let names = ToldIdentity {
        answers: None,
        phone: Some(number(5)),
        user_id: Some("FR.5".to_owned()),
        parent_user_id: None,
    };
    let request = IdentitiesRequest { told: vec![names] };
    let _: IdentitiesResponse = vault.all.post("/v1/identities", &request, None).await.unwrap();
    for replica in [&vault, &added] {
        for (n, subject) in [(1, before), (4, late), (5, fresh)] {
            assert_eq!(replica.lookup(&number(n)).await.subject_id, Some(subject), "{n}");
            let again = replica.import(Origin::Import, vec![row(&number(n))]).await;
            assert_eq!(again, [ImportOutcome::Existing { subject_id: subject }]);
        }
        for (n, reason) in [(2, "erased"), (3, "suppressed")] {
            let refused = replica.import(Origin::Import, vec![row(&number(n))]).await;
            assert_eq!(refused, [ImportOutcome::Refused { reason: reason.to_owned() }]);
        }
    }
    let by_new_name = async |name: &str| {
        let addresses = vec![two.addresses().tokens(name)[1]];
        let request = LookupRequest { addresses, ..LookupRequest::default() };
        let answer: LookupResponse =
            added.all.post("/v1/subjects/lookup", &request, None).await.unwrap();
        answer.subject_id
    };
    let by_new = async |n| by_new_name(&number(n)).await;
    assert_eq!((by_new(1).await, by_new(4).await), (None, None), "the control");
    assert_eq!((by_new(5).await, by_new_name("FR.5").await), (Some(fresh), None));

    // Without the gate nobody gets a token: by it she would be free.
    added.consent_is_down.store(true, Ordering::SeqCst);
    let request = RenewRequest::default();
    let refused = added.all.post::<_, RenewResponse>("/v1/index/renew", &request, None).await;
    assert_eq!(code(refused), Some(Code::DependencyUnavailable));
    assert_eq!((by_new(1).await, by_new(4).await), (None, None));
    added.consent_is_down.store(false, Ordering::SeqCst);

    assert_eq!(renew(&added).await, 3, "also who had both of one name, not who is erased");
    assert_eq!(by_new_name("FR.5").await, Some(fresh));
    for (n, subject) in [(1, before), (4, late), (5, fresh)] {
        assert_eq!(by_new(n).await, Some(subject), "{n}");
        assert_eq!(vault.lookup(&number(n)).await.subject_id, Some(subject), "by the old one too");
    }
    let told = added.retold.lock().unwrap().clone();
    for n in [1, 4] {
        let tokens = two.addresses().tokens(&number(n));
        assert!(
            told.contains(&json!({"known": [tokens[0]], "more": [tokens[1]]})),
            "{n}: {told:?}"
        );
    }
    let records = "SELECT count(*) FROM access_records WHERE subject_id = $1 AND field = 'phone'
                   AND reason = 'index_renewed'";
    let records: i64 =
        sqlx::query_scalar(records).bind(before).fetch_one(&vault.data).await.unwrap();
    assert!(records > 0, "her number was read");
    assert_eq!(renew(&added).await, 0, "a repeat finds nobody");

    // An erasure leaves nothing of either key's, and both keep her out.
    added.erase(before).await;
    assert_eq!(by_new(1).await, None);
    let refused = added.import(Origin::Import, vec![row(&number(1))]).await;
    assert_eq!(refused, [ImportOutcome::Refused { reason: "erased".to_owned() }]);
}

#[tokio::test]
async fn a_key_that_looks_only_hashes_nobody_and_finds_who_is_barred() {
    let [one, two, turned] = steps();
    let vault = vault_with(&one).await;
    let [before, gone] = [vault.register(&number(1)).await, vault.register(&number(2)).await];
    vault.erase(gone).await;
    vault.suppress(&[&number(3)]).await.unwrap();
    let name = SuppressRow { user_id: Some("FR.9".to_owned()), ..SuppressRow::default() };
    let request = SuppressRequest { rows: vec![name] };
    let _: SuppressResponse = vault.all.post("/v1/suppressions", &request, None).await.unwrap();
    assert_eq!(renew(&vault.replica_with(&two).await).await, 1);
    let old = async |table: &str, column: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table} WHERE get_byte({column}, 0) = 1");
        sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&vault.data).await.unwrap()
    };
    let barred = old("suppressions", "fingerprint").await;
    assert!(barred > 0 && old("addresses", "token").await == 1, "the control");

    let turned_vault = vault.replica_with(&turned).await;
    for (n, reason) in [(2, "erased"), (3, "suppressed")] {
        let refused = turned_vault.import(Origin::Import, vec![row(&number(n))]).await;
        assert_eq!(refused, [ImportOutcome::Refused { reason: reason.to_owned() }]);
    }
    assert_eq!(turned_vault.suppress(&[&number(3)]).await.unwrap(), ["already_suppressed"]);
    assert_eq!(turned_vault.lookup(&number(1)).await.subject_id, Some(before));

    // Whoever comes brings what the gate has by the former token, or doesn't come in.
    vault.consent_is_down.store(true, Ordering::SeqCst);
    let rows = vec![row(&number(5))];
    let request = ImportRequest { origin: Origin::Import, acted_at: None, rows };
    let refused =
        turned_vault.all.post::<_, ImportResponse>("/v1/subjects/import", &request, None).await;
    assert_eq!(code(refused), Some(Code::DependencyUnavailable));
    vault.consent_is_down.store(false, Ordering::SeqCst);
    turned_vault.register(&number(5)).await;
    turned_vault.suppress(&[&number(6)]).await.unwrap();
    let tokens = two.addresses().tokens(&number(5));
    let told = json!({"known": [tokens[0]], "more": [tokens[1]]});
    assert!(vault.retold.lock().unwrap().contains(&told));
    // A name that is barred isn't kept, and what bars it stands against who is told to have it.
    let names = ToldIdentity {
        answers: None,
        phone: Some(number(5)),
        user_id: Some("FR.9".to_owned()),
        parent_user_id: None,
    };
    let request = IdentitiesRequest { told: vec![names] };
    let answer: IdentitiesResponse =
        turned_vault.all.post("/v1/identities", &request, None).await.unwrap();
    assert!(matches!(answer.outcomes[..], [IdentityOutcome::Known { .. }]));
    let tokens = two.addresses().tokens("FR.9");
    let told = json!({"known": [tokens[0]], "more": [tokens[1]]});
    assert!(vault.retold.lock().unwrap().contains(&told));
    assert_eq!(old("suppressions", "fingerprint").await, barred, "no new one is made");

    assert_eq!(renew(&turned_vault).await, 1, "her who had a token of both");
    assert_eq!(old("addresses", "token").await, 0);
    assert_eq!(old("people", "tokens").await, 0);
    assert_eq!(turned_vault.lookup(&number(1)).await.subject_id, Some(before));
    assert_eq!(turned_vault.resolve(before).await, Some(number(1)));
    assert_eq!(renew(&turned_vault).await, 0);
    turned_vault.erase(before).await;
    let refused = turned_vault.import(Origin::Import, vec![row(&number(1))]).await;
    assert_eq!(refused, [ImportOutcome::Refused { reason: "erased".to_owned() }]);
}

#[tokio::test]
async fn an_index_key_that_is_missing_or_another_one_stops_the_start() {
    let [one, two, _] = steps();
    let vault = vault_with(&one).await;
    let check = async |keys: &IndexKeys| {
        index_keys::check(&vault.data, &keys.names(), SystemClock.now()).await
    };
    check(&one).await.unwrap();
    check(&two).await.unwrap();
    check(&two).await.unwrap();
    let refused = check(&one).await.unwrap_err();
    assert!(matches!(refused, IndexKeysError::Missing { id: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("put it back"), "{refused}");
    let refused = check(&IndexKeys::generate(&SystemIds)).await.unwrap_err();
    assert!(matches!(refused, IndexKeysError::Other { id: 1, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_key_changes_while_people_are_registered_and_a_stop_holds_by_every_key() {
    let replicated = vec!["vault"];
    let mut cluster = Cluster::with(Wishes { replicated, ..Wishes::default() }).await;
    let files =
        ["index.toml", "index-address.toml"].map(|name| cluster.dir.join("keys").join(name));
    let [index, addresses] = [files[0].as_path(), files[1].as_path()];
    let replicas = ["vault", "vault-2", "messaging"];
    let first = std::fs::read(index).unwrap();
    let (her, subject) = cluster.willing().await;
    let (_, other) = cluster.willing().await;
    let mut traffic = Traffic::start(&cluster);
    traffic.goes_on(&cluster, &other).await;

    roll(&mut cluster, "add", &[index, addresses], &replicas).await;
    traffic.goes_on(&cluster, &other).await;

    // Too early: a stop that is heard by the new key alone would not be hers.
    let added = [index, addresses].map(|file| std::fs::read(file).unwrap());
    change(&cluster, "turn", &[index, addresses]);
    does_not_start(&mut cluster, "vault-2", "assent keys reindex").await;
    for (file, content) in files.iter().zip(&added) {
        std::fs::write(file, content).unwrap();
    }
    cluster.restart("vault-2").await;

    reindex(&cluster);
    traffic.goes_on(&cluster, &other).await;
    assert_eq!(cluster.hears(&her, "STOP").await, 200);
    cluster.declared().await;
    let consent = cluster.pool("consent").await;
    assert_eq!(stopped_by(&consent, &subject).await, [1, 2], "it stands by the tokens of both");

    roll(&mut cluster, "turn", &[index, addresses], &replicas).await;
    traffic.goes_on(&cluster, &other).await;
    reindex(&cluster);
    let sent = cluster.send(&her);
    assert!(sent.status == 1 && sent.text.contains("stopped"), "{}", sent.text);
    assert_eq!(stopped_by(&consent, &subject).await, [2]);
    traffic.goes_on(&cluster, &other).await;

    // A replica with the file of the beginning would find nobody.
    let now = std::fs::read(index).unwrap();
    std::fs::write(index, first).unwrap();
    does_not_start(&mut cluster, "vault-2", "put it back").await;
    std::fs::write(index, now).unwrap();
    cluster.restart("vault-2").await;
    for person in traffic.end().await {
        assert!(cluster.subject(&person).await.is_some(), "who was registered is known");
    }
}

fn reindex(cluster: &Cluster) {
    let done = cluster.assent(&["keys", "reindex"]);
    assert_eq!((done.status, &done.json["complete"]), (0, &json!(true)), "{}", done.text);
    assert!(done.json["reindexed"].as_u64().is_some_and(|it| it > 0), "{}", done.text);
}

/// Under which keys a stop stands against her.
async fn stopped_by(consent: &PgPool, subject: &str) -> Vec<i32> {
    const BY: &str = "
        SELECT DISTINCT get_byte(r.token, 0) AS key FROM gate_rows r JOIN gate_links l USING (token)
        WHERE l.subject_id = $1::text::uuid AND r.stopped_by IS NOT NULL ORDER BY key";
    sqlx::query_scalar(BY).bind(subject).fetch_all(consent).await.unwrap()
}
