//! What a backup says about itself. It holds nothing of a person, and is written last: a folder without it is no
//! backup.

use std::collections::BTreeMap;
use std::path::Path;

use assent_contracts::erasure::Positions;
use assent_sealing::key_file;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Kind;
use crate::migrate::Database;
use crate::outcome::Failure;

const NAME: &str = "manifest.json";
/// The form of manifest and files.
pub const FORMAT: u32 = 1;

/// The manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The form.
    pub format: u32,
    /// The backup's id, which its files are bound to.
    pub backup_id: Uuid,
    /// What it is of.
    pub kind: Kind,
    /// When it was begun.
    pub taken_at: Timestamp,
    /// Which key seals it.
    pub key_id: String,
    /// Of a backup of keys: the day whose key seals it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<Date>,
    /// Of a backup of keys: when that key ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Where the topics of the deployment reached before the first database was copied: what stands before is in
    /// the copies of its owners.
    pub positions: Positions,
    /// The ids of those topics: made anew under their names they have others.
    pub topic_ids: BTreeMap<String, String>,
    /// The databases.
    pub databases: BTreeMap<String, Copied>,
}

/// A database in a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Copied {
    /// Its file.
    pub file: String,
    /// The file's size in bytes.
    pub bytes: u64,
    /// Bytes of rows in it.
    pub row_bytes: u64,
    /// A hash over the migrations that it had.
    pub schema_sha256: String,
}

/// The hash over the migrations of a database as this build has them.
#[must_use]
pub fn schema_of(database: Database) -> String {
    let mut hash = Sha256::new();
    for migrator in database.migrators() {
        for it in migrator.iter() {
            hash.update(format!("{} {} ", migrator.table_name, it.version));
            hash.update(&it.checksum);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Manifest {
    /// Writes it: the backup is whole.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, dir: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::wrong_use(error.to_string()))?;
        key_file::create(&dir.join(NAME), &format!("{text}\n"))
            .map_err(|error| Failure::wrong_use(error.to_string()))
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the folder holds no backup of this form and kind.
    pub fn read(dir: &Path, kind: Kind) -> Result<Self, Failure> {
        let path = dir.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::wrong_use(format!(
                    "{}: no {NAME}: this is no backup, or one that was interrupted",
                    dir.display()
                )));
            }
            Err(error) => return Err(Failure::file(&path, error)),
        };
        let manifest: Self =
            serde_json::from_str(&text).map_err(|error| Failure::file(&path, error))?;
        if manifest.format != FORMAT {
            return Err(Failure::wrong_use(format!(
                "{}: format {}, and this build reads {FORMAT}",
                path.display(),
                manifest.format
            )));
        }
        if manifest.kind != kind {
            let (is, command) = match manifest.kind {
                Kind::Data => ("data", "assent restore data"),
                Kind::Keys => ("keys", "assent restore keys"),
            };
            return Err(Failure::wrong_use(format!("this is a backup of {is}: {command}")));
        }
        Ok(manifest)
    }
}
