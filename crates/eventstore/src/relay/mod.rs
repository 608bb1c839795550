//! Brings the outbox to a [`Publisher`]. It guarantees that no row is lost or skipped, whatever
//! commits late, and that rows of one key go out in their order; a relay that lost its leadership
//! unnoticed can only send again what others have sent. Speaking to Kafka is left to the publisher.
//!
//! Why order per key holds: an append draws the ids of its rows under the lock of their stream, so
//! where a row is visible, the earlier rows of its key are visible too, and their ids are lower. A
//! pass is one query, thus one snapshot, from the lowest id on: it meets them in order. Paging
//! through the table by a cursor would not do: between two pages a late row can appear below the
//! cursor and its successor above it.

mod holds;
mod leader;
mod pump;
mod reader;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use assent_runtime::Cadence;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::EventStore;

pub use self::leader::LOCK;

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRecord {
    /// Rises per key.
    pub id: i64,
    /// Topic without the deployment's prefix.
    pub topic: Arc<str>,
    /// The record's key: the stream.
    pub key: Uuid,
    /// Gapless per key on event topics; rising on compacted topics; none on command topics.
    pub sequence: Option<i64>,
    /// On compacted topics: the last sequence of the event topic that the record reflects.
    pub event_sequence: Option<i64>,
    /// The event's id, the same in every redelivery.
    pub event_id: Uuid,
    /// Wire name.
    pub event_type: Arc<str>,
    /// When the event was recorded.
    pub recorded_at: Timestamp,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// JSON; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// Why a record was not delivered. The relay keeps it and tries again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not delivered: {reason}")]
pub struct PublishError {
    /// A stable code, such as `message_too_large`.
    pub reason: String,
}

/// What became of the records of one [`Publisher::publish`] call, in their order.
pub type Delivery = Pin<Box<dyn Future<Output = Vec<Result<(), PublishError>>> + Send>>;

/// Where the relay brings the rows: Kafka, or a test's recorder.
pub trait Publisher: Send + Sync + 'static {
    /// Takes `records` over, in order; waits while the publisher's own queue is full. The returned
    /// [`Delivery`] resolves when the broker has answered for each of them. The relay calls this
    /// again before earlier deliveries have resolved.
    ///
    /// The publisher keeps the order of records of one key, also between calls, and must not
    /// deliver a record behind a failed one of its key. With Kafka: an idempotent producer that
    /// doesn't give up on time (`message.timeout.ms=0`), so that only refusals are failures.
    fn publish(&self, records: &[OutboxRecord]) -> impl Future<Output = Delivery> + Send;
}

impl<P: Publisher> Publisher for Arc<P> {
    fn publish(&self, records: &[OutboxRecord]) -> impl Future<Output = Delivery> + Send {
        P::publish(self, records)
    }
}

/// The limits of a relay.
#[derive(Debug, Clone, Copy)]
pub struct RelayConfig {
    /// Most rows in one call of the publisher.
    pub batch_rows: usize,
    /// Most rows that one pass reads; bounds how long its snapshot lives.
    pub pass_rows: i64,
    /// Most rows handed to the publisher and not answered yet.
    pub window_rows: usize,
    /// How long the outbox is left alone without a hint.
    pub poll: Duration,
    /// Time between the beginnings of two passes. The first row after a rest doesn't wait; under
    /// load what arrives meanwhile goes out together.
    pub cadence: Cadence,
    /// How long a leader may be silent before Postgres ends its session and another may lead.
    pub lease: Duration,
    /// How often a relay that isn't the leader tries to become it.
    pub candidacy: Duration,
    /// How long a row that was not delivered rests before it is tried again.
    pub retry: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            batch_rows: 2_000,
            pass_rows: 100_000,
            window_rows: 20_000,
            poll: Duration::from_millis(100),
            cadence: Cadence {
                least: Duration::from_millis(5),
                each: Duration::from_micros(500),
                most: Duration::from_millis(100),
            },
            lease: Duration::from_secs(4),
            candidacy: Duration::from_millis(500),
            retry: Duration::from_secs(1),
        }
    }
}

const LEASE_MIN: Duration = Duration::from_millis(200);

/// Why the relay gave up.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The lease is too short to be kept.
    #[error("the relay's lease must be at least 200 ms")]
    LeaseTooShort,
}

/// Relays the outbox of `store` until `stopping`. Any number of replicas may run: one of them
/// leads, the others wait for it to fall silent. Failures of Postgres or of the publisher are
/// logged and outlived. Besides the pool, a leader holds four connections.
///
/// # Errors
/// Only for a configuration that can't work.
pub async fn run<P: Publisher>(
    store: EventStore,
    publisher: P,
    config: RelayConfig,
    stopping: CancellationToken,
) -> Result<(), RelayError> {
    if config.lease < LEASE_MIN {
        return Err(RelayError::LeaseTooShort);
    }
    while !stopping.is_cancelled() {
        match leader::term(&store, &publisher, &config, &stopping).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "the relay starts again"),
        }
        stopping.run_until_cancelled(tokio::time::sleep(config.candidacy)).await;
    }
    Ok(())
}
