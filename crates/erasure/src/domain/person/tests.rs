//! Given what has happened, when this is asked, then that follows: requests, holds, and the erasure
//! that they begin or keep from beginning.

use assent_contracts::erasure::{Ack, Evidence, Positions, Step};
use assent_contracts::rights::{ArchiveEnd, ExtensionReason, IdentityMethod, RefusalGround, Term};
use jiff::SignedDuration;

use super::*;
use crate::domain::Participant;
use crate::domain::archive::{ArchiveRefusal, Prepared, Stage};

const HOLD: Uuid = Uuid::from_u128(77);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn term(last_day: &str, over_at: &str) -> Term {
    Term {
        jurisdiction: "eu".to_owned(),
        rule: "gdpr-answer".to_owned(),
        article: "GDPR Article 12(3)".to_owned(),
        period: "1 month".to_owned(),
        last_day: last_day.parse().unwrap(),
        over_at: at(over_at),
    }
}

/// A month from 26 November 2026 in Paris, and three.
fn terms() -> Terms {
    Terms {
        rules: "0".repeat(64),
        acknowledge: None,
        answer: term("2026-12-28", "2026-12-28T23:00:00Z"),
        extended: Some(term("2027-02-26", "2027-02-26T23:00:00Z")),
        others: Vec::new(),
        identity: true,
        authorities: Vec::new(),
    }
}

fn check(method: IdentityMethod) -> Check {
    Check { method, reason: "known_customer".to_owned(), key: "9f86d081884c7d65".to_owned() }
}

/// A story with a clock that stands unless it is moved.
struct Story {
    person: Person,
    registry: Registry,
    now: Timestamp,
    next: u128,
}

impl Story {
    fn new() -> Self {
        let registry = [("consent", false), ("vault", true)]
            .map(|(name, keeps_keys)| (name.to_owned(), Participant { keeps_keys }));
        Self {
            person: Person::default(),
            registry: registry.into(),
            now: at("2026-11-26T10:00:00Z"),
            next: 1,
        }
    }

    fn id(&mut self) -> Uuid {
        self.next += 1;
        Uuid::from_u128(self.next)
    }

    fn opening(&mut self, kind: RequestKind) -> Opening {
        Opening {
            request_id: self.id(),
            kind,
            purpose: None,
            actor: Actor::Subject,
            origin: None,
            reason: None,
            place: Some("FR".to_owned()),
            known: true,
            received_at: self.now,
            terms: terms(),
            check: None,
        }
    }

    fn happens(&mut self, events: &[Event]) {
        for event in events {
            self.person.evolve(event);
        }
    }

    fn opens(&mut self, new: Opening) -> (Uuid, Vec<Event>) {
        let (request, events) = self.person.open(new, &self.registry, self.now);
        self.happens(&events);
        (request, events)
    }

    fn open(&mut self, kind: RequestKind) -> Uuid {
        let new = self.opening(kind);
        self.opens(new).0
    }

    fn when(&mut self, request: Uuid, command: RequestCommand) -> Result<usize, RequestRefusal> {
        let events = self.person.decide(request, command, &self.registry, self.now)?;
        self.happens(&events);
        Ok(events.len())
    }

    fn confirm(&mut self, request: Uuid) -> Result<usize, RequestRefusal> {
        self.when(request, RequestCommand::ConfirmIdentity(check(IdentityMethod::NumberReply)))
    }

    fn extend(&mut self, request: Uuid) -> Result<usize, RequestRefusal> {
        self.when(request, RequestCommand::Extend { reasons: vec![ExtensionReason::Complexity] })
    }

    fn refuse(&mut self, request: Uuid, ground: RefusalGround) -> Result<usize, RequestRefusal> {
        self.when(request, RequestCommand::Refuse { ground })
    }

    fn holds(&mut self, command: HoldCommand) -> Result<Vec<Event>, HoldError> {
        let events = self.person.hold(command, "key".to_owned(), self.now)?;
        self.happens(&events);
        Ok(events)
    }

    fn place(&mut self, ends_at: Option<Timestamp>) -> Result<Vec<Event>, HoldError> {
        self.holds(HoldCommand::Place {
            hold_id: HOLD,
            purpose: None,
            reason: "litigation".to_owned(),
            review_on: "2027-01-31".parse().unwrap(),
            ends_at,
        })
    }

