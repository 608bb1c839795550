//! The participants: what each does for a step, in the order and in the pieces of `assent-participant` and of each
//! service's `erasure.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use assent_consent::domain::{Command, Event as Said};
use assent_contracts::erasure::{Ack, Command as SagaCommand, Evidence, Positions, Step};
use assent_contracts::messaging;
use assent_contracts::topics::{CONSENT_EVENTS, VAULT_EVENTS};
use assent_contracts::vault::SUBJECT_ERASED;
use assent_messaging::domain::intent::{Happening, State};
use assent_participant::reaches;
use assent_vault::domain as vault;
use uuid::Uuid;

use super::judged::Broken;
use super::messages::tombstone;
use super::records::Tables;
use super::world::{PREFIX, VAULT, World};

type Touched = BTreeMap<&'static str, BTreeSet<String>>;

/// One process of a participant, with what its database keeps of commands.
#[derive(Debug)]
pub struct Worker {
    name: &'static str,
    heard: usize,
    commands: BTreeMap<Uuid, Heard>,
}

/// A command that was heard.
#[derive(Debug)]
struct Heard {
    command: SagaCommand,
    /// Kept with the work.
    evidence: Option<Evidence>,
    answered: bool,
    /// In memory: what was consumed when it was prepared, and until when the lease is waited out.
    prepared: Option<Positions>,
    until: Option<Duration>,
}

impl Worker {
    pub fn new(name: &'static str) -> Self {
        Self { name, heard: 0, commands: BTreeMap::new() }
    }

    fn hear(&mut self, command: &SagaCommand) {
        if !command.participants.iter().any(|name| name == self.name) {
            return;
        }
        let heard = self.commands.entry(command.command_id).or_insert_with(|| Heard {
            command: command.clone(),
            evidence: None,
            answered: false,
            prepared: None,
            until: None,
        });
        heard.answered = false;
    }
}

impl World {
    /// A participant hears, or does the next piece of one of its open commands, or dies and begins anew.
    pub fn participate(&mut self, which: usize) {
        let worker = &mut self.workers[which];
        if self.dice.percent(3) {
            self.seen.crashes += 1;
            for heard in worker.commands.values_mut() {
                (heard.prepared, heard.until) = (None, None);
            }
            return;
        }
        if let Some(command) = self.commands.get(worker.heard) {
            worker.heard += 1;
            worker.hear(command);
        }
        let open: Vec<Uuid> =
            worker.commands.iter().filter(|(_, it)| !it.answered).map(|(id, _)| *id).collect();
        if open.is_empty() {
            return;
        }
        let id = *self.dice.one_of(&open);
        // Taken out while it is worked on: nobody else sees it.
        let name = worker.name;
        let Some(mut heard) = worker.commands.remove(&id) else { return };
        self.piece(name, &mut heard);
        self.workers[which].commands.insert(id, heard);
    }

    fn piece(&mut self, name: &'static str, heard: &mut Heard) {
        let step = heard.command.step;
        let Some(evidence) = heard.evidence.clone() else { return self.first_time(name, heard) };
        let now = self.clock.boottime();
        let Some(until) = heard.until else {
            let waits = step != Step::Sweep && self.broken != Broken::LeaseIgnored;
            let wait = if waits { self.terms.settlement() } else { Duration::ZERO };
            heard.until = Some(now + wait);
            return;
        };
        if now < until {
            return;
        }
        let ack = Ack {
            command_id: heard.command.command_id,
            step,
            participant: name.to_owned(),
            evidence,
        };
        (heard.answered, heard.until) = (true, None);
        self.answer(ack);
    }

    fn first_time(&mut self, name: &'static str, heard: &mut Heard) {
        let step = heard.command.step;
        let Some(positions) = heard.prepared.take() else {
            heard.prepared = self.reached(name, &heard.command.barrier);
            if heard.prepared.is_some() {
                self.prepare(name, step);
            }
            return;
        };
        let Some(touched) = self.carry_out(name, &heard.command) else { return };
        let found = touched.values().any(|names| !names.is_empty());
        // A sweep that found something is no proof: it is looked again.
        if step != Step::Sweep || !found {
            heard.evidence = Some(Evidence::of(&touched, positions));
        }
    }

    /// What the participant has read, if that is all that the barrier names of what it follows.
    fn reached(&self, name: &str, barrier: &Positions) -> Option<Positions> {
        if name != "projector" {
            return Some(Positions::new());
        }
        let topics = [VAULT_EVENTS, CONSENT_EVENTS].map(|topic| topic.name(PREFIX));
        let read: Positions = topics
            .iter()
            .zip(self.projector.live.read)
            .map(|(topic, read)| (topic.clone(), BTreeMap::from([(0, read as i64)])))
            .collect();
        let reached = topics.iter().all(|topic| reaches(&read, barrier, topic));
        (reached || self.broken == Broken::BarrierIgnored).then_some(read)
    }

    /// What lies in another database, and comes first.
    fn prepare(&mut self, name: &str, step: Step) {
        match (name, step) {
            ("vault", Step::Delete) if self.broken != Broken::BarredLate => {
                self.vault.barred |= self.vault.row;
            }
            ("vault", Step::DestroyKeys) => {
                self.vault.barred = true;
                self.vault.key = matches!(self.broken, Broken::KeyKept | Broken::NoShredder);
            }
            _ => {}
        }
    }

