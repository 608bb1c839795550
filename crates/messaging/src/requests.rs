//! What people ask for about their data by a message, brought to the erasure service. It guarantees that a request is
//! brought there however long that takes, once for each message, in the order in which she asked; that it is shown by her
//! number or not at all; that what she asks for again within a day is the same request; and that where it is in doubt who
//! she is nothing is asked in her name: a human is to look.
//!
//! An erasure is opened when she asks for it, and shown to be hers only when she says within a day that she is sure: by
//! then it has stopped marketing, and destroyed nothing.

use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::consent::Actor;
use assent_contracts::rights::{IdentityMethod, RequestKind, RequestOrigin};
use assent_http::{ClientError, Code};
use assent_runtime::ops::Watchdog;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::asks::Ask;
use crate::state::Messaging;
use crate::tasks;

/// Requests that are taken at once. Each may wait for a lease.
const TOGETHER: i64 = 16;
/// How long they are held: longer than as many calls can take, of 10 s each.
const HOLD: Duration = Duration::from_secs(200);
/// How often they are looked for when nothing announces them.
const POLL: Duration = Duration::from_millis(500);
/// What a request is shown by: a message from her number.
const SHOWN_BY: &str = "message_from_number";
/// What an erasure is shown by: that she said it twice.
const SHOWN_TWICE: &str = "said_twice";

/// A message that asks for something about her data.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// What for.
    pub ask: Ask,
    /// Whether it came from her number.
    pub by_number: bool,
    /// Whether all that is known says that it is she.
    pub known: bool,
}

/// A message that asks, where the vault has doubts who sent it.
pub struct InDoubt {
    /// Who has the names that it came under.
    pub subject: SubjectId,
    /// What it asks for.
    pub ask: Ask,
    /// Keyed hash by which it is known again.
    pub source: Vec<u8>,
}

