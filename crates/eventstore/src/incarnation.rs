//! Which database this is. It guarantees that one which Postgres restored, from a dump or to a moment of
//! its log, isn't taken for the one that was there before; a copy of its files under the same name is
//! told only by its positions in Kafka.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgPool;

/// A restore makes a new database (another oid), or a new timeline; a promoted standby has a new
/// timeline too, and is compared like a restored one.
const NAME: &str = "
SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '/'
    || (SELECT oid FROM pg_database WHERE datname = current_database())
FROM pg_control_system()";

/// What is known of a database when a service starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incarnation {
    /// It is the one that was compared before.
    Known,
    /// Nothing was ever written to it.
    Fresh,
    /// It is another one than was compared, or never was compared: nothing may rest on it yet.
    Other,
}

/// Which one it is.
///
/// # Errors
/// When the database doesn't answer, or its schema is older than this build.
pub async fn look(pool: &PgPool) -> Result<Incarnation, sqlx::Error> {
    let compared: Option<String> =
        sqlx::query_scalar("SELECT name FROM eventstore.incarnation").fetch_optional(pool).await?;
    if let Some(compared) = compared {
        let now: String = sqlx::query_scalar(NAME).fetch_one(pool).await?;
        return Ok(if compared == now { Incarnation::Known } else { Incarnation::Other });
    }
    let used: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM eventstore.events)
             OR EXISTS (SELECT FROM eventstore.consumer_offsets WHERE next_offset > 0)",
    )
    .fetch_one(pool)
    .await?;
    Ok(if used { Incarnation::Other } else { Incarnation::Fresh })
}

/// It has been compared: whoever starts on it from now on knows it.
///
/// # Errors
/// When the database doesn't answer.
pub async fn mark(pool: &PgPool, now: Timestamp) -> Result<(), sqlx::Error> {
    let name: String = sqlx::query_scalar(NAME).fetch_one(pool).await?;
    sqlx::query(
        "INSERT INTO eventstore.incarnation (name, compared_at) VALUES ($1, $2)
         ON CONFLICT (only_row) DO UPDATE SET name = excluded.name, compared_at = excluded.compared_at",
    )
    .bind(name)
    .bind(now.to_sqlx())
    .execute(pool)
    .await?;
    Ok(())
}
