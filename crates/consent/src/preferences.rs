//! Links to preference pages. A link carries its own id and whose it is, sealed, so that the page can
//! take an opt-out while this service is down; it guarantees no more by itself than that whoever has
//! it may opt that person out.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::PreferenceLinkState;
use assent_sealing::{LinkKey, LinkKind};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// Makes a link for a person.
///
/// # Errors
/// When the database fails.
pub async fn create(
    conn: &mut PgConnection,
    links: &LinkKey,
    subject: SubjectId,
    link_id: Uuid,
    now: Timestamp,
) -> Result<String, sqlx::Error> {
    const CREATE: &str = "
        INSERT INTO preference_links (link_id, subject_id, created_at) VALUES ($1, $2, $3)";
    sqlx::query(CREATE).bind(link_id).bind(subject).bind(now.to_sqlx()).execute(conn).await?;
    Ok(links.of_person(LinkKind::Preferences, subject, link_id))
}

/// Revokes all links of a person. Gives how many.
///
/// # Errors
/// When the database fails.
pub async fn revoke(
    conn: &mut PgConnection,
    subject: SubjectId,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    const REVOKE: &str = "
        UPDATE preference_links SET revoked_at = $2 WHERE subject_id = $1 AND revoked_at IS NULL";
    let revoked = sqlx::query(REVOKE).bind(subject).bind(now.to_sqlx()).execute(conn).await?;
    Ok(revoked.rows_affected())
}

/// What a link is worth; none where it doesn't exist (any more).
///
/// # Errors
/// When the database fails.
pub async fn state(
    conn: &mut PgConnection,
    link_id: Uuid,
) -> Result<Option<PreferenceLinkState>, sqlx::Error> {
    const STATE: &str =
        "SELECT subject_id, revoked_at IS NOT NULL FROM preference_links WHERE link_id = $1";
    let row = sqlx::query(STATE).bind(link_id).fetch_optional(conn).await?;
    row.map(|row| Ok(PreferenceLinkState { subject_id: row.try_get(0)?, revoked: row.try_get(1)? }))
        .transpose()
}