    fn next(&self) -> Option<Summary> {
        self.person.next(&self.registry, self.now)
    }

    /// Issues the next command, as the driver does.
    fn step(&mut self) -> Option<Step> {
        let command = Command::StartStep {
            command_id: self.id(),
            registry: &self.registry.clone(),
            barrier: Positions::new(),
            held: self.person.holds.stand(self.now),
        };
        let events = self.person.start_step(command, self.now).unwrap();
        self.happens(&events);
        (!events.is_empty())
            .then(|| self.person.saga.request.as_ref().unwrap().commands.last().unwrap().step)
    }

    /// Carries the erasure to its end.
    fn erase(&mut self, request_id: Uuid) {
        loop {
            self.step();
            let issued =
                self.person.saga.request.as_ref().unwrap().commands.last().unwrap().clone();
            if issued.is_answered() {
                break;
            }
            for name in &issued.participants {
                let evidence = Evidence { digest: "0".repeat(64), ..Evidence::default() };
                let ack = Ack {
                    command_id: issued.command_id,
                    step: issued.step,
                    participant: name.clone(),
                    evidence,
                };
                let command = Command::Acknowledge { request_id, ack };
                let events = self.person.saga.decide(command, self.now).unwrap();
                self.happens(&events);
            }
        }
        let command = Command::Complete {
            registry: &self.registry.clone(),
            certificate_sha256: "f".repeat(64),
        };
        let events = self.person.complete(command, self.now).unwrap();
        self.happens(&events);
    }

    fn status(&self, request: Uuid) -> Status {
        self.person.status(self.person.requests.get(request).unwrap(), self.now)
    }
}

#[test]
fn trap_19_a_request_that_nobody_confirmed_erases_nobody() {
    let mut story = Story::new();
    let forged = story.open(RequestKind::Erasure);
    assert_eq!(story.status(forged), Status::IdentityPending);
    assert_eq!((story.person.saga.clone(), story.next()), (Saga::default(), None));
    story.now += SignedDuration::from_hours(24 * 365);
    assert_eq!(story.next(), None, "time confirms nothing");
    assert_eq!(story.when(forged, RequestCommand::Answer), Err(RequestRefusal::IdentityPending));
    assert_eq!(story.refuse(forged, RefusalGround::IdentityNotShown), Ok(1));
    assert_eq!(story.confirm(forged), Err(RequestRefusal::Closed));
    assert_eq!(story.person.saga, Saga::default());

    let hers = story.open(RequestKind::Erasure);
    assert_ne!(hers, forged, "a refused one doesn't stand in the way");
    assert_eq!(story.confirm(hers), Ok(2), "the check, and the beginning");
    assert_eq!(story.next(), Some(Summary::Due(Step::Fence)));
    assert_eq!(story.confirm(hers), Ok(0));
}

#[test]
fn trap_19_what_is_held_is_told_to_nobody_who_has_not_shown_who_she_is() {
    let mut story = Story::new();
    for kind in RequestKind::ALL {
        let request = story.open(kind);
        for ground in [
            RefusalGround::NothingHeld,
            RefusalGround::LegalObligation,
            RefusalGround::LegalClaims,
            RefusalGround::RightsOfOthers,
            RefusalGround::AccurateAlready,
        ] {
            let told = story.refuse(request, ground);
            assert_eq!(told, Err(RequestRefusal::GroundTells), "{kind:?} {ground:?}");
        }
        let answered = story.when(request, RequestCommand::Answer);
        if kind.is_done_at_intake() {
            assert_eq!(answered, Ok(1), "{kind:?}: it has stopped, and nothing is told");
        } else {
            assert_eq!(answered, Err(RequestRefusal::IdentityPending), "{kind:?}");
            assert!(story.confirm(request).is_ok());
        }
    }
}

#[test]
fn a_request_about_nobody_we_know_looks_the_same_and_erases_nobody() {
    let mut story = Story::new();
    let (request, events) = {
        let new = story.opening(RequestKind::Erasure);
        story.opens(Opening { known: false, ..new })
    };
    assert_eq!((events.len(), story.status(request)), (1, Status::IdentityPending));
    assert_eq!(story.confirm(request), Ok(1));
    assert_eq!((story.status(request), story.next()), (Status::Open, None));
    assert_eq!(story.refuse(request, RefusalGround::NothingHeld), Ok(1));
    assert_eq!(story.status(request), Status::Refused);
}

