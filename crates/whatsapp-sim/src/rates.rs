//! Meta's rates: messages a second per business number, and per pair a burst that is refilled
//! every six seconds. Off unless configured, because tests of other things should not meet them.

use std::collections::HashMap;

use crate::graph_error::GraphError;

/// Milliseconds per message of a pair once its burst is used up.
const PAIR_REFILL_MS: u64 = 6_000;
/// Messages that a pair may send ahead.
const PAIR_BURST: u64 = 45;

/// Which rates are watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateLimits {
    /// Messages a second of the business number; none: unlimited.
    pub per_second: Option<u32>,
    /// Whether the pair rate is watched.
    pub per_pair: bool,
}

/// What was used, as the time at which each bucket will be full again.
#[derive(Debug, Default)]
pub struct Rates {
    number_full_at_ms: u64,
    pair_full_at_ms: HashMap<String, u64>,
}

impl Rates {
    /// Takes one message to `party` at `now_ms`, or says which rate it would break.
    pub fn take(&mut self, limits: RateLimits, party: &str, now_ms: u64) -> Result<(), GraphError> {
        if limits.per_pair {
            let full_at = self.pair_full_at_ms.entry(party.to_owned()).or_default();
            take(full_at, PAIR_REFILL_MS, PAIR_BURST, now_ms)
                .ok_or_else(|| GraphError::new(131_056, "Too many messages to this number"))?;
        }
        if let Some(per_second) = limits.per_second.filter(|rate| *rate > 0) {
            let per_second = u64::from(per_second);
            take(&mut self.number_full_at_ms, 1000 / per_second.min(1000), per_second, now_ms)
                .ok_or_else(|| GraphError::new(130_429, "Throughput of this number is used up"))?;
        }
        Ok(())
    }
}

/// A bucket (GCRA): holds `burst` messages and regains one every `interval_ms`.
fn take(full_at_ms: &mut u64, interval_ms: u64, burst: u64, now_ms: u64) -> Option<()> {
    let next = (*full_at_ms).max(now_ms) + interval_ms;
    (next <= now_ms + interval_ms * burst).then(|| *full_at_ms = next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_a_burst_of_45_and_then_one_in_six_seconds() {
        let limits = RateLimits { per_second: None, per_pair: true };
        let mut rates = Rates::default();
        for _ in 0..45 {
            rates.take(limits, "33612345678", 1_000).unwrap();
        }
        assert_eq!(rates.take(limits, "33612345678", 1_000).unwrap_err().code, 131_056);
        rates.take(limits, "33699999999", 1_000).unwrap();
        assert_eq!(rates.take(limits, "33612345678", 6_999).unwrap_err().code, 131_056);
        rates.take(limits, "33612345678", 7_000).unwrap();
    }

    #[test]
    fn a_number_has_its_messages_a_second() {
        let limits = RateLimits { per_second: Some(2), per_pair: false };
        let mut rates = Rates::default();
        rates.take(limits, "1", 10).unwrap();
        rates.take(limits, "2", 10).unwrap();
        assert_eq!(rates.take(limits, "3", 10).unwrap_err().code, 130_429);
        rates.take(limits, "3", 510).unwrap();
    }
}
