//! The ledger of one person: what she agreed to, refused and withdrew. It guarantees that her last
//! word counts, by the time she said it, whenever it was told; that a yes and a no of the same
//! instant are a no; and that nothing is recorded after her erasure. Its fold is a join: the same
//! events in any order, however often, give the same ledger. Who may send what is the verdict's
//! question.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::consent::{Actor, Confirms, Method, State};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::event::{Act, Event, Notice, Standing};
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
    /// She confirms what was said for her.
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
    #[error("she said no before: sealed evidence of her change of mind is needed")]
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
}

/// One line of the ledger: the last word about one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What holds.
    pub state: State,
    /// The event that made it so.
    pub event_id: Uuid,
    /// The newest stream version that the line rests on.
    pub version: i64,
    /// Since when.
    pub since: Timestamp,
    /// Hash of the notice she agreed to, where she did.
    pub notice_hash: Option<String>,
    /// When it ends by itself.
    pub valid_until: Option<Timestamp>,
}

/// What decides between two words: when they were said; at the same instant a no; then the id, so
/// that every fold of the same events decides alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    effective_at: Timestamp,
    denies: bool,
    event_id: Uuid,
}

/// The newest yes about a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Yes {
    order: Order,
    version: i64,
    notice_hash: String,
    valid_until: Option<Timestamp>,
}

/// The newest no about a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
struct No {
    order: Order,
    version: i64,
    state: State,
}

/// The newest words about one scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Words {
    yes: Option<Yes>,
    no: Option<No>,
}

/// A yes that is to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    scope: Scope,
    notice: Notice,
    said_at: Timestamp,
    expires_at: Timestamp,
    proven: bool,
    version: i64,
}

/// That a validity was written down as over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expiry {
    event_id: Uuid,
    version: i64,
    at: Timestamp,
}

