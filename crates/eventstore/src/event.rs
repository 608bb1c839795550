//! What is appended and what is loaded. Data is JSON text whose bytes are kept; its meaning is
//! left to the service that owns the stream.

use assent_contracts::topics::Topic;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::{Idempotency, StoreError};

/// An event that a decider has decided, not stored yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// UUID v7 from [`assent_runtime::Ids`]; the same in every redelivery.
    pub id: Uuid,
    /// Wire name, such as `assent.consent.granted.v1`.
    pub event_type: &'static str,
    /// JSON, stored and published byte by byte as it stands here.
    pub data: Box<RawValue>,
}

impl NewEvent {
    /// An event of `event_type` with `data` as JSON.
    ///
    /// # Errors
    /// When `data` has no JSON form.
    pub fn new(
        id: Uuid,
        event_type: &'static str,
        data: &impl Serialize,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self { id, event_type, data: to_raw_value(data)? })
    }
}

/// What must be true of the stream for the append to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: append whatever the version.
    Any,
    /// The stream is at this version; 0 means that it doesn't exist yet.
    Exact(i64),
}

/// The newest state of a stream for a compacted topic. Its sequence and its `eventsequence` are the
/// stream's version after the append.
#[derive(Debug, Clone)]
pub struct StateRecord {
    /// Id of the record (UUID v7).
    pub id: Uuid,
    /// The compacted topic.
    pub topic: Topic,
    /// Wire name, such as `assent.consent.state.v1`.
    pub event_type: &'static str,
    /// JSON; `None` is a tombstone, after which compaction forgets the key.
    pub data: Option<Box<RawValue>>,
}

/// A message that is not an event of a stream: a command to another service. It has no sequence.
/// Messages of one key keep their order only if the caller holds the lock of the stream of that
/// key (see [`crate::Session::lock`]).
#[derive(Debug, Clone)]
pub struct Message {
    /// Id of the message (UUID v7): the receiver's inbox drops what it has seen.
    pub id: Uuid,
    /// The topic.
    pub topic: Topic,
    /// The Kafka key.
    pub key: Uuid,
    /// Wire name.
    pub event_type: &'static str,
    /// JSON.
    pub data: Box<RawValue>,
    /// When it was recorded.
    pub at: Timestamp,
    /// W3C trace context of the work that caused it.
    pub traceparent: Option<String>,
}

/// Events for one stream, and what goes with them in the same transaction.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream, which is the Kafka key.
    pub stream: Uuid,
    /// What must be true of the stream.
    pub expected: Expected,
    /// The events, oldest first. May be empty: then only `state` and `idempotency` are written,
    /// for the stream's current version.
    pub events: Vec<NewEvent>,
    /// The topic on which the events are published.
    pub topic: Topic,
    /// The state after the events, where the service keeps a compacted topic.
    pub state: Option<StateRecord>,
    /// The command's idempotency key, whose first answer this append becomes.
    pub idempotency: Option<Idempotency>,
    /// When the events were recorded (microseconds; from [`assent_runtime::Clock`]).
    pub at: Timestamp,
    /// W3C trace context of the command: take it where the command is made, since in a batch the
    /// current span is that of the batch.
    pub traceparent: Option<String>,
}

impl Append {
    /// An append of `events` to `stream`, published on `topic`, without state, idempotency key or
    /// trace.
    #[must_use]
    pub fn new(
        stream: Uuid,
        expected: Expected,
        topic: Topic,
        events: Vec<NewEvent>,
        at: Timestamp,
    ) -> Self {
        Self {
            stream,
            expected,
            events,
            topic,
            state: None,
            idempotency: None,
            at,
            traceparent: None,
        }
    }
}

/// What an append did; for a repeated idempotency key, what it did the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The stream's version after the append: the sequence of its last event.
    pub version: i64,
    /// Ids of the appended events, oldest first.
    pub event_ids: Vec<Uuid>,
}

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Place in the whole store. Rises within a stream; between streams it is *not* the order of
    /// the commits, and it has holes.
    pub position: i64,
    /// The event's id.
    pub id: Uuid,
    /// The stream.
    pub stream: Uuid,
    /// Version of the stream that this event made: 1, 2, 3 … without holes.
    pub version: i64,
    /// Wire name.
    pub event_type: String,
    /// JSON text, byte by byte as it was appended.
    pub data: String,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// W3C trace context of the command that caused it.
    pub traceparent: Option<String>,
}

impl StoredEvent {
    /// The data as `T`.
    ///
    /// # Errors
    /// [`StoreError::Undecodable`] when it isn't one.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_str(&self.data).map_err(|source| StoreError::Undecodable {
            stream: self.stream,
            version: self.version,
            event_type: self.event_type.clone(),
            source,
        })
    }
}

/// A locked stream: nobody else can append to it until the session ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    /// The current version; 0 when it doesn't exist yet.
    pub version: i64,
    /// All its events, oldest first.
    pub events: Vec<StoredEvent>,
}
