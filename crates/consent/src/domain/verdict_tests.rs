//! The verdict, reason by reason, and the property that G1 rests on.

use std::collections::BTreeMap;

use assent_contracts::consent::{Actor, AgeBasis, Method};
use proptest::prelude::*;

use super::super::decide::{Bars, Command};
use super::super::event::{Act, Age, Notice};
use super::super::ledger::Ledger;
use super::*;

const SETTLING: SignedDuration = SignedDuration::from_millis(1_050);
const ANN: SubjectId = Uuid::from_u128(1);
const BEN: SubjectId = Uuid::from_u128(2);

fn token(n: u8) -> AddressToken {
    AddressToken { key_id: 1, mac: [n; 32] }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn line(state: State) -> Line {
    Line {
        state,
        event_id: Uuid::from_u128(77),
        version: 1,
        since: now() - SignedDuration::from_hours(1),
        notice_hash: Some("ab".to_owned()),
        valid_until: None,
        by_guardian: false,
    }
}

fn on_whatsapp() -> Pursued {
    Pursued { channels: vec!["whatsapp".to_owned()], advertises: true, ..Pursued::default() }
}

/// Ann has address 1 and agreed to marketing.
fn consenting() -> GateView {
    let mut view = GateView::default();
    view.purposes.insert("marketing".to_owned(), on_whatsapp());
    view.link(token(1), ANN);
    say(&mut view, ANN, line(State::Given));
    view
}

fn say(view: &mut GateView, subject: SubjectId, line: Line) {
    view.lines.insert(subject, vec![(Scope::new("marketing", "whatsapp"), line)]);
}

fn ask<'a>(addresses: &'a [AddressToken]) -> Ask<'a> {
    Ask {
        subject: ANN,
        addresses: Addresses::Given(addresses),
        purpose: "marketing",
        channel: "whatsapp",
        message: None,
    }
}

fn reasons(view: &GateView, ask: Ask<'_>) -> Vec<String> {
    let verdict = evaluate(view, ask, now(), SETTLING);
    let allowing = verdict.reasons.iter().any(|reason| {
        [Reason::ConsentGiven, Reason::ConsentRequest, Reason::StopConfirmation]
            .iter()
            .any(|r| r.code() == reason)
    });
    assert_eq!(verdict.verdict == Decision::Allow, allowing, "{:?}", verdict.reasons);
    assert!(verdict.reasons.is_sorted());
    assert!(!verdict.reasons.is_empty(), "a verdict explains itself");
    verdict.reasons
}

/// GDPR Article 18: kept, and not used, whatever she agreed to and when.
#[test]
fn what_is_restricted_is_used_for_nothing_but_the_confirmation_of_a_stop() {
    let addresses = [token(1)];
    let mut view = consenting();
    let since = now() - SignedDuration::from_hours(2);
    view.restrictions.insert(ANN, (Uuid::from_u128(18), since));
    let verdict = evaluate(&view, ask(&addresses), now(), SETTLING);
    assert_eq!(
        (verdict.verdict, &verdict.reasons[..]),
        (Decision::Deny, &["restricted".to_owned()][..])
    );
    assert!(verdict.evidence.contains(&Uuid::from_u128(18)));
    let stop = StopState { stop_id: Uuid::from_u128(5), settled: true, confirmed_by: None };
    view.rows.insert(token(1), GateRow { stop: Some(stop), ..GateRow::default() });
    let confirming = Ask { purpose: STOP_CONFIRMATION, ..ask(&addresses) };
    assert_eq!(evaluate(&view, confirming, now(), SETTLING).verdict, Decision::Allow);
    // Whoever shares her address has said nothing of the kind.
    view.rows.clear();
    view.link(token(1), BEN);
    say(&mut view, BEN, line(State::Given));
    let of_ben = Ask { subject: BEN, ..ask(&addresses) };
    assert_eq!(evaluate(&view, of_ben, now(), SETTLING).verdict, Decision::Allow);
}

