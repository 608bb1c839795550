//! One turn: what stands, what the bot does about it, and the one transaction that does it.

use assent_contracts::conversation::{BOT_DISCLOSED, BotDisclosed};
use assent_contracts::messaging::{MESSAGE_REQUESTED, MessageRequested};
use assent_eventstore::{Append, Session, to_the_end};
use assent_runtime::failpoint;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde_json::Value;
use sqlx::Row as _;
use uuid::Uuid;

use super::engine::Asked;
use super::{Failure, Taken};
use crate::conversations::{self, Row};
use crate::domain::bot::{Answer, Disclosed, EngineAnswer, Heard, Standing, Turn};
use crate::domain::content::Content;
use crate::domain::conversation::{Command, Reason, State, decide};
use crate::domain::intent;
use crate::person_keys::{KeyError, LeasedKeys};
use crate::restriction;
use crate::state::{Messaging, fenced};
use crate::stored::{self, Stored};
use crate::whatsapp::reading::said;
use crate::whatsapp::updates::Said;

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is over.
    Done,
    /// It is looked at again soon.
    Waits,
}

/// What stands when a turn is taken.
struct Facts {
    row: Row,
    /// Her message, sealed; none where the retention took it.
    content: Option<Vec<u8>>,
    disclosed: Disclosed,
    /// An answer of the bot's is on its way still: the next one could overtake it.
    busy: bool,
    /// Her language, where something tells it.
    language: Option<String>,
}

/// Carries out a turn. That of somebody who is gone is over; what fails for too long is a human's.
pub(super) async fn carry_out(messaging: &Messaging, turn: &Taken) -> Result<Outcome, Failure> {
    match attempt(messaging, turn).await {
        Err(Failure::PersonKeys(KeyError::Gone)) => drop_turn(messaging, turn).await,
        Err(error) if turn.late => {
            tracing::warn!(%error, message_id = %turn.message, "the bot can't answer in time");
            let in_silence = Turn::HandOver { reason: Reason::Late, say: None, discloses: None };
            finish(messaging, turn, in_silence, None).await
        }
        outcome => outcome,
    }
}

async fn attempt(messaging: &Messaging, turn: &Taken) -> Result<Outcome, Failure> {
    let facts = facts(messaging, turn).await?;
    let (Some(bot), Some(facts)) = (messaging.config.conversations.bot.clone(), facts) else {
        // There is no bot, or it is not the bot's any more.
        return drop_turn(messaging, turn).await;
    };
    // Until that is settled her message is opened once: each time is on record.
    let waits = facts.busy || facts.disclosed == Disclosed::OnItsWay;
    if waits && turn.looked_at && !turn.late {
        return Ok(Outcome::Waits);
    }
    let subject = turn.subject;
    // Before it is opened: what is restricted is for no bot, and for no engine outside, to evaluate.
    if restriction::stands(messaging, subject).await? {
        let in_silence = Turn::HandOver { reason: Reason::Restricted, say: None, discloses: None };
        return finish(messaging, turn, in_silence, None).await;
    }
    let keys = messaging.person_keys.lease("bot_turn", &[subject]).await?;
    let raw = match &facts.content {
        None => None,
        Some(sealed) => match keys.open(subject, turn.message, "content", sealed) {
            Err(KeyError::Foreign) => None,
            raw => Some(raw?),
        },
    };
    // What the retention took can't be answered any more: it counts as something that isn't text.
    let element: Value =
        raw.and_then(|raw| serde_json::from_slice(&raw).ok()).unwrap_or(Value::Null);
    let said = said(&element);
    let standing = Standing {
        disclosed: facts.disclosed,
        disclosed_in: facts.row.disclosed_in.clone(),
        language: facts.language.clone(),
        step: facts.row.step.clone(),
        misses: facts.row.misses,
        late: turn.late,
    };
    let now = messaging.clock.now();
    let mut next = bot.respond(&standing, heard(&said), now);
    // A disclosure that begins anew doesn't overtake what was being sent before, either.
    let would_overtake =
        matches!(next, Turn::Disclose { .. } | Turn::Say(_) | Turn::AskEngine | Turn::Nothing);
    if facts.busy && would_overtake {
        return Ok(Outcome::Waits);
    }
    let mut keys = keys;
    if next == Turn::AskEngine {
        let answer = ask_engine(messaging, turn, &standing, &said).await;
        next = bot.engine_answered(&standing, answer, messaging.clock.now());
        // The engine may take longer than a lease.
        keys = messaging.person_keys.lease("bot_turn", &[subject]).await?;
    }
    finish(messaging, turn, next, Some(keys)).await
}

