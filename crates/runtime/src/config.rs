//! Configuration from a TOML file and the environment, which wins. It guarantees that every error
//! is reported at once, with the key, its variable and what is wrong, and that no secret is
//! printed; what the values mean is left to the services that read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

/// The sections that a file may have. A process reads some of them; a misspelt one is an error
/// in every process.
pub const SECTIONS: [&str; 14] = [
    "auth",
    "consent",
    "console",
    "controller",
    "erasure",
    "gateway",
    "kafka",
    "lease",
    "messaging",
    "projector",
    "retention",
    "services",
    "telemetry",
    "vault",
];

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// `section.key`, or the file.
    pub place: String,
    /// The environment variable that would set it, where there is one.
    pub variable: Option<String>,
    /// What is wrong. Never the value.
    pub problem: String,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} error(s):", self.0.len())?;
        for error in &self.0 {
            write!(f, "\n  {}", error.place)?;
            if let Some(variable) = &error.variable {
                write!(f, " ({variable})")?;
            }
            write!(f, ": {}", error.problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Whether a value must be there, as its reader asked for it. Of several askings the strictest counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It may be absent, which means something of its own.
    Optional,
    /// It may be absent, and then it is this.
    Default(String),
    /// Without it nothing starts.
    Required,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<String, toml::Table>,
    environment: BTreeMap<String, String>,
    asked: BTreeMap<String, BTreeMap<String, Presence>>,
    errors: Vec<ConfigError>,
}

/// The configuration of a process, being read. Clones share one list of errors.
#[derive(Debug, Clone, Default)]
pub struct Settings(Arc<Mutex<State>>);

impl Settings {
    /// Reads the file, if one is given, and the process's environment.
    ///
    /// # Errors
    /// When the file can't be read or is no TOML; everything else is reported by
    /// [`Self::finish`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigErrors> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| whole_file(path.display().to_string(), error.to_string()))?,
        };
        let place = file.map_or_else(|| "file".to_owned(), |path| path.display().to_string());
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("ASSENT_"));
        Self::parse(&place, &text, environment)
    }

    /// Settings from a text and an environment of the caller's own: for tests.
    ///
    /// # Errors
    /// When the text is no TOML.
    pub fn from_parts(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        Self::parse("file", text, environment)
    }

    fn parse(
        place: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        // A TOML error quotes the line, which may hold a secret: only its place is told.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            whole_file(place.to_owned(), format!("no valid TOML at line {line}"))
        })?;
        let mut state =
            State { environment: environment.into_iter().collect(), ..State::default() };
        for (section, value) in table {
            match value {
                toml::Value::Table(values) if SECTIONS.contains(&section.as_str()) => {
                    state.values.insert(section, values);
                }
                toml::Value::Table(_) => state.errors.push(ConfigError {
                    place: format!("[{section}]"),
                    variable: None,
                    problem: format!("unknown section; there are {}", SECTIONS.join(", ")),
                }),
                _ => state.errors.push(ConfigError {
                    place: section,
                    variable: None,
                    problem: "stands outside of a section".to_owned(),
                }),
            }
        }
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// The section of this name, which must be one of [`SECTIONS`].
    #[must_use]
    pub fn section(&self, name: &'static str) -> Section {
        debug_assert!(SECTIONS.contains(&name), "[{name}] is not in SECTIONS");
        self.with(|state| {
            state.asked.entry(name.to_owned()).or_default();
        });
        Section { settings: self.clone(), name }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Everything that was missing, malformed, or in the file without meaning anything.
    pub fn finish(&self) -> Result<(), ConfigErrors> {
        self.with(|state| {
            // Only the file is searched for unknown keys: orchestrators put variables of their
            // own into the environment (Kubernetes: ASSENT_CONSENT_SERVICE_HOST).
            let unknown: Vec<_> = state
                .asked
                .iter()
                .flat_map(|(section, asked)| {
                    let keys = state.values.get(section).into_iter().flat_map(toml::Table::keys);
                    keys.filter(|key| !asked.contains_key(*key))
                        .map(move |key| (section, key, asked))
                })
                .map(|(section, key, asked)| ConfigError {
                    place: format!("{section}.{key}"),
                    variable: None,
                    problem: format!(
                        "unknown key; there are {}",
                        asked.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                    ),
                })
                .collect();
            let mut errors = state.errors.clone();
            errors.extend(unknown);
            errors.sort_by(|a, b| a.place.cmp(&b.place));
            errors.dedup();
            if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
        })
    }

    /// The environment variables of everything that was asked for so far.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<String> {
        let asked = self.asked();
        let names = |(section, keys): (&String, &BTreeMap<String, Presence>)| {
            keys.keys().map(|key| variable(section, key)).collect::<Vec<_>>()
        };
        asked.iter().flat_map(names).collect()
    }

    /// Everything that was asked for so far: keys by section, each with how it was asked for.
    #[must_use]
    pub fn asked(&self) -> BTreeMap<String, BTreeMap<String, Presence>> {
        self.with(|state| state.asked.clone())
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn whole_file(place: String, problem: String) -> ConfigErrors {
    ConfigErrors(vec![ConfigError { place, variable: None, problem }])
}

/// One section being read. A reading that fails is recorded and answered with nothing (or the
/// default), so that the rest can be read too.
#[derive(Debug, Clone)]
pub struct Section {
    settings: Settings,
    name: &'static str,
}

impl Section {
    /// A value that must be there.
    #[must_use]
    pub fn required<T>(&self, key: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.note(key, Presence::Required);
        match self.text(key) {
            Some(text) => self.parse(key, &text),
            None => {
                self.invalid(key, "is missing");
                None
            }
        }
    }

    /// A value that may be absent.
    #[must_use]
    pub fn optional<T>(&self, key: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.text(key).and_then(|text| self.parse(key, &text))
    }

    /// A value with a default.
    #[must_use]
    pub fn default<T>(&self, key: &str, default: T) -> T
    where
        T: FromStr + fmt::Display,
        T::Err: fmt::Display,
    {
        self.note(key, Presence::Default(default.to_string()));
        self.optional(key).unwrap_or(default)
    }

    /// A duration in whole milliseconds; the key should end in `_ms`.
    #[must_use]
    pub fn millis(&self, key: &str, default: Duration) -> Duration {
        self.note(key, Presence::Default(default.as_millis().to_string()));
        self.optional::<u64>(key).map_or(default, Duration::from_millis)
    }

    /// A secret that must be there: `key`, or the content of the file named by `key_file`.
    #[must_use]
    pub fn secret(&self, key: &str) -> Option<SecretString> {
        self.note(key, Presence::Required);
        let secret = self.optional_secret(key);
        if secret.is_none() && !self.has_error(&format!("{key}_file")) {
            self.invalid(
                key,
                "is missing (it may also be given as the path of a file, with _file)",
            );
        }
        secret
    }

    /// A secret that may be absent. An empty one is absent: anybody would know it.
    #[must_use]
    pub fn optional_secret(&self, key: &str) -> Option<SecretString> {
        let from_file = self.optional::<PathBuf>(&format!("{key}_file"));
        let text = match self.text(key) {
            Some(text) => text,
            None => self.content(&format!("{key}_file"), &from_file?)?.trim_end().to_owned(),
        };
        (!text.trim().is_empty()).then(|| SecretString::from(text))
    }

    /// The content of the file that must be named by this key.
    #[must_use]
    pub fn file(&self, key: &str) -> Option<String> {
        let path = self.required::<PathBuf>(key)?;
        self.content(key, &path)
    }

    /// Records that the value of this key won't do, for checks of the reader's own.
    pub fn invalid(&self, key: &str, problem: impl Into<String>) {
        let error = ConfigError {
            place: self.place(key),
            variable: Some(self.variable(key)),
            problem: problem.into(),
        };
        self.note(key, Presence::Optional);
        self.settings.with(|state| state.errors.push(error));
    }

    fn note(&self, key: &str, presence: Presence) {
        self.settings.with(|state| {
            let asked = state.asked.entry(self.name.to_owned()).or_default();
            let noted = asked.entry(key.to_owned()).or_insert(Presence::Optional);
            if *noted < presence {
                *noted = presence;
            }
        });
    }

    fn content(&self, key: &str, path: &Path) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.invalid(key, format!("can't read {}: {error}", path.display()));
                None
            }
        }
    }

    fn has_error(&self, key: &str) -> bool {
        let place = self.place(key);
        self.settings.with(|state| state.errors.iter().any(|error| error.place == place))
    }

    fn text(&self, key: &str) -> Option<String> {
        self.note(key, Presence::Optional);
        let variable = self.variable(key);
        let found = self.settings.with(|state| match state.environment.get(&variable) {
            Some(value) => Some(Ok(value.clone())),
            None => match state.values.get(self.name)?.get(key)? {
                toml::Value::String(text) => Some(Ok(text.clone())),
                value @ (toml::Value::Integer(_)
                | toml::Value::Float(_)
                | toml::Value::Boolean(_)) => Some(Ok(value.to_string())),
                _ => Some(Err("must be a single value")),
            },
        })?;
        found.map_err(|problem| self.invalid(key, problem)).ok()
    }

    fn parse<T>(&self, key: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        text.parse().map_err(|error: T::Err| self.invalid(key, error.to_string())).ok()
    }

    fn place(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn variable(&self, key: &str) -> String {
        variable(self.name, key)
    }
}

/// The environment variable of a key.
#[must_use]
pub fn variable(section: &str, key: &str) -> String {
    format!("ASSENT_{}_{}", section.to_uppercase(), key.to_uppercase())
}

#[cfg(test)]
mod tests;
