//! Parked messages: what a consumer could not apply waits here as coordinates, with everything
//! later of its key behind it. It guarantees that a key goes on in its order or not at all, by
//! taking the partition's position row before it touches anything; content is read from Kafka
//! again and never kept.

mod router;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use assent_contracts::topics::{self, Topic};
use assent_eventstore::checkpoint;
use assent_eventstore::parked as store;
pub use assent_eventstore::parked::{BEHIND, Parked};
use assent_runtime::{Clock, SystemClock};
use sqlx::{Connection as _, PgConnection, PgPool};
use thiserror::Error;
use uuid::Uuid;

use crate::config::BusConfig;
use crate::consumer::database_code;
use crate::envelope::Delivery;
use crate::replay;
use crate::subscriber::{ApplyError, Handler, Sequencing, Skipped, Subscriber};
pub use router::{openapi, router};

/// The reason of a message before which one of its key is missing.
pub const SEQUENCE_GAP: &str = "sequence_gap";
/// The reason of a message that is no event.
pub const MALFORMED_ENVELOPE: &str = "malformed_envelope";
/// The reason of a message on which the process died as often as allowed.
pub const HANDLER_CRASHED: &str = "handler_crashed";
/// Most messages of one key that are looked at in one step.
const KEY_MAX: i64 = 10_000;

/// Where a parked message stands, and which consumer parked it: `consumer:topic:partition:offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// The consumer.
    pub consumer: String,
    /// The topic, without the deployment's prefix.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl Id {
    /// The id of this message.
    #[must_use]
    pub fn of(parked: &Parked) -> Self {
        let Parked { consumer, topic, partition, offset, .. } = parked.clone();
        Self { consumer, topic, partition, offset }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.consumer, self.topic, self.partition, self.offset)
    }
}

impl FromStr for Id {
    type Err = ParkedError;

