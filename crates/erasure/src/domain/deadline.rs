//! The legal deadline: one month after receipt (GDPR Article 12(3)). It guarantees a date that
//! exists; extensions and holidays are not counted here.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// One month after `received`; at the end of the month where the day doesn't exist
/// (Regulation 1182/71, Article 3(2)(c)).
#[must_use]
pub fn one_month_after(received: Timestamp) -> Timestamp {
    received
        .to_zoned(TimeZone::UTC)
        .checked_add(Span::new().months(1))
        .map_or(received, |due| due.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_14_a_month_that_lacks_the_day_ends_the_deadline_on_its_last() {
        for (received, due) in [
            ("2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"),
            ("2028-01-31T10:00:00Z", "2028-02-29T10:00:00Z"),
            ("2026-11-24T23:09:39.123456Z", "2026-12-24T23:09:39.123456Z"),
            ("2026-12-31T00:00:00Z", "2027-01-31T00:00:00Z"),
        ] {
            assert_eq!(one_month_after(received.parse().unwrap()), due.parse().unwrap());
        }
    }
}
