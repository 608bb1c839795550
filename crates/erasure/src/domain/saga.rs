//! The erasure of one person as a process manager. It guarantees that only a matching answer of a
//! participant that was asked moves it, that it never goes back, and that nobody who could hold
//! data is left out; when to look at the clock is left to the driver.
//!
//! The rule behind everything: every participant must answer every step (only key holders
//! [`Step::DestroyKeys`]), and nobody is asked for a step while an answer to an earlier step is
//! missing. A newcomer therefore catches up from the fence on, by commands of its own, while what
//! others have answered stays answered.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::erasure::{
    Ack, Acknowledged, Completed, Evidence, Overdue, Positions, Requested, Step, StepStarted,
};
use assent_runtime::broken::{self, Guarantee};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Event, Status};

/// The steps in order.
pub const STEPS: [Step; 4] = [Step::Fence, Step::Delete, Step::DestroyKeys, Step::Sweep];

/// Largest count that JSON (RFC 8785, I-JSON) carries exactly.
const COUNT_MAX: u64 = (1 << 53) - 1;
/// Most kinds of rows, or of what is kept, that one answer may name.
const KINDS_MAX: usize = 64;

/// Who takes part in erasures. A participant that left stays in it: what it received while it was
/// registered is still to be erased.
pub type Registry = BTreeMap<String, Participant>;

/// What the saga must know of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// Whether it keeps keys of persons: only then it is asked to destroy them.
    pub keeps_keys: bool,
}

/// The state of a person's erasure, folded from her events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saga {
    /// The request; none: nobody has asked to erase her.
    pub request: Option<Request>,
}

/// An accepted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: Uuid,
    /// When it was recorded.
    pub requested_at: Timestamp,
    /// The legal deadline.
    pub due: Timestamp,
    /// Who must answer, as far as it is known.
    pub participants: BTreeSet<String>,
    /// The commands, in the order in which they were issued.
    pub commands: Vec<Issued>,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
}

/// A command that was issued, with the answers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its id.
    pub command_id: Uuid,
    /// Its step.
    pub step: Step,
    /// Who must answer it.
    pub participants: BTreeSet<String>,
    /// What they must have consumed first.
    pub barrier: Positions,
    /// When it was issued.
    pub at: Timestamp,
    /// The answers, with the time of each.
    pub answers: BTreeMap<String, (Evidence, Timestamp)>,
    /// Who was missing when its time had run out; empty while it hadn't.
    pub overdue: BTreeSet<String>,
}

impl Issued {
    /// Who has not answered.
    pub fn missing(&self) -> impl Iterator<Item = &String> {
        self.participants.iter().filter(|name| !self.answers.contains_key(*name))
    }

    /// Whether everyone has answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.missing().next().is_none()
    }
}

/// What the saga is asked to do.
#[derive(Debug, Clone)]
pub enum Command<'a> {
    /// Begin; a person who has a request already keeps it.
    RequestErasure {
        /// The id of the request, should it be new.
        request_id: Uuid,
        /// Who takes part, read under lock.
        registry: &'a Registry,
        /// The legal deadline.
        due: Timestamp,
    },
    /// Issue the next command, if one is due.
    StartStep {
        /// Its id.
        command_id: Uuid,
        /// Who takes part, read under lock.
        registry: &'a Registry,
        /// The ends of the event topics for this person, read after the last fence was answered.
        barrier: Positions,
        /// Whether a legal hold stands: then nothing begins.
        held: bool,
    },
    /// A participant answers.
    Acknowledge {
        /// The request it names.
        request_id: Uuid,
        /// The answer.
        ack: Ack,
    },
    /// The time-out of a command may have passed.
    MarkOverdue {
        /// The command.
        command_id: Uuid,
        /// How long its answers may take.
        timeout: SignedDuration,
    },
    /// Conclude, if everyone has proved everything.
    Complete {
        /// Who takes part, read under lock.
        registry: &'a Registry,
        /// SHA-256 of the certificate's canonical payload, hex.
        certificate_sha256: String,
    },
}

