//! Ports of this machine for the processes under test.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the system gives ports to outgoing connections, so that nobody
/// takes one between its choice and its use.
const FIRST: u16 = 16_000;
const LAST: u16 = 31_999;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A free port that this test run has not given out before.
pub fn free() -> u16 {
    let range = LAST - FIRST;
    // Test runs beside each other begin at different places.
    let start = (std::process::id() % 97) as u16 * 160;
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start) % range;
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
}
