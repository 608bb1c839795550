//! What a human is to look at: a stop that nobody can be found for, and doubts about who somebody is. It
//! guarantees that each is a row, written with what it follows from, and that what it holds back is held
//! from that commit on; listing and closing them is the API's.

use assent_contracts::SubjectId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::identity::Doubt;
use crate::state::Messaging;
use crate::{consequences, seen};

/// The kind of a stop that nobody can be found for.
pub const STOP_UNATTRIBUTED: &str = "stop_unattributed";
/// The kind of a doubt about who somebody is.
pub const IDENTITY_IN_DOUBT: &str = "identity_in_doubt";

/// It is in doubt who she is: what rests on her consent doesn't go out, and somebody is to look. Call it under
/// the lock of her stream.
///
/// # Errors
/// When the database fails.
pub async fn doubt(
    messaging: &Messaging,
    conn: &mut PgConnection,
    subject: SubjectId,
    why: Doubt,
    since: Timestamp,
) -> Result<(), sqlx::Error> {
    const OPEN: &str = "
        INSERT INTO tasks (id, kind, subject_id, reason, opened_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (subject_id, reason) WHERE closed_at IS NULL AND subject_id IS NOT NULL
        DO NOTHING";
    match why {
        Doubt::Silent => {
            if !consequences::hold_templates(conn, subject, since).await? {
                return Ok(());
            }
        }
        Doubt::Moved | Doubt::AnotherAccount | Doubt::HashChanged | Doubt::DeliveredAfterMove => {
            consequences::break_trust(conn, subject, since).await?;
        }
    }
    sqlx::query(OPEN)
        .bind(messaging.ids.v7())
        .bind(IDENTITY_IN_DOUBT)
        .bind(subject)
        .bind(why.code())
        .bind(messaging.clock.now().to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// Somebody looked, or she spoke for herself: these doubts about people are over.
///
/// # Errors
/// When the database fails.
pub async fn settled(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    only: Option<Doubt>,
    by: Option<&str>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const CLOSE: &str = "
        UPDATE tasks SET closed_at = $4, closed_by = $3
        WHERE subject_id = ANY($1) AND closed_at IS NULL AND (reason = $2 OR $2 IS NULL)";
    sqlx::query(CLOSE)
        .bind(subjects)
        .bind(only.map(Doubt::code))
        .bind(by)
        .bind(now.to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// A stop of whom nobody knows, as far as can be told at the door: marketing to whom it may concern is held, and a
/// human is to look, unless the gate finds whose it is.
pub struct Unattributed {
    /// The task's id.
    pub id: Uuid,
    /// Its declaration, where an address is known.
    pub declaration: Option<Uuid>,
    /// The message that said it, where none is.
    pub source: Option<Vec<u8>>,
    /// Why nobody is.
    pub reason: &'static str,
}

/// Opens the task of a stop, unless that was heard before. `new` are the declarations that were not.
///
/// # Errors
/// When the database fails.
pub async fn stop_unattributed(
    conn: &mut PgConnection,
    it: &Unattributed,
    new: &[Uuid],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const OPEN: &str = "
        INSERT INTO tasks (id, kind, reason, declaration_id, opened_at) VALUES ($1, $2, $3, $4, $5)";
    let is_new = match (&it.declaration, &it.source) {
        (Some(declaration), _) => new.contains(declaration),
        (None, Some(source)) => seen::is_new(conn, source, now).await?,
        (None, None) => true,
    };
    if !is_new {
        return Ok(());
    }
    tracing::warn!(reason = it.reason, "a stop that nobody can be found for holds marketing");
    sqlx::query(OPEN)
        .bind(it.id)
        .bind(STOP_UNATTRIBUTED)
        .bind(it.reason)
        .bind(it.declaration)
        .bind(now.to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// The gate found whose these stops are. Gives whether that ends a task.
///
/// # Errors
/// When the database fails.
pub async fn attributed(
    conn: &mut PgConnection,
    declarations: &[Uuid],
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    const CLOSE: &str = "
        UPDATE tasks SET closed_at = $2 WHERE declaration_id = ANY($1) AND closed_at IS NULL";
    let closed = sqlx::query(CLOSE).bind(declarations).bind(now.to_sqlx()).execute(conn).await?;
    Ok(closed.rows_affected() > 0)
}

/// What a stop of nobody known has held back is looked at again. After the commit that closed its task: these
/// are messages of anybody, locked in no order of that transaction's.
pub async fn wake(messaging: &Messaging) {
    const WAKE: &str = "
        UPDATE intents SET not_before = now() WHERE id IN (
            SELECT id FROM intents
            WHERE state = 'queued' AND not_before > now() AND $1 = ANY(reasons)
            ORDER BY id FOR UPDATE SKIP LOCKED)";
    if let Err(error) = sqlx::query(WAKE).bind(STOP_UNATTRIBUTED).execute(messaging.pool()).await {
        tracing::warn!(%error, "what waited for a task is looked at later");
    }
    messaging.queued.notify_one();
}

/// Whether somebody said stop and nobody knows who.
///
/// # Errors
/// When the database fails; then nothing may be sent.
pub async fn someone_stopped(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    const OPEN: &str = "
        SELECT EXISTS (SELECT FROM tasks WHERE closed_at IS NULL AND kind = 'stop_unattributed')";
    sqlx::query_scalar(OPEN).fetch_one(conn).await
}

/// Whether it is in doubt who somebody is.
///
/// # Errors
/// When the database fails.
pub async fn is_in_doubt(conn: &mut PgConnection, subject: SubjectId) -> Result<bool, sqlx::Error> {
    const OPEN: &str =
        "SELECT EXISTS (SELECT FROM tasks WHERE closed_at IS NULL AND subject_id = $1)";
    sqlx::query_scalar(OPEN).bind(subject).fetch_one(conn).await
}
