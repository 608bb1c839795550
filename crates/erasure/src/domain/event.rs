//! The events of requests, sagas and holds as they are stored and published: one shape, the
//! contract's.

use assent_contracts::erasure::{
    ACKNOWLEDGED, Acknowledged, COMPLETED, Completed, OVERDUE, Overdue, REQUESTED, Requested,
    STEP_STARTED, StepStarted,
};
use assent_contracts::purposes::{
    PURPOSE_ACKNOWLEDGED, PURPOSE_COMPLETED, PURPOSE_OVERDUE, PURPOSE_REQUEST_OPENED,
    PURPOSE_REQUESTED, PURPOSE_STEP_STARTED, PurposeRequestOpened, PurposeRequested,
};
use assent_contracts::rights::{
    ARCHIVE_COLLECTED, ARCHIVE_PREPARED, ARCHIVE_REMOVED, ArchiveCollected, ArchivePrepared,
    ArchiveRemoved, HOLD_PLACED, HOLD_REFUSED, HOLD_RELEASED, HOLD_REVIEWED, HoldPlaced,
    HoldRefused, HoldReleased, HoldReviewed, IDENTITY_CONFIRMED, IdentityConfirmed,
    RECIPIENT_ANSWERED, RECIPIENTS_ASKED, REQUEST_ACKNOWLEDGED, REQUEST_ANSWERED, REQUEST_EXTENDED,
    REQUEST_OPENED, REQUEST_RECTIFIED, REQUEST_REFUSED, RESTRICTION_END_TOLD, RESTRICTION_PLACED,
    RESTRICTION_RELEASED, RecipientAnswered, RecipientsAsked, RequestAcknowledged, RequestAnswered,
    RequestExtended, RequestOpened, RequestRectified, RequestRefused, RestrictionEndTold,
    RestrictionPlaced, RestrictionReleased,
};
use assent_contracts::upcast::upcast;
use assent_eventstore::{NewEvent, StoreError, StoredEvent};
use uuid::Uuid;

/// What can have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request was taken in.
    RequestOpened(Box<RequestOpened>),
    /// A request to erase one purpose's data was taken in.
    PurposeRequestOpened(Box<PurposeRequestOpened>),
    /// She was told that it has arrived.
    RequestAcknowledged(RequestAcknowledged),
    /// It was shown that she asks herself.
    IdentityConfirmed(IdentityConfirmed),
    /// Its term was extended.
    RequestExtended(RequestExtended),
    /// It was refused.
    RequestRefused(RequestRefused),
    /// It was answered.
    RequestAnswered(RequestAnswered),
    /// What was wrong is right.
    RequestRectified(RequestRectified),
    /// Her data are kept and not used.
    RestrictionPlaced(RestrictionPlaced),
    /// She was told that this ends.
    RestrictionEndTold(RestrictionEndTold),
    /// It is over.
    RestrictionReleased(RestrictionReleased),
    /// Recipients outside were asked to do something.
    RecipientsAsked(RecipientsAsked),
    /// One of them answered.
    RecipientAnswered(RecipientAnswered),
    /// A hold was placed.
    HoldPlaced(HoldPlaced),
    /// A hold was looked at and stays.
    HoldReviewed(HoldReviewed),
    /// A hold is over.
    HoldReleased(HoldReleased),
    /// A hold came too late.
    HoldRefused(HoldRefused),
    /// What is held was put together for her.
    ArchivePrepared(ArchivePrepared),
    /// She was handed it.
    ArchiveCollected(ArchiveCollected),
    /// It was destroyed uncollected.
    ArchiveRemoved(ArchiveRemoved),
    /// An erasure may begin.
    Requested(Requested),
    /// A command of a step was issued.
    StepStarted(StepStarted),
    /// A participant answered a command.
    Acknowledged(Acknowledged),
    /// A command's time ran out with answers missing.
    Overdue(Overdue),
    /// Everyone has proved everything.
    Completed(Completed),
    /// An erasure of one purpose's data may begin.
    PurposeRequested(PurposeRequested),
    /// A command of a step of one was issued.
    PurposeStepStarted(StepStarted),
    /// A participant answered a command of one.
    PurposeAcknowledged(Acknowledged),
    /// A command's time of one ran out with answers missing.
    PurposeOverdue(Overdue),
    /// Everyone has proved everything of one.
    PurposeCompleted(Completed),
}