#[test]
fn a_consent_in_force_allows_and_names_its_event_and_notice() {
    let verdict = evaluate(&consenting(), ask(&[token(1)]), now(), SETTLING);
    assert_eq!(verdict.verdict, Decision::Allow);
    assert_eq!(verdict.reasons, ["consent_given"]);
    assert_eq!(verdict.evidence, [Uuid::from_u128(77)]);
    assert_eq!(verdict.notice_hash.as_deref(), Some("ab"));
    assert_eq!(verdict.settling_until, None);
}

#[test]
fn a_consent_to_a_notice_that_no_longer_counts_has_to_be_asked_for_again() {
    let mut view = consenting();
    view.purposes.get_mut("marketing").unwrap().accepted = vec!["cd".to_owned()];
    assert_eq!(reasons(&view, ask(&[token(1)])), ["notice_changed"]);
    view.purposes.get_mut("marketing").unwrap().accepted.push("ab".to_owned());
    assert_eq!(reasons(&view, ask(&[token(1)])), ["consent_given"]);
}

#[test]
fn who_may_not_know_of_a_bar_cannot_tell_it_from_a_person_who_never_agreed() {
    let masked = |view: GateView| evaluate_without_bars(view, ask(&[token(1)]), now(), SETTLING);
    let mut stranger = consenting();
    stranger.lines.clear();
    let stranger = masked(stranger);
    assert_eq!(stranger.reasons, ["no_consent"]);
    let barred = |row: GateRow| {
        let mut view = consenting();
        view.rows.insert(token(1), row);
        view
    };
    let by = Some(Uuid::from_u128(5));
    let row = GateRow { changed_at: now(), ..GateRow::default() };
    assert_eq!(masked(barred(GateRow { suppressed_by: by, ..row.clone() })), stranger);
    assert_eq!(masked(barred(GateRow { erased_by: by, ..row.clone() })), stranger);
    let mut erased = consenting();
    erased.fences.insert(ANN);
    assert_eq!(masked(erased), stranger);

    // What anybody may know stays as it is, and its evidence with it.
    let mut withdrawn = consenting();
    say(&mut withdrawn, ANN, line(State::Withdrawn));
    let known = masked(withdrawn.clone());
    assert_eq!(known.reasons, ["consent_withdrawn"]);
    withdrawn.rows.insert(token(1), GateRow { suppressed_by: by, ..row });
    assert_eq!(masked(withdrawn), known);
    assert_eq!(masked(consenting()).verdict, Decision::Allow);
}

/// Trap 5: nothing but a consent in force reads as consent.
#[test]
fn trap_5_a_refusal_an_unknown_or_an_expired_consent_is_no_consent() {
    for (state, reason) in [
        (State::Refused, "consent_refused"),
        (State::Withdrawn, "consent_withdrawn"),
        (State::Expired, "consent_expired"),
    ] {
        let mut view = consenting();
        say(&mut view, ANN, line(state));
        assert_eq!(reasons(&view, ask(&[token(1)])), [reason]);
    }
    let mut view = consenting();
    view.lines.clear();
    assert_eq!(reasons(&view, ask(&[token(1)])), ["no_consent"]);
    say(&mut view, ANN, Line { valid_until: Some(now()), ..line(State::Given) });
    assert_eq!(reasons(&view, ask(&[token(1)])), ["consent_expired"], "before any event says so");
}

/// Trap 3: the evidence is the last word's, not that of an older grant.
#[test]
fn trap_3_evidence_never_bypasses_a_later_withdrawal() {
    let mut view = consenting();
    let wide = Line { version: 2, event_id: Uuid::from_u128(78), ..line(State::Withdrawn) };
    view.lines.insert(ANN, vec![(Scope::everything(), wide)]);
    let verdict = evaluate(&view, ask(&[token(1)]), now(), SETTLING);
    assert_eq!(verdict.evidence, [Uuid::from_u128(78)]);
    assert_eq!((verdict.verdict, verdict.notice_hash), (Decision::Deny, None));
}

