//! What meets the erasure: imports, grants, sends, webhooks, projections, rebuilds and replays, each in the pieces
//! between which others move. A crash loses what a piece had in its memory.

use assent_consent::domain::event::{Act, Notice};
use assent_consent::domain::{Command, Event as Said, Ledger, Scope, decide::Bars};
use assent_contracts::consent::{Actor, Method, State as Word};
use assent_contracts::erasure::Step;
use assent_contracts::vault::{IDENTIFIERS_ADDED, Origin, SUBJECT_REGISTERED};
use assent_messaging::domain::intent::{Happening, State, after};
use assent_projector::model::Stop;
use assent_runtime::Lease;
use assent_vault::domain as vault;
use uuid::Uuid;

use super::judged::Broken;
use super::records::Tables;
use super::world::{CONSENT, MESSAGING, VAULT, World};

/// Something under way.
pub enum Op {
    /// A file names her number.
    Import,
    /// A consent is recorded; what was read before the lock.
    Grant(Option<Box<Ledger>>),
    /// A message goes out.
    Send { intent: Uuid, at: Piece, lease: Option<Lease> },
    /// What a dispatcher that died has left.
    Reap(Uuid),
    /// A stored webhook body is processed; with her key once it is there.
    Read { body: Uuid, key: Option<Lease> },
}

/// Where a send is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Claim,
    Resolve,
    Permit,
    Mark,
    Call,
    Answered,
}

impl World {
    /// She is known, and has agreed.
    pub fn register(&mut self) {
        let command = vault::Command::Register(vault::Registration {
            addresses: Vec::new(),
            region: Some("FR".to_owned()),
            fields: vec!["phone".to_owned()],
            origin: Origin::Import,
        });
        let decided = vault::decide(vault::State::Unknown, command, self.now());
        let Ok(Some(vault::Event::Registered(data))) = decided else { unreachable!("she is new") };
        self.vault.row = true;
        self.publish(VAULT, SUBJECT_REGISTERED, &data);
        let said = self.ledger().decide(grant(), self.now()).expect("nothing stands against it");
        self.say(said);
    }

    fn publish(&mut self, which: usize, event_type: &str, data: &impl serde::Serialize) {
        let (id, now) = (self.id(), self.now());
        let data = serde_json::to_string(data).expect("plain data");
        self.logs[which].append(id, event_type, now, data);
    }

    /// Something new begins.
    pub fn come_in(&mut self) {
        let id = self.id();
        let op = match self.dice.below(11) {
            0..2 => Op::Import,
            2..4 => Op::Grant(None),
            4..6 => {
                // As every write about her: the fence is looked at in its transaction.
                if self.messaging.fenced_at.is_some() {
                    return;
                }
                self.messaging.intents.insert(id, State::Queued);
                Op::Send { intent: id, at: Piece::Claim, lease: None }
            }
            6..8 => {
                self.messaging.bodies.insert(id, self.clock.boottime());
                return;
            }
            _ => {
                let bodies: Vec<Uuid> = self.messaging.bodies.keys().copied().collect();
                if bodies.is_empty() {
                    return;
                }
                Op::Read { body: *self.dice.one_of(&bodies), key: None }
            }
        };
        self.ops.push(op);
    }

    /// One piece of something that is under way, or a crash instead.
    pub fn work(&mut self) {
        if self.ops.is_empty() {
            return;
        }
        let which = self.dice.below(self.ops.len() as u64) as usize;
        let op = self.ops.swap_remove(which);
        if self.dice.percent(3) {
            self.seen.crashes += 1;
            if let Op::Send { intent, .. } = op {
                self.ops.push(Op::Reap(intent));
            }
            return;
        }
        let next = match op {
            Op::Import => self.import(),
            Op::Grant(read) => self.grant(read),
            Op::Send { intent, at, lease } => self.send(intent, at, lease),
            Op::Reap(intent) => self.reap(intent),
            Op::Read { body, key } => self.read(body, key),
        };
        self.ops.extend(next);
    }

