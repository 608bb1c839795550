//! Messages of people, from a webhook into their rows. It guarantees that each is recorded once, and sealed
//! under its person's key or not at all.

use std::collections::{HashMap, HashSet};

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
use crate::requests::{self, Asked as AskedFor, InDoubt};
use crate::state::Messaging;
use crate::whatsapp::updates::Inbound;
use crate::{consequences, conversations, free_entries, intents, seen, tasks};

/// Messages that are sealed under one lease of keys.
const SEAL_TOGETHER: usize = 100;
/// Most people that the vault is asked about at once.
const ASK_TOGETHER: usize = 100;

/// An inbound message of a person we know.
pub struct FromPerson {
    /// Whose.
    pub subject: SubjectId,
    /// Who else is one with her.
    pub one_with: Vec<SubjectId>,
    /// Since when she is known.
    registered_at: Option<Timestamp>,
    declares: Declares,
    /// What it asks for about her data.
    pub asked: Option<AskedFor>,
    by_advertisement: bool,
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
    /// Whether all that is known says that it is she.
    known: bool,
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
    /// What is asked for where it is in doubt who asks.
    pub doubted: Vec<InDoubt>,
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
    let answers =
        |message: &Inbound| message.answers.as_deref().and_then(|id| answered.get(id)).copied();
    let asked: Vec<Asked> =
        messages.iter().map(|(it, _)| messaging.asked(&it.from, answers(it))).collect();
    let found = who(messaging, &asked).await?;
    for ((message, heard_at), asked) in messages.into_iter().zip(&asked) {
        let answers = answers(message);
        let Some(who) = found.get(asked) else { continue };
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
        if who.standing == Standing::InDoubt {
            all.doubted.extend(doubted(messaging, message, who));
        }
        let sender = |subject| Sender {
            subject,
            one_with: who.everybody().filter(|it| *it != subject).collect(),
            registered_at: who.registered_at,
            known: who.standing == Standing::Known,
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

/// Who is meant by each of these, asked once for each.
async fn who(messaging: &Messaging, asked: &[Asked]) -> Result<HashMap<Asked, Who>, Failure> {
    let distinct: Vec<&Asked> = asked.iter().collect::<HashSet<_>>().into_iter().collect();
    let mut found = HashMap::with_capacity(distinct.len());
    for some in distinct.chunks(ASK_TOGETHER) {
        let some: Vec<Asked> = some.iter().map(|it| (*it).clone()).collect();
        let answers = messaging.who(some.clone()).await?;
        found.extend(some.into_iter().zip(answers));
    }
    Ok(found)
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

/// What is asked for by names of which it is in doubt whose they are by now.
fn doubted(messaging: &Messaging, message: &Inbound, who: &Who) -> Option<InDoubt> {
    let ask = conversations::asks(&messaging.config.words, &message.said)?;
    let subject = who.named.first().copied()?;
    let source = messaging.provider_hashes(&format!("request of {subject} {}", message.id));
    Some(InDoubt { subject, ask, source: source.into_iter().next()? })
}

/// None when she is gone.
fn from_person(
    messaging: &Messaging,
    keys: &LeasedKeys,
    Sender { subject, one_with, registered_at, known }: Sender,
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
    let by_number = message.from.phone.is_some();
    let asks = conversations::asks(&messaging.config.words, &message.said);
    let asked = asks.map(|ask| AskedFor { ask, by_number, known });
    let identity = message.identity_hash.as_ref();
    let identity = identity.map(|it| messaging.keyed_hashes(&format!("identity hash {it}")));
    let identity_hashes = identity.unwrap_or_default();
    Ok(Some(FromPerson {
        subject,
        one_with,
        registered_at,
        declares,
        asked,
        by_advertisement: message.by_advertisement,
        id,
        hash,
        kind,
        sealed,
        identity_hashes,
        said_at,
    }))
}

/// Records messages from people, but those that were seen before. What they wrote is kept in its row only,
/// which ends with the retention: a topic keeps everything. What one person wrote is recorded in this order.
///
/// # Errors
/// When the database fails.
pub async fn receive(
    messaging: &Messaging,
    conn: &mut PgConnection,
    messages: Vec<&FromPerson>,
    gone: &[SubjectId],
) -> Result<Vec<Append>, StoreError> {
    let mut appends = Vec::new();
    let mut rest = messages;
    while !rest.is_empty() {
        // One message of each: they change nothing of each other's, and so go together.
        let mut people = HashSet::new();
        let (some, later) = rest.into_iter().partition(|it| people.insert(it.subject));
        rest = later;
        appends.extend(receive_some(messaging, &mut *conn, some, gone).await?);
    }
    Ok(appends)
}

/// One message of each of these people.
async fn receive_some(
    messaging: &Messaging,
    conn: &mut PgConnection,
    mut messages: Vec<&FromPerson>,
    gone: &[SubjectId],
) -> Result<Vec<Append>, StoreError> {
    const INSERT: &str = "
        INSERT INTO inbound_messages
            (id, subject_id, kind, content, received_at, said_at, conversation_id)
        SELECT id, subject_id, kind, content, $7, said_at, conversation_id
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::timestamptz[], $6::uuid[])
            AS t (id, subject_id, kind, content, said_at, conversation_id)";
    let now = messaging.clock.now();
    let hashes = messages.iter().map(|it| it.hash.as_slice()).collect();
    let mut new = seen::new_of(conn, hashes, now).await?;
    messages.retain(|it| new.remove(&it.hash));
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let said: Vec<Timestamp> = messages.iter().map(|it| said_at(it.said_at, now)).collect();
    let said_sql: Vec<SqlTimestamp> = said.iter().map(|it| it.to_sqlx()).collect();
    let subjects: Vec<SubjectId> = messages.iter().map(|it| it.subject).collect();
    consequences::they_wrote(&mut *conn, &subjects, &said_sql).await?;
    for (message, said) in messages.iter().zip(&said).filter(|(it, _)| it.by_advertisement) {
        free_entries::comes(messaging, &mut *conn, message.subject, *said).await?;
    }
    look_who(messaging, &mut *conn, &messages, &said).await?;
    for message in messages.iter().filter(|it| it.declares == Declares::PerhapsStop) {
        let all = message.one_with.iter().chain([&message.subject]);
        let all: Vec<SubjectId> = all.filter(|it| !gone.contains(it)).copied().collect();
        tasks::stop_unclear(messaging, &mut *conn, &all).await?;
    }
    for (message, said) in messages.iter().zip(&said) {
        if let Some(asked) = message.asked {
            let whose = (message.subject, &message.one_with[..]);
            let source = (&message.hash[..], *said);
            requests::hear(messaging, &mut *conn, whose, asked, source).await?;
        }
    }
    let heard: Vec<conversations::Heard> = messages
        .iter()
        .zip(&said)
        .map(|(it, said)| conversations::Heard {
            message: it.id,
            subject: it.subject,
            at: *said,
            declares: it.declares,
        })
        .collect();
    let (conversations, mut appends) =
        conversations::hear(messaging, &mut *conn, &heard, now).await?;
    sqlx::query(INSERT)
        .bind(messages.iter().map(|it| it.id).collect::<Vec<_>>())
        .bind(subjects)
        .bind(messages.iter().map(|it| it.kind).collect::<Vec<_>>())
        .bind(messages.iter().map(|it| it.sealed.as_slice()).collect::<Vec<_>>())
        .bind(said_sql)
        .bind(conversations)
        .bind(now.to_sqlx())
        .execute(&mut *conn)
        .await?;
    for (message, said) in messages.iter().zip(said) {
        let event = MessageReceived {
            message_id: message.id,
            kind: message.kind.to_owned(),
            content: None,
            at: now,
            said_at: Some(said),
        };
        let id = messaging.ids.v7();
        appends.push(messaging.event(message.subject, id, MESSAGE_RECEIVED, &event, now)?);
    }
    Ok(appends)
}

/// Whether it may be somebody else who has a number by now. Under the locks of their streams, one message of each.
async fn look_who(
    messaging: &Messaging,
    conn: &mut PgConnection,
    messages: &[&FromPerson],
    said: &[Timestamp],
) -> Result<(), sqlx::Error> {
    const BEFORE: &str = "
        SELECT subject_id, heard_at, identity_hash FROM identities WHERE subject_id = ANY($1)";
    const NOTE: &str = "
        INSERT INTO identities AS held (subject_id, heard_at, identity_hash)
        SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bytea[])
        ON CONFLICT (subject_id) DO UPDATE
            SET heard_at = greatest(held.heard_at, excluded.heard_at),
                identity_hash = CASE WHEN held.heard_at > excluded.heard_at THEN held.identity_hash
                    ELSE coalesce(excluded.identity_hash, held.identity_hash) END";
    let subjects: Vec<SubjectId> = messages.iter().map(|it| it.subject).collect();
    let mut held: HashMap<SubjectId, Before> = HashMap::with_capacity(messages.len());
    for row in sqlx::query(BEFORE).bind(&subjects).fetch_all(&mut *conn).await? {
        let heard_at = row.try_get::<Option<SqlTimestamp>, _>(1)?.map(SqlTimestamp::to_jiff);
        held.insert(row.try_get(0)?, Before { heard_at, hash: row.try_get(2)? });
    }
    let hashes: Vec<Option<&[u8]>> =
        messages.iter().map(|it| it.identity_hashes.first().map(Vec::as_slice)).collect();
    sqlx::query(NOTE)
        .bind(subjects)
        .bind(said.iter().map(|it| it.to_sqlx()).collect::<Vec<_>>())
        .bind(hashes)
        .execute(&mut *conn)
        .await?;
    let silence = messaging.config.sending.silence;
    let silence = SignedDuration::try_from(silence).unwrap_or(SignedDuration::MAX);
    for (message, said) in messages.iter().zip(said) {
        let mut before =
            held.remove(&message.subject).unwrap_or(Before { heard_at: None, hash: None });
        // Who never wrote was silent since she is known.
        before.heard_at = before.heard_at.or(message.registered_at);
        if let Some(why) = doubt(&before, *said, &message.identity_hashes, silence) {
            tasks::doubt(messaging, &mut *conn, message.subject, why, *said).await?;
        }
    }
    Ok(())
}
