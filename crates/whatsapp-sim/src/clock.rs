//! The simulator's clocks and its one source of randomness. `boottime_ns` is the clock that tests
//! compare with a client's; the wall clock only fills the timestamps that Meta would send.

use jiff::Timestamp;
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

/// The wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the simulator stands outside; it has no injected clock"
)]
pub fn now() -> Timestamp {
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
