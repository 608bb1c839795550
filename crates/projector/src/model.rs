//! What a read model is: a row per key, a pure fold of events into it in their order, and the two
//! statements that load and store a batch of rows. Fences and transactions are `apply`'s part.

pub mod consents;
pub mod contacts;
pub mod messages;

use std::borrow::Cow;
use std::collections::HashMap;

use assent_bus::Received;
use assent_contracts::topics::{CONSENT_EVENTS, MESSAGING_EVENTS, Topic, VAULT_EVENTS};
use assent_contracts::upcast::upcast;
use assent_runtime::broken::{self, Guarantee};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;
use uuid::Uuid;

/// The projections there are. Each reads one topic, so that its fold has one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projection {
    /// People, from vault events.
    Contacts,
    /// Consents, from consent events.
    Consents,
    /// Messages, from messaging events.
    Messages,
}

impl Projection {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Contacts, Self::Consents, Self::Messages];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Contacts => "contacts",
            Self::Consents => "consents",
            Self::Messages => "messages",
        }
    }

    /// The projection of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|projection| projection.name() == name)
    }

    /// The name of its consumer.
    #[must_use]
    pub fn consumer(self) -> &'static str {
        match self {
            Self::Contacts => "projector.contacts",
            Self::Consents => "projector.consents",
            Self::Messages => "projector.messages",
        }
    }

    /// The topic that it folds.
    #[must_use]
    pub fn topic(self) -> Topic {
        match self {
            Self::Contacts => VAULT_EVENTS,
            Self::Consents => CONSENT_EVENTS,
            Self::Messages => MESSAGING_EVENTS,
        }
    }

    /// Its tables. Each has a column `subject_id`.
    #[must_use]
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Contacts => &["contacts"],
            Self::Consents => &["consents"],
            Self::Messages => &["messages", "message_subjects"],
        }
    }
}

/// Where rows go: what queries see, or what a rebuild fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// What queries see.
    Live,
    /// What a rebuild fills.
    Next,
}

impl Schema {
    /// Its name in Postgres.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Next => "next",
        }
    }
}

/// An event as folds see it, in the newest shape of its type.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its place among the events of its key.
    pub sequence: i64,
    /// When it was recorded.
    pub time: Timestamp,
    /// Its type.
    pub event_type: Cow<'a, str>,
    /// Its data, JSON.
    pub data: Cow<'a, str>,
}

impl<'a> Event<'a> {
    /// The event in a message.
    ///
    /// # Errors
    /// [`Malformed`] when the data is no text.
    pub fn of(received: &'a Received) -> Result<Self, Malformed> {
        let data = std::str::from_utf8(&received.data).map_err(|_| Malformed)?;
        let (event_type, data) = upcast(&received.event_type, data);
        let Received { id, sequence, time, .. } = *received;
        Ok(Self { id, sequence, time, event_type, data })
    }

    /// Its data as the contract's type.
    ///
    /// # Errors
    /// [`Malformed`] when it has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        serde_json::from_str(&self.data).map_err(|_| Malformed)
    }
}

/// The data of an event doesn't have the shape of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed data")]
pub struct Malformed;

/// A read model with one row per key.
pub trait Model: Send + Sync + 'static {
    /// All that is known under a key, as far as a batch needs it.
    type Row: Send + Sync;

    /// The row of a key that nothing is known of.
    fn empty(key: Uuid) -> Self::Row;

    /// The last sequence that was folded in; 0 before the first.
    fn sequence(row: &Self::Row) -> i64;

    /// Records that the events up to this one are folded in, or given up.
    fn advance(row: &mut Self::Row, sequence: i64);

    /// Folds an event in. Pure; types that it doesn't know change nothing.
    ///
    /// # Errors
    /// [`Malformed`] when the data doesn't have the shape of its type.
    fn fold(row: &mut Self::Row, event: &Event<'_>) -> Result<(), Malformed>;

    /// The rows of these keys, in one or two statements.
    fn load(
        conn: &mut PgConnection,
        schema: Schema,
        keys: &[Uuid],
        events: &[&Received],
    ) -> impl Future<Output = Result<HashMap<Uuid, Self::Row>, sqlx::Error>> + Send;

    /// Writes the rows, in one or two statements.
    fn store(
        conn: &mut PgConnection,
        schema: Schema,
        rows: Vec<Self::Row>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// Why an event can't be folded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// One before it is missing.
    Gap,
    /// Its data doesn't have the shape of its type.
    Malformed,
}

/// Last + 1 is folded in, what is not newer is dropped (`false`), a gap stops. One that was given up on record
/// (`discarded`) advances its key and changes nothing.
///
/// # Errors
/// [`Stop`]; the row is not to be written then.
pub fn step<M: Model>(row: &mut M::Row, event: &Received, discarded: bool) -> Result<bool, Stop> {
    let (last, sequence) = (M::sequence(row), event.sequence);
    if sequence <= last {
        return Ok(false);
    }
    if sequence != last + 1 {
        return Err(Stop::Gap);
    }
    let dropped = broken::is(Guarantee::G7) && event.id.as_u128().is_multiple_of(8);
    if !discarded && !dropped {
        let event = Event::of(event).map_err(|_| Stop::Malformed)?;
        M::fold(row, &event).map_err(|_| Stop::Malformed)?;
    }
    M::advance(row, sequence);
    Ok(true)
}

/// A value as `jsonb` takes it.
fn json<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An event of this type with this data.
    pub(crate) fn event<T: serde::Serialize>(
        sequence: i64,
        event_type: &'static str,
        data: &T,
    ) -> Event<'static> {
        Event {
            id: Uuid::from_u128(sequence.unsigned_abs().into()),
            sequence,
            time: time(sequence),
            event_type: Cow::Borrowed(event_type),
            data: Cow::Owned(serde_json::to_string(data).unwrap()),
        }
    }

    pub(crate) fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }
}
