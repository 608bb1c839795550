//! How the cost of a permit and of a verdict grows with the people who are known: ten thousand to ten
//! million. It runs only when it is named, for it fills a database for minutes. What permits and verdicts
//! read is filled in (links and ledger lines); streams, which they don't read, are left out.

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{PermitAsk, PermitsRequest};
use assent_runtime::{Ids as _, SystemIds};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, PgPool};
use std::time::Duration;
use uuid::Uuid;

use crate::load::{Client, Worker, rate, steady};
use crate::report::{Goal, Row};
use crate::servers;

const SIZES: [(u64, &str); 4] = [
    (10_000, "growth 10⁴ people"),
    (100_000, "growth 10⁵ people"),
    (1_000_000, "growth 10⁶ people"),
    (10_000_000, "growth 10⁷ people"),
];
const BATCH: usize = 100;
const REQUESTERS: usize = 2;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(5);
const PER_SECOND: u32 = 500;
const SECONDS: u32 = 10;
const CLIENTS: usize = 16;

pub async fn run() -> Vec<Row> {
    let cluster = servers::cluster().await;
    let pool = cluster.pool("consent").await;
    let (url, token) = (cluster.url("consent"), cluster.token());
    let (mut rows, mut known) = (Vec::new(), 0);
    for (size, name) in SIZES {
        fill(&pool, known, size).await;
        known = size;
        let mut requesters = Vec::new();
        for _ in 0..REQUESTERS {
            requesters.push(Requester { client: Client::connect(&url, token).await, known });
        }
        // The first round warms the caches of whoever has just filled the tables.
        rate(requesters, ROUND).await;
        let mut ours = Vec::new();
        for _ in 0..ROUNDS {
            let mut requesters = Vec::new();
            for _ in 0..REQUESTERS {
                requesters.push(Requester { client: Client::connect(&url, token).await, known });
            }
            ours.push(rate(requesters, ROUND).await);
        }
        let mut askers = Vec::new();
        for _ in 0..CLIENTS {
            askers.push(Asker { client: Client::connect(&url, token).await, known });
        }
        let latencies_ms = steady(askers, PER_SECOND, SECONDS).await;
        let (unit, baseline, goal) = ("permits/s", Vec::new(), Goal::Rate(10_000.0));
        rows.push(Row { name, unit, ours, baseline, latencies_ms, goal });
    }
    rows
}

/// Makes people `from + 1` to `to` known, each with one address and one consent in force. Indexes are made
/// after the rows: it is the time of a bulk load that is saved, not that of a question.
async fn fill(pool: &PgPool, from: u64, to: u64) {
    let subject = "encode(substring(sha256(('s' || n)::bytea) FOR 16), 'hex')::uuid";
    let people = format!("FROM generate_series({}, {to}) AS n", from + 1);
    for statement in [
        "ALTER TABLE gate_links DROP CONSTRAINT gate_links_pkey".to_owned(),
        "DROP INDEX gate_links_token".to_owned(),
        "ALTER TABLE consent_lines DROP CONSTRAINT consent_lines_pkey".to_owned(),
        format!(
            "INSERT INTO gate_links (subject_id, token, region, region_at, linked_at)
             SELECT {subject}, '\\x01'::bytea || sha256(('t' || n)::bytea), 'FR', now(), now() {people}"
        ),
        format!(
            "INSERT INTO consent_lines (subject_id, purpose, channel, state, event_id, version, since,
                                        notice_hash, by_guardian)
             SELECT {subject}, 'marketing', 'whatsapp', 'given', gen_random_uuid(), 1, now(),
                    (SELECT notice_hash FROM purposes WHERE purpose = 'marketing'), false {people}"
        ),
        "ALTER TABLE gate_links ADD PRIMARY KEY (subject_id, token)".to_owned(),
        "CREATE UNIQUE INDEX gate_links_token ON gate_links (token, subject_id)".to_owned(),
        "ALTER TABLE consent_lines ADD PRIMARY KEY (subject_id, purpose, channel)".to_owned(),
        "VACUUM ANALYZE gate_links, consent_lines".to_owned(),
        "CHECKPOINT".to_owned(),
    ] {
        let done = sqlx::query(AssertSqlSafe(statement)).execute(pool).await;
        done.expect("the tables are those of the consent service");
    }
}

fn digest(what: char, n: u64) -> [u8; 32] {
    Sha256::digest(format!("{what}{n}")).into()
}

fn subject(n: u64) -> Uuid {
    let digest = digest('s', n);
    Uuid::from_slice(&digest[..16]).expect("sixteen bytes")
}

fn anybody(known: u64) -> u64 {
    // A random id's low half is random.
    1 + SystemIds.v4().as_u64_pair().1 % known
}

struct Requester {
    client: Client,
    known: u64,
}

impl Worker for Requester {
    async fn turn(&mut self) -> u64 {
        let asks = (0..BATCH).map(|_| {
            let n = anybody(self.known);
            PermitAsk {
                message_id: SystemIds.v7(),
                subject_id: subject(n),
                addresses: vec![AddressToken { key_id: 1, mac: digest('t', n) }],
                purpose: "marketing".to_owned(),
                channel: "whatsapp".to_owned(),
                template: "spring_offer".to_owned(),
            }
        });
        let body =
            serde_json::to_vec(&PermitsRequest { asks: asks.collect() }).expect("plain data");
        let answer = self.client.post("/v1/permits", body).await;
        let answer = str::from_utf8(&answer).expect("the service speaks JSON");
        answer.matches(r#""verdict":"allow""#).count() as u64
    }
}

struct Asker {
    client: Client,
    known: u64,
}

impl Worker for Asker {
    async fn turn(&mut self) -> u64 {
        let subject = subject(anybody(self.known));
        let body =
            format!(r#"{{"subject_id":"{subject}","purpose":"marketing","channel":"whatsapp"}}"#);
        let answer = self.client.post("/v1/verdict", body.into_bytes()).await;
        assert!(answer.starts_with(br#"{"verdict":"allow""#), "everybody has agreed");
        1
    }
}
