//! All rule files together. It guarantees that a set without faults has one answer to every
//! question on every day, and that its hash changes with whatever it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::ToSpan as _;
use jiff::civil::Date;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::calendar::zone;
use crate::examples::Examples;
use crate::file::{Reach, Rule, RuleFile, Value};

macro_rules! shipped {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../rules/", $name, ".toml")),
            include_str!(concat!("../rules/", $name, ".examples.toml")),
        )
    };
}
/// What comes with Assent: the files, and their examples.
const SHIPPED: [(&str, &str, &str); 13] = [
    shipped!("be"),
    shipped!("br"),
    shipped!("de"),
    shipped!("es"),
    shipped!("eu"),
    shipped!("fr"),
    shipped!("in"),
    shipped!("it"),
    shipped!("nl"),
    shipped!("ru"),
    shipped!("uk"),
    shipped!("us-ca"),
    shipped!("whatsapp"),
];

/// Rule files by their id, with their examples.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    files: BTreeMap<String, (RuleFile, Examples)>,
}

/// What is wrong with a set, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, with the line where there is one: `fr.toml:12`.
    pub at: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.reason)
    }
}

impl RuleSet {
    /// The rules that come with Assent.
    ///
    /// # Errors
    /// Never: a test reads them.
    pub fn shipped() -> Result<Self, Vec<Fault>> {
        let mut set = Self::default();
        let mut faults = Vec::new();
        for (name, rules, examples) in SHIPPED {
            faults.extend(set.add(name, rules, Some(examples)).err().into_iter().flatten());
        }
        faults.extend(set.faults());
        if faults.is_empty() { Ok(set) } else { Err(faults) }
    }

    /// Adds a file; one of the same id is replaced by it.
    ///
    /// # Errors
    /// What is wrong with it by itself; then nothing is added.
    pub fn add(
        &mut self,
        name: &str,
        rules: &str,
        examples: Option<&str>,
    ) -> Result<(), Vec<Fault>> {
        let file_name = format!("{name}.toml");
        let file: RuleFile = parse(&file_name, rules)?;
        let own = format!("{name}.examples.toml");
        let Some(examples) = examples else {
            let reason = format!("{file_name} has no examples beside it");
            return Err(vec![Fault { at: own, reason }]);
        };
        let examples: Examples = parse(&own, examples)?;
        let faults: Vec<Fault> = file_faults(name, &file, &examples)
            .into_iter()
            .map(|reason| Fault { at: file_name.clone(), reason })
            .collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        self.files.insert(file.id.clone(), (file, examples));
        Ok(())
    }

    /// What is wrong with the files together.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
        for file in self.files() {
            let mut fault = |reason: String| {
                faults.push(Fault { at: format!("{}.toml", file.id), reason });
            };
            if let Some(general) = &file.refines {
                match self.files.get(general) {
                    None => fault(format!("it refines `{general}`, which isn't there")),
                    Some((it, _)) if it.refines.is_some() => {
                        fault(format!("`{general}` refines another one itself"));
                    }
                    Some(_) => {}
                }
            }
            for rule in &file.rules {
                if let Some(other) = ids.insert(&rule.id, &file.id) {
                    fault(format!("rule `{}` is in {other}.toml too", rule.id));
                }
            }
        }
        faults
    }

    /// What its dates rest on that nobody has compared with a source, and the calendars whose days aren't
    /// known for a whole year from `on`, in words. None of it is a fault.
    #[must_use]
    pub fn doubts(&self, on: Date) -> Vec<Fault> {
        let horizon = on.saturating_add(1.year());
        let mut doubts = Vec::new();
        for file in self.files() {
            let mut doubt = |reason: String| {
                doubts.push(Fault { at: format!("{}.toml", file.id), reason });
            };
            if let Some(calendar) = &file.calendar {
                if calendar.source.is_none() && !calendar.holidays.is_empty() {
                    doubt("its holidays were compared with nothing".to_owned());
                }
                if let Some(until) = calendar.complete_until.filter(|until| *until < horizon) {
                    doubt(format!("its calendar is complete until {until} only"));
                }
            }
            if file.authority.as_ref().is_some_and(|it| it.compared_on.is_none()) {
                doubt("nobody has looked whether its authority takes complaints there".to_owned());
            }
        }
        doubts
    }

    /// The files, by id.
    pub fn files(&self) -> impl Iterator<Item = &RuleFile> {
        self.files.values().map(|(file, _)| file)
    }

    /// The files with their examples.
    pub(crate) fn with_examples(&self) -> impl Iterator<Item = (&RuleFile, &Examples)> {
        self.files.values().map(|(file, examples)| (file, examples))
    }

    /// SHA-256 over the JSON of the files with sorted keys, one line each, hex.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut digest = Sha256::new();
        for file in self.files() {
            // Objects of `Value` are maps that are sorted by key.
            let json = serde_json::to_value(file).unwrap_or_default().to_string();
            digest.update(json.as_bytes());
            digest.update(b"\n");
        }
        digest.finalize().iter().fold(String::new(), |mut hex, byte| {
            use fmt::Write as _;
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// A difference between two sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A rule is new.
    Added {
        /// Its jurisdiction.
        jurisdiction: String,
        /// The rule.
        rule: Rule,
    },
    /// A rule is gone.
    Removed {
        /// Its jurisdiction.
        jurisdiction: String,
        /// The rule.
        rule: Rule,
    },
    /// A rule is another.
    Changed {
        /// Its jurisdiction.
        jurisdiction: String,
        /// What it was.
        before: Rule,
        /// What it is.
        after: Rule,
    },
    /// A jurisdiction has another name, reach, general law, calendar or authority.
    Jurisdiction {
        /// Which.
        jurisdiction: String,
    },
}

/// What makes `after` different from `before`, by rule.
#[must_use]
pub fn difference(before: &RuleSet, after: &RuleSet) -> Vec<Change> {
    let rules = |set: &RuleSet| -> BTreeMap<(String, String), Rule> {
        set.files()
            .flat_map(|file| {
                file.rules.iter().map(|rule| ((file.id.clone(), rule.id.clone()), rule.clone()))
            })
            .collect()
    };
    let heads = |set: &RuleSet| -> BTreeMap<String, RuleFile> {
        let head = |file: &RuleFile| RuleFile { rules: Vec::new(), ..file.clone() };
        set.files().map(|file| (file.id.clone(), head(file))).collect()
    };
    let (old_heads, new_heads) = (heads(before), heads(after));
    let mut changes: Vec<Change> = new_heads
        .iter()
        .filter(|(id, head)| old_heads.get(*id).is_some_and(|old| old != *head))
        .map(|(id, _)| Change::Jurisdiction { jurisdiction: id.clone() })
        .collect();
    let (old, new) = (rules(before), rules(after));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let jurisdiction = key.0.clone();
        match (old.get(key), new.get(key)) {
            (None, Some(rule)) => changes.push(Change::Added { jurisdiction, rule: rule.clone() }),
            (Some(rule), None) => {
                changes.push(Change::Removed { jurisdiction, rule: rule.clone() });
            }
            (Some(before), Some(after)) if before != after => changes.push(Change::Changed {
                jurisdiction,
                before: before.clone(),
                after: after.clone(),
            }),
            _ => {}
        }
    }
    changes
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, Vec<Fault>> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        let at = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        vec![Fault { at, reason: error.message().to_owned() }]
    })
}

