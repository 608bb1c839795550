//! G3: what stands against a person comes into her stream once, and a policy is applied once, through
//! kill -9 of the service at its work and with two replicas at the same marks.

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::{Cluster, Wishes, until};
use serde_json::{Value, json};

use super::SENDING;

const STANDING: &str = "
    SELECT count(*) FROM eventstore.events
    WHERE stream = $1::uuid AND event_type = 'assent.consent.standing_changed.v1'
      AND data::jsonb -> 'bars' IS NOT NULL";

/// How often what stands against her came into her stream.
async fn standings(cluster: &Cluster, subject: &str) -> i64 {
    let pool = cluster.pool("consent").await;
    sqlx::query_scalar(STANDING).bind(subject).fetch_one(&pool).await.unwrap()
}

/// The reasons of the moment by the stream, and those of the gate.
fn reasons(cluster: &Cluster, phone: &str) -> (Value, Value) {
    let question = ["explain", phone, "--purpose", "marketing"];
    let as_of =
        cluster.assent(&[&question[..], &["--at", &SystemClock.now().to_string()]].concat());
    (as_of.json["reasons"].clone(), cluster.assent(&question).json["reasons"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_a_stop_is_in_her_stream_once_although_the_service_was_killed_before_it_was_written() {
    let wishes = Wishes { only: SENDING.to_vec(), ..Wishes::default() };
    let mut cluster = Cluster::with(wishes).await;
    let (person, subject) = cluster.willing().await;
    cluster.located(&subject).await;
    let failpoints = cluster.failpoints("consent");
    failpoints.set("consent.standing_before_commit=kill");
    assert_eq!(cluster.hears(&person, "STOP").await, 200);
    cluster.process("consent").died_of_sigkill().await;
    assert_eq!(failpoints.struck("consent.standing_before_commit").len(), 1);
    assert_eq!(standings(&cluster, &subject).await, 0, "not written yet");
    failpoints.clear();
    cluster.restart("consent").await;
    until("the stream says what the gate says", async || {
        let (as_of, gate) = reasons(&cluster, &person.phone);
        as_of == gate && as_of.as_array().is_some_and(|it| it.contains(&json!("stopped")))
    })
    .await;
    assert_eq!(standings(&cluster, &subject).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_two_replicas_at_the_same_marks_write_each_change_once() {
    let replicated = vec!["consent"];
    let cluster =
        Cluster::with(Wishes { replicated, only: SENDING.to_vec(), ..Wishes::default() }).await;
    // Both hold the same marks before either writes.
    let mut people = Vec::new();
    for _ in 0..3 {
        let (person, subject) = cluster.willing().await;
        cluster.located(&subject).await;
        people.push((person, subject));
    }
    for replica in ["consent", "consent-2"] {
        cluster.failpoints(replica).set("consent.standing_before_lock=hold");
    }
    for (person, _) in &people {
        assert_eq!(cluster.hears(person, "STOP").await, 200);
    }
    for replica in ["consent", "consent-2"] {
        cluster.failpoints(replica).strikes("consent.standing_before_lock").await;
    }
    for replica in ["consent", "consent-2"] {
        cluster.failpoints(replica).clear();
    }
    for (person, subject) in &people {
        until("her stop is in her stream", async || {
            let (as_of, gate) = reasons(&cluster, &person.phone);
            as_of == gate && standings(&cluster, subject).await > 0
        })
        .await;
    }
    let pool = cluster.pool("consent").await;
    until("no mark is left", async || {
        let marks = "SELECT count(*) FROM standing_due";
        sqlx::query_scalar::<_, i64>(marks).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
    for (_, subject) in &people {
        assert_eq!(standings(&cluster, subject).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_whose_answer_was_cut_off_is_applied_once_and_the_repeat_gives_the_first_answer() {
    let wishes = Wishes { only: vec!["gateway", "consent"], ..Wishes::default() };
    let mut cluster = Cluster::with(wishes).await;
    let (_, current) = cluster.get("consent", "/v1/policy").await;
    let mut request = json!({"version": current["version"], "policy": current["policy"]});
    request["policy"]["controller"]["email"] = json!("privacy@acme.example");
    for (point, landed) in [("eventstore.before_commit", 1), ("eventstore.after_commit", 2)] {
        let failpoints = cluster.failpoints("consent");
        failpoints.set(&format!("{point}=kill"));
        let cut = cluster.try_post("consent", "/v1/policy", &request, Some("p-1")).await;
        assert!(cut.is_err(), "{point}: {cut:?}");
        cluster.process("consent").died_of_sigkill().await;
        assert_eq!(failpoints.struck(point).len(), 1);
        failpoints.clear();
        cluster.restart("consent").await;
        assert_eq!(cluster.get("consent", "/v1/policy").await.1["version"], landed, "{point}");
    }
    let (status, answer) = cluster.post("consent", "/v1/policy", &request, Some("p-1")).await;
    assert_eq!((status, &answer["version"]), (200, &json!(2)), "{answer}");
    assert_eq!(answer["policy"], request["policy"]);
}
