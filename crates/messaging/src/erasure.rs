//! All that this service does for erasure, as the participant `messaging`. It guarantees that nothing
//! of the person is written after the fence, and that nothing is called deleted while a stored
//! webhook body may name her; that a step is done once and answered is the participant's part.

use std::collections::HashMap;

use assent_contracts::SubjectId;
use assent_contracts::erasure::Step;
use assent_contracts::messaging::{SUBJECT_ERASED, SubjectErased};
use assent_contracts::purposes::PurposeCommand;
use assent_eventstore::{Session, StoreError};
use assent_participant::{Held, PurposeRows, PurposeTask, Steps, Task, held, open, subjects};
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
    /// A message of the purpose is at the provider at this moment.
    #[error("a message of the purpose is being sent")]
    Calling,
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
static HELD: [Held; 16] = [
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
    Held::new("asked_requests", "asked_requests WHERE subject_id = $1", "id::text"),
    Held::new("tasks", "tasks WHERE subject_id = $1", "id::text"),
    Held::new("free_entries", "free_entries WHERE subject_id = $1", "subject_id::text"),
    Held::new("media", "media WHERE subject_id = $1", "provider_id"),
    held::EVENTS,
    held::IDEMPOTENCY_KEYS,
];

/// What this service holds of one purpose of a person. What she wrote herself, and files, are of no single purpose.
static OF_PURPOSE: [PurposeRows; 3] = [
    PurposeRows::new(
        "intents",
        "intents WHERE subject_id = $1 AND purpose = $2 AND requested_at <= $3",
        "id::text",
    ),
    // Who has agreed anew may be sent what was drafted before: her place there is that message's.
    PurposeRows::new(
        "campaign_members",
        "campaign_members WHERE subject_id = $1 AND campaign_id IN
            (SELECT campaign_id FROM campaigns WHERE purpose = $2 AND drafted_at <= $3)
            AND NOT EXISTS (SELECT FROM intents WHERE intents.subject_id = $1
                AND intents.campaign_id = campaign_members.campaign_id
                AND intents.requested_at > $3)",
        "campaign_id::text",
    ),
    // Not before it has reached the consent service: until then it is what she wants.
    PurposeRows::new(
        "declarations",
        "declarations WHERE subjects @> ARRAY[$1] AND purpose = $2 AND heard_at <= $3
            AND settled_at IS NOT NULL",
        "id::text",
    ),
];

impl Steps for Messaging {
    const PARTICIPANT: &'static str = "messaging";
    const CONSUMER: &'static str = "messaging.erasure";
    type Error = StillOpen;

    async fn carry_out(
        &self,
        session: &mut Session,
        step: Step,
        tasks: &mut [Task],
    ) -> Result<(), StillOpen> {
        match step {
            Step::Fence => {
                fence(self, session, tasks).await?;
                for task in open(tasks) {
                    task.touched.keep("fence", "stays_erased", None);
                }
            }
            Step::Delete => {
                all_processed(session.conn(), tasks).await?;
                media::delete_theirs(self, &subjects(tasks)).await.map_err(StillOpen::File)?;
                delete(self, session, tasks).await?;
            }
            // Their keys are the vault's; what was leased of them here has ended with its lease.
            Step::DestroyKeys => {}
            Step::Sweep => {
                all_processed(session.conn(), tasks).await?;
                forget_asked(session.conn(), &subjects(tasks)).await?;
                held::find(session.conn(), &HELD, tasks).await?;
            }
        }
        Ok(())
    }

