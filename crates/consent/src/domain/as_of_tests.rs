//! The verdict of any moment: by example, by property, and by the corpus of recorded answers.

use assent_contracts::consent::{Actor, Confirms, Method, State};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::event::{Act, Notice};
use super::super::scope::ANY;
use super::*;
use crate::stored;

const PURPOSE: &str = "marketing";
const CHANNEL: &str = "whatsapp";

/// Two hours apart, so that a consent can lapse within a test.
fn at(step: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + 7_200 * step).unwrap()
}

fn act(acted_at: Option<i64>) -> Act {
    Act {
        actor: Actor::Operator,
        method: Method::Api,
        place: None,
        evidence: None,
        acted_at: acted_at.map(at),
    }
}

fn narrow() -> Scope {
    Scope::new(PURPOSE, CHANNEL)
}

fn granted(recorded: i64, acted_at: Option<i64>) -> Event {
    let notice = (1, "ab".to_owned());
    Event::Granted {
        scope: narrow(),
        notice,
        act: act(acted_at),
        at: at(recorded),
        valid_until: None,
        lapses_after_days: None,
        confirms: None,
    }
}

fn withdrawn(scope: Scope, recorded: i64, acted_at: Option<i64>) -> Event {
    Event::Withdrawn { scope, act: act(acted_at), at: at(recorded) }
}

fn stopped(recorded: i64, effective: i64) -> Event {
    let bar = Bar { kind: StopKind::Stopped, cause: Uuid::from_u128(500) };
    let standing = Standing { bars: vec![bar], ..Standing::default() };
    Event::StandingChanged { standing, effective_at: at(effective), at: at(recorded) }
}

fn numbered(events: &[Event]) -> Vec<(Uuid, i64, Event)> {
    let id = |version: i64| Uuid::from_u128(version.unsigned_abs().into());
    events.iter().cloned().zip(1..).map(|(event, version)| (id(version), version, event)).collect()
}

fn asked(events: &[(Uuid, i64, Event)], second: i64, known_at: i64) -> AsOfVerdict {
    asked_in_quiet(events, at(second), known_at, None, Engine::default())
}

fn asked_in_quiet(
    events: &[(Uuid, i64, Event)],
    at: Timestamp,
    known_at: i64,
    quiet: Option<&Quiet>,
    engine: Engine,
) -> AsOfVerdict {
    let channels = [CHANNEL.to_owned()];
    let policy = Policy {
        event_id: Uuid::from_u128(900),
        channels: &channels,
        accepted: &[],
        advertises: true,
        quiet,
    };
    let question = Question {
        purpose: PURPOSE,
        channel: CHANNEL,
        at,
        known_at,
        sees_bars: true,
        rule_set: None,
        engine,
    };
    let events = events.iter().map(|(id, version, event)| (*id, *version, event));
    verdict(events, Some(policy), question)
}

fn reasons(events: &[Event], second: i64, known_at: i64) -> Vec<String> {
    asked(&numbered(events), second, known_at).reasons
}

#[test]
fn what_was_known_then_and_what_is_known_now_are_two_questions() {
    // A letter of second 3 arrives at second 9.
    let events = [granted(1, None), withdrawn(narrow(), 9, Some(3))];
    assert_eq!(reasons(&events, 5, 1), ["consent_given"], "as it was known then");
    assert_eq!(reasons(&events, 5, 2), ["consent_withdrawn"], "as it is known now");
    assert_eq!(reasons(&events, 2, 2), ["consent_given"], "before she wrote it");
}

#[test]
fn a_stop_counts_from_when_the_address_was_hers() {
    let events = [granted(1, None), stopped(8, 6)];
    assert_eq!(reasons(&events, 5, 2), ["consent_given"]);
    assert_eq!(reasons(&events, 6, 2), ["stopped"]);
    assert_eq!(reasons(&events, 9, 1), ["consent_given"], "nobody knew");
}

#[test]
fn the_no_of_someone_who_shares_an_address_counts() {
    let word = OthersWord {
        purpose: ANY.to_owned(),
        channel: ANY.to_owned(),
        state: State::Withdrawn,
        event_id: Uuid::from_u128(77),
        since: at(4),
    };
    let standing = Standing { others: vec![vec![word]], ..Standing::default() };
    let shared = Event::StandingChanged { standing, effective_at: at(4), at: at(5) };
    let verdict = asked(&numbered(&[granted(1, None), shared]), 6, 2);
    assert_eq!(verdict.reasons, ["linked_subject_denies"]);
    assert_eq!(verdict.evidence, [Uuid::from_u128(1), Uuid::from_u128(77)]);
}

