//! Whose data are kept and not used, for the gate to join (GDPR Article 18). It guarantees that the row says what
//! her stream says, in the transaction that changes it; placing and lifting are decided in `domain::decide`.

use assent_contracts::SubjectId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::event::Event;

/// Whether an event changes what is restricted.
pub(crate) const fn changes(event: &Event) -> bool {
    matches!(event, Event::Restricted { .. } | Event::RestrictionLifted { .. })
}

/// Keeps what stands of each of these people; of whom nothing does, no row.
///
/// # Errors
/// When the database fails.
pub async fn keep(
    conn: &mut PgConnection,
    standing: &[(SubjectId, Option<(Uuid, Timestamp)>)],
) -> Result<(), sqlx::Error> {
    const KEEP: &str = "
        INSERT INTO restrictions (subject_id, event_id, since) VALUES ($1, $2, $3)
        ON CONFLICT (subject_id) DO UPDATE SET event_id = excluded.event_id, since = excluded.since";
    const DROP: &str = "DELETE FROM restrictions WHERE subject_id = $1";
    for (subject, restricted) in standing {
        let query = match restricted {
            Some((event, since)) => {
                sqlx::query(KEEP).bind(subject).bind(event).bind(since.to_sqlx())
            }
            None => sqlx::query(DROP).bind(subject),
        };
        query.execute(&mut *conn).await?;
    }
    Ok(())
}
