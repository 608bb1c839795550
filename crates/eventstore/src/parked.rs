//! Messages that a consumer could not apply, and messages that somebody decided to pass over. Only
//! coordinates are kept, never content, so an erasure has nothing to find here; when to park and
//! how to replay is left to the bus.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// The reason of a message that waits only because an earlier one of its key is parked.
pub const BEHIND: &str = "behind";

/// A parked message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The consumer that parked it.
    pub consumer: String,
    /// Topic without the deployment's prefix.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: Uuid,
    /// Sequence, on topics that have one.
    pub sequence: Option<i64>,
    /// Wire name.
    pub event_type: String,
    /// A code; [`BEHIND`] for those that wait behind another.
    pub reason: String,
    /// When it was parked.
    pub parked_at: Timestamp,
}

/// A message that somebody decided to pass over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discard {
    /// The message as it was parked.
    pub message: Parked,
    /// Who decided it: the name of the caller's key.
    pub discarded_by: String,
    /// When.
    pub discarded_at: Timestamp,
}

/// Parks `messages`; one that is parked already stays as it is.
///
/// # Errors
/// When the database fails.
pub async fn park(conn: &mut PgConnection, messages: &[Parked]) -> Result<(), sqlx::Error> {
    for message in messages {
        sqlx::query(
            "INSERT INTO eventstore.parked
                 (consumer, topic, partition, message_offset, key, sequence, event_type, reason, parked_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(&message.consumer)
        .bind(&message.topic)
        .bind(message.partition)
        .bind(message.offset)
        .bind(message.key)
        .bind(message.sequence)
        .bind(&message.event_type)
        .bind(&message.reason)
        .bind(message.parked_at.to_sqlx())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Which of `keys` have parked messages.
///
/// # Errors
/// When the database fails.
pub async fn parked_keys(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    keys: &[Uuid],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let keys: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT key FROM eventstore.parked
         WHERE consumer = $1 AND topic = $2 AND key = ANY($3)",
    )
    .bind(consumer)
    .bind(topic)
    .bind(keys)
    .fetch_all(conn)
    .await?;
    Ok(HashSet::from_iter(keys))
}

/// Up to `limit` parked messages of `consumer` (of all consumers when `None`), in the order of
/// their coordinates, after those of `after`.
///
/// # Errors
/// When the database fails.
pub async fn list(
    conn: &mut PgConnection,
    consumer: Option<&str>,
    after: Option<(&str, &str, i32, i64)>,
    limit: i64,
) -> Result<Vec<Parked>, sqlx::Error> {
    let (after_consumer, after_topic, after_partition, after_offset) =
        after.unwrap_or(("", "", -1, -1));
    let rows = sqlx::query(
        "SELECT consumer, topic, partition, message_offset, key, sequence, event_type, reason, parked_at
         FROM eventstore.parked
         WHERE ($1::text IS NULL OR consumer = $1)
           AND (consumer, topic, partition, message_offset) > ($2, $3, $4, $5)
         ORDER BY consumer, topic, partition, message_offset LIMIT $6",
    )
    .bind(consumer)
    .bind(after_consumer)
    .bind(after_topic)
    .bind(after_partition)
    .bind(after_offset)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(parked).collect()
}

/// One parked message.
///
/// # Errors
/// When the database fails.
pub async fn find(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Option<Parked>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT consumer, topic, partition, message_offset, key, sequence, event_type, reason, parked_at
         FROM eventstore.parked
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND message_offset = $4",
    )
    .bind(consumer)
    .bind(topic)
    .bind(partition)
    .bind(offset)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(parked).transpose()
}

/// Up to `limit` parked messages of one key, oldest first. They are not locked: two replays of a key meet at the row of
/// the partition's position, and whoever deletes a person takes her parked messages out under locks that a replay may be
/// waiting for.
///
/// # Errors
/// When the database fails.
pub async fn of_key(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    key: Uuid,
    limit: i64,
) -> Result<Vec<Parked>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT consumer, topic, partition, message_offset, key, sequence, event_type, reason, parked_at
         FROM eventstore.parked WHERE consumer = $1 AND topic = $2 AND key = $3
         ORDER BY message_offset LIMIT $4",
    )
    .bind(consumer)
    .bind(topic)
    .bind(key)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(parked).collect()
}

/// Takes a message out, because it was applied. `false` when it wasn't there.
///
/// # Errors
/// When the database fails.
pub async fn unpark(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM eventstore.parked
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND message_offset = $4",
    )
    .bind(consumer)
    .bind(topic)
    .bind(partition)
    .bind(offset)
    .execute(conn)
    .await?;
    Ok(removed.rows_affected() == 1)
}

/// Takes out all parked messages of `keys`, as an erasure does; returns how many.
///
/// # Errors
/// When the database fails.
pub async fn clear_keys(conn: &mut PgConnection, keys: &[Uuid]) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query("DELETE FROM eventstore.parked WHERE key = ANY($1)")
        .bind(keys)
        .execute(conn)
        .await?;
    Ok(removed.rows_affected())
}

/// How many messages are parked, per consumer.
///
/// # Errors
/// When the database fails.
pub async fn count(conn: &mut PgConnection) -> Result<HashMap<String, i64>, sqlx::Error> {
    let rows = sqlx::query("SELECT consumer, count(*) FROM eventstore.parked GROUP BY consumer")
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Moves a parked message to the discards, with the `reason` for giving it up (a code). `false`
/// when it wasn't parked. Advancing the key's
/// sequence past it is the caller's part, in the same transaction.
///
/// # Errors
/// When the database fails.
#[expect(
    clippy::too_many_arguments,
    reason = "a message's coordinates and who gave it up, why and when"
)]
pub async fn discard(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    reason: &str,
    by: &str,
    at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(
        "WITH gone AS (
             DELETE FROM eventstore.parked
             WHERE consumer = $1 AND topic = $2 AND partition = $3 AND message_offset = $4
             RETURNING consumer, topic, partition, message_offset, key, sequence, event_type
         )
         INSERT INTO eventstore.discards
             (consumer, topic, partition, message_offset, key, sequence, event_type, reason,
              discarded_by, discarded_at)
         SELECT gone.*, $5, $6, $7 FROM gone",
    )
    .bind(consumer)
    .bind(topic)
    .bind(partition)
    .bind(offset)
    .bind(reason)
    .bind(by)
    .bind(at.to_sqlx())
    .execute(conn)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// The offsets of a partition that `consumer` passes over, at or after `from`.
///
/// # Errors
/// When the database fails.
pub async fn discarded_offsets(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    partition: i32,
    from: i64,
) -> Result<HashSet<i64>, sqlx::Error> {
    let offsets: Vec<i64> = sqlx::query_scalar(
        "SELECT message_offset FROM eventstore.discards
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND message_offset >= $4",
    )
    .bind(consumer)
    .bind(topic)
    .bind(partition)
    .bind(from)
    .fetch_all(conn)
    .await?;
    Ok(HashSet::from_iter(offsets))
}

fn parked(row: &PgRow) -> Result<Parked, sqlx::Error> {
    Ok(Parked {
        consumer: row.try_get(0)?,
        topic: row.try_get(1)?,
        partition: row.try_get(2)?,
        offset: row.try_get(3)?,
        key: row.try_get(4)?,
        sequence: row.try_get(5)?,
        event_type: row.try_get(6)?,
        reason: row.try_get(7)?,
        parked_at: row.try_get::<jiff_sqlx::Timestamp, _>(8)?.to_jiff(),
    })
}
