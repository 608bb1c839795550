//! Where a consumer stands: offsets per partition and the last applied sequence per key, kept in
//! the database of the rows that it writes and moved in their transaction. It guarantees by
//! compare-and-set that a consumer that lost its partition can't commit; reading Kafka is left to
//! the bus.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// Where a consumer stands in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Topic without the deployment's prefix.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Id of the topic when the checkpoint was made: a topic that was deleted and made anew under
    /// its old name has another one, and the offset means nothing there.
    pub topic_id: String,
    /// The offset to read next.
    pub next_offset: i64,
    /// How often handling from `next_offset` on was begun: above 0 a handler may have crashed.
    pub starts: i32,
}

/// Another consumer has moved the checkpoint: this one has lost the partition and must roll back.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// The checkpoint is not where this consumer left it.
    #[error("another consumer has moved the checkpoint of partition {partition}")]
    Fenced {
        /// The partition.
        partition: i32,
    },
    /// Postgres refused or could not be reached.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// The checkpoint of `consumer` in a partition; makes one at `first_offset` when there is none.
///
/// # Errors
/// When the database fails.
pub async fn open(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    partition: i32,
    topic_id: &str,
    first_offset: i64,
) -> Result<Checkpoint, sqlx::Error> {
    sqlx::query(
        "INSERT INTO eventstore.consumer_offsets (consumer, topic, partition, topic_id, next_offset)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(consumer)
    .bind(topic)
    .bind(partition)
    .bind(topic_id)
    .bind(first_offset)
    .execute(&mut *conn)
    .await?;
    let row = sqlx::query(
        "SELECT topic, partition, topic_id, next_offset, starts FROM eventstore.consumer_offsets
         WHERE consumer = $1 AND topic = $2 AND partition = $3",
    )
    .bind(consumer)
    .bind(topic)
    .bind(partition)
    .fetch_one(conn)
    .await?;
    checkpoint(&row)
}

/// All checkpoints of `consumer`.
///
/// # Errors
/// When the database fails.
pub async fn all(conn: &mut PgConnection, consumer: &str) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT topic, partition, topic_id, next_offset, starts FROM eventstore.consumer_offsets
         WHERE consumer = $1 ORDER BY topic, partition",
    )
    .bind(consumer)
    .fetch_all(conn)
    .await?;
    rows.iter().map(checkpoint).collect()
}

/// Notes, in a transaction of its own, that handling from `expected` on begins; returns which start
/// this is, counted from 1.
///
/// # Errors
/// [`AdvanceError::Fenced`] when the checkpoint is elsewhere.
pub async fn count_start(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    partition: i32,
    expected: i64,
) -> Result<i32, AdvanceError> {
    sqlx::query_scalar(
        "UPDATE eventstore.consumer_offsets SET starts = starts + 1
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
         RETURNING starts",
    )
    .bind(consumer)
    .bind(topic)
    .bind(partition)
    .bind(expected)
    .fetch_optional(conn)
    .await?
    .ok_or(AdvanceError::Fenced { partition })
}

/// Moves the checkpoint from `expected` to `next`, in the transaction of the rows.
///
/// # Errors
/// [`AdvanceError::Fenced`] when it isn't at `expected`: roll back and give the partition up.
pub async fn advance(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    partition: i32,
    expected: i64,
    next: i64,
) -> Result<(), AdvanceError> {
    let moved = sqlx::query(
        "UPDATE eventstore.consumer_offsets SET next_offset = $5, starts = 0
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next_offset = $4",
    )
    .bind(consumer)
    .bind(topic)
    .bind(partition)
    .bind(expected)
    .bind(next)
    .execute(conn)
    .await?;
    if moved.rows_affected() == 1 { Ok(()) } else { Err(AdvanceError::Fenced { partition }) }
}

/// Forgets where `consumer` stands, its sequences included, so that it starts from the beginning.
/// Parked messages and discards stay.
///
/// # Errors
/// When the database fails.
pub async fn forget(conn: &mut PgConnection, consumer: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM eventstore.consumer_offsets WHERE consumer = $1")
        .bind(consumer)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM eventstore.consumer_keys WHERE consumer = $1")
        .bind(consumer)
        .execute(conn)
        .await?;
    Ok(())
}

/// The last sequence that `consumer` applied, per key; keys without one are absent.
///
/// # Errors
/// When the database fails.
pub async fn sequences(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    keys: &[Uuid],
) -> Result<HashMap<Uuid, i64>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT key, sequence FROM eventstore.consumer_keys
         WHERE consumer = $1 AND topic = $2 AND key = ANY($3)",
    )
    .bind(consumer)
    .bind(topic)
    .bind(keys)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Records the last applied sequence per key; each key once.
///
/// # Errors
/// When the database fails.
pub async fn record_sequences(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    sequences: &[(Uuid, i64)],
) -> Result<(), sqlx::Error> {
    if sequences.is_empty() {
        return Ok(());
    }
    let (keys, values): (Vec<Uuid>, Vec<i64>) = sequences.iter().copied().unzip();
    sqlx::query(
        "INSERT INTO eventstore.consumer_keys (consumer, topic, key, sequence)
         SELECT $1, $2, key, sequence FROM unnest($3::uuid[], $4::bigint[]) AS t (key, sequence)
         ORDER BY key
         ON CONFLICT (consumer, topic, key) DO UPDATE SET sequence = excluded.sequence",
    )
    .bind(consumer)
    .bind(topic)
    .bind(keys)
    .bind(values)
    .execute(conn)
    .await?;
    Ok(())
}

fn checkpoint(row: &sqlx::postgres::PgRow) -> Result<Checkpoint, sqlx::Error> {
    Ok(Checkpoint {
        topic: row.try_get(0)?,
        partition: row.try_get(1)?,
        topic_id: row.try_get(2)?,
        next_offset: row.try_get(3)?,
        starts: row.try_get(4)?,
    })
}
