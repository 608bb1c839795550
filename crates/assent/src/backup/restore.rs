//! `assent restore`: loads a backup into an installation that doesn't run and holds nothing, and says what must
//! be done again. It serves nothing: the services compare what they find before they do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use assent_bus::envelope::Delivery;
use assent_bus::topics::extents;
use assent_bus::{BusConfig, ensure_topics, replay};
use assent_contracts::erasure::{ACKNOWLEDGED, Acknowledged};
use assent_contracts::topics::{self, ERASURE_EVENTS};
use assent_eventstore::{Incarnation, incarnation, schema};
use assent_runtime::{Clock as _, Settings, SystemClock};
use assent_sealing::{DataKey, key_file};
use clap::Subcommand;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use sqlx::migrate::MigrateDatabase as _;
use sqlx::{Executor as _, PgConnection};
use uuid::Uuid;

use super::archive::{Place, Reader};
use super::manifest::{Manifest, schema_of};
use super::take::days;
use super::{Kind, close, connect, data_key, day_keys, failed, kafka_lost, key_id, stores, tables};
use crate::commands::upload::progress;
use crate::migrate::{Database, open, unreachable};
use crate::outcome::{Failure, Output, Status};
use crate::serve::{ConfigFile, Service};

/// `assent restore …`
#[derive(Debug, Subcommand)]
pub enum Restore {
    /// Load a backup of the data into empty databases, with all services stopped.
    #[command(after_help = "\
Examples:
  assent restore data /backups/2026-11-27 --key /etc/assent/keys/backup.key
  assent restore data /backups/2026-11-27 --key /etc/assent/keys/backup.key --kafka-lost

The key stores stay as they are: whoever was erased since has no key any more. Start the services then: before
they answer they take back from Kafka what was acknowledged since, and erase again who was erased since. What that
is is printed here, and written beside the backup; `assent restore proof` shows what was done.

With --kafka-lost the topics are new and the stores publish everything again. An erasure database that is still
there is kept, since nothing else says who was erased; where it is lost too, people without a key are fenced.")]
    Data {
        /// The folder.
        dir: PathBuf,
        /// The key that sealed it.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Kafka lost its records: make a new log from the stores.
        #[arg(long)]
        kafka_lost: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Load a backup of the key stores into empty ones, as long as its day's key hasn't ended.
    #[command(after_help = "\
Examples:
  assent restore keys /backups/keys-2026-11-27 --day-keys /etc/assent/day-keys

Only when the key stores themselves are lost: keys that were destroyed since come back with it, until the services
have erased again. Keys that were made since are lost, and with them what was sealed under them.")]
    Keys {
        /// The folder.
        dir: PathBuf,
        /// The folder of day keys.
        #[arg(long, value_name = "DIR")]
        day_keys: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show which erasures were done again, by which services, and whether each has compared its database.
    #[command(after_help = "\
Examples:
  assent restore proof")]
    Proof {
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// What a restore has to say.
#[derive(Debug, Serialize)]
struct Restored {
    backup_id: Uuid,
    taken_at: Timestamp,
    restored_at: Timestamp,
    databases: Vec<String>,
    /// Databases that were there and stayed.
    kept: Vec<String>,
    /// Erasures of which an answer came after the backup: the services do them again before they answer.
    erasures_since: BTreeSet<Uuid>,
    /// People who were fenced because their keys are destroyed and no request is on record.
    fenced: BTreeSet<Uuid>,
    /// Events that are published again.
    published_again: u64,
}

impl Restore {
    /// Runs it.
    ///
    /// # Errors
    /// When the backup can't be opened, or the installation isn't one that may be restored into.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Data { dir, key, kafka_lost, config } => {
                data(&config.load()?, dir, key, *kafka_lost, output).await
            }
            Self::Keys { dir, day_keys, config } => {
                keys(&config.load()?, dir, day_keys, output).await
            }
            Self::Proof { config } => proof(&config.load()?, output).await,
        }
    }
}

async fn data(
    settings: &Settings,
    dir: &Path,
    key: &Path,
    is_lost: bool,
    output: Output,
) -> Result<Status, Failure> {
    let now = SystemClock.now();
    let manifest = Manifest::read(dir, Kind::Data)?;
    let key = right_key(&manifest, data_key(key)?)?;
    let (databases, bus) = stores(settings, Kind::Data)?;
    let (key_stores, _) = stores(settings, Kind::Keys)?;
    check(&manifest, dir, &key, &databases, output)?;
    nobody_runs(databases.iter().chain(&key_stores)).await?;
    log_is(&bus, &manifest, is_lost).await?;
    let mut empty = Vec::new();
    let mut kept = Vec::new();
    for (database, address) in &databases {
        if is_empty(*database, address).await? {
            empty.push((*database, address));
        } else if is_lost && database.service == Service::Erasure {
            kept.push((*database, address));
        } else {
            return Err(not_empty(*database));
        }
    }
    let mut restored = Restored {
        backup_id: manifest.backup_id,
        taken_at: manifest.taken_at,
        restored_at: now,
        databases: empty.iter().map(|(it, _)| it.name()).collect(),
        kept: kept.iter().map(|(it, _)| it.name()).collect(),
        erasures_since: BTreeSet::new(),
        fenced: BTreeSet::new(),
        published_again: 0,
    };
    let without_key = if is_lost { without_key(&key_stores).await? } else { Vec::new() };
    for (database, address) in kept.iter().chain(&empty) {
        let loads = !restored.kept.contains(&database.name());
        let mut connection = connect(*database, address).await?;
        let lost = |error: sqlx::Error| unreachable(&database.name(), &error);
        connection.execute("BEGIN").await.map_err(lost)?;
        if loads {
            load(&mut connection, &manifest, *database, dir, &key, output).await?;
        }
        if is_lost {
            let service = database.service;
            let published = kafka_lost::begin(&mut connection, service, now).await;
            restored.published_again += published.map_err(lost)?;
            // Who is on the saga's list is erased again by the services.
            let fenced = kafka_lost::fence(&mut connection, service, &without_key, now).await;
            restored.fenced.extend(fenced.map_err(lost)?);
        }
        if database.service == Service::Erasure && is_lost {
            let since = answered_since(&mut connection, manifest.taken_at).await;
            restored.erasures_since.extend(since.map_err(lost)?);
        }
        connection.execute("COMMIT").await.map_err(lost)?;
        close(connection).await;
    }
    if !is_lost {
        restored.erasures_since = erasures_in_log(&bus, &manifest).await?;
    }
    written(dir, &restored, now)?;
    output.print(&restored, say);
    Ok(Status::Done)
}

fn say(restored: &Restored) -> String {
    let mut text =
        format!("restored {} as of {}", restored.databases.join(", "), restored.taken_at);
    if !restored.kept.is_empty() {
        text.push_str(&format!("; kept {}", restored.kept.join(", ")));
    }
    let list =
        |ids: &BTreeSet<Uuid>| -> String { ids.iter().map(|id| format!("\n  {id}")).collect() };
    match restored.erasures_since.len() {
        0 => text.push_str("\nno erasure was answered since"),
        n => text.push_str(&format!(
            "\n{n} erasures were answered since; the services do them again before they answer:{}",
            list(&restored.erasures_since)
        )),
    }
    if !restored.fenced.is_empty() {
        text.push_str(&format!(
            "\n{} people have no key any more and are fenced; erase again those without a request:{}",
            restored.fenced.len(),
            list(&restored.fenced)
        ));
    }
    if restored.published_again > 0 {
        text.push_str(&format!("\n{} events are published again", restored.published_again));
    }
    text.push_str("\nstart the services, then: assent restore proof");
    text
}

fn written(dir: &Path, restored: &Restored, now: Timestamp) -> Result<(), Failure> {
    let path = dir.join(format!("restored-{}.json", now.as_millisecond()));
    let text = serde_json::to_string_pretty(restored).unwrap_or_default();
    key_file::create(&path, &text).map_err(|error| Failure::wrong_use(error.to_string()))
}

fn right_key(manifest: &Manifest, key: DataKey) -> Result<DataKey, Failure> {
    let given = key_id(&key);
    if given != manifest.key_id {
        return Err(Failure::wrong_use(format!(
            "another key: the backup is sealed under {}, and this one is {given}",
            manifest.key_id
        )));
    }
    Ok(key)
}

/// Everything that can be known to be wrong before anything is written: databases that the backup lacks, another
/// schema, files that don't open to their end.
fn check(
    manifest: &Manifest,
    dir: &Path,
    key: &DataKey,
    databases: &[(Database, SecretString)],
    output: Output,
) -> Result<(), Failure> {
    for (database, _) in databases {
        let name = database.name();
        let copied = manifest
            .databases
            .get(&name)
            .ok_or_else(|| Failure::wrong_use(format!("the backup has no database {name}")))?;
        if copied.schema_sha256 != schema_of(*database) {
            return Err(Failure::wrong_use(format!(
                "{name} has other migrations in the backup: restore it with the build that took it, then migrate"
            )));
        }
        let bar = progress(output, Some(copied.bytes));
        bar.set_message(format!("checking {name}"));
        let place = Place { backup: manifest.backup_id, name: &name };
        let wrong = |error: super::archive::ArchiveError| Failure::wrong_use(error.to_string());
        let mut reader = Reader::open(&dir.join(&copied.file), key, place).map_err(wrong)?;
        while let Some(record) = reader.next().map_err(wrong)? {
            bar.inc(record.len() as u64);
        }
        bar.finish_and_clear();
    }
    Ok(())
}

async fn exists(database: Database, address: &SecretString) -> Result<bool, Failure> {
    let exists = sqlx::Postgres::database_exists(address.expose_secret()).await;
    exists.map_err(|error| unreachable(&database.name(), &error))
}

async fn nobody_runs(
    databases: impl Iterator<Item = &(Database, SecretString)>,
) -> Result<(), Failure> {
    const SESSIONS: &str = "
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'assent'";
    for (database, address) in databases {
        if !exists(*database, address).await? {
            continue;
        }
        let mut connection = connect(*database, address).await?;
        let sessions: Result<i64, _> =
            sqlx::query_scalar(SESSIONS).fetch_one(&mut connection).await;
        close(connection).await;
        let sessions = sessions.map_err(|error| unreachable(&database.name(), &error))?;
        if sessions > 0 {
            return Err(Failure::wrong_use(format!(
                "{}: {sessions} connections of services: stop every service first",
                database.name()
            )));
        }
    }
    Ok(())
}

fn not_empty(database: Database) -> Failure {
    let name = database.name();
    Failure::wrong_use(format!(
        "{name} isn't empty ({}): rename or drop that database first, nothing is written over",
        database.setting()
    ))
}

/// Whether nothing was ever written to it; it is made and migrated where it isn't there.
async fn is_empty(database: Database, address: &SecretString) -> Result<bool, Failure> {
    let name = database.name();
    let lost = |error: &dyn std::fmt::Display| unreachable(&name, error);
    let pool = open(&name, address).await?;
    schema::migrate(&pool, database.migrators()).await.map_err(|error| lost(&error))?;
    let is_empty = if database.holds_keys() {
        sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM keys)").fetch_one(&pool).await
    } else {
        incarnation::look(&pool).await.map(|it| it == Incarnation::Fresh)
    };
    pool.close().await;
    is_empty.map_err(|error| lost(&error))
}

