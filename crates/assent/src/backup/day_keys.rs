//! The keys that backups of key stores are sealed under: one per day, which ends. It guarantees that a backup
//! opens for no longer than certificates promise, whenever on its day it was made; that a deleted file leaves
//! the disk that it was on is left to the disk.

use std::path::{Path, PathBuf};

use assent_runtime::SystemIds;
use assent_sealing::{DataKey, FileKek};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::data_key;
use crate::outcome::Failure;

/// When a day's key ends: `days` after the day began, in UTC. Whoever is erased on that day is promised `days`
/// from then on, which is later.
///
/// # Errors
/// When there is no such moment.
pub fn end_of(day: Date, days: u16) -> Result<Timestamp, Failure> {
    let end = day.checked_add(Span::new().days(days)).and_then(|it| it.to_zoned(TimeZone::UTC));
    end.map(|it| it.timestamp()).map_err(|error| Failure::wrong_use(error.to_string()))
}

/// The day of a moment, in UTC.
#[must_use]
pub fn day_of(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

/// The file of a day's key.
#[must_use]
pub fn file(dir: &Path, day: Date) -> PathBuf {
    dir.join(format!("{day}.key"))
}

/// The key of a day, made if it isn't there.
///
/// # Errors
/// When its file can't be used.
pub fn of_day(dir: &Path, day: Date) -> Result<DataKey, Failure> {
    let path = file(dir, day);
    if !path.exists() {
        FileKek::generate(&path, &SystemIds)
            .map_err(|error| Failure::wrong_use(error.to_string()))?;
    }
    data_key(&path)
}

/// Deletes the keys of days that have ended. Gives the days.
///
/// # Errors
/// When the folder can't be read, or a key can't be deleted.
pub fn end(dir: &Path, days: u16, now: Timestamp) -> Result<Vec<Date>, Failure> {
    let mut ended = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| Failure::file(dir, error))? {
        let path = entry.map_err(|error| Failure::file(dir, error))?.path();
        let Some(day) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".key")?.parse::<Date>().ok())
        else {
            continue;
        };
        if end_of(day, days)? <= now {
            std::fs::remove_file(&path).map_err(|error| Failure::file(&path, error))?;
            ended.push(day);
        }
    }
    if !ended.is_empty() {
        let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| Failure::file(dir, error))?;
    }
    ended.sort_unstable();
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_ends_no_later_than_who_was_erased_after_it_is_promised() {
        for made in ["2026-11-27T00:00:00Z", "2026-11-27T12:00:00Z", "2026-11-27T23:59:59Z"] {
            let made: Timestamp = made.parse().unwrap();
            for days in [1, 7, 365] {
                let end = end_of(day_of(made), days).unwrap();
                // Erased at once after it was made.
                let promised = made + jiff::SignedDuration::from_hours(24 * i64::from(days));
                assert!(end <= promised && end > made, "{made} {days}");
            }
        }
    }

    #[test]
    fn keys_of_ended_days_are_deleted_and_others_stay() {
        let dir = std::env::temp_dir().join(format!("assent_days_{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let day = |text: &str| text.parse::<Date>().unwrap();
        for it in ["2026-11-19", "2026-11-20", "2026-11-21"] {
            of_day(&dir, day(it)).unwrap();
        }
        std::fs::write(dir.join("notes.txt"), "mine").unwrap();
        let ended = end(&dir, 7, "2026-11-27T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(ended, [day("2026-11-19"), day("2026-11-20")]);
        assert!(file(&dir, day("2026-11-21")).exists() && dir.join("notes.txt").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
