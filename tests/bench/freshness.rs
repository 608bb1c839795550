//! From the answer to a grant until its row can be read, under a steady load.

use std::collections::HashMap;
use std::time::Duration;

use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::append::grant;
use crate::load::Client;
use crate::report::{Goal, Row};
use crate::servers;

const COMMANDS_PER_SECOND: u32 = 200;
const SECONDS: u32 = 30;
/// Connections taking turns: each command keeps one until its answer is there.
const CLIENTS: usize = 40;
/// Ten seconds: a broker that has just started is still compiling what it runs.
const WARM_UP: usize = 2_000;
/// How often the read model is looked at, for all commands at once: looks by each of them, over
/// HTTP, would cost more than the commands.
const LOOK: Duration = Duration::from_millis(2);
const BOUND: Duration = Duration::from_secs(10);

/// A grant that was answered, and when.
type Acknowledged = (Uuid, Duration);

pub async fn run() -> Row {
    let cluster = servers::cluster().await;
    let (returned, mut clients) = mpsc::channel(CLIENTS);
    for _ in 0..CLIENTS {
        let client = Client::connect(&cluster.url("consent"), cluster.token()).await;
        returned.try_send(client).expect("there is room for all");
    }
    let (acknowledged, answered) = mpsc::unbounded_channel();
    let looker = tokio::spawn(look(cluster.pool("projector").await, answered));

    let mut tick = interval(Duration::from_secs(1) / COMMANDS_PER_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut commands = JoinSet::new();
    let mut began = SystemClock.boottime();
    let count = (COMMANDS_PER_SECOND * SECONDS) as usize;
    for number in 0..WARM_UP + count {
        if number == WARM_UP {
            began = SystemClock.boottime();
        }
        tick.tick().await;
        let mut client = clients.recv().await.expect("somebody comes back");
        let (returned, acknowledged) = (returned.clone(), acknowledged.clone());
        commands.spawn(async move {
            let subject = SystemIds.v4();
            client.post("/v1/consents/grant", grant(subject)).await;
            let _ = acknowledged.send((subject, SystemClock.boottime()));
            let _ = returned.send(client).await;
        });
    }
    commands.join_all().await;
    let rate = count as f64 / (SystemClock.boottime() - began).as_secs_f64();
    drop(acknowledged);
    let mut seen = looker.await.expect("the looker comes to its end");
    seen.sort_unstable();
    let latencies_ms = seen[WARM_UP..].iter().map(|(_, took)| took.as_secs_f64() * 1_000.0);
    Row {
        name: "freshness",
        unit: "commands/s",
        ours: vec![rate],
        baseline: Vec::new(),
        latencies_ms: latencies_ms.collect(),
        goal: Goal::Latency { p50_ms: 15.0, p99_ms: 75.0 },
    }
}

/// When each was acknowledged, and how long its row took from there.
async fn look(
    readable: PgPool,
    mut answered: mpsc::UnboundedReceiver<Acknowledged>,
) -> Vec<(Duration, Duration)> {
    const READABLE: &str = "SELECT subject_id FROM live.consents WHERE subject_id = ANY($1)";
    let mut waiting: HashMap<Uuid, Duration> = HashMap::new();
    let mut seen = Vec::new();
    loop {
        if waiting.is_empty() {
            match answered.recv().await {
                Some((subject, at)) => waiting.insert(subject, at),
                None => return seen,
            };
        }
        while let Ok((subject, at)) = answered.try_recv() {
            waiting.insert(subject, at);
        }
        let subjects: Vec<Uuid> = waiting.keys().copied().collect();
        let found: Vec<Uuid> = sqlx::query_scalar(READABLE)
            .bind(&subjects)
            .fetch_all(&readable)
            .await
            .expect("Postgres answers");
        let now = SystemClock.boottime();
        for subject in found {
            let at = waiting.remove(&subject).expect("it was asked for");
            seen.push((at, now - at));
        }
        let oldest = waiting.values().min().copied().unwrap_or(now);
        assert!(now - oldest < BOUND, "not readable within {BOUND:?}");
        tokio::time::sleep(LOOK).await;
    }
}