/// All that holds for one person, a fold of her stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    words: BTreeMap<Scope, Words>,
    /// What was said for her and waited, or waits, to be confirmed.
    requests: BTreeMap<Uuid, Request>,
    /// Which of them she has confirmed.
    confirmed: BTreeSet<Uuid>,
    /// Validities that are over on record, by what ended and when.
    expiries: BTreeMap<(Scope, Timestamp), Expiry>,
    standing: Option<(Order, Standing)>,
    /// The request by which she was erased.
    pub erased: Option<Uuid>,
    /// Version of her stream: the number of her events.
    pub version: i64,
    /// When the newest of them was recorded.
    recorded_at: Option<Timestamp>,
}

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
                self.may_grant(&scope, act.evidence.is_some(), own_act, bars)?;
                Ok(vec![granted(scope, notice, act, at, None)])
            }
            Command::Confirm { request_id, act, own_act, bars } => {
                happened(&act, now)?;
                let request = self.to_confirm(request_id, act.acted_at.unwrap_or(now))?;
                is_a_will(&request.scope, &act)?;
                let proven = request.proven || act.evidence.is_some();
                self.may_grant(&request.scope, proven, own_act, bars)?;
                let Request { scope, notice, said_at: requested_at, .. } = request.clone();
                let confirms = Some(Confirms { request_id, requested_at });
                Ok(vec![granted(scope, notice, act, at, confirms)])
            }
            Command::Refuse { scope, act } => {
                happened(&act, now)?;
                Ok(if self.is_settled_no(&scope, &act) {
                    Vec::new()
                } else {
                    vec![Event::Refused { scope, act, at }]
                })
            }
            Command::Withdraw { scope, act } => {
                happened(&act, now)?;
                Ok(if self.is_settled_no(&scope, &act) {
                    Vec::new()
                } else {
                    vec![Event::Withdrawn { scope, act, at }]
                })
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

    /// What stands against her beside her own words.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.as_ref().map(|(_, standing)| standing.clone()).unwrap_or_default()
    }

    fn may_grant(
        &self,
        scope: &Scope,
        proven: bool,
        own_act: bool,
        bars: Bars,
    ) -> Result<(), Refusal> {
        if own_act {
            return Ok(());
        }
        if bars.suppressed || bars.erased {
            return Err(Refusal::OwnActNeeded);
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

    /// The newest no that speaks of a scope.
    fn no(&self, scope: &Scope) -> Option<&No> {
        self.words
            .iter()
            .filter(|(own, _)| own.covers(scope))
            .filter_map(|(_, words)| words.no.as_ref())
            .max_by_key(|no| no.order)
    }

    /// The newest request about a scope, as the line of who said nothing else.
    fn request(&self, scope: &Scope) -> Option<Line> {
        let own = self.requests.iter().filter(|(_, request)| request.scope == *scope);
        let (id, request) = own.max_by_key(|(id, request)| (request.said_at, **id))?;
        Some(Line {
            state: State::Requested,
            event_id: *id,
            version: request.version,
            since: request.said_at,
            notice_hash: Some(request.notice.hash.clone()),
            valid_until: Some(request.expires_at),
        })
    }

    /// The last word about a scope: the newest of those that speak of it.
    #[must_use]
    pub fn last_word(&self, scope: &Scope) -> Option<Line> {
        if self.erased.is_some() {
            return None;
        }
        let yes = self.words.get(scope).and_then(|words| words.yes.as_ref());
        let no = self.no(scope);
        let Some(version) = yes.map(|yes| yes.version).max(no.map(|no| no.version)) else {
            return self.request(scope);
        };
        let notice_hash = yes.map(|yes| yes.notice_hash.clone());
        match (yes, no) {
            (Some(yes), no) if no.is_none_or(|no| no.order < yes.order) => {
                let expiry =
                    yes.valid_until.and_then(|until| self.expiries.get(&(scope.clone(), until)));
                Some(Line {
                    state: if expiry.is_some() { State::Expired } else { State::Given },
                    event_id: expiry.map_or(yes.order.event_id, |expiry| expiry.event_id),
                    version: expiry.map_or(version, |expiry| version.max(expiry.version)),
                    since: expiry.map_or(yes.order.effective_at, |expiry| expiry.at),
                    notice_hash,
                    valid_until: yes.valid_until,
                })
            }
            (_, no) => no.map(|no| Line {
                state: no.state,
                event_id: no.order.event_id,
                version,
                since: no.order.effective_at,
                notice_hash,
                valid_until: None,
            }),
        }
    }

    /// The last word per scope that was ever spoken of, sorted by scope; a wide one stands beside
    /// the narrow ones that it reached.
    pub fn lines(&self) -> impl Iterator<Item = (&Scope, Line)> {
        let requested = self.requests.values().map(|request| &request.scope);
        let scopes: BTreeSet<&Scope> = self.words.keys().chain(requested).collect();
        scopes.into_iter().filter_map(|scope| Some((scope, self.last_word(scope)?)))
    }

    fn said_no(&self, scope: &Scope) -> bool {
        self.last_word(scope)
            .is_some_and(|line| matches!(line.state, State::Withdrawn | State::Refused))
    }

    /// Whether a consent within `scope` is on record as given (expired by time or not).
    #[must_use]
    pub fn has_given(&self, scope: &Scope) -> bool {
        self.lines().any(|(own, line)| scope.covers(own) && line.state == State::Given)
    }

    /// Whether a no about `scope` is on record already and nothing was given since. An earlier act
    /// that is told now is news all the same: of the time in between.
    fn is_settled_no(&self, scope: &Scope, act: &Act) -> bool {
        act.acted_at.is_none()
            && self.words.contains_key(scope)
            && !self.has_given(scope)
            && self.said_no(scope)
    }

    /// Folds one event in. `id` and `version` are those of the stored event.
    pub fn evolve(&mut self, id: Uuid, version: i64, event: &Event) {
        self.version = self.version.max(version);
        self.recorded_at = self.recorded_at.max(Some(event.at()));
        let order = |denies| Order { effective_at: event.effective_at(), denies, event_id: id };
        match event {
            Event::Requested { scope, notice, act, expires_at, .. } => {
                let request = Request {
                    scope: scope.clone(),
                    notice: notice.clone(),
                    said_at: event.effective_at(),
                    expires_at: *expires_at,
                    proven: act.evidence.is_some(),
                    version,
                };
                self.requests.insert(id, request);
            }
            Event::Granted { scope, notice, valid_until, confirms, .. } => {
                let words = self.words.entry(scope.clone()).or_default();
                let mut order = order(false);
                if let Some(Confirms { request_id, requested_at }) = confirms {
                    self.confirmed.insert(*request_id);
                    // Her will is of that time: a no in between wins, whenever it is told.
                    order.effective_at = order.effective_at.min(*requested_at);
                }
                let yes = Yes {
                    order,
                    version,
                    notice_hash: notice.1.clone(),
                    valid_until: *valid_until,
                };
                if words.yes.as_ref().is_none_or(|kept| kept.order < yes.order) {
                    words.yes = Some(yes);
                }
            }
            Event::Refused { scope, .. } => {
                self.deny(scope, No { order: order(true), version, state: State::Refused });
            }
            Event::Withdrawn { scope, .. } => {
                self.deny(scope, No { order: order(true), version, state: State::Withdrawn });
            }
            Event::Expired { scope, valid_until, at } => {
                let expiry = Expiry { event_id: id, version, at: *at };
                let kept = self.expiries.entry((scope.clone(), *valid_until));
                let kept = kept.or_insert_with(|| expiry.clone());
                if expiry.event_id < kept.event_id {
                    *kept = expiry;
                }
            }
            Event::StandingChanged { standing, .. } => {
                let order = order(true);
                if self.standing.as_ref().is_none_or(|(kept, _)| *kept < order) {
                    self.standing = Some((order, standing.clone()));
                }
            }
            Event::Erased { request_id, .. } => self.erased = Some(*request_id),
        }
    }

    fn deny(&mut self, scope: &Scope, no: No) {
        let words = self.words.entry(scope.clone()).or_default();
        if words.no.as_ref().is_none_or(|kept| kept.order < no.order) {
            words.no = Some(no);
        }
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
    let notice = (notice.version, notice.hash);
    Event::Granted { scope, notice, act, at, valid_until, confirms }
}

/// What is told must have happened: a date from the future would outlive every later word.
fn happened(act: &Act, now: Timestamp) -> Result<(), Refusal> {
    match act.acted_at {
        Some(acted_at) if acted_at > now => Err(Refusal::NotYet),
        _ => Ok(()),
    }
}

/// `days` × 24 h later: a validity is a span, not a calendar date, so no zone is needed.
fn after_days(at: Timestamp, days: u32) -> Timestamp {
    at.checked_add(SignedDuration::from_hours(i64::from(days) * 24)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
