//! A service's store against its own topic: what was acknowledged and published before, and is missing
//! in a database that was restored, is taken back before anything rests on it. It guarantees that every
//! event of the topic is in the store when [`compare`] has come back, and that a store that steps back
//! under a running service ends it; the rows that follow from events are the service's ([`Fold`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use assent_contracts::topics::Topic;
use assent_eventstore::own_log::{PutBackError, note, noted, put_back};
use assent_eventstore::{EventStore, Regained, Session, StoreError, StoredEvent};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::config::BusConfig;
use crate::envelope::{Delivery, Received};
use crate::replay::{self, ReadError};
use crate::topics::{Extent, TopicError, extents};

/// Events compared in one transaction: each takes the lock of its stream.
const TOGETHER: usize = 500;
/// How often a running service looks whether its database has stepped back.
const LOOK: Duration = Duration::from_secs(2);
/// How many looks lie between two notes of how far the topic reaches.
const LOOKS_PER_NOTE: u32 = 15;

/// What a service does with streams that got events back.
pub trait Fold: Send + Sync + 'static {
    /// Brings the service's rows in line, in the transaction that puts the events back.
    ///
    /// # Errors
    /// When the store fails; then nothing is put back.
    fn fold(
        &self,
        session: &mut Session,
        regained: &[Regained],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a store was not compared with its topic.
#[derive(Debug, Error)]
pub enum OwnLogError {
    /// Kafka doesn't tell of the topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Kafka doesn't give its records.
    #[error("the topic can't be read: {0}")]
    Read(String),
    /// The topic is another one than was written to, or it is shorter: Kafka lost its records.
    #[error(
        "partition {partition} of {topic} isn't the log that was written: Kafka was lost or made anew (see the guide on backups)"
    )]
    OtherLog {
        /// The topic.
        topic: &'static str,
        /// The partition.
        partition: i32,
    },
    /// A record of the topic is no event.
    #[error("{topic}/{partition} holds no event at {offset}")]
    Malformed {
        /// The topic.
        topic: &'static str,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// Store and topic can't be brought together.
    #[error(transparent)]
    PutBack(#[from] PutBackError),
    /// The database went back to an earlier state while the service ran.
    #[error("the database went back to an earlier state under the running service")]
    SteppedBack,
}

impl From<sqlx::Error> for OwnLogError {
    fn from(error: sqlx::Error) -> Self {
        Self::PutBack(error.into())
    }
}

impl From<StoreError> for OwnLogError {
    fn from(error: StoreError) -> Self {
        Self::PutBack(error.into())
    }
}

impl OwnLogError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Topic(_) | Self::Read(_) => true,
            Self::PutBack(error) => matches!(error, PutBackError::Store(_)),
            Self::OtherLog { .. } | Self::Malformed { .. } | Self::SteppedBack => false,
        }
    }
}

/// Compares the store with what `topic` held at this moment, from the noted positions on, and takes back
/// what is missing. Gives how many streams got events back.
///
/// # Errors
/// [`OwnLogError`]; what was taken back stays, and repeating it goes on there.
pub async fn compare(
    config: &BusConfig,
    store: &EventStore,
    topic: Topic,
    fold: &impl Fold,
) -> Result<u64, OwnLogError> {
    let extents = extents(config, &[topic]).await?;
    let known = noted(store.pool(), topic.suffix).await?;
    let (mut from, mut to, mut ids) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for Extent { topic_id, partition, start, end, .. } in extents {
        let next = match known.get(&partition) {
            None => start,
            Some((id, next)) if *id == topic_id && (start..=end).contains(next) => *next,
            Some(_) => return Err(OwnLogError::OtherLog { topic: topic.suffix, partition }),
        };
        from.insert(partition, next);
        to.insert(partition, end);
        ids.insert(partition, topic_id);
    }
    let counted = AtomicU64::new(0);
    replay::read(config, topic, &from, &to, |batch| {
        let (ids, counted) = (&ids, &counted);
        async move {
            let regained = take_back(store, topic, &ids[&batch.partition], batch, fold).await?;
            counted.fetch_add(regained, Ordering::Relaxed);
            Ok::<_, OwnLogError>(())
        }
    })
    .await
    .map_err(|error| match error {
        ReadError::Handler(error) => error,
        error => OwnLogError::Read(error.to_string()),
    })?;
    let streams = counted.into_inner();
    if streams > 0 {
        tracing::warn!(
            topic = topic.suffix,
            streams,
            "the database was older than its topic: events were taken back"
        );
    }
    // Positions without anything to read, too.
    let mut connection = store.pool().acquire().await?;
    for (partition, end) in to {
        note(&mut connection, topic.suffix, partition, &ids[&partition], end).await?;
    }
    Ok(streams)
}

