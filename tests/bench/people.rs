//! People by the thousand: a contact file of invented ones, and the import of it.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use assent_contracts::topics::VAULT_EVENTS;
use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::Cluster;
use serde_json::json;

use crate::servers::Reader;

/// Who reads the vault's events.
pub const READERS: [Reader; 2] = [
    Reader { database: "projector", name: "projector.contacts", topic: VAULT_EVENTS },
    Reader { database: "consent", name: "consent.identity-links", topic: VAULT_EVENTS },
];

/// Writes a contact file of `rows` French numbers, none twice.
pub fn contact_file(cluster: &Cluster, rows: u32) -> PathBuf {
    let path = cluster.dir.join("people.csv");
    let mut file = BufWriter::new(std::fs::File::create(&path).expect("a file can be made"));
    writeln!(file, "phone;name;email").expect("the disk takes it");
    for row in 0..rows {
        let number = number(row);
        writeln!(file, "+{number};Contact {row};contact{row}@example.org").expect("as above");
    }
    file.flush().expect("as above");
    path
}

/// The number in a row of that file: digits, as the provider writes it.
pub fn number(row: u32) -> String {
    format!("33{}", 600_000_000 + u64::from(row) * 7)
}

/// Imports it by the command line; how long it took.
///
/// # Panics
/// When not every row made a person.
pub async fn import(cluster: &Cluster, file: &Path, rows: u32) -> Duration {
    let began = SystemClock.boottime();
    let ended = cluster.assent(&["import", file.to_str().expect("UTF-8"), "--country", "FR"]);
    assert_eq!(ended.json["created"], json!(rows), "{}", ended.text);
    SystemClock.boottime() - began
}
