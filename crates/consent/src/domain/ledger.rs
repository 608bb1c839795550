//! The ledger of one person: what she agreed to, refused and withdrew, in the order of her stream.
//! It guarantees that the last word counts, whatever clocks say, and that nothing is recorded
//! after her erasure; who may send what is the verdict's question.

use std::collections::BTreeMap;

use assent_contracts::consent::{Actor, Method, State};
use assent_contracts::sealed::Sealed;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::scope::Scope;

/// How an expression of will came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who acted.
    pub actor: Actor,
    /// By which road.
    pub method: Method,
    /// Evidence, sealed under the person's key.
    pub evidence: Option<Sealed>,
}

/// The notice that was shown, as far as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its version, from 1.
    pub version: u32,
    /// SHA-256 of its canonical text, hex.
    pub hash: String,
    /// How long a consent given on it stays valid, in days.
    pub validity_days: Option<u32>,
}

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
    /// She is being erased.
    Erase {
        /// The request.
        request_id: Uuid,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// She agreed.
    Granted {
        /// To what.
        scope: Scope,
        /// On which notice: version and hash.
        notice: (u32, String),
        /// How it came in.
        act: Act,
        /// When it was recorded.
        at: Timestamp,
        /// When it ends by itself.
        valid_until: Option<Timestamp>,
    },
    /// She said no.
    Refused {
        /// To what.
        scope: Scope,
        /// How it came in.
        act: Act,
        /// When it was recorded.
        at: Timestamp,
    },
    /// She took it back.
    Withdrawn {
        /// What.
        scope: Scope,
        /// How it came in.
        act: Act,
        /// When it was recorded.
        at: Timestamp,
    },
    /// Its validity ended.
    Expired {
        /// Which consent.
        scope: Scope,
        /// When its validity ended.
        valid_until: Timestamp,
        /// When it was recorded.
        at: Timestamp,
    },
    /// She was fenced: nothing is recorded after this.
    Erased {
        /// The request.
        request_id: Uuid,
        /// When it was recorded.
        at: Timestamp,
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
    #[error("she said no before: sealed evidence of her change of mind is needed")]
    EvidenceNeeded,
    /// A list or the system itself never gives consent in her place.
    #[error("consent is never given by a list or by the system")]
    NotHerWill,
    /// A grant names one purpose and one channel.
    #[error("a grant names exactly one purpose and one channel")]
    NotSpecific,
}

/// One line of the ledger: the last word about one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What holds.
    pub state: State,
    /// The event that made it so.
    pub event_id: Uuid,
    /// The stream version of that event.
    pub version: i64,
    /// Since when.
    pub since: Timestamp,
    /// Hash of the notice she agreed to, where she did.
    pub notice_hash: Option<String>,
    /// When it ends by itself.
    pub valid_until: Option<Timestamp>,
}

/// All that holds for one person, a fold of her stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The last word per scope; a wide scope stands beside the narrow ones it reached.
    pub lines: BTreeMap<Scope, Line>,
    /// The request by which she was erased.
    pub erased: Option<Uuid>,
    /// Version of her stream: the number of her events.
    pub version: i64,
}

