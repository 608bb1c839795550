//! Data that are kept and not used, for a request of hers (GDPR Article 18). It guarantees that nothing is recorded
//! as restricted before it is shown who asks, that she is told before it ends (18(3)), and that recipients outside
//! hear of both (19); that nothing is sent meanwhile is the gate's.

use assent_contracts::rights::{
    RequestAnswered, RequestKind, RestrictionEndTold, RestrictionPlaced, RestrictionReleased, Task,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::recipients::Asking;
use super::request::{Closed, Identity, RequestRefusal, SubjectRequest};
use super::{Event, Person};

/// Where a restriction stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// Since when.
    pub since: Timestamp,
    /// That she was told of its end; none: she wasn't.
    pub told: Option<RestrictionEndTold>,
    /// That it is over; none: it stands.
    pub released: Option<RestrictionReleased>,
}

impl Restriction {
    /// One that stands.
    #[must_use]
    pub const fn since(at: Timestamp) -> Self {
        Self { since: at, told: None, released: None }
    }
}

/// Somebody who says something about a restriction: a code, and the key of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The code: how she was told, or why it is over.
    pub code: String,
    /// The key of the caller.
    pub key: String,
}

impl Person {
    /// Whether the use of her data may be restricted for this request.
    ///
    /// # Errors
    /// [`RequestRefusal`].
    pub fn may_restrict(&self, request_id: Uuid) -> Result<&SubjectRequest, RequestRefusal> {
        let request = self.requests.get(request_id).ok_or(RequestRefusal::Unknown)?;
        if request.kind != RequestKind::Restriction || !request.known {
            return Err(RequestRefusal::NotApplicable);
        }
        match (request.closed, &request.identity) {
            // A repeat, whose first answer was lost; never one that was lifted since.
            (Some(Closed { refused: None, .. }), _)
                if request.restriction.as_ref().is_some_and(|it| it.released.is_none()) =>
            {
                Ok(request)
            }
            (Some(_), _) => Err(RequestRefusal::Closed),
            _ if self.saga.is_fenced() => Err(RequestRefusal::ErasureUnderway),
            (None, Identity::Pending) => Err(RequestRefusal::IdentityPending),
            (None, _) => Ok(request),
        }
    }

    /// Takes note that the gate denies everything since: recipients are told, and the request is answered.
    ///
    /// # Errors
    /// [`RequestRefusal`]; nothing changes then.
    pub fn restrict(
        &self,
        request_id: Uuid,
        asking: Asking,
        now: Timestamp,
    ) -> Result<Vec<Event>, RequestRefusal> {
        if self.may_restrict(request_id)?.restriction.is_some() {
            return Ok(Vec::new());
        }
        let placed = Event::RestrictionPlaced(RestrictionPlaced { request_id, at: now });
        let told = asking.event(request_id, Task::Restrict, Vec::new(), now);
        let answered = Event::RequestAnswered(RequestAnswered { request_id, at: now });
        Ok([Some(placed), told, Some(answered)].into_iter().flatten().collect())
    }

    /// Takes note that she was told that it ends.
    ///
    /// # Errors
    /// [`RequestRefusal`]; nothing changes then.
    pub fn tell_end(
        &self,
        request_id: Uuid,
        Said { code, key }: Said,
        now: Timestamp,
    ) -> Result<Vec<Event>, RequestRefusal> {
        let restriction = self.restriction(request_id)?;
        if restriction.told.is_some() {
            return Ok(Vec::new());
        }
        let told = RestrictionEndTold { request_id, how: code, key, at: now };
        Ok(vec![Event::RestrictionEndTold(told)])
    }

    /// Whether it may be lifted: it stands, or was lifted already, and she was told before.
    ///
    /// # Errors
    /// [`RequestRefusal`].
    pub fn may_release(&self, request_id: Uuid) -> Result<&Restriction, RequestRefusal> {
        let restriction = self.restriction(request_id)?;
        if restriction.told.is_none() {
            return Err(RequestRefusal::NotTold);
        }
        Ok(restriction)
    }

    /// Lifts it: recipients are told in the same transaction.
    ///
    /// # Errors
    /// [`RequestRefusal`]; nothing changes then.
    pub fn release(
        &self,
        request_id: Uuid,
        Said { code, key }: Said,
        asking: Asking,
        now: Timestamp,
    ) -> Result<Vec<Event>, RequestRefusal> {
        if self.may_release(request_id)?.released.is_some() {
            return Ok(Vec::new());
        }
        let released = RestrictionReleased { request_id, reason: code, key, at: now };
        let told = asking.event(request_id, Task::Release, Vec::new(), now);
        Ok([Some(Event::RestrictionReleased(released)), told].into_iter().flatten().collect())
    }

    fn restriction(&self, request_id: Uuid) -> Result<&Restriction, RequestRefusal> {
        let request = self.requests.get(request_id).ok_or(RequestRefusal::Unknown)?;
        if self.saga.is_fenced() {
            return Err(RequestRefusal::ErasureUnderway);
        }
        request.restriction.as_ref().ok_or(RequestRefusal::NotRestricted)
    }
}
