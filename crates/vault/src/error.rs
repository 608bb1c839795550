//! Why the vault can't do something now. It guarantees that what a caller is told, and what is
//! logged, holds a code and never a value.

use assent_eventstore::StoreError;
use assent_http::{ClientError, Code, Problem};
use assent_sealing::{KeyStoreError, SealError};

/// A failure behind a request or a step of an erasure. Nothing was half done: repeat it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The event store or its database.
    #[error("event store: {0}")]
    Store(#[from] StoreError),
    /// The key store.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The vault's database.
    #[error("database: {}", code(.0))]
    Database(#[from] sqlx::Error),
    /// Another service.
    #[error("{0}: {1}")]
    Service(&'static str, #[source] ClientError),
    /// A stored value doesn't open under its person's key.
    #[error("a stored value doesn't open")]
    Seal(#[from] SealError),
    /// The database holds something that this code doesn't write.
    #[error("the database holds an invalid {0}")]
    Corrupt(&'static str),
    /// The person is one with others who are not being erased.
    #[error(
        "who is one with the person is not being erased: ask for that too, or verify her number"
    )]
    LinkedRemain,
    /// Others kept winning the race for the same numbers.
    #[error("too many imports of the same numbers at once")]
    Contended,
}

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        match &error {
            VaultError::Store(StoreError::Overloaded | StoreError::Stopped)
            | VaultError::Contended => Problem::new(Code::Overloaded).retry_after(1),
            VaultError::Store(StoreError::Database(cause) | StoreError::Unknown(cause))
            | VaultError::Database(cause)
                if is_absent(cause) =>
            {
                Problem::unavailable("database", code(cause))
            }
            VaultError::Keys(KeyStoreError::Database(cause)) if is_absent(cause) => {
                Problem::unavailable("key store", code(cause))
            }
            VaultError::Keys(KeyStoreError::StillVisible) => {
                Problem::unavailable("key store", error)
            }
            VaultError::Keys(KeyStoreError::Kek(_)) => Problem::unavailable("wrapping key", error),
            VaultError::Service(name, cause) if cause.is_transient() => {
                Problem::unavailable(name, cause)
            }
            _ => Problem::internal(error),
        }
    }
}

/// Whether the database is away or overloaded, as opposed to having refused.
fn is_absent(error: &sqlx::Error) -> bool {
    match error {
        // Connection, resources, operator intervention, lock time-outs and deadlocks.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57", "40", "55"].iter().any(|class| code.starts_with(class))
                || code.starts_with("3D")
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed => true,
        _ => false,
    }
}

/// What can be told of a database error without quoting values.
pub(crate) fn code(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => {
            format!("postgres_{}", error.code().as_deref().unwrap_or("unknown"))
        }
        sqlx::Error::Io(_) => "postgres_connection".to_owned(),
        sqlx::Error::PoolTimedOut => "postgres_pool_timed_out".to_owned(),
        sqlx::Error::PoolClosed => "postgres_pool_closed".to_owned(),
        sqlx::Error::RowNotFound => "postgres_row_not_found".to_owned(),
        _ => "postgres_client".to_owned(),
    }
}
