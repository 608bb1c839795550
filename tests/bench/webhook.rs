//! Webhook calls of one to ten updates: how long until the 200 at a steady rate, and how many updates go
//! through to the read model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use assent_tests::cluster::SIMULATOR;
use assent_tests::whatsapp::{go_on, rest, signature};
use hyper::Method;
use serde_json::{Value, json};
use sqlx::Row as _;
use uuid::Uuid;

use crate::load::{Client, Worker, steady};
use crate::messages::{READER, count, queue};
use crate::people::number;
use crate::permit::willing;
use crate::report::{Goal, Row};
use crate::servers::{self, drained, eventually};

const PEOPLE: u32 = 10_000;
const CALLS_PER_SECOND: u32 = 500;
const SECONDS: u32 = 20;
const CLIENTS: usize = 64;
const BOUND: Duration = Duration::from_secs(300);

pub async fn run() -> [Row; 2] {
    let ceiling = [("messaging", "ASSENT_MESSAGING_SENDS_PER_SECOND", "1000")];
    let cluster = servers::cluster_with(&ceiling).await;
    let messaging = cluster.pool("messaging").await;
    let mut simulator = Client::connect(&cluster.url(SIMULATOR), cluster.token()).await;
    let none = json!({"statuses": [], "delay_ms": 0}).to_string().into_bytes();
    let (status, _) = simulator.ask(Method::POST, "/_sim/statuses", none).await;
    assert!(status.is_success());
    let people: Vec<_> = willing(&cluster, PEOPLE).await.into_iter().map(|(it, _)| it).collect();
    rest(&messaging).await;
    queue(&cluster, people).await;
    go_on(&messaging).await;
    eventually("all are sent", BOUND, async || {
        count(&messaging, "intents WHERE state = 'accepted'").await == i64::from(PEOPLE)
    })
    .await;
    let messages: Vec<Uuid> = sqlx::query("SELECT id FROM intents")
        .fetch_all(&messaging)
        .await
        .expect("Postgres answers")
        .iter()
        .map(|row| row.get(0))
        .collect();
    drained(&cluster, &["messaging"], &[READER], BOUND).await;

    let told = Arc::new(Told { messages, next: AtomicUsize::new(0) });
    let mut callers = Vec::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(&cluster.url("messaging"), cluster.token()).await;
        let secret = cluster.token().to_owned();
        callers.push(Caller { client, secret, told: Arc::clone(&told) });
    }
    let began = SystemClock.boottime();
    let latencies_ms = steady(callers, CALLS_PER_SECOND, SECONDS).await;
    eventually("all are processed", BOUND, async || count(&messaging, "webhook_bodies").await == 0)
        .await;
    drained(&cluster, &["messaging"], &[READER], BOUND).await;
    let took = (SystemClock.boottime() - began).as_secs_f64();
    let updates = told.next.load(Ordering::Relaxed);
    let row = |name, unit, ours, latencies_ms, goal| Row {
        name,
        unit,
        ours: vec![ours],
        baseline: Vec::new(),
        latencies_ms,
        goal,
    };
    let answered = Goal::Latency { p50_ms: 25.0, p99_ms: 250.0 };
    [
        row("webhook", "calls/s", f64::from(CALLS_PER_SECOND), latencies_ms, answered),
        row("webhook_updates", "updates/s", updates as f64 / took, Vec::new(), Goal::Rate(2_000.0)),
    ]
}

/// What was told so far: each message is delivered, then read; between the two its person writes.
struct Told {
    messages: Vec<Uuid>,
    next: AtomicUsize,
}

impl Told {
    fn update(&self) -> (&'static str, Value) {
        let number_of = self.next.fetch_add(1, Ordering::Relaxed);
        let at = SystemClock.now().as_second().to_string();
        let status = |status: &str, index: usize| {
            json!({"id": format!("wamid.{index}"), "status": status, "timestamp": at,
                "biz_opaque_callback_data": self.messages[index % self.messages.len()]})
        };
        let index = number_of / 3;
        match number_of % 3 {
            0 => ("statuses", status("delivered", index)),
            1 => (
                "messages",
                json!({"from": number(index as u32 % PEOPLE), "id": format!("wamid.{}", SystemIds.v4()),
                    "timestamp": at, "type": "text", "text": {"body": "when do you open?"}}),
            ),
            _ => ("statuses", status("read", index)),
        }
    }
}

struct Caller {
    client: Client,
    secret: String,
    told: Arc<Told>,
}

impl Worker for Caller {
    async fn turn(&mut self) -> u64 {
        // One to ten, evenly.
        let updates = 1 + SystemIds.v4().as_u128() % 10;
        let mut value = json!({"messaging_product": "whatsapp",
            "metadata": {"phone_number_id": "106540352242922"}, "messages": [], "statuses": []});
        for _ in 0..updates {
            let (list, update) = self.told.update();
            value[list].as_array_mut().expect("made above").push(update);
        }
        let body = json!({"object": "whatsapp_business_account",
            "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]});
        let body = body.to_string().into_bytes();
        let signature = signature(self.secret.as_bytes(), &body);
        self.client.post_signed("/webhooks/whatsapp", body, &signature).await;
        u64::try_from(updates).expect("at most ten")
    }
}
