//! A public holiday as a rule file writes it: `05-01`, `2026-12-31`, `easter +39`, `first monday of
//! may`, `fourth thursday of november +1`.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan as _;
use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

/// When it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Holiday {
    text: String,
    rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Every year.
    Yearly { month: i8, day: i8 },
    /// That day only.
    Once(Date),
    /// So many days after Easter Sunday.
    Easter { days: i16 },
    /// So many days after the nth such weekday of a month; -1 is the last.
    Weekday { nth: i8, weekday: Weekday, month: i8, days: i16 },
}

/// What was no holiday.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no holiday: write `05-01`, `2026-12-31`, `easter +39`, or `last monday of may`, with `+1` behind it for the day after"
)]
pub struct HolidayError(String);

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const NTHS: [(&str, i8); 5] =
    [("first", 1), ("second", 2), ("third", 3), ("fourth", 4), ("last", -1)];
const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

impl Holiday {
    /// Its day in this year, where it has one.
    #[must_use]
    pub fn in_year(&self, year: i16) -> Option<Date> {
        let moved = |day: Date, days: i16| day.checked_add(i64::from(days).days()).ok();
        match self.rule {
            Rule::Yearly { month, day } => Date::new(year, month, day).ok(),
            Rule::Once(day) => (day.year() == year).then_some(day),
            Rule::Easter { days } => moved(easter(year)?, days),
            Rule::Weekday { nth, weekday, month, days } => {
                let month = Date::new(year, month, 1).ok()?;
                moved(month.nth_weekday_of_month(nth, weekday).ok()?, days)
            }
        }
    }

    /// Whether it is on this day.
    #[must_use]
    pub fn is_on(&self, day: Date) -> bool {
        self.in_year(day.year()) == Some(day)
    }
}

/// Easter Sunday of the Gregorian calendar (the anonymous algorithm; Meeus, Astronomical Algorithms,
/// chapter 8).
fn easter(year: i16) -> Option<Date> {
    let year_number = i32::from(year);
    let golden = year_number % 19;
    let (century, rest) = (year_number / 100, year_number % 100);
    let correction = (century - (century + 8) / 25 + 1) / 3;
    let epact = (19 * golden + century - century / 4 - correction + 15) % 30;
    let weekday = (32 + 2 * (century % 4) + 2 * (rest / 4) - epact - rest % 4) % 7;
    let late = (golden + 11 * epact + 22 * weekday) / 451;
    let days = epact + weekday - 7 * late + 114;
    Date::new(year, i8::try_from(days / 31).ok()?, i8::try_from(days % 31 + 1).ok()?).ok()
}

impl FromStr for Holiday {
    type Err = HolidayError;

    fn from_str(text: &str) -> Result<Self, HolidayError> {
        let rule = rule(text).ok_or_else(|| HolidayError(text.to_owned()))?;
        Ok(Self { text: text.to_owned(), rule })
    }
}

fn rule(text: &str) -> Option<Rule> {
    if let Some((month, day)) = text.split_once('-').filter(|_| text.len() == 5) {
        let (month, day) = (month.parse().ok()?, day.parse().ok()?);
        // A leap year has every day that a year can have.
        return Date::new(2028, month, day).ok().map(|_| Rule::Yearly { month, day });
    }
    if let Ok(day) = text.parse::<Date>() {
        return Some(Rule::Once(day));
    }
    let words: Vec<&str> = text.split(' ').collect();
    let days = |word: &str| word.parse::<i16>().ok().filter(|days| days.abs() <= 100);
    if let ["easter", moved] = words[..] {
        return Some(Rule::Easter { days: days(moved)? });
    }
    let [nth, weekday, "of", month, ref moved @ ..] = words[..] else { return None };
    let days = match moved {
        [] => 0,
        [moved] => days(moved)?,
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    Some(Rule::Weekday {
        nth: NTHS.iter().find(|(name, _)| *name == nth)?.1,
        weekday: WEEKDAYS.iter().find(|(name, _)| *name == weekday)?.1,
        month: i8::try_from(month + 1).ok()?,
        days,
    })
}

impl fmt::Display for Holiday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Holiday {
    type Error = HolidayError;

    fn try_from(text: String) -> Result<Self, HolidayError> {
        text.parse()
    }
}

impl From<Holiday> for String {
    fn from(holiday: Holiday) -> Self {
        holiday.text
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_holiday_is_on_its_day_of_each_year() {
        for (text, year, day) in [
            ("05-01", 2026, date(2026, 5, 1)),
            ("2026-12-31", 2026, date(2026, 12, 31)),
            ("easter +0", 2026, date(2026, 4, 5)),
            ("easter +1", 2024, date(2024, 4, 1)),
            ("easter -2", 2027, date(2027, 3, 26)),
            ("easter +39", 2026, date(2026, 5, 14)),
            // The latest that there can be, and one of the earliest.
            ("easter +0", 2038, date(2038, 4, 25)),
            ("easter +0", 2285, date(2285, 3, 22)),
            ("last monday of may", 2026, date(2026, 5, 25)),
            ("third monday of january", 2026, date(2026, 1, 19)),
            ("fourth thursday of november +1", 2026, date(2026, 11, 27)),
        ] {
            let holiday: Holiday = text.parse().unwrap();
            assert_eq!(holiday.in_year(year), Some(day), "{text}");
            assert!(holiday.is_on(day), "{text}");
            assert_eq!(holiday.to_string(), text);
        }
        let once: Holiday = "2026-12-31".parse().unwrap();
        assert_eq!(once.in_year(2027), None);
        let leap: Holiday = "02-29".parse().unwrap();
        assert_eq!(leap.in_year(2027), None);
    }

    #[test]
    fn what_is_no_holiday_is_refused() {
        for text in [
            "",
            "02-30",
            "13-01",
            "1-1",
            "easter",
            "easter monday",
            "easter +500",
            "fifth monday of may",
            "first monday of",
            "first monday of may +1 +1",
        ] {
            assert!(text.parse::<Holiday>().is_err(), "{text}");
        }
    }
}
