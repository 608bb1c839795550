//! A topic into a read model, each event a new key, followed live and rebuilt from zero, against
//! COPY of as many rows into a table of the same shape.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::producer::Record;
use assent_bus::{BusConfig, Producer, consumer, ensure_topics};
use assent_contracts::consent::GRANTED;
use assent_contracts::topics::{ALL, CONSENT_EVENTS};
use assent_eventstore::schema;
use assent_projector::rebuild::{self, Rebuilder};
use assent_projector::{Follower, Projection};
use assent_runtime::{Clock as _, Ids as _, Lifecycle, SystemClock, SystemIds};
use assent_tests::harness;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::append::granted;
use crate::report::{Goal, Row};
use crate::servers::eventually;

const EVENTS: u32 = 300_000;
const ROUNDS: usize = 3;
const BOUND: Duration = Duration::from_secs(300);

pub async fn run() -> [Row; 2] {
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    ensure_topics(&bus, &ALL).await.expect("topics can be made");
    let data = publish(&bus).await;
    let (mut followed, mut rebuilt, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        copied.push(copy(&data).await);
        let pool = read_models().await;
        followed.push(follow(&bus, &pool).await);
        rebuilt.push(build_again(&bus, &pool).await);
    }
    let row = |name, ours, goal| Row {
        name,
        unit: "rows/s",
        ours,
        baseline: copied.clone(),
        latencies_ms: Vec::new(),
        goal: Goal::Ratio(goal),
    };
    [row("projection", followed, 0.25), row("projection_rebuild", rebuilt, 0.25)]
}

/// Fills the topic, and gives the data of one event.
async fn publish(bus: &BusConfig) -> String {
    let data = granted();
    let producer = Producer::new(bus).expect("a producer can be made");
    let mut left = EVENTS;
    while left > 0 {
        let records: Vec<Record<'_>> = (0..left.min(20_000))
            .map(|_| Record {
                topic: CONSENT_EVENTS.suffix,
                key: SystemIds.v4(),
                sequence: Some(1),
                event_sequence: None,
                id: SystemIds.v7(),
                event_type: GRANTED,
                time: SystemClock.now(),
                traceparent: None,
                payload: Some(data.as_bytes()),
            })
            .collect();
        for answer in producer.send(&records).await {
            answer.expect("Kafka takes the record");
            left -= 1;
        }
    }
    data
}

async fn read_models() -> PgPool {
    let url = harness::database_url("projection").await;
    let pool = assent_eventstore::connect(&url, 12).await.expect("Postgres answers");
    schema::migrate(&pool, assent_projector::migrators()).await.expect("the schema can be made");
    pool
}

/// From the first row on: how long a group takes to form is nothing that grows with events.
async fn follow(bus: &BusConfig, pool: &PgPool) -> f64 {
    let life = Lifecycle::new();
    let follower = Arc::new(Follower(Projection::Consents));
    consumer::spawn(&life, bus.clone(), pool.clone(), follower);
    let read = async || {
        let name = Projection::Consents.consumer();
        consumer::positions(pool, name).await.expect("Postgres answers").values().sum::<i64>()
    };
    let mut first = 0;
    eventually("the first rows are there", BOUND, async || {
        first = read().await;
        first > 0
    })
    .await;
    let began = SystemClock.boottime();
    eventually("all rows are there", BOUND, async || read().await == i64::from(EVENTS)).await;
    let took = SystemClock.boottime() - began;
    life.stop();
    life.run_until_stopped(Duration::from_secs(10)).await;
    (f64::from(EVENTS) - first as f64) / took.as_secs_f64()
}

/// With its comparison and its swap.
async fn build_again(bus: &BusConfig, pool: &PgPool) -> f64 {
    let rebuilder = Rebuilder {
        pool: pool.clone(),
        bus: bus.clone(),
        clock: Arc::new(SystemClock),
        asked: Arc::new(Notify::new()),
    };
    rebuild::request(pool, Projection::Consents, false, SystemClock.now())
        .await
        .expect("Postgres answers");
    let began = SystemClock.boottime();
    rebuilder.work().await.expect("the rebuild works");
    f64::from(EVENTS) / (SystemClock.boottime() - began).as_secs_f64()
}

/// The bound: rows that somebody has ready, by the fastest road into the same table.
async fn copy(data: &str) -> f64 {
    let pool = read_models().await;
    let updated = SystemClock.now();
    let row = serde_json::from_str::<serde_json::Value>(data).expect("it was made of JSON");
    let line = serde_json::json!([row]).to_string().replace('\\', "\\\\");
    let mut text = String::new();
    for _ in 0..EVENTS {
        let _ = writeln!(text, "{}\t1\t{line}\t{updated}", SystemIds.v4());
    }
    let mut connection = pool.acquire().await.expect("Postgres answers");
    let began = SystemClock.boottime();
    let mut copy = connection
        .copy_in_raw("COPY live.consents (subject_id, sequence, consents, updated_at) FROM STDIN")
        .await
        .expect("COPY begins");
    copy.send(text.as_bytes()).await.expect("COPY takes the rows");
    copy.finish().await.expect("COPY ends");
    f64::from(EVENTS) / (SystemClock.boottime() - began).as_secs_f64()
}