#[test]
fn an_operators_check_at_intake_begins_the_erasure_at_once() {
    let mut story = Story::new();
    let new = story.opening(RequestKind::Erasure);
    let (request, events) =
        story.opens(Opening { check: Some(check(IdentityMethod::Operator)), ..new });
    assert!(matches!(
        events[..],
        [Event::RequestOpened(_), Event::IdentityConfirmed(_), Event::Requested(_)]
    ));
    assert_eq!(story.person.saga.request.as_ref().unwrap().due, terms().answer.over_at);
    story.erase(request);
    assert_eq!(story.status(request), Status::Completed);
    assert_eq!(story.person.requests.get(request).unwrap().state(), RequestState::Answered);
}

#[test]
fn whoever_asks_gets_a_request_of_her_own_and_one_erasure_answers_them_all() {
    let mut story = Story::new();
    let forged = story.open(RequestKind::Erasure);
    let new = story.opening(RequestKind::Erasure);
    let (hers, events) = story.opens(new);
    assert_ne!(hers, forged);
    assert!(matches!(events[..], [Event::RequestOpened(_)]), "as for somebody unknown");
    assert_eq!(story.confirm(hers), Ok(2));
    story.step();
    let checked = story.opening(RequestKind::Erasure);
    let checked = Opening { check: Some(check(IdentityMethod::Operator)), ..checked };
    let (third, events) = story.opens(checked);
    assert!(matches!(events[..], [Event::RequestOpened(_), Event::IdentityConfirmed(_)]));
    story.erase(hers);
    assert_eq!((story.status(hers), story.status(third)), (Status::Completed, Status::Answered));
    assert_eq!(story.status(forged), Status::IdentityPending);
    let new = story.opening(RequestKind::Erasure);
    let checked = Opening { check: Some(check(IdentityMethod::Operator)), ..new };
    let (fourth, events) = story.opens(checked);
    assert_eq!((story.status(fourth), events.len()), (Status::Answered, 3), "it is done already");
}

#[test]
fn nobody_is_asked_who_she_is_for_an_opt_out_that_needs_no_proof_or_where_nobody_asked() {
    let mut story = Story::new();
    let new = story.opening(RequestKind::OptOut);
    let unproved = Terms { identity: false, ..terms() };
    let (opt_out, _) = story.opens(Opening { terms: unproved, ..new });
    assert_eq!(story.status(opt_out), Status::Open);
    assert_eq!(story.when(opt_out, RequestCommand::Answer), Ok(1));
    assert_eq!(story.when(opt_out, RequestCommand::Answer), Ok(0));
    let new = story.opening(RequestKind::Erasure);
    let (retention, events) = story.opens(Opening { actor: Actor::System, ..new });
    assert_eq!((story.status(retention), events.len()), (Status::Requested, 2));
}

#[test]
fn trap_14_a_term_is_extended_once_with_reasons_and_only_while_it_runs() {
    let mut story = Story::new();
    let request = story.open(RequestKind::Access);
    let none = story.when(request, RequestCommand::Extend { reasons: Vec::new() });
    assert_eq!(none, Err(RequestRefusal::NoReason));
    story.now = at("2026-12-28T23:00:00Z");
    assert_eq!(story.extend(request), Err(RequestRefusal::TermOver), "the first moment after it");
    story.now = at("2026-12-28T22:59:59Z");
    assert_eq!(story.extend(request), Ok(1));
    let extended = story.person.requests.get(request).unwrap();
    assert_eq!(extended.due, at("2027-02-26T23:00:00Z"));
    let reasons = extended.extended.as_ref().unwrap().reasons.clone();
    assert_eq!(reasons, [ExtensionReason::Complexity]);
    story.now = at("2027-01-15T10:00:00Z");
    assert_eq!(story.extend(request), Ok(0), "a repeat changes nothing, whenever it comes");
    let other = RequestCommand::Extend { reasons: vec![ExtensionReason::NumberOfRequests] };
    assert_eq!(story.when(request, other), Err(RequestRefusal::ExtendedAlready));
    story.now = at("2026-12-28T22:59:59Z");

    let new = story.opening(RequestKind::Access);
    let (brazil, _) = story.opens(Opening { terms: Terms { extended: None, ..terms() }, ..new });
    assert_eq!(story.extend(brazil), Err(RequestRefusal::NoExtension));
}

