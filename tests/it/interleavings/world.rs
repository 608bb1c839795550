//! The world of one interleaving: everything there is, whose turn it is, what the saga does, and what must hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::Received;
use assent_consent::domain::{Event as Said, Ledger};
use assent_consent::stored;
use assent_contracts::consent::Actor;
use assent_contracts::erasure::{Ack, Command as SagaCommand, Evidence, Positions, Step};
use assent_contracts::rights::{IdentityMethod, RequestKind, Term, Terms};
use assent_contracts::topics::{CONSENT_EVENTS, MESSAGING_EVENTS, VAULT_EVENTS};
use assent_erasure::domain::request::Check;
use assent_erasure::domain::{
    Command, Event, Issued, Opening, Participant, Person, Registry, Summary,
};
use assent_messaging::domain::intent;
use assent_runtime::{Clock, LeaseTerms, ManualClock};
use assent_tests::soak::dice::Dice;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::judged::{Broken, Outcome, Seen};
use super::messages::Op;
use super::participants::Worker;
use super::records::{Log, SUBJECT, Tables};

/// So many turns must be enough.
const TURNS: usize = 20_000;
/// Turns after the certificate, in which what is late comes.
const LATE_TURNS: usize = 150;
/// What topics are called by positions.
pub const PREFIX: &str = "assent.";
const REQUEST: Uuid = Uuid::from_u128(0xe4a5e);

pub const VAULT: usize = 0;
pub const CONSENT: usize = 1;
pub const MESSAGING: usize = 2;

/// Her row, her key, and what keeps her out.
#[derive(Debug)]
pub struct Vault {
    pub row: bool,
    pub key: bool,
    pub fenced: bool,
    pub barred: bool,
    /// Whether her address came in again under another id.
    pub again: bool,
}

/// Her ledger, and what was permitted.
#[derive(Debug, Default)]
pub struct Consent {
    pub events: Vec<(Uuid, i64, Said)>,
    pub fenced: bool,
    pub permits: usize,
}

/// Her messages, and what nobody has read yet.
#[derive(Debug, Default)]
pub struct Messaging {
    pub fenced_at: Option<Duration>,
    pub intents: BTreeMap<Uuid, intent::State>,
    pub inbound: usize,
    /// Bodies, by when they came.
    pub bodies: BTreeMap<Uuid, Duration>,
    pub events: usize,
}

/// Read models: what queries see, what a rebuild fills, what is parked.
#[derive(Debug, Default)]
pub struct Projector {
    pub fenced: bool,
    pub live: Tables,
    pub next: Option<Tables>,
    pub parked: [Vec<Received>; 2],
}

/// Everything there is.
pub struct World {
    seed: u64,
    pub broken: Broken,
    pub dice: Dice,
    pub clock: Arc<dyn Clock>,
    hands: Arc<ManualClock>,
    pub terms: LeaseTerms,
    next_id: u128,
    pub logs: [Log; 3],
    pub vault: Vault,
    pub consent: Consent,
    pub messaging: Messaging,
    pub projector: Projector,
    pub ops: Vec<Op>,
    pub workers: Vec<Worker>,
    pub person: Person,
    pub registry: Registry,
    pub commands: Vec<SagaCommand>,
    barrier: Option<Positions>,
    pub wrong: Option<String>,
    pub seen: Seen,
}

impl World {
    pub fn new(seed: u64, broken: Broken) -> Self {
        let hands = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let names = ["vault", "consent", "messaging", "projector"];
        let registered =
            |name: &str| (name.to_owned(), Participant { keeps_keys: name == "vault" });
        let mut world = Self {
            seed,
            broken,
            dice: Dice::new(seed, "interleavings"),
            clock: hands.clone(),
            hands,
            terms: LeaseTerms {
                length: Duration::from_millis(400),
                drift: Duration::from_millis(10),
            },
            next_id: 1,
            logs: [VAULT_EVENTS, CONSENT_EVENTS, MESSAGING_EVENTS].map(Log::of),
            vault: Vault { row: false, key: true, fenced: false, barred: false, again: false },
            consent: Consent::default(),
            messaging: Messaging::default(),
            projector: Projector::default(),
            ops: Vec::new(),
            workers: names.map(Worker::new).into(),
            person: Person::default(),
            registry: names.map(registered).into(),
            commands: Vec::new(),
            barrier: None,
            wrong: None,
            seen: Seen::default(),
        };
        world.register();
        world
    }

