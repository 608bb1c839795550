//! What a command on a ledger leads to, or why it is refused. It guarantees that nothing is recorded which
//! the law or the person's own word forbids; what the events mean afterwards is the fold's
//! ([`super::ledger`]).

use assent_contracts::consent::{Actor, AgeBasis, AskKind, Confirms, Method, State};
use assent_contracts::sealed::Sealed;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::event::{Act, Age, Event, Notice, Question, Standing};
use super::ledger::{Ledger, Line, Request, after_days};
use super::scope::Scope;

/// What stands against the person's addresses at the moment of a grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bars {
    /// Someone said stop from one of them.
    pub stopped: bool,
    /// One of them is on a list of opt-outs.
    pub suppressed: bool,
    /// One of them belonged to someone who was erased.
    pub erased: bool,
}

/// What someone wants recorded about a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// She agrees.
    Grant {
        /// To what; never wide.
        scope: Scope,
        /// On which notice.
        notice: Notice,
        /// How it came in.
        act: Act,
        /// Whether she acted herself, from an address that is hers: only then may bars be lifted
        /// that stand for her own will.
        own_act: bool,
        /// What stands against her addresses.
        bars: Bars,
        /// Until when she may confirm it, where it counts only then (double opt-in) and hasn't come
        /// from her own address.
        confirm_until: Option<Timestamp>,
    },
    /// She is to be asked by a message. Why follows from what holds; the kind in the question is
    /// overwritten.
    Ask {
        /// How.
        question: Question,
        /// How long before the end of a consent its renewal is asked for.
        before: SignedDuration,
        /// How long she is left alone after she was asked or said no.
        again_after: SignedDuration,
        /// The notices on which a consent holds today; none: every one.
        accepted: Vec<String>,
        /// What stands against her addresses.
        bars: Bars,
    },
    /// Somebody says, or has looked at, how old she is.
    StateAge {
        /// Whether that is old enough.
        age: Age,
        /// Which age that would be, in years.
        required: u8,
        /// Who says so.
        actor: Actor,
        /// Evidence, sealed under the person's key.
        evidence: Option<Sealed>,
    },
    /// Her data are to be kept and not used.
    Restrict {
        /// The request that asks for it.
        request_id: Uuid,
    },
    /// The restriction of a request is over.
    LiftRestriction {
        /// The request that had asked for it.
        request_id: Uuid,
    },
    /// She did something of her own towards us.
    Contact {
        /// On which channel.
        channel: String,
        /// When.
        acted_at: Timestamp,
    },
    /// She confirms what was said for her, or answers yes to what she was asked.
    Confirm {
        /// The request.
        request_id: Uuid,
        /// How it came in.
        act: Act,
        /// Whether it came from an address that is hers.
        own_act: bool,
        /// What stands against her addresses.
        bars: Bars,
    },
    /// She says no.
    Refuse {
        /// To what; may be wide.
        scope: Scope,
        /// How it came in.
        act: Act,
    },
    /// She takes it back.
    Withdraw {
        /// What; may be wide.
        scope: Scope,
        /// How it came in.
        act: Act,
    },
    /// Its validity is over.
    Expire {
        /// Which consent.
        scope: Scope,
    },
    /// What stands against her has been looked up.
    Stand {
        /// The whole of it.
        standing: Standing,
        /// Since when it may be so.
        since: Timestamp,
    },
    /// She is being erased.
    Erase {
        /// The request.
        request_id: Uuid,
    },
}

