//! The verdict of any moment, by what was known at any other: a function of the person's stream and
//! the purpose's definition, by the same rules as the gate's. It guarantees the same answer for the
//! same question for ever: nothing here reads a clock, and what was recorded later than the asked
//! position isn't looked at.

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{AsOfVerdict, Decision, StopKind, Verdict};
use assent_contracts::consent::{Bar, OthersWord, PurposeDefined};
use assent_contracts::policy::Quiet;
use assent_runtime::broken::{self, Guarantee};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::engine::Engine;
use super::event::{Event, Standing};
use super::ledger::{Ledger, Line};
use super::scope::Scope;
use super::verdict::{
    Addresses, Ask, GateRow, GateView, Pursued, Reason, StopState, advertises, evaluate,
    evaluate_without_bars,
};

/// The stand-in for the person: the question is about nobody else.
const HER: SubjectId = Uuid::from_u128(1);

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// For which purpose.
    pub purpose: &'a str,
    /// On which channel.
    pub channel: &'a str,
    /// The moment that is asked about.
    pub at: Timestamp,
    /// How many of her events were known.
    pub known_at: i64,
    /// Whether who asks may know that an address is suppressed or was somebody's who was erased. (Who
    /// may not know of her own erasure is answered as of nobody, without asking here.)
    pub sees_bars: bool,
    /// The rule set that was in force at the moment.
    pub rule_set: Option<&'a str>,
    /// The engine that was.
    pub engine: Engine,
}

/// The definition of the purpose that was in force at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Its event.
    pub event_id: Uuid,
    /// The channels on which the purpose was pursued.
    pub channels: &'a [String],
    /// The notices on which a consent held; none: on every one.
    pub accepted: &'a [String],
    /// Whether it was advertising.
    pub advertises: bool,
    /// When people were left alone.
    pub quiet: Option<&'a Quiet>,
}

impl<'a> Policy<'a> {
    /// The one in force at a moment, of all versions of the purpose, oldest first: each with its
    /// event, when it was recorded, and what it says; nothing where the purpose was retired.
    pub fn in_force(
        versions: impl DoubleEndedIterator<Item = (Uuid, Timestamp, Option<&'a PurposeDefined>)>,
        at: Timestamp,
    ) -> Option<Self> {
        let (event_id, _, defined) =
            versions.rev().find(|(_, recorded_at, _)| *recorded_at <= at)?;
        let PurposeDefined { channels, accepted, dpv, quiet, .. } = defined?;
        let (advertises, quiet) = (advertises(dpv), quiet.as_ref());
        Some(Self { event_id, channels, accepted, advertises, quiet })
    }
}

/// The verdict. `events` is her whole stream, with ids and versions.
#[must_use]
pub fn verdict<'a>(
    events: impl IntoIterator<Item = (Uuid, i64, &'a Event)> + Clone,
    policy: Option<Policy<'_>>,
    question: Question<'_>,
) -> AsOfVerdict {
    let Question { purpose, channel, at, known_at, sees_bars, rule_set, engine } = question;
    let erased = |(_, _, event): (_, _, &Event)| matches!(event, Event::Erased { .. });
    if events.clone().into_iter().any(erased) {
        return AsOfVerdict {
            verdict: Decision::Deny,
            reasons: vec![Reason::Erased.code().to_owned()],
            evidence: Vec::new(),
            notice_hash: None,
            // One answer for ever, whatever is in force.
            rules: Engine::Spine1.name().to_owned(),
            rule_set: None,
            policy: None,
            at,
            known_at: None,
        };
    }
    let ledger = Ledger::fold(events.into_iter().filter(|(_, version, event)| {
        *version <= known_at && event.effective_at() <= at || broken::is(Guarantee::G3)
    }));
    let mut view = view(&ledger);
    view.engine = engine;
    if let Some(policy) = policy {
        let (channels, accepted) = (policy.channels.to_vec(), policy.accepted.to_vec());
        let (advertises, quiet) = (policy.advertises, policy.quiet.cloned());
        let pursued = Pursued { channels, accepted, advertises, quiet };
        view.purposes.insert(purpose.to_owned(), pursued);
    }
    let ask = Ask { subject: HER, addresses: Addresses::Linked, purpose, channel, message: None };
    let Verdict { verdict, reasons, evidence, notice_hash, rules, .. } = if sees_bars {
        evaluate(&view, ask, at, SignedDuration::ZERO)
    } else {
        evaluate_without_bars(view, ask, at, SignedDuration::ZERO)
    };
    AsOfVerdict {
        verdict,
        reasons,
        evidence,
        notice_hash,
        rules,
        rule_set: rule_set.map(str::to_owned),
        policy: policy.map(|policy| policy.event_id),
        at,
        known_at: Some(known_at),
    }
}

/// What the gate would have seen. That she has an address is taken as given: each bar stands on one
/// of its own, and whoever shares one with her shares the first.
fn view(ledger: &Ledger) -> GateView {
    let address = |n: usize| {
        let mut mac = [0; 32];
        mac[..size_of::<usize>()].copy_from_slice(&n.to_be_bytes());
        AddressToken { key_id: 0, mac }
    };
    let Standing { bars, others, regions } = ledger.standing();
    let mut view = GateView::default();
    view.link(address(0), HER);
    for (index, region) in regions.into_iter().enumerate() {
        let token = address(bars.len() + index + 1);
        view.link(token, HER);
        view.regions.insert(token, region);
    }
    for (index, bar) in bars.iter().enumerate() {
        let token = address(index + 1);
        view.link(token, HER);
        view.rows.insert(token, row(bar));
    }
    view.lines.insert(HER, ledger.lines().map(|(scope, line)| (scope.clone(), line)).collect());
    view.ages.extend(ledger.age().map(|known| (HER, known)));
    view.restrictions.extend(ledger.restricted().map(|known| (HER, known)));
    for (other, words) in (2..).map(Uuid::from_u128).zip(&others) {
        view.link(address(0), other);
        view.lines.insert(other, words.iter().map(line).collect());
    }
    view
}

fn row(bar: &Bar) -> GateRow {
    let mut row =
        GateRow { stop: None, suppressed_by: None, erased_by: None, changed_at: Timestamp::MIN };
    match bar.kind {
        StopKind::Stopped => {
            row.stop = Some(StopState {
                stop_id: bar.cause,
                settled: true,
                confirmed_by: Some(Uuid::nil()),
            });
        }
        StopKind::Suppressed => row.suppressed_by = Some(bar.cause),
        StopKind::Erased => row.erased_by = Some(bar.cause),
    }
    row
}

fn line(word: &OthersWord) -> (Scope, Line) {
    let line = Line {
        state: word.state,
        event_id: word.event_id,
        version: 0,
        since: word.since,
        notice_hash: None,
        valid_until: None,
        by_guardian: false,
    };
    (Scope::new(&word.purpose, &word.channel), line)
}

#[cfg(test)]
#[path = "as_of_tests.rs"]
mod tests;
