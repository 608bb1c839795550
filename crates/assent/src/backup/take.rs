//! `assent backup`: takes a backup of a running installation, or ends the keys of old ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assent_bus::BusConfig;
use assent_bus::topics::extents;
use assent_contracts::erasure::Positions;
use assent_contracts::topics;
use assent_eventstore::schema::{Standing, standing};
use assent_runtime::{Clock as _, Ids as _, Settings, SystemClock, SystemIds};
use assent_sealing::{DataKey, FileKek};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;

use super::archive::{Place, Writer};
use super::manifest::{Copied, FORMAT, Manifest, schema_of};
use super::{
    Kind, close, connect, data_key, day_keys, failed, file_name, key_id, private_dir, stores,
    tables,
};
use crate::commands::upload::progress;
use crate::migrate::unreachable;
use crate::outcome::{Failure, Output, Status};
use crate::serve::ConfigFile;

/// `assent backup …`
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Copy the databases of all services, but never their keys.
    #[command(after_help = "\
Examples:
  assent backup data /backups/2026-11-27 --key /etc/assent/keys/backup.key

Services go on meanwhile. Each database is copied under one snapshot; manifest.json names the positions in
Kafka that all of them hold. The key file is made when it isn't there; keep it apart from the backups: without it
they are lost. The folder must be new or empty.")]
    Data {
        /// The folder.
        dir: PathBuf,
        /// The key that seals it: a file with 64 hex digits.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Copy the key stores, sealed under the key of this day, which ends.
    #[command(after_help = "\
Examples:
  assent backup keys /backups/keys-2026-11-27 --day-keys /etc/assent/day-keys

After [erasure] key_backup_days, counted from the day's begin in UTC, the day's key is deleted and the backup
can't be opened any more: whoever was erased since would come back with it. Keep the folder of day keys out of every
other backup, and on another disk than the backups. Ended keys are deleted here too.")]
    Keys {
        /// The folder.
        dir: PathBuf,
        /// The folder of day keys.
        #[arg(long, value_name = "DIR")]
        day_keys: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Delete the keys of days that have ended. Run it daily.
    #[command(after_help = "\
Examples:
  assent backup end --day-keys /etc/assent/day-keys")]
    End(End),
}

/// Arguments of `assent backup end`.
#[derive(Debug, Args)]
pub struct End {
    /// The folder of day keys.
    #[arg(long, value_name = "DIR")]
    day_keys: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
}

/// For how many days a backup of keys may be opened.
///
/// # Errors
/// When the configuration doesn't say.
pub(super) fn days(settings: &Settings) -> Result<u16, Failure> {
    let days = settings.section("erasure").optional::<u16>("key_backup_days");
    days.filter(|days| *days > 0).ok_or_else(|| {
        Failure::wrong_use(
            "[erasure] key_backup_days isn't set: certificates say by it when the last backup of a key ends",
        )
    })
}

impl Backup {
    /// Runs it.
    ///
    /// # Errors
    /// When the configuration, a store or a file doesn't allow it.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let now = SystemClock.now();
        match self {
            Self::Data { dir, key, config } => {
                let settings = config.load()?;
                if !key.exists() {
                    FileKek::generate(key, &SystemIds)
                        .map_err(|error| Failure::wrong_use(error.to_string()))?;
                    output.remark(&format!("made the key {}", key.display()));
                }
                let key = data_key(key)?;
                take(
                    &settings,
                    dir,
                    &key,
                    Sealing { kind: Kind::Data, day: None, ends_at: None },
                    now,
                    output,
                )
                .await
            }
            Self::Keys { dir, day_keys, config } => {
                let settings = config.load()?;
                let days = days(&settings)?;
                private_dir(day_keys)?;
                day_keys::end(day_keys, days, now)?;
                let day = day_keys::day_of(now);
                let key = day_keys::of_day(day_keys, day)?;
                let ends_at = Some(day_keys::end_of(day, days)?);
                let sealing = Sealing { kind: Kind::Keys, day: Some(day), ends_at };
                take(&settings, dir, &key, sealing, now, output).await
            }
            Self::End(End { day_keys, config }) => {
                let ended = day_keys::end(day_keys, days(&config.load()?)?, now)?;
                output.print(&serde_json::json!({"ended": ended}), |_| {
                    let days: Vec<String> = ended.iter().map(Date::to_string).collect();
                    match days.as_slice() {
                        [] => "no key has ended".to_owned(),
                        days => format!("ended: {}", days.join(", ")),
                    }
                });
                Ok(Status::Done)
            }
        }
    }
}

