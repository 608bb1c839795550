//! The requests of a person, of every kind: what was asked, by when it is answered, whether it was
//! shown that she asks herself, and how it ended. It guarantees that nothing is said about what is
//! held, nor done with it, before that was shown, and that a term is extended only while it runs.
//!
//! An erasure begins and ends with the saga; what goes on between is the saga's.

use std::collections::BTreeMap;

use assent_contracts::consent::Actor;
use assent_contracts::erasure::Completed;
use assent_contracts::rights::{
    ExtensionReason, IdentityConfirmed, RefusalGround, RequestAcknowledged, RequestAnswered,
    RequestExtended, RequestKind, RequestOpened, RequestOrigin, RequestRectified, RequestRefused,
    Terms,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::archive::{Archive, Stage};
use super::recipients::Asked;
use super::restriction::Restriction;
use super::{Event, ground};

/// All requests of a person, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectRequests(BTreeMap<Uuid, SubjectRequest>);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectRequest {
    /// Its id.
    pub id: Uuid,
    /// What is asked for.
    pub kind: RequestKind,
    /// Of an erasure: the one purpose whose data are meant; none: the whole person.
    pub purpose: Option<String>,
    /// Who asked.
    pub actor: Actor,
    /// By which road of her own; none: somebody brought it.
    pub origin: Option<RequestOrigin>,
    /// A code for the ground.
    pub reason: Option<String>,
    /// Whether it is about a person who is known here.
    pub known: bool,
    /// When it was received: its terms are counted from here.
    pub received_at: Timestamp,
    /// When it was recorded.
    pub opened_at: Timestamp,
    /// Its dates by law; none: it was recorded before laws set them, with its end alone.
    pub terms: Option<Terms>,
    /// By when it is answered, its extension included.
    pub due: Timestamp,
    /// Why the term was extended; none: it wasn't.
    pub extended: Option<RequestExtended>,
    /// When she was told that it has arrived.
    pub acknowledged_at: Option<Timestamp>,
    /// Whether it was shown that she asks herself.
    pub identity: Identity,
    /// How it ended.
    pub closed: Option<Closed>,
    /// What is, or was, there to be collected.
    pub archive: Option<Archive>,
    /// What was put right, and when.
    pub rectified: Option<RequestRectified>,
    /// Whether the use of her data is restricted for its sake.
    pub restriction: Option<Restriction>,
    /// What recipients outside were asked for its sake, oldest first.
    pub inquiries: Vec<Asked>,
}

/// Whether it was shown that she asks herself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Not yet.
    Pending,
    /// It need not be: the law asks for none, or nobody asked at all.
    NotNeeded,
    /// It was; none: the record doesn't say how, because it is older than such checks.
    Confirmed(Option<IdentityConfirmed>),
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Why it was refused; none: it was answered.
    pub refused: Option<RefusalGround>,
    /// When.
    pub at: Timestamp,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// It isn't shown yet that she asks herself.
    IdentityPending,
    /// To be answered; an erasure is under way.
    Open,
    /// Answered; an erasure is complete.
    Answered,
    /// Refused.
    Refused,
}

impl RequestState {
    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IdentityPending => "identity_pending",
            Self::Open => "open",
            Self::Answered => "answered",
            Self::Refused => "refused",
        }
    }
}

/// What is done with a request that is there.
#[derive(Debug, Clone)]
pub enum RequestCommand {
    /// She was told that it has arrived.
    Acknowledge,
    /// It was shown that she asks herself.
    ConfirmIdentity(Check),
    /// She is told that it takes longer.
    Extend {
        /// Why.
        reasons: Vec<ExtensionReason>,
    },
    /// She is told no.
    Refuse {
        /// Why.
        ground: RefusalGround,
    },
    /// What she asked for was done.
    Answer,
}

