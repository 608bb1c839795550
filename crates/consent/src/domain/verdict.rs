//! The verdict: may this be sent? One pure function answers for the gate, for `explain` and for
//! every page, so that no two places can disagree; it computes every reason, not the first.
//! It guarantees the most restrictive answer over all addresses and people that hang together;
//! that its facts come from one snapshot is left to who collects them (`gate`).

use std::collections::{BTreeSet, HashMap, HashSet};

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{CONSENT_REQUEST, Decision, STOP_CONFIRMATION, Verdict};
use assent_contracts::consent::State;
use assent_contracts::policy::Quiet;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::decide::{ANSWER_WITHIN, WINDOW};
use super::engine::Engine;
use super::event::Age;
use super::ledger::Line;
use super::quiet::{self, Hour};
use super::scope::{ANY, Scope};

/// Why, as a stable code. The first three allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// She agreed and it holds.
    ConsentGiven,
    /// She may be asked: she has written, or her consent in force ends soon.
    ConsentRequest,
    /// A settled stop is being confirmed, once.
    StopConfirmation,
    /// No address was given, or none is linked to her.
    AddressMissing,
    /// An address is not known to be hers.
    AddressUnlinked,
    /// Nothing was decided that this message could ask.
    AskMissing,
    /// She is of an age to which the law lets nobody advertise.
    ChildNotTargeted,
    /// The purpose is not pursued on this channel.
    ChannelUnknown,
    /// The stop was confirmed already.
    ConfirmationSpent,
    /// Her consent's validity is over.
    ConsentExpired,
    /// She said no.
    ConsentRefused,
    /// It was said, and isn't confirmed (double opt-in).
    ConsentUnconfirmed,
    /// She took it back.
    ConsentWithdrawn,
    /// She, or who had this address, was erased.
    Erased,
    /// Someone who shares an address with her said no.
    LinkedSubjectDenies,
    /// She never spoke about this.
    NoConsent,
    /// What she agreed to has changed since: she has to be asked again.
    NoticeChanged,
    /// She is too young to consent by herself, and no parent has.
    ParentalConsentNeeded,
    /// There is no such purpose.
    PurposeUnknown,
    /// It is an hour, or a day, at which people are left alone where she may be.
    QuietHours,
    /// Her data are kept and not used, as she asked (GDPR Article 18).
    Restricted,
    /// There is no stop to confirm, or not one for all of the addresses.
    StopMissing,
    /// The stop has not settled yet.
    StopUnsettled,
    /// Someone said stop from one of her addresses.
    Stopped,
    /// One of her addresses is on a list of opt-outs.
    Suppressed,
    /// Neither has she written within a day, nor is the consent in force that would be renewed.
    WindowClosed,
}

impl Reason {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ConsentGiven => "consent_given",
            Self::ConsentRequest => "consent_request",
            Self::StopConfirmation => "stop_confirmation",
            Self::AddressMissing => "address_missing",
            Self::AddressUnlinked => "address_unlinked",
            Self::AskMissing => "ask_missing",
            Self::ChildNotTargeted => "child_not_targeted",
            Self::ParentalConsentNeeded => "parental_consent_needed",
            Self::ChannelUnknown => "channel_unknown",
            Self::ConfirmationSpent => "confirmation_spent",
            Self::ConsentExpired => "consent_expired",
            Self::ConsentRefused => "consent_refused",
            Self::ConsentUnconfirmed => "consent_unconfirmed",
            Self::ConsentWithdrawn => "consent_withdrawn",
            Self::Erased => "erased",
            Self::LinkedSubjectDenies => "linked_subject_denies",
            Self::NoConsent => "no_consent",
            Self::NoticeChanged => "notice_changed",
            Self::PurposeUnknown => "purpose_unknown",
            Self::QuietHours => "quiet_hours",
            Self::Restricted => "restricted",
            Self::StopMissing => "stop_missing",
            Self::StopUnsettled => "stop_unsettled",
            Self::Stopped => "stopped",
            Self::Suppressed => "suppressed",
            Self::WindowClosed => "window_closed",
        }
    }
}

/// What stands against an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateRow {
    /// The stop that holds, if one does.
    pub stop: Option<StopState>,
    /// The suppression that holds.
    pub suppressed_by: Option<Uuid>,
    /// The erasure that left it behind.
    pub erased_by: Option<Uuid>,
    /// When it last changed.
    pub changed_at: Timestamp,
}