#[test]
fn every_bar_is_a_reason_of_its_own() {
    let bar = |kind, cause| Bar { kind, cause: Uuid::from_u128(cause) };
    let bars =
        vec![bar(StopKind::Stopped, 501), bar(StopKind::Stopped, 502), bar(StopKind::Erased, 503)];
    let standing = Standing { bars, ..Standing::default() };
    let event = Event::StandingChanged { standing, effective_at: at(2), at: at(2) };
    let verdict = asked(&numbered(&[granted(1, None), event]), 3, 2);
    assert_eq!(verdict.reasons, ["erased", "stopped"]);
    assert_eq!(verdict.evidence.len(), 4);
}

#[test]
fn after_an_erasure_there_is_one_fixed_answer() {
    let erased = Event::Erased { request_id: Uuid::from_u128(4), at: at(9) };
    let events = numbered(&[granted(1, None), erased.clone()]);
    let (before, after) = (asked(&events, 5, 1), asked(&events, 5, 2));
    assert_eq!(before, after);
    assert_eq!(before.reasons, ["erased"]);
    assert!(before.evidence.is_empty() && before.notice_hash.is_none());
    // And when her events are gone but for the tombstone.
    assert_eq!(asked(&[(Uuid::from_u128(2), 2, erased)], 5, 1), before);
}

#[test]
fn a_purpose_that_did_not_exist_then_was_not_allowed() {
    let question = Question {
        purpose: PURPOSE,
        channel: CHANNEL,
        at: at(1),
        known_at: 0,
        sees_bars: true,
        rule_set: None,
        engine: Engine::default(),
    };
    let verdict = verdict(std::iter::empty(), None, question);
    assert_eq!(verdict.reasons, ["no_consent", "purpose_unknown"]);
}

fn any_scope() -> impl Strategy<Value = Scope> {
    (prop_oneof![Just(PURPOSE), Just("service"), Just(ANY)], prop_oneof![Just(CHANNEL), Just(ANY)])
        .prop_map(|(purpose, channel)| Scope::new(purpose, channel))
}

fn any_event() -> impl Strategy<Value = Event> {
    let time = || 0_i64..12;
    prop_oneof![
        (time(), time(), proptest::option::of(0_i64..20), proptest::option::of(time())).prop_map(
            |(recorded, acted, until, requested)| Event::Granted {
                scope: narrow(),
                notice: (1, "ab".to_owned()),
                act: act(Some(acted)),
                at: at(recorded),
                valid_until: until.map(at),
                lapses_after_days: (recorded % 3 == 0).then_some(1),
                confirms: requested.map(|second| Confirms {
                    request_id: Uuid::from_u128(second.unsigned_abs().into()),
                    requested_at: at(second),
                }),
            }
        ),
        (time(), time(), 0_i64..20).prop_map(|(recorded, acted, until)| Event::Requested {
            scope: narrow(),
            notice: Notice {
                version: 1,
                hash: "ab".to_owned(),
                validity_days: None,
                lapses_after_days: None
            },
            act: act(Some(acted)),
            at: at(recorded),
            expires_at: at(until),
        }),
        (time(), time()).prop_map(|(recorded, acted)| Event::Contacted {
            channel: CHANNEL.to_owned(),
            acted_at: at(acted),
            at: at(recorded),
        }),
        (any_scope(), time(), time()).prop_map(|(scope, recorded, acted)| withdrawn(
            scope,
            recorded,
            Some(acted)
        )),
        (any_scope(), time(), time()).prop_map(|(scope, recorded, acted)| Event::Refused {
            scope,
            act: act(Some(acted)),
            at: at(recorded)
        }),
        (0_i64..20, time()).prop_map(|(until, recorded)| Event::Expired {
            scope: narrow(),
            valid_until: at(until),
            at: at(recorded)
        }),
        (time(), time(), any::<bool>()).prop_map(|(recorded, effective, bar)| match bar {
            true => stopped(recorded, effective),
            false => Event::StandingChanged {
                standing: Standing::default(),
                effective_at: at(effective),
                at: at(recorded)
            },
        }),
    ]
}

