//! Consent grants over HTTP to durable events, against the plainest durable insert there is: one
//! row, one transaction, by as many clients.

use std::time::Duration;

use assent_contracts::consent::{Actor, Granted, Method};
use assent_contracts::topics::CONSENT_EVENTS;
use assent_eventstore::relay::{LOCK, RelayConfig};
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use assent_tests::cluster::Cluster;
use assent_tests::harness;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::load::{Client, Worker, rate};
use crate::report::{Goal, Row};
use crate::servers::{self, Reader, drained};

const CLIENTS: u32 = 32;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(6);
/// How long relay and projectors may take after the last grant.
const DRAINED: Duration = Duration::from_secs(30);

/// Twice: with what follows an append at rest, which compares like with like, and with all of it at work on
/// the same machine.
pub async fn run() -> [Row; 2] {
    let cluster = servers::cluster().await;
    let table = baseline_table().await;
    let (mut alone, mut followed, mut baseline) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        baseline.push(inserts(&table).await);
        let resting = relay_at_rest(&cluster).await;
        alone.push(grants(&cluster).await);
        resting.close().await.expect("Postgres answers");
        drained(&cluster, &["consent"], &[READER], DRAINED).await;
        followed.push(grants(&cluster).await);
        drained(&cluster, &["consent"], &[READER], DRAINED).await;
    }
    let row = |name, ours, least| Row {
        name,
        unit: "grants/s",
        ours,
        baseline: baseline.clone(),
        latencies_ms: Vec::new(),
        goal: Goal::Ratio(least),
    };
    [row("append", alone, 1.0), row("append_followed", followed, 0.7)]
}

/// Takes the lead of the consent service's relay, so that nothing goes on to Kafka until this connection is
/// closed.
async fn relay_at_rest(cluster: &Cluster) -> PgConnection {
    const DEPOSE: &str = "
        SELECT pg_terminate_backend(pid) FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (classid::bigint << 32) | objid::bigint = $1 AND objsubid = 1";
    let pool = cluster.pool("consent").await;
    let mut lead = pool.acquire().await.expect("Postgres answers").detach();
    loop {
        sqlx::query(DEPOSE).bind(LOCK).execute(&pool).await.expect("Postgres answers");
        let won: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut lead)
            .await
            .expect("Postgres answers");
        if won {
            // By then whoever led has noticed.
            tokio::time::sleep(RelayConfig::default().lease).await;
            return lead;
        }
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
