//! What a handler of events is. It guarantees nothing by itself: the promises that a handler gives
//! and receives are written at the trait.

use std::pin::Pin;
use std::time::Duration;

use assent_contracts::topics::Topic;
use assent_runtime::Cadence;
use sqlx::PgConnection;
use thiserror::Error;
use uuid::Uuid;

use crate::envelope::Received;

/// Who watches over the order of the events of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequencing {
    /// The bus keeps the last sequence of each key, drops what is not newer and parks a gap.
    Tracked,
    /// The handler finds both in rows of its own: it ignores what is not newer and answers a gap
    /// with [`ApplyError::gap`]. For read models, whose rows carry the sequence anyway.
    Own,
    /// The topic has no sequence; the handler's work must be harmless when repeated.
    None,
}

/// An event that was given up: the key goes on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// The topic it stood in.
    pub topic: Topic,
    /// The key.
    pub key: Uuid,
    /// Its sequence: the next event of the key has one more.
    pub sequence: i64,
}

/// A handler of events.
///
/// It is given batches of one partition, in order. What it writes through `conn` commits together
/// with the position in the partition, or not at all; it must not write anywhere else, except what
/// may be repeated.
pub trait Subscriber: Send + Sync + 'static {
    /// A stable name, `<service>.<purpose>`: positions are kept under it, and with the
    /// deployment's prefix it is the consumer group.
    fn name(&self) -> &'static str;

    /// The topics it reads.
    fn topics(&self) -> Vec<Topic>;

    /// Who watches over the order of the events of one key.
    fn sequencing(&self) -> Sequencing;

    /// Time between the beginnings of two transactions of one partition. The first event after a
    /// rest doesn't wait; under load what arrives meanwhile shares a transaction.
    fn cadence(&self) -> Cadence {
        Cadence {
            least: Duration::from_millis(6),
            each: Duration::from_millis(4),
            most: Duration::from_millis(100),
        }
    }

    /// Applies a batch. After an error nothing of it stays.
    fn apply(
        &self,
        conn: &mut PgConnection,
        batch: &[Received],
    ) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Records that an event of this key was given up, so that the next one is no gap. Only who
    /// keeps sequences of its own ([`Sequencing::Own`]) has something to do.
    fn skip(
        &self,
        _conn: &mut PgConnection,
        _skipped: Skipped,
    ) -> impl Future<Output = Result<(), ApplyError>> + Send {
        async { Ok(()) }
    }
}

/// Why a batch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// It may work later: the same batch is tried again, for ever, and nothing overtakes it. The
    /// code says what stands in the way; it never holds personal data.
    #[error("transient: {0}")]
    Transient(String),
    /// This message will never work: it is parked, and with it the later events of its key.
    #[error("poison at {index}: {reason}")]
    Poison {
        /// Its index in the batch.
        index: usize,
        /// A stable code.
        reason: &'static str,
    },
}

impl ApplyError {
    /// An event of the same key is missing before the one at `index`.
    #[must_use]
    pub fn gap(index: usize) -> Self {
        Self::Poison { index, reason: crate::parked::SEQUENCE_GAP }
    }
}

impl From<sqlx::Error> for ApplyError {
    /// An error of the database may pass; its code is kept, its text (which may quote values) not.
    fn from(error: sqlx::Error) -> Self {
        Self::Transient(crate::consumer::database_code(&error))
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), ApplyError>> + Send + 'a>>;

/// A subscriber behind a pointer, so that the loop is compiled once.
pub(crate) trait Handler: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn topics(&self) -> Vec<Topic>;
    fn sequencing(&self) -> Sequencing;
    fn cadence(&self) -> Cadence;
    fn apply<'a>(&'a self, conn: &'a mut PgConnection, batch: &'a [Received]) -> Answer<'a>;
    fn skip<'a>(&'a self, conn: &'a mut PgConnection, skipped: Skipped) -> Answer<'a>;
}

impl<S: Subscriber> Handler for S {
    fn name(&self) -> &'static str {
        Subscriber::name(self)
    }

    fn topics(&self) -> Vec<Topic> {
        Subscriber::topics(self)
    }

    fn sequencing(&self) -> Sequencing {
        Subscriber::sequencing(self)
    }

    fn cadence(&self) -> Cadence {
        Subscriber::cadence(self)
    }

    fn apply<'a>(&'a self, conn: &'a mut PgConnection, batch: &'a [Received]) -> Answer<'a> {
        Box::pin(Subscriber::apply(self, conn, batch))
    }

    fn skip<'a>(&'a self, conn: &'a mut PgConnection, skipped: Skipped) -> Answer<'a> {
        Box::pin(Subscriber::skip(self, conn, skipped))
    }
}