/// Why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The person was erased; her own act may open a new relation, under a new id.
    #[error("the person was erased")]
    SubjectErased,
    /// What stands against her addresses, only she herself can lift.
    #[error("only the person's own act, from her own address, may lift this")]
    OwnActNeeded,
    /// She said no before: that she has changed her mind must be proved.
    #[error(
        "sealed evidence is needed: she said no before, a parent agrees for her, or an age was verified"
    )]
    EvidenceNeeded,
    /// A list or the system itself never gives consent in her place.
    #[error("consent is never given by a list or by the system")]
    NotHerWill,
    /// A grant names one purpose and one channel.
    #[error("a grant names exactly one purpose and one channel")]
    NotSpecific,
    /// An act that has not happened yet.
    #[error("the act lies in the future")]
    NotYet,
    /// There is nothing to confirm under that id.
    #[error("there is no such request to confirm")]
    NothingToConfirm,
    /// A confirmation works once.
    #[error("it was confirmed already")]
    ConfirmedAlready,
    /// It came too late.
    #[error("the time to confirm it is over")]
    ConfirmedTooLate,
    /// She has said no since.
    #[error("she has said no since")]
    NoSince,
    /// Her consent is in force and doesn't end soon.
    #[error("her consent is in force, and does not end soon")]
    NothingToAsk,
    /// Neither has she written within a day, nor is there a consent in force to renew.
    #[error("she has not written within a day, and there is no consent in force to renew")]
    WindowClosed,
    /// She was asked, or said no, not long ago.
    #[error("she was asked, or said no, not long ago")]
    AskedLately,
    /// Something stands against her addresses.
    #[error("a stop, a suppression or an erasure stands against her address")]
    Barred,
}

/// For so long after her own message a person may be asked something by WhatsApp.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// An act so soon after another is not recorded: it would say nothing new.
const SAME_CONTACT: SignedDuration = SignedDuration::from_hours(12);

