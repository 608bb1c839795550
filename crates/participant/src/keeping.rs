//! For how long what keeps somebody out after she has gone is kept (keyed hashes of her numbers, with a date on which
//! they are destroyed), and for how long evidence that a dispute may want. It guarantees that every service reads the
//! same terms, none shorter than laws ask for; ending what is over is each service's.

use assent_runtime::Settings;
use jiff::{SignedDuration, Timestamp};

/// Ten years: more than three times what any rule of law that comes with Assent asks for, since what ends too early
/// writes to somebody who said no, and what ends later writes to nobody.
const SUPPRESSION_DAYS: u32 = 3_650;
/// France wants lists of opposition kept for three years (CNIL; `fr.toml`), one of which may have a day more.
const SUPPRESSION_DAYS_MIN: u32 = 1_096;
/// Five years with their leap days: the ordinary term of limitation in France (Code civil, Article 2224). It begins when
/// who claims knew or should have known the facts, so a claim may be possible for longer: a choice, as the ten years are.
const EVIDENCE_DAYS: u32 = 1_827;
/// Russia wants records of destruction for three years, California records of requests for two.
const EVIDENCE_DAYS_MIN: u32 = 1_096;
/// How long something may outlive its term before somebody is told: it is looked every hour.
const LATE: SignedDuration = SignedDuration::from_hours(24);

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Days since the last reason to keep somebody out.
    pub suppression_days: u32,
    /// Days since a verdict was given, or a claim of a consent decided.
    pub evidence_days: u32,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { suppression_days: SUPPRESSION_DAYS, evidence_days: EVIDENCE_DAYS }
    }
}

impl Keeping {
    /// Reads `[retention] suppression_days, evidence_days`; errors are recorded in the settings.
    #[must_use]
    pub fn read(settings: &Settings) -> Self {
        let section = settings.section("retention");
        let suppression_days = section.default("suppression_days", SUPPRESSION_DAYS);
        if suppression_days < SUPPRESSION_DAYS_MIN {
            section.invalid(
                "suppression_days",
                "must be at least 1096: laws want lists of opposition kept for three years",
            );
        }
        let evidence_days = section.default("evidence_days", EVIDENCE_DAYS);
        if evidence_days < EVIDENCE_DAYS_MIN {
            section.invalid(
                "evidence_days",
                "must be at least 1096: laws want records kept for three years",
            );
        }
        Self { suppression_days, evidence_days }
    }

    /// By when what is kept since `at` is destroyed, the time in which it is looked for included; none: no calendar
    /// reaches as far.
    #[must_use]
    pub fn suppression_until(self, at: Timestamp) -> Option<Timestamp> {
        until(self.suppression_days, at)
    }

    /// Likewise of evidence that is no younger than `at`, while the use of nobody's data whom it names is restricted.
    #[must_use]
    pub fn evidence_until(self, at: Timestamp) -> Option<Timestamp> {
        until(self.evidence_days, at)
    }

    /// What was recorded before this is kept no longer when it is so many days.
    #[must_use]
    pub fn over(kept_days: u32, now: Timestamp) -> Timestamp {
        // Nobody was here before; Postgres knows no times as old as a year of millions would give.
        let before = now.checked_sub(days(kept_days)).unwrap_or(Timestamp::UNIX_EPOCH);
        before.max(Timestamp::UNIX_EPOCH)
    }

    /// What was recorded before this should have gone more than a day ago when it is so many days.
    #[must_use]
    pub fn overdue(kept_days: u32, now: Timestamp) -> Timestamp {
        Self::over(kept_days, now.checked_sub(LATE).unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

fn until(kept_days: u32, at: Timestamp) -> Option<Timestamp> {
    at.checked_add(days(kept_days)).ok()?.checked_add(LATE).ok()
}

fn days(days: u32) -> SignedDuration {
    SignedDuration::from_hours(24 * i64::from(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_certified_to_end_is_overdue_only_after_its_date() {
        let at: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let keeping = Keeping { suppression_days: 1_095, evidence_days: 1_095 };
        let until = keeping.suppression_until(at).unwrap();
        assert_eq!(keeping.evidence_until(at), Some(until));
        let day: Timestamp = "2029-11-27T12:00:00Z".parse().unwrap();
        assert_eq!(until, day);
        assert_eq!(Keeping::overdue(1_095, until), at, "not before it");
        assert!(Keeping::overdue(1_095, until + SignedDuration::from_secs(1)) > at);
        assert!(Keeping::over(1_095, until) > at, "and gone before it");
    }

    #[test]
    fn a_term_without_end_has_no_date_and_ends_nothing() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let keeping = Keeping { suppression_days: u32::MAX, ..Keeping::default() };
        assert_eq!(keeping.suppression_until(now), None);
        assert_eq!(Keeping::over(u32::MAX, now), Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn a_term_shorter_than_laws_ask_for_is_refused() {
        let settings = |text: &str| Settings::from_parts(text, []).unwrap();
        for term in ["suppression_days", "evidence_days"] {
            let short = settings(&format!("[retention]\n{term} = 1095\n"));
            let _ = Keeping::read(&short);
            assert!(short.finish().is_err(), "{term}");
        }
        let unset = settings("");
        assert_eq!(Keeping::read(&unset), Keeping::default());
        assert!(unset.finish().is_ok());
    }
}
