//! The bot at work: messages that wait for its answer, one after the other in each conversation. It
//! guarantees that a message is answered at most once, whoever crashes when, and that one that can't be
//! answered in time goes to a human; what is answered is [`crate::domain::bot`]'s to say.
//!
//! There is no leader: whoever takes a turn holds it for a while; what it decides commits only if the turn is
//! still its own, in the transaction that ends the turn.

pub mod engine;
pub mod files;
mod turn;

use std::time::Duration;

use assent_contracts::SubjectId;
use assent_eventstore::StoreError;
use assent_http::ClientError;
use assent_runtime::ops::Watchdog;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sqlx::Row as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::turn::Outcome;
use crate::person_keys::KeyError;
use crate::state::Messaging;

/// Turns taken at once.
const TAKE: usize = 16;
/// How long a turn is held, beside what the engine may take.
const HOLD: Duration = Duration::from_secs(10);
/// How often turns are looked for when nothing announces them.
const POLL: Duration = Duration::from_millis(250);
/// A message that waits for longer than this goes to a human.
const PATIENCE: Duration = Duration::from_secs(600);

/// A message of hers that waits for an answer.
struct Taken {
    message: Uuid,
    conversation: Uuid,
    subject: SubjectId,
    /// That of the conversation when she wrote.
    generation: i32,
    /// Tells this taking from any other.
    attempt: i32,
    late: bool,
    /// It was opened before, and doesn't ask for a human.
    looked_at: bool,
}

/// Why a turn is still open.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Vault(#[from] ClientError),
    #[error(transparent)]
    PersonKeys(#[from] KeyError),
}

/// Answers until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn run(
    messaging: Messaging,
    stopping: CancellationToken,
    watchdog: Watchdog,
) -> Result<(), std::convert::Infallible> {
    // Each is of another conversation: who waits for a slow engine keeps nobody else waiting.
    let mut under_way = FuturesUnordered::new();
    while !stopping.is_cancelled() {
        watchdog.progress();
        let room = TAKE - under_way.len();
        let taken = take(&messaging, room).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the bot's turns can't be read");
            Vec::new()
        });
        let idle = taken.is_empty();
        under_way.extend(taken.into_iter().map(|turn| answer(&messaging, turn)));
        if idle {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = messaging.turns.notified() => {}
                () = tokio::time::sleep(POLL) => {}
                Some(()) = under_way.next() => {}
            }
        }
    }
    while under_way.next().await.is_some() {}
    Ok(())
}

async fn answer(messaging: &Messaging, turn: Taken) {
    let failed = match turn::carry_out(messaging, &turn).await {
        Ok(Outcome::Done) => return,
        Ok(Outcome::Waits) => false,
        Err(error) => {
            tracing::warn!(%error, message_id = %turn.message, "the bot has not answered yet");
            true
        }
    };
    if let Err(error) = put_back(messaging, &turn, failed).await {
        tracing::warn!(%error, message_id = %turn.message, "a turn can't be put back");
    }
}

/// Turns that are due and not behind another of the same conversation.
async fn take(messaging: &Messaging, room: usize) -> Result<Vec<Taken>, sqlx::Error> {
    const TURNS: &str = "
        UPDATE bot_turns SET not_before = now() + make_interval(secs => $2), attempts = attempts + 1
        WHERE message_id IN (
            SELECT message_id FROM bot_turns AS it
            WHERE not_before <= now()
              AND NOT EXISTS (SELECT FROM bot_turns AS before
                              WHERE before.conversation_id = it.conversation_id
                                AND before.position < it.position)
            ORDER BY not_before, position LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING message_id, conversation_id, subject_id, attempts,
                  since < now() - make_interval(secs => $3), generation, looked_at";
    let engine = messaging.config.conversations.engine.as_ref();
    let hold = HOLD + engine.map_or(Duration::ZERO, |engine| engine.timeout);
    let rows = sqlx::query(TURNS)
        .bind(room as i64)
        .bind(hold.as_secs_f64())
        .bind(PATIENCE.as_secs_f64())
        .fetch_all(messaging.pool())
        .await?;
    let turn = |row: &sqlx::postgres::PgRow| {
        Ok(Taken {
            message: row.try_get(0)?,
            conversation: row.try_get(1)?,
            subject: row.try_get(2)?,
            attempt: row.try_get(3)?,
            late: row.try_get(4)?,
            generation: row.try_get(5)?,
            looked_at: row.try_get(6)?,
        })
    };
    rows.iter().map(turn).collect()
}

/// Makes a turn due again: soon where it waits for its disclosure, after a growing pause where it failed.
async fn put_back(messaging: &Messaging, turn: &Taken, failed: bool) -> Result<(), sqlx::Error> {
    const PUT_BACK: &str = "
        UPDATE bot_turns
        SET looked_at = looked_at OR NOT $3,
            not_before = now() + make_interval(secs =>
                CASE WHEN $3 THEN least(0.2 * 2 ^ least(attempts, 8), 20)
                     ELSE least(0.1 * 2 ^ least(attempts, 5), 2) END)
        WHERE message_id = $1 AND attempts = $2";
    sqlx::query(PUT_BACK)
        .bind(turn.message)
        .bind(turn.attempt)
        .bind(failed)
        .execute(messaging.pool())
        .await
        .map(|_| ())
}