#[test]
fn an_address_of_nobody_has_no_consent_and_keeps_what_stands_against_it() {
    let mut view = consenting();
    let addresses = [token(9)];
    let of_nobody = || Ask {
        subject: Uuid::nil(),
        addresses: Addresses::OfNobody(&addresses),
        purpose: "marketing",
        channel: "whatsapp",
        message: None,
    };
    assert_eq!(reasons(&view, of_nobody()), ["no_consent"]);
    let stop =
        StopState { stop_id: Uuid::from_u128(5), settled: true, confirmed_by: Some(Uuid::max()) };
    view.rows.insert(token(9), GateRow { stop: Some(stop), ..GateRow::default() });
    assert_eq!(reasons(&view, of_nobody()), ["no_consent", "stopped"]);
    view.link(token(9), BEN);
    say(&mut view, BEN, line(State::Withdrawn));
    assert_eq!(
        reasons(&view, of_nobody()),
        ["linked_subject_denies", "no_consent", "stopped"],
        "the gate may know of her before the vault's answer does"
    );
}

/// GDPR Article 8(1): too young to consent by herself, she needs a parent's consent; DPDP: nobody advertises
/// to her at all. Of whom nothing is known nothing follows.
#[test]
fn who_is_known_to_be_too_young_needs_a_parent_and_may_not_be_advertised_to() {
    let (addresses, event) = ([token(1)], Uuid::from_u128(99));
    let aged = |of_age, may_be_targeted| {
        let mut view = consenting();
        let age = Age { basis: AgeBasis::Stated, of_age, may_be_targeted };
        view.ages.insert(ANN, (event, age));
        view
    };
    assert_eq!(reasons(&consenting(), ask(&addresses)), ["consent_given"]);
    assert_eq!(reasons(&aged(true, true), ask(&addresses)), ["consent_given"]);
    let mut young = aged(false, true);
    assert_eq!(reasons(&young, ask(&addresses)), ["parental_consent_needed"]);
    let verdict = evaluate(&young, ask(&addresses), now(), SignedDuration::ZERO);
    assert!(verdict.evidence.contains(&event));
    say(&mut young, ANN, Line { by_guardian: true, ..line(State::Given) });
    assert_eq!(reasons(&young, ask(&addresses)), ["consent_given"]);
    let mut child = aged(false, false);
    assert_eq!(reasons(&child, ask(&addresses)), ["child_not_targeted", "parental_consent_needed"]);
    say(&mut child, ANN, Line { by_guardian: true, ..line(State::Given) });
    assert_eq!(reasons(&child, ask(&addresses)), ["child_not_targeted"]);
    child.purposes.insert("marketing".to_owned(), Pursued { advertises: false, ..on_whatsapp() });
    assert_eq!(
        reasons(&child, ask(&addresses)),
        ["consent_given"],
        "an order's news is no advertising"
    );
}

#[test]
fn a_question_goes_out_in_her_window_or_for_a_renewal_and_never_after_a_no() {
    let addresses = [token(1)];
    let message = Uuid::from_u128(55);
    let hours = SignedDuration::from_hours;
    let asked = |line: Option<Line>, contacted: Option<i64>| {
        let renews = contacted.is_none() && line.is_some();
        let mut view = consenting();
        view.lines.clear();
        if let Some(line) = line {
            say(&mut view, ANN, line);
        }
        let asked = Asked {
            subject: ANN,
            scope: Scope::new("marketing", "whatsapp"),
            decided_at: now() - hours(2),
            renews,
            contacted_at: contacted.map(|ago| now() - hours(ago)),
        };
        view.asks.insert(message, asked);
        let question = Ask { purpose: CONSENT_REQUEST, message: Some(message), ..ask(&addresses) };
        reasons(&view, question)
    };
    assert_eq!(asked(None, None), ["window_closed"]);
    assert_eq!(asked(None, Some(23)), ["consent_request"]);
    assert_eq!(asked(None, Some(24)), ["window_closed"]);
    let ending = Line { valid_until: Some(now() + hours(1)), ..line(State::Given) };
    assert_eq!(asked(Some(ending.clone()), None), ["consent_request"]);
    let ended = Line { valid_until: Some(now()), ..ending };
    assert_eq!(asked(Some(ended), None), ["window_closed"]);
    // Her no is an hour old, the question two.
    assert_eq!(asked(Some(line(State::Withdrawn)), Some(1)), ["consent_withdrawn"]);
    let older = Line { since: now() - hours(9_000), ..line(State::Refused) };
    assert_eq!(asked(Some(older), Some(1)), ["consent_request"]);
    let view = consenting();
    let unknown = Ask { purpose: CONSENT_REQUEST, message: Some(message), ..ask(&addresses) };
    assert_eq!(reasons(&view, unknown), ["ask_missing"]);
    assert_eq!(reasons(&view, Ask { message: None, ..unknown }), ["ask_missing"]);
}

