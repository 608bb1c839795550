//! Given what has happened, when this is asked, then that follows: the rules of the saga.

use std::collections::BTreeMap;

use assent_contracts::erasure::{Ack, Evidence, Positions, Step};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::person::Person;
use super::*;
use crate::certificate::{self, Terms};

const REQUEST: Uuid = Uuid::from_u128(1);
const TIMEOUT: SignedDuration = SignedDuration::from_secs(60);

fn start() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

fn due() -> Timestamp {
    "2026-03-02T23:00:00Z".parse().unwrap()
}

/// A registry; a name that ends in `*` keeps keys.
fn registry(names: &[&str]) -> Registry {
    names
        .iter()
        .map(|name| {
            let participant = Participant { keeps_keys: name.ends_with('*') };
            (name.trim_end_matches('*').to_owned(), participant)
        })
        .collect()
}

fn evidence(count: u64) -> Evidence {
    Evidence {
        counts: BTreeMap::from([("contacts".to_owned(), count)]),
        digest: "0".repeat(64),
        positions: Positions::new(),
        kept: Vec::new(),
    }
}

/// A story that is told event by event, with a clock that moves a second per telling.
struct Story {
    events: Vec<Event>,
    registry: Registry,
    now: Timestamp,
    next_command: u128,
}

impl Story {
    fn requested(names: &[&str]) -> Self {
        let mut story =
            Self { events: Vec::new(), registry: registry(names), now: start(), next_command: 100 };
        let registry = story.registry.clone();
        let made = story
            .when(Command::RequestErasure { request_id: REQUEST, registry: &registry, due: due() })
            .unwrap();
        assert_eq!(made, 1);
        story
    }

    fn saga(&self) -> Saga {
        Saga::fold(&self.events)
    }

    fn request(&self) -> Request {
        self.saga().request.unwrap()
    }

    fn status(&self) -> Status {
        self.request().status()
    }

    /// Decides and, if it is allowed, lets it happen; how many events that made.
    fn when(&mut self, command: Command<'_>) -> Result<usize, Refusal> {
        let events = self.saga().decide(command, self.now)?;
        self.now += SignedDuration::from_secs(1);
        let made = events.len();
        self.events.extend(events);
        Ok(made)
    }

    fn start_step(&mut self) -> Option<Issued> {
        let registry = self.registry.clone();
        let command_id = Uuid::from_u128(self.next_command);
        self.next_command += 1;
        let command = Command::StartStep {
            command_id,
            registry: &registry,
            barrier: Positions::new(),
            held: false,
        };
        let made = self.when(command).unwrap();
        (made > 0).then(|| self.request().command(command_id).unwrap().clone())
    }

    fn ack(&mut self, issued: &Issued, name: &str) -> Result<usize, Refusal> {
        let count = if issued.step == Step::Sweep { 0 } else { 3 };
        self.ack_with(issued.command_id, issued.step, name, evidence(count))
    }

    fn ack_with(
        &mut self,
        command_id: Uuid,
        step: Step,
        name: &str,
        evidence: Evidence,
    ) -> Result<usize, Refusal> {
        let ack = Ack { command_id, step, participant: name.to_owned(), evidence };
        self.when(Command::Acknowledge { request_id: REQUEST, ack })
    }

    fn complete(&mut self) -> Result<usize, Refusal> {
        let registry = self.registry.clone();
        let certificate_sha256 = "f".repeat(64);
        self.when(Command::Complete { registry: &registry, certificate_sha256 })
    }

    /// Runs the next command with all its answers.
    fn run_step(&mut self) -> Issued {
        let issued = self.start_step().expect("a step is due");
        for name in &issued.participants {
            self.ack(&issued, name).unwrap();
        }
        issued
    }
}

