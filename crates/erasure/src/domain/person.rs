//! All that is on record of one person here: her requests, the saga of her erasure, the holds on her
//! data. It guarantees that an erasure begins only with a request that may begin it, and waits while a
//! hold stands.

use assent_contracts::consent::Actor;
use assent_contracts::purposes::PurposeRequestOpened;
use assent_contracts::rights::{RequestAnswered, RequestKind, RequestOpened, RequestOrigin, Terms};
use jiff::Timestamp;
use uuid::Uuid;

use super::hold::{HoldCommand, HoldError, Holds};
use super::purposes::PurposeErasures;
use super::request::{
    Check, RequestCommand, RequestRefusal, RequestState, SubjectRequest, SubjectRequests,
};
use super::{Command, Event, Refusal, Registry, Request, Saga, Status, Summary};

/// The state of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// The saga of her erasure.
    pub saga: Saga,
    /// Her requests.
    pub requests: SubjectRequests,
    /// The holds on her data.
    pub holds: Holds,
    /// The erasures of single purposes' data.
    pub purposes: PurposeErasures,
}

/// A request that comes in.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its id, should it be new.
    pub request_id: Uuid,
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
    /// Where she says that she is.
    pub place: Option<String>,
    /// Whether it is about a person who is known here.
    pub known: bool,
    /// When it was received.
    pub received_at: Timestamp,
    /// Its dates by law.
    pub terms: Terms,
    /// How it was shown that she asks herself; none: it isn't yet.
    pub check: Option<Check>,
}

impl Person {
    /// Takes one event in.
    pub fn evolve(&mut self, event: &Event) {
        self.saga.evolve(event);
        self.requests.evolve(event);
        self.holds.evolve(event);
        self.purposes.evolve(event);
    }

    /// Takes a request in: the request that stands for it, and the events. Whoever asks gets a request of
    /// her own, whatever stands already: another's is nothing to learn from. Where time ran out, so that
    /// nobody asked, one erasure is enough; one that waits for a proof that may never come is none.
    #[must_use]
    pub fn open(&self, new: Opening, registry: &Registry, now: Timestamp) -> (Uuid, Vec<Event>) {
        // Nobody asked where time ran out: there is nobody to show who she is.
        let unasked = new.actor == Actor::System;
        if unasked && let Some(saga) = &self.saga.request {
            return (saga.id, Vec::new());
        }
        let Opening { request_id, kind, purpose, actor, origin, reason, place, known, .. } = new;
        let Opening { received_at, terms, check, .. } = new;
        let identity = terms.identity && !unasked;
        let opened = RequestOpened {
            request_id,
            kind,
            actor,
            origin,
            reason,
            place,
            known,
            identity,
            received_at,
            terms,
            at: now,
        };
        let opened = match purpose {
            None => Event::RequestOpened(Box::new(opened)),
            // A type of its own: whoever doesn't know it must not begin the erasure of the whole person.
            Some(purpose) => Event::PurposeRequestOpened(Box::new(PurposeRequestOpened {
                purpose,
                request: opened,
            })),
        };
        let mut then = self.clone();
        then.evolve(&opened);
        let mut events = vec![opened];
        let next = match check {
            Some(check) if identity => {
                then.decide(request_id, RequestCommand::ConfirmIdentity(check), registry, now)
            }
            _ => Ok(then.follows(registry, now)),
        };
        events.extend(next.unwrap_or_default());
        (request_id, events)
    }

    /// Decides about a request that is there, and what that sets off.
    ///
    /// # Errors
    /// [`RequestRefusal`]; nothing changes then.
    pub fn decide(
        &self,
        request_id: Uuid,
        command: RequestCommand,
        registry: &Registry,
        now: Timestamp,
    ) -> Result<Vec<Event>, RequestRefusal> {
        let request = self.requests.get(request_id).ok_or(RequestRefusal::Unknown)?;
        let underway = match self.purposes.get(request_id) {
            Some(erasure) => erasure.saga.is_fenced(),
            None => self.saga.is_fenced() && request.erases(),
        };
        let mut events = request.decide(command, underway, now)?;
        let mut then = self.clone();
        for event in &events {
            then.evolve(event);
        }
        events.extend(then.follows(registry, now));
        Ok(events)
    }

