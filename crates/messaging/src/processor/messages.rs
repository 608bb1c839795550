//! Messages of people, from a webhook into their rows. It guarantees that each is recorded once, and sealed
//! under its person's key or not at all.

use std::collections::HashMap;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{Asked, Standing, Who};
use assent_contracts::messaging::{MESSAGE_RECEIVED, MessageReceived};
use assent_eventstore::{Append, StoreError};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::Failure;
use crate::api::webhook::said_at;
use crate::declarations::Declared;
use crate::domain::conversation::Declares;
use crate::domain::identity::{Before, doubt};
use crate::domain::stop::{Form, Will};
use crate::identities::Told;
use crate::person_keys::{KeyError, LeasedKeys};
use crate::state::Messaging;
use crate::whatsapp::updates::Inbound;
use crate::{consequences, conversations, intents, seen, tasks};

/// Messages that are sealed under one lease of keys.
const SEAL_TOGETHER: usize = 100;

/// An inbound message of a person we know.
pub struct FromPerson {
    /// Whose.
    pub subject: SubjectId,
    /// Who else is one with her.
    pub one_with: Vec<SubjectId>,
    /// Since when she is known.
    registered_at: Option<Timestamp>,
    declares: Declares,
    id: Uuid,
    hash: Vec<u8>,
    kind: &'static str,
    sealed: Vec<u8>,
    /// Keyed hashes of the provider's hash of her identity, one per key.
    identity_hashes: Vec<Vec<u8>>,
    said_at: i64,
}

/// Who sent a message.
#[derive(Clone)]
struct Sender {
    subject: SubjectId,
    one_with: Vec<SubjectId>,
    registered_at: Option<Timestamp>,
}

/// What the messages of people come to.
#[derive(Default)]
pub struct OfPeople {
    /// Those of people we know.
    pub messages: Vec<FromPerson>,
    /// What they tell of people's names.
    pub told: Vec<Told>,
    /// Stops that are more people's than the address says.
    pub stops: Vec<Declared>,
}

