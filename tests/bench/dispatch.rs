//! Messages from one number through the whole gate to the simulator, with three statuses back for each, and
//! how far the read model is behind when it stops.

use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::SIMULATOR;
use assent_tests::whatsapp::{go_on, rest};
use hyper::Method;
use serde_json::{Value, json};

use crate::load::Client;
use crate::messages::{READER, count, queue};
use crate::permit::willing;
use crate::report::{Goal, Row};
use crate::servers::{self, drained, eventually};

const PEOPLE: u32 = 25_000;
/// To each, so that a minute at the platform's ceiling finds enough.
const EACH: usize = 2;
/// The platform's ceiling for one number.
const PER_SECOND: u32 = 1_000;
const ROUND: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(120);

pub async fn run() -> [Row; 2] {
    let ceiling = [("messaging", "ASSENT_MESSAGING_SENDS_PER_SECOND", "1000")];
    let cluster = servers::cluster_with(&ceiling).await;
    let messaging = cluster.pool("messaging").await;
    let mut simulator = Client::connect(&cluster.url(SIMULATOR), cluster.token()).await;
    let limits = json!({"per_second": PER_SECOND, "per_pair": true});
    let statuses = json!({"statuses": ["sent", "delivered", "read"], "delay_ms": 50});
    for (method, path, body) in
        [(Method::PUT, "/_sim/limits", limits), (Method::POST, "/_sim/statuses", statuses)]
    {
        let (status, _) = simulator.ask(method, path, body.to_string().into_bytes()).await;
        assert!(status.is_success(), "{path}: {status}");
    }
    let people: Vec<_> = willing(&cluster, PEOPLE).await.into_iter().map(|(it, _)| it).collect();
    rest(&messaging).await;
    queue(&cluster, people.repeat(EACH)).await;
    drained(&cluster, &["messaging"], &[READER], BOUND).await;

    go_on(&messaging).await;
    let began = SystemClock.boottime();
    tokio::time::sleep(ROUND).await;
    let sent = count(&messaging, "intents WHERE state = 'accepted'").await;
    let rate = sent as f64 / (SystemClock.boottime() - began).as_secs_f64();
    rest(&messaging).await;
    let stopped = SystemClock.boottime();
    eventually("all webhooks are processed", BOUND, async || {
        count(&messaging, "intents WHERE state IN ('claimed', 'calling')").await == 0
            && count(&messaging, "webhook_bodies").await == 0
    })
    .await;
    drained(&cluster, &["messaging"], &[READER], BOUND).await;
    let behind = (SystemClock.boottime() - stopped).as_secs_f64() * 1_000.0;

    let (_, answer) = simulator.ask(Method::GET, "/_sim/violations", Vec::new()).await;
    let violations: Value = serde_json::from_slice(&answer).expect("the simulator speaks JSON");
    println!("  violations counted by the simulator: {}", violations["total"]);
    assert_eq!(violations["total"], 0, "{violations}");
    let unread = "intents WHERE state = 'accepted' AND status IS DISTINCT FROM 'read'";
    assert_eq!(count(&messaging, unread).await, 0, "statuses are missing");
    let row = |name, unit, ours, latencies_ms, goal| Row {
        name,
        unit,
        ours: vec![ours],
        baseline: Vec::new(),
        latencies_ms,
        goal,
    };
    let most = Goal::Latency { p50_ms: 2_000.0, p99_ms: 2_000.0 };
    [
        row("dispatch", "messages/s", rate, Vec::new(), Goal::Rate(500.0)),
        row("dispatch_behind", "ms", behind, vec![behind], most),
    ]
}
