//! G1: after an acknowledged withdrawal no provider call starts that rests on it, with a dispatcher
//! frozen before its last look, the consent service killed before its answer, two dispatchers that
//! race it with permits in their hands, and repeats.

use std::collections::BTreeMap;
use std::time::Duration;

use assent_runtime::{Clock as _, LeaseTerms, SystemClock};
use serde_json::{Value, json};

use super::SENDING;
use assent_tests::cluster::person::Person;
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, Wishes};

const LAST_LOOK: &str = "messaging.before_last_look";
const COMMITTED: &str = "consent.withdraw_after_commit";

fn withdrawal(subject: &str) -> Value {
    json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
        "actor": "operator", "method": "api"})
}

async fn withdraw(cluster: &Cluster, subject: &str, key: &str) -> (Value, Duration) {
    let asked = SystemClock.boottime();
    let path = "/v1/consents/withdraw";
    let (status, answer) = cluster.post("consent", path, &withdrawal(subject), Some(key)).await;
    assert_eq!(status, 200, "{answer}");
    (answer, SystemClock.boottime() - asked)
}

/// Freezes the dispatcher before the last look at a message's lease.
async fn freeze(cluster: &mut Cluster, subject: &str) -> String {
    let failpoints = cluster.failpoints("messaging");
    failpoints.set(&format!("{LAST_LOOK}=stop"));
    let message = cluster.queue(subject).await;
    let struck = failpoints.strikes(LAST_LOOK).await;
    assert_eq!(struck.pid, cluster.process("messaging").pid());
    until("it is frozen", async || cluster.process("messaging").is_frozen()).await;
    failpoints.clear();
    message
}