    fn import(&mut self) -> Option<Op> {
        if !self.vault.row {
            if self.vault.barred {
                self.seen.imports_refused += 1;
            } else {
                self.vault.again = true;
            }
            return None;
        }
        let state = if self.vault.fenced { vault::State::Fenced } else { vault::State::Registered };
        let fields = vec!["user_id".to_owned()];
        let command = vault::Command::Identify { addresses: Vec::new(), region: None, fields };
        match vault::decide(state, command, self.now()) {
            Ok(Some(vault::Event::Identified(data))) => {
                self.publish(VAULT, IDENTIFIERS_ADDED, &data);
            }
            Ok(_) => {}
            Err(_) => self.seen.identifiers_refused += 1,
        }
        None
    }

    /// Reads, and decides on what it reads again under the lock.
    fn grant(&mut self, read: Option<Box<Ledger>>) -> Option<Op> {
        let Some(read) = read else { return Some(Op::Grant(Some(Box::new(self.ledger())))) };
        let ledger = if self.broken == Broken::StaleAppend { *read } else { self.ledger() };
        match ledger.decide(grant(), self.now()) {
            Ok(said) => self.say(said),
            Err(_) => self.seen.appends_refused += 1,
        }
        None
    }

    fn send(&mut self, intent: Uuid, at: Piece, lease: Option<Lease>) -> Option<Op> {
        let next = |at, lease| Some(Op::Send { intent, at, lease });
        match at {
            Piece::Claim => {
                let state = self.messaging.intents.get_mut(&intent)?;
                if *state != State::Queued {
                    return None;
                }
                *state = State::Claimed;
                // Counted from before anything is asked.
                next(Piece::Resolve, Some(Lease::start(&self.clock, &self.terms)))
            }
            Piece::Resolve if self.vault.row => next(Piece::Permit, lease),
            Piece::Permit if self.may_be_sent() => {
                self.consent.permits += 1;
                next(Piece::Mark, lease)
            }
            Piece::Resolve | Piece::Permit => {
                self.seen.permits_denied += 1;
                self.settle_intent(intent, Happening::Denied);
                None
            }
            Piece::Mark => {
                let fenced = self.messaging.fenced_at.is_some();
                let state = self.messaging.intents.get_mut(&intent)?;
                if fenced || *state != State::Claimed {
                    return None;
                }
                *state = State::Calling;
                next(Piece::Call, lease)
            }
            Piece::Call if lease.as_ref().is_some_and(Lease::is_live) => {
                self.seen.calls += 1;
                for name in ["consent", "messaging"] {
                    if self.has_answered(Step::Fence, name) {
                        self.fail(&format!("a call began after {name} had answered its fence"));
                    }
                }
                next(Piece::Answered, None)
            }
            Piece::Call => {
                self.seen.calls_withheld += 1;
                self.settle_intent(intent, Happening::NotSent);
                next(Piece::Claim, None)
            }
            Piece::Answered => {
                self.settle_intent(intent, Happening::Accepted);
                None
            }
        }
    }

    fn may_be_sent(&self) -> bool {
        let line = self.ledger().last_word(&scope());
        !self.consent.fenced && line.is_some_and(|line| line.state == Word::Given)
    }

    /// What a dispatcher, a webhook or the reaper knows of a message; of the fenced nothing is told.
    pub fn settle_intent(&mut self, intent: Uuid, happening: Happening) {
        let Some(state) = self.messaging.intents.get_mut(&intent) else { return };
        let Some(next) = after(*state, happening) else { return };
        *state = next;
        if self.messaging.fenced_at.is_none() {
            self.tell("assent.messaging.message_moved.v1");
        }
    }

    fn reap(&mut self, intent: Uuid) -> Option<Op> {
        match self.messaging.intents.get(&intent)? {
            State::Calling => self.settle_intent(intent, Happening::Lost),
            State::Claimed => self.settle_intent(intent, Happening::NotSent),
            _ => {}
        }
        let queued = self.messaging.intents.get(&intent) == Some(&State::Queued);
        queued.then_some(Op::Send { intent, at: Piece::Claim, lease: None })
    }