/// Commits even if the caller goes away.
async fn finish(
    messaging: &Messaging,
    turn: &Taken,
    next: Turn,
    keys: Option<LeasedKeys>,
) -> Result<Outcome, Failure> {
    let (service, turn) = (messaging.clone(), Taken { ..*turn });
    to_the_end(async move { commit(&service, &turn, &next, keys.as_ref()).await }).await
}

fn heard(said: &Said) -> Heard<'_> {
    match said {
        Said::Text(text) => Heard::Text(text),
        Said::Button { payload, text } => Heard::Button(payload.as_deref(), text.as_deref()),
        Said::Other("reaction" | "sticker") => Heard::Sign,
        Said::Other(_) => Heard::Other,
    }
}

async fn ask_engine(
    messaging: &Messaging,
    turn: &Taken,
    standing: &Standing,
    said: &Said,
) -> Option<EngineAnswer> {
    let text = match said {
        Said::Text(text) => text,
        Said::Button { text: Some(text), .. } => text,
        Said::Button { .. } | Said::Other(_) => return None,
    };
    let asked = Asked {
        turn_id: turn.message,
        conversation_id: turn.conversation,
        language: standing.language.as_deref(),
        text,
        asked_at: messaging.clock.now(),
    };
    messaging.engine.as_ref()?.ask(&asked).await
}

/// What stands; none where the bot has nothing to answer any more.
async fn facts(messaging: &Messaging, turn: &Taken) -> Result<Option<Facts>, sqlx::Error> {
    const MESSAGE: &str = "SELECT content FROM inbound_messages WHERE id = $1";
    const DISCLOSURE: &str = "SELECT state, status FROM intents WHERE id = $1";
    const BUSY: &str = "
        SELECT EXISTS (SELECT FROM intents WHERE conversation_id = $1 AND author = 'bot'
                       AND state IN ('queued', 'claimed', 'calling'))";
    // That of a conversation before, else of what was last sent to her.
    const LANGUAGE: &str = "
        SELECT language FROM (
            (SELECT language, 1 AS rank FROM conversations
             WHERE subject_id = $1 AND language IS NOT NULL ORDER BY opened_at DESC LIMIT 1)
            UNION ALL
            (SELECT language, 2 FROM intents
             WHERE subject_id = $1 AND language IS NOT NULL AND state = 'accepted'
             ORDER BY requested_at DESC LIMIT 1)) AS known
        ORDER BY rank LIMIT 1";
    let mut conn = messaging.pool().acquire().await?;
    let Some(row) = conversations::find(&mut conn, turn.conversation).await? else {
        return Ok(None);
    };
    if !is_the_bots(&row, turn) || !fenced(&mut conn, &[turn.subject]).await?.is_empty() {
        return Ok(None);
    }
    let content: Option<Option<Vec<u8>>> =
        sqlx::query_scalar(MESSAGE).bind(turn.message).fetch_optional(&mut *conn).await?;
    let disclosed = match row.disclosure {
        None => Disclosed::No,
        Some(id) => {
            let found = sqlx::query(DISCLOSURE).bind(id).fetch_optional(&mut *conn).await?;
            match found {
                Some(found) => disclosed(found.try_get(0)?, found.try_get(1)?),
                None => Disclosed::Failed,
            }
        }
    };
    let busy = sqlx::query_scalar(BUSY).bind(turn.conversation).fetch_one(&mut *conn).await?;
    let language = match &row.language {
        Some(language) => Some(language.clone()),
        None => sqlx::query_scalar(LANGUAGE).bind(turn.subject).fetch_optional(&mut *conn).await?,
    };
    Ok(Some(Facts { content: content.flatten(), disclosed, busy, language, row }))
}

/// Whether the bot has it, and has had it since she wrote.
fn is_the_bots(row: &Row, turn: &Taken) -> bool {
    row.conversation.state == State::Bot && row.generation == turn.generation
}