proptest! {
    /// G3, and trap 6: the order and the number of deliveries decide nothing.
    #[test]
    fn the_same_events_in_any_order_and_any_number_of_times_give_the_same_verdict(
        events in proptest::collection::vec(any_event(), 0..8),
        shuffle in proptest::collection::vec(any::<prop::sample::Index>(), 0..24),
        second in 0_i64..20,
    ) {
        let events = numbered(&events);
        let known_at = events.len() as i64;
        let mut delivered = events.clone();
        if !events.is_empty() {
            delivered.extend(shuffle.iter().map(|index| index.get(&events).clone()));
            let keys: Vec<usize> = shuffle.iter().map(|index| index.index(delivered.len())).collect();
            for (n, key) in keys.into_iter().enumerate() {
                let n = n % delivered.len();
                delivered.swap(n, key);
            }
        }
        prop_assert_eq!(asked(&events, second, known_at), asked(&delivered, second, known_at));
    }

    /// Trap 3: no sequence of events whatever allows after a no that no newer yes follows.
    #[test]
    fn trap_3_nothing_allows_after_a_no_that_no_newer_yes_follows(
        events in proptest::collection::vec(any_event(), 0..10),
        second in 0_i64..20,
    ) {
        let said = |event: &&Event| event.effective_at() <= at(second);
        let newest_no = events.iter().filter(said).filter(|event| match event {
            Event::Refused { scope, .. } | Event::Withdrawn { scope, .. } => scope.covers(&narrow()),
            _ => false,
        }).map(Event::effective_at).max();
        // A confirmed yes is of the time when it was first said.
        let newest_yes = events.iter().filter(said).filter_map(|event| match event {
            Event::Granted { confirms: Some(confirms), .. } => {
                Some(event.effective_at().min(confirms.requested_at))
            }
            Event::Granted { .. } => Some(event.effective_at()),
            _ => None,
        }).max();
        let verdict = asked(&numbered(&events), second, events.len() as i64);
        if verdict.verdict == Decision::Allow {
            prop_assert!(newest_yes.is_some() && newest_yes > newest_no, "{:?}", verdict);
        }
    }

    /// A fact that is learnt later never changes an answer that was given before.
    #[test]
    fn what_is_learnt_later_changes_no_earlier_answer(
        events in proptest::collection::vec(any_event(), 0..8),
        later in proptest::collection::vec(any_event(), 0..4),
        second in 0_i64..20,
    ) {
        let known_at = events.len() as i64;
        let before = asked(&numbered(&events), second, known_at);
        let after = asked(&numbered(&[events, later].concat()), second, known_at);
        prop_assert_eq!(before, after);
    }
}

/// A recorded answer: for these events and this question exactly these bytes.
#[derive(Deserialize)]
struct Case {
    name: String,
    events: Vec<Stored>,
    policy: Option<InForce>,
    purpose: String,
    channel: String,
    at: Timestamp,
    known_at: i64,
    #[serde(default)]
    rule_set: Option<String>,
    answer: Box<RawValue>,
}

#[derive(Deserialize)]
struct Stored {
    id: Uuid,
    version: i64,
    r#type: String,
    data: Box<RawValue>,
}

#[derive(Deserialize)]
struct InForce {
    event_id: Uuid,
    channels: Vec<String>,
    #[serde(default)]
    accepted: Vec<String>,
    #[serde(default)]
    dpv: String,
    #[serde(default)]
    quiet: Option<Quiet>,
}

/// G3: answers that were given by an engine are given again by it, byte by byte. A change that breaks
/// this needs an engine of another name beside the old ones.
#[test]
fn g3_the_corpus_of_recorded_verdicts_replays_byte_by_byte() {
    replays(Engine::Spine1, include_str!("corpus/spine-1.json"), 29);
    replays(Engine::Hours2, include_str!("corpus/hours-2.json"), 16);
}

fn replays(engine: Engine, corpus: &str, whole: usize) {
    let corpus: Vec<Case> = serde_json::from_str(corpus).expect("the corpus is JSON");
    assert!(corpus.len() >= whole, "the corpus is whole");
    for case in corpus {
        let events: Vec<(Uuid, i64, Event)> = case
            .events
            .iter()
            .map(|e| (e.id, e.version, stored::decode(&e.r#type, e.data.get()).expect("known")))
            .collect();
        let policy = case.policy.as_ref().map(|it| Policy {
            event_id: it.event_id,
            channels: &it.channels,
            accepted: &it.accepted,
            advertises: advertises(&it.dpv),
            quiet: it.quiet.as_ref(),
        });
        let question = Question {
            purpose: &case.purpose,
            channel: &case.channel,
            at: case.at,
            known_at: case.known_at,
            sees_bars: true,
            rule_set: case.rule_set.as_deref(),
            engine,
        };
        let events = events.iter().map(|(id, version, event)| (*id, *version, event));
        let answer = stored::json(&verdict(events, policy, question));
        assert_eq!(answer, case.answer.get(), "{} {}", engine.name(), case.name);
    }
}

/// G3: an answer about a day on which another engine was in force is that engine's.
#[test]
fn g3_an_engine_of_an_earlier_day_knows_no_quiet_hours() {
    let night: Timestamp = "2026-03-05T20:00:00Z".parse().unwrap();
    let quiet: Quiet = serde_json::from_value(serde_json::json!({
        "from": "21:00", "until": "08:00", "otherwise": "Europe/Paris"
    }))
    .unwrap();
    let events = numbered(&[granted(0, None)]);
    let by = |engine| asked_in_quiet(&events, night, 1, Some(&quiet), engine);
    assert_eq!(by(Engine::Spine1).reasons, ["consent_given"]);
    assert_eq!(by(Engine::Spine1).rules, "spine-1");
    assert_eq!(by(Engine::Hours2).reasons, ["quiet_hours"]);
    assert_eq!(by(Engine::Hours2).rules, "hours-2");
}