#[test]
fn what_is_over_stays_over() {
    let mut story = Story::new();
    let request = story.open(RequestKind::Rectification);
    story.confirm(request).unwrap();
    assert_eq!(story.refuse(request, RefusalGround::AccurateAlready), Ok(1));
    assert_eq!(story.refuse(request, RefusalGround::AccurateAlready), Ok(0));
    for command in [
        RequestCommand::Acknowledge,
        RequestCommand::Answer,
        RequestCommand::Refuse { ground: RefusalGround::Excessive },
        RequestCommand::Extend { reasons: vec![ExtensionReason::Complexity] },
    ] {
        assert_eq!(story.when(request, command), Err(RequestRefusal::Closed));
    }
    let unknown = story.when(Uuid::from_u128(999), RequestCommand::Answer);
    assert_eq!(unknown, Err(RequestRefusal::Unknown));
}

#[test]
fn an_erasure_that_has_issued_a_command_is_neither_refused_nor_answered_by_hand() {
    let mut story = Story::new();
    let request = story.open(RequestKind::Erasure);
    story.confirm(request).unwrap();
    story.step();
    for command in
        [RequestCommand::Answer, RequestCommand::Refuse { ground: RefusalGround::LegalClaims }]
    {
        assert_eq!(story.when(request, command), Err(RequestRefusal::ErasureUnderway));
    }
}

#[test]
fn an_erasure_on_hold_can_be_refused_and_then_stops() {
    let mut story = Story::new();
    story.place(None).unwrap();
    let request = story.open(RequestKind::Erasure);
    story.confirm(request).unwrap();
    assert_eq!(story.next(), Some(Summary::Held));
    let foreign = story.refuse(request, RefusalGround::AccurateAlready);
    assert_eq!(foreign, Err(RequestRefusal::GroundNotApplicable));
    assert_eq!(story.refuse(request, RefusalGround::LegalClaims), Ok(1));
    assert_eq!((story.status(request), story.next()), (Status::Refused, None));
    let release = HoldCommand::Release { hold_id: HOLD, reason: "settled".to_owned() };
    story.holds(release).unwrap();
    assert_eq!(story.next(), None, "what was refused stays undone");

    let again = story.open(RequestKind::Erasure);
    assert_ne!(again, request);
    assert_eq!(story.confirm(again), Ok(2));
    assert_eq!(story.step(), Some(Step::Fence));
    assert_eq!(story.person.saga.request.as_ref().unwrap().id, again);
}

#[test]
fn a_request_that_waits_for_its_proof_does_not_keep_her_who_is_kept_no_longer() {
    let mut story = Story::new();
    let forged = story.open(RequestKind::Erasure);
    let new = story.opening(RequestKind::Erasure);
    let (retention, events) = story.opens(Opening { actor: Actor::System, ..new });
    assert_ne!(retention, forged);
    assert!(matches!(events[..], [Event::RequestOpened(_), Event::Requested(_)]));
    assert_eq!(
        (story.status(forged), story.next()),
        (Status::IdentityPending, Some(Summary::Due(Step::Fence)))
    );
    let new = story.opening(RequestKind::Erasure);
    let again = story.opens(Opening { actor: Actor::System, ..new });
    assert_eq!(again, (retention, Vec::new()), "time runs out once");
}

#[test]
fn an_erasure_that_is_confirmed_beside_another_is_answered_with_it() {
    for late in [false, true] {
        let mut story = Story::new();
        let hers = story.open(RequestKind::Erasure);
        let new = story.opening(RequestKind::Erasure);
        let (retention, _) = story.opens(Opening { actor: Actor::System, ..new });
        if late {
            story.erase(retention);
            assert_eq!(story.status(hers), Status::IdentityPending);
            assert_eq!(story.confirm(hers), Ok(2), "it is done already");
        } else {
            assert_eq!(story.confirm(hers), Ok(1));
            story.step();
            assert_eq!(story.status(hers), Status::Fencing);
            let refused = story.refuse(hers, RefusalGround::LegalClaims);
            assert_eq!(refused, Err(RequestRefusal::ErasureUnderway));
            story.erase(retention);
        }
        assert_eq!(story.status(hers), Status::Answered);
        assert_eq!(story.status(retention), Status::Completed);
    }
}

