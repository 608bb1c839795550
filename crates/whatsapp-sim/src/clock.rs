//! The simulator's clocks. `boottime_ns` is the clock that tests compare with a client's; `Clock` is
//! the time by which windows, caps, pauses and timestamps go, and the one that tests drive.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use uuid::Uuid;

/// CLOCK_BOOTTIME in nanoseconds: one clock for every process of the machine, runs through suspend.
#[must_use]
#[expect(unsafe_code, reason = "clock_gettime writes one timespec that lives on this stack")]
pub fn boottime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, exclusive timespec for the duration of the call.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(answer, 0, "CLOCK_BOOTTIME exists on every supported kernel");
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The simulated time: the wall clock's, until a test moves or stops it.
#[derive(Debug, Default)]
pub struct Clock(Mutex<Driven>);

#[derive(Debug, Default, Clone, Copy)]
struct Driven {
    ahead: SignedDuration,
    stopped_at: Option<Timestamp>,
}

/// How a test drives the clock: each part that is given, in this order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// The time that it shall be.
    to: Option<Timestamp>,
    /// Seconds to go ahead (or back, where negative).
    advance_s: Option<i64>,
    /// Whether it stands still from now on.
    stopped: Option<bool>,
}

impl Clock {
    /// The simulated time.
    pub fn now(&self) -> Timestamp {
        let driven = *self.driven();
        driven.stopped_at.unwrap_or_else(|| later(wall(), driven.ahead))
    }

    /// Drives it, and gives the time that it then is.
    pub fn drive(&self, drive: &Drive) -> Timestamp {
        let mut now = drive.to.unwrap_or_else(|| self.now());
        if let Some(seconds) = drive.advance_s {
            now = later(now, SignedDuration::from_secs(seconds));
        }
        let mut driven = self.driven();
        let stopped = drive.stopped.unwrap_or(driven.stopped_at.is_some());
        driven.ahead = now.duration_since(wall());
        driven.stopped_at = stopped.then_some(now);
        now
    }

    fn driven(&self) -> std::sync::MutexGuard<'_, Driven> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `by` later than `at`, or `at` where no calendar goes so far.
pub fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(at)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulator stands outside; it has no injected clock"
)]
fn wall() -> Timestamp {
    Timestamp::now()
}

/// A random id.
#[expect(
    clippy::disallowed_methods,
    reason = "the simulator stands outside; it has no injected ids"
)]
pub fn random() -> Uuid {
    Uuid::new_v4()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_clock_moves_only_when_it_is_driven() {
        let clock = Clock::default();
        let drive = |json: &str| clock.drive(&serde_json::from_str(json).unwrap()).to_string();
        let noon = drive(r#"{"to": "2026-05-04T12:00:00Z", "stopped": true}"#);
        assert_eq!(
            (noon.as_str(), clock.now().to_string()),
            ("2026-05-04T12:00:00Z", noon.clone())
        );
        assert_eq!(drive(r#"{"advance_s": 86400}"#), "2026-05-05T12:00:00Z");
        assert_eq!(clock.now().to_string(), "2026-05-05T12:00:00Z");
        drive(r#"{"stopped": false}"#);
        assert!(clock.now().to_string().starts_with("2026-05-05T12:0"));
    }
}
