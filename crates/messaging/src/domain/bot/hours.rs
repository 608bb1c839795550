//! When humans answer, by the clock of the place where they sit. It guarantees that a moment that is named
//! as the next opening lies ahead and is one.

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::Deserialize;

/// The next opening is looked for so many days ahead.
const HORIZON_DAYS: i64 = 60;

/// When humans answer.
#[derive(Debug, Clone)]
pub struct Hours {
    zone: TimeZone,
    file: HoursFile,
}

/// `[hours]`, as the file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoursFile {
    /// The time zone, such as `Europe/Paris`.
    zone: String,
    /// Days on which nobody answers.
    #[serde(default)]
    closed: Vec<Date>,
    /// The hours.
    open: Vec<Open>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    days: Vec<Day>,
    from: Time,
    until: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Day {
    const fn weekday(self) -> Weekday {
        match self {
            Self::Monday => Weekday::Monday,
            Self::Tuesday => Weekday::Tuesday,
            Self::Wednesday => Weekday::Wednesday,
            Self::Thursday => Weekday::Thursday,
            Self::Friday => Weekday::Friday,
            Self::Saturday => Weekday::Saturday,
            Self::Sunday => Weekday::Sunday,
        }
    }
}

/// Whether somebody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// Somebody does.
    Now,
    /// From then on, as the clock there shows it.
    From {
        /// The day.
        date: Date,
        /// The time.
        time: Time,
    },
    /// No opening is in sight.
    Someday,
}

impl Hours {
    /// These hours.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(file: HoursFile) -> Result<Self, String> {
        let zone = TimeZoneDatabase::bundled()
            .get(&file.zone)
            .map_err(|_| "hours.zone is a time zone, such as Europe/Paris".to_owned())?;
        if file.open.is_empty() || file.open.iter().any(|it| it.days.is_empty()) {
            return Err(
                "hours.open names days and hours; without [hours] somebody is always there"
                    .to_owned(),
            );
        }
        if file.open.iter().any(|it| it.from >= it.until) {
            return Err("hours.open.until is later than from, on the same day".to_owned());
        }
        Ok(Self { zone, file })
    }

    /// The zone's name.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.file.zone
    }

    /// Whether somebody answers at this moment.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Answered {
        let local = self.zone.to_datetime(now);
        let mut date = local.date();
        for _ in 0..HORIZON_DAYS {
            let today = date == local.date();
            let mut opens: Option<Time> = None;
            for it in self.of(date) {
                if today && it.from <= local.time() {
                    if local.time() < it.until {
                        return Answered::Now;
                    }
                } else if opens.is_none_or(|first| it.from < first) {
                    opens = Some(it.from);
                }
            }
            if let Some(time) = opens {
                return Answered::From { date, time };
            }
            let Ok(tomorrow) = date.tomorrow() else { break };
            date = tomorrow;
        }
        Answered::Someday
    }

    fn of(&self, date: Date) -> impl Iterator<Item = &Open> {
        let closed = self.file.closed.contains(&date);
        let is_open =
            move |it: &&Open| !closed && it.days.iter().any(|day| day.weekday() == date.weekday());
        self.file.open.iter().filter(is_open)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};

    use super::*;

    fn hours(text: &str) -> Result<Hours, String> {
        Hours::new(toml::from_str(text).map_err(|error| error.to_string())?)
    }

    fn shop() -> Hours {
        hours(
            r#"zone = "Europe/Paris"
            closed = ["2026-11-30"]
            open = [{ days = ["monday", "tuesday", "friday"], from = "09:00", until = "12:00" },
                    { days = ["monday", "friday"], from = "14:00", until = "18:00" }]"#,
        )
        .unwrap()
    }

    fn at(text: &str) -> Answered {
        shop().at(text.parse().unwrap())
    }

    #[test]
    fn the_next_opening_is_told_by_the_clock_of_the_place() {
        // A Friday in winter: Paris is an hour ahead.
        assert_eq!(at("2026-11-27T08:00:00Z"), Answered::Now);
        let friday = date(2026, 11, 27);
        let opens = |date, hour| Answered::From { date, time: time(hour, 0, 0, 0) };
        assert_eq!(at("2026-11-27T07:59:59Z"), opens(friday, 9));
        assert_eq!(at("2026-11-27T11:00:00Z"), opens(friday, 14));
        assert_eq!(at("2026-11-27T12:59:59Z"), opens(friday, 14));
        // Monday is closed.
        assert_eq!(at("2026-11-27T17:00:00Z"), opens(date(2026, 12, 1), 9));
    }

    #[test]
    fn hours_that_are_none_are_refused() {
        for (text, fault) in [
            ("zone = \"Paris\"\nopen = []", "hours.zone"),
            ("zone = \"Europe/Paris\"\nopen = []", "hours.open names"),
            (
                "zone = \"Europe/Paris\"\nopen = [{days = [\"monday\"], from = \"18:00\", until = \"09:00\"}]",
                "hours.open.until",
            ),
        ] {
            let refused = hours(text).unwrap_err();
            assert!(refused.starts_with(fault), "{refused}");
        }
    }
}