#[test]
fn the_steps_follow_each_other_and_only_key_holders_destroy_keys() {
    let mut story = Story::requested(&["consent", "vault*", "messaging"]);
    assert_eq!(story.status(), Status::Requested);
    assert_eq!(story.request().due, due());
    for (step, status, participants) in [
        (Step::Fence, Status::Fencing, vec!["consent", "messaging", "vault"]),
        (Step::Delete, Status::Deleting, vec!["consent", "messaging", "vault"]),
        (Step::DestroyKeys, Status::DestroyingKeys, vec!["vault"]),
        (Step::Sweep, Status::Sweeping, vec!["consent", "messaging", "vault"]),
    ] {
        let issued = story.start_step().unwrap();
        assert_eq!(issued.step, step);
        assert_eq!(issued.participants.iter().collect::<Vec<_>>(), participants);
        assert_eq!(story.status(), status);
        for name in &issued.participants {
            assert_eq!(story.start_step(), None, "an answer is missing: nothing moves");
            assert_eq!(story.complete(), Err(Refusal::Unfinished));
            story.ack(&issued, name).unwrap();
            assert_eq!(story.status(), status);
        }
    }
    assert_eq!(story.request().summary(&story.registry, false), Summary::Proved);
    assert_eq!(story.complete(), Ok(1));
    assert_eq!(story.status(), Status::Completed);
    assert_eq!(story.complete(), Ok(0));
    assert_eq!(story.start_step(), None);
}

#[test]
fn a_person_has_one_request() {
    let mut story = Story::requested(&["consent"]);
    let registry = story.registry.clone();
    let again =
        Command::RequestErasure { request_id: Uuid::from_u128(2), registry: &registry, due: due() };
    assert_eq!(story.when(again), Ok(0));
    assert_eq!(story.request().id, REQUEST);
}

#[test]
fn without_keepers_no_keys_are_destroyed_and_without_participants_nothing_is_certified() {
    let mut story = Story::requested(&["consent"]);
    let steps: Vec<Step> = (0..3).map(|_| story.run_step().step).collect();
    assert_eq!(steps, [Step::Fence, Step::Delete, Step::Sweep]);
    assert_eq!(story.complete(), Ok(1));

    let mut nobody = Story::requested(&[]);
    assert_eq!(nobody.start_step(), None);
    assert_eq!(nobody.complete(), Err(Refusal::Unfinished));
    assert_eq!(nobody.request().summary(&registry(&[]), false), Summary::Waiting);
}

// Toy 13: a stale, duplicate or unknown reply can't advance the saga; late time-outs are counted.

#[test]
fn a_duplicate_answer_changes_nothing_and_the_first_stands() {
    let mut story = Story::requested(&["consent", "vault"]);
    let fence = story.start_step().unwrap();
    assert_eq!(story.ack(&fence, "consent"), Ok(1));
    let before = story.saga();
    assert_eq!(story.ack(&fence, "consent"), Ok(0));
    assert_eq!(story.ack_with(fence.command_id, Step::Fence, "consent", evidence(9)), Ok(0));
    assert_eq!(story.saga(), before);
    assert_eq!(story.start_step(), None);
}

#[test]
fn answers_that_match_no_open_command_are_refused() {
    let mut story = Story::requested(&["consent", "vault"]);
    let fence = story.run_step();
    let delete = story.start_step().unwrap();
    let before = story.saga();
    let unknown = Uuid::from_u128(999);
    for (command_id, step, name, refusal) in [
        (unknown, Step::Delete, "vault", Refusal::UnknownCommand),
        (delete.command_id, Step::Fence, "vault", Refusal::WrongStep),
        (fence.command_id, Step::Delete, "vault", Refusal::WrongStep),
        (delete.command_id, Step::Delete, "stranger", Refusal::NotAsked),
    ] {
        assert_eq!(story.ack_with(command_id, step, name, evidence(1)), Err(refusal));
    }
    // Stale: the fence's answer once more, while the deletion is open.
    assert_eq!(story.ack(&fence, "vault"), Ok(0));
    let ack = Ack {
        command_id: delete.command_id,
        step: Step::Delete,
        participant: "vault".to_owned(),
        evidence: evidence(1),
    };
    let foreign = Command::Acknowledge { request_id: Uuid::from_u128(2), ack };
    assert_eq!(story.when(foreign), Err(Refusal::UnknownRequest));
    assert_eq!(story.saga(), before);
}