/// How far the disclosure came, by its state and what the provider reported. What may have been sent is
/// waited for: webhooks tell.
fn disclosed(state: &str, status: Option<&str>) -> Disclosed {
    match intent::State::parse(state) {
        Some(intent::State::Accepted) if status == Some("failed") => Disclosed::Failed,
        Some(intent::State::Accepted) => Disclosed::Yes,
        Some(intent::State::Refused | intent::State::Failed) | None => Disclosed::Failed,
        Some(_) => Disclosed::OnItsWay,
    }
}

/// The one transaction of a turn. It is given up where the turn is another's by now.
async fn commit(
    messaging: &Messaging,
    turn: &Taken,
    next: &Turn,
    keys: Option<&LeasedKeys>,
) -> Result<Outcome, Failure> {
    const END: &str = "DELETE FROM bot_turns WHERE message_id = $1 AND attempts = $2";
    const HELD: &str = "
        SELECT EXISTS (SELECT FROM bot_turns WHERE message_id = $1 AND attempts = $2)";
    if *next == Turn::Wait {
        return Ok(Outcome::Waits);
    }
    let now = messaging.clock.now();
    let mut session = messaging.store.begin().await?;
    session.lock_versions(&[turn.subject]).await?;
    let goes_on = matches!(next, Turn::Disclose { .. });
    let is_ours: bool = if goes_on {
        let held = sqlx::query_scalar(HELD).bind(turn.message).bind(turn.attempt);
        held.fetch_one(session.conn()).await?
    } else {
        let ended = sqlx::query(END).bind(turn.message).bind(turn.attempt);
        ended.execute(session.conn()).await?.rows_affected() == 1
    };
    let row = conversations::find(session.conn(), turn.conversation).await?;
    let row = row.filter(|it| is_the_bots(it, turn));
    let gone = !fenced(session.conn(), &[turn.subject]).await?.is_empty();
    let (true, Some(row), false) = (is_ours, row, gone) else {
        session.rollback().await?;
        return if is_ours { drop_turn(messaging, turn).await } else { Ok(Outcome::Done) };
    };
    let mut writing = Writing { messaging, session: &mut session, turn, row: &row, keys, now };
    let appends = match next {
        Turn::Wait | Turn::Nothing | Turn::AskEngine => Vec::new(),
        Turn::Disclose { content, languages } => writing.disclose(content, languages).await?,
        Turn::Say(answer) => writing.answer(answer).await?,
        Turn::HandOver { reason, say, discloses } => {
            // First, for it takes back what the bot has queued: its last words are not among that.
            let mut appends = writing.call_human(*reason).await?;
            appends.extend(match (say, discloses) {
                (Some(say), Some(languages)) => writing.disclose(say, languages).await?,
                (Some(say), None) => writing.say(say, ANSWER).await?.1,
                (None, _) => Vec::new(),
            });
            appends
        }
    };
    session.append(appends).await?;
    failpoint::hit_async("messaging.bot_turn").await;
    session.commit().await?;
    failpoint::hit_async("messaging.bot_turn_committed").await;
    messaging.queued.notify_one();
    Ok(if goes_on { Outcome::Waits } else { Outcome::Done })
}

async fn drop_turn(messaging: &Messaging, turn: &Taken) -> Result<Outcome, Failure> {
    const DROP: &str = "DELETE FROM bot_turns WHERE message_id = $1 AND attempts = $2";
    sqlx::query(DROP).bind(turn.message).bind(turn.attempt).execute(messaging.pool()).await?;
    Ok(Outcome::Done)
}

/// The id of a bot's message is made of the message that it answers, and of the generation.
const NAMESPACE: Uuid = Uuid::from_u128(0x3f1d_6a52_90c4_4f0e_8d21_7be0_51a9_c6d4);
/// The bot's messages about one of hers.
const ANSWER: &str = "answer";
const DISCLOSURE: &str = "disclosure";

struct Writing<'a> {
    messaging: &'a Messaging,
    session: &'a mut Session,
    turn: &'a Taken,
    row: &'a Row,
    /// None: it says nothing.
    keys: Option<&'a LeasedKeys>,
    now: Timestamp,
}