struct Sealing {
    kind: Kind,
    day: Option<Date>,
    ends_at: Option<Timestamp>,
}

async fn take(
    settings: &Settings,
    dir: &Path,
    key: &DataKey,
    sealing: Sealing,
    now: Timestamp,
    output: Output,
) -> Result<Status, Failure> {
    let Sealing { kind, day, ends_at } = sealing;
    let (databases, bus) = stores(settings, kind)?;
    private_dir(dir)?;
    let mut entries = std::fs::read_dir(dir).map_err(|error| Failure::file(dir, error))?;
    if entries.next().is_some() {
        return Err(Failure::wrong_use(format!(
            "{}: not empty: take another folder",
            dir.display()
        )));
    }
    // Before the first copy: what stands in a topic was in its owner's database before it was published.
    let (positions, topic_ids) = positions(&bus).await?;
    let backup_id = SystemIds.v7();
    let mut copied = BTreeMap::new();
    for (database, address) in &databases {
        let (database, name, file) = (*database, database.name(), file_name(*database));
        let mut connection = connect(database, address).await?;
        let schema = standing(&mut connection, &database.migrators()).await;
        let schema = schema.map_err(|error| unreachable(&name, &error))?;
        if schema != Standing::default() {
            return Err(Failure::wrong_use(format!(
                "{name} {schema}: take the backup with the build that migrated it"
            )));
        }
        let bar = progress(output, None);
        let place = Place { backup: backup_id, name: &name };
        let mut writer = Writer::create(&dir.join(&file), key, place)
            .map_err(|error| Failure::wrong_use(error.to_string()))?;
        let copying = tables::copy_out(&mut connection, &mut writer, |bytes| {
            bar.set_message(format!("{name}: {} MiB", bytes >> 20));
            bar.tick();
        });
        let row_bytes = copying.await.map_err(|error| failed(database, &error))?;
        let bytes = writer.finish().map_err(|error| Failure::wrong_use(error.to_string()))?;
        bar.finish_and_clear();
        close(connection).await;
        let schema_sha256 = schema_of(database);
        copied.insert(name, Copied { file, bytes, row_bytes, schema_sha256 });
    }
    let manifest = Manifest {
        format: FORMAT,
        backup_id,
        kind,
        taken_at: now,
        key_id: key_id(key),
        day,
        ends_at,
        positions,
        topic_ids,
        databases: copied,
    };
    manifest.write(dir)?;
    output.print(&manifest, |manifest| {
        let bytes: u64 = manifest.databases.values().map(|it| it.bytes).sum();
        let end = manifest.ends_at.map(|at| format!("; it opens until {at}")).unwrap_or_default();
        format!(
            "{}: {} databases, {} KiB, as of {}{end}",
            dir.display(),
            manifest.databases.len(),
            bytes.div_ceil(1024),
            manifest.taken_at
        )
    });
    Ok(Status::Done)
}

async fn positions(bus: &BusConfig) -> Result<(Positions, BTreeMap<String, String>), Failure> {
    let (mut positions, mut ids) = (Positions::new(), BTreeMap::new());
    let extents = extents(bus, &topics::ALL).await;
    for extent in extents.map_err(|error| unreachable("kafka", &error))? {
        let topic = bus.topic_name(&extent.topic);
        positions.entry(topic.clone()).or_default().insert(extent.partition, extent.end);
        ids.insert(topic, extent.topic_id);
    }
    Ok((positions, ids))
}