/// The messages of people we know, sealed under their keys. What strangers wrote goes with the body: there
/// is no key to keep it under, and no reason.
///
/// # Errors
/// When the vault doesn't answer, or later than its keys may be used.
pub async fn of_people(
    messaging: &Messaging,
    messages: Vec<(&Inbound, Timestamp)>,
) -> Result<OfPeople, Failure> {
    let answered: Vec<&str> =
        messages.iter().filter_map(|(message, _)| message.answers.as_deref()).collect();
    let answered = intents::sent_to(messaging, &answered).await?;
    let mut known: Vec<(Sender, &Inbound)> = Vec::with_capacity(messages.len());
    let mut all = OfPeople::default();
    let mut found: HashMap<Asked, Who> = HashMap::new();
    for (message, heard_at) in messages {
        let answers = message.answers.as_deref().and_then(|id| answered.get(id)).copied();
        let asked = messaging.asked(&message.from, answers);
        let who = match found.get(&asked) {
            Some(who) => who.clone(),
            None => found.entry(asked.clone()).or_insert(messaging.who_is(asked).await?).clone(),
        };
        // Without a number, what she answers tells who she is. With one it says so only where that is new.
        let is_news = message.from.phone.is_none() || who.standing != Standing::Known;
        let whose = answers.or_else(|| who.subject().filter(|_| message.from.phone.is_none()));
        if let Some(whose) = whose.filter(|_| is_news) {
            let times = (said_at(message.said_at, heard_at), heard_at);
            all.told.push(Told::answering(&message.from, whose, times));
        }
        if let Some(whose) = answers.filter(|_| who.standing == Standing::InDoubt) {
            all.stops.extend(stop_of(messaging, message, whose, heard_at));
        }
        let sender = |subject| Sender {
            subject,
            one_with: who.everybody().filter(|it| *it != subject).collect(),
            registered_at: who.registered_at,
        };
        known.extend(who.subject().map(|subject| (sender(subject), message)));
    }
    let mut sealed = Vec::with_capacity(known.len());
    // No more under one lease than are sealed in a small part of it.
    for some in known.chunks(SEAL_TOGETHER) {
        let mut subjects: Vec<SubjectId> = some.iter().map(|(sender, _)| sender.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let keys = messaging.person_keys.lease("receive_message", &subjects).await?;
        for (sender, message) in some {
            sealed.extend(from_person(messaging, &keys, sender.clone(), message)?);
        }
    }
    all.messages = sealed;
    Ok(all)
}

/// A stop from where it is in doubt who writes, in answer to a message: whoever got that is stopped too.
fn stop_of(
    messaging: &Messaging,
    message: &Inbound,
    whose: SubjectId,
    heard_at: Timestamp,
) -> Option<Declared> {
    let declares = conversations::declares(&messaging.config.words, &message.said);
    let source = format!("stop of {whose} {}", message.id);
    (declares == Declares::Stop).then(|| Declared {
        source: messaging.provider_hashes(&source).into_iter().next(),
        subjects: vec![whose],
        said_at: said_at(message.said_at, heard_at),
        heard_at,
        ..Declared::new(messaging.ids.v7(), Will::Stop, Form::Attributed)
    })
}

/// None when she is gone.
fn from_person(
    messaging: &Messaging,
    keys: &LeasedKeys,
    Sender { subject, one_with, registered_at }: Sender,
    message: &Inbound,
) -> Result<Option<FromPerson>, Failure> {
    let id = messaging.ids.v7();
    let content = message.raw.to_string();
    let sealed = match keys.seal(subject, id, "content", content.as_bytes()) {
        Ok(sealed) => sealed,
        Err(KeyError::Gone) => return Ok(None),
        Err(error) => return Err(Failure::PersonKeys(error)),
    };
    let Some(hash) = messaging.provider_hashes(&message.id).into_iter().next() else {
        return Ok(None);
    };
    let (kind, said_at) = (message.said.kind(), message.said_at);
    let declares = conversations::declares(&messaging.config.words, &message.said);
    let identity = message.identity_hash.as_ref();
    let identity = identity.map(|it| messaging.keyed_hashes(&format!("identity hash {it}")));
    let identity_hashes = identity.unwrap_or_default();
    Ok(Some(FromPerson {
        subject,
        one_with,
        registered_at,
        declares,
        id,
        hash,
        kind,
        sealed,
        identity_hashes,
        said_at,
    }))
}

/// Records a message from a person, unless it was seen before. What she wrote is kept in its row only,
/// which ends with the retention: a topic keeps everything.
///
/// # Errors
/// When the database fails.
pub async fn receive(
    messaging: &Messaging,
    conn: &mut PgConnection,
    message: &FromPerson,
    gone: &[SubjectId],
) -> Result<Vec<Append>, StoreError> {
    const INSERT: &str = "
        INSERT INTO inbound_messages
            (id, subject_id, kind, content, received_at, said_at, conversation_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let now = messaging.clock.now();
    let said = said_at(message.said_at, now);
    if !seen::is_new(conn, &message.hash, now).await? {
        return Ok(Vec::new());
    }
    consequences::she_wrote(&mut *conn, message.subject, said).await?;
    look_who(messaging, &mut *conn, message, said).await?;
    if message.declares == Declares::PerhapsStop {
        let all = message.one_with.iter().chain([&message.subject]);
        let all: Vec<SubjectId> = all.filter(|it| !gone.contains(it)).copied().collect();
        tasks::stop_unclear(messaging, &mut *conn, &all).await?;
    }
    let heard = conversations::Heard {
        message: message.id,
        subject: message.subject,
        at: said,
        declares: message.declares,
    };
    let (conversation, mut appends) =
        conversations::hear(messaging, &mut *conn, &heard, now).await?;
    sqlx::query(INSERT)
        .bind(message.id)
        .bind(message.subject)
        .bind(message.kind)
        .bind(&message.sealed)
        .bind(now.to_sqlx())
        .bind(said.to_sqlx())
        .bind(conversation)
        .execute(&mut *conn)
        .await?;
    let event = MessageReceived {
        message_id: message.id,
        kind: message.kind.to_owned(),
        content: None,
        at: now,
        said_at: Some(said),
    };
    let id = messaging.ids.v7();
    appends.push(messaging.event(message.subject, id, MESSAGE_RECEIVED, &event, now)?);
    Ok(appends)
}

/// Whether it may be somebody else who has her number by now. Under the lock of her stream.
async fn look_who(
    messaging: &Messaging,
    conn: &mut PgConnection,
    message: &FromPerson,
    said: Timestamp,
) -> Result<(), sqlx::Error> {
    const NOTE: &str = "
        WITH before AS (SELECT heard_at, identity_hash FROM identities WHERE subject_id = $1)
        INSERT INTO identities AS held (subject_id, heard_at, identity_hash) VALUES ($1, $2, $3)
        ON CONFLICT (subject_id) DO UPDATE
            SET heard_at = greatest(held.heard_at, excluded.heard_at),
                identity_hash = CASE WHEN held.heard_at > excluded.heard_at THEN held.identity_hash
                    ELSE coalesce(excluded.identity_hash, held.identity_hash) END
        RETURNING (SELECT heard_at FROM before), (SELECT identity_hash FROM before)";
    let row = sqlx::query(NOTE)
        .bind(message.subject)
        .bind(said.to_sqlx())
        .bind(message.identity_hashes.first())
        .fetch_one(&mut *conn)
        .await?;
    let before = Before {
        // Who never wrote was silent since she is known.
        heard_at: row
            .try_get::<Option<SqlTimestamp>, _>(0)?
            .map(SqlTimestamp::to_jiff)
            .or(message.registered_at),
        hash: row.try_get(1)?,
    };
    let silence = messaging.config.sending.silence;
    let silence = SignedDuration::try_from(silence).unwrap_or(SignedDuration::MAX);
    match doubt(&before, said, &message.identity_hashes, silence) {
        Some(why) => tasks::doubt(messaging, conn, message.subject, why, said).await,
        None => Ok(()),
    }
}