#[test]
fn every_reason_is_given_sorted() {
    let mut view = consenting();
    say(&mut view, ANN, line(State::Withdrawn));
    let row = GateRow {
        stop: Some(StopState {
            stop_id: Uuid::from_u128(5),
            settled: true,
            confirmed_by: Some(Uuid::max()),
        }),
        suppressed_by: Some(Uuid::from_u128(6)),
        erased_by: None,
        changed_at: now(),
    };
    view.rows.insert(token(1), row);
    let addresses = [token(1), token(2)];
    let ask = Ask { channel: "email", ..ask(&addresses) };
    assert_eq!(
        reasons(&view, ask),
        ["address_unlinked", "channel_unknown", "no_consent", "stopped", "suppressed"]
    );
    let unknown = Ask { purpose: "cookies", ..ask };
    assert!(reasons(&view, unknown).contains(&"purpose_unknown".to_owned()));
}

#[test]
fn an_address_that_is_not_known_to_be_hers_is_denied() {
    assert_eq!(reasons(&consenting(), ask(&[token(9)])), ["address_unlinked"]);
    assert_eq!(reasons(&consenting(), ask(&[])), ["address_missing"]);
}

/// Trap 10: who gets a recycled number inherits nothing.
#[test]
fn trap_10_the_new_owner_of_a_number_inherits_no_consent() {
    let mut view = consenting();
    view.link(token(1), BEN);
    let addresses = [token(1)];
    let ask = Ask { subject: BEN, ..ask(&addresses) };
    assert_eq!(reasons(&view, ask), ["no_consent"]);
}

#[test]
fn a_stop_on_any_of_her_addresses_denies_all_of_them() {
    let mut view = consenting();
    view.link(token(2), ANN);
    let row = GateRow {
        stop: Some(StopState { stop_id: Uuid::from_u128(5), settled: true, confirmed_by: None }),
        ..GateRow::default()
    };
    view.rows.insert(token(2), row);
    assert_eq!(reasons(&view, ask(&[token(1)])), ["stopped"]);
}

#[test]
fn a_no_of_whoever_shares_the_address_denies_and_silence_does_not() {
    let mut view = consenting();
    view.link(token(1), BEN);
    assert_eq!(reasons(&view, ask(&[token(1)])), ["consent_given"]);
    for state in [State::Withdrawn, State::Refused] {
        say(&mut view, BEN, line(state));
        assert_eq!(reasons(&view, ask(&[token(1)])), ["linked_subject_denies"]);
    }
    view.lines.remove(&BEN);
    view.fences.insert(BEN);
    assert_eq!(reasons(&view, ask(&[token(1)])), ["linked_subject_denies"]);
}

#[test]
fn an_erased_person_gets_one_fixed_answer() {
    let mut view = consenting();
    view.fences.insert(ANN);
    let verdict = evaluate(&view, ask(&[token(1)]), now(), SETTLING);
    assert_eq!(verdict.reasons, ["erased"]);
    assert!(verdict.evidence.is_empty() && verdict.notice_hash.is_none());
}

#[test]
fn a_read_shows_until_when_a_withdrawal_settles() {
    let mut view = consenting();
    say(&mut view, ANN, Line { since: now(), ..line(State::Withdrawn) });
    let verdict = evaluate(&view, ask(&[token(1)]), now(), SETTLING);
    assert_eq!(verdict.settling_until, Some(now() + SETTLING));
}

