//! Randomness as a parameter. It guarantees ids from the operating system's generator: v4 says
//! nothing about when, v7 sorts by creation (to about a quarter of a microsecond per process).

use uuid::Uuid;

use crate::clock::{Clock, SystemClock};

/// A source of ids and random bytes.
pub trait Ids: Send + Sync + 'static {
    /// A random id (UUID v4): for subjects, whose id must not tell when they came to be known.
    fn v4(&self) -> Uuid;

    /// An id that sorts by creation time (UUID v7): for events, requests, permits.
    fn v7(&self) -> Uuid;

    /// Fills with random bytes fit for keys and nonces.
    fn fill(&self, bytes: &mut [u8]);
}

/// Ids from the operating system's random generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn v4(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    fn v7(&self) -> Uuid {
        let nanos = SystemClock.now().as_nanosecond().max(0);
        let mut bytes = [0; 10];
        self.fill(&mut bytes);
        // RFC 9562, 6.2, method 3: the 12 bits after the milliseconds carry the fraction.
        let fraction = (nanos % 1_000_000) * 4096 / 1_000_000;
        bytes[0] = (fraction >> 8) as u8;
        bytes[1] = (fraction & 0xff) as u8;
        uuid::Builder::from_unix_timestamp_millis((nanos / 1_000_000) as u64, &bytes).into_uuid()
    }

    fn fill(&self, bytes: &mut [u8]) {
        #[expect(clippy::disallowed_methods, reason = "the one place that asks for randomness")]
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_versions_and_v7_sorts_by_creation() {
        assert_eq!(SystemIds.v4().get_version_num(), 4);
        let first = SystemIds.v7();
        assert_eq!(first.get_version_num(), 7);
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(SystemIds.v7() > first);
    }
}
