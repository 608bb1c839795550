//! What webhooks have told already: they come more than once. It guarantees that the same news is new once,
//! for all replicas.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

/// Whether this was never told before, by the keyed hash of its id. From the commit on it was.
///
/// # Errors
/// When the database fails.
pub async fn is_new(
    conn: &mut PgConnection,
    hash: &[u8],
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    const SEEN: &str =
        "INSERT INTO seen_messages (hash, seen_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let seen = sqlx::query(SEEN).bind(hash).bind(now.to_sqlx()).execute(conn).await?;
    Ok(seen.rows_affected() > 0)
}
