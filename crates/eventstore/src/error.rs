//! Why the store refused or failed. Every variant says whether something may have been written.

use uuid::Uuid;

/// Why an operation of the store did not succeed. Unless a variant says otherwise nothing was
/// written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The stream is not at the expected version.
    #[error("stream {stream} is at version {actual}, expected {expected}")]
    Conflict {
        /// Which of the appends, by its index.
        index: usize,
        /// The stream.
        stream: Uuid,
        /// The version that the caller expected.
        expected: i64,
        /// The version that it has.
        actual: i64,
    },
    /// The idempotency key was used before with another body (HTTP 422).
    #[error("the idempotency key was used with another body")]
    KeyReused,
    /// A transaction with the same idempotency key committed after this one had looked for it. A
    /// new try finds the first answer.
    #[error("a command with the same idempotency key has just been handled")]
    KeyTaken,
    /// An earlier statement of the session failed, so it could not commit.
    #[error("an earlier statement of the transaction failed")]
    Aborted,
    /// The connection was lost during COMMIT and what became of it could not be found out:
    /// everything or nothing was written.
    #[error("the outcome of the commit is unknown")]
    Unknown(#[source] sqlx::Error),
    /// A stored event is not what the caller takes it for.
    #[error("event {event_type} of stream {stream} at version {version} cannot be read")]
    Undecodable {
        /// The stream.
        stream: Uuid,
        /// The event's version.
        version: i64,
        /// The event's type.
        event_type: String,
        /// What serde says; it names no values.
        #[source]
        source: serde_json::Error,
    },
    /// More commands are waiting than the queue holds; try again later.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The batcher has stopped, or the handler panicked on this command.
    #[error("the command handler has stopped")]
    Stopped,
    /// Postgres refused or could not be reached.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl StoreError {
    /// Whether the same command may succeed when it is tried again at once: a lost race, a
    /// deadlock, a lost connection. Never true where something may have been written.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::KeyTaken => true,
            Self::Database(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => true,
            Self::Database(sqlx::Error::Database(error)) => error.code().is_some_and(|code| {
                // Serialization failure, deadlock, lock timeout, shutdown and crash of the server.
                matches!(code.as_ref(), "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03")
            }),
            _ => false,
        }
    }
}
