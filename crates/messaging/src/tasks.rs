//! What a human is to look at: a stop that nobody can be found for, words that may be one, doubts about who
//! somebody is, and what she asks for while there are any. It guarantees that each is a row, written with what it follows from, and that what it holds back is held
//! from that commit on; listing and closing them is the API's.

use std::collections::HashSet;

use assent_contracts::SubjectId;
use assent_contracts::rights::RequestKind;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::identity::Doubt;
use crate::state::Messaging;
use crate::{consequences, seen};

/// The kind of a stop that nobody can be found for.
pub const STOP_UNATTRIBUTED: &str = "stop_unattributed";
/// The kind of words that may be a stop.
pub const STOP_UNCLEAR: &str = "stop_unclear";
/// The kind of a doubt about who somebody is.
pub const IDENTITY_IN_DOUBT: &str = "identity_in_doubt";

/// The kind of a request of whom it is in doubt who she is.
pub const REQUEST_IN_DOUBT: &str = "request_in_doubt";

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
    open(messaging, conn, subject, why).await
}

/// Opens the task of a doubt that is held already.
///
/// # Errors
/// When the database fails.
pub async fn open(
    messaging: &Messaging,
    conn: &mut PgConnection,
    subject: SubjectId,
    why: Doubt,
) -> Result<(), sqlx::Error> {
    const OPEN: &str = "
        INSERT INTO tasks (id, kind, subject_id, reason, opened_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (subject_id, reason) WHERE closed_at IS NULL AND subject_id IS NOT NULL
        DO NOTHING";
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

/// Somebody looked: the doubts about a person are over. Who says so, and how they know, stands on the tasks of those
/// doubts; where none is open, on one that is written for it. Call it under the lock of her stream.
///
/// # Errors
/// When the database fails.
pub async fn settled(
    messaging: &Messaging,
    conn: &mut PgConnection,
    subject: SubjectId,
    by: &str,
    how: &str,
) -> Result<(), sqlx::Error> {
    const CLOSE: &str = "
        UPDATE tasks SET closed_at = $3, closed_by = $2, closed_reason = $5
        WHERE subject_id = $1 AND closed_at IS NULL AND kind = $4";
    const RECORD: &str = "
        INSERT INTO tasks (id, kind, subject_id, reason, opened_at, closed_at, closed_by, closed_reason)
        VALUES ($6, $4, $1, 'by_hand', $3, $3, $2, $5)";
    let now = messaging.clock.now().to_sqlx();
    let closed = sqlx::query(CLOSE)
        .bind(subject)
        .bind(by)
        .bind(now)
        .bind(IDENTITY_IN_DOUBT)
        .bind(how)
        .execute(&mut *conn)
        .await?;
    if closed.rows_affected() == 0 {
        sqlx::query(RECORD)
            .bind(subject)
            .bind(by)
            .bind(now)
            .bind(IDENTITY_IN_DOUBT)
            .bind(how)
            .bind(messaging.ids.v7())
            .execute(conn)
            .await?;
    }
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

/// What these people wrote may mean that they want no more messages: marketing to them waits until a human has read
/// it. Call it under the lock of their streams.
///
/// # Errors
/// When the database fails.
pub async fn stop_unclear(
    messaging: &Messaging,
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<(), sqlx::Error> {
    const OPEN: &str = "
        INSERT INTO tasks (id, kind, subject_id, reason, opened_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (subject_id, reason) WHERE closed_at IS NULL AND subject_id IS NOT NULL
        DO NOTHING";
    for subject in subjects {
        sqlx::query(OPEN)
            .bind(messaging.ids.v7())
            .bind(STOP_UNCLEAR)
            .bind(subject)
            .bind("may_mean_stop")
            .bind(messaging.clock.now().to_sqlx())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Somebody asks for something about her data, and it is in doubt who that is: nothing is asked in her name until a human
/// has found out. Call it under the lock of her stream.
///
/// # Errors
/// When the database fails.
pub async fn request_in_doubt(
    messaging: &Messaging,
    conn: &mut PgConnection,
    subject: SubjectId,
    kind: RequestKind,
) -> Result<(), sqlx::Error> {
    const OPEN: &str = "
        INSERT INTO tasks (id, kind, subject_id, reason, opened_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (subject_id, reason) WHERE closed_at IS NULL AND subject_id IS NOT NULL
        DO NOTHING";
    tracing::info!(kind = kind.name(), "a request is nobody's before it is known who asks");
    sqlx::query(OPEN)
        .bind(messaging.ids.v7())
        .bind(REQUEST_IN_DOUBT)
        .bind(subject)
        .bind(format!("asks_{}", kind.name()))
        .bind(messaging.clock.now().to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// These people have said by now what they want: nobody need read what they wrote until then. Gives whether that ends
/// a task.
///
/// # Errors
/// When the database fails.
pub async fn answered(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    until: Timestamp,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    const CLOSE: &str = "
        UPDATE tasks SET closed_at = $3
        WHERE subject_id = ANY($1) AND kind = $4 AND opened_at <= $2 AND closed_at IS NULL";
    let closed = sqlx::query(CLOSE)
        .bind(subjects)
        .bind(until.to_sqlx())
        .bind(now.to_sqlx())
        .bind(STOP_UNCLEAR)
        .execute(conn)
        .await?;
    Ok(closed.rows_affected() > 0)
}

/// What a stop of nobody known, or words that may be one, have held back is looked at again. After the commit that closed its task: these
/// are messages of anybody, locked in no order of that transaction's.
pub async fn wake(messaging: &Messaging) {
    const WAKE: &str = "
        UPDATE intents SET not_before = now() WHERE id IN (
            SELECT id FROM intents
            WHERE state = 'queued' AND not_before > now() AND reasons && $1
            ORDER BY id FOR UPDATE SKIP LOCKED)";
    let reasons = [STOP_UNATTRIBUTED, STOP_UNCLEAR];
    if let Err(error) = sqlx::query(WAKE).bind(&reasons[..]).execute(messaging.pool()).await {
        tracing::warn!(%error, "what waited for a task is looked at later");
    }
    messaging.queued.notify_one();
}

/// What is open of stops.
#[derive(Debug, Default)]
pub struct Stops {
    /// Somebody said stop, and nobody knows who.
    pub unattributed: bool,
    /// What these people wrote may be one.
    pub unclear: HashSet<SubjectId>,
}

/// What is open of stops, as far as it concerns these people.
///
/// # Errors
/// When the database fails; then nothing may be sent.
pub async fn stops(conn: &mut PgConnection, subjects: &[SubjectId]) -> Result<Stops, sqlx::Error> {
    const OPEN: &str = "
        SELECT EXISTS (SELECT FROM tasks WHERE closed_at IS NULL AND kind = 'stop_unattributed'),
               ARRAY(SELECT subject_id FROM tasks
                     WHERE closed_at IS NULL AND kind = 'stop_unclear' AND subject_id = ANY($1))";
    let row = sqlx::query(OPEN).bind(subjects).fetch_one(conn).await?;
    let unclear: Vec<SubjectId> = row.try_get(1)?;
    Ok(Stops { unattributed: row.try_get(0)?, unclear: unclear.into_iter().collect() })
}

/// Of which of these people it is in doubt who they are. A long silence alone is not meant: whoever writes now may
/// agree for herself.
///
/// # Errors
/// When the database fails.
pub async fn in_doubt(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<HashSet<SubjectId>, sqlx::Error> {
    const IN_DOUBT: &str = "
        SELECT subject_id FROM person_bars WHERE subject_id = ANY($1) AND bar = 'identity'
        UNION SELECT subject_id FROM tasks
        WHERE subject_id = ANY($1) AND closed_at IS NULL AND kind = 'identity_in_doubt'
          AND reason <> $2";
    let found: Vec<SubjectId> = sqlx::query_scalar(IN_DOUBT)
        .bind(subjects)
        .bind(Doubt::Silent.code())
        .fetch_all(conn)
        .await?;
    Ok(found.into_iter().collect())
}

/// Whether it is in any doubt who one of these people is, a long silence included: what is handed out or destroyed is
/// not for whoever has her number by now.
///
/// # Errors
/// When the database fails.
pub async fn is_doubted(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<bool, sqlx::Error> {
    const DOUBTED: &str = "
        SELECT EXISTS (SELECT FROM person_bars
                       WHERE subject_id = ANY($1) AND bar IN ('identity', 'silence'))
            OR EXISTS (SELECT FROM tasks
                       WHERE subject_id = ANY($1) AND closed_at IS NULL
                         AND kind = 'identity_in_doubt')";
    sqlx::query_scalar(DOUBTED).bind(subjects).fetch_one(conn).await
}
