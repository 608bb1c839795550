//! G2: what was acknowledged is in the store exactly once and reaches Kafka and the read models in
//! order per key, through kill -9 at each step and through lost database connections.

use std::time::Duration;

use assent_contracts::topics::{CONSENT_EVENTS, Topic, VAULT_EVENTS};
use assent_runtime::{Ids as _, SystemIds};
use serde_json::{Value, json};
use sqlx::PgPool;

use assent_tests::cluster::person::Person;
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, Wishes};
use assent_tests::topics::{everything, followed};

pub(super) const GRANT: &str = "/v1/consents/grant";
const IMPORT: &str = "/v1/subjects/import";

pub(super) fn grant(subject: &str) -> Value {
    json!({"subject_id": subject, "purpose": "service", "channel": "whatsapp",
        "actor": "operator", "method": "api"})
}

async fn granted(pool: &PgPool, subject: &str) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT id::text FROM eventstore.events
         WHERE stream = $1::uuid AND event_type = 'assent.consent.granted.v1'
           AND data->>'purpose' = 'service'",
    )
    .bind(subject)
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Everything that a store holds stands in its topic, in order per key. A service may still write something of
/// its own meanwhile, so both are looked at until they agree.
pub(super) async fn whole_in_topic(cluster: &Cluster, database: &str, topic: Topic) {
    let pool = cluster.pool(database).await;
    until("everything that is stored stands in the topic in the order of its stream", async || {
        let stored: Vec<(uuid::Uuid, uuid::Uuid)> =
            sqlx::query_as("SELECT stream, id FROM eventstore.events ORDER BY stream, version")
                .fetch_all(&pool)
                .await
                .unwrap();
        let published = followed(&everything(cluster, topic).await);
        let published: Vec<_> = published
            .into_iter()
            .flat_map(|(key, ids)| ids.into_iter().map(move |id| (key, id)))
            .collect();
        published == stored
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_cut_around_the_commit_leaves_all_or_nothing_and_a_repeat_gives_the_first_answer() {
    let mut cluster =
        Cluster::with(Wishes { only: vec!["gateway", "consent", "vault"], ..Wishes::default() })
            .await;
    let pool = cluster.pool("consent").await;
    let failpoints = cluster.failpoints("consent");
    for (point, kept) in [("eventstore.before_commit", 0), ("eventstore.after_commit", 1)] {
        let (_, subject) = cluster.willing().await;
        failpoints.set(&format!("{point}=hold"));
        // Held there: in the store or not, and unanswered. That is when the process dies.
        let killed = async {
            until("the command is held", async || {
                !failpoints.struck(point).is_empty() && granted(&pool, &subject).await.len() == kept
            })
            .await;
            cluster.signal("consent", libc::SIGKILL);
        };
        let command = grant(&subject);
        let answer = cluster.try_post("consent", GRANT, &command, Some(point));
        let (cut, ()) = tokio::join!(answer, killed);
        assert!(cut.is_err(), "{cut:?}");
        cluster.process("consent").died_of_sigkill().await;
        assert_eq!(granted(&pool, &subject).await.len(), kept, "{point}");
        failpoints.clear();
        cluster.restart("consent").await;

        let (status, answer) = cluster.post("consent", GRANT, &grant(&subject), Some(point)).await;
        assert_eq!(status, 200, "{answer}");
        let stored = granted(&pool, &subject).await;
        assert_eq!(stored.len(), 1, "{point}: exactly once");
        assert_eq!(answer["events"], json!([stored.last()]));
        let (_, repeat) = cluster.post("consent", GRANT, &grant(&subject), Some(point)).await;
        assert_eq!(repeat, answer);
    }
    whole_in_topic(&cluster, "consent", CONSENT_EVENTS).await;
}

/// The relay killed before and after it published, the projector before and after its commit: every
/// sequence is in the topic, and the read model is the fold of the topic from zero.
#[tokio::test(flavor = "multi_thread")]
async fn g2_relay_and_projector_killed_at_each_step_lose_and_reorder_nothing() {
    let mut cluster =
        Cluster::with(Wishes { only: vec!["gateway", "vault", "projector"], ..Wishes::default() })
            .await;
    let mut people = 0;
    for (process, point) in [
        ("vault", "relay.before_publish"),
        ("vault", "relay.after_publish"),
        ("projector", "consumer.before_commit"),
        ("projector", "consumer.after_commit"),
    ] {
        let failpoints = cluster.failpoints(process);
        failpoints.set(&format!("{point}=kill"));
        let rows: Vec<Value> =
            (0..20).map(|_| json!({"phone": Person::somebody().phone})).collect();
        let file = json!({"origin": "import", "rows": rows});
        let before = everything(&cluster, VAULT_EVENTS).await.len();
        // The kill may cut the answer off: then the command is repeated.
        let answer = cluster.try_post("vault", IMPORT, &file, None).await;
        cluster.process(process).died_of_sigkill().await;
        // Once by each task that came to it before the process was gone.
        assert!(!failpoints.struck(point).is_empty(), "{point}");
        if point == "relay.after_publish" {
            let published = everything(&cluster, VAULT_EVENTS).await.len();
            assert!(published > before, "published, and not yet known to be");
        }
        failpoints.clear();
        cluster.restart(process).await;
        if answer.is_err() {
            let (status, answer) = cluster.post("vault", IMPORT, &file, None).await;
            assert_eq!(status, 200, "{answer}");
        }
        people += 20;
        whole_in_topic(&cluster, "vault", VAULT_EVENTS).await;
    }
    let read_model = cluster.pool("projector").await;
    until("everybody is in the read model", async || {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM live.contacts")
            .fetch_one(&read_model)
            .await
            .unwrap();
        assert!(count <= people, "{count}");
        count == people
    })
    .await;
    cluster.rebuilt_the_same("contacts");
}

/// Every connection of the consent service cut by the server, again and again, in the middle of
/// grants.
#[tokio::test(flavor = "multi_thread")]
async fn g2_lost_database_connections_lose_no_acknowledged_grant_and_double_none() {
    let cluster = Cluster::with(Wishes { only: vec!["consent"], ..Wishes::default() }).await;
    let pool = cluster.pool("consent").await;
    let subjects: Vec<String> = (0..60).map(|_| SystemIds.v4().to_string()).collect();
    let cutting = async {
        let (mut rounds, mut cut) = (0, 0);
        until("connections are cut again and again", async || {
            let all: Vec<bool> = sqlx::query_scalar(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .fetch_all(&pool)
            .await
            .unwrap();
            rounds += 1;
            cut += all.len();
            tokio::time::sleep(Duration::from_millis(40)).await;
            rounds >= 8 && cut >= 8
        })
        .await;
    };
    let granting = async {
        for subject in &subjects {
            until("it is granted", async || {
                cluster.post("consent", GRANT, &grant(subject), Some(subject)).await.0 == 200
            })
            .await;
        }
    };
    tokio::join!(cutting, granting);
    for subject in &subjects {
        assert_eq!(granted(&pool, subject).await.len(), 1);
    }
    whole_in_topic(&cluster, "consent", CONSENT_EVENTS).await;
}