/// How it was shown that she asks herself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// How.
    pub method: assent_contracts::rights::IdentityMethod,
    /// A code for what was looked at.
    pub reason: String,
    /// The key of the caller that says so.
    pub key: String,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefusal {
    /// There is no such request of this person.
    #[error("the request is not known")]
    Unknown,
    /// It was answered or refused.
    #[error("the request is over")]
    Closed,
    /// It isn't shown yet that she asks herself.
    #[error("it is not shown yet that she asks herself")]
    IdentityPending,
    /// The ground would tell something about what is held.
    #[error(
        "this ground says something about what is held, and it is not shown that she asks herself"
    )]
    GroundTells,
    /// The ground is none for a request of this kind, or in this state.
    #[error("this ground is none for a request of this kind, or no more where it stands")]
    GroundNotApplicable,
    /// An erasure that has issued a command goes on; it is answered by its completion.
    #[error("the erasure goes its own way: it is not answered, and no more refused, by hand")]
    ErasureUnderway,
    /// The law has no extension.
    #[error("no law that applies lets this term be extended")]
    NoExtension,
    /// It was extended before.
    #[error("the term was extended already")]
    ExtendedAlready,
    /// The first term is over.
    #[error("the term is over: it can only be extended while it runs")]
    TermOver,
    /// A reason must be given.
    #[error("an extension needs a reason")]
    NoReason,
    /// Something else is asked for, or about nobody who is known.
    #[error("this is not what the request asks for, or it is about nobody who is known here")]
    NotApplicable,
    /// What is held is what she wants to be held.
    #[error("what is held is right already")]
    AccurateAlready,
    /// A restriction is done, not only answered.
    #[error("it is answered by restricting the use of her data")]
    NotRestricted,
    /// She must hear of the end of a restriction before it ends.
    #[error("she is not told yet that the restriction will be lifted")]
    NotTold,
}

impl RequestRefusal {
    /// Its stable name, for problem documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Closed => "closed",
            Self::IdentityPending => "identity_pending",
            Self::GroundTells => "ground_tells",
            Self::GroundNotApplicable => "ground_not_applicable",
            Self::ErasureUnderway => "erasure_underway",
            Self::NoExtension => "no_extension",
            Self::ExtendedAlready => "extended_already",
            Self::TermOver => "term_over",
            Self::NoReason => "no_reason",
            Self::NotApplicable => "not_applicable",
            Self::AccurateAlready => "accurate_already",
            Self::NotRestricted => "not_restricted",
            Self::NotTold => "not_told",
        }
    }
}