/// How a purpose is pursued.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pursued {
    /// On which channels.
    pub channels: Vec<String>,
    /// Hashes of the notices on which a consent holds; none: on every one.
    pub accepted: Vec<String>,
    /// Whether it is advertising.
    pub advertises: bool,
    /// When people are left alone.
    pub quiet: Option<Quiet>,
}

/// The DPV terms that are advertising.
const ADVERTISING: [&str; 6] = [
    "dpv:Advertising",
    "dpv:DirectMarketing",
    "dpv:Marketing",
    "dpv:PersonalisedAdvertising",
    "dpv:SocialMediaMarketing",
    "dpv:TargetedAdvertising",
];

/// Whether a purpose of this DPV term is advertising.
#[must_use]
pub fn advertises(dpv: &str) -> bool {
    ADVERTISING.contains(&dpv)
}

/// A stop, as far as its confirmation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopState {
    /// The stop.
    pub stop_id: Uuid,
    /// One lease has passed since it was committed.
    pub settled: bool,
    /// The message that got the permit for its confirmation.
    pub confirmed_by: Option<Uuid>,
}

/// What a message may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whom.
    pub subject: SubjectId,
    /// For what.
    pub scope: Scope,
    /// When that was decided.
    pub decided_at: Timestamp,
    /// Whether it asks for the renewal of a consent in force.
    pub renews: bool,
    /// When she last did something of her own.
    pub contacted_at: Option<Timestamp>,
}

/// Everything that verdicts rest on, from one snapshot.
#[derive(Debug, Clone, Default)]
pub struct GateView {
    /// The purposes that are pursued.
    pub purposes: HashMap<String, Pursued>,
    /// The addresses of each person.
    pub tokens_of: HashMap<SubjectId, Vec<AddressToken>>,
    /// The country in which each address was issued, where known.
    pub regions: HashMap<AddressToken, String>,
    /// The people of each address.
    pub subjects_of: HashMap<AddressToken, Vec<SubjectId>>,
    /// What stands against each address.
    pub rows: HashMap<AddressToken, GateRow>,
    /// The ledger lines of each person.
    pub lines: HashMap<SubjectId, Vec<(Scope, Line)>>,
    /// Who is fenced for erasure.
    pub fences: HashSet<SubjectId>,
    /// What messages may ask.
    pub asks: HashMap<Uuid, Asked>,
    /// What is known of people's ages, and the events that say so.
    pub ages: HashMap<SubjectId, (Uuid, Age)>,
    /// Whose data are not to be used: the events that say so, and since when.
    pub restrictions: HashMap<SubjectId, (Uuid, Timestamp)>,
    /// SHA-256 of the rule set in force.
    pub rule_set: Option<String>,
    /// The engine in force.
    pub engine: Engine,
}

impl GateView {
    /// Records that an address belongs to a person.
    pub fn link(&mut self, token: AddressToken, subject: SubjectId) {
        let subjects = self.subjects_of.entry(token).or_default();
        if !subjects.contains(&subject) {
            subjects.push(subject);
            self.tokens_of.entry(subject).or_default().push(token);
        }
    }

    /// The countries in which a person's numbers were issued, sorted.
    #[must_use]
    pub fn regions_of(&self, subject: SubjectId) -> Vec<String> {
        let tokens = self.tokens_of.get(&subject).into_iter().flatten();
        let regions: BTreeSet<&String> = tokens.filter_map(|it| self.regions.get(it)).collect();
        regions.into_iter().cloned().collect()
    }

    fn last_word(&self, subject: SubjectId, scope: &AskScope<'_>) -> Option<&Line> {
        let lines = self.lines.get(&subject)?;
        let narrow = lines
            .iter()
            .find(|(own, _)| own.purpose == scope.purpose && own.channel == scope.channel);
        narrow
            .or_else(|| {
                lines
                    .iter()
                    .filter(|(own, _)| scope.is_within_wide(own))
                    .max_by_key(|(_, line)| (line.since, line.event_id))
            })
            .map(|(_, line)| line)
    }
}

struct AskScope<'a> {
    purpose: &'a str,
    channel: &'a str,
}

impl AskScope<'_> {
    fn is_within_wide(&self, wide: &Scope) -> bool {
        wide.is_wide()
            && (wide.purpose == ANY || wide.purpose == self.purpose)
            && (wide.channel == ANY || wide.channel == self.channel)
    }
}

