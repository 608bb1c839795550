//! Consent grants over HTTP to durable events, against the plainest durable insert there is: one
//! row, one transaction, by as many clients.

use std::time::Duration;

use assent_contracts::consent::{Actor, Granted, Method};
use assent_contracts::topics::CONSENT_EVENTS;
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use assent_tests::cluster::Cluster;
use assent_tests::harness;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::load::{Client, Worker, rate};
use crate::report::{Goal, Row, spread};
use crate::servers::{self, Reader, drained};

const CLIENTS: u32 = 32;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(6);
/// How long relay and projectors may take after the last grant.
const DRAINED: Duration = Duration::from_secs(10);

pub async fn run() -> Row {
    let cluster = servers::cluster().await;
    let table = baseline_table().await;
    let (mut ours, mut baseline, mut drains) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        baseline.push(inserts(&table).await);
        ours.push(grants(&cluster).await);
        let took = drained(&cluster, &["consent"], &[READER], DRAINED).await;
        drains.push(took.as_secs_f64() * 1_000.0);
    }
    println!("  backlog gone after {} ms", spread(&drains));
    Row {
        name: "append",
        unit: "grants/s",
        ours,
        baseline,
        latencies_ms: Vec::new(),
        goal: Goal::Ratio(0.8),
    }
}

/// Who reads consent events.
pub const READER: Reader =
    Reader { database: "projector", name: "projector.consents", topic: CONSENT_EVENTS };

/// The body of a grant by somebody nobody has heard of.
pub fn grant(subject: uuid::Uuid) -> Vec<u8> {
    format!(
        r#"{{"subject_id":"{subject}","purpose":"marketing","channel":"whatsapp","actor":"operator","method":"api"}}"#
    )
    .into_bytes()
}

/// The data of the event that a grant makes.
pub fn granted() -> String {
    serde_json::to_string(&Granted {
        purpose: "marketing".to_owned(),
        channel: "whatsapp".to_owned(),
        notice_hash: "0".repeat(64),
        notice_version: 1,
        actor: Actor::Operator,
        method: Method::Api,
        place: None,
        confirms: None,
        lapses_after_days: None,
        at: SystemClock.now(),
        acted_at: None,
        valid_until: None,
        evidence: None,
    })
    .expect("plain data")
}

struct Granter(Client);

impl Worker for Granter {
    async fn turn(&mut self) -> u64 {
        self.0.post("/v1/consents/grant", grant(SystemIds.v4())).await;
        1
    }
}

async fn grants(cluster: &Cluster) -> f64 {
    let mut granters = Vec::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(&cluster.url("consent"), cluster.token()).await;
        granters.push(Granter(client));
    }
    rate(granters, ROUND).await
}

async fn baseline_table() -> PgPool {
    let pool = PgPoolOptions::new()
        .max_connections(CLIENTS)
        .min_connections(CLIENTS)
        .connect(&harness::database_url("bench").await)
        .await
        .expect("Postgres answers");
    sqlx::query("CREATE TABLE events (id uuid PRIMARY KEY, data json NOT NULL)")
        .execute(&pool)
        .await
        .expect("a table can be made");
    pool
}

struct Inserter {
    pool: PgPool,
    data: String,
}

impl Worker for Inserter {
    async fn turn(&mut self) -> u64 {
        let mut transaction = self.pool.begin().await.expect("Postgres answers");
        sqlx::query("INSERT INTO events VALUES ($1, $2::text::json)")
            .bind(SystemIds.v7())
            .bind(&self.data)
            .execute(&mut *transaction)
            .await
            .expect("Postgres answers");
        transaction.commit().await.expect("Postgres answers");
        1
    }
}

async fn inserts(pool: &PgPool) -> f64 {
    let data = granted();
    let inserter = || Inserter { pool: pool.clone(), data: data.clone() };
    rate((0..CLIENTS).map(|_| inserter()).collect(), ROUND).await
}