impl SubjectRequests {
    /// The request of this id.
    #[must_use]
    pub fn get(&self, request_id: Uuid) -> Option<&SubjectRequest> {
        self.0.get(&request_id)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &SubjectRequest> {
        self.0.values()
    }

    /// Takes one event in.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::RequestOpened(event) => {
                self.0.insert(event.request_id, opened(event, None));
            }
            Event::PurposeRequestOpened(event) => {
                let purpose = Some(event.purpose.clone());
                self.0.insert(event.request.request_id, opened(&event.request, purpose));
            }
            // A saga of the time when an erasure was all that one could ask for.
            Event::Requested(event) if !self.0.contains_key(&event.request_id) => {
                self.0.insert(event.request_id, of_saga(event));
            }
            Event::RequestAcknowledged(event) => {
                self.change(event.request_id, |it| it.acknowledged_at = Some(event.at));
            }
            Event::IdentityConfirmed(event) => self.change(event.request_id, |it| {
                it.identity = Identity::Confirmed(Some(event.clone()));
            }),
            Event::RequestExtended(event) => self.change(event.request_id, |it| {
                it.due = event.over_at;
                it.extended = Some(event.clone());
            }),
            Event::RequestRefused(event) => self.change(event.request_id, |it| {
                it.closed = Some(Closed { refused: Some(event.ground), at: event.at });
            }),
            Event::RequestAnswered(RequestAnswered { request_id, at })
            | Event::Completed(Completed { request_id, at, .. })
            | Event::PurposeCompleted(Completed { request_id, at, .. }) => {
                self.change(*request_id, |it| it.closed = Some(Closed { refused: None, at: *at }))
            }
            Event::ArchivePrepared(event) => self.change(event.request_id, |it| {
                it.archive = Some(Archive {
                    id: event.archive_id,
                    prepared_at: event.at,
                    expires_at: event.expires_at,
                    stage: Stage::Waiting,
                });
            }),
            Event::RequestRectified(event) => {
                self.change(event.request_id, |it| it.rectified = Some(event.clone()));
            }
            Event::RestrictionPlaced(event) => {
                self.change(event.request_id, |it| {
                    it.restriction = Some(Restriction::since(event.at))
                });
            }
            Event::RestrictionEndTold(event) => self.change_restriction(event.request_id, |it| {
                it.told.get_or_insert_with(|| event.clone());
            }),
            Event::RestrictionReleased(event) => self.change_restriction(event.request_id, |it| {
                it.released.get_or_insert_with(|| event.clone());
            }),
            Event::RecipientsAsked(event) => {
                self.change(event.request_id, |it| it.inquiries.push(Asked::of(event)));
            }
            Event::RecipientAnswered(event) => {
                self.change(event.request_id, |it| it.take_answer(event));
            }
            Event::ArchiveCollected(event) => {
                self.end_archive(event.request_id, event.archive_id, Stage::Collected(event.at));
            }
            Event::ArchiveRemoved(event) => {
                self.end_archive(event.request_id, event.archive_id, Stage::Removed(event.reason));
            }
            _ => {}
        }
    }

    fn end_archive(&mut self, request_id: Uuid, archive_id: Uuid, stage: Stage) {
        self.change(request_id, |it| {
            if let Some(archive) = it.archive.as_mut().filter(|it| it.id == archive_id) {
                archive.stage = stage;
            }
        });
    }

    fn change_restriction(&mut self, request_id: Uuid, change: impl FnOnce(&mut Restriction)) {
        self.change(request_id, |it| {
            if let Some(restriction) = it.restriction.as_mut() {
                change(restriction);
            }
        });
    }

    fn change(&mut self, request_id: Uuid, change: impl FnOnce(&mut SubjectRequest)) {
        if let Some(request) = self.0.get_mut(&request_id) {
            change(request);
        }
    }
}

fn opened(event: &RequestOpened, purpose: Option<String>) -> SubjectRequest {
    SubjectRequest {
        id: event.request_id,
        kind: event.kind,
        purpose,
        actor: event.actor,
        origin: event.origin,
        reason: event.reason.clone(),
        known: event.known,
        received_at: event.received_at,
        opened_at: event.at,
        due: event.terms.answer.over_at,
        terms: Some(event.terms.clone()),
        extended: None,
        acknowledged_at: None,
        identity: if event.identity { Identity::Pending } else { Identity::NotNeeded },
        closed: None,
        archive: None,
        rectified: None,
        restriction: None,
        inquiries: Vec::new(),
    }
}

fn of_saga(event: &assent_contracts::erasure::Requested) -> SubjectRequest {
    SubjectRequest {
        id: event.request_id,
        kind: RequestKind::Erasure,
        purpose: None,
        actor: Actor::Operator,
        origin: None,
        reason: None,
        known: true,
        received_at: event.at,
        opened_at: event.at,
        terms: None,
        due: event.due,
        extended: None,
        acknowledged_at: None,
        identity: Identity::Confirmed(None),
        closed: None,
        archive: None,
        rectified: None,
        restriction: None,
        inquiries: Vec::new(),
    }
}

impl SubjectRequest {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> RequestState {
        match (self.closed, &self.identity) {
            (Some(Closed { refused: Some(_), .. }), _) => RequestState::Refused,
            (Some(_), _) => RequestState::Answered,
            (None, Identity::Pending) => RequestState::IdentityPending,
            (None, _) => RequestState::Open,
        }
    }

    /// The first moment at which its acknowledgement is late; none: no law asks for one, or it is given.
    #[must_use]
    pub fn acknowledge_by(&self) -> Option<Timestamp> {
        let open = self.acknowledged_at.is_none() && self.closed.is_none();
        let term = self.terms.as_ref().filter(|_| open)?.acknowledge.as_ref()?;
        Some(term.over_at)
    }

