//! What every part of the running service works with. It guarantees nothing by itself.

use std::ops::Deref;
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{Asked, Who, WhoRequest, WhoResponse};
use assent_contracts::topics::MESSAGING_EVENTS;
use assent_eventstore::batcher::Batcher;
use assent_eventstore::{Append, EventStore, Expected, NewEvent, StoreError};
use assent_http::{ClientError, ServiceClient};
use assent_runtime::{Clock, Ids, telemetry};
use assent_sealing::AddressIndex;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::bot::engine::Engine;
use crate::config::Config;
use crate::hour_keys::HourKeys;
use crate::intake::Intake;
use crate::person_keys::PersonKeys;
use crate::whatsapp::client::Provider;
use crate::whatsapp::updates::Address;

/// The running service. Clones are the same service.
#[derive(Clone)]
pub struct Messaging(Arc<Parts>);

/// The parts of [`Messaging`].
pub struct Parts {
    /// The settings.
    pub config: Config,
    /// Events, outbox, and through its pool the service's own rows.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
    /// Keyed hashes of addresses and provider ids.
    pub index: AddressIndex,
    /// Hourly keys of raw bodies.
    pub hour_keys: HourKeys,
    /// Stores webhook bodies.
    pub intake: Batcher<Intake>,
    /// Keys of people, as leases from the vault.
    pub person_keys: PersonKeys,
    /// The consent service.
    pub consent: ServiceClient,
    /// The vault.
    pub vault: ServiceClient,
    /// The erasure service.
    pub erasure: ServiceClient,
    /// The read models.
    pub projector: ServiceClient,
    /// The provider.
    pub provider: Provider,
    /// Rings when an intent was queued.
    pub queued: Notify,
    /// Rings (for all who wait) when an intent moved.
    pub moved: Notify,
    /// Rings when a body was stored.
    pub received: Notify,
    /// Rings when something was declared.
    pub declared: Notify,
    /// Rings when something was asked for about her data.
    pub asked: Notify,
    /// Rings when the platform said something of people's names.
    pub identities: Notify,
    /// Rings (for all who wait) when a campaign has work.
    pub campaigns: Notify,
    /// Rings when the bot may have something to answer.
    pub turns: Notify,
    /// The team's own engine behind the bot.
    pub engine: Option<Engine>,
}

impl Deref for Messaging {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl From<Parts> for Messaging {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Parts {
    /// The service's database.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    /// Tokens of all forms and spellings of an address, as the vault makes them.
    #[must_use]
    pub fn tokens(&self, address: &Address) -> Vec<AddressToken> {
        let forms = address.phone.iter().chain(&address.user_id).chain(&address.parent_user_id);
        forms.flat_map(|form| self.index.tokens(form)).collect()
    }

    /// The same by all keys, also by those that look only: what stands against an address that nobody here has may
    /// stand by these alone.
    #[must_use]
    pub fn looked_for(&self, address: &Address) -> Vec<AddressToken> {
        let forms = address.phone.iter().chain(&address.user_id).chain(&address.parent_user_id);
        forms.flat_map(|form| self.index.all(form)).collect()
    }

    /// Keyed hashes of a provider's message id, one per index key. The first is the one to store, any may
    /// be the stored one.
    #[must_use]
    pub fn provider_hashes(&self, provider_id: &str) -> Vec<Vec<u8>> {
        self.keyed_hashes(&format!("message id {provider_id}"))
    }

    /// Keyed hashes of a text, by which it is known again, one per index key. The first is the one to store, any
    /// may be the stored one.
    #[must_use]
    pub fn keyed_hashes(&self, labelled: &str) -> Vec<Vec<u8>> {
        self.index.all(labelled).into_iter().map(|token| token.to_bytes().to_vec()).collect()
    }

    /// The question who is meant by these names.
    #[must_use]
    pub fn asked(&self, address: &Address, answers: Option<SubjectId>) -> Asked {
        let tokens = |form: &Option<String>| -> Vec<AddressToken> {
            form.as_deref().map(|form| self.index.all(form)).unwrap_or_default()
        };
        Asked {
            phones: tokens(&address.phone),
            user_ids: tokens(&address.user_id),
            parent_user_ids: tokens(&address.parent_user_id),
            answers,
        }
    }

    /// Asks the vault who is meant, one answer for each question.
    ///
    /// # Errors
    /// When the vault doesn't answer, or something else than was asked.
    pub async fn who(&self, asked: Vec<Asked>) -> Result<Vec<Who>, ClientError> {
        let count = asked.len();
        let request = WhoRequest { asked };
        let answer: WhoResponse = self.vault.post("/v1/identities/who", &request, None).await?;
        if answer.answers.len() == count {
            Ok(answer.answers)
        } else {
            Err(ClientError::Protocol("other people than asked for".to_owned()))
        }
    }

    /// Who is meant by these names.
    ///
    /// # Errors
    /// As [`Self::who`].
    pub async fn who_is(&self, asked: Asked) -> Result<Who, ClientError> {
        let mut answers = self.who(vec![asked]).await?;
        answers.pop().ok_or_else(|| ClientError::Protocol("nobody".to_owned()))
    }

    /// One event for one stream, recorded at `at`.
    ///
    /// # Errors
    /// Never in practice: published types always serialise.
    pub fn event(
        &self,
        stream: SubjectId,
        id: Uuid,
        event_type: &'static str,
        data: &impl Serialize,
        at: Timestamp,
    ) -> Result<Append, StoreError> {
        let event = NewEvent::new(id, event_type, data)
            .map_err(|error| StoreError::Database(sqlx::Error::Encode(error.into())))?;
        Ok(self.append(stream, event, at))
    }

    /// An event as it is appended to its stream.
    #[must_use]
    pub fn append(&self, stream: Uuid, event: NewEvent, at: Timestamp) -> Append {
        let mut append = Append::new(stream, Expected::Any, MESSAGING_EVENTS, vec![event], at);
        append.traceparent = telemetry::traceparent();
        append
    }
}

/// Which of these people are fenced. Call it under the lock of their streams: the fence is written
/// under the same lock, so no write slips past it.
///
/// # Errors
/// When the database fails.
pub async fn fenced(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<Vec<SubjectId>, sqlx::Error> {
    sqlx::query_scalar("SELECT subject_id FROM fences WHERE subject_id = ANY($1)")
        .bind(subjects)
        .fetch_all(conn)
        .await
}

/// The stream of an address that belongs to nobody we know: an id made of its token, so that its
/// events have one order. It is a keyed hash like the token itself.
#[must_use]
pub fn stranger(tokens: &[AddressToken]) -> Uuid {
    let mut bytes = [0; 16];
    if let Some(token) = tokens.iter().min() {
        bytes.copy_from_slice(&token.mac[..16]);
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