/// Records what a new message of hers asks for, after the look at who sends it. Call it under the locks of her stream and
/// those of who is one with her.
///
/// # Errors
/// When the database fails.
pub async fn hear(
    messaging: &Messaging,
    conn: &mut PgConnection,
    (subject, one_with): (SubjectId, &[SubjectId]),
    Asked { ask, by_number, known }: Asked,
    (source, asked_at): (&[u8], Timestamp),
) -> Result<(), sqlx::Error> {
    const INSERT: &str = "
        INSERT INTO asked_requests (id, source, subject_id, kind, sure, by_number, asked_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (source) DO NOTHING";
    let everybody: Vec<SubjectId> = one_with.iter().copied().chain([subject]).collect();
    if !known || tasks::is_doubted(&mut *conn, &everybody).await? {
        return tasks::request_in_doubt(messaging, conn, subject, ask.kind).await;
    }
    sqlx::query(INSERT)
        .bind(messaging.ids.v7())
        .bind(source)
        .bind(subject)
        .bind(ask.kind.name())
        .bind(ask.sure)
        .bind(by_number)
        .bind(asked_at.to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// Calls a human for what was asked for where the vault has doubts, but once for each message. Call it under the locks of
/// their streams.
///
/// # Errors
/// When the database fails.
pub async fn hear_doubted(
    messaging: &Messaging,
    conn: &mut PgConnection,
    doubted: &[InDoubt],
    gone: &[SubjectId],
) -> Result<(), sqlx::Error> {
    for it in doubted.iter().filter(|it| !gone.contains(&it.subject)) {
        if crate::seen::is_new(&mut *conn, &it.source, messaging.clock.now()).await? {
            tasks::request_in_doubt(messaging, &mut *conn, it.subject, it.ask.kind).await?;
        }
    }
    Ok(())
}

/// Brings them until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again, for ever.
pub async fn run(
    messaging: Messaging,
    stopping: CancellationToken,
    watchdog: Watchdog,
) -> Result<(), std::convert::Infallible> {
    while !stopping.is_cancelled() {
        watchdog.progress();
        match pass(&messaging, &watchdog).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => tracing::warn!(%error, "requests of people can't be read"),
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = messaging.asked.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}

/// A request as it is being brought.
struct Pending {
    id: Uuid,
    subject: SubjectId,
    kind: RequestKind,
    sure: bool,
    by_number: bool,
    asked_at: Timestamp,
}

/// Brings what is due; gives how many are done.
async fn pass(messaging: &Messaging, watchdog: &Watchdog) -> Result<usize, sqlx::Error> {
    let mut done = 0;
    for pending in take(messaging).await? {
        watchdog.progress();
        match bring(messaging, &pending).await {
            Ok(request_id) => {
                settle(messaging, pending.id, request_id).await?;
                done += 1;
            }
            Err(error) => {
                tracing::warn!(%error, "a request of hers waits to be handed over");
                put_back(messaging, pending.id).await?;
            }
        }
    }
    Ok(done)
}

/// Why a request is still here.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Call(#[from] ClientError),
}

/// Those that are due and not behind another of the same person.
async fn take(messaging: &Messaging) -> Result<Vec<Pending>, sqlx::Error> {
    const TAKE: &str = "
        UPDATE asked_requests
        SET not_before = now() + make_interval(secs => $2), attempts = attempts + 1
        WHERE id IN (
            SELECT id FROM asked_requests AS it
            WHERE settled_at IS NULL AND not_before <= now()
              AND NOT EXISTS (SELECT FROM asked_requests AS before
                              WHERE before.subject_id = it.subject_id AND before.settled_at IS NULL
                                AND before.position < it.position)
            ORDER BY position LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING id, subject_id, kind, sure, by_number, asked_at";
    let rows = sqlx::query(TAKE)
        .bind(TOGETHER)
        .bind(HOLD.as_secs_f64())
        .fetch_all(messaging.pool())
        .await?;
    rows.iter().map(pending).collect()
}

fn pending(row: &PgRow) -> Result<Pending, sqlx::Error> {
    let kind: String = row.try_get(2)?;
    let kind = RequestKind::ALL.into_iter().find(|it| it.name() == kind);
    Ok(Pending {
        id: row.try_get(0)?,
        subject: row.try_get(1)?,
        kind: kind.ok_or_else(|| sqlx::Error::Decode("no kind of request".into()))?,
        sure: row.try_get(3)?,
        by_number: row.try_get(4)?,
        asked_at: row.try_get::<SqlTimestamp, _>(5)?.to_jiff(),
    })
}

async fn put_back(messaging: &Messaging, id: Uuid) -> Result<(), sqlx::Error> {
    const PUT_BACK: &str = "
        UPDATE asked_requests
        SET not_before = now() + make_interval(secs => least(0.05 * 2 ^ least(attempts, 11), 60))
        WHERE id = $1";
    sqlx::query(PUT_BACK).bind(id).execute(messaging.pool()).await.map(|_| ())
}

async fn settle(
    messaging: &Messaging,
    id: Uuid,
    request_id: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    // Whoever took it when its hold had lapsed may have been faster: what it opened is on record.
    const SETTLE: &str = "
        UPDATE asked_requests SET settled_at = $2, request_id = $3
        WHERE id = $1 AND settled_at IS NULL";
    sqlx::query(SETTLE)
        .bind(id)
        .bind(messaging.clock.now().to_sqlx())
        .bind(request_id)
        .execute(messaging.pool())
        .await
        .map(|_| ())
}

/// What is brought, as the erasure service takes it in.
#[derive(Serialize)]
struct OwnRequest {
    subject_id: SubjectId,
    kind: RequestKind,
    actor: Actor,
    origin: RequestOrigin,
    received_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Shown>,
}

/// How it is shown that she asks herself.
#[derive(Serialize)]
struct Shown {
    method: IdentityMethod,
    reason: &'static str,
}

/// The request that stands. Its secret is not kept: she reads it on her page.
#[derive(Deserialize)]
struct Opened {
    request_id: Uuid,
}

/// Opens a request, or shows that she means the erasure that she asked for. Gives the request that it opened.
async fn bring(messaging: &Messaging, it: &Pending) -> Result<Option<Uuid>, Failure> {
    if let Some(request_id) = asked_before(messaging, it).await? {
        // Asked again it is the same. An erasure is shown by who says that she is sure; what else came from a user id alone by
        // her number now.
        let shows = if it.sure { SHOWN_TWICE } else { SHOWN_BY };
        if it.by_number && (it.sure || it.kind != RequestKind::Erasure) {
            confirm(messaging, request_id, shows).await?;
        }
        return Ok(None);
    }
    let origin = RequestOrigin::WhatsappMessage;
    let shown = it.by_number && it.kind != RequestKind::Erasure;
    let request = OwnRequest {
        subject_id: it.subject,
        kind: it.kind,
        actor: Actor::Subject,
        origin,
        received_at: it.asked_at,
        identity: shown.then(|| Shown { method: origin.proof(), reason: SHOWN_BY }),
    };
    let key = format!("message-{}", it.id);
    let opened: Opened = messaging.erasure.post("/v1/requests", &request, Some(&key)).await?;
    Ok(Some(opened.request_id))
}

async fn confirm(
    messaging: &Messaging,
    request_id: Uuid,
    reason: &'static str,
) -> Result<(), ClientError> {
    let shown = Shown { method: RequestOrigin::WhatsappMessage.proof(), reason };
    let path = format!("/v1/requests/{request_id}/identity");
    let confirmed: Result<Value, ClientError> = messaging.erasure.post(&path, &shown, None).await;
    match confirmed {
        // Refused, or answered, by an operator meanwhile.
        Err(error) if error.code() != Some(Code::RequestStateConflict) => Err(error),
        _ => Ok(()),
    }
}

/// What she asked for, of this kind, within the day before by another message: by one that was brought twice she has said
/// nothing twice.
async fn asked_before(messaging: &Messaging, it: &Pending) -> Result<Option<Uuid>, sqlx::Error> {
    const BEFORE: &str = "
        SELECT request_id FROM asked_requests
        WHERE subject_id = $1 AND kind = $2 AND request_id IS NOT NULL AND id <> $4
          AND asked_at BETWEEN $3 - interval '1 day' AND $3
        ORDER BY position DESC LIMIT 1";
    sqlx::query_scalar(BEFORE)
        .bind(it.subject)
        .bind(it.kind.name())
        .bind(it.asked_at.to_sqlx())
        .bind(it.id)
        .fetch_optional(messaging.pool())
        .await
}
