//! The judge of a soak, itself judged: on made-up histories of which it is known what is wrong. Whether it sees a
//! real build that is wrong is `cargo xtask soak --broken all`.

use std::collections::BTreeMap;
use std::time::Duration;

use assent_bus::Received;
use assent_contracts::messaging::LEASE_OVERRUN;
use assent_contracts::topics::{CONSENT_EVENTS, MESSAGING_EVENTS, Topic};
use assent_tests::soak::check::calls::Call;
use assent_tests::soak::check::certificates::missing;
use assent_tests::soak::check::events::{self, Topics};
use assent_tests::soak::check::withdrawals;
use assent_tests::soak::dice::Dice;
use assent_tests::soak::history::{Act, Fault, History, Person, What};
use assent_tests::soak::load::choice;
use assent_tests::soak::plan::{Injection, Plan, Planned};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

const MESSAGE: &str = "01a2104b-cf02-702d-9bb6-7cf939fd940f";
const SUBJECT: Uuid = Uuid::from_u128(7);

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn act(what: What, asked: f64) -> Act {
    Act { what, asked: secs(asked), answered: secs(asked + 0.5) }
}

/// She agreed at 1 s, and took it back with an answer at 10.5 s.
fn withdrawn(faults: Vec<Fault>) -> History {
    let acts = vec![
        act(What::Grant(vec!["g".to_owned()]), 1.0),
        act(What::Withdraw(vec!["w".to_owned()]), 10.0),
    ];
    let person = Person { phone: "+33639980001".to_owned(), subject: SUBJECT.to_string(), acts };
    History { people: vec![person], faults, ..History::default() }
}

fn call(began: f64) -> Vec<Call> {
    let to = "33639980001".to_owned();
    vec![Call { to, message: MESSAGE.to_owned(), began: secs(began), taken: true }]
}

fn frozen(target: &str, from: f64, until: f64) -> Fault {
    Fault { kind: "freeze", target: target.to_owned(), from: secs(from), until: secs(until) }
}

fn event(topic: Topic, sequence: i64, event_type: &str, data: &Value) -> Received {
    Received {
        topic,
        partition: 0,
        offset: sequence,
        key: SUBJECT,
        sequence,
        event_sequence: None,
        id: Uuid::from_u128(100 + sequence.unsigned_abs() as u128),
        event_type: event_type.to_owned(),
        time: Timestamp::UNIX_EPOCH,
        traceparent: None,
        data: data.to_string().into_bytes(),
    }
}

/// The topic of messaging, with the incident on record or without.
fn topics(incident: bool) -> Topics {
    let mut topics = Topics::default();
    let overrun = json!({"message_id": MESSAGE, "overrun_ms": 3000, "at": "2026-01-01T00:00:00Z"});
    let events = incident.then(|| event(MESSAGING_EVENTS, 1, LEASE_OVERRUN, &overrun));
    topics.add(MESSAGING_EVENTS, events.into_iter().collect());
    topics
}

#[test]
fn g1_a_call_after_an_acknowledged_no_is_a_violation() {
    let history = withdrawn(Vec::new());
    let early = withdrawals::check(&history, &call(10.4), &topics(false));
    assert_eq!((early.looked_at, early.violations.len()), (1, 0));
    let late = withdrawals::check(&history, &call(10.6), &topics(false));
    assert_eq!((late.looked_at, late.violations.len()), (1, 1));
}

#[test]
fn g1_a_write_after_its_lease_is_allowed_only_with_its_incident_and_a_freeze_that_overlaps_it() {
    let late = call(14.0);
    let look = |faults: Vec<Fault>, incident: bool| {
        let (history, topics) = (withdrawn(faults), topics(incident));
        let check = withdrawals::check(&history, &late, &topics);
        let own = withdrawals::incidents(&history, &late, &topics);
        (check.violations.len(), check.incidents.len(), own.violations.len())
    };
    let overlapping = || vec![frozen("messaging-2", 9.9, 13.9)];
    assert_eq!(look(overlapping(), true), (0, 1, 0), "both: an incident");
    assert_eq!(look(overlapping(), false), (1, 0, 0), "nothing on record");
    assert_eq!(look(Vec::new(), true), (1, 0, 1), "nobody was frozen");
    assert_eq!(look(vec![frozen("consent", 9.9, 13.9)], true), (1, 0, 1), "not a dispatcher");
    assert_eq!(look(vec![frozen("messaging", 2.0, 6.0)], true), (1, 0, 1), "long before");
    assert_eq!(look(vec![frozen("messaging", 15.5, 16.0)], true), (1, 0, 1), "after it");
    let killed = Fault { kind: "kill", ..frozen("messaging", 9.9, 13.9) };
    assert_eq!(look(vec![killed], true), (1, 0, 1), "who was killed writes nothing");
}

