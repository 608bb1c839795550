//! The races of an erasure on the pure core: the deciders of the saga, the vault, the ledger, of intents and of
//! read models, the barrier and the lease, on stores in memory and a clock that moves when it is told to. Each seed
//! is one interleaving of appends, imports, sends, webhooks, relays, projections, rebuilds, parked replays, crashes
//! and forged answers with one erasure (`event-sourcing.md`, tests 13, 15, 17 and 18). What it says about
//! transactions is assumed here, and tested on real servers elsewhere.
//!
//! A simulation that finds nothing proves nothing: so it is also run with participants that are wrong on purpose.

mod judged;
mod messages;
mod participants;
mod records;
mod world;

use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};

use self::judged::{Broken, Outcome, Seen};
use self::world::World;

const SEEDS: u64 = 2_000;
const BOUND: Duration = Duration::from_secs(60);
/// Within so many seeds a wrong participant must be found.
const SEEDS_TO_FIND: u64 = 1_000;

#[test]
fn two_thousand_interleavings_leave_nothing_behind() {
    let began = SystemClock.boottime();
    let threads = std::thread::available_parallelism().map_or(1, |it| it.get() as u64);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let share = |first: u64| {
            let seeds = (first..SEEDS).step_by(threads as usize);
            seeds.map(|seed| World::new(seed, Broken::Nothing).run()).collect::<Vec<_>>()
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        running.into_iter().flat_map(|it| it.join().expect("no interleaving panics")).collect()
    });
    let wrong: Vec<&String> = outcomes.iter().filter_map(|it| it.wrong.as_ref()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(outcomes.len() as u64, SEEDS);

    // That they were races: each of these happened.
    let mut seen = Seen::default();
    for outcome in &outcomes {
        seen.add(outcome.seen);
    }
    assert!(seen.all_happened(), "{seen:?}");
    let took = SystemClock.boottime() - began;
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn the_same_seed_is_the_same_interleaving() {
    let run = || World::new(7, Broken::Nothing).run();
    assert_eq!(run(), run());
    assert_ne!(run().seen, World::new(8, Broken::Nothing).run().seen);
}

#[test]
fn participants_that_are_wrong_on_purpose_are_found() {
    for broken in Broken::ALL {
        let found = (0..SEEDS_TO_FIND).find_map(|seed| World::new(seed, broken).run().wrong);
        assert!(found.is_some(), "{broken:?} was not found in {SEEDS_TO_FIND} interleavings");
    }
}
