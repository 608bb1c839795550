//! `assent keys generate`, `rewrap` and `status`: the wrapping key in a module, its change, and how far that is. It
//! guarantees that nobody who was erased comes back by it: a destroyed key has no bytes to wrap, and one that is
//! destroyed meanwhile isn't written; and that "none is left" was counted. Backups aren't touched: those of before open
//! with the key of before, until their own keys end.

use std::collections::BTreeMap;
use std::sync::Arc;

use assent_runtime::{Clock, Ids, SystemClock, SystemIds};
use assent_sealing::{KekConfig, KekError, KeyStore, KeyStoreError};
use clap::{Args, ValueEnum};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use uuid::Uuid;

use crate::migrate::{DATABASES, addresses_missing, unreachable};
use crate::outcome::{Failure, Output, Status};
use crate::serve::{ConfigFile, Service, wrong_configuration};

/// Keys that are wrapped again at once.
const TOGETHER: i64 = 1000;

/// Who keeps keys.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Keeper {
    /// Of people.
    Vault,
    /// Of the hours in which webhooks came.
    Messaging,
}

impl Keeper {
    const fn service(self) -> Service {
        match self {
            Self::Vault => Service::Vault,
            Self::Messaging => Service::Messaging,
        }
    }
}

/// Arguments of `assent keys generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Whose.
    service: Keeper,
    /// The label of the new key [default: kek_label]
    #[arg(long)]
    label: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
}

impl Generate {
    /// Runs it.
    ///
    /// # Errors
    /// When no module is configured, or it doesn't make the key.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let settings = self.config.load()?;
        let name = self.service.service().name();
        let Some(kek) = KekConfig::read(&settings.section(name)) else {
            return Err(kek_missing(&settings, name));
        };
        let module = kek.in_module().ok_or_else(|| {
            Failure::wrong_use(format!(
                "[{name}] kek_module isn't set: `assent keys init` makes keys in files"
            ))
        })?;
        let mut module = module.clone();
        if let Some(label) = &self.label {
            module.key.clone_from(label);
        }
        module.generate().map_err(|error| failed(&error))?;
        let made = serde_json::json!({"token": module.token, "label": module.key});
        output.print(&made, |_| format!("created {:?} in token {:?}", module.key, module.token));
        Ok(Status::Done)
    }
}

/// Arguments of `assent keys rewrap`.
#[derive(Debug, Args)]
pub struct Rewrap {
    /// Whose.
    service: Keeper,
    #[command(flatten)]
    config: ConfigFile,
}

/// How often all keys are gone through: what a replica that doesn't know of the change wraps meanwhile is found by the
/// next one.
const ROUNDS: usize = 3;

#[derive(Debug, Serialize)]
struct Rewrapped {
    /// Keys that are wrapped by the configured key now, and weren't.
    rewrapped: u64,
    /// Keys that another one still wraps: somebody goes on wrapping with it.
    left: u64,
}

impl Rewrap {
    /// Runs it.
    ///
    /// # Errors
    /// When something isn't configured, or a store or the module doesn't answer; what was done stands.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let (place, store) = open(self.service, &self.config).await?;
        let failed = |error: KeyStoreError| store_failed(&place, &error);
        let mut done = Rewrapped { rewrapped: 0, left: 0 };
        for _ in 0..ROUNDS {
            let mut after = Uuid::nil();
            while let Some((last, written)) = store.rewrap(after, TOGETHER).await.map_err(failed)? {
                (after, done.rewrapped) = (last, done.rewrapped + written);
                output.remark(&format!("{} keys", done.rewrapped));
            }
            done.left = store.wrapped_by_others().await.map_err(failed)?;
            if done.left == 0 {
                break;
            }
        }
        // What they were wrapped as before leaves the table files as well.
        store.rewrite_all().await.map_err(failed)?;
        output.print(&done, |done| match done.left {
            0 => {
                let keys = done.rewrapped;
                format!("{keys} keys wrapped again; none is left that another key wraps")
            }
            left => format!(
                "{} keys wrapped again; {left} are left: a replica wraps with another key, give all the same",
                done.rewrapped
            ),
        });
        Ok(if done.left == 0 { Status::Done } else { Status::Refused })
    }
}