/// How many bodies for her began after that moment.
pub(super) async fn bodies_after(
    cluster: &Cluster,
    person: &Person,
    acknowledged: Duration,
) -> usize {
    let calls = cluster.delivered_to(person).await;
    let began = |call: &Value| call["first_byte_boottime_ns"].as_u64().unwrap();
    calls.iter().filter(|call| u128::from(began(call)) > acknowledged.as_nanos()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_a_dispatcher_frozen_before_its_last_look_sends_nothing_after_the_acknowledgement() {
    let mut cluster = Cluster::with(Wishes { only: SENDING.to_vec(), ..Wishes::default() }).await;
    let (person, subject) = cluster.willing().await;
    let message = freeze(&mut cluster, &subject).await;

    // Nobody can ask the frozen one: the answer comes all the same, one lease later.
    let (first, took) = withdraw(&cluster, &subject, "w-1").await;
    let acknowledged = SystemClock.boottime();
    assert!(took >= LeaseTerms::default().length, "{took:?}");
    assert_eq!(first["events"].as_array().unwrap().len(), 1);
    cluster.process("messaging").thaw();

    let view = cluster.settled(&message).await;
    assert_eq!(view["state"], "refused", "{view}");
    assert!(view["reasons"].as_array().unwrap().contains(&json!("consent_withdrawn")), "{view}");
    assert_eq!(bodies_after(&cluster, &person, acknowledged).await, 0);
    assert!(cluster.delivered_to(&person).await.is_empty());

    // A repeat is the same answer and waits again: whoever repeats may not have seen the first.
    let (repeat, took) = withdraw(&cluster, &subject, "w-1").await;
    assert_eq!(repeat, first);
    assert!(took >= LeaseTerms::default().length, "{took:?}");
    let (again, took) = withdraw(&cluster, &subject, "w-2").await;
    assert_eq!(again["events"].as_array().unwrap().len(), 1, "her no of now");
    assert!(took >= LeaseTerms::default().length, "{took:?}");
}

/// The same with a dispatcher that believes in a longer lease than the gate waits: the body does go
/// out, and the look that the test above takes does see it.
#[tokio::test(flavor = "multi_thread")]
async fn g1_the_look_at_bodies_sees_a_dispatcher_that_overstays_its_lease() {
    let mut cluster = Cluster::with(Wishes {
        only: SENDING.to_vec(),
        environment: vec![("messaging", "ASSENT_LEASE_LENGTH_MS", "15000")],
        settings: vec![("messaging", "claim_ms = 60000")],
        ..Wishes::default()
    })
    .await;
    let (person, subject) = cluster.willing().await;
    freeze(&mut cluster, &subject).await;
    withdraw(&cluster, &subject, "w-1").await;
    let acknowledged = SystemClock.boottime();
    cluster.process("messaging").thaw();
    until("the body is seen", async || bodies_after(&cluster, &person, acknowledged).await == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_a_repeat_after_the_consent_service_died_before_its_answer_waits_too() {
    let mut cluster = Cluster::with(Wishes { only: SENDING.to_vec(), ..Wishes::default() }).await;
    let (person, subject) = cluster.willing().await;
    let failpoints = cluster.failpoints("consent");
    failpoints.set(&format!("{COMMITTED}=kill"));
    let message = freeze(&mut cluster, &subject).await;

    // Committed, and dead before one lease is over: nobody was told anything.
    let path = "/v1/consents/withdraw";
    let cut = cluster.try_post("consent", path, &withdrawal(&subject), Some("w-1")).await;
    assert!(cut.is_err(), "{cut:?}");
    cluster.process("consent").died_of_sigkill().await;
    assert_eq!(failpoints.struck(COMMITTED).len(), 1);
    failpoints.clear();
    cluster.restart("consent").await;

    let (answer, took) = withdraw(&cluster, &subject, "w-1").await;
    let acknowledged = SystemClock.boottime();
    assert!(took >= LeaseTerms::default().length, "{took:?}");
    assert_eq!(answer["events"].as_array().unwrap().len(), 1, "the first answer: {answer}");
    cluster.process("messaging").thaw();
    assert_eq!(cluster.settled(&message).await["state"], "refused");
    assert_eq!(bodies_after(&cluster, &person, acknowledged).await, 0);
}

/// Two processes send to her. One freezes with a batch of permits in its hands and no body begun, the
/// other holds one while her withdrawal is committed, and lets it go before that is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn g1_a_withdrawal_races_the_batches_of_two_dispatchers() {
    const HELD: &str = "messaging.after_permit";
    const MARKED: &str = "messaging.before_call";
    let mut cluster = Cluster::with(Wishes {
        only: SENDING.to_vec(),
        replicated: vec!["messaging"],
        // Batches of ten, one at a time in each process.
        settings: vec![("messaging", "sends_per_second = 20"), ("messaging", "send_batches = 1")],
        ..Wishes::default()
    })
    .await;
    let (person, subject) = cluster.willing().await;
    let (other, other_subject) = cluster.willing().await;
    // Nothing goes out before everything is queued.
    let (running, frozen) = (cluster.failpoints("messaging"), cluster.failpoints("messaging-2"));
    for failpoints in [&running, &frozen] {
        failpoints.set(&format!("{HELD}=hold"));
    }
    let (mut hers, mut others) = (Vec::new(), Vec::new());
    for number in 0..60 {
        match number % 6 {
            5 => others.push(cluster.queue(&other_subject).await),
            _ => hers.push(cluster.queue(&subject).await),
        }
    }
    // The second process freezes between the permits of its next batch and their calls: a body that
    // had left before would be uncertain, and rightly so. The first lets go what it holds, sends two
    // batches more and holds the next: the sixty are never all sent before.
    frozen.set(&format!("{MARKED}=stop"));
    let struck = frozen.strikes(MARKED).await;
    assert_eq!(struck.pid, cluster.process("messaging-2").pid());
    let held_before = running.struck(HELD).len();
    running.set(&format!("{HELD}=hold*3"));
    until("some are sent", async || !cluster.delivered_to(&person).await.is_empty()).await;
    until("a batch is held", async || running.struck(HELD).len() > held_before).await;

    let ledger = cluster.pool("consent").await;
    let released = async {
        until("the withdrawal is committed", async || withdrawn(&ledger, &subject).await).await;
        running.clear();
    };
    let acknowledged = async {
        let (_, took) = withdraw(&cluster, &subject, "w-1").await;
        (SystemClock.boottime(), took)
    };
    let ((acknowledged, took), ()) = tokio::join!(acknowledged, released);
    assert!(took >= LeaseTerms::default().length, "{took:?}");
    assert!(cluster.process("messaging-2").is_frozen());
    let in_its_hands: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM intents WHERE state = 'calling' AND permit_id IS NOT NULL
         AND subject_id = $1::uuid",
    )
    .bind(&subject)
    .fetch_one(&cluster.pool("messaging").await)
    .await
    .unwrap();
    assert!(in_its_hands > 0, "the frozen process has permits in its hands");
    frozen.clear();
    cluster.process("messaging-2").thaw();

    // What became of each is what the provider saw of it.
    let mut states: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for message in &hers {
        let view = cluster.settled(message).await;
        states.entry(view["state"].as_str().unwrap().to_owned()).or_default().push(message);
        let reasons = view["reasons"].as_array().unwrap();
        let says_why = reasons.contains(&json!("consent_withdrawn"));
        assert_eq!(says_why, view["state"] == "refused", "{view}");
    }
    for message in &others {
        assert_eq!(cluster.settled(message).await["state"], "accepted", "another's: not held up");
    }
    assert_eq!(bodies_after(&cluster, &person, acknowledged).await, 0, "{states:?}");
    let called: Vec<String> = cluster
        .delivered_to(&person)
        .await
        .iter()
        .map(|call| call["callback_data"].as_str().unwrap().to_owned())
        .collect();
    let mut accepted: Vec<&String> = states.remove("accepted").unwrap_or_default();
    let mut bodies: Vec<&String> = called.iter().collect();
    accepted.sort();
    bodies.sort();
    assert_eq!(bodies, accepted, "each body once, and what had none is not accepted");
    assert!(!bodies.is_empty(), "some were lawful");
    let refused = states.remove("refused").unwrap_or_default();
    assert!(!refused.is_empty() && states.is_empty(), "{states:?}");
    assert_eq!(cluster.delivered_to(&other).await.len(), others.len());
}

async fn withdrawn(ledger: &sqlx::PgPool, subject: &str) -> bool {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM eventstore.events
         WHERE stream = $1::uuid AND event_type = 'assent.consent.withdrawn.v1')",
    )
    .bind(subject)
    .fetch_one(ledger)
    .await
    .unwrap()
}

