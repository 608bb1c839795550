//! Conversations in the database. It guarantees that each row is the fold of its events, which commit with it
//! under the lock of the person's stream; what is to happen is decided by [`crate::domain::conversation`].

use std::collections::HashMap;

use assent_contracts::SubjectId;
use assent_contracts::conversation::{
    Answering, CONVERSATION_ASSIGNED, CONVERSATION_CLOSED, CONVERSATION_HANDED_OVER,
    CONVERSATION_OPENED, ConversationAssigned, ConversationClosed, ConversationHandedOver,
    ConversationOpened,
};
use assent_contracts::messaging::{MESSAGE_REFUSED, MessageRefused};
use assent_eventstore::{Append, StoreError};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::asks::Ask;
use crate::domain::conversation::{
    Command, Conversation, Declares, Event, Reason, State, decide, evolve,
};
use crate::domain::stop::{Will, Words};
use crate::state::Messaging;
use crate::whatsapp::updates::Said;

/// Why what the bot had queued doesn't go out: it has the conversation no more.
pub const HANDED_OVER: &str = "handed_over";

/// Selects conversations as [`Row::read`] reads them.
macro_rules! select_conversations {
    ($rest:literal) => {
        concat!(
            "SELECT id, subject_id, channel, state, assignee, reason, opened_at, heard_at, ",
            "changed_at, language, step, misses, disclosure, generation, disclosed_in, ",
            "(SELECT f.answered_at FROM free_entries f WHERE f.subject_id = conversations.subject_id) ",
            "FROM conversations ",
            $rest
        )
    };
}
pub(crate) use select_conversations;

/// A conversation as its row has it.
#[derive(Debug, Clone)]
pub struct Row {
    /// The conversation.
    pub conversation: Conversation,
    /// With whom.
    pub subject: SubjectId,
    /// On which channel.
    pub channel: String,
    /// Why it is not the bot who answers, or why it is over.
    pub reason: Option<String>,
    /// Since when.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// Her language, where something tells it.
    pub language: Option<String>,
    /// The bot's step that was answered last.
    pub step: Option<String>,
    /// How often in a row the bot didn't understand her.
    pub misses: u32,
    /// The message by which the bot said that it is one.
    pub disclosure: Option<Uuid>,
    /// How often it was handed to the bot after a human had it.
    pub generation: i32,
    /// In which languages the bot said that it is one.
    pub disclosed_in: Vec<String>,
    /// When she was answered in time, after she came by an advertisement.
    pub answered_at: Option<Timestamp>,
}

impl Row {
    /// Reads what [`select_conversations`] selects.
    ///
    /// # Errors
    /// When the row is none.
    pub fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let moment = |index| Ok::<_, sqlx::Error>(row.try_get::<SqlTimestamp, _>(index)?.to_jiff());
        let state = State::parse(row.try_get(3)?, row.try_get(4)?)
            .ok_or_else(|| sqlx::Error::Decode("no state of a conversation".into()))?;
        Ok(Self {
            conversation: Conversation { id: row.try_get(0)?, state, heard_at: moment(7)? },
            subject: row.try_get(1)?,
            channel: row.try_get(2)?,
            reason: row.try_get(5)?,
            opened_at: moment(6)?,
            changed_at: moment(8)?,
            language: row.try_get(9)?,
            step: row.try_get(10)?,
            misses: row.try_get::<i32, _>(11)?.unsigned_abs(),
            disclosure: row.try_get(12)?,
            generation: row.try_get(13)?,
            disclosed_in: row.try_get(14)?,
            answered_at: row.try_get::<Option<SqlTimestamp>, _>(15)?.map(SqlTimestamp::to_jiff),
        })
    }
}

/// The conversation of this id.
///
/// # Errors
/// When the database fails.
pub async fn find(conn: &mut PgConnection, id: Uuid) -> Result<Option<Row>, sqlx::Error> {
    const FIND: &str = select_conversations!("WHERE id = $1");
    let row = sqlx::query(FIND).bind(id).fetch_optional(conn).await?;
    row.as_ref().map(Row::read).transpose()
}

/// What a message declares: that was taken at the door, and no bot answers it.
#[must_use]
pub fn declares(words: &Words, said: &Said) -> Declares {
    let will = match said {
        Said::Text(text) => words.in_text(text),
        Said::Button { payload, text } => words.in_button(payload.as_deref(), text.as_deref()),
        Said::Other(_) => None,
    };
    match will {
        None if asks(words, said).is_some() => Declares::Request,
        None if matches!(said, Said::Text(text) if words.may_mean_stop(text)) => {
            Declares::PerhapsStop
        }
        None => Declares::Nothing,
        Some(Will::Stop) => Declares::Stop,
        Some(Will::Start | Will::Code(..)) => Declares::OptIn,
    }
}