#[test]
fn of_two_confirmed_erasures_the_other_goes_on_when_one_is_refused() {
    let mut story = Story::new();
    let hers = story.open(RequestKind::Erasure);
    let new = story.opening(RequestKind::Erasure);
    let (retention, _) = story.opens(Opening { actor: Actor::System, ..new });
    story.confirm(hers).unwrap();
    assert_eq!(story.refuse(retention, RefusalGround::LegalClaims), Ok(2));
    assert_eq!(story.person.saga.request.as_ref().unwrap().id, hers);
}

#[test]
fn trap_11_an_erasure_is_not_answered_while_one_answer_is_missing() {
    let mut story = Story::new();
    let request = story.open(RequestKind::Erasure);
    story.confirm(request).unwrap();
    story.step();
    let issued = story.person.saga.request.as_ref().unwrap().commands[0].clone();
    let ack = Ack {
        command_id: issued.command_id,
        step: Step::Fence,
        participant: "consent".to_owned(),
        evidence: Evidence { digest: "0".repeat(64), ..Evidence::default() },
    };
    let events =
        story.person.saga.decide(Command::Acknowledge { request_id: request, ack }, story.now);
    story.happens(&events.unwrap());
    assert_eq!(story.step(), None);
    let registry = story.registry.clone();
    let complete = Command::Complete { registry: &registry, certificate_sha256: "f".repeat(64) };
    assert!(story.person.saga.decide(complete, story.now).is_err());
    assert_eq!(story.person.requests.get(request).unwrap().state(), RequestState::Open);
}

#[test]
fn trap_15_a_hold_keeps_the_erasure_from_its_first_step_until_it_is_released() {
    let mut story = Story::new();
    story.place(None).unwrap();
    let request = story.open(RequestKind::Erasure);
    story.confirm(request).unwrap();
    assert_eq!((story.status(request), story.next()), (Status::OnHold, Some(Summary::Held)));
    assert_eq!(story.step(), None);
    let release = HoldCommand::Release { hold_id: HOLD, reason: "settled".to_owned() };
    assert_eq!(story.holds(release.clone()).unwrap().len(), 1);
    assert_eq!(story.holds(release).unwrap().len(), 0);
    assert_eq!(story.status(request), Status::Requested);
    assert_eq!(story.step(), Some(Step::Fence), "what waited goes on");
}

#[test]
fn trap_15_a_hold_ends_by_itself_on_its_day_and_is_reviewed_before() {
    let mut story = Story::new();
    let ends_at = at("2027-06-30T22:00:00Z");
    story.place(Some(ends_at)).unwrap();
    assert_eq!(story.person.holds.end(story.now), Some(ends_at));
    let mut two = story.person.clone();
    let place = |hold_id: u128, ends_at| HoldCommand::Place {
        hold_id: Uuid::from_u128(hold_id),
        purpose: None,
        reason: "audit".to_owned(),
        review_on: "2027-01-31".parse().unwrap(),
        ends_at,
    };
    let sooner = ends_at - SignedDuration::from_hours(1);
    for (hold_id, ends, end) in [(1, Some(sooner), Some(ends_at)), (2, None, None)] {
        for event in two.hold(place(hold_id, ends), "key".to_owned(), story.now).unwrap() {
            two.evolve(&event);
        }
        assert_eq!(two.holds.end(story.now), end, "not before the last of them");
    }
    let request = story.open(RequestKind::Erasure);
    story.confirm(request).unwrap();
    let review = |day: &str| HoldCommand::Review { hold_id: HOLD, review_on: day.parse().unwrap() };
    assert_eq!(story.holds(review("2026-11-26")), Err(HoldError::Past));
    assert_eq!(story.holds(review("2027-11-27")), Err(HoldError::TooFar), "a year and a day");
    story.holds(review("2027-11-26")).unwrap();
    story.holds(review("2027-03-31")).unwrap();
    let hold = story.person.holds.get(HOLD).unwrap();
    assert_eq!(hold.review_on.to_string(), "2027-03-31");
    story.now = at("2027-06-30T21:59:59Z");
    assert_eq!(story.step(), None);
    story.now = ends_at;
    assert_eq!(story.holds(review("2027-12-31")), Err(HoldError::Over));
    assert_eq!(story.step(), Some(Step::Fence));
}

