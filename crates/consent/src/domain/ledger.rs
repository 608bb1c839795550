//! The ledger of one person: what she agreed to, refused and withdrew. It guarantees that her last
//! word counts, by the time she said it, whenever it was told; that a yes and a no of the same
//! instant are a no; and that its fold is a join: the same events in any order, however often, give
//! the same ledger. What may be recorded is decided in [`super::decide`]; who may send what is the
//! verdict's question.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::consent::{Actor, AgeBasis, Confirms, State};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::event::{Age, Event, Notice, Question, Standing};
use super::scope::Scope;

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
    /// A holder of parental responsibility gave it.
    pub by_guardian: bool,
}

/// What decides between two words: when they were said; at the same instant a no; then the id, so
/// that every fold of the same events decides alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) effective_at: Timestamp,
    denies: bool,
    event_id: Uuid,
}

/// The newest yes about a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Yes {
    order: Order,
    version: i64,
    notice_hash: String,
    /// When she said it, also where its order is older.
    acted_at: Timestamp,
    valid_until: Option<Timestamp>,
    lapses_after_days: Option<u32>,
    by_guardian: bool,
}

/// The newest no about a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct No {
    pub(super) order: Order,
    version: i64,
    state: State,
}

/// The newest words about one scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    yes: Option<Yes>,
    no: Option<No>,
}

/// A yes that is to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) scope: Scope,
    pub(super) notice: Notice,
    pub(super) said_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) proven: bool,
    /// We asked; nobody had said yes for her.
    pub(super) asked: bool,
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
    pub(super) words: BTreeMap<Scope, Words>,
    /// What was said for her and waited, or waits, to be confirmed.
    pub(super) requests: BTreeMap<Uuid, Request>,
    /// Which of them she has confirmed.
    pub(super) confirmed: BTreeSet<Uuid>,
    /// When she did something of her own, by the version that first tells of it.
    pub(super) contacts: BTreeMap<Timestamp, i64>,
    /// Validities that are over on record, by what ended and when.
    expiries: BTreeMap<(Scope, Timestamp), Expiry>,
    pub(super) standing: Option<(Order, Standing)>,
    /// What is known of her age: what was looked at, and what was only said.
    verified_age: Option<(Order, Age)>,
    stated_age: Option<(Order, Age)>,
    /// The restrictions that stand, by their requests: the event, and since when.
    restrictions: BTreeMap<Uuid, (Uuid, Timestamp)>,
    /// The request by which she was erased.
    pub erased: Option<Uuid>,
    /// Version of her stream: the number of her events.
    pub version: i64,
    /// When the newest of them was recorded.
    pub(super) recorded_at: Option<Timestamp>,
}

