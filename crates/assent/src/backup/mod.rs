//! `assent backup` and `assent restore`: logical copies for laptops and small installations. It guarantees that a
//! backup of data never holds the key store, that a backup of keys opens no longer than certificates
//! promise, and that nothing is loaded into a database that is used; what makes a restored database safe is
//! the services' own look at it when they start.
//!
//! Files: `archive` seals, `tables` copies, `day_keys` end, `manifest` says what it is, `take` and `restore` are the
//! commands, `kafka_lost` makes a new log from the stores.

mod archive;
mod day_keys;
mod kafka_lost;
mod manifest;
mod restore;
mod tables;
mod take;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use assent_bus::BusConfig;
use assent_runtime::Settings;
use assent_sealing::{DataKey, key_file};
use secrecy::SecretString;
use sqlx::{Connection as _, PgConnection};

use crate::migrate::{DATABASES, Database, addresses_missing, unreachable};
use crate::outcome::Failure;
use crate::serve::wrong_configuration;

pub use restore::Restore;
pub use take::Backup;

/// Which databases a backup is of: those that hold keys are never in one with those that hold data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Consent, vault, messaging, erasure, projector.
    Data,
    /// The key stores of vault and messaging.
    Keys,
}

/// The databases of a kind with their addresses, and Kafka.
fn stores(
    settings: &Settings,
    kind: Kind,
) -> Result<(Vec<(Database, SecretString)>, BusConfig), Failure> {
    let of_kind = DATABASES.into_iter().filter(|it| it.holds_keys() == (kind == Kind::Keys));
    let databases: Vec<_> = of_kind.map(|it| (it, it.address(settings))).collect();
    let bus = BusConfig::read(settings);
    let databases: Option<Vec<_>> =
        databases.into_iter().map(|(database, address)| Some((database, address?))).collect();
    match (databases, bus) {
        (Some(databases), Some(bus)) => Ok((databases, bus)),
        _ => Err(wrong_configuration(addresses_missing(settings))),
    }
}

fn data_key(path: &Path) -> Result<DataKey, Failure> {
    key_file::data_key(path).map_err(|error| Failure::wrong_use(error.to_string()))
}

/// How a backup names its key.
fn key_id(key: &DataKey) -> String {
    key_file::name_of(key, "assent backup key id")
}

/// A folder of one's own.
fn private_dir(dir: &Path) -> Result<(), Failure> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Failure::file(dir, error))
        }
        _ => Ok(()),
    }
}

fn file_name(database: Database) -> String {
    format!("{}.sealed", database.name())
}

async fn connect(database: Database, address: &SecretString) -> Result<PgConnection, Failure> {
    use secrecy::ExposeSecret as _;
    let connected = tables::connect(address.expose_secret()).await;
    connected.map_err(|error| unreachable(&database.name(), &error))
}

async fn close(connection: PgConnection) {
    let _ = connection.close().await;
}

fn failed(database: Database, error: &tables::CopyError) -> Failure {
    match error {
        tables::CopyError::Database(error) => unreachable(&database.name(), error),
        error => Failure::wrong_use(error.to_string()),
    }
}