#[test]
fn trap_15_past_the_fence_a_hold_is_refused_on_record() {
    let mut story = Story::new();
    let request = story.open(RequestKind::Erasure);
    story.confirm(request).unwrap();
    story.step();
    let events = story.place(None).unwrap();
    assert!(matches!(&events[..], [Event::HoldRefused(refused)] if refused.reason == "litigation"));
    assert_eq!(story.person.holds.get(HOLD), None);
    story.erase(request);
    assert_eq!(story.status(request), Status::Completed);
    assert!(matches!(&story.place(None).unwrap()[..], [Event::HoldRefused(_)]));
}

#[test]
fn a_hold_has_a_day_of_review_and_an_end_that_are_ahead() {
    let mut story = Story::new();
    assert_eq!(story.place(Some(story.now)), Err(HoldError::Past));
    story.now = at("2027-01-31T00:00:00Z");
    assert_eq!(story.place(None), Err(HoldError::Past), "its day of review has begun");
    let unknown = HoldCommand::Release { hold_id: HOLD, reason: "settled".to_owned() };
    assert_eq!(story.holds(unknown), Err(HoldError::Unknown));
}

#[test]
fn an_erasure_from_before_there_were_other_requests_is_one_of_them() {
    let mut story = Story::new();
    let registry = story.registry.clone();
    let request_id = Uuid::from_u128(9);
    let due = at("2026-12-26T10:00:00Z");
    let old = Command::RequestErasure { request_id, registry: &registry, due };
    let events = story.person.saga.decide(old, story.now).unwrap();
    story.happens(&events);
    let request = story.person.requests.get(request_id).unwrap();
    assert_eq!(
        (request.kind, request.due, request.state()),
        (RequestKind::Erasure, due, RequestState::Open)
    );
    story.erase(request_id);
    assert_eq!(story.status(request_id), Status::Completed);
}

fn prepared(story: &mut Story) -> Prepared {
    let expires_at = story.now + SignedDuration::from_hours(24);
    Prepared { archive_id: story.id(), records: [("contact".to_owned(), 1)].into(), expires_at }
}

#[test]
fn an_archive_answers_the_request_and_is_handed_out_once_and_in_time() {
    let mut story = Story::new();
    let request = story.open(RequestKind::Access);
    let archive = prepared(&mut story);
    let early = story.person.prepare(request, archive.clone(), story.now);
    assert_eq!(early, Err(ArchiveRefusal::IdentityPending));
    assert!(!story.person.requests.get(request).unwrap().awaits_archive());
    story.confirm(request).unwrap();
    assert!(story.person.requests.get(request).unwrap().awaits_archive());
    assert_eq!(story.person.collect(request, story.now), Err(ArchiveRefusal::Gone));

    let events = story.person.prepare(request, archive.clone(), story.now).unwrap();
    story.happens(&events);
    assert_eq!((events.len(), story.status(request)), (2, Status::Answered));
    let over = archive.expires_at;
    assert_eq!(story.person.collect(request, over), Err(ArchiveRefusal::Gone));
    assert!(story.person.over(over - SignedDuration::from_secs(1)).is_empty());
    assert_eq!(story.person.over(over).len(), 1);
    let collected = story.person.collect(request, over - SignedDuration::from_secs(1)).unwrap();
    story.happens(&[collected]);
    assert_eq!(story.person.collect(request, story.now), Err(ArchiveRefusal::Gone));
    assert!(story.person.over(over).is_empty(), "nothing is left to be destroyed");

    // Anew, twice: the newest one counts, and the answer is the first one.
    for events_of in [1, 2] {
        let again = prepared(&mut story);
        let events = story.person.prepare(request, again, story.now).unwrap();
        story.happens(&events);
        assert_eq!(events.len(), events_of);
    }
}