/// What is wrong with a file that reads well.
fn file_faults(name: &str, file: &RuleFile, examples: &Examples) -> Vec<String> {
    let mut faults = Vec::new();
    if file.id != name {
        faults.push(format!("its id is `{}`, so it must be named {}.toml", file.id, file.id));
    }
    match &file.reach {
        Reach::Always if file.refines.is_some() => {
            faults.push("what applies always makes no other law specific".to_owned());
        }
        Reach::SeatOrPerson(places) | Reach::Person(places) if places.is_empty() => {
            faults.push("it reaches nobody: name a place".to_owned());
        }
        _ => {}
    }
    if examples.examples.is_empty() {
        faults.push("at least one example is needed beside it".to_owned());
    }
    if let Some(calendar) = &file.calendar {
        if zone(&calendar.zone).is_none() {
            faults.push(format!("`{}` is no time zone", calendar.zone));
        }
        if calendar.source.as_ref().is_some_and(|source| !source.starts_with("https://")) {
            faults.push("the source of its calendar is no https address".to_owned());
        }
        if calendar.source.is_some() != calendar.compared_on.is_some() {
            faults.push(
                "its calendar has a source and the day of the comparison, or neither".to_owned(),
            );
        }
    }
    if let Some(authority) = &file.authority
        && (authority.name.as_ref().is_some_and(|name| name.trim().is_empty())
            || !authority.address.starts_with("https://"))
    {
        faults.push("its authority has an empty name, or no https address".to_owned());
    }
    for rule in &file.rules {
        let Rule { id, article, says, from, until, source, value } = rule;
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            faults.push(format!("`{id}` is no id: letters, digits and hyphens"));
        }
        if article.trim().is_empty() || says.trim().is_empty() {
            faults.push(format!("rule `{id}` names no article, or says nothing"));
        }
        if !source.starts_with("https://") {
            faults.push(format!("the source of rule `{id}` is no https address"));
        }
        if until.is_some_and(|until| until <= *from) {
            faults.push(format!("rule `{id}` ends before it begins"));
        }
        if let Value::ConsentAge(years) | Value::NoTargetingBelow(years) = value
            && !(1..=21).contains(years)
        {
            faults.push(format!("rule `{id}`: an age between 1 and 21 years is expected"));
        }
    }
    for (index, one) in file.rules.iter().enumerate() {
        for other in &file.rules[index + 1..] {
            let apart = one.until.is_some_and(|until| until <= other.from)
                || other.until.is_some_and(|until| until <= one.from);
            if one.id == other.id {
                faults.push(format!("rule `{}` is there twice", one.id));
            } else if !apart && one.value.topic() == other.value.topic() {
                faults.push(format!(
                    "rules `{}` and `{}` answer the same question at the same time",
                    one.id, other.id
                ));
            }
        }
    }
    faults
}