/// Over which addresses is asked.
#[derive(Debug, Clone, Copy)]
pub enum Addresses<'a> {
    /// Over those that would be used, all of which must be hers.
    Given(&'a [AddressToken]),
    /// Over all that are hers.
    Linked,
    /// Over those of an address that nobody is known to have; the asked person is nobody.
    OfNobody(&'a [AddressToken]),
}

/// The question.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// About whom.
    pub subject: SubjectId,
    /// Over which addresses.
    pub addresses: Addresses<'a>,
    /// For which purpose.
    pub purpose: &'a str,
    /// On which channel.
    pub channel: &'a str,
    /// By which message, where it is one.
    pub message: Option<Uuid>,
}

/// What an evaluation collects.
#[derive(Default)]
struct Findings {
    reasons: BTreeSet<Reason>,
    evidence: BTreeSet<Uuid>,
    notice_hash: Option<String>,
    taken_at: Option<Timestamp>,
    quiet_until: Option<Timestamp>,
}

impl Findings {
    fn deny(&mut self, reason: Reason, evidence: Option<Uuid>) {
        self.reasons.insert(reason);
        self.evidence.extend(evidence);
    }

    fn taken(&mut self, at: Timestamp) {
        self.taken_at = self.taken_at.max(Some(at));
    }

    fn verdict(self, view: &GateView, now: Timestamp, settling: SignedDuration) -> Verdict {
        let allowing = [Reason::ConsentGiven, Reason::ConsentRequest, Reason::StopConfirmation];
        let allowed =
            !self.reasons.is_empty() && self.reasons.iter().all(|reason| allowing.contains(reason));
        let mut reasons: Vec<String> = self
            .reasons
            .iter()
            .filter(|reason| allowed || !allowing.contains(reason))
            .map(|reason| reason.code().to_owned())
            .collect();
        reasons.sort_unstable();
        Verdict {
            verdict: if allowed { Decision::Allow } else { Decision::Deny },
            reasons,
            evidence: self.evidence.into_iter().collect(),
            notice_hash: self.notice_hash,
            rules: view.engine.name().to_owned(),
            rule_set: view.rule_set.clone(),
            as_of: now,
            settling_until: self
                .taken_at
                .and_then(|at| at.checked_add(settling).ok())
                .filter(|until| *until > now),
            quiet_until: self.quiet_until,
        }
    }
}

/// The verdict at `now`. `settling` is the lease with its drift: how long a right that was taken
/// away may still be in use.
#[must_use]
pub fn evaluate(
    view: &GateView,
    ask: Ask<'_>,
    now: Timestamp,
    settling: SignedDuration,
) -> Verdict {
    let mut findings = Findings::default();
    if view.fences.contains(&ask.subject) {
        // One fixed answer, whatever else was known of her.
        findings.reasons.insert(Reason::Erased);
        return findings.verdict(view, now, settling);
    }
    if ask.purpose == STOP_CONFIRMATION {
        stop_confirmation(view, ask, &mut findings);
        return findings.verdict(view, now, settling);
    }
    // Whatever she agreed to, and when: only a stop of hers is still confirmed.
    if let Some((event, since)) = view.restrictions.get(&ask.subject) {
        findings.deny(Reason::Restricted, Some(*event));
        findings.taken(*since);
    }
    let asked = if ask.purpose == CONSENT_REQUEST {
        let asked = ask.message.and_then(|message| view.asks.get(&message));
        let Some(asked) = asked.filter(|it| it.subject == ask.subject) else {
            findings.deny(Reason::AskMissing, None);
            return findings.verdict(view, now, settling);
        };
        Some(asked)
    } else {
        None
    };
    let about =
        asked.map_or((ask.purpose, ask.channel), |it| (&it.scope.purpose, &it.scope.channel));
    let scope = AskScope { purpose: about.0, channel: about.1 };
    let pursued = purpose(view, &scope, &mut findings);
    let line = view.last_word(ask.subject, &scope);
    match asked {
        Some(asked) => request(asked, line, &pursued.accepted, now, &mut findings),
        None => consent(line, &pursued.accepted, now, &mut findings),
    }
    age(view.ages.get(&ask.subject), pursued, line, asked.is_some(), &mut findings);
    // Who has just written is awake: a question that answers her needs no hour.
    let disturbs = asked.map_or(line.is_some(), |asked| asked.renews);
    if view.engine >= Engine::Hours2
        && disturbs
        && let Some(quiet) = &pursued.quiet
    {
        hours(quiet, &view.regions_of(ask.subject), now, &mut findings);
    }

    let linked = view.tokens_of.get(&ask.subject).map_or(&[][..], Vec::as_slice);
    let given = match ask.addresses {
        Addresses::Given(given) | Addresses::OfNobody(given) => given,
        Addresses::Linked => linked,
    };
    if given.is_empty() {
        findings.deny(Reason::AddressMissing, None);
    }
    let somebodys = !matches!(ask.addresses, Addresses::OfNobody(_));
    if somebodys && given.iter().any(|token| !linked.contains(token)) {
        findings.deny(Reason::AddressUnlinked, None);
    }
    let mut others = BTreeSet::new();
    for token in given.iter().chain(linked) {
        if let Some(row) = view.rows.get(token) {
            bars(row, &mut findings);
        }
        others.extend(view.subjects_of.get(token).into_iter().flatten().copied());
    }
    others.remove(&ask.subject);
    for other in others {
        linked_subject(view, other, &scope, &mut findings);
    }
    findings.verdict(view, now, settling)
}

