//! `assent configuration`: the reference of everything that a deployment can set. It guarantees that names,
//! defaults and what must be there are those that the services' own reading asked for, and that every option is
//! described; what a value does is the services'.

mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use assent_runtime::config::{Presence, variable};
use assent_runtime::{ConfigErrors, Settings};
use clap::Args;
use serde::Deserialize;

use crate::outcome::{Failure, Output, Status};
use crate::serve::{Plan, Service, read_shared};

const DESCRIPTIONS: &str = include_str!("options.toml");

/// Arguments of `assent configuration`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  assent configuration docs")]
pub struct Configuration {
    /// The folder to write to: `configuration.md`.
    dir: PathBuf,
}

impl Configuration {
    /// Runs it; `cli` is the command line, whose variables are listed too.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn run(&self, cli: &clap::Command, output: Output) -> Result<Status, Failure> {
        let page = page::reference(&options().map_err(Failure::wrong_use)?, cli);
        let path = self.dir.join("configuration.md");
        std::fs::create_dir_all(&self.dir).map_err(|error| Failure::file(&self.dir, error))?;
        std::fs::write(&path, page).map_err(|error| Failure::file(&path, error))?;
        output.print(&path, |path| format!("{} written", path.display()));
        Ok(Status::Done)
    }
}

/// What is said about an option.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    unit: String,
    /// Of a secret: the path of its file.
    example: String,
    meaning: String,
}

/// One option, as it is read and as it is described.
#[derive(Debug)]
struct Described {
    presence: Presence,
    /// Whether `KEY_file` may name a file with it instead.
    may_be_file: bool,
    /// Who reads it; nobody in particular: every process.
    readers: BTreeSet<&'static str>,
    said: Description,
}

/// Options by section and key.
type Options = BTreeMap<String, BTreeMap<String, Described>>;

/// Everything that services read, described.
///
/// # Errors
/// What is read and not described, or described and not read.
fn options() -> Result<Options, String> {
    let mut said = descriptions()?;
    let mut options = Options::new();
    let mut undescribed = Vec::new();
    for (section, keys) in read() {
        for (key, (presence, readers)) in &keys {
            if key.strip_suffix("_file").is_some_and(|key| keys.contains_key(key)) {
                continue;
            }
            match said.get_mut(&section).and_then(|of_section| of_section.remove(key)) {
                None => undescribed.push(format!("{section}.{key} is not described")),
                Some(said) => {
                    let option = Described {
                        presence: presence.clone(),
                        may_be_file: keys.contains_key(&format!("{key}_file")),
                        readers: readers.clone(),
                        said,
                    };
                    options.entry(section.clone()).or_default().insert(key.clone(), option);
                }
            }
        }
    }
    for (section, left) in said {
        undescribed.extend(left.keys().map(|key| format!("nothing reads {section}.{key}")));
    }
    if undescribed.is_empty() { Ok(options) } else { Err(undescribed.join("\n")) }
}

fn descriptions() -> Result<BTreeMap<String, BTreeMap<String, Description>>, String> {
    toml::from_str(DESCRIPTIONS).map_err(|error| format!("options.toml: {error}"))
}

/// Keys by section as each is asked for, and by whom. Some are asked for only beside others (an engine's secret), some
/// only without others (the shared token): so services read nothing at all, and then every example. Where both ask for
/// a key, a whole configuration's asking counts.
fn read() -> BTreeMap<String, BTreeMap<String, (Presence, BTreeSet<&'static str>)>> {
    let nothing = || Settings::from_parts("", []);
    let everything = || Settings::from_parts("", examples());
    let mut read: BTreeMap<String, BTreeMap<String, (Presence, BTreeSet<_>)>> = BTreeMap::new();
    let mut note = |made: Result<Settings, ConfigErrors>, reader: Option<Service>| {
        let Ok(settings) = made else { return };
        let whole = reader.is_none();
        for service in Service::ALL.into_iter().filter(|it| reader.is_none_or(|only| only == *it)) {
            // What is missing is nobody's mistake here.
            let _ = Plan::read(service, &settings);
        }
        if whole {
            let _ = read_shared(&settings);
        }
        for (section, keys) in settings.asked() {
            let known = read.entry(section).or_default();
            for (key, presence) in keys {
                let noted = known.entry(key).or_insert((presence.clone(), BTreeSet::new()));
                if whole && presence < noted.0 {
                    noted.0 = presence;
                }
                noted.1.extend(reader.map(Service::name));
            }
        }
    };
    note(nothing(), None);
    note(everything(), None);
    for service in Service::ALL {
        note(nothing(), Some(service));
        note(everything(), Some(service));
    }
    read
}

/// The examples as variables; a secret's stands for the secret itself, so that nothing depends on files.
fn examples() -> Vec<(String, String)> {
    let sections = descriptions().unwrap_or_default();
    let of_section = |(section, options): (String, BTreeMap<String, Description>)| {
        let of_option =
            move |(key, said): (String, Description)| (variable(&section, &key), said.example);
        options.into_iter().map(of_option)
    };
    sections.into_iter().flat_map(of_section).collect()
}

#[cfg(test)]
mod tests;
