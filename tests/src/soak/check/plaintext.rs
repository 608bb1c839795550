//! G5: no number of anybody in any file of Postgres or Kafka, nor in a log.

use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::plaintext::{files, find, kafka_files, spellings};
use tokio::task::block_in_place;

use super::Found;
use crate::soak::history::History;
use crate::soak::plan::PROCESSES;

/// How many numbers are searched for: each in many spellings and disguises.
const SAMPLE: usize = 40;

/// Searches every file. A control that was written into a log in plain must be found.
pub async fn check(cluster: &Cluster, history: &History, postgres: &Path, kafka: &Path) -> Found {
    sqlx::raw_sql("CHECKPOINT").execute(&cluster.pool("vault").await).await.expect("it does");
    let control = format!("control-{}", history.people.len());
    let plain = cluster.log("control");
    std::fs::write(&plain, format!("a line with {control}\n")).expect("a file can be written");
    let logs = PROCESSES.iter().map(|name| cluster.log(name));
    let mut all: Vec<PathBuf> = files(postgres).into_iter().chain(kafka_files(kafka)).collect();
    all.extend(logs);
    all.push(plain);
    let numbers: Vec<String> =
        history.people.iter().take(SAMPLE).flat_map(|person| spellings(person.digits())).collect();
    let mut found = Found { looked_at: all.len(), ..Found::default() };
    block_in_place(|| {
        let seen = find(&[control], &cluster.dir, &all);
        found.look(!seen.is_empty(), || "the control isn't found: the search is blind".to_owned());
        let plaintext = find(&numbers, &cluster.dir, &all);
        // Which number it was is nobody's business.
        found.look(plaintext.is_empty(), || format!("{} files", plaintext.len()));
    });
    found
}
