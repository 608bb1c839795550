//! The outbox to Kafka and empty again, against a producer with the same settings that has its
//! records in memory.

use std::time::Duration;

use assent_bus::envelope::{Attributes, headers};
use assent_bus::producer::settings;
use assent_bus::{BusConfig, Producer, ensure_topics};
use assent_contracts::consent::GRANTED;
use assent_contracts::topics::{CONSENT_EVENTS, Topic};
use assent_eventstore::EventStore;
use assent_eventstore::relay::{self, RelayConfig};
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use assent_tests::harness;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::report::{Goal, Row};
use crate::servers::{backlog, eventually};

const ROWS: u32 = 500_000;
const PAYLOAD_BYTES: usize = 600;
const ROUNDS: usize = 3;
const BOUND: Duration = Duration::from_secs(300);
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TOPIC: Topic = CONSENT_EVENTS;

pub async fn run() -> Row {
    let (mut ours, mut baseline) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        baseline.push(produced().await);
        ours.push(relayed().await);
    }
    Row {
        name: "relay",
        unit: "rows/s",
        ours,
        baseline,
        latencies_ms: Vec::new(),
        goal: Goal::Ratio(0.35),
    }
}

async fn topics() -> BusConfig {
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    ensure_topics(&bus, &[TOPIC]).await.expect("topics can be made");
    bus
}

async fn relayed() -> f64 {
    let bus = topics().await;
    let pool = assent_eventstore::connect(&harness::database_url("relay").await, 4)
        .await
        .expect("Postgres answers");
    assent_eventstore::schema::migrate(&pool, [assent_eventstore::migrator()])
        .await
        .expect("the schema can be made");
    fill(&pool).await;
    let stopping = CancellationToken::new();
    let producer = Producer::new(&bus).expect("a producer can be made");
    let began = SystemClock.boottime();
    let relaying = tokio::spawn(relay::run(
        EventStore::new(pool.clone(), b"bench"),
        producer,
        RelayConfig::default(),
        stopping.clone(),
    ));
    eventually("the outbox is empty", BOUND, async || backlog(&pool).await == 0).await;
    let took = SystemClock.boottime() - began;
    stopping.cancel();
    relaying.await.expect("the relay ends").expect("the relay ends well");
    f64::from(ROWS) / took.as_secs_f64()
}

/// Rows as an append leaves them.
async fn fill(pool: &sqlx::PgPool) {
    let rows = "INSERT INTO eventstore.outbox (topic, key, sequence, event_id, event_type,
                                               recorded_at, traceparent, payload)
        SELECT $1, gen_random_uuid(), 1, gen_random_uuid(), $2, now(), $3,
               convert_to(repeat('x', $4), 'UTF8')
        FROM generate_series(1, $5)";
    sqlx::query(rows)
        .bind(TOPIC.suffix)
        .bind(GRANTED)
        .bind(TRACEPARENT)
        .bind(PAYLOAD_BYTES as i32)
        .bind(ROWS as i32)
        .execute(pool)
        .await
        .expect("Postgres takes the rows");
    // Writing them out belongs to whoever appended.
    sqlx::query("CHECKPOINT").execute(pool).await.expect("Postgres writes them out");
}

async fn produced() -> f64 {
    let bus = topics().await;
    let keys: Vec<Uuid> = (0..ROWS).map(|_| SystemIds.v4()).collect();
    let produce = move || {
        let producer: ThreadedProducer<DefaultProducerContext> =
            settings(&bus).create().expect("a producer can be made");
        let (topic, payload) = (TOPIC.name(&bus.topic_prefix), vec![b'x'; PAYLOAD_BYTES]);
        let began = SystemClock.boottime();
        for key in keys {
            let attributes = Attributes {
                id: key,
                source: "/assent/consent",
                event_type: GRANTED,
                time: SystemClock.now(),
                key,
                sequence: Some(1),
                event_sequence: None,
                traceparent: Some(TRACEPARENT),
            };
            let key = key.to_string();
            let mut record =
                BaseRecord::to(&topic).key(&key).payload(&payload).headers(headers(&attributes));
            while let Err((error, returned)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
                record = returned;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        producer.flush(BOUND).expect("Kafka takes them all");
        f64::from(ROWS) / (SystemClock.boottime() - began).as_secs_f64()
    };
    tokio::task::spawn_blocking(produce).await.expect("the producer ends")
}
