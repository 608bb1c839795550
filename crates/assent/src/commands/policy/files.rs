//! A policy as files: `controller.toml`, `purposes/NAME.toml`, `notices/NAME/LANGUAGE.toml` and, where
//! people aren't kept for good, `retention.toml`. It
//! guarantees that what is written reads the same, and that a mistake is told with its file and
//! line; what makes a policy valid is left to the consent service.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assent_contracts::policy::{Notice, Policy, Purpose, Retention};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::outcome::Failure;

const CONTROLLER: &str = "controller.toml";
const PURPOSES: &str = "purposes";
const NOTICES: &str = "notices";
const RETENTION: &str = "retention.toml";

/// Reads the folder.
///
/// # Errors
/// With the file, and the line where there is one.
pub fn read(dir: &Path) -> Result<Policy, Failure> {
    for (path, name) in entries(dir)? {
        if ![CONTROLLER, PURPOSES, NOTICES, RETENTION].contains(&&*name) && !name.starts_with('.') {
            let expected =
                format!("expected {CONTROLLER}, {PURPOSES}, {NOTICES} and {RETENTION} here");
            return Err(Failure::file(&path, expected));
        }
    }
    let controller = parse(&dir.join(CONTROLLER))?;
    let mut purposes = BTreeMap::new();
    for (path, name) in entries(&dir.join(PURPOSES))? {
        let purpose: Purpose = parse(&path)?;
        if !purpose.notices.is_empty() {
            let place = format!("its notices belong into {NOTICES}/{}/LANGUAGE.toml", stem(&name));
            return Err(Failure::file(&path, place));
        }
        purposes.insert(toml_stem(&path, &name)?, purpose);
    }
    let notices = dir.join(NOTICES);
    for (path, name) in if notices.is_dir() { entries(&notices)? } else { Vec::new() } {
        let Some(purpose) = purposes.get_mut(&name) else {
            return Err(Failure::file(&path, format!("there is no {PURPOSES}/{name}.toml")));
        };
        for (path, language) in entries(&path)? {
            let notice: Notice = parse(&path)?;
            purpose.notices.insert(toml_stem(&path, &language)?, notice);
        }
    }
    let retention = dir.join(RETENTION);
    let retention = if retention.exists() { parse(&retention)? } else { Retention::default() };
    Ok(Policy { controller, purposes, retention })
}

/// Writes the folder, which must be new or empty; gives the number of files.
///
/// # Errors
/// When it isn't, or can't be written.
pub fn write(dir: &Path, policy: &Policy) -> Result<usize, Failure> {
    if dir.exists() && !entries(dir)?.is_empty() {
        return Err(Failure::file(dir, "the folder isn't empty"));
    }
    let mut files = vec![(dir.join(CONTROLLER), text(&policy.controller)?)];
    for (name, purpose) in &policy.purposes {
        let own = Purpose { notices: BTreeMap::new(), ..purpose.clone() };
        files.push((dir.join(PURPOSES).join(format!("{name}.toml")), text(&own)?));
        for (language, notice) in &purpose.notices {
            let path = dir.join(NOTICES).join(name).join(format!("{language}.toml"));
            files.push((path, text(notice)?));
        }
    }
    if !policy.retention.is_unlimited() {
        files.push((dir.join(RETENTION), text(&policy.retention)?));
    }
    for (path, text) in &files {
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, error))?;
        std::fs::write(path, text).map_err(|error| Failure::file(path, error))?;
    }
    Ok(files.len())
}

/// What is in a folder, by name.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    let failed = |error: std::io::Error| Failure::file(dir, error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        entries.extend(name.map(|name| (path, name)));
    }
    entries.sort_unstable();
    Ok(entries)
}

fn stem(name: &str) -> &str {
    name.strip_suffix(".toml").unwrap_or(name)
}

