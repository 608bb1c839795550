//! All that this service does for erasure, as the participant `messaging`. It guarantees that nothing
//! of the person is written after the fence, and that nothing is called deleted while a stored
//! webhook body may name her; that a step is done once and answered is the participant's part.

use assent_contracts::SubjectId;
use assent_contracts::erasure::{Command, Step};
use assent_contracts::messaging::{SUBJECT_ERASED, SubjectErased};
use assent_eventstore::{Session, StoreError};
use assent_participant::{Held, Steps, Touched, held};
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::media;
use crate::state::Messaging;

/// Why a step is still open.
#[derive(Debug, thiserror::Error)]
pub enum StillOpen {
    /// Something unread may name her.
    #[error("a stored webhook body, a name or an opt-in from before the fence may name the person")]
    Unprocessed,
    /// The saga deletes only whom it has fenced: this database is older than the saga.
    #[error("the person is not fenced here")]
    NotFenced,
    /// A file about her may still be at the provider.
    #[error("a file about the person may still be at the provider")]
    File(#[source] media::DeleteError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for StillOpen {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What this service holds of a person. The tombstone (her last event, and her fence) stays: it holds
/// no more than her random id.
static HELD: [Held; 15] = [
    Held::new("intents", "intents WHERE subject_id = $1", "id::text"),
    Held::new("campaign_members", "campaign_members WHERE subject_id = $1", "campaign_id::text"),
    Held::new("inbound_messages", "inbound_messages WHERE subject_id = $1", "id::text"),
    Held::new("declarations", "declarations WHERE subjects @> ARRAY[$1]", "id::text"),
    Held::new("conversations", "conversations WHERE subject_id = $1", "id::text"),
    Held::new("conversation_notes", "conversation_notes WHERE subject_id = $1", "id::text"),
    Held::new("bot_turns", "bot_turns WHERE subject_id = $1", "message_id::text"),
    Held::new("person_bars", "person_bars WHERE subject_id = $1", "bar"),
    Held::new(
        "told_identities",
        "told_identities WHERE subjects @> ARRAY[$1]",
        "encode(hash, 'hex')",
    ),
    Held::new("identities", "identities WHERE subject_id = $1", "subject_id::text"),
    Held::new("tasks", "tasks WHERE subject_id = $1", "id::text"),
    Held::new("free_entries", "free_entries WHERE subject_id = $1", "subject_id::text"),
    Held::new("media", "media WHERE subject_id = $1", "provider_id"),
    held::EVENTS,
    held::IDEMPOTENCY_KEYS,
];

impl Steps for Messaging {
    const PARTICIPANT: &'static str = "messaging";
    const CONSUMER: &'static str = "messaging.erasure";
    type Error = StillOpen;

    async fn carry_out(
        &self,
        session: &mut Session,
        command: &Command,
        touched: &mut Touched,
    ) -> Result<(), StillOpen> {
        let subject = command.subject_id;
        match command.step {
            Step::Fence => {
                fence(self, session, command, touched).await?;
                touched.keep("fence", "stays_erased", None);
            }
            Step::Delete => {
                all_processed(session.conn(), subject).await?;
                media::delete_hers(self, subject).await.map_err(StillOpen::File)?;
                delete(self, session, command, touched).await?;
            }
            // Her key is the vault's; what was leased of it here has ended with its lease.
            Step::DestroyKeys => {}
            Step::Sweep => {
                all_processed(session.conn(), subject).await?;
                held::find(session.conn(), &HELD, subject, touched).await?;
            }
        }
        Ok(())
    }
}

/// From this commit on nothing of hers is written; what was queued is refused. What is being called at
/// this moment may start within its lease, which is waited out before the answer.
async fn fence(
    messaging: &Messaging,
    session: &mut Session,
    command: &Command,
    touched: &mut Touched,
) -> Result<(), StoreError> {
    const FENCE: &str = "
        INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $2, $3)
        ON CONFLICT (subject_id) DO NOTHING";
    const CANCEL: &str = "
        UPDATE intents SET state = 'refused', reasons = '{erased}', claim_id = NULL,
               claim_until = NULL, changed_at = $2
        WHERE subject_id = $1 AND state IN ('queued', 'claimed')
        RETURNING id";
    let now = messaging.clock.now();
    session.lock_versions(&[command.subject_id]).await?;
    sqlx::query(FENCE)
        .bind(command.subject_id)
        .bind(command.request_id)
        .bind(now.to_sqlx())
        .execute(session.conn())
        .await?;
    touched.add("fences", [command.request_id]);
    let cancelled: Vec<Uuid> = sqlx::query_scalar(CANCEL)
        .bind(command.subject_id)
        .bind(now.to_sqlx())
        .fetch_all(session.conn())
        .await?;
    touched.add("cancelled", cancelled);
    Ok(())
}

/// Nothing that came in before the fence waits to be processed. Bodies are sealed: which of them name
/// her can't be told without processing them.
async fn all_processed(conn: &mut PgConnection, subject: SubjectId) -> Result<(), StillOpen> {
    const WAITING: &str = "
        SELECT EXISTS (SELECT FROM webhook_bodies WHERE received_at <= fenced_at)
            OR EXISTS (SELECT FROM told_identities
                       WHERE sealed IS NOT NULL AND told_at <= fenced_at)
            OR EXISTS (SELECT FROM declarations
                       WHERE will IN ('start', 'code') AND settled_at IS NULL AND heard_at <= fenced_at)
        FROM fences WHERE subject_id = $1";
    match sqlx::query_scalar(WAITING).bind(subject).fetch_optional(conn).await? {
        Some(false) => Ok(()),
        Some(true) => Err(StillOpen::Unprocessed),
        None => Err(StillOpen::NotFenced),
    }
}

async fn delete(
    messaging: &Messaging,
    session: &mut Session,
    command: &Command,
    touched: &mut Touched,
) -> Result<(), StoreError> {
    let now = messaging.clock.now();
    session.lock_versions(&[command.subject_id]).await?;
    let event = SubjectErased { request_id: command.request_id, at: now };
    let id = messaging.ids.v7();
    let append = messaging.event(command.subject_id, id, SUBJECT_ERASED, &event, now)?;
    session.append(vec![append]).await?;
    held::delete(session.conn(), &HELD, command.subject_id, touched).await?;
    Ok(())
}
