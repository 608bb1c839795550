//! Time as a parameter: the wall clock for what is recorded, the boot clock for what is measured.
//! It guarantees microseconds (what Postgres keeps) and elapsed time that runs through suspend;
//! waiting is left to callers.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, truncated to microseconds: what Postgres stores is what was said.
    fn now(&self) -> Timestamp;

    /// Time since boot, suspend included (`CLOCK_BOOTTIME`). Only differences mean anything.
    fn boottime(&self) -> Duration;
}

/// The clocks of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        truncate(Timestamp::now())
    }

    fn boottime(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        #[expect(unsafe_code, reason = "std has no CLOCK_BOOTTIME; the pointer is to a local")]
        // SAFETY: `time` is a valid, writable timespec for the whole call.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
        assert_eq!(status, 0, "CLOCK_BOOTTIME exists on every supported kernel");
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    }
}

fn truncate(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// A clock that moves only when told to: for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Timestamp, Duration)>);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new((truncate(now), Duration::from_secs(1))))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 = truncate(state.0.checked_add(by).unwrap_or(state.0));
        state.1 += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn boottime(&self) -> Duration {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_has_no_more_precision_than_postgres() {
        assert_eq!(SystemClock.now().subsec_nanosecond() % 1_000, 0);
    }

    #[test]
    fn elapsed_time_never_runs_back() {
        let first = SystemClock.boottime();
        assert!(SystemClock.boottime() >= first);
        assert!(first > Duration::ZERO);
    }
}