    /// Whether it is an erasure of a whole person that may go on: her identity is shown or need not be.
    #[must_use]
    pub fn erases(&self) -> bool {
        self.purpose.is_none() && self.may_erase()
    }

    /// Whether it is an erasure of one purpose's data that may go on.
    #[must_use]
    pub fn erases_purpose(&self) -> bool {
        self.purpose.is_some() && self.may_erase()
    }

    fn may_erase(&self) -> bool {
        self.kind == RequestKind::Erasure
            && self.known
            && self.closed.is_none()
            && self.identity != Identity::Pending
    }

    /// Decides; no events: nothing has to change. `underway` is whether the saga that does what this
    /// request asks for has issued a command: until then it can be refused (GDPR Article 17(3)).
    ///
    /// # Errors
    /// [`RequestRefusal`]; nothing changes then either.
    pub fn decide(
        &self,
        command: RequestCommand,
        underway: bool,
        now: Timestamp,
    ) -> Result<Vec<Event>, RequestRefusal> {
        let request_id = self.id;
        match command {
            RequestCommand::Acknowledge if self.acknowledged_at.is_some() => Ok(Vec::new()),
            RequestCommand::ConfirmIdentity(_) if self.identity != Identity::Pending => {
                Ok(Vec::new())
            }
            RequestCommand::Refuse { ground }
                if self.closed.is_some_and(|end| end.refused == Some(ground)) =>
            {
                Ok(Vec::new())
            }
            RequestCommand::Answer if self.state() == RequestState::Answered => Ok(Vec::new()),
            _ if self.closed.is_some() => Err(RequestRefusal::Closed),
            RequestCommand::Acknowledge => {
                let event = RequestAcknowledged { request_id, at: now };
                Ok(vec![Event::RequestAcknowledged(event)])
            }
            RequestCommand::ConfirmIdentity(Check { method, reason, key }) => {
                let event = IdentityConfirmed { request_id, method, reason, key, at: now };
                Ok(vec![Event::IdentityConfirmed(event)])
            }
            RequestCommand::Extend { reasons } => self.extend(reasons, now),
            RequestCommand::Refuse { .. } if underway => Err(RequestRefusal::ErasureUnderway),
            RequestCommand::Refuse { ground } => {
                ground::admissible(ground, self.kind, &self.identity)?;
                let event = RequestRefused { request_id, ground, at: now };
                Ok(vec![Event::RequestRefused(event)])
            }
            RequestCommand::Answer
                if self.identity == Identity::Pending && !self.kind.is_done_at_intake() =>
            {
                Err(RequestRefusal::IdentityPending)
            }
            RequestCommand::Answer if self.kind == RequestKind::Erasure => {
                Err(RequestRefusal::ErasureUnderway)
            }
            // Of somebody who is not known here there is nothing to restrict.
            RequestCommand::Answer if self.kind == RequestKind::Restriction && self.known => {
                Err(RequestRefusal::NotRestricted)
            }
            RequestCommand::Answer => {
                Ok(vec![Event::RequestAnswered(RequestAnswered { request_id, at: now })])
            }
        }
    }

    /// The person is told within the first term, with reasons (GDPR Article 12(3)).
    fn extend(
        &self,
        mut reasons: Vec<ExtensionReason>,
        now: Timestamp,
    ) -> Result<Vec<Event>, RequestRefusal> {
        reasons.sort_unstable();
        reasons.dedup();
        let extended = self.terms.as_ref().and_then(|terms| terms.extended.as_ref());
        let over_at = extended.ok_or(RequestRefusal::NoExtension)?.over_at;
        if let Some(before) = &self.extended {
            let same = before.reasons == reasons;
            return if same { Ok(Vec::new()) } else { Err(RequestRefusal::ExtendedAlready) };
        }
        if reasons.is_empty() {
            return Err(RequestRefusal::NoReason);
        }
        if now >= self.due {
            return Err(RequestRefusal::TermOver);
        }
        let request_id = self.id;
        Ok(vec![Event::RequestExtended(RequestExtended { request_id, reasons, over_at, at: now })])
    }
}