/// Why a command changed nothing and was wrong to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody asked to erase this person, or by another request.
    #[error("the request is not known")]
    UnknownRequest,
    /// No command of this id was issued for this request: stale, or someone else's.
    #[error("no such command was issued for this request")]
    UnknownCommand,
    /// The command was for another step.
    #[error("the command was for another step")]
    WrongStep,
    /// The command did not ask this participant.
    #[error("the command does not ask this participant")]
    NotAsked,
    /// The positions are behind the barrier that the command names.
    #[error("the positions are behind the command's barrier")]
    BehindBarrier,
    /// A sweep that found something proves the opposite.
    #[error("the sweep found something")]
    NotEmpty,
    /// Kinds, counts or digest are not of the agreed form.
    #[error("the evidence is not of the agreed form")]
    EvidenceInvalid,
    /// A time-out came after the last answer.
    #[error("the time-out came after the last answer")]
    LateTimeout,
    /// Answers are missing, or someone has not been asked yet.
    #[error("answers are missing")]
    Unfinished,
}

impl Refusal {
    /// Its stable name, for metrics and problem documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownRequest => "unknown_request",
            Self::UnknownCommand => "unknown_command",
            Self::WrongStep => "wrong_step",
            Self::NotAsked => "not_asked",
            Self::BehindBarrier => "behind_barrier",
            Self::NotEmpty => "not_empty",
            Self::EvidenceInvalid => "evidence_invalid",
            Self::LateTimeout => "late_timeout",
            Self::Unfinished => "unfinished",
        }
    }
}

impl Saga {
    /// The state after `events`, oldest first.
    #[must_use]
    pub fn fold<'e>(events: impl IntoIterator<Item = &'e Event>) -> Self {
        let mut saga = Self::default();
        for event in events {
            saga.evolve(event);
        }
        saga
    }

    /// Whether its first command was issued: from this point on nothing keeps it from destroying.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.request.as_ref().is_some_and(|request| !request.commands.is_empty())
    }

    /// Takes one event in.
    pub fn evolve(&mut self, event: &Event) {
        match (event, &mut self.request) {
            (Event::Requested(event), request @ None) => {
                *request = Some(Request {
                    id: event.request_id,
                    requested_at: event.at,
                    due: event.due,
                    participants: event.participants.iter().cloned().collect(),
                    commands: Vec::new(),
                    completed_at: None,
                });
            }
            (Event::StepStarted(event), Some(request)) => {
                request.participants.extend(event.participants.iter().cloned());
                request.commands.push(Issued {
                    command_id: event.command_id,
                    step: event.step,
                    participants: event.participants.iter().cloned().collect(),
                    barrier: event.barrier.clone(),
                    at: event.at,
                    answers: BTreeMap::new(),
                    overdue: BTreeSet::new(),
                });
            }
            (Event::Acknowledged(event), Some(request)) => {
                if let Some(command) = request.command_mut(event.command_id) {
                    let answer = (event.evidence.clone(), event.at);
                    command.answers.insert(event.participant.clone(), answer);
                }
            }
            (Event::Overdue(event), Some(request)) => {
                let missing: BTreeSet<String> = event.missing.iter().cloned().collect();
                let command = request.commands.iter_mut().rev().find(|command| {
                    command.step == event.step && missing.is_subset(&command.participants)
                });
                if let Some(command) = command {
                    command.overdue = missing;
                }
            }
            (Event::Completed(event), Some(request)) => request.completed_at = Some(event.at),
            // What she asked for was refused before anything was issued.
            (Event::RequestRefused(event), request)
                if request.as_ref().is_some_and(|it| it.id == event.request_id) =>
            {
                *request = None;
            }
            _ => {}
        }
    }

    /// Decides; no events: nothing has to change.
    ///
    /// # Errors
    /// [`Refusal`]; nothing changes then either.
    pub fn decide(&self, command: Command<'_>, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        if let Command::RequestErasure { request_id, registry, due } = command {
            if self.request.is_some() {
                return Ok(Vec::new());
            }
            return Ok(vec![Event::Requested(Requested {
                request_id,
                participants: registry.keys().cloned().collect(),
                due,
                at: now,
            })]);
        }
        let request = self.request.as_ref().ok_or(Refusal::UnknownRequest)?;
        match command {
            Command::RequestErasure { .. } => Ok(Vec::new()),
            Command::StartStep { registry, held, .. }
                if request.summary(registry, held) == Summary::Held =>
            {
                Ok(Vec::new())
            }
            Command::StartStep { command_id, registry, barrier, .. } => {
                Ok(request.start_step(command_id, registry, barrier, now).into_iter().collect())
            }
            Command::Acknowledge { request_id, ack } => request.acknowledge(request_id, ack, now),
            Command::MarkOverdue { command_id, timeout } => {
                request.mark_overdue(command_id, timeout, now)
            }
            Command::Complete { registry, certificate_sha256 } => {
                if request.completed_at.is_some() {
                    return Ok(Vec::new());
                }
                if request.step_due(registry).is_some() || !request.is_answered() {
                    return Err(Refusal::Unfinished);
                }
                Ok(vec![Event::Completed(Completed {
                    request_id: request.id,
                    certificate_sha256,
                    at: now,
                })])
            }
        }
    }
}

