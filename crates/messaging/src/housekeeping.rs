//! What ends by age: hourly keys, parked bodies, the hashes that tell redelivered webhooks, and what people
//! and those who answer them wrote. It guarantees that a body and its hour's key go together; what goes for
//! one person at once is left to erasure. Texts of somebody whose use is restricted don't end by age.

use std::time::Duration;

use assent_contracts::SubjectId;
use assent_http::ClientError;
use assent_runtime::Lease;
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::hour_keys::{HourKeyError, LIFETIME};
use crate::state::Messaging;
use crate::{free_entries, media, metrics, restriction};

/// How often.
const PAUSE: Duration = Duration::from_secs(600);
/// The provider redelivers for seven days.
const REDELIVERY: Duration = Duration::from_secs(8 * 24 * 3600);

/// Texts that end in one transaction.
const FORGET_TOGETHER: i64 = 1000;
/// People who are looked for at once.
const LOOK_TOGETHER: i64 = 2000;
/// People about whom the gate is asked at once.
const ASK_TOGETHER: usize = 16;

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Keys(#[from] HourKeyError),
    #[error("whether use is restricted isn't said: {0}")]
    Gate(#[from] ClientError),
    #[error("the gate's word that use isn't restricted came too late to act on")]
    LeaseExpired,
}

/// Keeps house until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn run(
    messaging: Messaging,
    stopping: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while !stopping.is_cancelled() {
        if let Err(error) = once(&messaging).await {
            tracing::warn!(%error, "housekeeping waits");
        }
        // Whatever hinders the rest, what was written ends in time.
        let kept = match forget_texts(&messaging).await {
            Ok(kept) => {
                metrics::retention_ran(messaging.clock.now());
                kept
            }
            Err(error) => {
                tracing::warn!(%error, "texts can't be forgotten yet");
                Vec::new()
            }
        };
        tell_overdue(&messaging, &kept).await;
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    Ok(())
}

async fn once(messaging: &Messaging) -> Result<(), Failure> {
    messaging.hour_keys.prepare().await?;
    end_keys(messaging).await?;
    media::forget(messaging).await?;
    free_entries::forget(messaging).await?;
    forget(messaging).await
}

/// Ends the keys of hours whose bodies are processed. A pass comes every ten minutes, so what is taken an hour
/// early is gone in time.
async fn end_keys(messaging: &Messaging) -> Result<(), Failure> {
    const PARKED: &str =
        "DELETE FROM webhook_bodies WHERE hour_key = ANY($1) AND parked IS NOT NULL";
    const USED: &str = "
        SELECT hour_key FROM webhook_bodies WHERE hour_key = ANY($1)
        UNION SELECT hour_key FROM declarations WHERE hour_key = ANY($1)";
    let now = messaging.clock.now();
    let early = Duration::from_secs(3600);
    let moment = now.checked_sub(LIFETIME - early).unwrap_or(now);
    let mut ending = messaging.hour_keys.ended_before(moment).await?;
    if ending.is_empty() {
        return Ok(());
    }
    // The platform tells them again.
    sqlx::query("DELETE FROM told_identities WHERE hour_key = ANY($1)")
        .bind(&ending)
        .execute(messaging.pool())
        .await?;
    let parked = sqlx::query(PARKED).bind(&ending).execute(messaging.pool()).await?;
    if parked.rows_affected() > 0 {
        tracing::error!(
            bodies = parked.rows_affected(),
            "unprocessable webhooks end with their key"
        );
    }
    let used: Vec<Uuid> =
        sqlx::query_scalar(USED).bind(&ending).fetch_all(messaging.pool()).await?;
    if !used.is_empty() {
        tracing::error!(keys = used.len(), "webhooks are not processed within a day: keys live on");
    }
    ending.retain(|key| !used.contains(key));
    messaging.hour_keys.destroy(&ending).await?;
    Ok(())
}

async fn forget(messaging: &Messaging) -> Result<(), Failure> {
    let now = messaging.clock.now();
    let moment = now.checked_sub(REDELIVERY).unwrap_or(now).to_sqlx();
    for statement in [
        "DELETE FROM seen_messages WHERE seen_at < $1",
        "DELETE FROM declarations WHERE settled_at < $1",
        "DELETE FROM asked_requests WHERE settled_at < $1",
    ] {
        sqlx::query(statement).bind(moment).execute(messaging.pool()).await?;
    }
    Ok(())
}

/// Texts that are older than so many days, by what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Texts {
    /// What people wrote.
    pub from_people: i64,
    /// What was answered.
    pub to_people: i64,
    /// What colleagues noted.
    pub notes: i64,
}

/// How many texts would go after so many days, those of these people left out. Nothing is done by asking.
///
/// # Errors
/// When the database fails.
pub async fn due(
    messaging: &Messaging,
    days: u32,
    kept: &[SubjectId],
) -> Result<Texts, sqlx::Error> {
    const DUE: &str = "
        SELECT (SELECT count(*) FROM inbound_messages
                WHERE content IS NOT NULL AND said_at < $1 AND subject_id <> ALL($2)),
               (SELECT count(*) FROM intents
                WHERE conversation_id IS NOT NULL AND parameters IS NOT NULL AND requested_at < $1
                  AND state IN ('accepted', 'refused', 'failed', 'uncertain')
                  AND subject_id <> ALL($2)),
               (SELECT count(*) FROM conversation_notes
                WHERE written_at < $1 AND subject_id <> ALL($2))";
    let moment = moment(messaging, days).to_sqlx();
    let (from_people, to_people, notes) =
        sqlx::query_as(DUE).bind(moment).bind(kept).fetch_one(messaging.pool()).await?;
    Ok(Texts { from_people, to_people, notes })
}

