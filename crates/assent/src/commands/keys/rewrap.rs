//! `assent keys generate` and `assent keys rewrap`: the wrapping key in a module, and the move there. It guarantees that
//! nobody who was erased comes back by it: a destroyed key has no bytes to wrap, and one that is destroyed meanwhile
//! isn't written. Backups aren't touched: those of before open with the file, until their own keys end.

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

#[derive(Debug, Serialize)]
struct Rewrapped {
    /// Keys that are wrapped by the configured key now, and weren't.
    rewrapped: u64,
}

impl Rewrap {
    /// Runs it.
    ///
    /// # Errors
    /// When something isn't configured, or a store or the module doesn't answer; what was done stands.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let settings = self.config.load()?;
        let service = self.service.service();
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
        let store = KeyStore::new(pool, keks, clock, ids);
        let (mut after, mut rewrapped) = (Uuid::nil(), 0);
        while let Some((last, written)) =
            store.rewrap(after, TOGETHER).await.map_err(|error| store_failed(&place, &error))?
        {
            (after, rewrapped) = (last, rewrapped + written);
            output.remark(&format!("{rewrapped} keys"));
        }
        // What they were wrapped as before leaves the table files as well.
        store.rewrite_all().await.map_err(|error| store_failed(&place, &error))?;
        output.print(&Rewrapped { rewrapped }, |done| {
            format!("{} keys wrapped again; none is left that another key wraps", done.rewrapped)
        });
        Ok(Status::Done)
    }
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
            "{error}: set kek_file, or kek_module, as it was when that was written"
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