#[test]
fn an_answer_before_any_request_is_refused() {
    let ack = Ack {
        command_id: Uuid::from_u128(100),
        step: Step::Fence,
        participant: "vault".to_owned(),
        evidence: evidence(0),
    };
    let answered =
        Saga::default().decide(Command::Acknowledge { request_id: REQUEST, ack }, start());
    assert_eq!(answered, Err(Refusal::UnknownRequest));
}

#[test]
fn a_sweep_that_found_something_is_no_proof() {
    let mut story = Story::requested(&["vault"]);
    story.run_step();
    story.run_step();
    let sweep = story.start_step().unwrap();
    let found = story.ack_with(sweep.command_id, Step::Sweep, "vault", evidence(1));
    assert_eq!(found, Err(Refusal::NotEmpty));
    assert_eq!(story.complete(), Err(Refusal::Unfinished));
    assert_eq!(story.ack(&sweep, "vault"), Ok(1));
    assert_eq!(story.complete(), Ok(1));
}

#[test]
fn evidence_carries_codes_and_no_text() {
    let mut story = Story::requested(&["vault"]);
    let fence = story.start_step().unwrap();
    let mut kind = evidence(1);
    kind.counts.insert("+33612345678".to_owned(), 1);
    let mut digest = evidence(1);
    digest.digest = "Ana".to_owned();
    let mut count = evidence(1);
    count.counts.insert("rows".to_owned(), u64::MAX);
    for wrong in [kind, digest, count] {
        let refused = story.ack_with(fence.command_id, Step::Fence, "vault", wrong);
        assert_eq!(refused, Err(Refusal::EvidenceInvalid));
    }
}

#[test]
fn a_participant_behind_the_barrier_has_not_deleted_all() {
    let mut story = Story::requested(&["vault"]);
    story.run_step();
    let registry = story.registry.clone();
    let position =
        |end| BTreeMap::from([("assent.vault.events.v1".to_owned(), BTreeMap::from([(3, end)]))]);
    let command_id = Uuid::from_u128(7);
    story
        .when(Command::StartStep {
            command_id,
            registry: &registry,
            barrier: position(10),
            held: false,
        })
        .unwrap();
    let behind = Evidence { positions: position(9), ..evidence(1) };
    assert_eq!(
        story.ack_with(command_id, Step::Delete, "vault", behind),
        Err(Refusal::BehindBarrier)
    );
    let reached = Evidence { positions: position(10), ..evidence(1) };
    assert_eq!(story.ack_with(command_id, Step::Delete, "vault", reached), Ok(1));
}

#[test]
fn a_time_out_after_the_last_answer_is_told_apart() {
    let mut story = Story::requested(&["vault"]);
    let fence = story.run_step();
    story.now += SignedDuration::from_hours(1);
    let late = Command::MarkOverdue { command_id: fence.command_id, timeout: TIMEOUT };
    assert_eq!(story.when(late), Err(Refusal::LateTimeout));
    let unknown = Command::MarkOverdue { command_id: Uuid::from_u128(9), timeout: TIMEOUT };
    assert_eq!(story.when(unknown), Err(Refusal::UnknownCommand));
    assert_eq!(story.status(), Status::Fencing);
}

// Toy 14: an unreachable participant makes the status incomplete.

#[test]
fn a_missing_answer_shows_as_incomplete_until_it_comes() {
    let mut story = Story::requested(&["consent", "vault"]);
    let fence = story.start_step().unwrap();
    story.ack(&fence, "consent").unwrap();
    let overdue = |story: &mut Story| {
        story.when(Command::MarkOverdue { command_id: fence.command_id, timeout: TIMEOUT })
    };
    assert_eq!(overdue(&mut story), Ok(0), "its time has not run out");
    story.now = fence.at + TIMEOUT;
    assert_eq!(overdue(&mut story), Ok(1));
    assert_eq!(story.status(), Status::Incomplete);
    let request = story.request();
    assert_eq!(request.commands[0].missing().collect::<Vec<_>>(), ["vault"]);
    assert_eq!(overdue(&mut story), Ok(0), "said once");
    assert_eq!(story.start_step(), None);
    assert_eq!(story.complete(), Err(Refusal::Unfinished));

    story.ack(&fence, "vault").unwrap();
    assert_eq!(story.status(), Status::Fencing);
    assert_eq!(story.start_step().unwrap().step, Step::Delete);
}

