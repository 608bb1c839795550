//! What one person writes, while the replica that holds her first words is killed: it is applied by the other one, in
//! the order in which it was stored.

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use jiff::SignedDuration;
use serde_json::json;
use sqlx::PgPool;

use super::SENDING;

const TAKEN: &str = "messaging.webhooks_taken";
const REPLICAS: [&str; 2] = ["messaging", "messaging-2"];

/// She writes her `n`th message, which says when that was.
async fn writes(cluster: &Cluster, person: &Person, n: i64) {
    let at = SystemClock.now() - SignedDuration::from_hours(1) + SignedDuration::from_mins(n);
    let what = json!({"from": person.phone, "text": "hello", "at": at.to_string()});
    let (status, answer) = cluster.post("whatsapp-sim", "/_sim/inbound", &what, None).await;
    assert_eq!(status, 200, "{answer}");
}

async fn count(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

/// When what she wrote was said, in the order in which it was recorded.
async fn recorded(pool: &PgPool, subject: &str) -> Vec<String> {
    const RECORDED: &str = "
        SELECT data::jsonb ->> 'said_at' FROM eventstore.events
        WHERE event_type = 'assent.messaging.message_received.v1' AND stream = $1::uuid
        ORDER BY version";
    sqlx::query_scalar(RECORDED).bind(subject).fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_she_writes_is_applied_in_its_order_by_the_other_replica_when_one_is_killed_with_it() {
    const HELD: &str =
        "SELECT count(*) FROM webhook_bodies WHERE attempts = 1 AND not_before > now()";
    const UNTOUCHED: &str = "SELECT count(*) FROM webhook_bodies WHERE attempts = 0";
    let mut cluster = Cluster::with(Wishes {
        only: SENDING.to_vec(),
        replicated: vec!["messaging"],
        ..Wishes::default()
    })
    .await;
    let (her, hers) = cluster.willing().await;
    let (other, others) = cluster.willing().await;
    let pool = cluster.pool("messaging").await;

    // Whichever replica takes her first message stands still with it in its hands.
    let failpoints = REPLICAS.map(|name| cluster.failpoints(name));
    for it in &failpoints {
        it.set(&format!("{TAKEN}=hold"));
    }
    writes(&cluster, &her, 1).await;
    let held_by = || failpoints.iter().position(|it| !it.struck(TAKEN).is_empty());
    until("a replica has taken it", async || held_by().is_some()).await;
    let holder = held_by().unwrap();
    failpoints[1 - holder].clear();
    assert!(failpoints[1 - holder].struck(TAKEN).is_empty(), "the other one holds nothing");

    // The other replica works, and leaves what stands behind her first message alone.
    writes(&cluster, &her, 2).await;
    writes(&cluster, &her, 3).await;
    writes(&cluster, &other, 1).await;
    until("others are heard", async || recorded(&pool, &others).await.len() == 1).await;
    assert_eq!(count(&pool, UNTOUCHED).await, 2, "hers wait, and nobody has taken them");
    assert!(recorded(&pool, &hers).await.is_empty());

    // The kill falls into the hold: the process that is on record for it dies, and her message is still its.
    let struck = failpoints[holder].struck(TAKEN);
    assert_eq!(struck.len(), 1);
    assert_eq!(struck[0].pid, cluster.process(REPLICAS[holder]).pid());
    assert_eq!(count(&pool, HELD).await, 1);
    cluster.kill(REPLICAS[holder]);
    assert_eq!((count(&pool, HELD).await, count(&pool, UNTOUCHED).await), (1, 2));

    // A minute later the hold of the dead is over.
    sqlx::query("UPDATE webhook_bodies SET not_before = now()").execute(&pool).await.unwrap();
    until("all of hers is applied", async || recorded(&pool, &hers).await.len() == 3).await;
    let said = recorded(&pool, &hers).await;
    assert!(said.is_sorted(), "{said:?}");
    until("nothing is left", async || {
        count(&pool, "SELECT count(*) FROM webhook_bodies").await == 0
    })
    .await;
}