    /// Who it is and her key, then her message under it.
    fn read(&mut self, body: Uuid, key: Option<Lease>) -> Option<Op> {
        let came_in = self.messaging.bodies.get(&body).copied()?;
        let Some(key) = key else {
            if !self.vault.row || !self.vault.key {
                // Somebody whom nobody knows: a new person, under a new id.
                self.messaging.bodies.remove(&body);
                return None;
            }
            let key = Some(Lease::start(&self.clock, &self.terms));
            return Some(Op::Read { body, key });
        };
        if !key.is_live() {
            return Some(Op::Read { body, key: None });
        }
        if self.has_answered(Step::DestroyKeys, "vault") {
            self.fail("her key was used after it was said to be destroyed");
        }
        self.messaging.bodies.remove(&body);
        let fenced = self.messaging.fenced_at.is_some();
        if fenced && self.broken != Broken::UnfencedWebhook {
            self.seen.webhooks_dropped += u64::from(self.messaging.fenced_at >= Some(came_in));
            return None;
        }
        self.messaging.inbound += 1;
        self.tell("assent.messaging.message_received.v1");
        None
    }

    /// Publishes something about her messages.
    pub fn tell(&mut self, event_type: &str) {
        self.messaging.events += 1;
        self.publish(MESSAGING, event_type, &serde_json::json!({}));
    }

    /// The projection of a topic reads on: a fence is looked at in the transaction of rows and position.
    pub fn follow(&mut self, which: usize) {
        let from = self.projector.live.read[which];
        let batch = 1 + self.dice.below(3) as usize;
        let records: Vec<_> =
            self.logs[which].records.iter().skip(from).take(batch).cloned().collect();
        self.projector.live.read[which] += records.len();
        for record in records {
            // Whatever stands behind something parked waits behind it; and now and then a handler crashes.
            if !self.projector.parked[which].is_empty() {
                self.projector.parked[which].push(record);
                continue;
            }
            if self.projector.fenced && self.broken != Broken::UnfencedProjection {
                self.seen.late_events_dropped += 1;
                continue;
            }
            let crashes = self.dice.percent(6);
            if crashes || self.projector.live.take(which, &record) == Err(Stop::Gap) {
                self.projector.parked[which].push(record);
            }
        }
    }

    /// Fills tables beside the live ones, and takes their place.
    pub fn rebuild(&mut self) {
        let Some(mut next) = self.projector.next.take() else {
            if self.dice.percent(40) {
                self.projector.next = Some(Tables::default());
            }
            return;
        };
        let ends = [VAULT, CONSENT].map(|which| self.logs[which].end());
        let fenced = self.projector.fenced && self.broken != Broken::UnfencedRebuild;
        if next.read == ends {
            self.seen.rebuilds_swapped += u64::from(self.projector.fenced);
            self.projector.live = next;
            return;
        }
        for which in [VAULT, CONSENT] {
            let from = next.read[which];
            for record in self.logs[which].records.iter().skip(from).take(4) {
                next.read[which] += 1;
                if !fenced {
                    // What was parked is not here: a gap is the live one's matter.
                    let _ = next.take(which, record);
                }
            }
        }
        self.projector.next = Some(next);
    }

    /// The first of what is parked is tried again. What still can't be folded in stays.
    pub fn replay(&mut self) {
        for which in [VAULT, CONSENT] {
            if self.projector.parked[which].is_empty() {
                continue;
            }
            let record = self.projector.parked[which].remove(0);
            if self.projector.fenced && self.broken != Broken::UnfencedProjection {
                self.seen.late_events_dropped += 1;
                continue;
            }
            if self.projector.live.take(which, &record).is_err() {
                self.projector.parked[which].insert(0, record);
            }
        }
    }
}

fn scope() -> Scope {
    Scope::new("marketing", "whatsapp")
}

fn grant() -> Command {
    Command::Grant {
        scope: scope(),
        notice: Notice { version: 1, hash: "ab".to_owned(), ..Notice::default() },
        act: Act {
            actor: Actor::Operator,
            method: Method::Api,
            place: None,
            evidence: None,
            acted_at: None,
        },
        own_act: false,
        bars: Bars::default(),
        confirm_until: None,
    }
}

/// What of a ledger stays: its last event, the tombstone.
pub fn tombstone(events: &mut Vec<(Uuid, i64, Said)>) -> usize {
    let gone = events.len().saturating_sub(1);
    events.drain(..gone);
    gone
}
