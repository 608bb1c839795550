//! People forgotten, from the request to the signed certificate: many at once, one after another, and how long one
//! takes on an idle cluster beyond the leases that it has to wait out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assent_contracts::topics::CONSENT_EVENTS;
use assent_runtime::{Clock as _, LeaseTerms, SystemClock};
use assent_tests::cluster::Cluster;
use assent_tests::whatsapp::rest;
use hyper::{Method, StatusCode};
use serde_json::Value;
use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::load::Client;
use crate::messages::{READER, count, queue};
use crate::permit;
use crate::report::{Goal, Row, median};
use crate::servers::{self, Reader, drained};

/// Each with a number and an e-mail address.
const PEOPLE: u32 = 10_000;
const CONSENTS: usize = 3;
const MESSAGES: usize = 10;
/// Erased one after another, before the others.
const ALONE: usize = 20;
/// Requests under way: each waits one lease for the stop that it begins with.
const REQUESTERS: usize = 400;
const GRANTERS: usize = 32;
/// Leases that one erasure waits out, one after another: of its stop, of the fence, of the gate that closes before
/// her addresses go, of the deletion, of her key.
const LEASES: u32 = 5;
const LOOK: Duration = Duration::from_millis(5);
const SELDOM: Duration = Duration::from_millis(250);
const BOUND: Duration = Duration::from_secs(1_800);
const CONSENTS_READER: Reader =
    Reader { database: "projector", name: "projector.consents", topic: CONSENT_EVENTS };

pub async fn run() -> [Row; 2] {
    let cluster = servers::cluster().await;
    let people = somebody(&cluster).await;
    let (alone, many) = people.split_at(ALONE);
    let saga = cluster.pool("erasure").await;

    let waited = LeaseTerms::default().settlement() * LEASES;
    let mut client = Client::connect(&cluster.url("erasure"), cluster.token()).await;
    let (mut beyond, mut rates) = (Vec::new(), Vec::new());
    for subject in alone {
        let began = SystemClock.boottime();
        let request = ask(&mut client, *subject).await;
        while !is_certified(&saga, request).await {
            tokio::time::sleep(LOOK).await;
        }
        let took = SystemClock.boottime() - began;
        rates.push(1.0 / took.as_secs_f64());
        beyond.push(took.saturating_sub(waited).as_secs_f64() * 1_000.0);
    }

    let began = SystemClock.boottime();
    ask_all(&cluster, many).await;
    certified(&saga, i64::from(PEOPLE)).await;
    let rate = many.len() as f64 / (SystemClock.boottime() - began).as_secs_f64();
    let overdue = "eventstore.events WHERE event_type = 'assent.erasure.overdue.v1'";
    println!("  steps that were overdue: {}", count(&saga, overdue).await);
    for (service, left) in
        [("vault", "people"), ("consent", "consent_lines"), ("messaging", "intents")]
    {
        let pool = cluster.pool(service).await;
        assert_eq!(count(&pool, left).await, 0, "{service} still holds something");
    }
    let least = Goal::Latency { p50_ms: 1_000.0, p99_ms: 1_000.0 };
    [
        Row {
            name: "erasure",
            unit: "people/s",
            ours: vec![rate],
            baseline: vec![median(&rates)],
            latencies_ms: Vec::new(),
            goal: Goal::Rate(100.0),
        },
        Row {
            name: "erasure_alone",
            unit: "ms beyond the leases",
            ours: vec![median(&beyond)],
            baseline: Vec::new(),
            latencies_ms: beyond,
            goal: least,
        },
    ]
}

/// People with consents and messages, and everybody who follows knows of them.
async fn somebody(cluster: &Cluster) -> Vec<Uuid> {
    let messaging = cluster.pool("messaging").await;
    rest(&messaging).await;
    let willing = permit::willing(cluster, PEOPLE).await;
    let people: Vec<Uuid> = willing.into_iter().map(|(subject, _)| subject).collect();
    let purposes = purposes(cluster).await;
    let more = purposes.iter().cycle().take(CONSENTS - 1);
    let grants = more.flat_map(|(purpose, channel)| {
        people.iter().map(move |subject| {
            format!(
                r#"{{"subject_id":"{subject}","purpose":"{purpose}","channel":"{channel}","actor":"operator","method":"api"}}"#
            )
        })
    });
    post_all(cluster, ("consent", "/v1/consents/grant"), GRANTERS, grants.collect()).await;
    queue(cluster, people.repeat(MESSAGES)).await;
    let readers = [READER, CONSENTS_READER];
    drained(cluster, &["consent", "messaging"], &readers, BOUND).await;
    people
}

