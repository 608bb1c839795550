//! Messages by the thousand: queued by the API behind a number that rests, and how far they got.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use assent_contracts::topics::MESSAGING_EVENTS;
use assent_tests::cluster::Cluster;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::load::Client;
use crate::servers::Reader;

const QUEUERS: usize = 8;

/// Who reads messaging events.
pub const READER: Reader =
    Reader { database: "projector", name: "projector.messages", topic: MESSAGING_EVENTS };

/// Queues a message to each of these people.
pub async fn queue(cluster: &Cluster, people: Vec<Uuid>) {
    let (people, next) = (Arc::new(people), Arc::new(AtomicUsize::new(0)));
    let mut queuers = JoinSet::new();
    for _ in 0..QUEUERS {
        let mut client = Client::connect(&cluster.url("messaging"), cluster.token()).await;
        let (people, next) = (Arc::clone(&people), Arc::clone(&next));
        queuers.spawn(async move {
            while let Some(subject) = people.get(next.fetch_add(1, Ordering::Relaxed)) {
                let body = format!(
                    r#"{{"subject_id":"{subject}","purpose":"marketing","channel":"whatsapp","template":"spring_offer"}}"#
                );
                client.post("/v1/messages", body.into_bytes()).await;
            }
        });
    }
    queuers.join_all().await;
}

/// How many rows there are `FROM …`.
pub async fn count(pool: &PgPool, from: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {from}")))
        .fetch_one(pool)
        .await
        .expect("Postgres answers")
}
