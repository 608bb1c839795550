//! What webhooks have told already: they come more than once. It guarantees that the same news is new once,
//! for all replicas.

use std::collections::HashSet;

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
    Ok(!new_of(conn, vec![hash], now).await?.is_empty())
}

/// Which of these were never told before, by the keyed hashes of their ids. From the commit on they were.
///
/// # Errors
/// When the database fails.
pub async fn new_of(
    conn: &mut PgConnection,
    mut hashes: Vec<&[u8]>,
    now: Timestamp,
) -> Result<HashSet<Vec<u8>>, sqlx::Error> {
    const SEEN: &str = "
        INSERT INTO seen_messages (hash, seen_at) SELECT hash, $2 FROM unnest($1::bytea[]) AS hash
        ON CONFLICT DO NOTHING RETURNING hash";
    // One order for everybody, so that two transactions never wait for each other.
    hashes.sort_unstable();
    let new: Vec<Vec<u8>> =
        sqlx::query_scalar(SEEN).bind(hashes).bind(now.to_sqlx()).fetch_all(conn).await?;
    Ok(new.into_iter().collect())
}