impl Ledger {
    /// What stands against her beside her own words.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.as_ref().map(|(_, standing)| standing.clone()).unwrap_or_default()
    }

    /// What is known of her age, and the event that says so. What was looked at counts before what was
    /// only said.
    #[must_use]
    pub fn age(&self) -> Option<(Uuid, Age)> {
        let known = self.verified_age.as_ref().or(self.stated_age.as_ref());
        known.map(|(order, age)| (order.event_id, *age))
    }

    /// What says that her data are not to be used, and since when: the oldest restriction that stands.
    #[must_use]
    pub fn restricted(&self) -> Option<(Uuid, Timestamp)> {
        self.restrictions.values().copied().min_by_key(|(event, since)| (*since, *event))
    }

    /// Whether the restriction of this request stands.
    pub(super) fn is_restricted_by(&self, request_id: Uuid) -> bool {
        self.restrictions.contains_key(&request_id)
    }

    /// When a yes ends by itself, and the newest version that this rests on. Every act of hers before
    /// it would lapse puts that off; none brings back what has lapsed.
    fn end(&self, yes: &Yes) -> (Option<Timestamp>, i64) {
        let Some(days) = yes.lapses_after_days else { return (yes.valid_until, yes.version) };
        let mut lapses = after_days(yes.acted_at, days);
        let mut version = yes.version;
        for (contact, told) in self.contacts.range(yes.acted_at..) {
            if *contact >= lapses {
                break;
            }
            lapses = after_days(*contact, days);
            version = version.max(*told);
        }
        (Some(yes.valid_until.map_or(lapses, |until| until.min(lapses))), version)
    }

    /// The newest no that speaks of a scope.
    pub(super) fn no(&self, scope: &Scope) -> Option<&No> {
        self.words
            .iter()
            .filter(|(own, _)| own.covers(scope))
            .filter_map(|(_, words)| words.no.as_ref())
            .max_by_key(|no| no.order)
    }

    /// The newest request about a scope, as the line of who said nothing else.
    fn request(&self, scope: &Scope) -> Option<Line> {
        let own = self.requests.iter().filter(|(_, it)| it.scope == *scope && !it.asked);
        let (id, request) = own.max_by_key(|(id, request)| (request.said_at, **id))?;
        Some(Line {
            state: State::Requested,
            event_id: *id,
            version: request.version,
            since: request.said_at,
            notice_hash: Some(request.notice.hash.clone()),
            valid_until: Some(request.expires_at),
            by_guardian: false,
        })
    }

    /// What was said for her about a purpose, or asked, up to a moment, and was to be confirmed.
    pub fn requests_about(&self, purpose: &str, until: Timestamp) -> impl Iterator<Item = Uuid> {
        let about =
            move |request: &Request| request.scope.purpose == purpose && request.said_at <= until;
        self.requests.iter().filter(move |(_, it)| about(it)).map(|(id, _)| *id)
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
                let (valid_until, ended) = self.end(yes);
                let version = version.max(ended);
                let expiry =
                    valid_until.and_then(|until| self.expiries.get(&(scope.clone(), until)));
                Some(Line {
                    state: if expiry.is_some() { State::Expired } else { State::Given },
                    event_id: expiry.map_or(yes.order.event_id, |expiry| expiry.event_id),
                    version: expiry.map_or(version, |expiry| version.max(expiry.version)),
                    since: expiry.map_or(yes.order.effective_at, |expiry| expiry.at),
                    notice_hash,
                    valid_until,
                    by_guardian: yes.by_guardian,
                })
            }
            (_, no) => no.map(|no| Line {
                state: no.state,
                event_id: no.order.event_id,
                version,
                since: no.order.effective_at,
                notice_hash,
                valid_until: None,
                by_guardian: false,
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

    /// Whether a consent within `scope` is on record as given (expired by time or not).
    #[must_use]
    pub fn has_given(&self, scope: &Scope) -> bool {
        self.lines().any(|(own, line)| scope.covers(own) && line.state == State::Given)
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
                    asked: false,
                    version,
                };
                self.requests.insert(id, request);
            }
            Event::Asked { question, at, expires_at } => {
                let Question { request_id, scope, notice, .. } = question.clone();
                let (said_at, expires_at) = (*at, *expires_at);
                let (proven, asked) = (false, true);
                let request =
                    Request { scope, notice, said_at, expires_at, proven, asked, version };
                self.requests.insert(request_id, request);
            }
            Event::Contacted { acted_at, .. } => {
                let told = self.contacts.entry(*acted_at).or_insert(version);
                *told = version.min(*told);
            }
            Event::AgeStated { age, .. } => {
                let order = order(false);
                let held = match age.basis {
                    AgeBasis::Verified => &mut self.verified_age,
                    AgeBasis::Stated => &mut self.stated_age,
                };
                if held.as_ref().is_none_or(|(kept, _)| *kept < order) {
                    *held = Some((order, *age));
                }
            }
            Event::Restricted { request_id, at } => {
                self.restrictions.entry(*request_id).or_insert((id, *at));
            }
            Event::RestrictionLifted { request_id, .. } => {
                self.restrictions.remove(request_id);
            }
            Event::Granted {
                scope, notice, act, valid_until, lapses_after_days, confirms, ..
            } => {
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
                    acted_at: event.effective_at(),
                    valid_until: *valid_until,
                    lapses_after_days: *lapses_after_days,
                    by_guardian: act.actor == Actor::Guardian,
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

/// `days` × 24 h later: a validity is a span, not a calendar date, so no zone is needed.
pub(super) fn after_days(at: Timestamp, days: u32) -> Timestamp {
    at.checked_add(SignedDuration::from_hours(i64::from(days) * 24)).unwrap_or(Timestamp::MAX)
}
