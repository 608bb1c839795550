//! What is tried on an interleaving, and what is told of it: participants that are wrong on purpose, what met the
//! erasure, what doesn't hold.

/// What a participant does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// The ledger decides on what it read before the lock.
    StaleAppend,
    /// The projection doesn't look at fences.
    UnfencedProjection,
    /// Nor does its rebuild.
    UnfencedRebuild,
    /// What came in by webhooks is stored whoever is fenced.
    UnfencedWebhook,
    /// The projector answers before it has read what the barrier names.
    BarrierIgnored,
    /// Nobody waits a lease before answering.
    LeaseIgnored,
    /// What is parked isn't deleted, nor looked for.
    ParkedForgotten,
    /// Bodies that came in before the fence aren't waited for.
    BodiesForgotten,
    /// The key stays, and the sweep says so.
    KeyKept,
    /// The key stays, and the sweep doesn't look: a shredder that does nothing.
    NoShredder,
    /// The fingerprint that keeps a re-import out comes after the row has gone.
    BarredLate,
}

impl Broken {
    pub const ALL: [Self; 11] = [
        Self::StaleAppend,
        Self::UnfencedProjection,
        Self::UnfencedRebuild,
        Self::UnfencedWebhook,
        Self::BarrierIgnored,
        Self::LeaseIgnored,
        Self::ParkedForgotten,
        Self::BodiesForgotten,
        Self::KeyKept,
        Self::NoShredder,
        Self::BarredLate,
    ];
}

/// How often something met the erasure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub appends_refused: u64,
    pub imports_refused: u64,
    pub identifiers_refused: u64,
    pub permits_denied: u64,
    pub calls: u64,
    pub calls_withheld: u64,
    pub webhooks_dropped: u64,
    pub late_events_dropped: u64,
    pub rebuilds_swapped: u64,
    pub parked_cleared: u64,
    pub crashes: u64,
    pub answers_repeated: u64,
    pub answers_refused: u64,
    pub newcomers: u64,
}

impl Seen {
    fn figures(&mut self) -> [&mut u64; 14] {
        [
            &mut self.appends_refused,
            &mut self.imports_refused,
            &mut self.identifiers_refused,
            &mut self.permits_denied,
            &mut self.calls,
            &mut self.calls_withheld,
            &mut self.webhooks_dropped,
            &mut self.late_events_dropped,
            &mut self.rebuilds_swapped,
            &mut self.parked_cleared,
            &mut self.crashes,
            &mut self.answers_repeated,
            &mut self.answers_refused,
            &mut self.newcomers,
        ]
    }

    pub fn add(&mut self, mut other: Self) {
        for (sum, more) in self.figures().into_iter().zip(other.figures()) {
            *sum += *more;
        }
    }

    pub fn all_happened(&self) -> bool {
        let mut copy = *self;
        copy.figures().into_iter().all(|figure| *figure > 0)
    }
}

/// What became of an interleaving.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What does not hold; none: all does.
    pub wrong: Option<String>,
    pub seen: Seen,
}