    /// Nothing of hers is fenced here: the consent service's word keeps the purpose from being sent, until she agrees
    /// anew. What is deleted was asked for before.
    async fn carry_out_for_purpose(
        &self,
        session: &mut Session,
        task: &mut PurposeTask,
    ) -> Result<(), StillOpen> {
        session.lock_versions(&[task.command.subject_id]).await?;
        match task.command.purpose_step {
            Step::Fence => {
                let cancelled = cancel_purpose(self, session.conn(), &task.command).await?;
                task.touched.add("cancelled", cancelled);
                task.touched.keep("message_log", "log_stays_whole", None);
                task.touched.keep("contact_data", "not_of_one_purpose", None);
            }
            Step::Delete => {
                if is_called(session.conn(), &task.command).await? {
                    task.put_off(StillOpen::Calling);
                    return Ok(());
                }
                task.delete(session.conn(), &OF_PURPOSE).await?;
                let lifted = forget_lifting(session.conn(), &task.command).await?;
                task.touched.count("lifted_bars", lifted);
            }
            Step::DestroyKeys => {}
            Step::Sweep => {
                take_out_late(session.conn(), &task.command).await?;
                task.find(session.conn(), &OF_PURPOSE).await?;
            }
        }
        Ok(())
    }
}

/// What was queued of the purpose is refused. What is being called at this moment may start within its lease, which is
/// waited out before the answer.
async fn cancel_purpose(
    messaging: &Messaging,
    conn: &mut PgConnection,
    command: &PurposeCommand,
) -> Result<Vec<Uuid>, sqlx::Error> {
    const CANCEL: &str = "
        UPDATE intents SET state = 'refused', reasons = '{erased}', claim_id = NULL,
               claim_until = NULL, changed_at = $3
        WHERE subject_id = $1 AND purpose = $2 AND requested_at <= $4
          AND state IN ('queued', 'claimed')
        RETURNING id";
    sqlx::query_scalar(CANCEL)
        .bind(command.subject_id)
        .bind(&command.purpose)
        .bind(messaging.clock.now().to_sqlx())
        .bind(command.until.to_sqlx())
        .fetch_all(conn)
        .await
}

