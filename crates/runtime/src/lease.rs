//! The one lease: whoever holds a right holds it for at most L counted from before it asked;
//! whoever takes it away commits first, waits L and the drift, and only then answers. It
//! guarantees that no holder still believes in its right after that; who asks whom is left to
//! the services.

use std::sync::Arc;
use std::time::Duration;

use crate::broken::{self, Guarantee};
use crate::clock::Clock;
use crate::config::Settings;

/// What holders and takers agree on. Every service of a deployment must have the same terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// L: how long a right may be held.
    pub length: Duration,
    /// How far two elapsed clocks may drift apart within L.
    pub drift: Duration,
}

impl Default for LeaseTerms {
    fn default() -> Self {
        Self { length: Duration::from_secs(1), drift: Duration::from_millis(50) }
    }
}

impl LeaseTerms {
    /// Reads `[lease] length_ms, drift_ms`; errors are recorded in the settings.
    #[must_use]
    pub fn read(settings: &Settings) -> Self {
        let section = settings.section("lease");
        let default = Self::default();
        let length = section.millis("length_ms", default.length);
        if length.is_zero() {
            section.invalid("length_ms", "must be above 0");
        }
        Self { length, drift: section.millis("drift_ms", default.drift) }
    }

    /// How long a taker waits: L plus drift.
    #[must_use]
    pub fn settlement(&self) -> Duration {
        self.length + self.drift
    }
}

/// A right held by this process. Start it *before* asking for the right.
#[derive(Clone)]
pub struct Lease {
    clock: Arc<dyn Clock>,
    until: Duration,
}

impl Lease {
    /// Starts counting now.
    #[must_use]
    pub fn start(clock: &Arc<dyn Clock>, terms: &LeaseTerms) -> Self {
        Self { until: clock.boottime() + terms.length, clock: Arc::clone(clock) }
    }

    /// What is left; zero when it has run out.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.until.saturating_sub(self.clock.boottime())
    }

    /// Whether the right may still be used.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// By how much it has been overrun; zero while it lives.
    #[must_use]
    pub fn overrun(&self) -> Duration {
        self.clock.boottime().saturating_sub(self.until)
    }
}

/// Waits until no holder can still hold what the caller has taken away. Call it after COMMIT and
/// before answering, on every path that answers a command: repeats and no-ops included.
pub async fn settle(clock: &dyn Clock, terms: &LeaseTerms) {
    settle_until(clock, clock.boottime() + terms.settlement()).await;
}

/// Waits until the boot clock shows `deadline`; for many takers that share one wait.
pub async fn settle_until(clock: &dyn Clock, deadline: Duration) {
    // Timers stop during suspend, the boot clock does not: sleep in short pieces and look again.
    const PIECE: Duration = Duration::from_millis(100);
    if broken::is(Guarantee::G1) {
        return;
    }
    loop {
        let left = deadline.saturating_sub(clock.boottime());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(PIECE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_lease_is_counted_from_before_the_ask() {
        let manual = Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH));
        let clock: Arc<dyn Clock> = manual.clone();
        let lease = Lease::start(&clock, &LeaseTerms::default());
        manual.advance(Duration::from_millis(999));
        assert!(lease.is_live());
        manual.advance(Duration::from_millis(1));
        assert!(!lease.is_live());
        manual.advance(Duration::from_millis(5));
        assert_eq!(lease.overrun(), Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn settling_ends_only_when_every_lease_has() {
        let manual = Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH));
        let clock: Arc<dyn Clock> = manual.clone();
        let terms = LeaseTerms::default();
        let lease = Lease::start(&clock, &terms);
        let waiter = tokio::spawn({
            let clock = Arc::clone(&clock);
            async move { settle(&*clock, &terms).await }
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!waiter.is_finished(), "timers passed, but the boot clock did not");
        manual.advance(terms.length);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!lease.is_live());
        assert!(!waiter.is_finished(), "the drift is waited for too");
        manual.advance(terms.drift);
        waiter.await.unwrap();
    }
}