async fn take_back(
    store: &EventStore,
    topic: Topic,
    topic_id: &str,
    batch: replay::Batch,
    fold: &impl Fold,
) -> Result<u64, OwnLogError> {
    let mut events = Vec::with_capacity(batch.messages.len());
    let mut ends = Vec::with_capacity(batch.messages.len());
    for message in batch.messages {
        let offset = message.offset();
        let Delivery::Event(event) = message else {
            let (topic, partition) = (topic.suffix, batch.partition);
            return Err(OwnLogError::Malformed { topic, partition, offset });
        };
        events.push(stored(event, topic)?);
        ends.push(offset + 1);
    }
    let mut streams = 0;
    for (some, ends) in events.chunks(TOGETHER).zip(ends.chunks(TOGETHER)) {
        let mut session = store.begin().await?;
        let regained = put_back(&mut session, some).await?;
        if !regained.is_empty() {
            fold.fold(&mut session, &regained).await?;
        }
        let end = ends.last().copied().unwrap_or_default();
        note(session.conn(), topic.suffix, batch.partition, topic_id, end).await?;
        session.commit().await?;
        streams += regained.len() as u64;
    }
    Ok(streams)
}

fn stored(event: Received, topic: Topic) -> Result<StoredEvent, OwnLogError> {
    let (partition, offset) = (event.partition, event.offset);
    let data = String::from_utf8(event.data).map_err(|_| OwnLogError::Malformed {
        topic: topic.suffix,
        partition,
        offset,
    })?;
    Ok(StoredEvent {
        position: 0,
        id: event.id,
        stream: event.key,
        version: event.sequence,
        event_type: event.event_type,
        data,
        recorded_at: event.time,
        traceparent: event.traceparent,
    })
}

/// Notes from time to time how far the topic reaches, until `stopping`. What stands in the topic was
/// committed before it was published, so it is in the store: the next start compares what came later.
///
/// # Errors
/// [`OwnLogError::SteppedBack`], when what was noted is not there any more.
pub async fn keep_noting(
    config: BusConfig,
    store: EventStore,
    topic: Topic,
    stopping: CancellationToken,
) -> Result<(), OwnLogError> {
    let mut seen: BTreeMap<i32, (String, i64)> = BTreeMap::new();
    let mut looks = 0_u32;
    while stopping.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        match noted(store.pool(), topic.suffix).await {
            Ok(found) => {
                let gone = |(partition, (_, offset)): (&i32, &(String, i64))| {
                    found.get(partition).is_none_or(|(_, now)| now < offset)
                };
                if seen.iter().any(gone) {
                    return Err(OwnLogError::SteppedBack);
                }
                seen = found;
            }
            Err(error) => tracing::debug!(%error, "the noted positions can't be read"),
        }
        looks += 1;
        if looks.is_multiple_of(LOOKS_PER_NOTE)
            && let Err(error) = note_all(&config, &store, topic, &seen).await
        {
            tracing::debug!(%error, "how far the topic reaches isn't noted now");
        }
    }
    Ok(())
}

async fn note_all(
    config: &BusConfig,
    store: &EventStore,
    topic: Topic,
    seen: &BTreeMap<i32, (String, i64)>,
) -> Result<(), OwnLogError> {
    let extents = extents(config, &[topic]).await?;
    let mut connection = store.pool().acquire().await?;
    for Extent { topic_id, partition, end, .. } in extents {
        // Only a compared log is noted on.
        if seen.get(&partition).is_some_and(|(id, next)| *id == topic_id && *next < end) {
            note(&mut connection, topic.suffix, partition, &topic_id, end).await?;
        }
    }
    Ok(())
}
