//! `assent migrate`: databases, their schemas and the Kafka topics, made or brought up to date. It
//! may run at any time and beside running services; it takes nothing away.

use assent_bus::{BusConfig, ensure_topics};
use assent_contracts::topics;
use assent_eventstore::connect;
use assent_runtime::{ConfigErrors, Settings};
use assent_sealing::KeyStore;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use sqlx::migrate::{MigrateDatabase, MigrateError};

use crate::outcome::{Failure, Output, Status};
use crate::serve::{ConfigFile, wrong_configuration};

/// Arguments of `assent migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent migrate --config /etc/assent/assent.toml
  ASSENT_CONFIG=/etc/assent/assent.toml assent migrate

Creates what is missing: databases, schemas, topics. It needs no more of the configuration than their
addresses. Exit status: 0 done, 2 wrong configuration, 3 a store couldn't be reached.")]
pub struct Migrate {
    #[command(flatten)]
    config: ConfigFile,
}

struct Databases {
    consent: SecretString,
    vault: SecretString,
    vault_keys: SecretString,
    messaging: SecretString,
    messaging_keys: SecretString,
    erasure: SecretString,
    projector: SecretString,
}

impl Databases {
    fn read(settings: &Settings) -> Option<Self> {
        let database = |section| settings.section(section).secret("database_url");
        let keys = |section| settings.section(section).secret("keys_database_url");
        let (consent, vault, vault_keys) = (database("consent"), database("vault"), keys("vault"));
        let (messaging, messaging_keys) = (database("messaging"), keys("messaging"));
        let (erasure, projector) = (database("erasure"), database("projector"));
        Some(Self {
            consent: consent?,
            vault: vault?,
            vault_keys: vault_keys?,
            messaging: messaging?,
            messaging_keys: messaging_keys?,
            erasure: erasure?,
            projector: projector?,
        })
    }
}

impl Migrate {
    /// Runs it.
    ///
    /// # Errors
    /// When an address is missing or a store doesn't answer.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let settings = self.config.load()?;
        let databases = Databases::read(&settings);
        let bus = BusConfig::read(&settings);
        let (Some(databases), Some(bus)) = (databases, bus) else {
            return Err(wrong_configuration(addresses_missing(&settings)));
        };
        let Databases { consent, vault, vault_keys, messaging, messaging_keys, erasure, projector } =
            databases;

        let pool = open("consent", &consent).await?;
        step("consent", assent_consent::service::migrate_pool(&pool).await)?;
        let (data, keys) = (open("vault", &vault).await?, open("vault_keys", &vault_keys).await?);
        step("vault", assent_vault::migrate_pools(&data, &keys).await)?;
        let pool = open("messaging", &messaging).await?;
        step("messaging", assent_messaging::migrate_pool(&pool).await)?;
        let pool = open("messaging_keys", &messaging_keys).await?;
        step("messaging_keys", KeyStore::migrate(&pool).await)?;
        let pool = open("erasure", &erasure).await?;
        step("erasure", assent_erasure::migrate_pool(&pool).await)?;
        let pool = open("projector", &projector).await?;
        step("projector", assent_projector::migrate_pool(&pool).await)?;
        ensure_topics(&bus, &topics::ALL).await.map_err(|error| unreachable("kafka", &error))?;
        let done = serde_json::json!({"databases": 7, "topics": topics::ALL.len()});
        output.print(&done, |_| {
            format!("7 databases and {} topics are up to date", topics::ALL.len())
        });
        Ok(Status::Done)
    }
}

/// Only the errors that matter here: the rest of the configuration isn't read.
fn addresses_missing(settings: &Settings) -> ConfigErrors {
    let errors = settings.finish().err().map(|errors| errors.0).unwrap_or_default();
    let matters = |place: &str| place.contains("database_url") || place.starts_with("kafka.");
    ConfigErrors(errors.into_iter().filter(|error| matters(&error.place)).collect())
}

async fn open(name: &str, url: &SecretString) -> Result<PgPool, Failure> {
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

fn step(name: &str, done: Result<(), MigrateError>) -> Result<(), Failure> {
    done.map_err(|error| unreachable(name, &error))
}

fn unreachable(name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure {
        status: Status::Unreachable,
        code: "unreachable".to_owned(),
        message: format!("{name}: {error}"),
    }
}
