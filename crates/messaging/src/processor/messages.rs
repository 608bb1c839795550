//! Messages of people, from a webhook into their rows. It guarantees that each is recorded once, and sealed
//! under its person's key or not at all.

use std::collections::HashMap;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::LookupResponse;
use assent_contracts::messaging::{MESSAGE_RECEIVED, MessageReceived};
use assent_eventstore::{Append, StoreError};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::Failure;
use crate::api::webhook::said_at;
use crate::domain::conversation::Declares;
use crate::domain::identity::{Before, doubt};
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
    declares: Declares,
    id: Uuid,
    hash: Vec<u8>,
    kind: &'static str,
    sealed: Vec<u8>,
    /// Keyed hash of the provider's hash of her identity.
    identity_hash: Option<Vec<u8>>,
    said_at: i64,
}

/// The messages of people we know, sealed under their keys. What strangers wrote goes with the body: there
/// is no key to keep it under, and no reason.
///
/// # Errors
/// When the vault doesn't answer, or later than its keys may be used.
pub async fn of_people(
    messaging: &Messaging,
    messages: Vec<&Inbound>,
    told: &mut Vec<Told>,
) -> Result<Vec<FromPerson>, Failure> {
    let numberless = messages.iter().filter(|it| it.from.phone.is_none());
    let answered: Vec<&str> = numberless.filter_map(|it| it.answers.as_deref()).collect();
    let answered = intents::sent_to(messaging, &answered).await?;
    let mut known: Vec<(SubjectId, &Inbound)> = Vec::with_capacity(messages.len());
    let mut found = HashMap::new();
    for message in messages {
        let tokens = messaging.tokens(&message.from);
        let subject = match found.get(&tokens) {
            Some(subject) => *subject,
            None => {
                let request = messaging.lookup(&message.from);
                let answer: LookupResponse =
                    messaging.vault.post("/v1/subjects/lookup", &request, None).await?;
                found.insert(tokens, answer.subject_id);
                answer.subject_id
            }
        };
        // Without a number, what she answers tells who she is.
        let without_number = message.answers.as_deref().filter(|_| message.from.phone.is_none());
        let answers = without_number.and_then(|id| answered.get(id)).copied();
        let subject = subject.or(answers);
        if message.from.phone.is_none() {
            told.extend(subject.map(|it| Told::answering(&message.from, answers.unwrap_or(it))));
        }
        known.extend(subject.map(|subject| (subject, message)));
    }
    let mut sealed = Vec::with_capacity(known.len());
    // No more under one lease than are sealed in a small part of it.
    for some in known.chunks(SEAL_TOGETHER) {
        let mut subjects: Vec<SubjectId> = some.iter().map(|(subject, _)| *subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let keys = messaging.person_keys.lease("receive_message", &subjects).await?;
        for (subject, message) in some {
            sealed.extend(from_person(messaging, &keys, *subject, message)?);
        }
    }
    Ok(sealed)
}

/// None when she is gone.
fn from_person(
    messaging: &Messaging,
    keys: &LeasedKeys,
    subject: SubjectId,
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
    let identity_hash = identity.map(|it| messaging.keyed_hash(&format!("identity hash {it}")));
    Ok(Some(FromPerson { subject, declares, id, hash, kind, sealed, identity_hash, said_at }))
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
        .bind(&message.identity_hash)
        .fetch_one(&mut *conn)
        .await?;
    let before = Before {
        heard_at: row.try_get::<Option<SqlTimestamp>, _>(0)?.map(SqlTimestamp::to_jiff),
        hash: row.try_get(1)?,
    };
    let silence = messaging.config.sending.silence;
    let silence = SignedDuration::try_from(silence).unwrap_or(SignedDuration::MAX);
    match doubt(&before, said, message.identity_hash.as_deref(), silence) {
        Some(why) => tasks::doubt(messaging, conn, message.subject, why, said).await,
        None => Ok(()),
    }
}
