//! The producer behind the relay: idempotent, acknowledged by all replicas, keys placed as Java
//! and Go clients place them. It guarantees that a batch's answer names exactly the records that
//! Kafka has and that records of one key never overtake each other; a record that was answered with
//! an error may still arrive, so its publisher sends it again under the same event id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assent_contracts::envelope::{CE_ID, source};
use assent_eventstore::relay::{Delivery, OutboxRecord, PublishError, Publisher};
use jiff::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Headers as _};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext, Message as _};
use thiserror::Error;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::config::BusConfig;
use crate::envelope::{Attributes, headers};
use crate::metrics::metrics;

/// How long the producer waits for company before it sends: the relay hands over whole batches, so
/// this is only the price of a single record.
const LINGER_MS: &str = "1";
/// How long to wait for room in a full queue.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(2);
/// Records handed over before other tasks get their turn.
const TURN: usize = 256;

/// An event that is to be published.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The topic, without the deployment's prefix.
    pub topic: &'a str,
    /// The record key: a `subject_id`, or the stream's id where no person is meant.
    pub key: Uuid,
    /// Its place among the events of its key; `None` on topics without a sequence.
    pub sequence: Option<i64>,
    /// On the compacted state topic: the last event-topic sequence that it reflects.
    pub event_sequence: Option<i64>,
    /// The event's id.
    pub id: Uuid,
    /// The type name.
    pub event_type: &'a str,
    /// When it was recorded.
    pub time: Timestamp,
    /// W3C trace context of whoever caused it.
    pub traceparent: Option<&'a str>,
    /// The data; `None` is a tombstone of a compacted topic.
    pub payload: Option<&'a [u8]>,
}

/// A record that Kafka has not acknowledged. It may arrive all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// The broker or the client refused it, or the time for its delivery is over.
    #[error("not delivered: {0}")]
    NotDelivered(RDKafkaErrorCode),
    /// An earlier record of the same key was not taken, and this one must not overtake it.
    #[error("held back behind an earlier record of its key")]
    HeldBack,
}

/// Publishes to Kafka. Clones share one connection.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    config: BusConfig,
    current: Mutex<Arc<ThreadedProducer<Deliveries>>>,
    held: Arc<Held>,
}

impl Producer {
    /// A producer for these brokers; it connects by itself, and again when the connection is lost.
    ///
    /// # Errors
    /// If the configuration is refused.
    pub fn new(config: &BusConfig) -> Result<Self, KafkaError> {
        let held = Arc::new(Held::default());
        let current = Mutex::new(Arc::new(connect(config, &held)?));
        Ok(Self { shared: Arc::new(Shared { config: config.clone(), current, held }) })
    }

    /// Waits until everything handed over is acknowledged, at most so long; what is left then is
    /// dropped, and its publisher is answered with an error.
    pub async fn close(&self, patience: Duration) {
        let producer = self.current();
        let closed = tokio::task::spawn_blocking(move || {
            if let Err(error) = producer.flush(patience) {
                tracing::warn!(%error, "records are left to the next publisher");
                producer.purge(PurgeConfig::default().queue().inflight());
            }
        });
        // It ends early only with the process.
        let _ = closed.await;
    }

