//! The window for free-form messages: for whom it is open, by what she wrote. Whether a message needs it is left to
//! whoever asks.

use std::collections::HashSet;

use assent_contracts::SubjectId;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

/// For so long after her last message free-form messages can reach her.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// For whom of these people the window for free-form messages is open.
///
/// # Errors
/// When the database fails.
pub async fn windows(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    now: Timestamp,
) -> Result<HashSet<SubjectId>, sqlx::Error> {
    const WINDOWS: &str = "
        SELECT DISTINCT subject_id FROM inbound_messages WHERE subject_id = ANY($1) AND said_at > $2";
    let since = now.checked_sub(WINDOW).unwrap_or(now);
    let open: Vec<SubjectId> =
        sqlx::query_scalar(WINDOWS).bind(subjects).bind(since.to_sqlx()).fetch_all(conn).await?;
    Ok(open.into_iter().collect())
}