    /// Runs to the certificate, then for a while longer, then to the end of everything that is under way.
    pub fn run(mut self) -> Outcome {
        let begins = 20 + self.dice.below(60) as usize;
        let joins = self.dice.percent(30).then(|| begins + self.dice.below(400) as usize);
        let mut turns = 0;
        while !self.is_complete() && self.wrong.is_none() && turns < TURNS {
            turns += 1;
            if turns == begins {
                self.request();
            }
            if joins == Some(turns) {
                self.join();
            }
            self.turn();
        }
        if !self.is_complete() {
            self.fail("the erasure is not completed");
        }
        self.check("at the certificate");
        for _ in 0..LATE_TURNS {
            self.turn();
        }
        self.settle();
        self.check("after everything that was late");
        Outcome { wrong: self.wrong, seen: self.seen }
    }

    fn turn(&mut self) {
        self.hands.advance(Duration::from_millis(self.dice.below(9)));
        match self.dice.below(100) {
            0..5 => self.come_in(),
            5..26 => self.work(),
            26..38 => {
                let (which, again) = (self.dice.below(3) as usize, self.dice.percent(5));
                self.logs[which].relay(again);
            }
            38..50 => {
                let which = self.dice.below(2) as usize;
                self.follow(which);
            }
            50..55 => self.rebuild(),
            55 => self.replay(),
            56..90 => {
                let which = self.dice.below(self.workers.len() as u64) as usize;
                self.participate(which);
            }
            90..97 => self.drive(),
            _ => self.forge(),
        }
    }

    /// What is under way comes to its end, and nothing new begins.
    fn settle(&mut self) {
        let unread: Vec<Uuid> = self.messaging.bodies.keys().copied().collect();
        self.ops.extend(unread.into_iter().map(|body| Op::Read { body, key: None }));
        while !self.ops.is_empty() {
            self.hands.advance(Duration::from_millis(1));
            self.work();
        }
        for log in &mut self.logs {
            while !log.is_published() {
                log.relay(false);
            }
        }
        for which in [VAULT, CONSENT] {
            while self.projector.live.read[which] < self.logs[which].end() {
                self.follow(which);
            }
        }
        while self.projector.next.is_some() {
            self.rebuild();
        }
        for _ in 0..self.projector.parked.iter().map(Vec::len).sum::<usize>() {
            self.replay();
        }
    }

    /// What must hold once she is erased, and for ever after.
    fn check(&mut self, when: &str) {
        let messaging = &self.messaging;
        let unread = |fence: &Duration| messaging.bodies.values().any(|came_in| came_in <= fence);
        let building = self.projector.next.as_ref().map_or(0, Tables::rows);
        let parked = self.projector.parked.iter().any(|parked| !parked.is_empty());
        let left = [
            ("her row in the vault", self.vault.row),
            ("her key", self.vault.key),
            ("her number, imported again", self.vault.again),
            ("words in her ledger", self.consent.events.len() > 1),
            ("permits", self.consent.permits > 0),
            ("messages to her", !messaging.intents.is_empty()),
            ("messages from her", messaging.inbound > 0),
            ("her messaging events", messaging.events > 1),
            ("a webhook of before the fence", messaging.fenced_at.iter().any(unread)),
            ("rows in the read models", self.projector.live.rows() > 0),
            ("rows in a rebuild", building > 0),
            ("parked events", parked),
            ("no fence", !(self.vault.fenced && self.consent.fenced && self.projector.fenced)),
        ];
        let left: Vec<&str> = left.iter().filter(|(_, is)| *is).map(|(what, _)| *what).collect();
        if !left.is_empty() {
            self.fail(&format!("{when} there is left: {}", left.join(", ")));
        }
        let proved = |name: &String| self.has_answered(Step::Sweep, name);
        if self.is_complete() && !self.registry.keys().all(proved) {
            self.fail("it was completed before everyone had proved it");
        }
    }

    pub fn fail(&mut self, what: &str) {
        self.wrong.get_or_insert_with(|| format!("seed {}: {what}", self.seed));
    }

