//! The archive that answers a request to see, or take along, what is held: put together, collected once, or
//! destroyed uncollected. It guarantees that none is made or handed out before it is shown who asks, after its time,
//! twice, or once an erasure has issued a command; what is in it is left to others.

use std::collections::BTreeMap;

use assent_contracts::rights::{
    ArchiveCollected, ArchiveEnd, ArchivePrepared, ArchiveRemoved, RequestAnswered, Task,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::request::{Identity, RequestState, SubjectRequest};
use super::{Command, Event, Person, Refusal};

/// An archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archive {
    /// Its id.
    pub id: Uuid,
    /// Since when it is there.
    pub prepared_at: Timestamp,
    /// Until when it can be collected.
    pub expires_at: Timestamp,
    /// What became of it.
    pub stage: Stage,
}

/// What became of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits to be collected.
    Waiting,
    /// She has it; when it was handed out.
    Collected(Timestamp),
    /// It was destroyed.
    Removed(ArchiveEnd),
}

/// An archive that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its id.
    pub archive_id: Uuid,
    /// How many pieces of what it holds.
    pub records: BTreeMap<String, u64>,
    /// Until when it can be collected.
    pub expires_at: Timestamp,
}

/// Why there is no archive to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveRefusal {
    /// There is no such request of this person.
    #[error("the request is not known")]
    Unknown,
    /// Something else is asked for, or about nobody who is known.
    #[error(
        "a request of this kind, or about nobody who is known here, is not answered by an archive"
    )]
    NotApplicable,
    /// It isn't shown yet that she asks herself.
    #[error("it is not shown yet that she asks herself")]
    IdentityPending,
    /// It was refused.
    #[error("the request was refused")]
    Closed,
    /// Her erasure has begun.
    #[error("her data are being erased")]
    Erased,
    /// There is none, or none any more.
    #[error(
        "there is no archive to collect: it is not made yet, was collected, or its time is over"
    )]
    Gone,
}

impl ArchiveRefusal {
    /// Its stable name, for problem documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotApplicable => "not_applicable",
            Self::IdentityPending => "identity_pending",
            Self::Closed => "closed",
            Self::Erased => "erased",
            Self::Gone => "archive_gone",
        }
    }
}

impl SubjectRequest {
    /// Whether its archive is to be made by itself: it waits for nothing else.
    #[must_use]
    pub fn awaits_archive(&self) -> bool {
        self.kind.hands_out()
            && self.known
            && self.state() == RequestState::Open
            && self.archive.is_none_or(|archive| self.heard_all_since(archive.prepared_at))
    }

    /// Whether an archive that was made without some recipients' answers can be made with all of them.
    fn heard_all_since(&self, prepared_at: Timestamp) -> bool {
        self.asked(Task::Disclose).is_some_and(|asked| {
            let last = asked.answers.values().max();
            asked.missing().next().is_none() && last.is_some_and(|last| *last >= prepared_at)
        })
    }

    /// Whether everybody outside who was asked has told what it holds; so where nobody was asked.
    #[must_use]
    pub fn is_told_by_all(&self) -> bool {
        self.asked(Task::Disclose).is_none_or(|asked| asked.missing().next().is_none())
    }

    /// The archive, while it can be collected.
    #[must_use]
    pub fn waiting_archive(&self) -> Option<Archive> {
        self.archive.filter(|archive| archive.stage == Stage::Waiting)
    }
}

impl Person {
    /// Whether an archive may be made for this request, anew too.
    ///
    /// # Errors
    /// [`ArchiveRefusal`].
    pub fn may_prepare(&self, request_id: Uuid) -> Result<&SubjectRequest, ArchiveRefusal> {
        let request = self.requests.get(request_id).ok_or(ArchiveRefusal::Unknown)?;
        if !request.kind.hands_out() || !request.known {
            return Err(ArchiveRefusal::NotApplicable);
        }
        if self.saga.is_fenced() {
            return Err(ArchiveRefusal::Erased);
        }
        match (request.state(), &request.identity) {
            (RequestState::Refused, _) => Err(ArchiveRefusal::Closed),
            // A request that was answered without a proof stays without one.
            (_, Identity::Pending) => Err(ArchiveRefusal::IdentityPending),
            _ => Ok(request),
        }
    }

    /// Takes note of an archive: it answers the request.
    ///
    /// # Errors
    /// [`ArchiveRefusal`]; nothing changes then.
    pub fn prepare(
        &self,
        request_id: Uuid,
        prepared: Prepared,
        now: Timestamp,
    ) -> Result<Vec<Event>, ArchiveRefusal> {
        let request = self.may_prepare(request_id)?;
        let mut events: Vec<Event> = request
            .waiting_archive()
            .map(|it| removed(request_id, it, ArchiveEnd::Replaced, now))
            .into_iter()
            .collect();
        let Prepared { archive_id, records, expires_at } = prepared;
        events.push(Event::ArchivePrepared(ArchivePrepared {
            request_id,
            archive_id,
            records,
            expires_at,
            at: now,
        }));
        // One without somebody's answer is a part: it can be taken, and the request stays to be answered.
        if request.state() == RequestState::Open && request.is_told_by_all() {
            events.push(Event::RequestAnswered(RequestAnswered { request_id, at: now }));
        }
        Ok(events)
    }

    /// Hands the archive out: the only time.
    ///
    /// # Errors
    /// [`ArchiveRefusal`]; nothing changes then.
    pub fn collect(&self, request_id: Uuid, now: Timestamp) -> Result<Event, ArchiveRefusal> {
        let request = self.requests.get(request_id).ok_or(ArchiveRefusal::Unknown)?;
        if self.saga.is_fenced() {
            return Err(ArchiveRefusal::Erased);
        }
        let archive = request.waiting_archive().filter(|archive| now < archive.expires_at);
        let archive_id = archive.ok_or(ArchiveRefusal::Gone)?.id;
        Ok(Event::ArchiveCollected(ArchiveCollected { request_id, archive_id, at: now }))
    }

    /// What is to be destroyed now: archives whose time is over, all of them once her erasure has issued a command.
    #[must_use]
    pub fn over(&self, now: Timestamp) -> Vec<Event> {
        let erased = self.saga.is_fenced();
        let waiting = self.requests.iter().filter_map(|it| Some((it.id, it.waiting_archive()?)));
        let over = waiting.filter(|(_, archive)| erased || now >= archive.expires_at);
        let reason = if erased { ArchiveEnd::Erased } else { ArchiveEnd::Expired };
        over.map(|(request_id, archive)| removed(request_id, archive, reason, now)).collect()
    }

    /// Issues a step of the saga. With the first one every archive of hers ends.
    ///
    /// # Errors
    /// [`Refusal`]; nothing changes then.
    pub fn start_step(&self, command: Command<'_>, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        let mut events = self.saga.decide(command, now)?;
        let mut then = self.clone();
        for event in &events {
            then.evolve(event);
        }
        events.extend(then.over(now));
        Ok(events)
    }
}

fn removed(request_id: Uuid, archive: Archive, reason: ArchiveEnd, now: Timestamp) -> Event {
    Event::ArchiveRemoved(ArchiveRemoved { request_id, archive_id: archive.id, reason, at: now })
}