#[test]
fn g1_an_incident_without_a_cause_is_a_violation_whoever_was_written_to() {
    let history = withdrawn(Vec::new());
    let in_time = call(5.0);
    assert_eq!(withdrawals::check(&history, &in_time, &topics(true)).violations.len(), 0);
    assert_eq!(withdrawals::incidents(&history, &in_time, &topics(true)).violations.len(), 1);
}

#[test]
fn g2_what_was_acknowledged_and_is_missing_or_doubled_and_a_gap_are_seen() {
    let grant = |sequence: i64| {
        let by_operator = json!({"actor": "operator", "method": "api"});
        event(CONSENT_EVENTS, sequence, assent_contracts::consent::GRANTED, &by_operator)
    };
    let acknowledged = |ids: &[i64]| {
        let ids = ids.iter().map(|it| Uuid::from_u128(100 + it.unsigned_abs() as u128).to_string());
        let acts = vec![act(What::Grant(ids.collect()), 1.0)];
        let person = Person { phone: "+33".to_owned(), subject: SUBJECT.to_string(), acts };
        History { people: vec![person], ..History::default() }
    };
    let of = |events: Vec<Received>| {
        let mut topics = Topics::default();
        topics.add(CONSENT_EVENTS, events);
        topics
    };
    let wrong = |history: &History, events: Vec<Received>| {
        let topics = of(events);
        let acknowledged = events::acknowledged(history, &topics).violations.len();
        (acknowledged, topics.whole().violations.len())
    };
    assert_eq!(wrong(&acknowledged(&[1, 2]), vec![grant(1), grant(2)]), (0, 0));
    assert_eq!(wrong(&acknowledged(&[1]), vec![grant(1), grant(1)]), (0, 0), "a late duplicate");
    assert_eq!(wrong(&acknowledged(&[1, 2]), vec![grant(1)]), (1, 0), "the second is lost");
    assert_eq!(wrong(&acknowledged(&[1]), vec![grant(1), grant(2)]), (1, 0), "nobody asked twice");
    assert_eq!(wrong(&acknowledged(&[1, 3]), vec![grant(1), grant(3)]), (0, 1), "a gap");
    assert_eq!(wrong(&acknowledged(&[1, 2]), vec![grant(2), grant(1)]).1, 2, "out of order");
    let other = Received { id: Uuid::nil(), ..grant(1) };
    assert_eq!(wrong(&acknowledged(&[1]), vec![grant(1), other]).1, 1, "another in its place");
}

#[test]
fn g4_a_certificate_without_somebodys_answer_is_seen() {
    let answer = |digest: &str| json!({"command_id": "c", "evidence": {"digest": digest}});
    let everyone = |digest: &str| {
        let names = ["consent", "messaging", "projector", "vault"];
        names.map(|name| (name.to_owned(), answer(digest))).into_iter().collect::<Value>()
    };
    let certificate = |sweep: Value| {
        json!({"steps": [
            {"step": "fence", "participants": everyone("d")},
            {"step": "delete", "participants": everyone("d")},
            {"step": "destroy_keys", "participants": {"vault": answer("d")}},
            {"step": "sweep", "participants": sweep},
        ]})
    };
    let own = || BTreeMap::from([("c".to_owned(), json!({"digest": "d"}))]);
    let done = ["consent", "messaging", "projector", "vault"].map(|name| (name, own())).into();
    assert_eq!(missing("r", &certificate(everyone("d")), &done), Vec::<String>::new());
    let without = missing("r", &certificate(json!({"consent": answer("d")})), &done);
    assert_eq!(without.len(), 3, "{without:?}");
    let made_up = missing("r", &certificate(everyone("other")), &done);
    assert_eq!(made_up.len(), 4, "{made_up:?}");
}

/// Seeds reproduce: what is drawn is a function of the seed alone, and of what was acknowledged before.
#[test]
fn a_seed_makes_the_same_faults_and_the_same_choices_again() {
    let plan = |seed| Plan::new(seed).take(500).collect::<Vec<Planned>>();
    assert_eq!(plan(7), plan(7));
    assert_ne!(plan(7), plan(8));
    let choices = |seed| {
        let mut dice = Dice::new(seed, "soak-7-0");
        (0..500).map(|n| choice(&mut dice, n % 5 == 0)).collect::<Vec<u64>>()
    };
    assert_eq!(choices(7), choices(7));
    assert_ne!(choices(7), choices(8));
    // A report names a seed and no version: the next build must still make these.
    let first: Vec<Injection> = plan(7).into_iter().take(3).map(|it| it.what).collect();
    assert_eq!(
        format!("{first:?}"),
        r#"[Cut("consent"), Cut("consent"), Freeze("projector-2", 553ms)]"#
    );
}
