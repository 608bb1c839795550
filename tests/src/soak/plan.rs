//! What a seed means: which faults are injected in which order, and how much the load does in between. It
//! guarantees that the same seed makes the same plan; when each is injected is the machine's.

use std::time::Duration;

use super::dice::Dice;

/// The processes that are killed and frozen.
pub const PROCESSES: [&str; 10] = [
    "consent",
    "consent-2",
    "vault",
    "vault-2",
    "messaging",
    "messaging-2",
    "erasure",
    "erasure-2",
    "projector",
    "projector-2",
];
const DATABASES: [&str; 7] =
    ["consent", "vault", "vault_keys", "messaging", "messaging_keys", "erasure", "projector"];

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// So many acts are acknowledged before it: the load has a word in between.
    pub acts_before: usize,
    /// What is done.
    pub what: Injection,
}

/// What is done to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injection {
    /// The broker is killed and started again.
    RestartKafka,
    /// Postgres is stopped at once and started again.
    RestartPostgres,
    /// Every connection to a database is ended.
    Cut(&'static str),
    /// A process is killed, and started again after a pause.
    Kill(&'static str, Duration),
    /// A process is frozen for a while.
    Freeze(&'static str, Duration),
}

/// The faults of a seed, in order, without an end.
#[derive(Debug, Clone)]
pub struct Plan(Dice);

impl Plan {
    /// That of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Dice::new(seed, "faults"))
    }
}

impl Iterator for Plan {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        let dice = &mut self.0;
        let acts_before = 10 + dice.below(40) as usize;
        let what = match dice.below(20) {
            0 => Injection::RestartKafka,
            1 => Injection::RestartPostgres,
            2..5 => Injection::Cut(dice.one_of::<&str>(&DATABASES)),
            5..12 => {
                let name = *dice.one_of(&PROCESSES);
                Injection::Kill(name, Duration::from_millis(dice.below(3_000)))
            }
            _ => {
                let name = *dice.one_of(&PROCESSES);
                Injection::Freeze(name, Duration::from_millis(500 + dice.below(7_000)))
            }
        };
        Some(Planned { acts_before, what })
    }
}