/// The verdict for who may not know that somebody was erased or suppressed: it can't be told from
/// that of a person who is neither, and never an `allow` that the whole truth denies.
#[must_use]
pub fn evaluate_without_bars(
    mut view: GateView,
    ask: Ask<'_>,
    now: Timestamp,
    settling: SignedDuration,
) -> Verdict {
    // Without the hours: at night both would be denied, and only at night would they look alike.
    let purposes = view.purposes.clone();
    view.purposes.values_mut().for_each(|pursued| pursued.quiet = None);
    let whole = evaluate(&view, ask, now, settling);
    for row in view.rows.values_mut() {
        (row.suppressed_by, row.erased_by) = (None, None);
    }
    if view.fences.remove(&ask.subject) {
        view.lines.remove(&ask.subject);
        view.ages.remove(&ask.subject);
        view.restrictions.remove(&ask.subject);
    }
    if evaluate(&view, ask, now, settling).verdict != whole.verdict {
        view.lines.remove(&ask.subject);
    }
    view.purposes = purposes;
    evaluate(&view, ask, now, settling)
}

/// Gives how the purpose is pursued.
fn purpose<'a>(view: &'a GateView, ask: &AskScope<'_>, findings: &mut Findings) -> &'a Pursued {
    static NOWHERE: Pursued =
        Pursued { channels: Vec::new(), accepted: Vec::new(), advertises: false, quiet: None };
    let Some(pursued) = view.purposes.get(ask.purpose) else {
        findings.deny(Reason::PurposeUnknown, None);
        return &NOWHERE;
    };
    if !pursued.channels.iter().any(|channel| channel == ask.channel) {
        findings.deny(Reason::ChannelUnknown, None);
    }
    pursued
}

/// Whoever is known to be too young: GDPR Article 8(1) and its like want a parent's consent, some laws
/// let nobody advertise to her at all. Of whom nothing is known nothing follows.
fn age(
    known: Option<&(Uuid, Age)>,
    pursued: &Pursued,
    line: Option<&Line>,
    asked: bool,
    findings: &mut Findings,
) {
    let Some((event, age)) = known else { return };
    let by_guardian = line.is_some_and(|line| line.by_guardian);
    let given = line.is_some_and(|line| line.state == State::Given);
    // A question to a child would be answered by a child.
    if !age.of_age && !by_guardian && (given || asked) {
        findings.deny(Reason::ParentalConsentNeeded, Some(*event));
    }
    if !age.may_be_targeted && pursued.advertises {
        findings.deny(Reason::ChildNotTargeted, Some(*event));
    }
}

/// Whoever said something, or is to be asked to renew it, is left alone at quiet hours. Of whom nothing
/// is known but a number, nothing is said of its country.
fn hours(quiet: &Quiet, regions: &[String], now: Timestamp, findings: &mut Findings) {
    if let Hour::Quiet { until } = quiet::hour(quiet, regions, now) {
        findings.deny(Reason::QuietHours, None);
        findings.quiet_until = until;
    }
}

fn consent(line: Option<&Line>, accepted: &[String], now: Timestamp, findings: &mut Findings) {
    let Some(line) = line else { return findings.deny(Reason::NoConsent, None) };
    let reason = match line.state {
        State::Given if line.valid_until.is_some_and(|until| until <= now) => {
            Reason::ConsentExpired
        }
        State::Given => {
            findings.notice_hash.clone_from(&line.notice_hash);
            let holds = |hash: &String| accepted.is_empty() || accepted.contains(hash);
            if line.notice_hash.as_ref().is_none_or(holds) {
                Reason::ConsentGiven
            } else {
                Reason::NoticeChanged
            }
        }
        State::Expired => Reason::ConsentExpired,
        State::Requested => Reason::ConsentUnconfirmed,
        State::Refused => Reason::ConsentRefused,
        State::Withdrawn => Reason::ConsentWithdrawn,
    };
    if matches!(line.state, State::Refused | State::Withdrawn) {
        findings.taken(line.since);
    }
    findings.deny(reason, Some(line.event_id));
}