/// What was under way when she was taken out: an audience that was being read may have taken her in again, and an opt-in of
/// before may have been told to the consent service since. Nothing goes to her for either.
async fn take_out_late(
    conn: &mut PgConnection,
    command: &PurposeCommand,
) -> Result<(), sqlx::Error> {
    const TAKE_OUT: &str = "
        WITH declared AS (
            DELETE FROM declarations WHERE subjects @> ARRAY[$1] AND purpose = $2
                AND heard_at <= $3 AND settled_at IS NOT NULL)
        DELETE FROM campaign_members WHERE subject_id = $1 AND state <> 'started' AND campaign_id IN
            (SELECT campaign_id FROM campaigns WHERE purpose = $2 AND drafted_at <= $3)";
    sqlx::query(TAKE_OUT)
        .bind(command.subject_id)
        .bind(&command.purpose)
        .bind(command.until.to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether one of the purpose's messages is in a dispatcher's hands. One whose claim has lapsed is in nobody's: in a restored
/// database it would stay so until the service serves, and the service waits for this step.
async fn is_called(conn: &mut PgConnection, command: &PurposeCommand) -> Result<bool, sqlx::Error> {
    const CALLED: &str = "
        SELECT EXISTS (SELECT FROM intents WHERE subject_id = $1 AND purpose = $2
                       AND requested_at <= $3 AND state IN ('claimed', 'calling')
                       AND claim_until > now())";
    sqlx::query_scalar(CALLED)
        .bind(command.subject_id)
        .bind(&command.purpose)
        .bind(command.until.to_sqlx())
        .fetch_one(conn)
        .await
}

/// That whoever writes from her number now has agreed to the purpose is known no more: it may be asked again.
async fn forget_lifting(
    conn: &mut PgConnection,
    command: &PurposeCommand,
) -> Result<u64, sqlx::Error> {
    const FORGET: &str = "
        UPDATE person_bars SET lifted_for = array_remove(lifted_for, $2)
        WHERE subject_id = $1 AND $2 = ANY(lifted_for)";
    let forget = sqlx::query(FORGET).bind(command.subject_id).bind(&command.purpose);
    Ok(forget.execute(conn).await?.rows_affected())
}

/// From this commit on nothing of theirs is written; what was queued is refused. What is being called at
/// this moment may start within its lease, which is waited out before the answer.
async fn fence(
    messaging: &Messaging,
    session: &mut Session,
    tasks: &mut [Task],
) -> Result<(), StoreError> {
    const FENCE: &str = "
        INSERT INTO fences (subject_id, request_id, fenced_at)
        SELECT subject_id, request_id, $3
        FROM unnest($1::uuid[], $2::uuid[]) AS t (subject_id, request_id)
        ON CONFLICT (subject_id) DO NOTHING";
    const CANCEL: &str = "
        UPDATE intents SET state = 'refused', reasons = '{erased}', claim_id = NULL,
               claim_until = NULL, changed_at = $2
        WHERE subject_id = ANY($1) AND state IN ('queued', 'claimed')
        RETURNING subject_id, id";
    let (now, people) = (messaging.clock.now(), subjects(tasks));
    session.lock_versions(&people).await?;
    let requests: Vec<Uuid> = open(tasks).map(|task| task.command.request_id).collect();
    sqlx::query(FENCE)
        .bind(&people)
        .bind(requests)
        .bind(now.to_sqlx())
        .execute(session.conn())
        .await?;
    let rows: Vec<(SubjectId, Uuid)> =
        sqlx::query_as(CANCEL).bind(&people).bind(now.to_sqlx()).fetch_all(session.conn()).await?;
    let mut cancelled: HashMap<SubjectId, Vec<Uuid>> = HashMap::new();
    for (subject, id) in rows {
        cancelled.entry(subject).or_default().push(id);
    }
    for task in open(tasks) {
        task.touched.add("fences", [task.command.request_id]);
        let hers = cancelled.remove(&task.command.subject_id).unwrap_or_default();
        task.touched.add("cancelled", hers);
    }
    Ok(())
}

/// Nothing that came in before the fence waits to be processed; who may still be named is put off. Bodies are sealed:
/// which of them name her can't be told without processing them.
async fn all_processed(conn: &mut PgConnection, tasks: &mut [Task]) -> Result<(), sqlx::Error> {
    const WAITING: &str = "
        SELECT subject_id,
               EXISTS (SELECT FROM webhook_bodies WHERE received_at <= fenced_at)
            OR EXISTS (SELECT FROM told_identities
                       WHERE sealed IS NOT NULL AND told_at <= fenced_at)
            OR EXISTS (SELECT FROM declarations
                       WHERE will IN ('start', 'code') AND settled_at IS NULL AND heard_at <= fenced_at)
        FROM fences WHERE subject_id = ANY($1)";
    let rows: Vec<(SubjectId, bool)> =
        sqlx::query_as(WAITING).bind(subjects(tasks)).fetch_all(conn).await?;
    let waiting: HashMap<SubjectId, bool> = rows.into_iter().collect();
    for task in tasks {
        match waiting.get(&task.command.subject_id) {
            Some(false) => {}
            Some(true) => task.put_off(StillOpen::Unprocessed),
            None => task.put_off(StillOpen::NotFenced),
        }
    }
    Ok(())
}

/// A replica of the version before deletes all but what she asked for by messages, of which it knows nothing: the sweep of
/// one that does would find that for ever. Behind her fence nothing of it is written again.
async fn forget_asked(conn: &mut PgConnection, people: &[SubjectId]) -> Result<(), sqlx::Error> {
    const FORGET: &str = "DELETE FROM asked_requests WHERE subject_id = ANY($1)";
    sqlx::query(FORGET).bind(people).execute(conn).await.map(|_| ())
}

async fn delete(
    messaging: &Messaging,
    session: &mut Session,
    tasks: &mut [Task],
) -> Result<(), StoreError> {
    let now = messaging.clock.now();
    session.lock_versions(&subjects(tasks)).await?;
    let mut appends = Vec::with_capacity(tasks.len());
    for task in open(tasks) {
        let event = SubjectErased { request_id: task.command.request_id, at: now };
        let id = messaging.ids.v7();
        let subject = task.command.subject_id;
        appends.push(messaging.event(subject, id, SUBJECT_ERASED, &event, now)?);
    }
    session.append(appends).await?;
    held::delete(session.conn(), &HELD, tasks).await?;
    Ok(())
}
