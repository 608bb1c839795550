//! A subscriber that writes down what it applies, and that fails on demand: what the tests of the
//! consumer look at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_bus::producer::Record;
use assent_bus::{
    ApplyError, BusConfig, ConsumerHandle, Producer, Received, Sequencing, Subscriber, consumer,
    ensure_topics,
};
use assent_contracts::topics::{CONSENT_EVENTS, Topic};
use assent_eventstore::parked::Parked;
use assent_runtime::{Clock, Ids, Lifecycle, SystemClock, SystemIds};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use uuid::Uuid;

use assent_tests::harness;

pub const TOPIC: Topic = CONSENT_EVENTS;
pub const NAME: &str = "test.recorder";
pub const BOUND: Duration = Duration::from_secs(30);

/// What happens when an event is applied, by its id.
#[derive(Clone)]
pub enum Trouble {
    Transient,
    Poison,
    Panic,
    /// Waits, in the middle of the transaction, until told to go on.
    Hold(Arc<Notify>),
}

/// Writes each event into the table `applied`.
pub struct Recorder {
    sequencing: Sequencing,
    troubles: Mutex<HashMap<Uuid, Trouble>>,
    attempts: Mutex<HashMap<Uuid, usize>>,
}

impl Recorder {
    pub fn new(sequencing: Sequencing) -> Arc<Self> {
        Arc::new(Self { sequencing, troubles: Mutex::default(), attempts: Mutex::default() })
    }

    pub fn trouble(&self, event: Uuid, trouble: Trouble) {
        self.troubles.lock().unwrap().insert(event, trouble);
    }

    pub fn heal(&self) {
        self.troubles.lock().unwrap().clear();
    }

    /// How often an event was tried.
    pub fn attempts(&self, event: Uuid) -> usize {
        self.attempts.lock().unwrap().get(&event).copied().unwrap_or(0)
    }
}

impl Subscriber for Recorder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn topics(&self) -> Vec<Topic> {
        vec![TOPIC]
    }

    fn sequencing(&self) -> Sequencing {
        self.sequencing
    }

    async fn apply(&self, conn: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        for (index, event) in batch.iter().enumerate() {
            sqlx::query("INSERT INTO applied (key, sequence, partition, log_offset) VALUES ($1, $2, $3, $4)")
                .bind(event.key)
                .bind(event.sequence)
                .bind(event.partition)
                .bind(event.offset)
                .execute(&mut *conn)
                .await?;
            *self.attempts.lock().unwrap().entry(event.id).or_default() += 1;
            let trouble = self.troubles.lock().unwrap().get(&event.id).cloned();
            match trouble {
                None => {}
                Some(Trouble::Transient) => {
                    return Err(ApplyError::Transient("test".to_owned()));
                }
                Some(Trouble::Poison) => {
                    return Err(ApplyError::Poison { index, reason: "test_poison" });
                }
                Some(Trouble::Panic) => panic!("a handler crashes, as the test wants"),
                Some(Trouble::Hold(go_on)) => go_on.notified().await,
            }
        }
        Ok(())
    }
}

/// A topic, a database and a producer of one test's own.
pub struct Stage {
    pub config: BusConfig,
    pub pool: PgPool,
    pub producer: Producer,
}

/// An event as the tests make them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    pub id: Uuid,
    pub key: Uuid,
    pub sequence: i64,
}

pub fn made(key: Uuid, sequence: i64) -> Made {
    Made { id: SystemIds.v7(), key, sequence }
}

pub fn keys(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| SystemIds.v4()).collect()
}

impl Stage {
    pub async fn new() -> Self {
        let config = BusConfig::new(harness::kafka(), harness::topic_prefix());
        ensure_topics(&config, &[TOPIC]).await.expect("the topic can be made");
        let url = harness::database_url("consumer").await;
        let pool = assent_eventstore::connect(&url, 12).await.expect("the database answers");
        assent_eventstore::schema::migrate(&pool, [assent_eventstore::migrator()])
            .await
            .expect("the schema can be made");
        sqlx::query(
            "CREATE TABLE applied (n bigint GENERATED ALWAYS AS IDENTITY, key uuid, sequence bigint,
                                   partition int, log_offset bigint)",
        )
        .execute(&pool)
        .await
        .unwrap();
        let producer = Producer::new(&config).unwrap();
        Self { config, pool, producer }
    }

    pub async fn publish(&self, events: &[Made]) {
        let records: Vec<_> = events.iter().map(record).collect();
        for answer in self.producer.send(&records).await {
            answer.expect("Kafka takes the record");
        }
    }

    pub fn start(&self, recorder: &Arc<Recorder>) -> Member {
        let life = Lifecycle::new();
        let handle =
            consumer::spawn(&life, self.config.clone(), self.pool.clone(), Arc::clone(recorder));
        Member { life, handle }
    }

    /// Sequences applied of a key, in the order in which they were applied.
    pub async fn applied(&self, key: Uuid) -> Vec<i64> {
        sqlx::query_scalar("SELECT sequence FROM applied WHERE key = $1 ORDER BY n")
            .bind(key)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub async fn applied_count(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM applied").fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until so many events are applied.
    pub async fn until_applied(&self, count: i64) {
        eventually("events are applied", async || self.applied_count().await >= count).await;
    }

    /// Everything parked, by offset.
    pub async fn parked(&self) -> Vec<Parked> {
        let mut connection = self.pool.acquire().await.unwrap();
        assent_eventstore::parked::list(&mut connection, None, None, 10_000).await.unwrap()
    }

    pub async fn until_parked(&self, count: usize) -> Vec<Parked> {
        eventually("messages are parked", async || self.parked().await.len() >= count).await;
        self.parked().await
    }

    /// The sum of all positions: how many messages the consumer has behind it.
    pub async fn behind_it(&self) -> i64 {
        let positions = consumer::positions(&self.pool, NAME).await.unwrap();
        positions.values().sum()
    }

    /// Waits until the consumer has read to the end.
    pub async fn drained(&self) {
        let ends = assent_bus::end_offsets(&self.config, TOPIC).await.unwrap();
        let end: i64 = ends.values().sum();
        eventually("the consumer has read to the end", async || self.behind_it().await == end)
            .await;
    }
}

pub fn record(event: &Made) -> Record<'static> {
    Record {
        topic: TOPIC.suffix,
        key: event.key,
        sequence: Some(event.sequence),
        event_sequence: None,
        id: event.id,
        event_type: "assent.consent.granted.v1",
        time: SystemClock.now(),
        traceparent: None,
        payload: Some(b"{}"),
    }
}

/// One member of the consumer group.
pub struct Member {
    pub life: Lifecycle,
    pub handle: ConsumerHandle,
}

impl Member {
    /// Stops it; says whether it ended well.
    pub async fn stop(self) -> bool {
        self.life.stop_and_wait(Duration::from_secs(10)).await
    }
}

/// Polls a condition until it holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(BOUND, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not within {BOUND:?}: {what}"));
}