    /// Concludes the saga: its completion answers every erasure that was confirmed for her.
    ///
    /// # Errors
    /// [`Refusal`]; nothing changes then.
    pub fn complete(&self, command: Command<'_>, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        let mut events = self.saga.decide(command, now)?;
        let mut then = self.clone();
        for event in &events {
            then.evolve(event);
        }
        events.extend(then.answered(now));
        Ok(events)
    }

    /// What follows from confirmed erasures: the saga begins with the oldest; those beside it are
    /// answered with it, also when it is complete already. Those of one purpose's data begin each by itself.
    fn follows(&self, registry: &Registry, now: Timestamp) -> Vec<Event> {
        let mut events = self.purposes_begin(registry, now);
        events.extend(match &self.saga.request {
            Some(_) => self.answered(now),
            None => {
                let first = self.requests.iter().find(|request| request.erases());
                let begin = first.map(|request| {
                    let (request_id, due) = (request.id, request.due);
                    self.saga.decide(Command::RequestErasure { request_id, registry, due }, now)
                });
                begin.and_then(Result::ok).unwrap_or_default()
            }
        });
        events
    }

    /// The answers of erasures that were confirmed beside a saga that is complete.
    fn answered(&self, now: Timestamp) -> Vec<Event> {
        if self.saga.request.as_ref().is_none_or(|saga| saga.completed_at.is_none()) {
            return Vec::new();
        }
        let beside = self.requests.iter().filter(|request| request.erases());
        let answer = |it: &SubjectRequest| RequestAnswered { request_id: it.id, at: now };
        beside.map(|it| Event::RequestAnswered(answer(it))).collect()
    }

    /// Decides about holds.
    ///
    /// # Errors
    /// [`HoldError`]; nothing changes then.
    pub fn hold(
        &self,
        command: HoldCommand,
        key: String,
        now: Timestamp,
    ) -> Result<Vec<Event>, HoldError> {
        let purpose = match &command {
            HoldCommand::Place { purpose, .. } => purpose.as_deref(),
            _ => None,
        };
        let of_purpose = purpose.is_some_and(|purpose| self.purposes.is_fenced(purpose));
        self.holds.decide(command, self.saga.is_fenced() || of_purpose, key, now)
    }

    /// What the saga does next; none: there is none.
    #[must_use]
    pub fn next(&self, registry: &Registry, now: Timestamp) -> Option<Summary> {
        let request = self.saga.request.as_ref()?;
        Some(request.summary(registry, self.holds.stand(now)))
    }

    /// Where a request stands, with the steps of an erasure that is under way.
    #[must_use]
    pub fn status(&self, request: &SubjectRequest, now: Timestamp) -> Status {
        if let Some(status) = self.purpose_status(request, now) {
            return status;
        }
        match request.state() {
            RequestState::IdentityPending => Status::IdentityPending,
            RequestState::Refused => Status::Refused,
            _ if self.saga.request.is_some() && self.is_of_saga(request) => {
                let saga = self.saga.request.as_ref();
                saga.map_or(Status::Open, |saga| self.saga_status(saga, now))
            }
            RequestState::Open => Status::Open,
            RequestState::Answered => Status::Answered,
        }
    }

    /// Where her erasure stands: before its first command a hold keeps it waiting.
    #[must_use]
    pub fn saga_status(&self, saga: &Request, now: Timestamp) -> Status {
        match saga.status() {
            Status::Requested if self.holds.stand(now) => Status::OnHold,
            status => status,
        }
    }

    /// Whether the saga is what this request asks for.
    fn is_of_saga(&self, request: &SubjectRequest) -> bool {
        if request.purpose.is_some() {
            return false;
        }
        let own = self.saga.request.as_ref().is_some_and(|saga| saga.id == request.id);
        own || request.erases()
    }
}

#[cfg(test)]
mod tests;