/// What a [`Request`] says about its next move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Summary {
    /// A legal hold stands, and nothing was begun.
    Held,
    /// A command of this step is due.
    Due(Step),
    /// Answers are awaited.
    Waiting,
    /// Everyone has proved everything; the certificate is due.
    Proved,
    /// It is over.
    Completed,
}

impl Request {
    /// What comes next, for this registry. Past the first command a hold comes too late.
    #[must_use]
    pub fn summary(&self, registry: &Registry, held: bool) -> Summary {
        if self.completed_at.is_some() {
            Summary::Completed
        } else if held && self.commands.is_empty() {
            Summary::Held
        } else if let Some((step, _)) = self.step_due(registry) {
            Summary::Due(step)
        } else if self.is_answered() {
            Summary::Proved
        } else {
            Summary::Waiting
        }
    }

    /// Where it stands. A newcomer that catches up doesn't make it look as if it went back.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.completed_at.is_some() {
            return Status::Completed;
        }
        if self.commands.iter().any(|command| !command.overdue.is_empty() && !command.is_answered())
        {
            return Status::Incomplete;
        }
        match self.commands.iter().map(|command| command.step).max() {
            None => Status::Requested,
            Some(Step::Fence) => Status::Fencing,
            Some(Step::Delete) => Status::Deleting,
            Some(Step::DestroyKeys) => Status::DestroyingKeys,
            Some(Step::Sweep) => Status::Sweeping,
        }
    }

    /// The command of this id.
    #[must_use]
    pub fn command(&self, command_id: Uuid) -> Option<&Issued> {
        self.commands.iter().find(|command| command.command_id == command_id)
    }

    fn command_mut(&mut self, command_id: Uuid) -> Option<&mut Issued> {
        self.commands.iter_mut().find(|command| command.command_id == command_id)
    }

    /// Whether every command is answered and the last step was among them. Without the latter a
    /// deployment without participants would certify that nobody did anything.
    fn is_answered(&self) -> bool {
        let enough = |it: &Issued| {
            it.is_answered()
                || broken::is(Guarantee::G4) && it.step == Step::Sweep && !it.answers.is_empty()
        };
        self.commands.iter().all(enough)
            && self.commands.iter().any(|command| command.step == Step::Sweep)
    }

    /// The earliest step for which somebody has not been asked yet, unless an earlier one is still
    /// being answered.
    fn step_due(&self, registry: &Registry) -> Option<(Step, Vec<String>)> {
        for step in STEPS {
            let asked: BTreeSet<&String> = self
                .commands
                .iter()
                .filter(|command| command.step == step)
                .flat_map(|command| &command.participants)
                .collect();
            let wanted = self.participants.iter().chain(registry.keys()).filter(|name| {
                step != Step::DestroyKeys
                    || registry.get(*name).is_some_and(|participant| participant.keeps_keys)
            });
            let unasked: BTreeSet<&String> = wanted.filter(|name| !asked.contains(name)).collect();
            if !unasked.is_empty() {
                return Some((step, unasked.into_iter().cloned().collect()));
            }
            let answered = self.commands.iter().filter(|c| c.step == step).all(Issued::is_answered);
            if !answered {
                return None;
            }
        }
        None
    }

    fn start_step(
        &self,
        command_id: Uuid,
        registry: &Registry,
        barrier: Positions,
        now: Timestamp,
    ) -> Option<Event> {
        if self.completed_at.is_some() {
            return None;
        }
        let (step, participants) = self.step_due(registry)?;
        Some(Event::StepStarted(StepStarted {
            request_id: self.id,
            step,
            command_id,
            participants,
            barrier: if step == Step::Delete { barrier } else { Positions::new() },
            at: now,
        }))
    }

    fn acknowledge(
        &self,
        request_id: Uuid,
        ack: Ack,
        now: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        if request_id != self.id {
            return Err(Refusal::UnknownRequest);
        }
        let command = self.command(ack.command_id).ok_or(Refusal::UnknownCommand)?;
        if ack.step != command.step {
            return Err(Refusal::WrongStep);
        }
        if !command.participants.contains(&ack.participant) {
            return Err(Refusal::NotAsked);
        }
        check_evidence(&ack.evidence)?;
        if command.answers.contains_key(&ack.participant) {
            // The first answer stands; a repeat of it is a lost reply of ours.
            return Ok(Vec::new());
        }
        if is_behind(&ack.evidence.positions, &command.barrier) {
            return Err(Refusal::BehindBarrier);
        }
        if ack.step == Step::Sweep && ack.evidence.counts.values().any(|count| *count != 0) {
            return Err(Refusal::NotEmpty);
        }
        Ok(vec![Event::Acknowledged(Acknowledged {
            request_id,
            step: ack.step,
            command_id: ack.command_id,
            participant: ack.participant,
            evidence: ack.evidence,
            at: now,
        })])
    }

    fn mark_overdue(
        &self,
        command_id: Uuid,
        timeout: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        let command = self.command(command_id).ok_or(Refusal::UnknownCommand)?;
        let missing: BTreeSet<String> = command.missing().cloned().collect();
        if missing.is_empty() {
            return Err(Refusal::LateTimeout);
        }
        // Said once per command: the event keeps who was missing at that moment, the view who
        // still is.
        if now.duration_since(command.at) < timeout || !command.overdue.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Event::Overdue(Overdue {
            request_id: self.id,
            step: command.step,
            missing: missing.into_iter().collect(),
            at: now,
        })])
    }
}

/// Free text has no place in evidence: a kind could carry a name, a digest a number.
fn check_evidence(evidence: &Evidence) -> Result<(), Refusal> {
    let kind_is_code = |kind: &String| {
        (1..=64).contains(&kind.len())
            && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.')
    };
    let digest_is_sha256 = evidence.digest.len() == 64
        && evidence.digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let valid = evidence.counts.len() <= KINDS_MAX
        && evidence.counts.iter().all(|(kind, count)| kind_is_code(kind) && *count <= COUNT_MAX)
        && evidence.kept.len() <= KINDS_MAX
        && evidence.kept.iter().all(|kept| kind_is_code(&kept.what) && kind_is_code(&kept.ground))
        && digest_is_sha256;
    if valid { Ok(()) } else { Err(Refusal::EvidenceInvalid) }
}

/// Whether a position of a topic that the participant consumes is before the barrier. A topic that
/// it doesn't name it doesn't consume.
fn is_behind(positions: &Positions, barrier: &Positions) -> bool {
    positions.iter().any(|(topic, partitions)| {
        barrier.get(topic).is_some_and(|barrier| {
            barrier
                .iter()
                .any(|(partition, end)| partitions.get(partition).copied().unwrap_or(0) < *end)
        })
    })
}