/// What a message asks for about her data.
#[must_use]
pub fn asks(words: &Words, said: &Said) -> Option<Ask> {
    match said {
        Said::Text(text) => words.asks(text),
        Said::Button { payload, text } => {
            payload.iter().chain(text).find_map(|text| words.asks(text))
        }
        Said::Other(_) => None,
    }
}

/// A message of somebody's that is being recorded.
pub struct Heard {
    /// The message.
    pub message: Uuid,
    /// From whom.
    pub subject: SubjectId,
    /// When she wrote.
    pub at: Timestamp,
    /// What it declares.
    pub declares: Declares,
}

/// Which conversation each of these messages belongs to, in their order, with the events of that. What the bot
/// is to answer is put into its queue. Call it under the locks of their streams, with one message of each person.
///
/// # Errors
/// When the database fails.
pub async fn hear(
    messaging: &Messaging,
    conn: &mut PgConnection,
    heard: &[Heard],
    now: Timestamp,
) -> Result<(Vec<Option<Uuid>>, Vec<Append>), StoreError> {
    const OPEN: &str = select_conversations!("WHERE subject_id = ANY($1) AND state <> 'closed'");
    const TURNS: &str = "
        INSERT INTO bot_turns (message_id, conversation_id, subject_id, generation)
        SELECT t.message_id, c.id, c.subject_id, c.generation
        FROM unnest($1::uuid[], $2::uuid[]) AS t (message_id, conversation_id)
        JOIN conversations c ON c.id = t.conversation_id";
    let subjects: Vec<SubjectId> = heard.iter().map(|it| it.subject).collect();
    let mut open = HashMap::with_capacity(heard.len());
    for row in sqlx::query(OPEN).bind(subjects).fetch_all(&mut *conn).await? {
        let row = Row::read(&row)?;
        open.insert(row.subject, row.conversation);
    }
    let mut moving = Vec::with_capacity(heard.len());
    for it in heard {
        let current = open.remove(&it.subject);
        let command = Command::Hear {
            at: it.at,
            declares: it.declares,
            bot: messaging.config.conversations.bot.is_some(),
            new: messaging.ids.v4(),
        };
        // Hearing is never refused.
        let events = decide(current.as_ref(), &command).unwrap_or_default();
        moving.push(Moving { subject: it.subject, current, events });
    }
    let appends = record_all(messaging, &mut *conn, &mut moving, now).await?;
    let after =
        || heard.iter().zip(&moving).filter_map(|(it, to)| Some((it, to.current.as_ref()?)));
    let (messages, conversations): (Vec<Uuid>, Vec<Uuid>) = after()
        .filter(|(it, to)| to.state == State::Bot && it.declares == Declares::Nothing)
        .map(|(it, to)| (it.message, to.id))
        .unzip();
    if !messages.is_empty() {
        sqlx::query(TURNS).bind(messages).bind(conversations).execute(conn).await?;
    }
    let ids = moving.iter().map(|it| it.current.as_ref().map(|to| to.id)).collect();
    Ok((ids, appends))
}

/// A conversation of somebody's and what happens to it.
struct Moving {
    subject: SubjectId,
    current: Option<Conversation>,
    events: Vec<Event>,
}

/// Writes events of one conversation into its row, and gives them as they are published. Call it under the
/// lock of her stream.
///
/// # Errors
/// When the database fails.
pub async fn record(
    messaging: &Messaging,
    conn: &mut PgConnection,
    subject: SubjectId,
    current: Option<Conversation>,
    events: &[Event],
    now: Timestamp,
) -> Result<(Option<Conversation>, Vec<Append>), StoreError> {
    let mut moving = [Moving { subject, current, events: events.to_vec() }];
    let appends = record_all(messaging, conn, &mut moving, now).await?;
    let [Moving { current, .. }] = moving;
    Ok((current, appends))
}