    pub fn id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(self.next_id)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::fold(self.consent.events.iter().map(|(id, version, said)| (*id, *version, said)))
    }

    /// Stores words of hers, and what is published of them.
    pub fn say(&mut self, events: Vec<Said>) {
        for said in events {
            let (id, now) = (self.id(), self.now());
            let (event_type, data) = stored::encode(&said);
            let version = self.logs[CONSENT].append(id, event_type, now, data);
            self.consent.events.push((id, version, said));
        }
    }

    /// She asks for it, and an operator has checked that it is she.
    fn request(&mut self) {
        let now = self.now();
        let opening = Opening {
            request_id: REQUEST,
            kind: RequestKind::Erasure,
            purpose: None,
            actor: Actor::Subject,
            origin: None,
            reason: None,
            place: None,
            known: true,
            received_at: now,
            terms: terms(now),
            check: Some(Check {
                method: IdentityMethod::Operator,
                reason: "called_back".to_owned(),
                key: "9f86d081884c7d65".to_owned(),
            }),
        };
        let (_, events) = self.person.open(opening, &self.registry, now);
        self.record(&events);
    }

    /// Another team begins to take part, whatever is under way. It holds nothing, and must say so.
    fn join(&mut self) {
        self.seen.newcomers += u64::from(!self.commands.is_empty());
        self.registry.insert("newcomer".to_owned(), Participant { keeps_keys: false });
        self.workers.push(Worker::new("newcomer"));
    }

    /// Moves the saga on as far as it goes without an answer.
    fn drive(&mut self) {
        let now = self.now();
        match self.person.next(&self.registry, now) {
            None | Some(Summary::Held | Summary::Completed) => {}
            Some(Summary::Waiting) => {
                if self.dice.percent(20) {
                    self.remind();
                }
            }
            Some(Summary::Due(Step::Delete)) if self.barrier.is_none() => {
                let end =
                    |log: &Log| (log.topic.name(PREFIX), BTreeMap::from([(0, log.end() as i64)]));
                self.barrier = Some(self.logs.iter().map(end).collect());
            }
            Some(Summary::Due(_)) => {
                let (command_id, registry) = (self.id(), self.registry.clone());
                let barrier = self.barrier.take().unwrap_or_default();
                let command =
                    Command::StartStep { command_id, registry: &registry, barrier, held: false };
                let events = self.person.start_step(command, now).expect("it is due");
                self.record(&events);
                self.issue(|issued| issued.command_id == command_id);
            }
            Some(Summary::Proved) => {
                let registry = self.registry.clone();
                let certificate_sha256 = "f".repeat(64);
                let command = Command::Complete { registry: &registry, certificate_sha256 };
                let events = self.person.complete(command, now).expect("it is proved");
                self.record(&events);
            }
        }
    }

    fn remind(&mut self) {
        self.issue(|issued| !issued.is_answered());
    }

    fn issue(&mut self, which: impl Fn(&Issued) -> bool) {
        let Some(request) = &self.person.saga.request else { return };
        let commands = request.commands.iter().filter(|issued| which(issued));
        self.commands.extend(commands.map(|issued| SagaCommand {
            command_id: issued.command_id,
            request_id: request.id,
            subject_id: SUBJECT,
            step: issued.step,
            participants: issued.participants.iter().cloned().collect(),
            barrier: issued.barrier.clone(),
            at: issued.at,
        }));
    }

    /// A participant's answer reaches the saga.
    pub fn answer(&mut self, ack: Ack) {
        let acknowledge = Command::Acknowledge { request_id: REQUEST, ack };
        match self.person.saga.decide(acknowledge, self.now()) {
            Ok(events) => {
                self.seen.answers_repeated += u64::from(events.is_empty());
                self.record(&events);
            }
            Err(_) => self.seen.answers_refused += 1,
        }
    }

    /// Answers that match nothing move nothing.
    fn forge(&mut self) {
        let Some(last) = self.commands.last().cloned() else { return };
        let evidence = Evidence::of::<&str>(&BTreeMap::new(), Positions::new());
        let participant = last.participants[0].clone();
        let true_one = Ack { command_id: last.command_id, step: last.step, participant, evidence };
        let other = if last.step == Step::Sweep { Step::Fence } else { Step::Sweep };
        let forged = match self.dice.below(3) {
            0 => Ack { command_id: self.id(), ..true_one },
            1 => Ack { step: other, ..true_one },
            _ => Ack { participant: "stranger".to_owned(), ..true_one },
        };
        let acknowledge = Command::Acknowledge { request_id: REQUEST, ack: forged };
        match self.person.saga.decide(acknowledge, self.now()) {
            Err(_) => self.seen.answers_refused += 1,
            Ok(_) => self.fail("a forged answer was taken"),
        }
    }

    fn record(&mut self, events: &[Event]) {
        for event in events {
            self.person.evolve(event);
        }
    }

    /// Whether the saga has heard this participant's answer to this step.
    pub fn has_answered(&self, step: Step, name: &str) -> bool {
        let commands = self.person.saga.request.iter().flat_map(|request| &request.commands);
        commands.filter(|it| it.step == step).any(|it| it.answers.contains_key(name))
    }

    fn is_complete(&self) -> bool {
        self.person.saga.request.as_ref().is_some_and(|request| request.completed_at.is_some())
    }
}

fn terms(now: Timestamp) -> Terms {
    let answer = Term {
        jurisdiction: "eu".to_owned(),
        rule: "gdpr-answer".to_owned(),
        article: "GDPR Article 12(3)".to_owned(),
        period: "1 month".to_owned(),
        last_day: jiff::civil::date(1970, 2, 1),
        over_at: now + SignedDuration::from_hours(31 * 24),
    };
    Terms {
        rules: "0".repeat(64),
        acknowledge: None,
        answer,
        extended: None,
        others: Vec::new(),
        identity: true,
        authorities: Vec::new(),
    }
}
