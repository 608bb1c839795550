//! Which messages a consumer has taken, for topics without a sequence and for side effects. It
//! guarantees that of several deliveries of one id only one is told to be the first; nothing is
//! ever forgotten, since topics are kept and may be read from zero.

use std::collections::HashSet;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

/// Records `ids` as taken by `consumer`, and returns those that were not yet. Call it in the
/// transaction of what the messages cause.
///
/// # Errors
/// When the database fails.
pub async fn take(
    conn: &mut PgConnection,
    consumer: &str,
    ids: &[Uuid],
    at: Timestamp,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let new: Vec<Uuid> = sqlx::query_scalar(
        "INSERT INTO eventstore.inbox (consumer, message_id, received_at)
         SELECT DISTINCT $1, id, $3 FROM unnest($2::uuid[]) AS id ORDER BY id
         ON CONFLICT DO NOTHING
         RETURNING message_id",
    )
    .bind(consumer)
    .bind(ids)
    .bind(at.to_sqlx())
    .fetch_all(conn)
    .await?;
    Ok(HashSet::from_iter(new))
}
