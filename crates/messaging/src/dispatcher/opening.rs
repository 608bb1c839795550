//! Opens what is to be sent: the addresses, and what each message says.

use std::collections::HashMap;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{ResolveRequest, ResolveResponse, ResolvedAddress};
use jiff::SignedDuration;
use jiff_sqlx::ToSqlx as _;
use sqlx::Row as _;
use uuid::Uuid;

use super::{Batch, distinct};
use crate::domain::content::{Content, Values};
use crate::domain::intent::Happening;
use crate::intents::Claimed;
use crate::person_keys::LeasedKeys;
use crate::stored::{self, Stored};

/// The kind of a reaction.
const REACTION: &str = "reaction";
/// How long the provider keeps messages.
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);

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
    /// The addresses, and the parameters of those that have some.
    pub(super) async fn resolve(&self, intents: Vec<Claimed>) -> Vec<Ready> {
        if intents.is_empty() {
            return Vec::new();
        }
        let subjects: Vec<SubjectId> = distinct(intents.iter().map(|it| it.subject));
        let with_parameters: Vec<SubjectId> =
            distinct(intents.iter().filter(|it| it.parameters.is_some()).map(|it| it.subject));
        let request = ResolveRequest { reason: "send".to_owned(), subjects: subjects.clone() };
        let vault = &self.messaging.vault;
        let resolved = vault.post::<_, ResolveResponse>("/v1/addresses/resolve", &request, None);
        let keys = async {
            if with_parameters.is_empty() {
                return Ok(None);
            }
            self.messaging.person_keys.lease("send", &with_parameters).await.map(Some)
        };
        let (resolved, keys) = tokio::join!(resolved, keys);
        let (resolved, keys) = match (resolved, keys) {
            (Ok(resolved), Ok(keys)) if resolved.addresses.len() == subjects.len() => {
                (resolved, keys)
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "the vault gives no addresses: nothing is sent");
                self.put_off(&intents, "vault_unreachable").await;
                return Vec::new();
            }
            _ => {
                tracing::error!("the vault gave another number of addresses than asked for");
                self.put_off(&intents, "vault_unreachable").await;
                return Vec::new();
            }
        };
        let reactions = match self.messages_of_hers(&intents, keys.as_ref()).await {
            Ok(reactions) => reactions,
            Err(error) => {
                tracing::warn!(%error, "messages of people can't be read: nothing is sent");
                self.put_off(&intents, "obstacles_unreadable").await;
                return Vec::new();
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
            match said(&intent, keys.as_ref(), &reactions) {
                Some(said) => ready.push(Ready { intent, address, said }),
                None => refused.push(self.settlement(&intent, Happening::Denied, "key_destroyed")),
            }
        }
        addresses.clear();
        self.settle(refused).await;
        ready
    }

    /// The messages of people that are reacted to, sealed.
    async fn messages_of_hers(
        &self,
        intents: &[Claimed],
        keys: Option<&LeasedKeys>,
    ) -> Result<MessagesOfHers, sqlx::Error> {
        const READ: &str = "
            SELECT id, subject_id, content FROM inbound_messages
            WHERE id = ANY($1) AND content IS NOT NULL AND said_at > $2";
        let reacting = intents.iter().filter(|it| it.kind == REACTION);
        let messages: Vec<Uuid> = reacting
            .filter_map(|it| match opened(it, keys)? {
                Stored::Content(Content::Reaction { message_id, .. }) => Some(message_id),
                _ => None,
            })
            .collect();
        if messages.is_empty() {
            return Ok(HashMap::new());
        }
        // The provider keeps messages for 30 days.
        let since = self.messaging.clock.now() - MONTH;
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

/// What a message says; none when it can't be opened: its person has no key any more.
fn said(intent: &Claimed, keys: Option<&LeasedKeys>, messages: &MessagesOfHers) -> Option<Said> {
    if intent.parameters.is_none() {
        return Some(match intent.template {
            Some(_) => Said::Values(Values::default()),
            None => Said::Confirmation,
        });
    }
    match opened(intent, keys)? {
        Stored::Values(values) => Some(Said::Values(values)),
        Stored::Content(content) => {
            let reacts_to = match &content {
                Content::Reaction { message_id, .. } => messages
                    .get(&(intent.subject, *message_id))
                    .and_then(|sealed| {
                        keys?.open(intent.subject, *message_id, "content", sealed).ok()
                    })
                    .and_then(|raw| serde_json::from_slice::<serde_json::Value>(&raw).ok())
                    .and_then(|raw| Some(raw.get("id")?.as_str()?.to_owned())),
                _ => None,
            };
            Some(Said::Content(content, reacts_to))
        }
    }
}

fn opened(intent: &Claimed, keys: Option<&LeasedKeys>) -> Option<Stored> {
    let sealed = intent.parameters.as_ref()?;
    stored::read(&keys?.open(intent.subject, intent.id, "parameters", sealed).ok()?)
}

/// Messages of people, by whose and which, sealed.
type MessagesOfHers = HashMap<(SubjectId, Uuid), Vec<u8>>;