fn toml_stem(path: &Path, name: &str) -> Result<String, Failure> {
    match name.strip_suffix(".toml") {
        Some(stem) => Ok(stem.to_owned()),
        None => Err(Failure::file(path, "only .toml files belong here")),
    }
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        let at = line.map_or(String::new(), |line| format!("line {line}: "));
        Failure::file(path, format!("{at}{}", error.message()))
    })
}

fn text<T: Serialize>(value: &T) -> Result<String, Failure> {
    toml::to_string_pretty(value).map_err(|error| Failure::wrong_use(error.to_string()))
}

#[cfg(test)]
mod tests {
    use assent_contracts::policy::{Asking, Brand, Change, Controller, Party, Quiet};
    use assent_runtime::{Ids as _, SystemIds};
    use jiff::civil::{Weekday, date, time};

    use super::*;

    fn folder() -> PathBuf {
        std::env::temp_dir().join(format!("assent-policy-{}", SystemIds.v4()))
    }

    fn policy() -> Policy {
        let notice = |text: &str| Notice {
            text: text.to_owned(),
            rights: Some("Access, erasure.\nAnd more: \"quotes\".".to_owned()),
            ..Notice::default()
        };
        let purpose = Purpose {
            dpv: "dpv:DirectMarketing".to_owned(),
            lawful_basis: Default::default(),
            channels: vec!["whatsapp".to_owned()],
            data: vec!["phone".to_owned()],
            recipients: Vec::new(),
            validity_days: Some(1_095),
            lapses_after_days: Some(1_095),
            ask: Some(Asking {
                template: "renew".to_owned(),
                before_days: 30,
                again_after_days: 365,
            }),
            double_opt_in: true,
            quiet: Some(Quiet {
                from: time(21, 30, 0, 0),
                until: time(8, 0, 0, 0),
                days: vec![Weekday::Sunday],
                holidays: [("FR".to_owned(), vec![date(2026, 12, 25)])].into(),
                otherwise: "Europe/Paris".to_owned(),
            }),
            change: Change::Editorial,
            decided_by: Some("dpo".to_owned()),
            notices: [("en".to_owned(), notice("May we?")), ("fr".to_owned(), notice("Oui ?"))]
                .into(),
        };
        let party = Party { name: "Host".to_owned(), role: "hosting".to_owned(), country: None };
        let brand = Brand { sending_numbers: vec!["104".to_owned()] };
        Policy {
            controller: Controller {
                name: "Acme".to_owned(),
                languages: vec!["en".to_owned(), "fr".to_owned()],
                brands: [("acme".to_owned(), brand)].into(),
                processors: vec![party],
                ..Controller::default()
            },
            purposes: [("marketing".to_owned(), purpose)].into(),
            retention: Retention { idle_days: Some(1_095) },
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let dir = folder();
        assert_eq!(write(&dir, &policy()).unwrap(), 5);
        assert_eq!(read(&dir).unwrap(), policy());
        assert!(write(&dir, &policy()).is_err(), "nothing is written over");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_mistake_is_told_with_its_file_and_line() {
        let dir = folder();
        write(&dir, &policy()).unwrap();
        let failing = |path: &str, text: &str| {
            let whole = std::fs::read_to_string(dir.join(path)).ok();
            std::fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.join(path), text).unwrap();
            let message = read(&dir).unwrap_err().message;
            match whole {
                Some(whole) => std::fs::write(dir.join(path), whole).unwrap(),
                None => std::fs::remove_file(dir.join(path)).unwrap(),
            }
            message
        };
        let unknown = failing("purposes/marketing.toml", "dpv = \"x\"\nchanels = []\n");
        assert!(unknown.contains("marketing.toml: line 2: unknown field `chanels`"), "{unknown}");
        let other = failing("notices/news/en.toml", "text = \"x\"\n");
        assert!(other.contains("there is no purposes/news.toml"), "{other}");
        std::fs::remove_dir(dir.join("notices/news")).unwrap();
        assert!(failing("notes.txt", "x").contains("expected controller.toml"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
