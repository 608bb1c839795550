//! Erasures race what is being done about the same people, on real Postgres and Kafka, with every service a process
//! (`event-sourcing.md`, tests 13, 15, 17 and 18; the deciders alone: `interleavings`). A seed says what races each
//! of them, and when it begins: before her erasure, beside it, while a participant is held in the middle of a step,
//! or once she is erased. Of each wave one command is held in the middle of its work until she is fenced. Whoever
//! wins, the certificate is signed and nothing about her is left anywhere.

mod course;
mod holds;
mod stage;

use std::collections::BTreeMap;
use std::io::Write as _;

use assent_contracts::topics::{self, CONSENT_STATE};
use assent_tests::cluster::{Cluster, Wishes};
use assent_tests::soak::check::calls::Call;
use assent_tests::soak::check::{Found, certificates, erasures, models};
use assent_tests::soak::dice::Dice;
use assent_tests::soak::history::{Act, History, Person, What};
use assent_tests::topics::everything;
use uuid::Uuid;

use self::course::{Kind, Ran, When};
use self::stage::{NAME, Stage};

const SEED: u64 = 2_026;
const RACES: usize = 50;
const WAVE: usize = 10;
/// Of each kind at least so many of the fifty.
const EACH: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn g4_g6_fifty_races_under_a_short_lease_leave_nothing_behind() {
    let settings = vec![("lease", "length_ms = 50")];
    let cluster = Cluster::with(Wishes { settings, ..Wishes::default() }).await;
    let told = Told(SEED);
    let ran = race(&cluster, SEED, RACES).await;
    for kind in Kind::ALL {
        let of_kind: Vec<&Ran> = ran.iter().filter(|it| it.kind == kind).collect();
        assert!(of_kind.len() >= EACH, "{kind:?}: {}", of_kind.len());
        if kind.is_refused_at_last() {
            // That it was a race: some came before the fence, and some behind it.
            for accepted in [true, false] {
                let any = of_kind.iter().any(|it| it.accepted == Some(accepted));
                assert!(any, "{kind:?}: none with accepted = {accepted}: {of_kind:#?}");
            }
        }
    }
    drop(told);
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_g6_a_race_of_each_kind_under_the_default_lease_leaves_nothing_behind() {
    let cluster = Cluster::start().await;
    let told = Told(SEED);
    let ran = race(&cluster, SEED, Kind::ALL.len()).await;
    for kind in Kind::ALL {
        assert_eq!(ran.iter().filter(|it| it.kind == kind).count(), 1, "{kind:?}");
    }
    for accepted in [true, false] {
        let any = ran.iter().any(|it| it.accepted == Some(accepted));
        assert!(any, "none with accepted = {accepted}: {ran:#?}");
    }
    drop(told);
}

/// Says with a failure which seed it was.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "seed {}", self.0);
        }
    }
}

/// So many races, wave by wave, and the look at what they left.
async fn race(cluster: &Cluster, seed: u64, races: usize) -> Vec<Ran> {
    let mut stage = Stage::set(cluster, seed, races).await;
    let mut dice = Dice::new(seed, "waves");
    let mut ran = Vec::with_capacity(races);
    while !stage.races.is_empty() {
        let size = WAVE.min(stage.races.len());
        let wave = stage.races.drain(..size).collect();
        ran.extend(holds::wave(cluster, wave, &mut dice).await);
    }
    for it in &ran {
        // What is certain whoever is faster.
        match (it.when, it.kind.is_refused_at_last()) {
            (When::First, true) => assert_eq!(it.accepted, Some(true), "before all else: {it:?}"),
            (When::Last, true) => assert_eq!(it.accepted, Some(false), "after all else: {it:?}"),
            _ => {}
        }
    }
    stage.rests(cluster).await;
    judge(cluster, &ran, stage.witnesses).await;
    ran
}

/// What is left of them.
async fn judge(cluster: &Cluster, ran: &[Ran], witnesses: Vec<Person>) {
    let mut renewed = Vec::new();
    for it in ran {
        match cluster.subject(&it.person).await {
            None => {}
            // Her own word, said once she was erased, makes her somebody new; nothing else does.
            Some(new) => {
                assert!(it.says_start && new != it.subject, "{new} is back: {it:?}");
                renewed.push(it.subject.clone());
            }
        }
    }
    let people = ran.iter().map(|it| {
        let what = What::Erase(it.request.clone());
        let act = Act { what, asked: it.completed, answered: it.completed };
        let phone = it.person.phone.clone();
        Person { phone, subject: it.subject.clone(), acts: vec![act] }
    });
    let people: Vec<Person> = people.chain(witnesses).collect();
    let strangers: Vec<Person> =
        people.iter().filter(|person| !renewed.contains(&person.subject)).cloned().collect();
    let history = History { people, ..History::default() };
    sound("whole", &erasures::whole(cluster, &history).await);
    sound("certified", &certificates::check(cluster, &history).await);
    sound("calls", &calls(cluster, ran).await);
    sound("tables", &erasures::nowhere(cluster, &history).await);
    sound("topics", &in_topics(cluster, ran).await);
    // An import doesn't bring her back, nor does a read model that is built anew from its topic.
    let strangers = History { people: strangers, ..History::default() };
    sound("imported again", &erasures::stays(cluster, &strangers).await);
    sound("rebuilt", &models::rebuilt(cluster));
    sound("tables after a rebuild", &erasures::nowhere(cluster, &history).await);
}

fn sound(what: &str, found: &Found) {
    assert!(found.looked_at > 0, "{what}: nothing to look at");
    assert!(found.violations.is_empty(), "{what}: {:#?}", found.violations);
}

/// No call to her begins once she is erased.
async fn calls(cluster: &Cluster, ran: &[Ran]) -> Found {
    let ledger = Call::all(cluster).await;
    let mut found = Found::default();
    for it in ran {
        let late = |call: &&Call| call.to == it.person.digits() && call.began > it.completed;
        let late: Vec<&Call> = ledger.iter().filter(late).collect();
        found.look(late.is_empty(), || format!("calls after her erasure: {late:?}: {it:?}"));
    }
    found
}

/// No topic holds a number or a name in the clear, and the compacted one has a tombstone for each.
async fn in_topics(cluster: &Cluster, ran: &[Ran]) -> Found {
    let mut found = Found::default();
    for topic in topics::ALL {
        let all = everything(cluster, topic).await;
        for event in &all {
            let text = String::from_utf8_lossy(&event.data);
            let clear =
                text.contains(NAME) || ran.iter().any(|it| text.contains(it.person.digits()));
            found.look(!clear, || format!("{} holds {text}", topic.suffix));
        }
        if topic == CONSENT_STATE {
            let last: BTreeMap<Uuid, bool> =
                all.iter().map(|record| (record.key, record.data.is_empty())).collect();
            for it in ran {
                let key: Uuid = it.subject.parse().expect("an id");
                // Nothing where she never said anything, or where the tombstone was compacted away.
                let gone = last.get(&key).is_none_or(|is_tombstone| *is_tombstone);
                found.look(gone, || format!("{} holds a state of {it:?}", topic.suffix));
            }
        }
    }
    found
}
