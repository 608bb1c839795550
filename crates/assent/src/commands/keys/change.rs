//! `assent keys change`: which keys a key file holds, and which of them is in use. It guarantees that a file is whole
//! at every moment, and that its last key never goes; that each step has reached every replica before the next is the
//! operator's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use assent_runtime::{Ids, SystemIds};
use assent_sealing::FileKek;
use assent_sealing::key_file::Change as How;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failed;
use crate::outcome::{Failure, Output, Status};

/// One of the steps.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Step {
    /// A new key comes behind the others: it is known, and not in use yet.
    Add,
    /// The last key becomes the first, which is in use.
    Turn,
    /// The last key goes.
    Drop,
}

impl From<Step> for How {
    fn from(step: Step) -> Self {
        match step {
            Step::Add => Self::Add,
            Step::Turn => Self::Turn,
            Step::Drop => Self::Drop,
        }
    }
}

/// Arguments of `assent keys change`.
#[derive(Debug, Args)]
pub struct Change {
    /// What is done.
    step: Step,
    /// The key file.
    file: PathBuf,
}

/// A file as it is now.
#[derive(Debug, Serialize)]
struct Changed {
    file: PathBuf,
    /// The names of its keys, which tell nothing about them; the first is in use.
    keys: Vec<String>,
}

impl Change {
    /// Runs it.
    ///
    /// # Errors
    /// When the file can't be read or written, or its only key would go.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        FileKek::change(&self.file, self.step.into(), &SystemIds).map_err(failed)?;
        let changed = Changed { file: self.file.clone(), keys: names(&self.file)? };
        output.print(&changed, |it| {
            let line = |(n, key): (usize, &String)| {
                format!("{} {key}", if n == 0 { "in use" } else { "known " })
            };
            it.keys.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
        });
        Ok(Status::Done)
    }
}

fn names(file: &Path) -> Result<Vec<String>, Failure> {
    use assent_sealing::Kek as _;
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let keks = FileKek::load(file, &ids).map_err(failed)?;
    Ok(keks.iter().map(|kek| kek.id().to_owned()).collect())
}
