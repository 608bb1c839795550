//! Meta's limits: messages a second per business number, a burst per pair, new people a day per
//! portfolio, marketing a day per person. What is enforced is configured, because tests of other
//! things should not meet it; the two rates are watched in any case.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::people::Person;

/// Messages a second of a business number, inbound ones included, where nothing else is configured.
const PER_SECOND: u32 = 80;
/// Milliseconds per message of a pair once its burst is used up.
const PAIR_REFILL_MS: u64 = 6_000;
/// Messages that a pair may send ahead.
const PAIR_BURST: u64 = 45;
/// The moving day of tiers and caps.
pub const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Which limits are enforced.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Messages a second of the business number; none: unlimited.
    pub per_second: Option<u32>,
    /// Whether the pair rate is enforced.
    pub per_pair: bool,
    /// People reached outside the window in 24 hours (250, 2000, 10000, 100000); none: unlimited.
    pub people_per_day: Option<u32>,
    /// Marketing messages that a person gets in 24 hours outside the window; none: unlimited.
    /// Meta's own cap adapts and is unpublished.
    pub marketing_per_day: Option<u32>,
}

impl Limits {
    /// The tier's name in the Graph API.
    pub fn tier(&self) -> &'static str {
        match self.people_per_day {
            None => "TIER_UNLIMITED",
            Some(0..=250) => "TIER_250",
            Some(251..=2_000) => "TIER_2K",
            Some(2_001..=10_000) => "TIER_10K",
            Some(_) => "TIER_100K",
        }
    }
}

/// Which rates a message breaks, were it sent now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Over {
    /// The number's messages a second.
    pub number: bool,
    /// The pair's burst.
    pub pair: bool,
}

/// What was used, as the time at which each bucket will be full again, and who was reached.
#[derive(Debug, Default)]
pub struct Used {
    number_full_at_ms: u64,
    pair_full_at_ms: HashMap<String, u64>,
    reached: HashMap<String, Timestamp>,
}

impl Used {
    /// Takes one message to `party`, or says which rates that would break.
    pub fn take(&mut self, limits: Limits, party: &str, now_ms: u64) -> Over {
        let pair_full_at = self.pair_full_at_ms.entry(party.to_owned()).or_default();
        let per_second = u64::from(limits.per_second.unwrap_or(PER_SECOND).max(1));
        let pair = after(*pair_full_at, PAIR_REFILL_MS, PAIR_BURST, now_ms);
        let number = after(self.number_full_at_ms, 1000 / per_second.min(1000), per_second, now_ms);
        let over = Over { number: number.is_none(), pair: pair.is_none() };
        // A refused message uses nothing up; one over a rate that isn't enforced does nearly so.
        let refused =
            (over.pair && limits.per_pair) || (over.number && limits.per_second.is_some());
        if !refused {
            *pair_full_at = pair.unwrap_or(*pair_full_at);
            self.number_full_at_ms = number.unwrap_or(self.number_full_at_ms);
        }
        over
    }

    /// Counts a message from a person, which uses the number's rate too.
    pub fn take_inbound(&mut self, limits: Limits, now_ms: u64) {
        let per_second = u64::from(limits.per_second.unwrap_or(PER_SECOND).max(1));
        if let Some(next) =
            after(self.number_full_at_ms, 1000 / per_second.min(1000), per_second, now_ms)
        {
            self.number_full_at_ms = next;
        }
    }

    /// Counts `party` among those reached outside the window in 24 hours; false: that is one too many.
    pub fn reach(&mut self, limits: Limits, party: &str, now: Timestamp) -> bool {
        let Some(most) = limits.people_per_day else { return true };
        self.reached.retain(|_, at| now.duration_since(*at) < DAY);
        if !self.reached.contains_key(party) {
            if self.reached.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
                return false;
            }
            self.reached.insert(party.to_owned(), now);
        }
        true
    }
}

/// Whether the cap per person holds a marketing message back now; else it counts against the cap.
pub fn capped(limits: Limits, person: &mut Person, now: Timestamp) -> bool {
    let Some(most) = limits.marketing_per_day else { return false };
    while person.marketing.front().is_some_and(|at| now.duration_since(*at) >= DAY) {
        person.marketing.pop_front();
    }
    if person.marketing.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
        return true;
    }
    person.marketing.push_back(now);
    false
}

/// When a bucket (GCRA) that holds `burst` messages and regains one every `interval_ms` is full
/// again after one more; none: it is empty.
fn after(full_at_ms: u64, interval_ms: u64, burst: u64, now_ms: u64) -> Option<u64> {
    let next = full_at_ms.max(now_ms) + interval_ms;
    (next <= now_ms + interval_ms * burst).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Over = Over { number: false, pair: true };

    #[test]
    fn a_pair_has_a_burst_of_45_and_then_one_in_six_seconds() {
        let limits = Limits { per_pair: true, ..Limits::default() };
        let mut used = Used::default();
        for _ in 0..45 {
            assert_eq!(used.take(limits, "33612345678", 1_000), Over::default());
        }
        assert_eq!(used.take(limits, "33612345678", 1_000), PAIR);
        assert_eq!(used.take(limits, "33699999999", 1_000), Over::default());
        assert_eq!(used.take(limits, "33612345678", 6_999), PAIR);
        assert_eq!(used.take(limits, "33612345678", 7_000), Over::default());
    }

    #[test]
    fn a_number_has_its_messages_a_second_and_inbound_ones_count() {
        let limits = Limits { per_second: Some(2), ..Limits::default() };
        let mut used = Used::default();
        assert_eq!(used.take(limits, "1", 10), Over::default());
        used.take_inbound(limits, 10);
        assert_eq!(used.take(limits, "3", 10), Over { number: true, pair: false });
        assert_eq!(used.take(limits, "3", 510), Over::default());
    }

    #[test]
    fn a_tier_counts_people_of_a_moving_day() {
        let limits = Limits { people_per_day: Some(2), ..Limits::default() };
        let mut used = Used::default();
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        assert!(used.reach(limits, "1", at(0)) && used.reach(limits, "2", at(1)));
        assert!(!used.reach(limits, "3", at(2)), "a third person is one too many");
        assert!(used.reach(limits, "1", at(2)), "the same person again is none");
        assert!(used.reach(limits, "3", at(24)), "the first of them was a day ago");
        assert!(!used.reach(limits, "1", at(24)));
    }
}