    fn current(&self) -> Arc<ThreadedProducer<Deliveries>> {
        Arc::clone(&self.shared.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An idempotent producer that lost its place (an unknown producer id, say) is of no use any
    /// more; a new one starts with a place of its own.
    fn replace_if_fatal(&self, used: &Arc<ThreadedProducer<Deliveries>>) {
        let Some((code, reason)) = used.client().fatal_error() else { return };
        let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, used) {
            return;
        }
        tracing::error!(%code, reason, "the producer is beyond use: a new one takes over");
        match connect(&self.shared.config, &self.shared.held) {
            Ok(producer) => *current = Arc::new(producer),
            Err(error) => tracing::error!(%error, "no new producer"),
        }
    }

    /// Hands over all records, then waits once for all delivery reports. The answers stand in the
    /// order of the records.
    pub async fn send(&self, records: &[Record<'_>]) -> Vec<Result<(), SendError>> {
        self.hand_over(records.len(), records.iter().copied()).await.wait().await
    }

    /// Hands over all records; waits only while the queue is full.
    async fn hand_over(
        &self,
        count: usize,
        records: impl Iterator<Item = Record<'_>> + Send,
    ) -> Pending {
        let producer = self.current();
        let batch = Arc::new(Batch::new(count));
        let mut names = Names::new(&self.shared.config);
        for (index, record) in records.enumerate() {
            if index % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            let (name, source) = names.of(record.topic);
            if !self.shared.held.may_pass(name, record.key, record.id) {
                batch.done(index, Some(SendError::HeldBack));
            } else if let Err(code) = enqueue(&producer, name, source, &record, index, &batch).await
            {
                self.shared.held.hold(name, record.key, record.id);
                batch.done(index, Some(SendError::NotDelivered(code)));
            }
        }
        Pending { sender: self.clone(), producer, batch, count }
    }
}

impl Publisher for Producer {
    async fn publish(&self, records: &[OutboxRecord]) -> Delivery {
        let given = records.iter().map(|record| Record {
            topic: &record.topic,
            key: record.key,
            sequence: record.sequence,
            event_sequence: record.event_sequence,
            id: record.event_id,
            event_type: &record.event_type,
            time: record.recorded_at,
            traceparent: record.traceparent.as_deref(),
            payload: record.payload.as_deref(),
        });
        let pending = self.hand_over(records.len(), given).await;
        Box::pin(async move {
            let answers = pending.wait().await.into_iter();
            answers.map(|answer| answer.map_err(PublishError::from)).collect()
        })
    }
}
/// Records that were handed over and wait for their delivery reports.
struct Pending {
    sender: Producer,
    producer: Arc<ThreadedProducer<Deliveries>>,
    batch: Arc<Batch>,
    count: usize,
}

impl Pending {
    async fn wait(self) -> Vec<Result<(), SendError>> {
        let failures = self.batch.wait().await;
        self.sender.replace_if_fatal(&self.producer);
        metrics().published.add((self.count - failures.len()) as u64, &[]);
        metrics().publish_failures.add(failures.len() as u64, &[]);
        let mut answers = vec![Ok(()); self.count];
        for (index, error) in failures {
            answers[index] = Err(error);
        }
        answers
    }
}

/// Keys of which a record failed, with that record: the later ones of the key must not overtake
/// it, so they are held back until it is handed over again.
#[derive(Default)]
struct Held {
    any: AtomicBool,
    records: Mutex<HashMap<(String, Uuid), Uuid>>,
}

impl Held {
    fn hold(&self, topic: &str, key: Uuid, id: Uuid) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.entry((topic.to_owned(), key)).or_insert(id);
        self.any.store(true, Ordering::Release);
    }

    fn may_pass(&self, topic: &str, key: Uuid, id: Uuid) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return true;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (topic.to_owned(), key);
        match records.get(&place) {
            None => true,
            Some(held) if *held == id => {
                records.remove(&place);
                self.any.store(!records.is_empty(), Ordering::Release);
                true
            }
            Some(_) => false,
        }
    }
}

fn connect(
    config: &BusConfig,
    held: &Arc<Held>,
) -> Result<ThreadedProducer<Deliveries>, KafkaError> {
    settings(config).create_with_context(Deliveries { held: Arc::clone(held) })
}

/// The settings of the producer, for whoever wants to measure against the same.
#[must_use]
pub fn settings(config: &BusConfig) -> ClientConfig {
    let mut client = config.client();
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // A second request under way could be taken by a partition that had refused the first, for
        // want of a leader, a moment before; the first is lost then (KAFKA-15591). A broker takes the
        // requests of a connection one by one anyway.
        .set("max.in.flight", "1")
        .set("partitioner", "murmur2_random")
        // For ever: a record that was given up could still arrive, behind its successors.
        .set("message.timeout.ms", "0")
        .set("linger.ms", LINGER_MS)
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "262144")
        .set("compression.type", "none");
    client
}

/// Hands over one record; waits while the queue is full.
async fn enqueue(
    producer: &ThreadedProducer<Deliveries>,
    name: &str,
    source: &str,
    record: &Record<'_>,
    index: usize,
    batch: &Arc<Batch>,
) -> Result<(), RDKafkaErrorCode> {
    let mut buffer = Uuid::encode_buffer();
    let key: &str = record.key.hyphenated().encode_lower(&mut buffer);
    let attributes = Attributes {
        id: record.id,
        source,
        event_type: record.event_type,
        time: record.time,
        key: record.key,
        sequence: record.sequence,
        event_sequence: record.event_sequence,
        traceparent: record.traceparent,
    };
    let opaque = Box::new(Ticket { batch: Arc::clone(batch), index });
    let mut message =
        BaseRecord::with_opaque_to(name, opaque).key(key).headers(headers(&attributes));
    if let Some(payload) = record.payload {
        message = message.payload(payload);
    }
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((error, returned)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => message = returned,
                code => return Err(code.unwrap_or(RDKafkaErrorCode::Fail)),
            },
        }
        tokio::time::sleep(FULL_QUEUE_WAIT).await;
    }
}

/// Full names and sources of the topics of a batch, written once.
struct Names<'a> {
    config: &'a BusConfig,
    known: Vec<(String, String, String)>,
}

impl From<SendError> for PublishError {
    fn from(error: SendError) -> Self {
        let reason = match error {
            SendError::HeldBack => "held_back".to_owned(),
            SendError::NotDelivered(code) => match code {
                RDKafkaErrorCode::MessageSizeTooLarge => "message_too_large".to_owned(),
                code => format!("kafka_{code:?}"),
            },
        };
        Self { reason }
    }
}

