//! After load and faults: everything comes to rest within a bound, without any help. What doesn't is said.

use std::time::Duration;

use crate::cluster::Cluster;
use assent_bus::end_offsets;
use assent_contracts::topics::{
    CONSENT_EVENTS, CONSENT_STATE, ERASURE_COMMANDS, ERASURE_EVENTS, MESSAGING_EVENTS, Topic,
    VAULT_EVENTS,
};
use assent_runtime::{Clock as _, SystemClock};
use sqlx::{AssertSqlSafe, PgPool};

use crate::soak::history::History;
use crate::soak::plan::PROCESSES;

const PATIENCE: Duration = Duration::from_secs(240);
const TOPICS: [Topic; 6] = [
    CONSENT_EVENTS,
    CONSENT_STATE,
    VAULT_EVENTS,
    MESSAGING_EVENTS,
    ERASURE_EVENTS,
    ERASURE_COMMANDS,
];

/// Waits until nothing is under way any more; what still is at the end of the patience.
pub async fn settle(cluster: &Cluster, history: &History) -> Vec<String> {
    let began = SystemClock.boottime();
    let mut pools = Vec::new();
    for name in ["consent", "vault", "messaging", "erasure", "projector"] {
        pools.push((name, cluster.pool(name).await));
    }
    loop {
        let under_way = under_way(cluster, history, &pools).await;
        let took = SystemClock.boottime() - began;
        if under_way.is_empty() || took > PATIENCE {
            println!("at rest after {:.0} s", took.as_secs_f64());
            return under_way;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn under_way(cluster: &Cluster, history: &History, pools: &[(&str, PgPool)]) -> Vec<String> {
    let mut left = Vec::new();
    for name in PROCESSES {
        if !cluster.is_ready(name).await {
            left.push(format!("{name} isn't ready"));
        }
    }
    for (name, pool) in pools {
        let mut queues = vec![("rows in the outbox", "eventstore.outbox")];
        queues.extend(match *name {
            "messaging" => vec![
                ("intents", "intents WHERE state IN ('queued', 'claimed', 'calling')"),
                ("webhooks", "webhook_bodies WHERE parked IS NULL"),
                ("declarations", "declarations WHERE settled_at IS NULL"),
            ],
            "consent" => vec![("marks", "standing_due")],
            _ => vec![],
        });
        for (what, from) in queues {
            let statement = AssertSqlSafe(format!("SELECT count(*) FROM {from}"));
            let count: i64 = match sqlx::query_scalar(statement).fetch_one(pool).await {
                Ok(count) => count,
                Err(error) => {
                    left.push(format!("{name}: {error}"));
                    continue;
                }
            };
            if count > 0 {
                left.push(format!("{name}: {count} {what}"));
            }
        }
        left.extend(behind(cluster, name, pool).await);
    }
    for person in history.erased() {
        let request = person.erased().unwrap_or_default();
        let view = cluster.get("erasure", &format!("/v1/requests/{request}")).await.1;
        if view["status"] != "completed" {
            left.push(format!(
                "erasure {request}: {}, missing {}",
                view["status"], view["missing"]
            ));
        }
    }
    left
}

/// The consumers that haven't read to the end.
async fn behind(cluster: &Cluster, name: &str, pool: &PgPool) -> Vec<String> {
    let positions: Vec<(String, String, i32, i64)> = sqlx::query_as(
        "SELECT consumer, topic, partition, next_offset FROM eventstore.consumer_offsets",
    )
    .fetch_all(pool)
    .await
    .unwrap_or_default();
    let mut behind = Vec::new();
    for topic in TOPICS {
        let called = cluster.bus.topic_name(&topic);
        let mut hers = positions.iter().filter(|it| it.1 == called).peekable();
        if hers.peek().is_none() {
            continue;
        }
        let Ok(ends) = end_offsets(&cluster.bus, topic).await else {
            behind.push(format!("{called} can't be read"));
            continue;
        };
        for (consumer, _, partition, next) in hers {
            let end = ends.get(partition).copied().unwrap_or_default();
            if *next < end {
                behind.push(format!("{name}: {consumer} is {} behind", end - next));
            }
        }
    }
    behind
}