/// She writes START while a no stands, and that is held up on its way to the gate. Meanwhile her no is recorded
/// once more: what she said before it opens nothing when it arrives after it.
#[tokio::test(flavor = "multi_thread")]
async fn g1_a_start_that_is_held_up_opens_nothing_that_was_withdrawn_since() {
    const HELD: &str = "messaging.before_opt_in";
    let cluster = Cluster::with(Wishes { only: SENDING.to_vec(), ..Wishes::default() }).await;
    let (person, subject) = cluster.willing().await;
    withdraw(&cluster, &subject, "w-1").await;
    let failpoints = cluster.failpoints("messaging");
    failpoints.set(&format!("{HELD}=hold"));
    assert_eq!(cluster.hears(&person, "START").await, 200);
    failpoints.strikes(HELD).await;
    let (again, _) = withdraw(&cluster, &subject, "w-2").await;
    assert_eq!(again["events"].as_array().unwrap().len(), 1);
    failpoints.clear();
    cluster.declared().await;
    assert_eq!(cluster.explain(&person).json["verdict"], "deny");
    assert_eq!(cluster.send(&person).json["state"], "refused");
    // What she says from here on counts.
    assert_eq!(cluster.hears(&person, "START").await, 200);
    cluster.declared().await;
    assert_eq!(cluster.explain(&person).json["verdict"], "allow");
}

/// The other way round: STOP and then START, both held up while the gate can't be reached, arrive as she said them.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_that_were_both_held_up_count_in_the_order_in_which_she_said_them() {
    let mut cluster = Cluster::with(Wishes { only: SENDING.to_vec(), ..Wishes::default() }).await;
    let (person, _) = cluster.willing().await;
    cluster.kill("consent");
    for word in ["STOP", "START"] {
        assert_eq!(cluster.hears(&person, word).await, 200);
    }
    cluster.restart("consent").await;
    cluster.declared().await;
    assert_eq!(cluster.explain(&person).json["verdict"], "allow");
    for word in ["START", "STOP"] {
        assert_eq!(cluster.hears(&person, word).await, 200);
    }
    cluster.declared().await;
    assert_eq!(cluster.explain(&person).json["verdict"], "deny");
}