// Toy 17: a participant that registers, leaves or lags in the middle of a saga is waited for.

#[test]
fn a_newcomer_catches_up_from_the_fence_before_it_is_completed() {
    let mut story = Story::requested(&["consent", "vault*"]);
    for _ in 0..3 {
        story.run_step();
    }
    let sweep = story.start_step().unwrap();
    story.ack(&sweep, "consent").unwrap();
    story.registry = registry(&["consent", "crm*", "vault*"]);
    story.ack(&sweep, "vault").unwrap();
    assert_eq!(story.complete(), Err(Refusal::Unfinished), "the newcomer is read under lock");

    for step in STEPS {
        let catching_up = story.start_step().unwrap();
        assert_eq!(catching_up.step, step);
        assert_eq!(catching_up.participants.iter().collect::<Vec<_>>(), ["crm"]);
        assert_eq!(story.status(), Status::Sweeping, "it doesn't look as if it went back");
        assert_eq!(story.complete(), Err(Refusal::Unfinished));
        story.ack(&catching_up, "crm").unwrap();
    }
    assert_eq!(story.complete(), Ok(1));
}

#[test]
fn trap_24_who_registers_after_completion_is_told_of_no_erasure_before() {
    let mut story = Story::requested(&["consent"]);
    for _ in 0..3 {
        story.run_step();
    }
    story.complete().unwrap();
    // It loads the list of the erased instead.
    story.registry = registry(&["consent", "crm"]);
    assert_eq!(story.start_step(), None);
    assert_eq!(story.status(), Status::Completed);
}

#[test]
fn a_newcomer_while_others_are_still_asked_is_asked_at_once() {
    let mut story = Story::requested(&["consent"]);
    let fence = story.start_step().unwrap();
    story.registry = registry(&["consent", "crm"]);
    let second = story.start_step().unwrap();
    assert_eq!((second.step, second.participants.len()), (Step::Fence, 1));
    story.ack(&fence, "consent").unwrap();
    assert_eq!(story.start_step(), None, "deletion begins when all are fenced");
    story.ack(&second, "crm").unwrap();
    assert_eq!(story.start_step().unwrap().step, Step::Delete);
}

#[test]
fn trap_24_who_was_a_recipient_is_told_also_after_leaving() {
    let mut story = Story::requested(&["consent", "crm"]);
    story.registry = registry(&["consent"]);
    let fence = story.start_step().unwrap();
    assert_eq!(fence.participants.iter().collect::<Vec<_>>(), ["consent", "crm"]);
    story.ack(&fence, "consent").unwrap();
    assert_eq!(story.start_step(), None);
    assert_eq!(story.complete(), Err(Refusal::Unfinished));
}

#[test]
fn the_certificate_names_every_answer_and_both_dates() {
    let mut story = Story::requested(&["consent", "vault*"]);
    for _ in 0..4 {
        story.run_step();
    }
    let kept = SignedDuration::from_hours(24 * 30);
    let person = Person { saga: story.saga(), ..Person::default() };
    let certify = |key_backup_kept| {
        let terms = Terms { controller: "Firm", key_backup_kept };
        certificate::payload(&person, &[], terms, story.now).unwrap()
    };
    let payload = certify(Some(kept));
    assert_eq!(payload.steps.len(), 4);
    assert_eq!(payload.steps[2].participants.keys().collect::<Vec<_>>(), ["vault"]);
    let destroyed = payload.keys_destroyed_at.unwrap();
    assert_eq!(payload.last_key_backup_expires_at, Some(destroyed + kept));
    let silent = certify(None);
    assert_eq!(silent.last_key_backup_expires_at, None);
}