    /// One transaction; none: it can't be done now.
    fn carry_out(&mut self, name: &str, command: &SagaCommand) -> Option<Touched> {
        match name {
            "vault" => self.in_vault(command),
            "consent" => self.in_consent(command),
            "messaging" => self.in_messaging(command),
            "projector" => self.in_projector(command),
            _ => {}
        }
        if name == "messaging" && !self.is_all_read(command.step) {
            return None;
        }
        Some(if command.step == Step::Sweep { self.find(name) } else { Touched::new() })
    }

    fn in_vault(&mut self, command: &SagaCommand) {
        match command.step {
            Step::Fence => self.vault.fenced = true,
            Step::Delete => self.vault.row = false,
            Step::DestroyKeys => {
                let erase = vault::Command::Erase { request_id: command.request_id };
                let decided = vault::decide(vault::State::Fenced, erase, self.now());
                if let Ok(Some(vault::Event::Erased(data))) = decided {
                    let (id, now) = (self.id(), self.now());
                    let data = serde_json::to_string(&data).expect("plain data");
                    self.logs[VAULT].append(id, SUBJECT_ERASED, now, data);
                }
            }
            Step::Sweep => {}
        }
    }

    fn in_consent(&mut self, command: &SagaCommand) {
        match command.step {
            Step::Fence => {
                let erase = Command::Erase { request_id: command.request_id };
                let said = self.ledger().decide(erase, self.now()).unwrap_or_default();
                self.say(said);
                self.consent.fenced = true;
            }
            Step::Delete => {
                tombstone(&mut self.consent.events);
                self.consent.permits = 0;
            }
            Step::DestroyKeys | Step::Sweep => {}
        }
    }

    fn in_messaging(&mut self, command: &SagaCommand) {
        match command.step {
            Step::Fence => {
                let now = self.clock.boottime();
                self.messaging.fenced_at.get_or_insert(now);
                let unsent: Vec<Uuid> = self
                    .messaging
                    .intents
                    .iter()
                    .filter(|(_, state)| matches!(state, State::Queued | State::Claimed))
                    .map(|(id, _)| *id)
                    .collect();
                for intent in unsent {
                    self.settle_intent(intent, Happening::Denied);
                }
            }
            Step::Delete if self.is_all_read(Step::Delete) => {
                self.tell(messaging::SUBJECT_ERASED);
                self.messaging.events = 1;
                self.messaging.intents.clear();
                self.messaging.inbound = 0;
            }
            Step::Delete | Step::DestroyKeys | Step::Sweep => {}
        }
    }

    /// Nothing that came in before the fence waits to be processed.
    fn is_all_read(&self, step: Step) -> bool {
        let asked = matches!(step, Step::Delete | Step::Sweep);
        let fence = self.messaging.fenced_at;
        let unread = self.messaging.bodies.values().any(|came_in| Some(*came_in) <= fence);
        !asked || !unread || self.broken == Broken::BodiesForgotten
    }

    fn in_projector(&mut self, command: &SagaCommand) {
        match command.step {
            Step::Fence => self.projector.fenced = true,
            Step::Delete => {
                self.projector.live.delete();
                if let Some(next) = &mut self.projector.next {
                    next.delete();
                }
                if self.broken != Broken::ParkedForgotten {
                    let parked = self.projector.parked.iter_mut().map(|it| it.drain(..).count());
                    self.seen.parked_cleared += parked.sum::<usize>() as u64;
                }
            }
            Step::DestroyKeys | Step::Sweep => {}
        }
    }

    /// What a sweep finds.
    fn find(&self, name: &str) -> Touched {
        let found = match name {
            "vault" => vec![
                ("people", usize::from(self.vault.row)),
                ("keys", usize::from(self.vault.key && self.broken != Broken::NoShredder)),
                ("unfenced", usize::from(!self.vault.fenced)),
            ],
            "consent" => vec![("events", self.words_left()), ("permits", self.consent.permits)],
            "messaging" => vec![
                ("intents", self.messaging.intents.len()),
                ("inbound_messages", self.messaging.inbound),
                ("events", self.messaging.events.saturating_sub(1)),
            ],
            "projector" => {
                let building = self.projector.next.as_ref().map_or(0, Tables::rows);
                let parked: usize = self.projector.parked.iter().map(Vec::len).sum();
                let looks = self.broken != Broken::ParkedForgotten;
                vec![
                    ("rows", self.projector.live.rows() + building),
                    ("parked", if looks { parked } else { 0 }),
                    ("unfenced", usize::from(!self.projector.fenced)),
                ]
            }
            _ => Vec::new(),
        };
        let names = |count: usize| (0..count).map(|it| it.to_string()).collect();
        found.into_iter().map(|(kind, count)| (kind, names(count))).collect()
    }

    fn words_left(&self) -> usize {
        let is_word = |(_, _, said): &&(Uuid, i64, Said)| !matches!(said, Said::Erased { .. });
        self.consent.events.iter().filter(is_word).count()
    }
}
