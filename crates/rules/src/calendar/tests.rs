//! Trap 14: month ends, holidays, summer time. Each row is a receipt, a term and the day it ends on.

use jiff::civil::date;

use super::*;

/// The calendar of a file that comes with Assent.
fn calendar(id: &str) -> Calendar {
    let set = crate::RuleSet::shipped().unwrap();
    set.files().find(|file| file.id == id).unwrap().calendar.clone().unwrap()
}

fn ends(id: &str, received: &str, term: &str) -> (String, String) {
    let end = calendar(id).end(received.parse().unwrap(), term.parse().unwrap());
    (end.on.to_string(), end.over_at.to_string())
}

fn last_day(id: &str, received: &str, term: &str) -> String {
    ends(id, received, term).0
}

#[test]
fn trap_14_a_month_that_lacks_the_day_ends_on_its_last() {
    for (received, term, last) in [
        ("2029-01-31T10:00:00Z", "1 month", "2029-02-28"),
        ("2028-01-31T10:00:00Z", "1 month", "2028-02-29"),
        ("2026-03-31T10:00:00Z", "1 month", "2026-04-30"),
        ("2026-12-31T10:00:00Z", "3 months", "2027-03-31"),
        ("2028-02-29T10:00:00Z", "1 year", "2029-02-28"),
    ] {
        assert_eq!(last_day("fr", received, term), last, "{received} + {term}");
    }
}

#[test]
fn trap_14_a_term_that_ends_on_a_day_without_work_ends_with_the_next_working_day() {
    for (id, received, term, last) in [
        // 31 January 2026 + 1 month is a Saturday.
        ("fr", "2026-01-31T10:00:00Z", "1 month", "2026-03-02"),
        // The First of May, a Friday: a holiday in France, none in the Netherlands.
        ("fr", "2026-04-01T10:00:00Z", "1 month", "2026-05-04"),
        ("nl", "2026-04-01T10:00:00Z", "1 month", "2026-05-01"),
        // The 25th of December is a Friday; the 26th isn't moved in France and is in England.
        ("fr", "2026-11-25T10:00:00Z", "1 month", "2026-12-28"),
        ("uk", "2026-11-25T10:00:00Z", "1 month", "2026-12-29"),
        // Easter Monday.
        ("de", "2026-03-06T10:00:00Z", "1 month", "2026-04-07"),
        // California's calendar days end where they end: on a Sunday.
        ("us-ca", "2026-10-15T18:00:00Z", "45 days", "2026-11-29"),
    ] {
        assert_eq!(last_day(id, received, term), last, "{id}: {received} + {term}");
    }
}

#[test]
fn trap_14_business_days_leave_out_weekends_and_the_holidays_of_that_place() {
    for (id, received, term, last) in [
        // Thanksgiving and the day after it.
        ("us-ca", "2026-11-23T18:00:00Z", "10 business days", "2026-12-08"),
        ("us-ca", "2026-11-24T02:00:00Z", "10 business days", "2026-12-08"),
        ("us-ca", "2026-07-02T18:00:00Z", "1 business day", "2026-07-03"),
        // The New Year of Russia, with what the government moved: 31 December 2025 to 11 January 2026.
        ("ru", "2025-12-30T09:00:00Z", "1 business day", "2026-01-12"),
        ("ru", "2026-12-29T09:00:00Z", "2 business days", "2027-01-11"),
        // 8 March 2026 is a Sunday: Monday is free instead.
        ("ru", "2026-03-06T09:00:00Z", "1 business day", "2026-03-10"),
        ("ru", "2026-11-26T09:00:00Z", "10 business days", "2026-12-10"),
    ] {
        assert_eq!(last_day(id, received, term), last, "{id}: {received} + {term}");
    }
}