impl Event {
    /// Reads a stored event; `None` for a type that means nothing here.
    ///
    /// # Errors
    /// When the data is not of its type.
    pub fn read(stored: &StoredEvent) -> Result<Option<Self>, StoreError> {
        let (event_type, data) = upcast(&stored.event_type, &stored.data);
        let read = match event_type.as_ref() {
            REQUEST_OPENED => serde_json::from_str(&data).map(Self::RequestOpened),
            PURPOSE_REQUEST_OPENED => serde_json::from_str(&data).map(Self::PurposeRequestOpened),
            REQUEST_ACKNOWLEDGED => serde_json::from_str(&data).map(Self::RequestAcknowledged),
            IDENTITY_CONFIRMED => serde_json::from_str(&data).map(Self::IdentityConfirmed),
            REQUEST_EXTENDED => serde_json::from_str(&data).map(Self::RequestExtended),
            REQUEST_REFUSED => serde_json::from_str(&data).map(Self::RequestRefused),
            REQUEST_ANSWERED => serde_json::from_str(&data).map(Self::RequestAnswered),
            REQUEST_RECTIFIED => serde_json::from_str(&data).map(Self::RequestRectified),
            RESTRICTION_PLACED => serde_json::from_str(&data).map(Self::RestrictionPlaced),
            RESTRICTION_END_TOLD => serde_json::from_str(&data).map(Self::RestrictionEndTold),
            RESTRICTION_RELEASED => serde_json::from_str(&data).map(Self::RestrictionReleased),
            RECIPIENTS_ASKED => serde_json::from_str(&data).map(Self::RecipientsAsked),
            RECIPIENT_ANSWERED => serde_json::from_str(&data).map(Self::RecipientAnswered),
            HOLD_PLACED => serde_json::from_str(&data).map(Self::HoldPlaced),
            HOLD_REVIEWED => serde_json::from_str(&data).map(Self::HoldReviewed),
            HOLD_RELEASED => serde_json::from_str(&data).map(Self::HoldReleased),
            HOLD_REFUSED => serde_json::from_str(&data).map(Self::HoldRefused),
            ARCHIVE_PREPARED => serde_json::from_str(&data).map(Self::ArchivePrepared),
            ARCHIVE_COLLECTED => serde_json::from_str(&data).map(Self::ArchiveCollected),
            ARCHIVE_REMOVED => serde_json::from_str(&data).map(Self::ArchiveRemoved),
            REQUESTED => serde_json::from_str(&data).map(Self::Requested),
            STEP_STARTED => serde_json::from_str(&data).map(Self::StepStarted),
            ACKNOWLEDGED => serde_json::from_str(&data).map(Self::Acknowledged),
            OVERDUE => serde_json::from_str(&data).map(Self::Overdue),
            COMPLETED => serde_json::from_str(&data).map(Self::Completed),
            PURPOSE_REQUESTED => serde_json::from_str(&data).map(Self::PurposeRequested),
            PURPOSE_STEP_STARTED => serde_json::from_str(&data).map(Self::PurposeStepStarted),
            PURPOSE_ACKNOWLEDGED => serde_json::from_str(&data).map(Self::PurposeAcknowledged),
            PURPOSE_OVERDUE => serde_json::from_str(&data).map(Self::PurposeOverdue),
            PURPOSE_COMPLETED => serde_json::from_str(&data).map(Self::PurposeCompleted),
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
            Self::RequestOpened(data) => NewEvent::new(id, REQUEST_OPENED, data),
            Self::PurposeRequestOpened(data) => NewEvent::new(id, PURPOSE_REQUEST_OPENED, data),
            Self::RequestAcknowledged(data) => NewEvent::new(id, REQUEST_ACKNOWLEDGED, data),
            Self::IdentityConfirmed(data) => NewEvent::new(id, IDENTITY_CONFIRMED, data),
            Self::RequestExtended(data) => NewEvent::new(id, REQUEST_EXTENDED, data),
            Self::RequestRefused(data) => NewEvent::new(id, REQUEST_REFUSED, data),
            Self::RequestAnswered(data) => NewEvent::new(id, REQUEST_ANSWERED, data),
            Self::RequestRectified(data) => NewEvent::new(id, REQUEST_RECTIFIED, data),
            Self::RestrictionPlaced(data) => NewEvent::new(id, RESTRICTION_PLACED, data),
            Self::RestrictionEndTold(data) => NewEvent::new(id, RESTRICTION_END_TOLD, data),
            Self::RestrictionReleased(data) => NewEvent::new(id, RESTRICTION_RELEASED, data),
            Self::RecipientsAsked(data) => NewEvent::new(id, RECIPIENTS_ASKED, data),
            Self::RecipientAnswered(data) => NewEvent::new(id, RECIPIENT_ANSWERED, data),
            Self::HoldPlaced(data) => NewEvent::new(id, HOLD_PLACED, data),
            Self::HoldReviewed(data) => NewEvent::new(id, HOLD_REVIEWED, data),
            Self::HoldReleased(data) => NewEvent::new(id, HOLD_RELEASED, data),
            Self::HoldRefused(data) => NewEvent::new(id, HOLD_REFUSED, data),
            Self::ArchivePrepared(data) => NewEvent::new(id, ARCHIVE_PREPARED, data),
            Self::ArchiveCollected(data) => NewEvent::new(id, ARCHIVE_COLLECTED, data),
            Self::ArchiveRemoved(data) => NewEvent::new(id, ARCHIVE_REMOVED, data),
            Self::Requested(data) => NewEvent::new(id, REQUESTED, data),
            Self::StepStarted(data) => NewEvent::new(id, STEP_STARTED, data),
            Self::Acknowledged(data) => NewEvent::new(id, ACKNOWLEDGED, data),
            Self::Overdue(data) => NewEvent::new(id, OVERDUE, data),
            Self::Completed(data) => NewEvent::new(id, COMPLETED, data),
            Self::PurposeRequested(data) => NewEvent::new(id, PURPOSE_REQUESTED, data),
            Self::PurposeStepStarted(data) => NewEvent::new(id, PURPOSE_STEP_STARTED, data),
            Self::PurposeAcknowledged(data) => NewEvent::new(id, PURPOSE_ACKNOWLEDGED, data),
            Self::PurposeOverdue(data) => NewEvent::new(id, PURPOSE_OVERDUE, data),
            Self::PurposeCompleted(data) => NewEvent::new(id, PURPOSE_COMPLETED, data),
        }
    }