impl Writing<'_> {
    /// Queues what the bot says. It goes out through the gate like any other message.
    async fn say(&mut self, content: &Content, what: &str) -> Result<(Uuid, Vec<Append>), Failure> {
        const INSERT: &str = "
            INSERT INTO intents (id, subject_id, purpose, channel, parameters, state, requested_at,
                                 changed_at, kind, conversation_id, author)
            VALUES ($1, $2, $3, $4, $5, 'queued', $6, $6, $7, $8, 'bot')";
        let Self { messaging, turn, .. } = self;
        let name = format!("{} {} {what}", turn.message, turn.generation);
        let id = Uuid::new_v5(&NAMESPACE, name.as_bytes());
        let purpose = &messaging.config.conversations.purpose;
        let text = stored::write(&Stored::Content(content.clone()));
        let keys = self.keys.ok_or(KeyError::LeaseOver)?;
        let sealed = keys.seal(turn.subject, id, "parameters", &text)?;
        sqlx::query(INSERT)
            .bind(id)
            .bind(turn.subject)
            .bind(purpose)
            .bind(&self.row.channel)
            .bind(sealed)
            .bind(self.now.to_sqlx())
            .bind(content.kind())
            .bind(turn.conversation)
            .execute(self.session.conn())
            .await?;
        let event = MessageRequested {
            campaign_id: None,
            message_id: id,
            purpose: purpose.clone(),
            channel: self.row.channel.clone(),
            template: content.kind().to_owned(),
            at: self.now,
        };
        let append = self.messaging.event(turn.subject, id, MESSAGE_REQUESTED, &event, self.now)?;
        Ok((id, vec![append]))
    }

    /// Calls a human. That is never refused: the bot has the conversation.
    async fn call_human(&mut self, reason: Reason) -> Result<Vec<Append>, Failure> {
        let current = self.row.conversation.clone();
        let events = decide(Some(&current), &Command::CallHuman(reason)).unwrap_or_default();
        let (messaging, conn) = (self.messaging, self.session.conn());
        let subject = self.turn.subject;
        let recorded =
            conversations::record(messaging, conn, subject, Some(current), &events, self.now);
        Ok(recorded.await?.1)
    }

    /// Says that it is a bot; the message is remembered, for nothing else is done before it was taken.
    async fn disclose(
        &mut self,
        content: &Content,
        languages: &[String],
    ) -> Result<Vec<Append>, Failure> {
        const REMEMBER: &str = "
            UPDATE conversations SET disclosure = $2, changed_at = $3, disclosed_in = disclosed_in || $4
            WHERE id = $1";
        // Who changes the language is told again.
        let what = format!("{DISCLOSURE} {}", languages.join(" "));
        let (id, mut appends) = self.say(content, &what).await?;
        sqlx::query(REMEMBER)
            .bind(self.turn.conversation)
            .bind(id)
            .bind(self.now.to_sqlx())
            .bind(languages)
            .execute(self.session.conn())
            .await?;
        let event = BotDisclosed {
            conversation_id: self.turn.conversation,
            message_id: id,
            languages: languages.to_vec(),
            at: self.now,
        };
        let event_id = self.messaging.ids.v7();
        let subject = self.turn.subject;
        appends.push(self.messaging.event(subject, event_id, BOT_DISCLOSED, &event, self.now)?);
        Ok(appends)
    }

    /// Answers, and keeps where the conversation stands.
    async fn answer(&mut self, answer: &Answer) -> Result<Vec<Append>, Failure> {
        const KEEP: &str = "
            UPDATE conversations SET language = $2, step = $3, misses = $4, changed_at = $5
            WHERE id = $1";
        sqlx::query(KEEP)
            .bind(self.turn.conversation)
            .bind(&answer.language)
            .bind(&answer.step)
            .bind(i32::try_from(answer.misses).unwrap_or(i32::MAX))
            .bind(self.now.to_sqlx())
            .execute(self.session.conn())
            .await?;
        Ok(self.say(&answer.content, ANSWER).await?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_provider_took_counts_as_told() {
        for (state, status, expected) in [
            ("queued", None, Disclosed::OnItsWay),
            ("claimed", None, Disclosed::OnItsWay),
            ("calling", None, Disclosed::OnItsWay),
            ("uncertain", None, Disclosed::OnItsWay),
            ("accepted", None, Disclosed::Yes),
            ("accepted", Some("delivered"), Disclosed::Yes),
            ("accepted", Some("failed"), Disclosed::Failed),
            ("refused", None, Disclosed::Failed),
            ("failed", None, Disclosed::Failed),
        ] {
            assert_eq!(disclosed(state, status), expected, "{state} {status:?}");
        }
    }
}
