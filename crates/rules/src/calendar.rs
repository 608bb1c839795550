//! How a jurisdiction counts days: its clock, its days without work, and what becomes of a term that
//! ends on one. It guarantees that a term has one last day and one moment at which it is over; which
//! term applies is left to the terms.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::holiday::Holiday;
use crate::period::Period;

/// How days are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// The zone of the tz database whose midnights end its days. Where a jurisdiction has several:
    /// one of them.
    pub zone: String,
    /// What becomes of a term of days, months or years that ends on a day without work.
    pub last_day: LastDay,
    /// What its holidays were compared with, an https address; none: with nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_on: Option<Date>,
    /// The last day for which the days that are set year by year are here; none: none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_until: Option<Date>,
    /// Public holidays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holidays: Vec<Holiday>,
    /// Whether a holiday on a Saturday or Sunday makes the next working day a day without work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub substitutes: bool,
    /// More days without work, which nothing is substituted for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days_off: Vec<Holiday>,
    /// Saturdays and Sundays on which is worked all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub worked: BTreeSet<Date>,
}

/// What becomes of a term that ends on a day without work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastDay {
    /// It ends on that day.
    Counts,
    /// It ends with the next working day (Regulation 1182/71, Article 3(4)).
    NextWorkingDay,
}

/// The end of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its last day, there.
    pub on: Date,
    /// The first moment after it.
    pub over_at: Timestamp,
}

impl Calendar {
    /// The end of a term that begins with something that happened at `from`: that day isn't counted
    /// (Regulation 1182/71, Article 3(1)). `Immediately` is over at once; hours are counted on the
    /// clock that has no summer time.
    #[must_use]
    pub fn end(&self, from: Timestamp, term: Period) -> End {
        let zone = zone(&self.zone).unwrap_or(TimeZone::UTC);
        let begin = from.to_zoned(zone.clone()).date();
        let after = |span: Span| self.last(begin.saturating_add(span));
        let on = match term {
            Period::Immediately => return End { on: begin, over_at: from },
            Period::Hours(hours) => {
                let hours = SignedDuration::from_hours(i64::from(hours));
                let over_at = from.checked_add(hours).unwrap_or(Timestamp::MAX);
                return End { on: over_at.to_zoned(zone).date(), over_at };
            }
            Period::Days(days) => after(i64::from(days).days()),
            // The 31st of a month that has none is its last day (Article 3(2)(c)).
            Period::Months(months) => after(i64::from(months).months()),
            Period::Years(years) => after(i64::from(years).years()),
            Period::BusinessDays(days) => {
                (0..days).fold(begin, |day, _| self.working_day_from(next(day)))
            }
        };
        // Midnight may not exist on a day on which summer time begins: then its first moment.
        let over_at = next(on).to_zoned(zone);
        End { on, over_at: over_at.map_or(Timestamp::MAX, |midnight| midnight.timestamp()) }
    }

    /// Whether there is work on this day.
    #[must_use]
    pub fn is_working_day(&self, day: Date) -> bool {
        if self.worked.contains(&day) {
            return true;
        }
        !is_weekend(day)
            && !self.days_off.iter().any(|off| off.is_on(day))
            && !self.holidays(day.year()).contains(&day)
    }

    /// The public holidays of a year, those instead of a Saturday or Sunday included.
    fn holidays(&self, year: i16) -> BTreeSet<Date> {
        // What is substituted for the last days of a year may lie in the next.
        let years = [year.saturating_sub(1), year];
        let mut days: BTreeSet<Date> = years
            .into_iter()
            .flat_map(|year| self.holidays.iter().filter_map(move |it| it.in_year(year)))
            .collect();
        if self.substitutes {
            let moved: Vec<Date> = days.iter().copied().filter(|day| is_weekend(*day)).collect();
            for day in moved {
                let mut instead = next(day);
                while is_weekend(instead) || days.contains(&instead) {
                    instead = next(instead);
                }
                days.insert(instead);
            }
        }
        days
    }

    fn last(&self, day: Date) -> Date {
        match self.last_day {
            LastDay::Counts => day,
            LastDay::NextWorkingDay => self.working_day_from(day),
        }
    }

    /// This day or the first working day after it. No calendar has a month without work.
    fn working_day_from(&self, day: Date) -> Date {
        let mut working = day;
        for _ in 0..31 {
            if self.is_working_day(working) {
                return working;
            }
            working = next(working);
        }
        day
    }
}

/// The zone of this name, in the release of the tz database that comes with Assent.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

fn is_weekend(day: Date) -> bool {
    matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}

fn next(day: Date) -> Date {
    day.tomorrow().unwrap_or(Date::MAX)
}

#[cfg(test)]
mod tests;
