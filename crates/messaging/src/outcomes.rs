//! Messages of which nobody knows whether they went out. It guarantees that each that no webhook settles within the
//! bound is a task, that the task is over once one does, and that what an operator found out settles it with their
//! name and reason on record. That none is sent again is the guarantee of [`crate::domain::intent`].

use std::time::Duration;

use assent_contracts::SubjectId;
use assent_eventstore::StoreError;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row as _};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::intent::Happening;
use crate::intents::{self, Settlement};
use crate::metrics;
use crate::state::Messaging;

/// The kind of their tasks.
pub const OUTCOME_UNKNOWN: &str = "outcome_unknown";
/// How often they are looked for.
const PAUSE: Duration = Duration::from_secs(15);
/// Most tasks that are opened in one transaction.
const TOGETHER: i64 = 500;

/// What an operator found out of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It went out.
    Sent,
    /// It did not.
    NotSent,
    /// It can't be found out. It stays `uncertain`, and a webhook may still settle it.
    Unknown,
}

impl Outcome {
    /// As database and API name it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
        }
    }

    /// What that is for the message, and the reason that it then shows.
    const fn happening(self) -> Option<(Happening, &'static str)> {
        match self {
            Self::Sent => Some((Happening::Accepted, "operator_found_sent")),
            // It never goes back to the queue: whoever wants her to have it asks for a new one.
            Self::NotSent => Some((Happening::GivenUp, "operator_found_not_sent")),
            Self::Unknown => None,
        }
    }
}

/// Opens tasks and counts until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn run(
    messaging: Messaging,
    stopping: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while !stopping.is_cancelled() {
        if let Err(error) = look(&messaging).await {
            tracing::warn!(%error, "messages without an outcome can't be looked for");
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    Ok(())
}

async fn look(messaging: &Messaging) -> Result<(), sqlx::Error> {
    let now = messaging.clock.now();
    let bound = messaging.config.sending.outcome_patience;
    let before = now.checked_sub(bound).unwrap_or(Timestamp::UNIX_EPOCH);
    loop {
        let opened = open(messaging, before, now).await?;
        if opened > 0 {
            tracing::warn!(messages = opened, "nobody knows whether they went out: find out");
        }
        if opened < TOGETHER.unsigned_abs() {
            break;
        }
    }
    count(messaging, before, now).await
}

/// Opens a task for each that has been uncertain since before that moment and never had one.
async fn open(
    messaging: &Messaging,
    before: Timestamp,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    // Locked, so that who settles it meanwhile is seen, or sees the task.
    const FIND: &str = "
        SELECT id FROM intents
        WHERE state = 'uncertain' AND changed_at <= $1
          AND NOT EXISTS (SELECT FROM tasks WHERE tasks.message_id = intents.id)
        ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED";
    const OPEN: &str = "
        INSERT INTO tasks (id, kind, reason, message_id, opened_at)
        SELECT t.id, $1, coalesce(intents.reasons[1], 'provider_outcome_unknown'), intents.id, $2
        FROM unnest($3::uuid[], $4::uuid[]) AS t (id, message_id)
        JOIN intents ON intents.id = t.message_id
        ON CONFLICT (message_id) DO NOTHING";
    let mut transaction = messaging.pool().begin().await?;
    let messages: Vec<Uuid> = sqlx::query_scalar(FIND)
        .bind(before.to_sqlx())
        .bind(TOGETHER)
        .fetch_all(&mut *transaction)
        .await?;
    if messages.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = messages.iter().map(|_| messaging.ids.v7()).collect();
    let opened = sqlx::query(OPEN)
        .bind(OUTCOME_UNKNOWN)
        .bind(now.to_sqlx())
        .bind(ids)
        .bind(messages)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    transaction.commit().await?;
    Ok(opened)
}

/// Counts those about whom nobody has said that it can't be found out.
async fn count(
    messaging: &Messaging,
    before: Timestamp,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const COUNT: &str = "
        SELECT count(*), min(changed_at), count(*) FILTER (WHERE changed_at <= $1) FROM intents
        WHERE state = 'uncertain' AND NOT EXISTS (
            SELECT FROM tasks WHERE tasks.message_id = intents.id AND tasks.closed_at IS NOT NULL)";
    let row = sqlx::query(COUNT).bind(before.to_sqlx()).fetch_one(messaging.pool()).await?;
    let oldest = row.try_get::<Option<SqlTimestamp>, _>(1)?.map(SqlTimestamp::to_jiff);
    let age = oldest.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
    metrics::uncertain(&metrics::Uncertain {
        messages: row.try_get::<i64, _>(0)?.unsigned_abs(),
        oldest_seconds: age.as_secs().max(0).unsigned_abs(),
        overdue: row.try_get::<i64, _>(2)?.unsigned_abs(),
    });
    Ok(())
}

/// It turned out what became of these messages: nobody need look any more. Call it under the lock of their people's
/// streams.
///
/// # Errors
/// When the database fails.
pub async fn known(
    conn: &mut PgConnection,
    messages: &[Uuid],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const CLOSE: &str = "
        UPDATE tasks SET closed_at = $2 WHERE message_id = ANY($1) AND closed_at IS NULL";
    if messages.is_empty() {
        return Ok(());
    }
    sqlx::query(CLOSE).bind(messages).bind(now.to_sqlx()).execute(conn).await?;
    Ok(())
}

/// What an operator says of a message.
pub struct Said {
    /// The task that asked.
    pub task_id: Uuid,
    /// Of which message.
    pub message_id: Uuid,
    /// Whose.
    pub subject: SubjectId,
    /// What happened to it.
    pub outcome: Outcome,
    /// The name of their key.
    pub by: String,
    /// How they know, a code.
    pub reason: String,
}

/// Closes a task with what an operator found out, and settles its message by it. What is closed already stays as it is.
///
/// # Errors
/// When the database fails.
pub async fn said(messaging: &Messaging, said: &Said) -> Result<(), StoreError> {
    const CLOSE: &str = "
        UPDATE tasks SET closed_at = $2, closed_by = $3, outcome = $4, closed_reason = $5
        WHERE id = $1 AND closed_at IS NULL";
    let now = messaging.clock.now();
    let mut session = messaging.store.begin().await?;
    session.lock_versions(&[said.subject]).await?;
    let closed = sqlx::query(CLOSE)
        .bind(said.task_id)
        .bind(now.to_sqlx())
        .bind(&said.by)
        .bind(said.outcome.as_str())
        .bind(&said.reason)
        .execute(session.conn())
        .await?
        .rows_affected();
    if closed > 0
        && let Some((happening, reason)) = said.outcome.happening()
    {
        let it = Settlement::new(said.message_id, said.subject, None, happening, reason);
        intents::apply(messaging, &mut session, &[it], None).await?;
    }
    session.commit().await?;
    messaging.moved.notify_waiters();
    Ok(())
}