    /// The request that it is about.
    #[must_use]
    pub fn request_id(&self) -> Option<Uuid> {
        Some(match self {
            Self::RequestOpened(event) => event.request_id,
            Self::PurposeRequestOpened(event) => event.request.request_id,
            Self::RequestAcknowledged(event) => event.request_id,
            Self::IdentityConfirmed(event) => event.request_id,
            Self::RequestExtended(event) => event.request_id,
            Self::RequestRefused(event) => event.request_id,
            Self::RequestAnswered(event) => event.request_id,
            Self::RequestRectified(event) => event.request_id,
            Self::RestrictionPlaced(event) => event.request_id,
            Self::RestrictionEndTold(event) => event.request_id,
            Self::RestrictionReleased(event) => event.request_id,
            Self::RecipientsAsked(event) => event.request_id,
            Self::RecipientAnswered(event) => event.request_id,
            Self::ArchivePrepared(event) => event.request_id,
            Self::ArchiveCollected(event) => event.request_id,
            Self::ArchiveRemoved(event) => event.request_id,
            Self::Requested(event) => event.request_id,
            Self::StepStarted(event) => event.request_id,
            Self::Acknowledged(event) => event.request_id,
            Self::Overdue(event) => event.request_id,
            Self::Completed(event) => event.request_id,
            Self::PurposeRequested(event) => event.request_id,
            Self::PurposeStepStarted(event) => event.request_id,
            Self::PurposeAcknowledged(event) => event.request_id,
            Self::PurposeOverdue(event) => event.request_id,
            Self::PurposeCompleted(event) => event.request_id,
            Self::HoldPlaced(_)
            | Self::HoldReviewed(_)
            | Self::HoldReleased(_)
            | Self::HoldRefused(_) => return None,
        })
    }

    /// The hold that it is about.
    #[must_use]
    pub fn hold_id(&self) -> Option<Uuid> {
        match self {
            Self::HoldPlaced(event) => Some(event.hold_id),
            Self::HoldReviewed(event) => Some(event.hold_id),
            Self::HoldReleased(event) => Some(event.hold_id),
            _ => None,
        }
    }
}