fn moment(messaging: &Messaging, days: u32) -> Timestamp {
    let kept = SignedDuration::from_hours(24 * i64::from(days));
    let moment = messaging.clock.now().checked_sub(kept);
    // Postgres knows no times as old as a year of millions would give.
    moment.unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH)
}

/// Says how many texts are there a day after they should have gone. Those that are kept for a reason are not late.
async fn tell_overdue(messaging: &Messaging, kept: &[SubjectId]) {
    let days = u32::from(messaging.config.conversations.retention_days) + 1;
    match due(messaging, days, kept).await {
        Ok(Texts { from_people, to_people, notes }) => {
            metrics::retention_overdue((from_people + to_people + notes).unsigned_abs());
        }
        Err(error) => tracing::warn!(%error, "texts that are kept for too long can't be counted"),
    }
}

/// What was written, in both directions, and notes end with their retention. That there was a message, and
/// what became of it, stays. While the use of her data is restricted hers stay too: she may ask for that instead of a
/// deletion, and need them for a claim (GDPR Article 18(1)(b) and (c)). Gives back whose stay.
async fn forget_texts(messaging: &Messaging) -> Result<Vec<SubjectId>, Failure> {
    let moment = moment(messaging, messaging.config.conversations.retention_days.into());
    let (mut kept, mut after) = (Vec::new(), SubjectId::nil());
    loop {
        let people = written_before(messaging, moment, after).await?;
        for some in people.chunks(ASK_TOGETHER) {
            // Whoever restricts waits a lease before the answer: an older word is nothing to delete on.
            let lease = Lease::start(&messaging.clock, &messaging.config.terms);
            let asks = some.iter().copied().map(|subject| restriction::stands(messaging, subject));
            let restricted = try_join_all(asks).await?;
            if !lease.is_live() {
                return Err(Failure::LeaseExpired);
            }
            let mut others = Vec::with_capacity(some.len());
            for (subject, stands) in some.iter().zip(restricted) {
                if stands { kept.push(*subject) } else { others.push(*subject) }
            }
            forget_texts_of(messaging, moment, &others).await?;
        }
        match people.last() {
            Some(last) => after = *last,
            None => return Ok(kept),
        }
    }
}

/// Of whom something is there that was written before a moment: the next after `after`, by id.
async fn written_before(
    messaging: &Messaging,
    moment: Timestamp,
    after: SubjectId,
) -> Result<Vec<SubjectId>, sqlx::Error> {
    const PEOPLE: &str = "
        SELECT subject_id FROM inbound_messages
        WHERE content IS NOT NULL AND said_at < $1 AND subject_id > $2
        UNION SELECT subject_id FROM intents
        WHERE conversation_id IS NOT NULL AND parameters IS NOT NULL AND requested_at < $1
          AND state IN ('accepted', 'refused', 'failed', 'uncertain') AND subject_id > $2
        UNION SELECT subject_id FROM conversation_notes WHERE written_at < $1 AND subject_id > $2
        ORDER BY subject_id LIMIT $3";
    sqlx::query_scalar(PEOPLE)
        .bind(moment.to_sqlx())
        .bind(after)
        .bind(LOOK_TOGETHER)
        .fetch_all(messaging.pool())
        .await
}

async fn forget_texts_of(
    messaging: &Messaging,
    moment: Timestamp,
    people: &[SubjectId],
) -> Result<(), sqlx::Error> {
    for statement in [
        "UPDATE inbound_messages SET content = NULL WHERE id IN (
             SELECT id FROM inbound_messages
             WHERE subject_id = ANY($3) AND content IS NOT NULL AND said_at < $1
             LIMIT $2 FOR UPDATE SKIP LOCKED)",
        "UPDATE intents SET parameters = NULL WHERE id IN (
             SELECT id FROM intents
             WHERE subject_id = ANY($3)
               AND conversation_id IS NOT NULL AND parameters IS NOT NULL AND requested_at < $1
               AND state IN ('accepted', 'refused', 'failed', 'uncertain')
             LIMIT $2 FOR UPDATE SKIP LOCKED)",
        "DELETE FROM conversation_notes WHERE id IN (
             SELECT id FROM conversation_notes WHERE subject_id = ANY($3) AND written_at < $1
             LIMIT $2 FOR UPDATE SKIP LOCKED)",
    ] {
        // Piece by piece: no lock is held for long, and replicas share the work.
        loop {
            let piece = sqlx::query(statement).bind(moment.to_sqlx()).bind(FORGET_TOGETHER);
            let ended = piece.bind(people).execute(messaging.pool()).await?.rows_affected();
            if ended < FORGET_TOGETHER.unsigned_abs() {
                break;
            }
        }
    }
    Ok(())
}