#[test]
fn the_confirmation_of_a_stop_is_allowed_once_after_it_settled_and_on_nothing_else() {
    let mut view = consenting();
    let confirm = Ask { purpose: STOP_CONFIRMATION, ..ask(&[]) };
    let both = [token(1), token(2)];
    let confirm = Ask { addresses: Addresses::Given(&both), ..confirm };
    assert_eq!(reasons(&view, confirm), ["stop_missing"], "a consent does not carry it");
    let mut with = |settled, confirmed: bool, suppressed_by| {
        let confirmed_by = confirmed.then(Uuid::max);
        let stop = Some(StopState { stop_id: Uuid::from_u128(5), settled, confirmed_by });
        for token in both {
            let row = GateRow { stop, suppressed_by, ..GateRow::default() };
            view.rows.insert(token, row);
        }
        reasons(&view, confirm)
    };
    assert_eq!(with(true, false, None), ["stop_confirmation"]);
    assert_eq!(with(false, false, None), ["stop_unsettled"]);
    assert_eq!(with(true, true, None), ["confirmation_spent"]);
    assert_eq!(with(true, false, Some(Uuid::from_u128(6))), ["suppressed"]);
    view.rows.remove(&token(2));
    assert!(reasons(&view, confirm).contains(&"stop_missing".to_owned()));
}

/// One step of a random life of two people with two addresses.
#[derive(Debug, Clone, Copy)]
enum Step {
    Grant { subject: u8, purpose: u8, own: bool },
    Withdraw { subject: u8, purpose: u8 },
    Refuse { subject: u8, purpose: u8 },
    Stop { address: u8 },
    Suppress { address: u8 },
    Fence { subject: u8 },
    Link { address: u8, subject: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let two = 0_u8..2;
    prop_oneof![
        4 => (two.clone(), two.clone(), any::<bool>())
            .prop_map(|(subject, purpose, own)| Step::Grant { subject, purpose, own }),
        2 => (two.clone(), 0_u8..3)
            .prop_map(|(subject, purpose)| Step::Withdraw { subject, purpose }),
        1 => (two.clone(), 0_u8..3).prop_map(|(subject, purpose)| Step::Refuse { subject, purpose }),
        1 => two.clone().prop_map(|address| Step::Stop { address }),
        1 => two.clone().prop_map(|address| Step::Suppress { address }),
        1 => two.clone().prop_map(|subject| Step::Fence { subject }),
        2 => (two.clone(), two).prop_map(|(address, subject)| Step::Link { address, subject }),
    ]
}

const PURPOSES: [&str; 3] = ["marketing", "service", ANY];

/// The gate in memory: what `commands` and `stops` do in SQL, in the same order.
#[derive(Default)]
struct World {
    view: GateView,
    ledgers: BTreeMap<SubjectId, Ledger>,
    events: u128,
    /// The rule, told independently: the last thing said per person and purpose, and per address.
    last_word: BTreeMap<(SubjectId, &'static str), bool>,
    barred: BTreeMap<AddressToken, bool>,
}

impl World {
    fn command(&mut self, subject: SubjectId, command: Command) -> bool {
        let ledger = self.ledgers.entry(subject).or_default();
        let Ok(events) = ledger.decide(command, now()) else { return false };
        for event in &events {
            self.events += 1;
            let version = ledger.version + 1;
            ledger.evolve(Uuid::from_u128(1_000 + self.events), version, event);
        }
        let lines = ledger.lines().map(|(scope, line)| (scope.clone(), line));
        self.view.lines.insert(subject, lines.collect());
        true
    }

    fn said_no(&mut self, subject: SubjectId, purpose: &str) {
        for narrow in &PURPOSES[..2] {
            if purpose == ANY || purpose == *narrow {
                self.last_word.insert((subject, narrow), false);
            }
        }
    }

    fn no(&mut self, subject: SubjectId, purpose: &'static str, refuse: bool) {
        let scope = Scope::new(purpose, ANY);
        let act = Act {
            actor: Actor::Subject,
            method: Method::Api,
            place: None,
            evidence: None,
            acted_at: None,
        };
        let command =
            if refuse { Command::Refuse { scope, act } } else { Command::Withdraw { scope, act } };
        self.command(subject, command);
        self.said_no(subject, purpose);
    }

