//! The saga's events as they are stored and published: one shape, the contract's.

use assent_contracts::erasure::{
    ACKNOWLEDGED, Acknowledged, COMPLETED, Completed, OVERDUE, Overdue, REQUESTED, Requested,
    STEP_STARTED, StepStarted,
};
use assent_contracts::upcast::upcast;
use assent_eventstore::{NewEvent, StoreError, StoredEvent};
use uuid::Uuid;

/// What can have happened to an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request was accepted.
    Requested(Requested),
    /// A command of a step was issued.
    StepStarted(StepStarted),
    /// A participant answered a command.
    Acknowledged(Acknowledged),
    /// A command's time ran out with answers missing.
    Overdue(Overdue),
    /// Everyone has proved everything.
    Completed(Completed),
}

impl Event {
    /// Reads a stored event; `None` for a type that isn't of the saga.
    ///
    /// # Errors
    /// When the data is not of its type.
    pub fn read(stored: &StoredEvent) -> Result<Option<Self>, StoreError> {
        let (event_type, data) = upcast(&stored.event_type, &stored.data);
        let read = match event_type.as_ref() {
            REQUESTED => serde_json::from_str(&data).map(Self::Requested),
            STEP_STARTED => serde_json::from_str(&data).map(Self::StepStarted),
            ACKNOWLEDGED => serde_json::from_str(&data).map(Self::Acknowledged),
            OVERDUE => serde_json::from_str(&data).map(Self::Overdue),
            COMPLETED => serde_json::from_str(&data).map(Self::Completed),
            _ => return Ok(None),
        };
        read.map(Some).map_err(|source| StoreError::Undecodable {
            stream: stored.stream,
            version: stored.version,
            event_type: stored.event_type.clone(),
            source,
        })
    }

    /// The event as it is appended.
    ///
    /// # Errors
    /// Never for these types; the signature is serde's.
    pub fn to_new(&self, id: Uuid) -> Result<NewEvent, serde_json::Error> {
        match self {
            Self::Requested(data) => NewEvent::new(id, REQUESTED, data),
            Self::StepStarted(data) => NewEvent::new(id, STEP_STARTED, data),
            Self::Acknowledged(data) => NewEvent::new(id, ACKNOWLEDGED, data),
            Self::Overdue(data) => NewEvent::new(id, OVERDUE, data),
            Self::Completed(data) => NewEvent::new(id, COMPLETED, data),
        }
    }
}
