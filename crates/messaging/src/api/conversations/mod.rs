//! Conversations over HTTP: who waits, what was written, who answers. It guarantees that what was written is
//! opened for nobody without the right, and for nobody before that is on record with its reason.

pub mod acts;
pub mod list;
pub mod notes;
pub mod read;
pub mod reply;

use assent_eventstore::to_the_end;
use assent_http::{Code, Problem};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::messages::{database, store};
use crate::consequences;
use crate::conversations::{self, Row};
use crate::domain::conversation::{Command, Refusal, State, decide};
use crate::domain::free_entry::free_until;
use crate::state::{Messaging, fenced};

/// A conversation, without what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConversationView {
    /// The conversation.
    pub conversation_id: Uuid,
    /// With whom.
    pub subject_id: Uuid,
    /// On which channel.
    pub channel: String,
    /// Who answers: `bot`, `waiting` (a human is needed), `human` or `closed`.
    pub state: String,
    /// The human who answers, by the name of the key.
    pub assignee: Option<String>,
    /// Why it changed hands or ended: `human_asked`, `flow`, `not_understood`, `not_text`, `not_disclosed`,
    /// `not_answered`, `engine_failed`, `late`, `no_bot`, `operator`, `idle` or `stopped`.
    pub reason: Option<String>,
    /// Her language, where something tells it.
    pub language: Option<String>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// When she last wrote.
    #[schema(value_type = String, format = DateTime)]
    pub heard_at: Timestamp,
    /// Until when free-form messages can reach her.
    #[schema(value_type = String, format = DateTime)]
    pub window_until: Timestamp,
    /// Until when messages to her cost nothing, since she came by an advertisement and was answered; none: they do.
    /// It says nothing of what may be sent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub free_until: Option<Timestamp>,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}

impl ConversationView {
    /// A conversation as it stands now.
    fn of(messaging: &Messaging, row: Row) -> Self {
        let heard_at = row.conversation.heard_at;
        let (length, now) = (messaging.config.campaigns.free_entry, messaging.clock.now());
        let free_until = row.answered_at.map(|it| free_until(it, length)).filter(|it| *it > now);
        Self {
            conversation_id: row.conversation.id,
            subject_id: row.subject,
            channel: row.channel,
            state: row.conversation.state.as_str().to_owned(),
            assignee: row.conversation.state.assignee().map(str::to_owned),
            reason: row.reason,
            language: row.language,
            opened_at: row.opened_at,
            heard_at,
            window_until: heard_at.checked_add(consequences::WINDOW).unwrap_or(heard_at),
            free_until,
            changed_at: row.changed_at,
        }
    }
}

/// The conversation of this id.
async fn find(messaging: &Messaging, id: Uuid) -> Result<Row, Problem> {
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    let row = conversations::find(&mut conn, id).await.map_err(database)?;
    row.ok_or_else(|| Code::ConversationUnknown.into())
}

/// Does what a human wants, with its events, in one transaction.
async fn act(messaging: &Messaging, id: Uuid, command: Command) -> Result<Row, Problem> {
    let subject = find(messaging, id).await?.subject;
    let service = messaging.clone();
    to_the_end(async move {
        let mut session = service.store.begin().await.map_err(store)?;
        session.lock_versions(&[subject]).await.map_err(store)?;
        if !fenced(session.conn(), &[subject]).await.map_err(database)?.is_empty() {
            return Err(Code::SubjectErased.into());
        }
        let row = conversations::find(session.conn(), id).await.map_err(database)?;
        let row = row.ok_or(Code::ConversationUnknown)?;
        let current = Some(row.conversation);
        let events = decide(current.as_ref(), &command).map_err(refused)?;
        let now = service.clock.now();
        let recorded =
            conversations::record(&service, session.conn(), subject, current, &events, now);
        let (_, appends) = recorded.await.map_err(store)?;
        session.append(appends).await.map_err(store)?;
        let after = conversations::find(session.conn(), id).await.map_err(database)?;
        session.commit().await.map_err(store)?;
        after.ok_or_else(|| Code::ConversationUnknown.into())
    })
    .await
}

/// Nothing, if this human has the conversation. Call it under the lock of her stream.
pub(super) async fn still_has(
    conn: &mut PgConnection,
    id: Uuid,
    human: &str,
) -> Result<(), Problem> {
    let row = conversations::find(conn, id).await.map_err(database)?;
    match row.ok_or(Code::ConversationUnknown)?.conversation.state {
        State::Human(has) if has == human => Ok(()),
        State::Human(has) => Err(refused(Refusal::Taken(has))),
        State::Closed => Err(refused(Refusal::Closed)),
        state => Err(Problem::new(Code::ConversationStateConflict)
            .detail("it was handed over meanwhile")
            .with("state", state.as_str())),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let problem = Problem::new(Code::ConversationStateConflict).detail(refusal.to_string());
    match refusal {
        Refusal::Closed => problem.with("state", State::Closed.as_str()),
        Refusal::Taken(assignee) => problem.with("state", "human").with("assignee", assignee),
        Refusal::NoBot => problem,
    }
}

/// The name of a colleague's key: it is published, and free text could be anything.
fn check_name(messaging: &Messaging, name: &str) -> Result<(), Problem> {
    if messaging.config.keys.has(name, "conversations:write") {
        return Ok(());
    }
    Err(Problem::new(Code::ValidationFailed)
        .detail("assignee: no key of this name may answer (conversations:write)"))
}