#[test]
fn what_is_no_request_to_see_something_or_about_nobody_has_no_archive() {
    let mut story = Story::new();
    let rectification = story.open(RequestKind::Rectification);
    let nobody = Opening { known: false, ..story.opening(RequestKind::Access) };
    let (nobody, _) = story.opens(nobody);
    let refused = story.open(RequestKind::Access);
    story.refuse(refused, RefusalGround::Excessive).unwrap();
    for (request, why) in [
        (rectification, ArchiveRefusal::NotApplicable),
        (nobody, ArchiveRefusal::NotApplicable),
        (refused, ArchiveRefusal::Closed),
        (Uuid::from_u128(999), ArchiveRefusal::Unknown),
    ] {
        let archive = prepared(&mut story);
        assert_eq!(story.person.prepare(request, archive, story.now), Err(why));
    }
}

/// Trap 13: the first command of her erasure ends every archive of hers, and none comes after it.
#[test]
fn trap_13_with_the_fence_every_archive_ends() {
    let mut story = Story::new();
    let (request, erasure) = (story.open(RequestKind::Access), story.open(RequestKind::Erasure));
    story.confirm(request).unwrap();
    let archive = prepared(&mut story);
    let events = story.person.prepare(request, archive.clone(), story.now).unwrap();
    story.happens(&events);
    story.confirm(erasure).unwrap();
    assert!(story.person.collect(request, story.now).is_ok(), "nothing is issued yet");
    assert_eq!(story.step(), Some(Step::Fence));
    let left = story.person.requests.get(request).unwrap();
    assert_eq!(left.archive.unwrap().stage, Stage::Removed(ArchiveEnd::Erased));
    assert_eq!(story.person.collect(request, story.now), Err(ArchiveRefusal::Erased));
    let again = prepared(&mut story);
    assert_eq!(story.person.prepare(request, again, story.now), Err(ArchiveRefusal::Erased));
}

impl Story {
    /// A request to erase one purpose's data, of somebody who has shown who she is.
    fn erases_purpose(&mut self, purpose: &str) -> Uuid {
        let new = self.opening(RequestKind::Erasure);
        let purpose = Some(purpose.to_owned());
        let check = Some(check(IdentityMethod::Operator));
        self.opens(Opening { purpose, check, ..new }).0
    }

    fn next_of(&self, request_id: Uuid) -> Option<Summary> {
        self.person.next_of_purpose(request_id, &self.registry, self.now)
    }

    /// Carries the erasure of one purpose's data to its end: its steps, and what happened.
    fn erase_purpose(&mut self, request_id: Uuid) -> (Vec<Step>, Vec<Event>) {
        let (mut steps, mut all) = (Vec::new(), Vec::new());
        while let Some(Summary::Due(step)) = self.next_of(request_id) {
            let command_id = self.id();
            let erasure = self.person.purposes.get(request_id).unwrap();
            let barrier = Positions::new();
            let events = erasure.start_step(command_id, &self.registry, barrier, false, self.now);
            let events = events.unwrap();
            self.happens(&events);
            all.extend(events);
            steps.push(step);
            for participant in self.registry.keys().cloned().collect::<Vec<_>>() {
                let evidence = Evidence { digest: "0".repeat(64), ..Evidence::default() };
                let ack = Ack { command_id, step, participant, evidence };
                let erasure = self.person.purposes.get(request_id).unwrap();
                let answer = Command::Acknowledge { request_id, ack };
                let events = erasure.decide(answer, self.now).unwrap();
                self.happens(&events);
                all.extend(events);
            }
        }
        assert_eq!(self.next_of(request_id), Some(Summary::Proved));
        let erasure = self.person.purposes.get(request_id).unwrap();
        let events = erasure.complete(&self.registry, "f".repeat(64), self.now).unwrap();
        self.happens(&events);
        all.extend(events);
        (steps, all)
    }
}