    fn apply(&mut self, step: Step) {
        let subject = |n: u8| [ANN, BEN][usize::from(n)];
        match step {
            Step::Grant { subject: n, purpose, own } => {
                let (subject, purpose) = (subject(n), PURPOSES[usize::from(purpose)]);
                let tokens = self.view.tokens_of.get(&subject).cloned().unwrap_or_default();
                let rows = || tokens.iter().filter_map(|token| self.view.rows.get(token));
                let bars = Bars {
                    stopped: rows().any(|row| row.stop.is_some()),
                    suppressed: rows().any(|row| row.suppressed_by.is_some()),
                    erased: rows().any(|row| row.erased_by.is_some()),
                };
                let act = Act {
                    actor: Actor::Subject,
                    method: Method::Api,
                    place: None,
                    evidence: None,
                    acted_at: None,
                };
                let notice = Notice {
                    version: 1,
                    hash: "ab".to_owned(),
                    validity_days: None,
                    lapses_after_days: None,
                };
                let scope = Scope::new(purpose, "whatsapp");
                let command =
                    Command::Grant { scope, notice, act, own_act: own, bars, confirm_until: None };
                if self.command(subject, command) {
                    self.last_word.insert((subject, purpose), true);
                    if own {
                        for token in tokens {
                            self.view.rows.remove(&token);
                            self.barred.insert(token, false);
                        }
                    }
                }
            }
            Step::Withdraw { subject: n, purpose } => {
                self.no(subject(n), PURPOSES[usize::from(purpose)], false);
            }
            Step::Refuse { subject: n, purpose } => {
                self.no(subject(n), PURPOSES[usize::from(purpose)], true);
            }
            Step::Stop { address } => {
                let stop_id = Uuid::from_u128(5);
                self.view.rows.entry(token(address)).or_default().stop =
                    Some(StopState { stop_id, settled: true, confirmed_by: None });
                self.barred.insert(token(address), true);
                for subject in
                    self.view.subjects_of.get(&token(address)).cloned().unwrap_or_default()
                {
                    self.no(subject, ANY, false);
                }
            }
            Step::Suppress { address } => {
                self.view.rows.entry(token(address)).or_default().suppressed_by =
                    Some(Uuid::from_u128(6));
                self.barred.insert(token(address), true);
            }
            Step::Fence { subject: n } => {
                self.command(subject(n), Command::Erase { request_id: Uuid::from_u128(8) });
                self.view.fences.insert(subject(n));
            }
            Step::Link { address, subject: n } => self.view.link(token(address), subject(n)),
        }
    }
}

proptest! {
    /// G1 in the small: whatever the order of grants, withdrawals, stops, fences and links, an
    /// allow means that her last word was yes, no address of hers is barred, nobody who shares
    /// one said no, and nobody concerned is erased.
    #[test]
    fn the_verdict_never_allows_after_a_withdrawal(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::default();
        for purpose in &PURPOSES[..2] {
            world.view.purposes.insert((*purpose).to_owned(), on_whatsapp());
        }
        for step in steps {
            world.apply(step);
            for subject in [ANN, BEN] {
                for purpose in [PURPOSES[0], PURPOSES[1]] {
                    let ask = Ask { subject, addresses: Addresses::Linked, purpose, channel: "whatsapp", message: None };
                    let verdict = evaluate(&world.view, ask, now(), SETTLING);
                    if verdict.verdict == Decision::Deny { continue; }
                    prop_assert_eq!(world.last_word.get(&(subject, purpose)), Some(&true));
                    prop_assert!(!world.view.fences.contains(&subject));
                    for token in &world.view.tokens_of[&subject] {
                        prop_assert!(!world.barred.get(token).copied().unwrap_or(false));
                        for other in &world.view.subjects_of[token] {
                            prop_assert_ne!(world.last_word.get(&(*other, purpose)), Some(&false));
                            prop_assert!(!world.view.fences.contains(other));
                        }
                    }
                }
            }
        }
    }
}
