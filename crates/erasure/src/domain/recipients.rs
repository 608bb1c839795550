//! What recipients outside are asked for the sake of a request: to tell what they hold, to put it right, to use it
//! no more (GDPR Articles 15(1)(c) and 19). It guarantees that each is asked by name, that a repeated answer
//! changes nothing, and that who didn't answer is known; what they hold is not seen here.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::rights::{
    RecipientAnswered, RecipientsAsked, RequestAnswered, RequestKind, RequestRectified, Task,
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::request::{Closed, Identity, RequestRefusal, SubjectRequest};
use super::{Event, Person};

/// What is left of a term once recipients are waited for no more.
const ROOM: SignedDuration = SignedDuration::from_hours(72);

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The inquiry.
    pub id: Uuid,
    /// What they are to do.
    pub task: Task,
    /// To put right: which fields.
    pub fields: Vec<String>,
    /// Who.
    pub recipients: BTreeSet<String>,
    /// By when they are waited for.
    pub answer_by: Timestamp,
    /// When they were asked.
    pub at: Timestamp,
    /// Who has answered, and when.
    pub answers: BTreeMap<String, Timestamp>,
    /// How many pieces each of them told.
    pub records: BTreeMap<String, u64>,
}

/// Whom to ask, where anybody is to be asked.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The id of the inquiry.
    pub inquiry_id: Uuid,
    /// Those outside who have data of people.
    pub recipients: BTreeSet<String>,
    /// By when they are waited for.
    pub answer_by: Timestamp,
}

/// Why an answer isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRefusal {
    /// Nothing of this id was asked.
    #[error("no such inquiry")]
    UnknownInquiry,
    /// Somebody else was asked.
    #[error("this participant was not asked")]
    NotAsked,
    /// Her erasure has begun: nothing about her is taken any more.
    #[error("her data are being erased")]
    Erased,
}

impl AnswerRefusal {
    /// Its stable name, for problem documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownInquiry => "unknown_inquiry",
            Self::NotAsked => "not_asked",
            Self::Erased => "erased",
        }
    }
}

/// Until when recipients are waited for: so long that a term of hers which runs isn't over with it.
#[must_use]
pub fn answer_by(wait: SignedDuration, due: Timestamp, now: Timestamp) -> Timestamp {
    let wished = now.checked_add(wait).unwrap_or(Timestamp::MAX);
    let latest = due.checked_sub(ROOM).unwrap_or(Timestamp::MIN);
    if latest > now { wished.min(latest) } else { wished }
}

impl Asked {
    /// As its event tells it.
    #[must_use]
    pub fn of(event: &RecipientsAsked) -> Self {
        Self {
            id: event.inquiry_id,
            task: event.task,
            fields: event.fields.clone(),
            recipients: event.recipients.iter().cloned().collect(),
            answer_by: event.answer_by,
            at: event.at,
            answers: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }

    /// Who hasn't answered.
    pub fn missing(&self) -> impl Iterator<Item = &String> {
        self.recipients.iter().filter(|name| !self.answers.contains_key(*name))
    }
}

impl SubjectRequest {
    pub(super) fn take_answer(&mut self, event: &RecipientAnswered) {
        if let Some(asked) = self.inquiries.iter_mut().find(|it| it.id == event.inquiry_id) {
            asked.answers.entry(event.recipient.clone()).or_insert(event.at);
            asked.records.insert(event.recipient.clone(), event.records.values().sum());
        }
    }

