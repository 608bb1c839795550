//! Opens what is to be sent: the addresses, and what each message says.

use std::collections::HashMap;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{ResolveRequest, ResolveResponse, ResolvedAddress};
use jiff_sqlx::ToSqlx as _;
use sqlx::Row as _;
use uuid::Uuid;

use super::{Batch, LEASE_EXPIRED, distinct};
use crate::domain::content::{Content, Values};
use crate::domain::intent::Happening;
use crate::intents::Claimed;
use crate::person_keys::{KeyError, LeasedKeys};
use crate::stored::{self, Stored};
use crate::whatsapp::KEPT;

/// The kind of a reaction.
const REACTION: &str = "reaction";

/// An intent that passed everything so far.
pub(super) struct Ready {
    pub(super) intent: Claimed,
    pub(super) address: ResolvedAddress,
    pub(super) said: Said,
}

/// What it says, opened.
pub(super) enum Said {
    /// A template's values.
    Values(Values),
    /// Free-form content, and the provider's id of the message that it reacts to.
    Content(Content, Option<String>),
    /// The configured confirmation of a stop.
    Confirmation,
}

impl Batch {
    /// The addresses, and what is to be said. Gives the keys too: what the provider answers is sealed under
    /// them.
    pub(super) async fn resolve(&self, intents: Vec<Claimed>) -> (Vec<Ready>, Option<LeasedKeys>) {
        if intents.is_empty() {
            return (Vec::new(), None);
        }
        let subjects: Vec<SubjectId> = distinct(intents.iter().map(|it| it.subject));
        let request = ResolveRequest { reason: "send".to_owned(), subjects: subjects.clone() };
        let vault = &self.messaging.vault;
        let resolved = vault.post::<_, ResolveResponse>("/v1/addresses/resolve", &request, None);
        let keys = self.messaging.person_keys.lease("send", &subjects);
        let (resolved, keys) = tokio::join!(resolved, keys);
        let (resolved, keys) = match (resolved, keys) {
            (Ok(resolved), Ok(keys)) if resolved.addresses.len() == subjects.len() => {
                (resolved, keys)
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "the vault gives no addresses: nothing is sent");
                self.put_off(&intents, "vault_unreachable").await;
                return (Vec::new(), None);
            }
            _ => {
                tracing::error!("the vault gave another number of addresses than asked for");
                self.put_off(&intents, "vault_unreachable").await;
                return (Vec::new(), None);
            }
        };
        let reactions = match self.messages_of_hers(&intents, &keys).await {
            Ok(reactions) => reactions,
            Err(error) => {
                tracing::warn!(%error, "messages of people can't be read: nothing is sent");
                self.put_off(&intents, "obstacles_unreadable").await;
                return (Vec::new(), None);
            }
        };
        let mut addresses: HashMap<SubjectId, ResolvedAddress> = subjects
            .into_iter()
            .zip(resolved.addresses)
            .filter_map(|(subject, address)| Some((subject, address?)))
            .collect();
        let mut ready = Vec::with_capacity(intents.len());
        let mut refused = Vec::new();
        for intent in intents {
            let Some(address) = addresses.get(&intent.subject).cloned() else {
                refused.push(self.settlement(&intent, Happening::Denied, "subject_unknown"));
                continue;
            };
            match said(&intent, &keys, &reactions) {
                Ok(said) => ready.push(Ready { intent, address, said }),
                Err(KeyError::LeaseOver) => refused.push(self.deferral(&intent, LEASE_EXPIRED)),
                Err(KeyError::Gone | KeyError::Foreign) => {
                    refused.push(self.settlement(&intent, Happening::Denied, "key_destroyed"));
                }
            }
        }
        addresses.clear();
        self.settle(refused).await;
        (ready, Some(keys))
    }

    /// The messages of people that are reacted to, sealed.
    async fn messages_of_hers(
        &self,
        intents: &[Claimed],
        keys: &LeasedKeys,
    ) -> Result<MessagesOfHers, sqlx::Error> {
        const READ: &str = "
            SELECT id, subject_id, content FROM inbound_messages
            WHERE id = ANY($1) AND content IS NOT NULL AND said_at > $2";
        let reacting = intents.iter().filter(|it| it.kind == REACTION);
        let messages: Vec<Uuid> = reacting
            .filter_map(|it| match opened(it, keys).ok()? {
                Stored::Content(Content::Reaction { message_id, .. }) => Some(message_id),
                _ => None,
            })
            .collect();
        if messages.is_empty() {
            return Ok(HashMap::new());
        }
        // The provider keeps messages for 30 days.
        let since = self.messaging.clock.now() - KEPT;
        let rows = sqlx::query(READ)
            .bind(messages)
            .bind(since.to_sqlx())
            .fetch_all(self.messaging.pool())
            .await?;
        let message =
            |row: &sqlx::postgres::PgRow| Ok(((row.try_get(1)?, row.try_get(0)?), row.try_get(2)?));
        rows.iter().map(message).collect()
    }
}

/// What a message says.
fn said(intent: &Claimed, keys: &LeasedKeys, messages: &MessagesOfHers) -> Result<Said, KeyError> {
    if intent.parameters.is_none() {
        return Ok(match intent.template {
            Some(_) => Said::Values(intent.values.clone().unwrap_or_default()),
            None => Said::Confirmation,
        });
    }
    match opened(intent, keys)? {
        Stored::Values(values) => Ok(Said::Values(values)),
        Stored::Content(content) => {
            let reacts_to = match &content {
                Content::Reaction { message_id, .. } => {
                    provider_id(intent.subject, *message_id, keys, messages)?
                }
                _ => None,
            };
            Ok(Said::Content(content, reacts_to))
        }
    }
}

/// The provider's id of a message of hers.
fn provider_id(
    subject: SubjectId,
    message_id: Uuid,
    keys: &LeasedKeys,
    messages: &MessagesOfHers,
) -> Result<Option<String>, KeyError> {
    let Some(sealed) = messages.get(&(subject, message_id)) else { return Ok(None) };
    let raw = match keys.open(subject, message_id, "content", sealed) {
        Err(KeyError::LeaseOver) => return Err(KeyError::LeaseOver),
        raw => raw.ok(),
    };
    let raw: Option<serde_json::Value> = raw.and_then(|raw| serde_json::from_slice(&raw).ok());
    Ok(raw.and_then(|raw| Some(raw.get("id")?.as_str()?.to_owned())))
}

fn opened(intent: &Claimed, keys: &LeasedKeys) -> Result<Stored, KeyError> {
    let sealed = intent.parameters.as_ref().ok_or(KeyError::Foreign)?;
    let raw = keys.open(intent.subject, intent.id, "parameters", sealed)?;
    stored::read(&raw).ok_or(KeyError::Foreign)
}

/// Messages of people, by whose and which, sealed.
type MessagesOfHers = HashMap<(SubjectId, Uuid), Vec<u8>>;
