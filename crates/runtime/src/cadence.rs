//! How far apart the rounds of a follower begin. It guarantees that the first work after a rest
//! doesn't wait, and that under load more and more of it shares a round; what a round is, is left
//! to the follower.

use std::time::Duration;

/// Time between the beginnings of two rounds. It grows with what the last round found: while little
/// comes, little waits; above `1 / each` items per second it goes up to `most`, and rounds get larger
/// instead of more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// However little the last round found.
    pub least: Duration,
    /// For each item that the last round found.
    pub each: Duration,
    /// However much it found.
    pub most: Duration,
}

impl Cadence {
    /// The same pause after every round.
    #[must_use]
    pub const fn steady(pause: Duration) -> Self {
        Self { least: pause, each: Duration::ZERO, most: pause }
    }

    /// From the beginning of a round that found `items` to the beginning of the next.
    #[must_use]
    pub fn after(&self, items: usize) -> Duration {
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        self.each.saturating_mul(items).clamp(self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_trickle_is_hardly_held_up_and_a_flood_shares_rounds() {
        let cadence = Cadence { least: 5 * MS, each: 2 * MS, most: 50 * MS };
        let pauses = [0, 1, 2, 3, 10, 25, 1_000, usize::MAX].map(|items| cadence.after(items));
        assert_eq!(pauses, [5, 5, 5, 6, 20, 50, 50, 50].map(|pause| pause * MS));
        assert_eq!(Cadence::steady(7 * MS).after(1_000), 7 * MS);
    }

    /// At a steady rate the rounds settle: below `1 / each` at `least`, above at `most`.
    #[test]
    fn rounds_settle_at_a_steady_rate() {
        let cadence = Cadence { least: 5 * MS, each: 2 * MS, most: 50 * MS };
        let settled = |per_second: f64| {
            let mut pause = cadence.least;
            for _ in 0..100 {
                pause = cadence.after((pause.as_secs_f64() * per_second) as usize);
            }
            pause
        };
        assert_eq!(settled(200.0), cadence.least);
        assert_eq!(settled(1_000.0), cadence.most);
    }
}