/// How long an answer to a question counts.
pub const ANSWER_WITHIN: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Ledger {
    /// What a command leads to, or why it is refused. No events: nothing had to change.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn decide(&self, command: Command, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        let at = self.not_before(now);
        if let Command::Erase { request_id } = command {
            return Ok(match self.erased {
                Some(_) => Vec::new(),
                None => vec![Event::Erased { request_id, at }],
            });
        }
        if self.erased.is_some() {
            return Err(Refusal::SubjectErased);
        }
        match command {
            Command::Grant { scope, notice, act, confirm_until: Some(expires_at), .. } => {
                happened(&act, now)?;
                // What stands against her is the confirmation's question.
                is_a_will(&scope, &act)?;
                Ok(vec![Event::Requested { scope, notice, act, at, expires_at }])
            }
            Command::Grant { scope, notice, act, own_act, bars, confirm_until: None } => {
                happened(&act, now)?;
                is_a_will(&scope, &act)?;
                self.may_grant(&scope, (act.actor, act.evidence.is_some()), own_act, bars)?;
                Ok(vec![granted(scope, notice, act, at, None)])
            }
            Command::Ask { question, before, again_after, accepted, bars } => {
                let terms = (before, again_after);
                let kind = self.may_ask(&question.scope, now, terms, &accepted, bars)?;
                let question = Question { kind, ..question };
                let expires_at = at.checked_add(ANSWER_WITHIN).unwrap_or(Timestamp::MAX);
                Ok(vec![Event::Asked { question, at, expires_at }])
            }
            Command::StateAge { age, required, actor, evidence } => {
                if age.basis == AgeBasis::Verified && evidence.is_none() {
                    return Err(Refusal::EvidenceNeeded);
                }
                Ok(match self.age() {
                    Some((_, known)) if known == age => Vec::new(),
                    _ => vec![Event::AgeStated { age, required, actor, evidence, at }],
                })
            }
            Command::Restrict { request_id } => {
                let stands = self.is_restricted_by(request_id);
                let event = (!stands).then_some(Event::Restricted { request_id, at });
                Ok(event.into_iter().collect())
            }
            Command::LiftRestriction { request_id } => {
                let stands = self.is_restricted_by(request_id);
                let event = stands.then_some(Event::RestrictionLifted { request_id, at });
                Ok(event.into_iter().collect())
            }
            Command::Contact { channel, acted_at } => {
                // A clock that is ahead must not open a window that she didn't.
                let acted_at = acted_at.min(now);
                let near = |other: &Timestamp| {
                    *other <= acted_at && acted_at.duration_since(*other) < SAME_CONTACT
                };
                Ok(match self.contacts.keys().rev().find(|other| near(other)) {
                    Some(_) => Vec::new(),
                    None => vec![Event::Contacted { channel, acted_at, at }],
                })
            }
            Command::Confirm { request_id, act, own_act, bars } => {
                happened(&act, now)?;
                let request = self.to_confirm(request_id, act.acted_at.unwrap_or(now))?;
                is_a_will(&request.scope, &act)?;
                // A link doesn't show that the number is hers: what she said from it stays.
                if bars.stopped && !own_act {
                    return Err(Refusal::OwnActNeeded);
                }
                let proven = request.proven || act.evidence.is_some();
                self.may_grant(&request.scope, (act.actor, proven), own_act, bars)?;
                let Request { scope, notice, said_at, asked, .. } = request.clone();
                // To a question she answers now; what was said for her is of the time when it was.
                let requested_at = if asked { act.acted_at.unwrap_or(at) } else { said_at };
                let confirms = Some(Confirms { request_id, requested_at });
                Ok(vec![granted(scope, notice, act, at, confirms)])
            }
            Command::Refuse { scope, act } => {
                happened(&act, now)?;
                // Also where a no stands already: a yes that was said in between may still be on its way.
                Ok(vec![Event::Refused { scope, act, at }])
            }
            Command::Withdraw { scope, act } => {
                happened(&act, now)?;
                Ok(vec![Event::Withdrawn { scope, act, at }])
            }
            Command::Expire { scope } => Ok(match self.last_word(&scope) {
                Some(Line { state: State::Given, valid_until: Some(valid_until), .. })
                    if valid_until <= now =>
                {
                    vec![Event::Expired { scope, valid_until, at }]
                }
                _ => Vec::new(),
            }),
            Command::Stand { standing, since } => Ok(self.stand(standing, since, at)),
            Command::Erase { .. } => Ok(Vec::new()),
        }
    }

    /// Recorded time never steps back within a stream, whatever the clocks of replicas do: a word
    /// that was recorded after another is not said before it.
    fn not_before(&self, now: Timestamp) -> Timestamp {
        const STEP: SignedDuration = SignedDuration::from_micros(1);
        let after = |at: Timestamp| at.checked_add(STEP).unwrap_or(at);
        self.recorded_at.map_or(now, |last| now.max(after(last)))
    }

    /// What newly stands against her began at the change that brought it. A change whose time is
    /// not known (or is older than the last one that was seen) is dated by its recording.
    fn stand(&self, standing: Standing, since: Timestamp, at: Timestamp) -> Vec<Event> {
        let (last, known) = match &self.standing {
            Some((order, known)) => (Some(order.effective_at), known.clone()),
            None => (None, Standing::default()),
        };
        if standing == known {
            return Vec::new();
        }
        let effective_at = if last < Some(since) && since <= at { since } else { at };
        vec![Event::StandingChanged { standing, effective_at, at }]
    }

    fn may_grant(
        &self,
        scope: &Scope,
        (actor, proven): (Actor, bool),
        own_act: bool,
        bars: Bars,
    ) -> Result<(), Refusal> {
        if own_act {
            return Ok(());
        }
        if bars.suppressed || bars.erased {
            return Err(Refusal::OwnActNeeded);
        }
        // GDPR Article 8(2): that a parent agreed is to be verified.
        if actor == Actor::Guardian && !proven {
            return Err(Refusal::EvidenceNeeded);
        }
        // GDPR Article 7(1): the controller proves it; after a no, a bare claim is not enough.
        if (bars.stopped || self.said_no(scope)) && !proven {
            return Err(Refusal::EvidenceNeeded);
        }
        Ok(())
    }

    /// The request, if it may still be confirmed at `at`.
    fn to_confirm(&self, request_id: Uuid, at: Timestamp) -> Result<&Request, Refusal> {
        let request = self.requests.get(&request_id).ok_or(Refusal::NothingToConfirm)?;
        if self.confirmed.contains(&request_id) {
            return Err(Refusal::ConfirmedAlready);
        }
        if request.expires_at <= at {
            return Err(Refusal::ConfirmedTooLate);
        }
        let no = self.no(&request.scope);
        if no.is_some_and(|no| no.order.effective_at >= request.said_at) {
            return Err(Refusal::NoSince);
        }
        Ok(request)
    }

    /// What a request is about, if it may still be confirmed at `at`: the hash of its notice, and until when.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn confirmable(
        &self,
        request_id: Uuid,
        at: Timestamp,
    ) -> Result<(Scope, String, Timestamp), Refusal> {
        if self.erased.is_some() {
            return Err(Refusal::NothingToConfirm);
        }
        let request = self.to_confirm(request_id, at)?;
        Ok((request.scope.clone(), request.notice.hash.clone(), request.expires_at))
    }

    /// Whether, and why, she may be asked.
    fn may_ask(
        &self,
        scope: &Scope,
        now: Timestamp,
        (before, again_after): (SignedDuration, SignedDuration),
        accepted: &[String],
        bars: Bars,
    ) -> Result<AskKind, Refusal> {
        if scope.is_wide() {
            return Err(Refusal::NotSpecific);
        }
        if bars.stopped || bars.suppressed || bars.erased {
            return Err(Refusal::Barred);
        }
        let line = self.last_word(scope);
        let in_force = line.as_ref().filter(|line| {
            let holds = |hash: &String| accepted.is_empty() || accepted.contains(hash);
            line.state == State::Given
                && line.valid_until.is_none_or(|until| now < until)
                && line.notice_hash.as_ref().is_none_or(holds)
        });
        let kind = match in_force {
            Some(line) => {
                let ends_soon =
                    line.valid_until.is_some_and(|until| until.duration_since(now) <= before);
                if !ends_soon {
                    return Err(Refusal::NothingToAsk);
                }
                AskKind::Renewal
            }
            None => {
                let written = self.contacts.keys().next_back();
                if written.is_none_or(|at| now.duration_since(*at) >= WINDOW) {
                    return Err(Refusal::WindowClosed);
                }
                AskKind::First
            }
        };
        // A question that she answered is none that troubled her.
        let unanswered = self
            .requests
            .iter()
            .filter(|(id, it)| it.asked && it.scope == *scope && !self.confirmed.contains(*id));
        let no = self.no(scope).map(|no| no.order.effective_at);
        let quiet = unanswered.map(|(_, it)| it.said_at).chain(no).max();
        if quiet.is_some_and(|since| now.duration_since(since) < again_after) {
            return Err(Refusal::AskedLately);
        }
        Ok(kind)
    }

    fn said_no(&self, scope: &Scope) -> bool {
        self.last_word(scope)
            .is_some_and(|line| matches!(line.state, State::Withdrawn | State::Refused))
    }
}

/// GDPR Article 4(11): consent is specific, and an indication of the person's own wishes.
fn is_a_will(scope: &Scope, act: &Act) -> Result<(), Refusal> {
    if scope.is_wide() {
        return Err(Refusal::NotSpecific);
    }
    if act.actor == Actor::System || matches!(act.method, Method::List | Method::Time) {
        return Err(Refusal::NotHerWill);
    }
    Ok(())
}

/// Valid from her last act, not from its recording.
fn granted(
    scope: Scope,
    notice: Notice,
    act: Act,
    at: Timestamp,
    confirms: Option<Confirms>,
) -> Event {
    let from = act.acted_at.unwrap_or(at);
    let valid_until = notice.validity_days.map(|days| after_days(from, days));
    let Notice { version, hash, lapses_after_days, .. } = notice;
    let notice = (version, hash);
    Event::Granted { scope, notice, act, at, valid_until, lapses_after_days, confirms }
}

/// What is told must have happened: a date from the future would outlive every later word.
fn happened(act: &Act, now: Timestamp) -> Result<(), Refusal> {
    match act.acted_at {
        Some(acted_at) if acted_at > now => Err(Refusal::NotYet),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
