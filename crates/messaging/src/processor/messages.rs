//! Messages of people, from a webhook into their rows. It guarantees that each is recorded once, and sealed
//! under its person's key or not at all.

use std::collections::HashMap;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{LookupRequest, LookupResponse};
use assent_contracts::messaging::{MESSAGE_RECEIVED, MessageReceived};
use assent_eventstore::{Append, StoreError};
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Failure;
use crate::api::webhook::said_at;
use crate::domain::conversation::Declares;
use crate::person_keys::{KeyError, LeasedKeys};
use crate::state::Messaging;
use crate::whatsapp::updates::Inbound;
use crate::{consequences, conversations, seen};

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
) -> Result<Vec<FromPerson>, Failure> {
    let mut known: Vec<(SubjectId, &Inbound)> = Vec::with_capacity(messages.len());
    let mut found = HashMap::new();
    for message in messages {
        let tokens = messaging.tokens(&message.from);
        let subject = match found.get(&tokens) {
            Some(subject) => *subject,
            None => {
                let request =
                    LookupRequest { phone: None, country: None, addresses: tokens.clone() };
                let answer: LookupResponse =
                    messaging.vault.post("/v1/subjects/lookup", &request, None).await?;
                found.insert(tokens, answer.subject_id);
                answer.subject_id
            }
        };
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
    Ok(Some(FromPerson { subject, declares, id, hash, kind, sealed, said_at }))
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