    /// The last inquiry of a task.
    #[must_use]
    pub fn asked(&self, task: Task) -> Option<&Asked> {
        self.inquiries.iter().rev().find(|it| it.task == task)
    }
}

impl Asking {
    /// The event; none: there is nobody to be asked.
    pub(super) fn event(
        self,
        request_id: Uuid,
        task: Task,
        fields: Vec<String>,
        now: Timestamp,
    ) -> Option<Event> {
        let Self { inquiry_id, recipients, answer_by } = self;
        (!recipients.is_empty()).then(|| {
            let recipients = recipients.into_iter().collect();
            Event::RecipientsAsked(RecipientsAsked {
                request_id,
                inquiry_id,
                task,
                fields,
                recipients,
                answer_by,
                at: now,
            })
        })
    }
}

impl Person {
    /// Asks those outside what they hold, for a request to see it: before its archive is made. No event: they were
    /// asked, or there is nobody to be asked.
    #[must_use]
    pub fn ask_to_disclose(
        &self,
        request_id: Uuid,
        asking: Asking,
        now: Timestamp,
    ) -> Option<Event> {
        let request = self.requests.get(request_id)?;
        let asks = request.kind == RequestKind::Access && request.awaits_archive();
        if !asks || request.asked(Task::Disclose).is_some() || self.saga.is_fenced() {
            return None;
        }
        asking.event(request_id, Task::Disclose, Vec::new(), now)
    }

    /// Whether what is held may be put right for this request.
    ///
    /// # Errors
    /// [`RequestRefusal`].
    pub fn may_rectify(&self, request_id: Uuid) -> Result<&SubjectRequest, RequestRefusal> {
        let request = self.requests.get(request_id).ok_or(RequestRefusal::Unknown)?;
        if request.kind != RequestKind::Rectification || !request.known {
            return Err(RequestRefusal::NotApplicable);
        }
        match (request.closed, &request.identity) {
            // A repeat, whose first answer was lost.
            (Some(Closed { refused: None, .. }), _) if request.rectified.is_some() => Ok(request),
            (Some(_), _) => Err(RequestRefusal::Closed),
            _ if self.saga.is_fenced() => Err(RequestRefusal::ErasureUnderway),
            (None, Identity::Pending) => Err(RequestRefusal::IdentityPending),
            (None, _) => Ok(request),
        }
    }

    /// Takes note of what was put right: recipients are told, and the request is answered.
    ///
    /// # Errors
    /// [`RequestRefusal`]; nothing changes then.
    pub fn rectify(
        &self,
        request_id: Uuid,
        fields: Vec<String>,
        asking: Asking,
        now: Timestamp,
    ) -> Result<Vec<Event>, RequestRefusal> {
        let request = self.may_rectify(request_id)?;
        if request.rectified.is_some() {
            return Ok(Vec::new());
        }
        if fields.is_empty() {
            return Err(RequestRefusal::AccurateAlready);
        }
        let rectified = RequestRectified { request_id, fields: fields.clone(), at: now };
        let told = asking.event(request_id, Task::Rectify, fields, now);
        let answered = Event::RequestAnswered(RequestAnswered { request_id, at: now });
        let events = [Some(Event::RequestRectified(rectified)), told, Some(answered)];
        Ok(events.into_iter().flatten().collect())
    }

    /// Takes a recipient's answer. A repeat changes nothing.
    ///
    /// # Errors
    /// [`AnswerRefusal`]; nothing changes then.
    pub fn hear(
        &self,
        request_id: Uuid,
        inquiry_id: Uuid,
        recipient: &str,
        records: BTreeMap<String, u64>,
        now: Timestamp,
    ) -> Result<Vec<Event>, AnswerRefusal> {
        let request = self.requests.get(request_id).ok_or(AnswerRefusal::UnknownInquiry)?;
        let asked = request.inquiries.iter().find(|it| it.id == inquiry_id);
        let asked = asked.ok_or(AnswerRefusal::UnknownInquiry)?;
        if !asked.recipients.contains(recipient) {
            return Err(AnswerRefusal::NotAsked);
        }
        if asked.answers.contains_key(recipient) {
            return Ok(Vec::new());
        }
        if self.saga.is_fenced() {
            return Err(AnswerRefusal::Erased);
        }
        let recipient = recipient.to_owned();
        let answered = RecipientAnswered { request_id, inquiry_id, recipient, records, at: now };
        Ok(vec![Event::RecipientAnswered(answered)])
    }
}