/// She may be asked within a day of an act of hers, or while what is to be renewed is in force; never
/// after a no that came since the question was decided: that is a word of hers, and newer.
fn request(
    asked: &Asked,
    line: Option<&Line>,
    accepted: &[String],
    now: Timestamp,
    findings: &mut Findings,
) {
    let renews = line.filter(|line| {
        let holds = |hash: &String| accepted.is_empty() || accepted.contains(hash);
        asked.renews
            && line.state == State::Given
            && line.valid_until.is_none_or(|until| now < until)
            && line.notice_hash.as_ref().is_none_or(holds)
    });
    let written =
        !asked.renews && asked.contacted_at.is_some_and(|at| now.duration_since(at) < WINDOW);
    let answerable = now.duration_since(asked.decided_at) < ANSWER_WITHIN;
    if (renews.is_none() && !written) || !answerable {
        findings.deny(Reason::WindowClosed, None);
    }
    let no = line.filter(|line| matches!(line.state, State::Refused | State::Withdrawn));
    match (no, renews) {
        (Some(no), _) if no.since >= asked.decided_at => {
            findings.taken(no.since);
            let refused = no.state == State::Refused;
            let reason = if refused { Reason::ConsentRefused } else { Reason::ConsentWithdrawn };
            findings.deny(reason, Some(no.event_id));
        }
        (_, renews) => findings.deny(Reason::ConsentRequest, renews.map(|line| line.event_id)),
    }
}

fn bars(row: &GateRow, findings: &mut Findings) {
    let stop = row.stop.map(|stop| stop.stop_id);
    for (reason, by) in [
        (Reason::Stopped, stop),
        (Reason::Suppressed, row.suppressed_by),
        (Reason::Erased, row.erased_by),
    ] {
        if by.is_some() {
            findings.deny(reason, by);
            findings.taken(row.changed_at);
        }
    }
}

/// Someone who shares an address denies by a no of hers or by her erasure; that she never spoke
/// is no no.
fn linked_subject(
    view: &GateView,
    other: SubjectId,
    scope: &AskScope<'_>,
    findings: &mut Findings,
) {
    if view.fences.contains(&other) {
        findings.deny(Reason::LinkedSubjectDenies, None);
    }
    if let Some(line) = view.last_word(other, scope)
        && matches!(line.state, State::Refused | State::Withdrawn)
    {
        findings.deny(Reason::LinkedSubjectDenies, Some(line.event_id));
        findings.taken(line.since);
    }
}

/// The confirmation rests on the stop itself: no consent is asked for and none would help.
fn stop_confirmation(view: &GateView, ask: Ask<'_>, findings: &mut Findings) {
    let given = match ask.addresses {
        Addresses::Given(given) | Addresses::OfNobody(given) => given,
        Addresses::Linked => view.tokens_of.get(&ask.subject).map_or(&[][..], Vec::as_slice),
    };
    if given.is_empty() {
        findings.deny(Reason::AddressMissing, None);
    }
    let mut stops = BTreeSet::new();
    for token in given {
        let row = view.rows.get(token);
        if let Some(row) = row {
            for (reason, by) in
                [(Reason::Suppressed, row.suppressed_by), (Reason::Erased, row.erased_by)]
            {
                if by.is_some() {
                    findings.deny(reason, by);
                }
            }
        }
        let Some(stop) = row.and_then(|row| row.stop) else {
            findings.deny(Reason::StopMissing, None);
            continue;
        };
        stops.insert(stop.stop_id);
        findings.evidence.insert(stop.stop_id);
        if !stop.settled {
            findings.deny(Reason::StopUnsettled, None);
        }
        // The same message may ask again: WhatsApp refused it for now, or its lease ran out.
        if stop.confirmed_by.is_some_and(|message| ask.message != Some(message)) {
            findings.deny(Reason::ConfirmationSpent, None);
        }
    }
    if stops.len() > 1 {
        // Addresses of different stops are not one address.
        findings.deny(Reason::StopMissing, None);
    }
    if stops.len() == 1 {
        findings.reasons.insert(Reason::StopConfirmation);
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