/// The same for several people at once: the first events of all, then the second ones.
async fn record_all(
    messaging: &Messaging,
    conn: &mut PgConnection,
    moving: &mut [Moving],
    now: Timestamp,
) -> Result<Vec<Append>, StoreError> {
    let mut appends = Vec::new();
    let rounds = moving.iter().map(|it| it.events.len()).max().unwrap_or_default();
    for round in 0..rounds {
        for it in &mut *moving {
            if let Some(event) = it.events.get(round) {
                it.current = evolve(it.current.take(), event);
            }
        }
        let happened: Vec<Happened<'_>> = moving.iter().filter_map(|it| it.at(round)).collect();
        write(&mut *conn, &happened, now).await?;
        for (subject, it, event) in happened {
            if matches!(event, Event::Assigned(_) | Event::HumanCalled(_) | Event::Closed(_)) {
                appends.extend(silence(messaging, &mut *conn, subject, it.id, now).await?);
            }
            appends.extend(published(messaging, subject, it.id, event, now)?);
        }
    }
    Ok(appends)
}

/// Whose conversation, as it is after an event, and the event.
type Happened<'a> = (SubjectId, &'a Conversation, &'a Event);

impl Moving {
    fn at(&self, round: usize) -> Option<Happened<'_>> {
        Some((self.subject, self.current.as_ref()?, self.events.get(round)?))
    }
}

/// The bot has it no more: what waits for it is over, and what it has queued doesn't go out.
async fn silence(
    messaging: &Messaging,
    conn: &mut PgConnection,
    subject: SubjectId,
    conversation: Uuid,
    now: Timestamp,
) -> Result<Vec<Append>, StoreError> {
    const END: &str = "DELETE FROM bot_turns WHERE conversation_id = $1";
    const CANCEL: &str = "
        UPDATE intents SET state = 'refused', reasons = ARRAY[$3], claim_id = NULL,
               claim_until = NULL, started_at = NULL, changed_at = $2
        WHERE conversation_id = $1 AND author = 'bot' AND state IN ('queued', 'claimed')
        RETURNING id";
    // What is being sent may reach her; if it certainly doesn't, that is its end.
    const TAKE_BACK: &str = "
        UPDATE intents SET taken_back = true
        WHERE conversation_id = $1 AND author = 'bot' AND state = 'calling'";
    sqlx::query(END).bind(conversation).execute(&mut *conn).await?;
    let cancelled: Vec<Uuid> = sqlx::query_scalar(CANCEL)
        .bind(conversation)
        .bind(now.to_sqlx())
        .bind(HANDED_OVER)
        .fetch_all(&mut *conn)
        .await?;
    sqlx::query(TAKE_BACK).bind(conversation).execute(conn).await?;
    let refused = |message_id| {
        let event = MessageRefused { message_id, reasons: vec![HANDED_OVER.to_owned()], at: now };
        messaging.event(subject, messaging.ids.v7(), MESSAGE_REFUSED, &event, now)
    };
    cancelled.into_iter().map(refused).collect()
}

/// Something that the bot said was refused, or failed: a human is called where the bot has the conversation
/// still. Call it under the lock of their streams.
///
/// # Errors
/// When the database fails.
pub async fn unsaid(
    messaging: &Messaging,
    conn: &mut PgConnection,
    messages: &[Uuid],
    now: Timestamp,
) -> Result<Vec<Append>, StoreError> {
    const OF: &str = select_conversations!(
        "WHERE state = 'bot' AND id IN (
            SELECT conversation_id FROM intents
            WHERE id = ANY($1) AND author = 'bot' AND NOT taken_back)"
    );
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(OF).bind(messages).fetch_all(&mut *conn).await?;
    let mut appends = Vec::new();
    for row in &rows {
        let row = Row::read(row)?;
        let disclosure = row.disclosure.is_some_and(|it| messages.contains(&it));
        let reason = if disclosure { Reason::NotDisclosed } else { Reason::NotAnswered };
        let current = Some(row.conversation);
        let events = decide(current.as_ref(), &Command::CallHuman(reason)).unwrap_or_default();
        let (_, called) = record(messaging, &mut *conn, row.subject, current, &events, now).await?;
        appends.extend(called);
    }
    Ok(appends)
}

