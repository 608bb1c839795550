//! Erasures of one purpose's data. Each is a saga of its own, by the same rules as that of the whole person, and beside it:
//! neither waits for the other. It guarantees that no key is destroyed for one, since her key seals what other purposes
//! need, and that a hold on another purpose's data doesn't keep it waiting.

use std::collections::BTreeMap;

use assent_contracts::erasure::{Positions, Requested};
use assent_contracts::purposes::PurposeRequested;
use jiff::Timestamp;
use uuid::Uuid;

use super::request::{RequestState, SubjectRequest};
use super::{Command, Event, Participant, Person, Refusal, Registry, Request, Saga};
use super::{Status, Summary};

/// The erasures of single purposes' data of a person, by their requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurposeErasures(BTreeMap<Uuid, PurposeErasure>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurposeErasure {
    /// Whose data are meant.
    pub purpose: String,
    /// How far it is.
    pub saga: Saga,
}

impl PurposeErasures {
    /// The one of this request.
    #[must_use]
    pub fn get(&self, request_id: Uuid) -> Option<&PurposeErasure> {
        self.0.get(&request_id)
    }

    /// All of them, oldest first, with their requests.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &PurposeErasure)> {
        self.0.iter().map(|(request_id, erasure)| (*request_id, erasure))
    }

    /// Whether the destruction of a purpose's data is under way.
    #[must_use]
    pub fn is_fenced(&self, purpose: &str) -> bool {
        let under_way = |it: &PurposeErasure| {
            it.saga.is_fenced() && it.request().is_some_and(|it| it.completed_at.is_none())
        };
        self.0.values().any(|it| it.purpose == purpose && under_way(it))
    }

    /// Takes one event in.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::PurposeRequested(event) => {
                let PurposeRequested { request_id, purpose, participants, due, at } = event.clone();
                let mut saga = Saga::default();
                saga.evolve(&Event::Requested(Requested { request_id, participants, due, at }));
                self.0.entry(request_id).or_insert(PurposeErasure { purpose, saga });
            }
            Event::PurposeStepStarted(event) => {
                self.go_on(event.request_id, &Event::StepStarted(event.clone()));
            }
            Event::PurposeAcknowledged(event) => {
                self.go_on(event.request_id, &Event::Acknowledged(event.clone()));
            }
            Event::PurposeOverdue(event) => {
                self.go_on(event.request_id, &Event::Overdue(event.clone()));
            }
            Event::PurposeCompleted(event) => {
                self.go_on(event.request_id, &Event::Completed(event.clone()));
            }
            // What she asked for was refused before anything was issued.
            Event::RequestRefused(event) => {
                self.0.remove(&event.request_id);
            }
            _ => {}
        }
    }

    fn go_on(&mut self, request_id: Uuid, event: &Event) {
        if let Some(erasure) = self.0.get_mut(&request_id) {
            erasure.saga.evolve(event);
        }
    }
}

impl PurposeErasure {
    /// Its request as the saga sees it.
    #[must_use]
    pub fn request(&self) -> Option<&Request> {
        self.saga.request.as_ref()
    }

    /// Up to when what was recorded is meant: its first command.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        Some(self.request()?.commands.first()?.at)
    }

    /// Decides; no events: nothing has to change.
    ///
    /// # Errors
    /// [`Refusal`]; nothing changes then either.
    pub fn decide(&self, command: Command<'_>, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        let events = self.saga.decide(command, now)?;
        Ok(events.into_iter().map(of_purpose).collect())
    }

    /// Issues the next command, if one is due.
    ///
    /// # Errors
    /// As [`PurposeErasure::decide`].
    pub fn start_step(
        &self,
        command_id: Uuid,
        registry: &Registry,
        barrier: Positions,
        held: bool,
        now: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        let registry = &keyless(registry);
        self.decide(Command::StartStep { command_id, registry, barrier, held }, now)
    }

    /// Concludes, if everyone has proved everything.
    ///
    /// # Errors
    /// As [`PurposeErasure::decide`].
    pub fn complete(
        &self,
        registry: &Registry,
        certificate_sha256: String,
        now: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        let registry = &keyless(registry);
        self.decide(Command::Complete { registry, certificate_sha256 }, now)
    }
}

impl Person {
    /// What the erasure of one purpose's data does next; none: there is none of this request.
    #[must_use]
    pub fn next_of_purpose(
        &self,
        request_id: Uuid,
        registry: &Registry,
        now: Timestamp,
    ) -> Option<Summary> {
        let erasure = self.purposes.get(request_id)?;
        let held = self.holds.stand_for(&erasure.purpose, now);
        Some(erasure.request()?.summary(&keyless(registry), held))
    }

    /// Erasures of single purposes' data that may begin and haven't.
    pub(super) fn purposes_begin(&self, registry: &Registry, now: Timestamp) -> Vec<Event> {
        let begin = |request: &SubjectRequest| {
            let purpose = request.purpose.clone()?;
            let new = request.erases_purpose() && self.purposes.get(request.id).is_none();
            new.then(|| {
                Event::PurposeRequested(PurposeRequested {
                    request_id: request.id,
                    purpose,
                    participants: registry.keys().cloned().collect(),
                    due: request.due,
                    at: now,
                })
            })
        };
        self.requests.iter().filter_map(begin).collect()
    }

    /// Where a request to erase one purpose's data stands; none: it is none.
    pub(super) fn purpose_status(
        &self,
        request: &SubjectRequest,
        now: Timestamp,
    ) -> Option<Status> {
        request.purpose.as_ref()?;
        Some(match request.state() {
            RequestState::IdentityPending => Status::IdentityPending,
            RequestState::Refused => Status::Refused,
            RequestState::Open | RequestState::Answered => {
                let erasure = self.purposes.get(request.id)?;
                match erasure.request()?.status() {
                    Status::Requested if self.holds.stand_for(&erasure.purpose, now) => {
                        Status::OnHold
                    }
                    status => status,
                }
            }
        })
    }
}

/// The registry without who keeps keys: nobody is asked to destroy some.
fn keyless(registry: &Registry) -> Registry {
    let without = |name: &String| (name.clone(), Participant { keeps_keys: false });
    registry.keys().map(without).collect()
}

/// What happened to a saga, as it is recorded of one purpose's.
fn of_purpose(event: Event) -> Event {
    match event {
        Event::StepStarted(event) => Event::PurposeStepStarted(event),
        Event::Acknowledged(event) => Event::PurposeAcknowledged(event),
        Event::Overdue(event) => Event::PurposeOverdue(event),
        Event::Completed(event) => Event::PurposeCompleted(event),
        event => event,
    }
}