/// Arguments of `assent keys status`.
#[derive(Debug, Args)]
pub struct Show {
    /// Whose.
    service: Keeper,
    #[command(flatten)]
    config: ConfigFile,
}

/// A wrapping key that is configured, or that keys need.
#[derive(Debug, Serialize)]
struct Wrapping {
    /// Its id; tells nothing about it.
    id: String,
    /// `wraps`, `opens` or `missing`.
    role: &'static str,
    /// How many live keys it wraps.
    keys: u64,
}

#[derive(Debug, Serialize)]
struct Shown {
    wrapping_keys: Vec<Wrapping>,
}

impl Show {
    /// Runs it.
    ///
    /// # Errors
    /// When something isn't configured, or the store or the module doesn't answer.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let (place, store) = open(self.service, &self.config).await?;
        let found = store.wrapped_by().await.map_err(|error| store_failed(&place, &error))?;
        let wrapping_keys = wrapping_keys(&store.configured(), found);
        let is_over = wrapping_keys.iter().all(|it| it.role == "wraps" || it.keys == 0);
        output.print(&Shown { wrapping_keys }, |shown| {
            let line = |it: &Wrapping| format!("{:<8} {:>12} keys  {}", it.role, it.keys, it.id);
            shown.wrapping_keys.iter().map(line).collect::<Vec<_>>().join("\n")
        });
        Ok(if is_over { Status::Done } else { Status::Refused })
    }
}

/// What each key is for, the one that wraps first.
fn wrapping_keys(configured: &[String], mut found: BTreeMap<String, u64>) -> Vec<Wrapping> {
    let mut all: Vec<Wrapping> = Vec::new();
    for (n, id) in configured.iter().enumerate() {
        let role = if n == 0 { "wraps" } else { "opens" };
        if all.iter().all(|it| it.id != *id) {
            all.push(Wrapping { id: id.clone(), role, keys: found.remove(id).unwrap_or_default() });
        }
    }
    all.extend(found.into_iter().map(|(id, keys)| Wrapping { id, role: "missing", keys }));
    all
}

/// The key store of a service, and what it is called.
async fn open(keeper: Keeper, config: &ConfigFile) -> Result<(String, KeyStore), Failure> {
    let settings = config.load()?;
    let service = keeper.service();
    let name = service.name();
    let database = DATABASES.into_iter().find(|it| it.service == service && it.holds_keys());
    let address = database.and_then(|database| database.address(&settings));
    let kek = KekConfig::read(&settings.section(name));
    let Some(address) = address else {
        return Err(wrong_configuration(addresses_missing(&settings)));
    };
    let Some(kek) = kek else { return Err(kek_missing(&settings, name)) };
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let keks = kek.open(&ids).map_err(|error| failed(&error))?;
    let place = format!("{name}_keys");
    let pool = assent_vault::pool(address.expose_secret(), 2)
        .await
        .map_err(|error| unreachable(&place, &error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok((place, KeyStore::new(pool, keks, clock, ids)))
}

fn kek_missing(settings: &assent_runtime::Settings, name: &str) -> Failure {
    let errors = settings.finish().err().map(|errors| errors.0).unwrap_or_default();
    let matters = |place: &str| place.contains(name) && place.contains("kek_");
    let errors = errors.into_iter().filter(|error| matters(&error.place)).collect();
    wrong_configuration(assent_runtime::ConfigErrors(errors))
}

fn store_failed(place: &str, error: &KeyStoreError) -> Failure {
    match error {
        KeyStoreError::Foreign { .. } => Failure::wrong_use(format!(
            "{error}: put that one back beside the new one: a line of kek_file, kek_label or kek_other_labels"
        )),
        error => unreachable(place, error),
    }
}

fn failed(error: &KekError) -> Failure {
    match error {
        KekError::Call(_) => unreachable("wrapping key", error),
        error => Failure::wrong_use(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_needed_and_not_there_is_shown() {
        let configured = ["new", "old", "old"].map(str::to_owned);
        let found = [("old", 3_u64), ("lost", 2)].map(|(id, keys)| (id.to_owned(), keys));
        let shown = wrapping_keys(&configured, found.into());
        let shown: Vec<_> = shown.iter().map(|it| (it.id.as_str(), it.role, it.keys)).collect();
        assert_eq!(shown, [("new", "wraps", 0), ("old", "opens", 3), ("lost", "missing", 2)]);
    }
}