impl Ledger {
    /// What a command leads to, or why it is refused. No events: nothing had to change.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn decide(&self, command: Command, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        if let Command::Erase { request_id } = command {
            return Ok(match self.erased {
                Some(_) => Vec::new(),
                None => vec![Event::Erased { request_id, at: now }],
            });
        }
        if self.erased.is_some() {
            return Err(Refusal::SubjectErased);
        }
        match command {
            Command::Grant { scope, notice, act, own_act, bars } => {
                self.may_grant(&scope, &act, own_act, bars)?;
                let valid_until = notice.validity_days.map(|days| after_days(now, days));
                let notice = (notice.version, notice.hash);
                Ok(vec![Event::Granted { scope, notice, act, at: now, valid_until }])
            }
            Command::Refuse { scope, act } => Ok(if self.is_settled_no(&scope) {
                Vec::new()
            } else {
                vec![Event::Refused { scope, act, at: now }]
            }),
            Command::Withdraw { scope, act } => Ok(if self.is_settled_no(&scope) {
                Vec::new()
            } else {
                vec![Event::Withdrawn { scope, act, at: now }]
            }),
            Command::Expire { scope } => Ok(match self.lines.get(&scope) {
                Some(Line { state: State::Given, valid_until: Some(valid_until), .. })
                    if *valid_until <= now =>
                {
                    vec![Event::Expired { scope, valid_until: *valid_until, at: now }]
                }
                _ => Vec::new(),
            }),
            Command::Erase { .. } => Ok(Vec::new()),
        }
    }

    fn may_grant(
        &self,
        scope: &Scope,
        act: &Act,
        own_act: bool,
        bars: Bars,
    ) -> Result<(), Refusal> {
        if scope.is_wide() {
            return Err(Refusal::NotSpecific);
        }
        // GDPR Article 4(11): consent is an indication of the person's own wishes.
        if act.actor == Actor::System || matches!(act.method, Method::List | Method::Time) {
            return Err(Refusal::NotHerWill);
        }
        if own_act {
            return Ok(());
        }
        if bars.suppressed || bars.erased {
            return Err(Refusal::OwnActNeeded);
        }
        // GDPR Article 7(1): the controller proves it; after a no, a bare claim is not enough.
        if (bars.stopped || self.said_no(scope)) && act.evidence.is_none() {
            return Err(Refusal::EvidenceNeeded);
        }
        Ok(())
    }

    /// The last word about a narrow scope: the line of its own, else the newest wide one.
    #[must_use]
    pub fn last_word(&self, scope: &Scope) -> Option<&Line> {
        self.lines.get(scope).or_else(|| {
            self.lines
                .iter()
                .filter(|(wide, _)| wide.is_wide() && wide.covers(scope))
                .map(|(_, line)| line)
                .max_by_key(|line| line.version)
        })
    }

    fn said_no(&self, scope: &Scope) -> bool {
        self.last_word(scope)
            .is_some_and(|line| matches!(line.state, State::Withdrawn | State::Refused))
    }

    /// Whether a consent within `scope` is on record as given (expired by time or not).
    #[must_use]
    pub fn has_given(&self, scope: &Scope) -> bool {
        self.lines.iter().any(|(own, line)| scope.covers(own) && line.state == State::Given)
    }

    /// Whether a no about `scope` is on record already and nothing was given since.
    fn is_settled_no(&self, scope: &Scope) -> bool {
        !self.has_given(scope)
            && self
                .lines
                .get(scope)
                .is_some_and(|line| matches!(line.state, State::Withdrawn | State::Refused))
    }

    /// Folds one event in. `id` and `version` are those of the stored event.
    pub fn evolve(&mut self, id: Uuid, version: i64, event: &Event) {
        self.version = version;
        match event {
            Event::Granted { scope, notice, at, valid_until, .. } => {
                self.lines.insert(
                    scope.clone(),
                    Line {
                        state: State::Given,
                        event_id: id,
                        version,
                        since: *at,
                        notice_hash: Some(notice.1.clone()),
                        valid_until: *valid_until,
                    },
                );
            }
            Event::Refused { scope, at, .. } => self.end(scope, State::Refused, id, version, *at),
            Event::Withdrawn { scope, at, .. } => {
                self.end(scope, State::Withdrawn, id, version, *at);
            }
            Event::Expired { scope, at, .. } => {
                if let Some(line) = self.lines.get_mut(scope) {
                    let notice_hash = line.notice_hash.take();
                    let valid_until = line.valid_until;
                    *line = Line {
                        state: State::Expired,
                        event_id: id,
                        version,
                        since: *at,
                        notice_hash,
                        valid_until,
                    };
                }
            }
            Event::Erased { request_id, .. } => {
                self.lines.clear();
                self.erased = Some(*request_id);
            }
        }
    }

    /// A no reaches every line within its scope and stays on record for scopes never spoken of.
    fn end(&mut self, scope: &Scope, state: State, id: Uuid, version: i64, at: Timestamp) {
        let line =
            Line { state, event_id: id, version, since: at, notice_hash: None, valid_until: None };
        for (own, kept) in &mut self.lines {
            if scope.covers(own) {
                *kept = Line { notice_hash: kept.notice_hash.take(), ..line.clone() };
            }
        }
        self.lines.entry(scope.clone()).or_insert(line);
    }

    /// Folds a whole stream.
    #[must_use]
    pub fn fold<'a>(events: impl IntoIterator<Item = (Uuid, i64, &'a Event)>) -> Self {
        let mut ledger = Self::default();
        for (id, version, event) in events {
            ledger.evolve(id, version, event);
        }
        ledger
    }
}

/// `days` × 24 h later: a validity is a span, not a calendar date, so no zone is needed.
fn after_days(at: Timestamp, days: u32) -> Timestamp {
    at.checked_add(SignedDuration::from_hours(i64::from(days) * 24)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
