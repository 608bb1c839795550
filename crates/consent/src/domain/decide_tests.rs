//! Given events, when a command, then events or a refusal.

use assent_contracts::api::consent::StopKind;
use assent_contracts::consent::Bar;
use assent_contracts::sealed::Sealed;

use super::*;

const MARKETING: (&str, &str) = ("marketing", "whatsapp");
const SERVICE: (&str, &str) = ("service", "whatsapp");

fn scope((purpose, channel): (&str, &str)) -> Scope {
    Scope::new(purpose, channel)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn act(actor: Actor) -> Act {
    Act { actor, method: Method::Api, place: None, evidence: None, acted_at: None }
}

fn proven(actor: Actor) -> Act {
    Act { evidence: Some(Sealed("c2VhbGVk".to_owned())), ..act(actor) }
}

fn notice() -> Notice {
    Notice { version: 1, hash: "ab".to_owned(), validity_days: None, lapses_after_days: None }
}

fn grant(of: (&str, &str), act: Act) -> Command {
    Command::Grant {
        scope: scope(of),
        notice: notice(),
        act,
        own_act: false,
        bars: Bars::default(),
        confirm_until: None,
    }
}

fn granted(of: (&str, &str), second: i64) -> Event {
    Event::Granted {
        scope: scope(of),
        notice: (1, "ab".to_owned()),
        act: act(Actor::Operator),
        at: at(second),
        valid_until: None,
        lapses_after_days: None,
        confirms: None,
    }
}

fn withdrawn(of: (&str, &str), second: i64) -> Event {
    Event::Withdrawn { scope: scope(of), act: act(Actor::Subject), at: at(second) }
}

fn withdraw(of: (&str, &str)) -> Command {
    Command::Withdraw { scope: scope(of), act: act(Actor::Subject) }
}

fn given(events: &[Event]) -> Ledger {
    Ledger::fold(
        events.iter().zip(1_i64..).map(|(event, version)| {
            (Uuid::from_u128(version.unsigned_abs().into()), version, event)
        }),
    )
}

fn state(ledger: &Ledger, of: (&str, &str)) -> Option<State> {
    ledger.last_word(&scope(of)).map(|line| line.state)
}

#[test]
fn a_grant_is_recorded_with_the_notice_that_was_shown() {
    let events = given(&[]).decide(grant(MARKETING, act(Actor::Operator)), at(1)).unwrap();
    assert_eq!(events, [granted(MARKETING, 1)]);
    assert_eq!(state(&given(&events), MARKETING), Some(State::Given));
    assert_eq!(state(&given(&events), SERVICE), None, "consent is separable");
}

#[test]
fn a_validity_is_counted_from_the_recording() {
    let command = Command::Grant {
        scope: scope(MARKETING),
        notice: Notice { validity_days: Some(2), ..notice() },
        act: act(Actor::Subject),
        own_act: false,
        bars: Bars::default(),
        confirm_until: None,
    };
    let events = given(&[]).decide(command, at(0)).unwrap();
    let ledger = given(&events);
    let line = ledger.last_word(&scope(MARKETING)).unwrap();
    assert_eq!(line.valid_until, Some(at(2 * 86_400)));
    let expire = || Command::Expire { scope: scope(MARKETING) };
    assert_eq!(ledger.decide(expire(), at(2 * 86_400 - 1)), Ok(vec![]));
    assert_eq!(ledger.decide(expire(), at(2 * 86_400)).unwrap().len(), 1);
}

#[test]
fn a_withdrawal_reaches_what_it_names_and_nothing_else() {
    let ledger = given(&[granted(MARKETING, 1), granted(SERVICE, 2), withdrawn(MARKETING, 3)]);
    assert_eq!(state(&ledger, MARKETING), Some(State::Withdrawn));
    assert_eq!(state(&ledger, SERVICE), Some(State::Given));
}

#[test]
fn withdrawing_everything_reaches_every_consent_and_those_never_spoken_of() {
    let ledger = given(&[granted(MARKETING, 1), withdrawn(("*", "*"), 2)]);
    assert_eq!(state(&ledger, MARKETING), Some(State::Withdrawn));
    assert_eq!(state(&ledger, SERVICE), Some(State::Withdrawn));
}

/// Trap 1: a yes that she said between two of her noes, and that arrives after both, opens nothing.
#[test]
fn trap_1_a_no_that_is_said_again_outlives_a_yes_that_was_held_up() {
    let all = ("*", "*");
    let refuse = Command::Refuse { scope: scope(MARKETING), act: act(Actor::Subject) };
    for again in [withdraw(MARKETING), withdraw(all), refuse] {
        let before = [granted(MARKETING, 1), withdrawn(all, 2)];
        let again = given(&before).decide(again, at(5)).unwrap();
        assert_eq!(again.len(), 1, "it is on record");
        let events = [&before[..], &again].concat();
        let arrives = |said: i64| {
            let held_up = grant(MARKETING, told_later(proven(Actor::Subject), said));
            let yes = given(&events).decide(held_up, at(9)).unwrap();
            state(&given(&[&events[..], &yes].concat()), MARKETING)
        };
        assert_ne!(arrives(3), Some(State::Given));
        assert_eq!(arrives(6), Some(State::Given));
    }
}

#[test]
fn a_withdrawal_without_a_consent_is_still_her_word() {
    let events = given(&[]).decide(withdraw(MARKETING), at(1)).unwrap();
    assert_eq!(state(&given(&events), MARKETING), Some(State::Withdrawn));
}

/// Trap 6: a replica whose clock was ahead recorded a grant; what is recorded after it is later.
#[test]
fn trap_6_a_timestamp_from_the_future_does_not_beat_a_later_withdrawal() {
    let forged = granted(MARKETING, 9_999_999);
    let events = given(std::slice::from_ref(&forged)).decide(withdraw(MARKETING), at(1)).unwrap();
    assert!(events[0].at() > forged.at(), "recorded time never steps back");
    let ledger = given(&[vec![forged], events].concat());
    assert_eq!(state(&ledger, MARKETING), Some(State::Withdrawn));
}

fn told_later(act: Act, second: i64) -> Act {
    Act { acted_at: Some(at(second)), ..act }
}

/// Trap 6: what is told later counts from when it happened.
#[test]
fn trap_6_a_late_grant_does_not_beat_a_withdrawal_that_she_said_after_it() {
    let withdrawal = withdrawn(MARKETING, 5);
    let late = grant(MARKETING, told_later(proven(Actor::Operator), 3));
    let events = given(std::slice::from_ref(&withdrawal)).decide(late, at(9)).unwrap();
    let ledger = given(&[vec![withdrawal], events].concat());
    assert_eq!(state(&ledger, MARKETING), Some(State::Withdrawn));
}

#[test]
fn a_late_withdrawal_does_not_end_a_consent_that_she_gave_after_it() {
    let before = [granted(MARKETING, 1), granted(MARKETING, 5)];
    let act = told_later(act(Actor::Operator), 3);
    let late = Command::Withdraw { scope: scope(MARKETING), act };
    let events = given(&before).decide(late, at(9)).unwrap();
    let ledger = given(&[before.to_vec(), events].concat());
    assert_eq!(state(&ledger, MARKETING), Some(State::Given));
}

/// Trap 6: forged timestamps.
#[test]
fn trap_6_an_act_that_has_not_happened_yet_is_refused() {
    for command in [
        grant(MARKETING, told_later(proven(Actor::Operator), 10)),
        Command::Withdraw { scope: scope(MARKETING), act: told_later(act(Actor::Subject), 10) },
        Command::Refuse { scope: scope(MARKETING), act: told_later(act(Actor::Subject), 10) },
    ] {
        assert_eq!(given(&[]).decide(command, at(9)), Err(Refusal::NotYet));
    }
}

#[test]
fn a_yes_and_a_no_of_the_same_instant_are_a_no() {
    for events in [
        [granted(MARKETING, 1), withdrawn(("*", "*"), 1)],
        [withdrawn(("*", "*"), 1), granted(MARKETING, 1)],
    ] {
        assert_eq!(state(&given(&events), MARKETING), Some(State::Withdrawn));
    }
}

#[test]
fn a_validity_that_is_over_ends_only_the_consent_that_it_was_of() {
    let until = |second, valid_until: Timestamp| match granted(MARKETING, second) {
        Event::Granted { scope, notice, act, at, confirms, lapses_after_days, .. } => {
            let valid_until = Some(valid_until);
            Event::Granted { scope, notice, act, at, valid_until, lapses_after_days, confirms }
        }
        other => other,
    };
    let over = Event::Expired { scope: scope(MARKETING), valid_until: at(5), at: at(6) };
    let ended = given(&[until(1, at(5)), over.clone()]);
    assert_eq!(state(&ended, MARKETING), Some(State::Expired));
    let renewed = given(&[until(1, at(5)), until(4, at(8)), over]);
    assert_eq!(state(&renewed, MARKETING), Some(State::Given));
}

#[test]
fn what_stands_against_her_is_recorded_when_it_changes_and_dated_by_the_change() {
    let standing = Standing {
        bars: vec![Bar { kind: StopKind::Stopped, cause: Uuid::from_u128(1) }],
        ..Standing::default()
    };
    let stand = |standing: &Standing, since| Command::Stand {
        standing: standing.clone(),
        since: at(since),
    };
    let first = given(&[]).decide(stand(&standing, 3), at(4)).unwrap();
    assert_eq!(first[0].effective_at(), at(3));
    let ledger = given(&first);
    assert_eq!(ledger.decide(stand(&standing, 5), at(6)), Ok(vec![]), "nothing new");
    // The time of what ended isn't known: it is dated by its recording.
    let lifted = ledger.decide(stand(&Standing::default(), 3), at(7)).unwrap();
    assert_eq!(lifted[0].effective_at(), at(7));
}

/// Trap 2: whoever says "unsubscribe all" while a confirmation is on its way stays out; the
/// confirmation is an operator's claim and needs proof by then.
#[test]
fn trap_2_a_grant_that_lands_after_unsubscribe_all_needs_proof() {
    let ledger = given(&[withdrawn(("*", "*"), 1)]);
    assert_eq!(
        ledger.decide(grant(MARKETING, act(Actor::Operator)), at(2)),
        Err(Refusal::EvidenceNeeded)
    );
    assert!(ledger.decide(grant(MARKETING, proven(Actor::Operator)), at(2)).is_ok());
}

#[test]
fn an_operator_lifts_a_stop_only_with_evidence_and_a_suppression_never() {
    let barred = |bars, act| {
        let command = Command::Grant {
            scope: scope(MARKETING),
            notice: notice(),
            act,
            own_act: false,
            bars,
            confirm_until: None,
        };
        given(&[]).decide(command, at(1)).err()
    };
    let stopped = Bars { stopped: true, ..Bars::default() };
    assert_eq!(barred(stopped, act(Actor::Operator)), Some(Refusal::EvidenceNeeded));
    assert_eq!(barred(stopped, proven(Actor::Operator)), None);
    for bars in [
        Bars { suppressed: true, ..Bars::default() },
        Bars { erased: true, ..Bars::default() },
        Bars { stopped: true, suppressed: true, erased: false },
    ] {
        assert_eq!(barred(bars, proven(Actor::Operator)), Some(Refusal::OwnActNeeded));
    }
}

#[test]
fn her_own_act_lifts_everything_that_stands_against_her_address() {
    let command = Command::Grant {
        scope: scope(MARKETING),
        notice: notice(),
        act: act(Actor::Subject),
        own_act: true,
        bars: Bars { stopped: true, suppressed: true, erased: true },
        confirm_until: None,
    };
    assert!(given(&[withdrawn(("*", "*"), 1)]).decide(command, at(2)).is_ok());
}

fn requested(of: (&str, &str), second: i64) -> Event {
    Event::Requested {
        scope: scope(of),
        notice: notice(),
        act: act(Actor::Subject),
        at: at(second),
        expires_at: at(second + 100),
    }
}

fn confirm(request: u128, own_act: bool) -> Command {
    let (request_id, bars) = (Uuid::from_u128(request), Bars::default());
    Command::Confirm { request_id, act: act(Actor::Subject), own_act, bars }
}

#[test]
fn a_yes_that_is_to_be_confirmed_is_no_consent_until_it_is() {
    let command = Command::Grant {
        scope: scope(MARKETING),
        notice: notice(),
        act: act(Actor::Subject),
        own_act: false,
        // A stop is the confirmation's question.
        bars: Bars { suppressed: true, ..Bars::default() },
        confirm_until: Some(at(101)),
    };
    let events = given(&[]).decide(command, at(1)).unwrap();
    assert_eq!(events, [requested(MARKETING, 1)]);
    let ledger = given(&events);
    assert_eq!(state(&ledger, MARKETING), Some(State::Requested));
    let confirmed = ledger.decide(confirm(1, true), at(5)).unwrap();
    let ledger = given(&[events, confirmed].concat());
    assert_eq!(state(&ledger, MARKETING), Some(State::Given));
    assert_eq!(ledger.decide(confirm(1, true), at(6)), Err(Refusal::ConfirmedAlready));
}

#[test]
fn a_confirmation_comes_too_late_or_for_nothing() {
    let ledger = given(&[requested(MARKETING, 1)]);
    assert_eq!(ledger.decide(confirm(1, true), at(101)), Err(Refusal::ConfirmedTooLate));
    assert_eq!(ledger.decide(confirm(2, true), at(5)), Err(Refusal::NothingToConfirm));
    let erased = Event::Erased { request_id: Uuid::nil(), at: at(2) };
    let ledger = given(&[requested(MARKETING, 1), erased]);
    assert_eq!(ledger.decide(confirm(1, true), at(5)), Err(Refusal::SubjectErased));
}

/// Trap 2: "unsubscribe all" lands between the yes and its confirmation; it wins, also when it is told
/// after the confirmation.
#[test]
fn trap_2_a_withdrawal_in_between_wins() {
    let all = ("*", "*");
    for between in [withdrawn(all, 3), withdrawn(MARKETING, 3), withdrawn(MARKETING, 1)] {
        let ledger = given(&[requested(MARKETING, 1), between]);
        assert_eq!(ledger.decide(confirm(1, true), at(5)), Err(Refusal::NoSince));
    }
    let before = given(&[withdrawn(all, 0), requested(MARKETING, 1)]);
    assert_eq!(state(&before, MARKETING), Some(State::Withdrawn));
    assert!(before.decide(confirm(2, true), at(5)).is_ok(), "she has changed her mind since");

    let events = vec![requested(MARKETING, 1)];
    let confirmed = given(&events).decide(confirm(1, true), at(5)).unwrap();
    let letter = told_later(act(Actor::Subject), 3);
    let late = Event::Withdrawn { scope: scope(all), act: letter, at: at(9) };
    let ledger = given(&[events, confirmed, vec![late]].concat());
    assert_eq!(state(&ledger, MARKETING), Some(State::Withdrawn));
}

/// She had said no long before; a no after the yes that somebody gave for her is news all the same.
#[test]
fn trap_2_a_second_no_in_between_wins_too() {
    let all = ("*", "*");
    let before = [withdrawn(all, 0), requested(MARKETING, 1)];
    for no in [withdraw(all), withdraw(MARKETING)] {
        let again = given(&before).decide(no, at(3)).unwrap();
        assert_eq!(again.len(), 1, "it is recorded");
        let ledger = given(&[&before[..], &again].concat());
        assert_eq!(ledger.decide(confirm(2, true), at(5)), Err(Refusal::NoSince));
    }
}

#[test]
fn a_confirmation_by_a_link_lifts_no_more_than_an_operator_could() {
    let ledger = given(&[requested(MARKETING, 1)]);
    let by_link = |bars| Command::Confirm {
        request_id: Uuid::from_u128(1),
        act: act(Actor::Subject),
        own_act: false,
        bars,
    };
    let suppressed = Bars { suppressed: true, ..Bars::default() };
    assert_eq!(ledger.decide(by_link(suppressed), at(5)), Err(Refusal::OwnActNeeded));
    let stopped = Bars { stopped: true, ..Bars::default() };
    assert_eq!(ledger.decide(by_link(stopped), at(5)), Err(Refusal::OwnActNeeded));
    assert!(ledger.decide(by_link(Bars::default()), at(5)).is_ok());
}

/// Trap 8: an import never creates consent.
#[test]
fn trap_8_a_list_or_the_system_never_gives_consent() {
    let list = Act { method: Method::List, ..proven(Actor::Operator) };
    for act in [list, proven(Actor::System)] {
        let answer = given(&[]).decide(grant(MARKETING, act), at(1));
        assert_eq!(answer, Err(Refusal::NotHerWill));
    }
}

#[test]
fn a_grant_for_everything_is_bundled_and_refused() {
    for of in [("*", "whatsapp"), ("marketing", "*"), ("*", "*")] {
        let answer = given(&[]).decide(grant(of, act(Actor::Subject)), at(1));
        assert_eq!(answer, Err(Refusal::NotSpecific));
    }
}

#[test]
fn nothing_is_recorded_after_an_erasure_and_erasing_twice_changes_nothing() {
    let request_id = Uuid::from_u128(1);
    let ledger = given(&[granted(MARKETING, 1), Event::Erased { request_id, at: at(2) }]);
    assert_eq!(ledger.lines().count(), 0);
    for command in [
        grant(MARKETING, proven(Actor::Subject)),
        withdraw(MARKETING),
        Command::Refuse { scope: scope(MARKETING), act: act(Actor::Subject) },
        Command::Expire { scope: scope(MARKETING) },
    ] {
        assert_eq!(ledger.decide(command, at(3)), Err(Refusal::SubjectErased));
    }
    assert_eq!(ledger.decide(Command::Erase { request_id }, at(3)), Ok(vec![]));
}

/// After the delete step the stream begins with the tombstone: it must read the same.
#[test]
fn a_stream_that_begins_with_its_tombstone_is_erased() {
    let event = Event::Erased { request_id: Uuid::from_u128(1), at: at(2) };
    let ledger = Ledger::fold([(Uuid::from_u128(9), 5, &event)]);
    assert_eq!((ledger.version, ledger.erased), (5, Some(Uuid::from_u128(1))));
}

const DAY: i64 = 86_400;

fn aged(
    ledger: &Ledger,
    basis: AgeBasis,
    of_age: bool,
    proven: bool,
) -> Result<Vec<Event>, Refusal> {
    let age = Age { basis, of_age, may_be_targeted: true };
    let evidence = proven.then(|| Sealed("c2VhbGVk".to_owned()));
    let command = Command::StateAge { age, required: 15, actor: Actor::Operator, evidence };
    ledger.decide(command, at(ledger.version + 1))
}

#[test]
fn what_was_only_said_about_an_age_does_not_change_what_was_looked_at() {
    let mut events = aged(&given(&[]), AgeBasis::Stated, true, false).unwrap();
    assert_eq!(aged(&given(&events), AgeBasis::Stated, true, false), Ok(vec![]), "nothing new");
    let unproven = aged(&given(&events), AgeBasis::Verified, false, false);
    assert_eq!(unproven, Err(Refusal::EvidenceNeeded));
    events.extend(aged(&given(&events), AgeBasis::Verified, false, true).unwrap());
    events.extend(aged(&given(&events), AgeBasis::Stated, true, false).unwrap());
    let of_age = |events: &[Event]| given(events).age().map(|(_, age)| age.of_age);
    assert_eq!(of_age(&events), Some(false));
    assert_eq!(of_age(&events[..1]), Some(true));
    events.extend(aged(&given(&events), AgeBasis::Verified, true, true).unwrap());
    assert_eq!(of_age(&events), Some(true), "she has grown up");
}

/// GDPR Article 8(2): that a parent agreed is to be verified.
#[test]
fn a_parent_agrees_with_evidence_only() {
    let unproven = given(&[]).decide(grant(MARKETING, act(Actor::Guardian)), at(1));
    assert_eq!(unproven, Err(Refusal::EvidenceNeeded));
    let events = given(&[]).decide(grant(MARKETING, proven(Actor::Guardian)), at(1)).unwrap();
    assert!(given(&events).last_word(&scope(MARKETING)).unwrap().by_guardian);
}

fn question(of: (&str, &str), request: u128) -> Question {
    Question {
        request_id: Uuid::from_u128(request),
        scope: scope(of),
        notice: notice(),
        kind: AskKind::First,
        template: "renew".to_owned(),
        language: "en".to_owned(),
        code: "7F3K2-9QMXA".parse().unwrap(),
    }
}

fn ask(question: Question) -> Command {
    let days = |days: i64| SignedDuration::from_hours(24 * days);
    let (before, again_after) = (days(30), days(365));
    let (accepted, bars) = (Vec::new(), Bars::default());
    Command::Ask { question, before, again_after, accepted, bars }
}

fn asking(of: (&str, &str), at: Timestamp, ledger: &Ledger) -> Result<AskKind, Refusal> {
    match ledger.decide(ask(question(of, 77)), at)?.as_slice() {
        [Event::Asked { question, .. }] => Ok(question.kind),
        other => panic!("{other:?}"),
    }
}

fn contacted(second: i64) -> Event {
    Event::Contacted { channel: "whatsapp".to_owned(), acted_at: at(second), at: at(second) }
}

fn given_until(valid_until: Option<Timestamp>, lapses_after_days: Option<u32>) -> Event {
    Event::Granted {
        scope: scope(MARKETING),
        notice: (1, "ab".to_owned()),
        act: act(Actor::Operator),
        at: at(0),
        valid_until,
        lapses_after_days,
        confirms: None,
    }
}

/// ePrivacy and WhatsApp's policy: whoever was imported without evidence has neither written nor agreed.
#[test]
fn people_who_were_imported_without_evidence_are_never_asked() {
    assert_eq!(asking(MARKETING, at(0), &given(&[])), Err(Refusal::WindowClosed));
    // A no-evidence grant was refused; a stop from elsewhere opens nothing either.
    let withdrawn = given(&[withdrawn(("*", "*"), 1)]);
    assert_eq!(asking(MARKETING, at(2), &withdrawn), Err(Refusal::WindowClosed));
}

#[test]
fn a_first_question_needs_a_message_of_hers_within_a_day() {
    let ledger = given(&[contacted(0)]);
    assert_eq!(asking(MARKETING, at(DAY - 1), &ledger), Ok(AskKind::First));
    assert_eq!(asking(MARKETING, at(DAY), &ledger), Err(Refusal::WindowClosed));
    assert_eq!(asking(("*", "whatsapp"), at(1), &ledger), Err(Refusal::NotSpecific));
}

#[test]
fn a_renewal_is_asked_for_before_the_end_and_never_after_it() {
    let ledger = given(&[given_until(Some(at(100 * DAY)), None)]);
    assert_eq!(asking(MARKETING, at(69 * DAY), &ledger), Err(Refusal::NothingToAsk));
    assert_eq!(asking(MARKETING, at(70 * DAY), &ledger), Ok(AskKind::Renewal));
    assert_eq!(asking(MARKETING, at(100 * DAY - 1), &ledger), Ok(AskKind::Renewal));
    assert_eq!(asking(MARKETING, at(100 * DAY), &ledger), Err(Refusal::WindowClosed));
    let endless = given(&[granted(MARKETING, 0)]);
    assert_eq!(asking(MARKETING, at(1), &endless), Err(Refusal::NothingToAsk));
}

#[test]
fn whoever_was_asked_or_said_no_is_left_alone_for_the_time_of_the_policy() {
    let no = |day: i64| withdrawn(MARKETING, day * DAY);
    let after_no = given(&[no(0), contacted(364 * DAY)]);
    assert_eq!(asking(MARKETING, at(364 * DAY + 1), &after_no), Err(Refusal::AskedLately));
    let later = given(&[no(0), contacted(365 * DAY)]);
    assert_eq!(asking(MARKETING, at(365 * DAY + 1), &later), Ok(AskKind::First));
    // The refusal of one purpose is not that of another.
    assert_eq!(asking(SERVICE, at(364 * DAY + 1), &after_no), Ok(AskKind::First));

    let once = vec![given_until(Some(at(100 * DAY)), None)];
    let asked = given(&once).decide(ask(question(MARKETING, 5)), at(70 * DAY)).unwrap();
    let ledger = given(&[once, asked].concat());
    assert_eq!(asking(MARKETING, at(71 * DAY), &ledger), Err(Refusal::AskedLately));

    // She answers: valid from her answer, and the question is used up.
    let answer = ledger.decide(confirm(5, true), at(72 * DAY)).unwrap();
    let [Event::Granted { confirms: Some(confirms), .. }] = answer.as_slice() else {
        panic!("{answer:?}")
    };
    assert_eq!(confirms.requested_at, at(72 * DAY), "she says it now");
}

#[test]
fn a_question_is_no_yes_that_waits() {
    let asked = Event::Asked { question: question(MARKETING, 5), at: at(1), expires_at: at(9) };
    assert_eq!(state(&given(&[asked]), MARKETING), None);
}

/// Trap 16: only an act of the person's own counts, and nothing brings back what has lapsed.
#[test]
fn trap_16_silence_lets_a_consent_lapse_and_only_her_own_act_puts_that_off() {
    let lapsing = given_until(None, Some(10));
    let end = |events: &[Event]| given(events).last_word(&scope(MARKETING)).unwrap().valid_until;
    assert_eq!(end(std::slice::from_ref(&lapsing)), Some(at(10 * DAY)));
    assert_eq!(end(&[lapsing.clone(), contacted(9 * DAY)]), Some(at(19 * DAY)));
    assert_eq!(end(&[contacted(9 * DAY), lapsing.clone()]), Some(at(19 * DAY)), "in any order");
    let chain = [lapsing.clone(), contacted(18 * DAY), contacted(9 * DAY)];
    assert_eq!(end(&chain), Some(at(28 * DAY)));
    assert_eq!(end(&[lapsing.clone(), contacted(10 * DAY)]), Some(at(10 * DAY)), "too late");
    // The end of its validity stays what it is.
    let ending = given_until(Some(at(12 * DAY)), Some(10));
    assert_eq!(end(&[ending, contacted(9 * DAY)]), Some(at(12 * DAY)));
}

#[test]
fn an_act_that_follows_another_soon_is_not_recorded_and_none_from_the_future() {
    let tell = |ledger: &Ledger, acted: i64, now: i64| {
        let command = Command::Contact { channel: "whatsapp".to_owned(), acted_at: at(acted) };
        ledger.decide(command, at(now)).unwrap()
    };
    let ledger = given(&[contacted(100)]);
    assert_eq!(tell(&ledger, 100, 200), [], "told twice");
    assert_eq!(tell(&ledger, 100 + DAY / 2 - 1, DAY), []);
    assert_eq!(tell(&ledger, 100 + DAY / 2, DAY).len(), 1);
    assert_eq!(tell(&ledger, 50, 200).len(), 1, "what was earlier is news");
    let ahead = tell(&given(&[]), 9 * DAY, 5);
    let [Event::Contacted { acted_at, .. }] = ahead.as_slice() else { panic!("{ahead:?}") };
    assert_eq!(*acted_at, at(5));
}