#[test]
fn trap_14_a_term_ends_with_the_day_there_also_when_the_clock_was_changed() {
    for (id, received, term, last, over_at) in [
        // Received in winter, over in summer, and the other way round.
        ("fr", "2026-03-16T10:00:00Z", "1 month", "2026-04-16", "2026-04-16T22:00:00Z"),
        ("fr", "2026-10-12T10:00:00Z", "1 month", "2026-11-12", "2026-11-12T23:00:00Z"),
        // 23:30 UTC on the last of January is February in Paris.
        ("fr", "2027-01-31T23:30:00Z", "1 month", "2027-03-01", "2027-03-01T23:00:00Z"),
        // A day in California is longer by eight hours.
        ("us-ca", "2026-11-27T03:00:00Z", "45 days", "2027-01-10", "2027-01-11T08:00:00Z"),
    ] {
        let (on, over) = ends(id, received, term);
        assert_eq!((on.as_str(), over.as_str()), (last, over_at), "{id}: {received} + {term}");
    }
}

#[test]
fn trap_14_a_midnight_that_summer_time_skipped_is_the_first_moment_of_the_day() {
    // Santiago goes from 23:59:59 on 5 September 2026 to 01:00 on the 6th.
    let chile = Calendar { zone: "America/Santiago".to_owned(), ..calendar("br") };
    let end = chile.end("2026-08-26T15:00:00Z".parse().unwrap(), Period::Days(10));
    assert_eq!(
        (end.on, end.over_at.to_string().as_str()),
        (date(2026, 9, 5), "2026-09-06T04:00:00Z")
    );
}

#[test]
fn hours_are_hours_and_at_once_is_now() {
    let received: Timestamp = "2026-03-28T20:00:00Z".parse().unwrap();
    let paris = calendar("fr");
    // The night has 23 hours on the clock and 24 hours are 24 hours.
    let end = paris.end(received, Period::Hours(24));
    assert_eq!(end.over_at.to_string(), "2026-03-29T20:00:00Z");
    assert_eq!(paris.end(received, Period::Immediately).over_at, received);
}

#[test]
fn what_rests_on_nothing_or_ends_within_a_year_is_named() {
    let doubts = |on: &str| {
        let doubts = crate::RuleSet::shipped().unwrap().doubts(on.parse().unwrap());
        doubts.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let ends = "ru.toml: its calendar is complete until 2026-12-31 only".to_owned();
    assert!(doubts("2026-01-01").contains(&ends));
    assert!(!doubts("2025-12-31").contains(&ends), "a year is enough");
    let nothing = "uk.toml: its holidays were compared with nothing".to_owned();
    assert!(doubts("2025-01-01").iter().all(|doubt| !doubt.ends_with("compared with nothing")));
    let compared = |line: &&str| {
        line.starts_with("compared_on")
            || line.starts_with("source = \"https://www.legislation.gov.uk/ukpga/1971/")
    };
    let uk = include_str!("../../rules/uk.toml").lines().filter(|line| !compared(line));
    let uk: String = uk.map(|line| format!("{line}\n")).collect();
    let mut set = crate::RuleSet::shipped().unwrap();
    set.add("uk", &uk, Some(include_str!("../../rules/uk.examples.toml"))).unwrap();
    let doubts = set.doubts("2025-01-01".parse().unwrap());
    assert!(doubts.iter().any(|doubt| doubt.to_string() == nothing), "{doubts:?}");
}

#[test]
fn a_saturday_that_was_made_a_working_day_counts() {
    let mut russia = calendar("ru");
    russia.worked.insert(date(2026, 11, 28));
    let end = russia.end("2026-11-26T09:00:00Z".parse().unwrap(), Period::BusinessDays(2));
    assert_eq!(end.on, date(2026, 11, 28));
}

#[test]
fn a_day_more_of_holiday_never_makes_a_term_end_sooner() {
    let mut calendar = calendar("fr");
    let terms = [Period::Months(1), Period::Days(45), Period::BusinessDays(10)];
    let begin: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let days = (0..366).map(|day| begin.saturating_add((24 * day).hours()).unwrap());
    let all: Vec<_> = days.flat_map(|day| terms.map(|term| (day, term))).collect();
    let before: Vec<End> = all.iter().map(|(day, term)| calendar.end(*day, *term)).collect();
    calendar.holidays.push("06-15".parse().unwrap());
    for ((day, term), before) in all.iter().zip(before) {
        assert!(calendar.end(*day, *term).over_at >= before.over_at, "{day} + {term}");
        assert!(before.over_at > *day);
    }
}
