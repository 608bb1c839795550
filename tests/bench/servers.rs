//! The servers under the benchmarks: their settings as they are, and whether everything that was
//! written has gone through.

use std::time::Duration;

use assent_bus::end_offsets;
use assent_contracts::topics::Topic;
use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::{Cluster, Wishes};
use assent_tests::harness;
use sqlx::{PgPool, Row as _};

/// The settings that decide what durable means, read from the server.
pub async fn settings() -> String {
    let pool = harness::database("bench").await;
    let mut said = Vec::new();
    for setting in ["fsync", "full_page_writes", "synchronous_commit", "server_version"] {
        let row = sqlx::query("SELECT current_setting($1)").bind(setting).fetch_one(&pool).await;
        said.push(format!("{setting} {}", row.expect("Postgres answers").get::<String, _>(0)));
    }
    format!("Postgres: {}", said.join(", "))
}

/// A whole Assent as it is deployed: nothing is set otherwise than by default.
pub async fn cluster() -> Cluster {
    cluster_with(&[]).await
}

/// The same, but for these variables: process, name, value.
pub async fn cluster_with(environment: &[(&'static str, &'static str, &'static str)]) -> Cluster {
    let connections = [
        ("consent", "ASSENT_CONSENT_DATABASE_CONNECTIONS", "10"),
        ("vault", "ASSENT_VAULT_DATABASE_CONNECTIONS", "10"),
        ("projector", "ASSENT_PROJECTOR_DATABASE_CONNECTIONS", "12"),
        ("messaging", "ASSENT_MESSAGING_DATABASE_CONNECTIONS", "16"),
    ];
    Cluster::with(Wishes { environment: [&connections, environment].concat(), ..Wishes::default() })
        .await
}

/// A consumer of a cluster: the database of its positions, its name, the topic it reads.
pub struct Reader {
    pub database: &'static str,
    pub name: &'static str,
    pub topic: Topic,
}

/// Waits until the outboxes of these services are empty and these consumers have read everything,
/// and says for how long.
///
/// # Panics
/// When they haven't within `bound`.
pub async fn drained(
    cluster: &Cluster,
    outboxes: &[&str],
    readers: &[Reader],
    bound: Duration,
) -> Duration {
    let began = SystemClock.boottime();
    let mut pools = Vec::new();
    for service in outboxes {
        pools.push(cluster.pool(service).await);
    }
    for pool in &pools {
        eventually("the outbox is empty", bound, async || backlog(pool).await == 0).await;
    }
    for reader in readers {
        let pool = cluster.pool(reader.database).await;
        eventually("the consumer has read everything", bound, async || {
            let ends = end_offsets(&cluster.bus, reader.topic).await.expect("Kafka answers");
            let read = assent_bus::consumer::positions(&pool, reader.name).await;
            read.expect("Postgres answers").values().sum::<i64>() == ends.values().sum::<i64>()
        })
        .await;
    }
    SystemClock.boottime() - began
}

/// Rows in the outbox.
pub async fn backlog(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM eventstore.outbox")
        .fetch_one(pool)
        .await
        .expect("Postgres answers")
}

/// Waits for a condition.
///
/// # Panics
/// When it doesn't hold within `bound`.
pub async fn eventually(what: &str, bound: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let give_up = SystemClock.boottime() + bound;
    while !holds().await {
        assert!(SystemClock.boottime() < give_up, "{what}: not within {bound:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
