//! Who came by an advertisement, and was answered: rows of [`crate::domain::free_entry`]. It guarantees nothing about
//! sending; what messages cost is estimated by it.

use assent_contracts::SubjectId;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgConnection, Row as _};

use crate::domain::free_entry::Entry;
use crate::state::Messaging;

/// A row that is older says nothing.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// She comes by an advertisement. Under the lock of her stream.
///
/// # Errors
/// When the database fails.
pub async fn comes(
    messaging: &Messaging,
    conn: &mut PgConnection,
    subject: SubjectId,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let length = messaging.config.campaigns.free_entry;
    let before = entries(conn, &[subject]).await?;
    let before = before.first().map(|(_, entry)| *entry);
    match Entry::comes(before, at, length) {
        Some(entry) => put(conn, subject, entry).await,
        None => Ok(()),
    }
}

/// Messages to these people were taken. Under the locks of their streams.
///
/// # Errors
/// When the database fails.
pub async fn answered(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    if subjects.is_empty() {
        return Ok(());
    }
    for (subject, entry) in entries(conn, subjects).await? {
        if let Some(entry) = entry.answered(at) {
            put(conn, subject, entry).await?;
        }
    }
    Ok(())
}

async fn entries(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<Vec<(SubjectId, Entry)>, sqlx::Error> {
    const ENTRIES: &str = "
        SELECT subject_id, entered_at, answered_at FROM free_entries WHERE subject_id = ANY($1)";
    let rows = sqlx::query(ENTRIES).bind(subjects).fetch_all(conn).await?;
    let entry = |row: &sqlx::postgres::PgRow| {
        let answered_at = row.try_get::<Option<SqlTimestamp>, _>(2)?.map(SqlTimestamp::to_jiff);
        let entered_at = row.try_get::<SqlTimestamp, _>(1)?.to_jiff();
        Ok((row.try_get(0)?, Entry { entered_at, answered_at }))
    };
    rows.iter().map(entry).collect()
}

async fn put(conn: &mut PgConnection, subject: SubjectId, entry: Entry) -> Result<(), sqlx::Error> {
    const PUT: &str = "
        INSERT INTO free_entries (subject_id, entered_at, answered_at) VALUES ($1, $2, $3)
        ON CONFLICT (subject_id) DO UPDATE
            SET entered_at = EXCLUDED.entered_at, answered_at = EXCLUDED.answered_at";
    sqlx::query(PUT)
        .bind(subject)
        .bind(entry.entered_at.to_sqlx())
        .bind(entry.answered_at.map(|it| it.to_sqlx()))
        .execute(conn)
        .await
        .map(drop)
}

/// Forgets what says nothing any more.
///
/// # Errors
/// When the database fails.
pub async fn forget(messaging: &Messaging) -> Result<(), sqlx::Error> {
    let now = messaging.clock.now();
    let moment = now.checked_sub(FORGOTTEN).unwrap_or(now);
    sqlx::query("DELETE FROM free_entries WHERE entered_at < $1")
        .bind(moment.to_sqlx())
        .execute(messaging.pool())
        .await
        .map(drop)
}