impl<'a> Names<'a> {
    fn new(config: &'a BusConfig) -> Self {
        Self { config, known: Vec::new() }
    }

    fn of(&mut self, suffix: &str) -> (&str, &str) {
        let index = match self.known.iter().position(|(known, ..)| known == suffix) {
            Some(index) => index,
            None => {
                let name = format!("{}{suffix}", self.config.topic_prefix);
                self.known.push((suffix.to_owned(), name, source(suffix)));
                self.known.len() - 1
            }
        };
        let (_, name, source) = &self.known[index];
        (name, source)
    }
}

/// What librdkafka gives back with the delivery report of a record.
struct Ticket {
    batch: Arc<Batch>,
    index: usize,
}

/// Records that are awaited together.
struct Batch {
    open: AtomicUsize,
    failures: Mutex<Vec<(usize, SendError)>>,
    finished: Notify,
}

impl Batch {
    fn new(records: usize) -> Self {
        Self {
            open: AtomicUsize::new(records),
            failures: Mutex::new(Vec::new()),
            finished: Notify::new(),
        }
    }

    fn done(&self, index: usize, error: Option<SendError>) {
        if let Some(error) = error {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((index, error));
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            // One permit is kept for a waiter that comes later.
            self.finished.notify_one();
        }
    }

    async fn wait(&self) -> Vec<(usize, SendError)> {
        while self.open.load(Ordering::Acquire) > 0 {
            self.finished.notified().await;
        }
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts delivery reports; runs on the producer's polling thread.
struct Deliveries {
    held: Arc<Held>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, report: &DeliveryResult<'_>, ticket: Self::DeliveryOpaque) {
        let error = report.as_ref().err().map(|(error, message)| {
            if let (Some(key), Some(id)) = (key(message), id(message)) {
                self.held.hold(message.topic(), key, id);
            }
            SendError::NotDelivered(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))
        });
        ticket.batch.done(ticket.index, error);
    }
}

fn key(message: &BorrowedMessage<'_>) -> Option<Uuid> {
    Uuid::try_parse_ascii(message.key()?).ok()
}

fn id(message: &BorrowedMessage<'_>) -> Option<Uuid> {
    let id = message.headers()?.iter().find(|header| header.key == CE_ID)?;
    Uuid::try_parse_ascii(id.value?).ok()
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use rdkafka::{Offset, TopicPartitionList};

    use super::*;

    const TOPIC: &str = "t.events";

    /// A partition that gets its leader between two requests refuses the first and takes the second.
    /// Kafka before the fix of KAFKA-15591 then takes the first for a repetition of what it never
    /// had, and librdkafka for delivered.
    #[tokio::test]
    async fn nothing_overtakes_a_request_that_the_partition_was_not_ready_for() {
        const NOT_LEADER: RDKafkaRespErr =
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
        const ELSEWHERE: Uuid = Uuid::from_u128(9);
        const KEY: Uuid = Uuid::from_u128(8);
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 2, 1).unwrap();
        let config = BusConfig::new(cluster.bootstrap_servers(), "t.".to_owned());
        let producer = Producer::new(&config).unwrap();
        let record = |key: Uuid, id: u128| Record {
            topic: "events",
            key,
            sequence: None,
            event_sequence: None,
            id: Uuid::from_u128(id),
            event_type: "assent.test.v1",
            time: jiff::Timestamp::UNIX_EPOCH,
            traceparent: None,
            payload: Some(b"{}"),
        };
        // The producer gets its id, and the topic's leaders, by what it sends to the other partition.
        assert_eq!(producer.send(&[record(ELSEWHERE, 1)]).await, [Ok(())]);
        cluster.broker_round_trip_time(1, Duration::from_millis(150)).unwrap();
        cluster.request_errors(RDKafkaApiKey::Produce, &[NOT_LEADER]);
        // Each is a request of its own: they are handed over further apart than the producer waits
        // for company, and well within one round trip.
        let mut answers = Vec::new();
        for id in 1..=3 {
            answers.push(producer.hand_over(1, std::iter::once(record(KEY, id))).await);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        for answer in answers {
            assert_eq!(answer.wait().await, [Ok(())]);
        }
        cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
        let consumer: BaseConsumer = config.client().set("group.id", "t").create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..2 {
            list.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut read = [Vec::new(), Vec::new()];
        for _ in 0..4 {
            let message = consumer.poll(Duration::from_secs(10)).expect("four messages").unwrap();
            let partition = usize::try_from(message.partition()).unwrap();
            read[partition].push(id(&message).unwrap().as_u128());
        }
        read.sort_by_key(Vec::len);
        assert_eq!(read, [vec![1], vec![1, 2, 3]]);
    }
}