    fn from_str(text: &str) -> Result<Self, ParkedError> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(ParkedError::Unknown);
        let (consumer, topic) = (next()?.to_owned(), next()?.to_owned());
        let partition = next()?.parse().map_err(|_| ParkedError::Unknown)?;
        let offset = next()?.parse().map_err(|_| ParkedError::Unknown)?;
        match parts.next() {
            None => Ok(Self { consumer, topic, partition, offset }),
            Some(_) => Err(ParkedError::Unknown),
        }
    }
}

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum ParkedError {
    /// No such message is parked, or its consumer is not in this service.
    #[error("no such parked message")]
    Unknown,
    /// An earlier message of its key is parked: that one is to be decided first.
    #[error("{0} of the same key comes first")]
    NotFirst(Id),
    /// It is no event, so it can't be applied, only discarded.
    #[error("the message is no event: {0}")]
    Malformed(&'static str),
    /// The message is no longer in Kafka.
    #[error("the message is no longer in Kafka")]
    Gone,
    /// The handler refuses it still; those before it are applied.
    #[error("{id} is still refused: {reason}")]
    Refused {
        /// The message that stopped the replay.
        id: Id,
        /// The handler's code.
        reason: String,
        /// How many were applied before it.
        applied: usize,
    },
    /// Kafka couldn't be read.
    #[error("kafka can't be read: {0}")]
    Kafka(String),
    /// Postgres failed.
    #[error("the database failed ({})", database_code(.0))]
    Database(#[from] sqlx::Error),
}

/// A parked message with what Kafka says about it now.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The parked message.
    pub parked: Parked,
    /// The message; `None` if it is no longer there.
    pub message: Option<Delivery>,
}

/// The parked messages of a service's consumers.
#[derive(Clone)]
pub struct ParkedMessages {
    pool: PgPool,
    config: BusConfig,
    handlers: HashMap<&'static str, Arc<dyn Handler>>,
}

impl ParkedMessages {
    /// The parked messages in this database; name its subscribers by [`Self::with`].
    #[must_use]
    pub fn new(pool: PgPool, config: BusConfig) -> Self {
        Self { pool, config, handlers: HashMap::new() }
    }

    /// Adds a subscriber whose messages can be replayed and discarded here.
    #[must_use]
    pub fn with<S: Subscriber>(mut self, subscriber: Arc<S>) -> Self {
        self.handlers.insert(Subscriber::name(&*subscriber), subscriber);
        self
    }

    /// Parked messages in the order of their coordinates, after those of `after`.
    ///
    /// # Errors
    /// If Postgres doesn't answer.
    pub async fn list(
        &self,
        consumer: Option<&str>,
        after: Option<&Id>,
        limit: i64,
    ) -> Result<Vec<Parked>, ParkedError> {
        let after =
            after.map(|id| (id.consumer.as_str(), id.topic.as_str(), id.partition, id.offset));
        let mut connection = self.pool.acquire().await?;
        Ok(store::list(&mut connection, consumer, after, limit).await?)
    }

    /// One parked message, read again from Kafka.
    ///
    /// # Errors
    /// If it is not parked, or Postgres or Kafka don't answer.
    pub async fn show(&self, id: &Id) -> Result<Shown, ParkedError> {
        let mut connection = self.pool.acquire().await?;
        let parked = find(&mut connection, id).await?;
        drop(connection);
        let message = self.read(&parked).await?;
        Ok(Shown { parked, message })
    }

    /// Applies the messages of the key of `id`, in order, each in a transaction of its own, until
    /// none is left or one is refused. Says how many were applied or dropped as duplicates.
    ///
    /// # Errors
    /// If one is refused still, is no event, or is gone; those before it stay applied.
    pub async fn replay(&self, id: &Id) -> Result<usize, ParkedError> {
        let handler = self.handler(&id.consumer)?;
        let mut connection = self.pool.acquire().await?;
        let key = find(&mut connection, id).await?.key;
        let mut applied = 0;
        loop {
            let first = if key.is_nil() {
                store::find(&mut connection, &id.consumer, &id.topic, id.partition, id.offset)
                    .await?
            } else {
                in_order(&mut connection, id, key).await?.into_iter().next()
            };
            let Some(first) = first else { return Ok(applied) };
            let event = match self.read(&first).await? {
                Some(Delivery::Event(event)) => event,
                Some(Delivery::Malformed(message)) => {
                    return Err(ParkedError::Malformed(message.defect));
                }
                None => return Err(ParkedError::Gone),
            };
            let mut tx = connection.begin().await?;
            lock(&mut tx, &first).await?;
            // Somebody else may have been faster, or something earlier may have come.
            if in_order(&mut tx, id, key).await?.first() != Some(&first) {
                continue;
            }
            let last = match handler.sequencing() {
                Sequencing::Tracked => {
                    let last =
                        checkpoint::sequences(&mut tx, &id.consumer, &id.topic, &[key]).await?;
                    Some(last.get(&key).copied().unwrap_or(0))
                }
                Sequencing::Own | Sequencing::None => None,
            };
            let refused =
                |reason: String| ParkedError::Refused { id: Id::of(&first), reason, applied };
            match last {
                Some(last) if event.sequence <= last => {}
                Some(last) if event.sequence > last + 1 => {
                    return Err(refused(SEQUENCE_GAP.to_owned()));
                }
                _ => {
                    let batch = std::slice::from_ref(&event);
                    handler.apply(&mut tx, batch).await.map_err(|error| match error {
                        ApplyError::Transient(code) => refused(code),
                        ApplyError::Poison { reason, .. } => refused(reason.to_owned()),
                    })?;
                    if last.is_some() {
                        let reached = [(key, event.sequence)];
                        checkpoint::record_sequences(&mut tx, &id.consumer, &id.topic, &reached)
                            .await?;
                    }
                }
            }
            let Parked { consumer, topic, partition, offset, .. } = &first;
            store::unpark(&mut tx, consumer, topic, *partition, *offset).await?;
            tx.commit().await?;
            applied += 1;
        }
    }

    /// Gives a message up, on record: its key goes on after it, and a rebuild passes over it. Only
    /// the first of a key can be given up.
    ///
    /// # Errors
    /// If it is not parked or not the first of its key, or Postgres doesn't answer.
    pub async fn discard(&self, id: &Id, reason: &str, by: &str) -> Result<(), ParkedError> {
        let handler = self.handler(&id.consumer)?;
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let parked = find(&mut tx, id).await?;
        lock(&mut tx, &parked).await?;
        if !parked.key.is_nil() {
            let first = in_order(&mut tx, id, parked.key).await?.into_iter().next();
            match first {
                None => return Err(ParkedError::Unknown),
                Some(first) if Id::of(&first) != *id => {
                    return Err(ParkedError::NotFirst(Id::of(&first)));
                }
                Some(_) => {}
            }
        }
        let at = SystemClock.now();
        let Id { consumer, topic, partition, offset } = id;
        // Before the row is touched: what a handler locks to skip, an erasure holds while it takes parked messages out.
        if let Some(sequence) = parked.sequence {
            advance(&*handler, &mut tx, &parked.topic, parked.key, sequence).await?;
        }
        if !store::discard(&mut tx, consumer, topic, *partition, *offset, reason, by, at).await? {
            return Err(ParkedError::Unknown);
        }
        tx.commit().await?;
        tracing::info!(consumer, topic, partition, offset, reason, by, "parked message discarded");
        Ok(())
    }

    /// Takes all parked messages of a person out, as her erasure does, in the caller's
    /// transaction; their keys go on after them. Says how many they were.
    ///
    /// # Errors
    /// If Postgres doesn't answer.
    pub async fn clear_subject(
        &self,
        conn: &mut PgConnection,
        key: Uuid,
    ) -> Result<u64, ParkedError> {
        let reached: Vec<(String, String, Option<i64>)> = sqlx::query_as(
            "SELECT consumer, topic, max(sequence) FROM eventstore.parked WHERE key = $1
             GROUP BY consumer, topic",
        )
        .bind(key)
        .fetch_all(&mut *conn)
        .await?;
        for (consumer, topic, sequence) in reached {
            if let (Some(sequence), Ok(handler)) = (sequence, self.handler(&consumer)) {
                advance(&*handler, conn, &topic, key, sequence).await?;
            }
        }
        Ok(store::clear_keys(conn, &[key]).await?)
    }

    fn handler(&self, consumer: &str) -> Result<Arc<dyn Handler>, ParkedError> {
        self.handlers.get(consumer).cloned().ok_or(ParkedError::Unknown)
    }

    async fn read(&self, parked: &Parked) -> Result<Option<Delivery>, ParkedError> {
        let topic = topic(&parked.topic)?;
        replay::message(&self.config, topic, parked.partition, parked.offset)
            .await
            .map_err(|error| ParkedError::Kafka(error.to_string()))
    }
}

fn topic(suffix: &str) -> Result<Topic, ParkedError> {
    topics::by_suffix(suffix).ok_or(ParkedError::Unknown)
}

async fn find(conn: &mut PgConnection, id: &Id) -> Result<Parked, ParkedError> {
    let found = store::find(conn, &id.consumer, &id.topic, id.partition, id.offset).await?;
    found.ok_or(ParkedError::Unknown)
}

/// The parked messages of a key, by sequence: a late one belongs before those that waited for it.
async fn in_order(conn: &mut PgConnection, id: &Id, key: Uuid) -> Result<Vec<Parked>, ParkedError> {
    let mut parked = if key.is_nil() {
        // What has no key has no order either.
        find(conn, id).await.map(|parked| vec![parked])?
    } else {
        store::of_key(conn, &id.consumer, &id.topic, key, KEY_MAX).await?
    };
    parked.sort_by_key(|parked| (parked.sequence, parked.offset));
    Ok(parked)
}

/// Takes the row of the partition's position: until the transaction ends, the consumer commits
/// nothing in this partition, so it can't park behind a message that is just leaving.
async fn lock(conn: &mut PgConnection, parked: &Parked) -> Result<(), ParkedError> {
    sqlx::query(
        "SELECT FROM eventstore.consumer_offsets
         WHERE consumer = $1 AND topic = $2 AND partition = $3 FOR UPDATE",
    )
    .bind(&parked.consumer)
    .bind(&parked.topic)
    .bind(parked.partition)
    .execute(conn)
    .await?;
    Ok(())
}

async fn advance(
    handler: &dyn Handler,
    conn: &mut PgConnection,
    topic_suffix: &str,
    key: Uuid,
    sequence: i64,
) -> Result<(), ParkedError> {
    match handler.sequencing() {
        Sequencing::Tracked => {
            let reached = [(key, sequence)];
            checkpoint::record_sequences(conn, handler.name(), topic_suffix, &reached).await?;
        }
        Sequencing::Own => {
            let skipped = Skipped { topic: topic(topic_suffix)?, key, sequence };
            handler.skip(conn, skipped).await.map_err(|error| {
                sqlx::Error::Protocol(format!("the handler can't skip: {error}"))
            })?;
        }
        Sequencing::None => {}
    }
    Ok(())
}
