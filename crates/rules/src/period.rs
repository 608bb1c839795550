//! A length of time as laws write it: `24 hours`, `15 business days`, `1 month`, `3 years`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::{Span, ToSpan as _};
use serde::{Deserialize, Serialize};

/// A length of time. Two of them can only be compared from a day on: a month is no number of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Period {
    /// At once.
    Immediately,
    /// Hours.
    Hours(u16),
    /// Calendar days.
    Days(u16),
    /// Days on which there is work: which ones is said by a calendar.
    BusinessDays(u16),
    /// Calendar months; what would end on a day that a month lacks ends on its last day.
    Months(u16),
    /// Calendar years.
    Years(u16),
}

/// No law counts further; calendars end.
const LONGEST: u16 = 1_000;

/// What was no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no period: write `immediately`, or a number and hours, days, business days, months or years"
)]
pub struct PeriodError(String);

impl Period {
    /// How many hours it takes from the beginning of this day. Business days take as many as they
    /// can take from any day of the week: a term that may be longer is never the stricter one.
    #[must_use]
    pub fn hours_from(self, day: Date) -> i64 {
        let until = |span: Span| {
            let end = day.saturating_add(span);
            24 * i64::from(day.until(end).map_or(0, |span| span.get_days()))
        };
        match self {
            Self::Immediately => 0,
            Self::Hours(hours) => i64::from(hours),
            Self::Days(days) => until(i64::from(days).days()),
            Self::BusinessDays(days) => {
                // Each started five of them meet a weekend.
                24 * i64::from(days + 2 * days.div_ceil(5))
            }
            Self::Months(months) => until(i64::from(months).months()),
            Self::Years(years) => until(i64::from(years).years()),
        }
    }

    /// Both, counted as one period of their unit; none where they have different ones. A month and
    /// two months from 31 January are three months, not two from the end of February.
    #[must_use]
    pub fn and(self, more: Self) -> Option<Self> {
        match (self, more) {
            (Self::Hours(one), Self::Hours(other)) => Some(Self::Hours(one.checked_add(other)?)),
            (Self::Days(one), Self::Days(other)) => Some(Self::Days(one.checked_add(other)?)),
            (Self::BusinessDays(one), Self::BusinessDays(other)) => {
                Some(Self::BusinessDays(one.checked_add(other)?))
            }
            (Self::Months(one), Self::Months(other)) => Some(Self::Months(one.checked_add(other)?)),
            (Self::Years(one), Self::Years(other)) => Some(Self::Years(one.checked_add(other)?)),
            _ => None,
        }
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let wrong = || PeriodError(text.to_owned());
        if text == "immediately" {
            return Ok(Self::Immediately);
        }
        let (number, unit) = text.split_once(' ').ok_or_else(wrong)?;
        let number: u16 = number.parse().map_err(|_| wrong())?;
        if number == 0 || number > LONGEST {
            return Err(wrong());
        }
        match unit.strip_suffix('s').unwrap_or(unit) {
            "hour" => Ok(Self::Hours(number)),
            "day" => Ok(Self::Days(number)),
            "business day" => Ok(Self::BusinessDays(number)),
            "month" => Ok(Self::Months(number)),
            "year" => Ok(Self::Years(number)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self {
            Self::Immediately => return f.write_str("immediately"),
            Self::Hours(number) => (number, "hour"),
            Self::Days(number) => (number, "day"),
            Self::BusinessDays(number) => (number, "business day"),
            Self::Months(number) => (number, "month"),
            Self::Years(number) => (number, "year"),
        };
        write!(f, "{number} {unit}{}", if *number == 1 { "" } else { "s" })
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        for text in ["immediately", "24 hours", "1 day", "15 business days", "1 month", "3 years"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "3",
            "0 days",
            "-1 days",
            "3 weeks",
            "1 fortnight",
            "3years",
            "70000 days",
            "1001 years",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_month_from_the_last_day_of_january_ends_with_february() {
        assert_eq!(Period::Months(1).hours_from(date(2027, 1, 31)), 28 * 24);
        assert_eq!(Period::Months(1).hours_from(date(2028, 1, 31)), 29 * 24);
        assert_eq!(Period::Years(1).hours_from(date(2028, 2, 29)), 365 * 24);
    }

    #[test]
    fn business_days_count_with_the_weekends_that_they_can_meet() {
        // From a Friday to a Monday; from a Wednesday to the Monday after; two weeks.
        assert_eq!(Period::BusinessDays(1).hours_from(date(2026, 11, 24)), 3 * 24);
        assert_eq!(Period::BusinessDays(3).hours_from(date(2026, 11, 24)), 5 * 24);
        assert_eq!(Period::BusinessDays(10).hours_from(date(2026, 11, 24)), 14 * 24);
    }
}