/// The purposes beside marketing, each with its first channel; marketing alone where there are none.
async fn purposes(cluster: &Cluster) -> Vec<(String, String)> {
    let (_, listed) = cluster.get("consent", "/v1/purposes").await;
    let of = |it: &Value| {
        let purpose = it["purpose"].as_str()?.to_owned();
        Some((purpose, it["channels"][0].as_str()?.to_owned()))
    };
    let all = listed["items"].as_array().expect("a list").iter().filter_map(of);
    let mut others: Vec<_> = all.filter(|(purpose, _)| purpose != "marketing").collect();
    if others.is_empty() {
        others.push(("marketing".to_owned(), "whatsapp".to_owned()));
    }
    others
}

/// Asks for the erasures of all of them, at once; answered when each is recorded.
pub async fn ask_all(cluster: &Cluster, people: &[Uuid]) {
    let bodies = people.iter().map(|subject| body(*subject)).collect();
    post_all(cluster, ("erasure", "/v1/requests"), REQUESTERS, bodies).await;
}

/// Posts these bodies over so many connections. What is turned away because too much is under way is asked again, as
/// any client does.
async fn post_all(
    cluster: &Cluster,
    (service, path): (&'static str, &'static str),
    connections: usize,
    bodies: Vec<String>,
) {
    let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
    let turned_away = Arc::new(AtomicUsize::new(0));
    let mut posters = JoinSet::new();
    for _ in 0..connections.min(bodies.len()) {
        let mut client = Client::connect(&cluster.url(service), cluster.token()).await;
        let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
        let turned_away = Arc::clone(&turned_away);
        posters.spawn(async move {
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut pause = LOOK;
                loop {
                    let asked = client.ask(Method::POST, path, body.clone().into_bytes());
                    let (status, answer) = asked.await;
                    if status != StatusCode::SERVICE_UNAVAILABLE {
                        let answer = String::from_utf8_lossy(&answer);
                        assert!(status.is_success(), "{path}: {status}: {answer}");
                        break;
                    }
                    turned_away.fetch_add(1, Ordering::Relaxed);
                    pause = (pause * 2).min(Duration::from_secs(1));
                    tokio::time::sleep(pause).await;
                }
            }
        });
    }
    posters.join_all().await;
    let turned_away = turned_away.load(Ordering::Relaxed);
    if turned_away > 0 {
        println!("  {path}: turned away and asked again: {turned_away}");
    }
}

fn body(subject: Uuid) -> String {
    format!(
        r#"{{"subject_id":"{subject}","actor":"operator","identity":{{"method":"operator","reason":"bench"}}}}"#
    )
}

async fn ask(client: &mut Client, subject: Uuid) -> Uuid {
    let answer = client.post("/v1/requests", body(subject).into_bytes()).await;
    let answer: Value = serde_json::from_slice(&answer).expect("the service speaks JSON");
    answer["request_id"].as_str().and_then(|id| id.parse().ok()).expect("it has an id")
}

/// Waits until so many have a certificate. Seldom looked at: counting costs what the services need.
pub async fn certified(saga: &PgPool, people: i64) {
    let give_up = SystemClock.boottime() + BOUND;
    while count(saga, "certificates").await < people {
        assert!(SystemClock.boottime() < give_up, "not within {BOUND:?}");
        tokio::time::sleep(SELDOM).await;
    }
}

async fn is_certified(saga: &PgPool, request: Uuid) -> bool {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM certificates WHERE request_id = $1)")
        .bind(request)
        .fetch_one(saga)
        .await
        .expect("Postgres answers")
}