#[test]
fn the_erasure_of_one_purpose_destroys_no_key_and_begins_no_erasure_of_the_person() {
    let mut story = Story::new();
    let request = story.erases_purpose("newsletter");
    assert_eq!(story.status(request), Status::Requested);
    assert_eq!((story.person.saga.clone(), story.next()), (Saga::default(), None));
    let (steps, events) = story.erase_purpose(request);
    assert_eq!(steps, [Step::Fence, Step::Delete, Step::Sweep], "the vault keeps her key");
    assert_eq!(story.status(request), Status::Completed);
    assert_eq!(story.person.saga, Saga::default(), "she is not erased");

    // A replica of before knows none of these types: for it nothing has happened that begins an erasure.
    let known_before = |event: &Event| {
        let new = event.to_new(Uuid::nil()).unwrap();
        !new.event_type.contains(".purpose_")
    };
    assert_eq!(events.iter().filter(|event| known_before(event)).count(), 0, "{events:?}");
    // She may ask again: what was recorded since is erased by another.
    let again = story.erases_purpose("newsletter");
    assert_eq!(story.next_of(again), Some(Summary::Due(Step::Fence)));
}

#[test]
fn a_hold_on_one_purpose_keeps_the_erasure_of_that_purpose_waiting_and_of_no_other() {
    let mut story = Story::new();
    let place = |hold: u128, purpose: &str| HoldCommand::Place {
        hold_id: Uuid::from_u128(hold),
        purpose: Some(purpose.to_owned()),
        reason: "litigation".to_owned(),
        review_on: "2027-01-31".parse().unwrap(),
        ends_at: None,
    };
    story.holds(place(1, "orders")).unwrap();
    let orders = story.erases_purpose("orders");
    let newsletter = story.erases_purpose("newsletter");
    assert_eq!(story.next_of(orders), Some(Summary::Held));
    assert_eq!(story.status(orders), Status::OnHold);
    assert_eq!(story.next_of(newsletter), Some(Summary::Due(Step::Fence)));
    // On hold it can be refused, and then it never begins.
    assert_eq!(story.refuse(orders, RefusalGround::LegalClaims), Ok(1));
    let over = HoldCommand::Release { hold_id: Uuid::from_u128(1), reason: "settled".to_owned() };
    story.holds(over).unwrap();
    assert_eq!(story.next_of(orders), None);

    let erasure = story.person.purposes.get(newsletter).unwrap();
    let id = Uuid::from_u128(500);
    let fence = erasure.start_step(id, &story.registry, Positions::new(), false, story.now);
    story.happens(&fence.unwrap());
    assert_eq!(
        story.refuse(newsletter, RefusalGround::LegalClaims),
        Err(RequestRefusal::ErasureUnderway)
    );
    let refused = |events: &[Event]| matches!(events, [Event::HoldRefused(_)]);
    assert!(refused(&story.holds(place(2, "newsletter")).unwrap()), "it has begun");
    assert!(!refused(&story.holds(place(3, "orders")).unwrap()), "that one hasn't");
}

#[test]
fn the_erasure_of_the_person_neither_waits_for_one_purpose_nor_is_begun_or_ended_by_it() {
    let mut story = Story::new();
    let purpose = story.erases_purpose("newsletter");
    let whole = story.open(RequestKind::Erasure);
    assert_eq!(story.next(), None, "it isn't shown yet that she asks herself");
    story.confirm(whole).unwrap();
    story.erase(whole);
    assert_eq!(story.status(whole), Status::Completed);
    assert_eq!(story.status(purpose), Status::Requested, "its own proof is still to come");
    story.erase_purpose(purpose);
    assert_eq!(story.status(purpose), Status::Completed);
}

#[test]
fn trap_19_nobody_unproved_erases_a_purpose() {
    let mut story = Story::new();
    let new = story.opening(RequestKind::Erasure);
    let (request, events) = story.opens(Opening { purpose: Some("orders".to_owned()), ..new });
    assert!(matches!(events[..], [Event::PurposeRequestOpened(_)]));
    assert_eq!((story.next_of(request), story.next()), (None, None));
    assert_eq!(story.confirm(request), Ok(2), "the check, and the beginning");
    assert_eq!(story.next_of(request), Some(Summary::Due(Step::Fence)));
    assert_eq!(story.next(), None);
    let answered = story.when(request, RequestCommand::Answer);
    assert_eq!(answered, Err(RequestRefusal::ErasureUnderway));
}
