//! Permits in batches of 500, asked for by four requesters: each recorded, every reason computed.

use std::sync::Arc;
use std::time::Duration;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{PermitAsk, PermitsRequest};
use assent_runtime::{Ids as _, SystemIds};
use assent_tests::cluster::Cluster;
use sqlx::Row as _;
use uuid::Uuid;

use crate::append::grant;
use crate::load::{Client, Worker, rate};
use crate::report::{Goal, Row};
use crate::{people, servers};

const PEOPLE: u32 = 20_000;
const BATCH: usize = 500;
const REQUESTERS: usize = 4;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(5);
const BOUND: Duration = Duration::from_secs(60);

type Somebody = (Uuid, Vec<AddressToken>);

pub async fn run() -> Row {
    let cluster = servers::cluster().await;
    let people = Arc::new(willing(&cluster, PEOPLE).await);
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        let mut requesters = Vec::new();
        for number in 0..REQUESTERS {
            let client = Client::connect(&cluster.url("consent"), cluster.token()).await;
            let next = number * people.len() / REQUESTERS;
            requesters.push(Requester { client, people: Arc::clone(&people), next });
        }
        ours.push(rate(requesters, ROUND).await);
    }
    Row {
        name: "permit",
        unit: "permits/s",
        ours,
        baseline: Vec::new(),
        latencies_ms: Vec::new(),
        goal: Goal::Rate(50_000.0),
    }
}

/// People who have agreed, and whose addresses the gate knows.
pub async fn willing(cluster: &Cluster, count: u32) -> Vec<Somebody> {
    let file = people::contact_file(cluster, count);
    people::import(cluster, &file, count).await;
    servers::drained(cluster, &["vault"], &people::READERS, BOUND).await;
    let vault = cluster.pool("vault").await;
    let rows = sqlx::query("SELECT subject_id, tokens FROM people").fetch_all(&vault).await;
    let people: Vec<Somebody> = rows
        .expect("Postgres answers")
        .iter()
        .map(|row| {
            let tokens: Vec<u8> = row.get(1);
            let token = |bytes| AddressToken::from_bytes(bytes).expect("the vault wrote it");
            (row.get(0), tokens.chunks(33).map(token).collect())
        })
        .collect();
    let mut client = Client::connect(&cluster.url("consent"), cluster.token()).await;
    for (subject, _) in &people {
        client.post("/v1/consents/grant", grant(*subject)).await;
    }
    people
}

struct Requester {
    client: Client,
    people: Arc<Vec<Somebody>>,
    next: usize,
}

impl Worker for Requester {
    async fn turn(&mut self) -> u64 {
        let asks = (0..BATCH).map(|_| {
            let (subject_id, addresses) = self.people[self.next].clone();
            self.next = (self.next + 1) % self.people.len();
            PermitAsk {
                message_id: SystemIds.v7(),
                subject_id,
                addresses,
                purpose: "marketing".to_owned(),
                channel: "whatsapp".to_owned(),
                template: "spring_offer".to_owned(),
            }
        });
        let request = PermitsRequest { asks: asks.collect() };
        let body = serde_json::to_vec(&request).expect("plain data");
        let answer = self.client.post("/v1/permits", body).await;
        // What is measured is the way to a yes, not a quick no. Reading it whole would cost what the
        // services need.
        let answer = str::from_utf8(&answer).expect("the service speaks JSON");
        answer.matches(r#""verdict":"allow""#).count() as u64
    }
}