async fn load(
    connection: &mut PgConnection,
    manifest: &Manifest,
    database: Database,
    dir: &Path,
    key: &DataKey,
    output: Output,
) -> Result<(), Failure> {
    // What a rebuild had in its hands isn't in the backup: it begins anew when it is asked for.
    const NO_REBUILD: &str =
        "DELETE FROM rebuilds WHERE finished_at IS NULL; DELETE FROM rebuild_offsets";
    let name = database.name();
    let Some(copied) = manifest.databases.get(&name) else {
        return Err(Failure::wrong_use(format!("the backup has no database {name}")));
    };
    let bar = progress(output, Some(copied.row_bytes.max(1)));
    bar.set_message(name.clone());
    let place = Place { backup: manifest.backup_id, name: &name };
    let mut reader = Reader::open(&dir.join(&copied.file), key, place)
        .map_err(|error| Failure::wrong_use(error.to_string()))?;
    let loading = tables::copy_in(connection, &mut reader, |bytes| bar.set_position(bytes));
    loading.await.map_err(|error| failed(database, &error))?;
    if database.service == Service::Projector {
        let cleared = connection.execute(NO_REBUILD).await;
        cleared.map_err(|error| unreachable(&name, &error))?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Whether Kafka still holds the log that the backup is of, and whether that is what was said.
async fn log_is(bus: &BusConfig, manifest: &Manifest, is_lost: bool) -> Result<(), Failure> {
    let lost = |error: &dyn std::fmt::Display| unreachable("kafka", error);
    ensure_topics(bus, &topics::ALL).await.map_err(|error| lost(&error))?;
    let extents = extents(bus, &topics::ALL).await.map_err(|error| lost(&error))?;
    let holds = extents.iter().all(|extent| {
        let topic = bus.topic_name(&extent.topic);
        let reached = manifest.positions.get(&topic).and_then(|it| it.get(&extent.partition));
        manifest.topic_ids.get(&topic) == Some(&extent.topic_id)
            && reached.is_some_and(|reached| *reached <= extent.end)
    });
    match (holds, is_lost) {
        (true, false) | (false, true) => Ok(()),
        (false, false) => Err(Failure::wrong_use(
            "Kafka doesn't hold the log that this backup is of: if its records are lost for good, --kafka-lost makes a new one",
        )),
        (true, true) => Err(Failure::wrong_use(
            "Kafka still holds the log that this backup is of: restore without --kafka-lost, or acknowledged withdrawals are lost",
        )),
    }
}

async fn without_key(key_stores: &[(Database, SecretString)]) -> Result<Vec<Uuid>, Failure> {
    let Some((database, address)) = key_stores.iter().find(|(it, _)| it.service == Service::Vault)
    else {
        return Ok(Vec::new());
    };
    if !exists(*database, address).await? {
        return Ok(Vec::new());
    }
    let mut connection = connect(*database, address).await?;
    let destroyed = kafka_lost::destroyed(&mut connection).await;
    close(connection).await;
    destroyed.map_err(|error| unreachable(&database.name(), &error))
}

/// Erasures that have gone on since a moment, as the erasure database says.
async fn answered_since(
    conn: &mut PgConnection,
    since: Timestamp,
) -> Result<Vec<Uuid>, sqlx::Error> {
    use jiff_sqlx::ToSqlx as _;
    const SINCE: &str = "
        SELECT request_id FROM requests
        WHERE completed_at IS NULL OR completed_at > $1 ORDER BY place";
    sqlx::query_scalar(SINCE).bind(since.to_sqlx()).fetch_all(conn).await
}

/// Erasures of which an answer stands in the log behind the backup.
async fn erasures_in_log(bus: &BusConfig, manifest: &Manifest) -> Result<BTreeSet<Uuid>, Failure> {
    let lost = |error: &dyn std::fmt::Display| unreachable("kafka", error);
    let name = bus.topic_name(&ERASURE_EVENTS);
    let from: BTreeMap<i32, i64> = manifest.positions.get(&name).cloned().unwrap_or_default();
    let to = assent_bus::end_offsets(bus, ERASURE_EVENTS).await.map_err(|error| lost(&error))?;
    let mut since = BTreeSet::new();
    replay::read(bus, ERASURE_EVENTS, &from, &to, |batch| {
        for message in batch.messages {
            let Delivery::Event(event) = message else { continue };
            if event.event_type == ACKNOWLEDGED
                && let Ok(answer) = serde_json::from_slice::<Acknowledged>(&event.data)
            {
                since.insert(answer.request_id);
            }
        }
        std::future::ready(Ok::<_, std::convert::Infallible>(()))
    })
    .await
    .map_err(|error| lost(&error))?;
    Ok(since)
}

async fn keys(
    settings: &Settings,
    dir: &Path,
    folder: &Path,
    output: Output,
) -> Result<Status, Failure> {
    let now = SystemClock.now();
    let manifest = Manifest::read(dir, Kind::Keys)?;
    day_keys::end(folder, days(settings)?, now)?;
    let (Some(day), Some(ends_at)) = (manifest.day, manifest.ends_at) else {
        return Err(Failure::wrong_use("the backup doesn't say which day's key seals it"));
    };
    if ends_at <= now {
        return Err(Failure::wrong_use(format!(
            "this backup of the keys ended on {ends_at}: the key of {day} is destroyed, so that whoever was erased since stays erased"
        )));
    }
    let path = day_keys::file(folder, day);
    if !path.exists() {
        return Err(Failure::wrong_use(format!(
            "{}: the key of {day} isn't there; it ends on {ends_at}, or sooner where [erasure] key_backup_days was lowered",
            path.display()
        )));
    }
    let key = right_key(&manifest, data_key(&path)?)?;
    let (databases, _) = stores(settings, Kind::Keys)?;
    check(&manifest, dir, &key, &databases, output)?;
    let (others, _) = stores(settings, Kind::Data)?;
    nobody_runs(databases.iter().chain(&others)).await?;
    for (database, address) in &databases {
        if !is_empty(*database, address).await? {
            return Err(not_empty(*database));
        }
    }
    for (database, address) in &databases {
        let mut connection = connect(*database, address).await?;
        let lost = |error: sqlx::Error| unreachable(&database.name(), &error);
        connection.execute("BEGIN").await.map_err(lost)?;
        load(&mut connection, &manifest, *database, dir, &key, output).await?;
        connection.execute("COMMIT").await.map_err(lost)?;
        close(connection).await;
    }
    output.print(&manifest, |manifest| {
        format!(
            "restored the key stores as of {}: keys that were destroyed since are back until the services have erased again",
            manifest.taken_at
        )
    });
    Ok(Status::Done)
}

/// What a service has to show.
#[derive(Debug, Serialize)]
struct Shown {
    service: String,
    /// When it last compared its database, if this is that database.
    compared_at: Option<Timestamp>,
    /// What it did again.
    done_again: Vec<Uuid>,
}

async fn proof(settings: &Settings, output: Output) -> Result<Status, Failure> {
    const REDONE: &str = "
        SELECT (command->>'request_id')::uuid FROM participant.commands WHERE redone_at IS NOT NULL
        UNION SELECT (command->>'request_id')::uuid FROM participant.purpose_commands
        WHERE redone_at IS NOT NULL ORDER BY 1";
    const COMPARED: &str = "SELECT compared_at FROM eventstore.incarnation";
    let (databases, _) = stores(settings, Kind::Data)?;
    let mut shown = Vec::new();
    for (database, address) in &databases {
        let lost = |error: sqlx::Error| unreachable(&database.name(), &error);
        let pool = open(&database.name(), address).await?;
        let compared: Option<jiff_sqlx::Timestamp> =
            match incarnation::look(&pool).await.map_err(lost)? {
                Incarnation::Known => {
                    sqlx::query_scalar(COMPARED).fetch_optional(&pool).await.map_err(lost)?
                }
                Incarnation::Fresh | Incarnation::Other => None,
            };
        let done_again = match database.service {
            Service::Erasure => Vec::new(),
            _ => sqlx::query_scalar(REDONE).fetch_all(&pool).await.map_err(lost)?,
        };
        let compared_at = compared.map(jiff_sqlx::Timestamp::to_jiff);
        shown.push(Shown { service: database.name(), compared_at, done_again });
        pool.close().await;
    }
    let all = shown.iter().all(|it| it.compared_at.is_some());
    output.print(&shown, |shown| {
        let line = |it: &Shown| {
            let compared =
                it.compared_at.map_or("not compared".to_owned(), |at| format!("compared {at}"));
            let again: String =
                it.done_again.iter().map(|id| format!("\n  done again: {id}")).collect();
            format!("{:<10} {compared}{again}", it.service)
        };
        shown.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(if all { Status::Done } else { Status::Refused })
}
