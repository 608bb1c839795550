//! The crate for other teams, as they use it: its README's example, problems, following consents, an erasure.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assent_client::contracts::SubjectId;
use assent_client::contracts::api::consent::WithdrawRequest;
use assent_client::contracts::consent::{Actor, Method, State};
use assent_client::contracts::erasure::{Command, Evidence, Positions, Step};
use assent_client::{Change, Client, Error, Follower, Holder, Participant, Progress, What};
use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::{Cluster, until};
use rdkafka::ClientConfig;

#[path = "../../crates/assent-client/examples/welcome.rs"]
mod welcome;

fn client(cluster: &Cluster) -> Client {
    Client::new(&cluster.url("gateway"), cluster.token()).unwrap()
}

fn kafka(cluster: &Cluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cluster.bus.brokers);
    config
}

fn withdrawal(subject_id: SubjectId, purpose: &str) -> WithdrawRequest {
    WithdrawRequest {
        subject_id,
        purpose: purpose.to_owned(),
        channel: "whatsapp".to_owned(),
        actor: Actor::Subject,
        method: Method::Api,
        evidence: None,
        acted_at: None,
        place: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_team_grants_sends_follows_and_forgets() {
    let cluster = Cluster::start().await;
    let assent = client(&cluster);
    let (person, id) = cluster.willing().await;
    let id: SubjectId = id.parse().unwrap();
    let mut follower = Follower::start(&kafka(&cluster), &cluster.bus.topic_prefix).unwrap();
    let mut told: Vec<Change> = Vec::new();
    let mut read = || {
        tokio::task::block_in_place(|| {
            told.extend(follower.poll(Duration::from_millis(50)).unwrap());
        });
        let agreed = follower.picture().agreed(id, "marketing", "whatsapp", SystemClock.now());
        (agreed, follower.picture().waiting(), told.clone())
    };
    until("the state says that she agreed", async || read().0).await;

    for _ in 0..2 {
        let state = welcome::welcome(&assent, &person.phone, "form-4711").await.unwrap();
        assert_eq!(state, "accepted");
    }
    assert_eq!(
        cluster.delivered_by("hello", &person).await.len(),
        1,
        "a repeat sends nothing twice"
    );

    // Refusals have their codes.
    assent.withdraw(&withdrawal(id, "marketing"), "letter-1").await.unwrap();
    let reused = assent.withdraw(&withdrawal(id, "service"), "letter-1").await.unwrap_err();
    assert_eq!(reused.code(), Some("idempotency_key_reused"));
    assert!(!reused.may_pass());
    let stranger = Client::new(&cluster.url("gateway"), "nobody's").unwrap();
    let unknown = stranger.withdraw(&withdrawal(id, "service"), "letter-2").await.unwrap_err();
    assert!(matches!(&unknown, Error::Refused(it) if it.status == 401), "{unknown}");
    until("the events say that she withdrew", async || !read().0).await;

    let registered =
        cluster.assent(&["participant", "register", "crm", "--owner", "crm-team", "--key", "test"]);
    assert_eq!(registered.status, 0, "{}", registered.text);
    let over = Arc::new(AtomicBool::new(false));
    let crm = {
        let (kafka, over) = (kafka(&cluster), Arc::clone(&over));
        let prefix = cluster.bus.topic_prefix.clone();
        std::thread::spawn(move || {
            let mut crm =
                Participant::start(&kafka, &prefix, assent, "crm", Crm::default()).unwrap();
            while !over.load(Ordering::SeqCst) {
                let progress = crm.poll(Duration::from_millis(100)).unwrap();
                assert!(!matches!(progress, Progress::Refused(..)), "{progress:?}");
            }
            std::mem::take(&mut crm.holder().steps)
        })
    };
    let erased = cluster.assent(&["erase", &person.phone, "--checked", "called_back", "--wait"]);
    assert_eq!(erased.json["status"], "completed", "{}", erased.text);
    over.store(true, Ordering::SeqCst);
    let mut steps = crm.join().unwrap();
    steps.dedup();
    assert_eq!(steps, [Step::Fence, Step::Delete, Step::Sweep], "it waited for the crm");
    until("the follower has forgotten her", async || {
        read().2.iter().any(|change| change.subject_id == id && change.what == What::Forgotten)
    })
    .await;
    let (agreed, waiting, told) = read();
    assert_eq!((agreed, waiting), (false, 0));
    let hers = told.into_iter().filter(|change| change.subject_id == id);
    let mut states: Vec<Option<State>> = hers
        .filter_map(|change| match change.what {
            What::Line { purpose, line, .. } if purpose == "marketing" => Some(line.state),
            _ => None,
        })
        .collect();
    states.dedup();
    assert_eq!(states, [Some(State::Given), Some(State::Withdrawn)]);
}

/// It holds nothing, and says so.
#[derive(Default)]
struct Crm {
    steps: Vec<Step>,
}

impl Holder for Crm {
    type Error = Infallible;

    fn forget(&mut self, _: SubjectId) -> Result<(), Infallible> {
        Ok(())
    }

    fn carry_out(&mut self, command: &Command) -> Result<Evidence, Infallible> {
        self.steps.push(command.step);
        let nothing = [("people", Default::default())].into_iter().collect();
        Ok(Evidence::of(&nothing, Positions::new()))
    }
}
