//! `assent migrate`: databases, their schemas and the Kafka topics, made or brought up to date. It
//! may run at any time and beside running services; it takes nothing away.

use assent_bus::{BusConfig, ensure_topics};
use assent_contracts::topics;
use assent_eventstore::{connect, schema};
use assent_runtime::{ConfigErrors, Settings};
use assent_sealing::KeyStore;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use sqlx::migrate::{MigrateDatabase, Migrator};

use crate::outcome::{Failure, Output, Status};
use crate::serve::{ConfigFile, Service, wrong_configuration};

/// Arguments of `assent migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent migrate --config /etc/assent/assent.toml
  ASSENT_CONFIG=/etc/assent/assent.toml assent migrate consent

Creates what is missing: databases, schemas, topics. It needs no more of the configuration than their
addresses. Exit status: 0 done, 2 wrong configuration, 3 a store couldn't be reached.")]
pub struct Migrate {
    /// Only the databases of these services [default: all]
    #[arg(value_name = "SERVICE")]
    services: Vec<Service>,
    #[command(flatten)]
    config: ConfigFile,
}

/// One of the databases.
#[derive(Debug, Clone, Copy)]
pub struct Database {
    /// Whose it is.
    pub service: Service,
    /// The service's key store, which is a database of its own.
    keys: bool,
}

/// All of them.
pub const DATABASES: [Database; 7] = [
    Database { service: Service::Consent, keys: false },
    Database { service: Service::Vault, keys: false },
    Database { service: Service::Vault, keys: true },
    Database { service: Service::Messaging, keys: false },
    Database { service: Service::Messaging, keys: true },
    Database { service: Service::Erasure, keys: false },
    Database { service: Service::Projector, keys: false },
];

impl Database {
    /// What it is called.
    pub fn name(self) -> String {
        format!("{}{}", self.service.name(), if self.keys { "_keys" } else { "" })
    }

    /// Whether it is a key store.
    pub fn holds_keys(self) -> bool {
        self.keys
    }

    fn key(self) -> &'static str {
        if self.keys { "keys_database_url" } else { "database_url" }
    }

    /// Where its address is set.
    pub fn setting(self) -> String {
        format!("[{}] {}", self.service.name(), self.key())
    }

    /// Its address; what is wrong with it is recorded in the settings.
    pub fn address(self, settings: &Settings) -> Option<SecretString> {
        settings.section(self.service.name()).secret(self.key())
    }

    /// All its migrations, in their order.
    pub fn migrators(self) -> Vec<Migrator> {
        match self.service {
            _ if self.keys => vec![KeyStore::migrator()],
            Service::Consent => assent_consent::service::migrators().into(),
            Service::Vault => assent_vault::migrators().into(),
            Service::Messaging => assent_messaging::migrators().into(),
            Service::Erasure => assent_erasure::migrators().into(),
            Service::Projector => assent_projector::migrators().into(),
            Service::Console | Service::Gateway => Vec::new(),
        }
    }
}

impl Migrate {
    /// Runs it.
    ///
    /// # Errors
    /// When an address is missing or a store doesn't answer.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let settings = self.config.load()?;
        let wanted = |service| self.services.is_empty() || self.services.contains(&service);
        let databases: Vec<_> = DATABASES
            .into_iter()
            .filter(|database| wanted(database.service))
            // Each is asked for, so that every missing one is named.
            .map(|database| (database, database.address(&settings)))
            .collect();
        let bus = BusConfig::read(&settings);
        let databases: Option<Vec<_>> =
            databases.into_iter().map(|(database, address)| Some((database, address?))).collect();
        let (Some(databases), Some(bus)) = (databases, bus) else {
            return Err(wrong_configuration(addresses_missing(&settings)));
        };
        for (database, address) in &databases {
            let name = database.name();
            let pool = open(&name, address).await?;
            let migrated = schema::migrate(&pool, database.migrators()).await;
            migrated.map_err(|error| unreachable(&name, &error))?;
        }
        ensure_topics(&bus, &topics::ALL).await.map_err(|error| unreachable("kafka", &error))?;
        let (databases, topics) = (databases.len(), topics::ALL.len());
        output.print(&serde_json::json!({"databases": databases, "topics": topics}), |_| {
            format!("{databases} databases and {topics} topics are up to date")
        });
        Ok(Status::Done)
    }
}

/// Only the errors that matter here: the rest of the configuration isn't read.
pub fn addresses_missing(settings: &Settings) -> ConfigErrors {
    let errors = settings.finish().err().map(|errors| errors.0).unwrap_or_default();
    let matters = |place: &str| place.contains("database_url") || place.starts_with("kafka.");
    ConfigErrors(errors.into_iter().filter(|error| matters(&error.place)).collect())
}

/// A pool on a database, which is made if it isn't there.
pub async fn open(name: &str, url: &SecretString) -> Result<PgPool, Failure> {
    let url = url.expose_secret();
    let exists =
        sqlx::Postgres::database_exists(url).await.map_err(|error| unreachable(name, &error))?;
    if !exists && let Err(error) = sqlx::Postgres::create_database(url).await {
        // Another migration may have been faster.
        let is_there = sqlx::Postgres::database_exists(url).await.unwrap_or(false);
        if !is_there {
            return Err(unreachable(name, &error));
        }
    }
    connect(url, 2).await.map_err(|error| unreachable(name, &error))
}

/// A store that didn't answer.
pub fn unreachable(name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure {
        status: Status::Unreachable,
        code: "unreachable".to_owned(),
        message: format!("{name}: {error}"),
    }
}