/// Writes what happened to conversations, one thing to each.
async fn write(
    conn: &mut PgConnection,
    happened: &[Happened<'_>],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const OPEN: &str = "
        INSERT INTO conversations (id, subject_id, state, reason, opened_at, heard_at, changed_at)
        SELECT id, subject_id, state, reason, $6, heard_at, $6
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[])
            AS t (id, subject_id, state, reason, heard_at)";
    const MOVE: &str = "
        UPDATE conversations SET state = t.state, assignee = t.assignee,
               reason = coalesce(t.reason, conversations.reason), heard_at = t.heard_at, changed_at = $6
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
            AS t (id, state, assignee, reason, heard_at)
        WHERE conversations.id = t.id";
    // It begins anew: it says again that it is a bot.
    const BEGIN_ANEW: &str = "
        UPDATE conversations SET disclosure = NULL, disclosed_in = '{}', step = NULL, misses = 0,
               generation = generation + 1
        WHERE id = ANY($1)";
    let (opened, moved): (Vec<Happened<'_>>, Vec<Happened<'_>>) =
        happened.iter().partition(|(.., event)| matches!(event, Event::Opened { .. }));
    let ids = |of: &[Happened<'_>]| -> Vec<Uuid> { of.iter().map(|(_, it, _)| it.id).collect() };
    let states = |of: &[Happened<'_>]| -> Vec<&'static str> {
        of.iter().map(|(_, it, _)| it.state.as_str()).collect()
    };
    let reasons = |of: &[Happened<'_>]| -> Vec<Option<&'static str>> {
        of.iter().map(|(.., event)| reason(event)).collect()
    };
    let heard = |of: &[Happened<'_>]| -> Vec<SqlTimestamp> {
        of.iter().map(|(_, it, _)| it.heard_at.to_sqlx()).collect()
    };
    if !opened.is_empty() {
        sqlx::query(OPEN)
            .bind(ids(&opened))
            .bind(opened.iter().map(|(subject, ..)| *subject).collect::<Vec<_>>())
            .bind(states(&opened))
            .bind(reasons(&opened))
            .bind(heard(&opened))
            .bind(now.to_sqlx())
            .execute(&mut *conn)
            .await?;
    }
    if !moved.is_empty() {
        let assignees: Vec<Option<&str>> =
            moved.iter().map(|(_, it, _)| it.state.assignee()).collect();
        sqlx::query(MOVE)
            .bind(ids(&moved))
            .bind(states(&moved))
            .bind(assignees)
            .bind(reasons(&moved))
            .bind(heard(&moved))
            .bind(now.to_sqlx())
            .execute(&mut *conn)
            .await?;
    }
    let anew: Vec<Happened<'_>> =
        moved.into_iter().filter(|(.., event)| matches!(event, Event::BotCalled(_))).collect();
    if !anew.is_empty() {
        sqlx::query(BEGIN_ANEW).bind(ids(&anew)).execute(conn).await?;
    }
    Ok(())
}

/// Why it isn't the bot who answers after this event, or why it is over.
const fn reason(event: &Event) -> Option<&'static str> {
    match event {
        Event::Opened { bot: false, .. } => Some(Reason::NoBot.code()),
        Event::Opened { .. } | Event::Heard { .. } | Event::Assigned(_) => None,
        Event::HumanCalled(reason) | Event::BotCalled(reason) | Event::Closed(reason) => {
            Some(reason.code())
        }
    }
}

/// An event as it is published; that she wrote again is published as her message.
fn published(
    messaging: &Messaging,
    subject: SubjectId,
    conversation_id: Uuid,
    event: &Event,
    at: Timestamp,
) -> Result<Option<Append>, StoreError> {
    let id = messaging.ids.v7();
    let handed_over = |to, reason: &str| {
        let reason = reason.to_owned();
        let event = ConversationHandedOver { conversation_id, to, reason, at };
        messaging.event(subject, id, CONVERSATION_HANDED_OVER, &event, at).map(Some)
    };
    match event {
        Event::Heard { .. } => Ok(None),
        Event::Opened { bot, .. } => {
            let answering = if *bot { Answering::Bot } else { Answering::Human };
            let event = ConversationOpened { conversation_id, answering, at };
            messaging.event(subject, id, CONVERSATION_OPENED, &event, at).map(Some)
        }
        Event::HumanCalled(reason) => handed_over(Answering::Human, reason.code()),
        Event::BotCalled(reason) => handed_over(Answering::Bot, reason.code()),
        Event::Assigned(to) => {
            let event = ConversationAssigned { conversation_id, assignee: to.clone(), at };
            messaging.event(subject, id, CONVERSATION_ASSIGNED, &event, at).map(Some)
        }
        Event::Closed(reason) => {
            let reason = reason.code().to_owned();
            let event = ConversationClosed { conversation_id, reason, at };
            messaging.event(subject, id, CONVERSATION_CLOSED, &event, at).map(Some)
        }
    }
}
