//! Why something could not be done, and what a caller is told about it.

use assent_http::{Code, Problem};

/// Why the projector could not do something. Texts hold codes, never values of rows.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// Postgres failed or refused.
    #[error("the database failed ({})", code(.0))]
    Database(#[from] sqlx::Error),
    /// Kafka could not be asked.
    #[error("kafka: {0}")]
    Kafka(String),
    /// An event can't be folded in.
    #[error("an event can't be applied: {0}")]
    Event(String),
}

/// What can be told of a database error without quoting values.
pub(crate) fn code(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => {
            format!("postgres_{}", error.code().as_deref().unwrap_or("unknown"))
        }
        sqlx::Error::Io(_) => "postgres_connection".to_owned(),
        sqlx::Error::PoolTimedOut => "postgres_pool_timed_out".to_owned(),
        _ => "postgres_client".to_owned(),
    }
}

impl From<ProjectorError> for Problem {
    fn from(error: ProjectorError) -> Self {
        match &error {
            ProjectorError::Database(sqlx::Error::Database(_)) | ProjectorError::Event(_) => {
                Problem::internal(error)
            }
            ProjectorError::Database(_) => Problem::unavailable("database", error),
            ProjectorError::Kafka(_) => Problem::new(Code::DependencyUnavailable).detail("kafka"),
        }
    }
}
