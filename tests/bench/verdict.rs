//! Single verdicts over HTTP at a steady rate, against the bare read of the person's consent by
//! the same key at the same rate, in turn: the slowest in a hundred of each.

use std::sync::Arc;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::load::{Client, Worker, steady};
use crate::permit::willing;
use crate::report::{Goal, Row, percentile};
use crate::servers;

const PEOPLE: u32 = 2_000;
const PER_SECOND: u32 = 1_000;
const SECONDS: u32 = 10;
const ROUNDS: usize = 5;
/// Connections, which take turns.
const CLIENTS: u32 = 16;

pub async fn run() -> Row {
    let cluster = servers::cluster().await;
    let people: Arc<[Uuid]> =
        willing(&cluster, PEOPLE).await.into_iter().map(|(subject, _)| subject).collect();
    let pool = PgPoolOptions::new()
        .max_connections(CLIENTS)
        .min_connections(CLIENTS)
        .connect(&cluster.database_url("consent"))
        .await
        .expect("Postgres answers");
    let (mut ours, mut baseline, mut latencies_ms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let next = |number: u32| Next { people: Arc::clone(&people), at: number as usize };
        let readers = (0..CLIENTS).map(|number| Reader { pool: pool.clone(), next: next(number) });
        let took = steady(readers.collect(), PER_SECOND, SECONDS).await;
        baseline.push(1_000.0 * percentile(&took, 0.99).expect("there were some"));
        let mut askers = Vec::new();
        for number in 0..CLIENTS {
            let client = Client::connect(&cluster.url("consent"), cluster.token()).await;
            askers.push(Asker { client, next: next(number) });
        }
        let took = steady(askers, PER_SECOND, SECONDS).await;
        ours.push(1_000.0 * percentile(&took, 0.99).expect("there were some"));
        latencies_ms.extend(took);
    }
    Row {
        name: "verdict",
        unit: "µs (p99)",
        ours,
        baseline,
        latencies_ms,
        goal: Goal::RatioAtMost(3.0),
    }
}

/// The people one after the other, each client from another place.
struct Next {
    people: Arc<[Uuid]>,
    at: usize,
}

impl Next {
    fn one(&mut self) -> Uuid {
        self.at += CLIENTS as usize;
        self.people[self.at % self.people.len()]
    }
}

struct Reader {
    pool: PgPool,
    next: Next,
}

impl Worker for Reader {
    async fn turn(&mut self) -> u64 {
        const READ: &str = "
            SELECT state, since, valid_until, notice_hash FROM consent_lines
            WHERE subject_id = $1 AND purpose = 'marketing' AND channel = 'whatsapp'";
        let read = sqlx::query(READ).bind(self.next.one()).fetch_one(&self.pool).await;
        read.expect("everybody has agreed");
        1
    }
}

struct Asker {
    client: Client,
    next: Next,
}

impl Worker for Asker {
    async fn turn(&mut self) -> u64 {
        let subject = self.next.one();
        let body =
            format!(r#"{{"subject_id":"{subject}","purpose":"marketing","channel":"whatsapp"}}"#);
        let answer = self.client.post("/v1/verdict", body.into_bytes()).await;
        assert!(answer.starts_with(br#"{"verdict":"allow""#), "everybody has agreed");
        1
    }
}
