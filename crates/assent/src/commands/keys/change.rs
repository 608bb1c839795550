//! `assent keys change`: which keys a key file holds, and which of them is in use. It guarantees that a file is whole
//! at every moment, that its last key never goes, and no index key at all; that each step has reached every replica
//! before the next is the operator's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use assent_runtime::{Ids, SystemIds};
use assent_sealing::key_file::Change as How;
use assent_sealing::{FileKek, IndexKeys};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failed;
use crate::outcome::{Failure, Output, Status};

/// One of the steps.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Step {
    /// A new key comes behind the others: it is known, and not in use yet.
    Add,
    /// The last key becomes the one in use; of index keys the others look only.
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
    /// The key file; index keys: those of the vault and of messaging together
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// The files as they are now.
#[derive(Debug, Serialize)]
struct Changed {
    files: Vec<PathBuf>,
    /// The names of the first one's keys, which tell nothing about them.
    keys: Vec<String>,
}

impl Change {
    /// Runs it.
    ///
    /// # Errors
    /// When the file can't be read or written, or its only key would go.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let (Some(first), files) = (self.files.first(), self.files.clone()) else {
            return Err(Failure::wrong_use("name the key file"));
        };
        let keys = if IndexKeys::load(first).is_ok() {
            self.index_keys()?
        } else if files.len() == 1 {
            FileKek::change(first, self.step.into(), &SystemIds).map_err(failed)?;
            names(first)?
        } else {
            return Err(Failure::wrong_use("wrapping keys are changed file by file"));
        };
        output.print(&Changed { files, keys }, |changed| changed.keys.join("\n"));
        Ok(Status::Done)
    }

    fn index_keys(&self) -> Result<Vec<String>, Failure> {
        let changed = match self.step {
            Step::Add => IndexKeys::add(&self.files, &SystemIds),
            Step::Turn => IndexKeys::turn(&self.files),
            Step::Drop => {
                return Err(Failure::wrong_use(
                    "index keys stay: what can't be hashed again (erased people, lists of opt-outs, stops of strangers) \
                     is found by them",
                ));
            }
        };
        let changed = changed.map_err(failed)?;
        Ok(changed.iter().map(|key| format!("{} {} {}", key.kind, key.id, key.name)).collect())
    }
}

/// The names of the wrapping keys of a file, the first of which is in use.
fn names(file: &Path) -> Result<Vec<String>, Failure> {
    use assent_sealing::Kek as _;
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let keks = FileKek::load(file, &ids).map_err(failed)?;
    Ok(keks.iter().map(|kek| kek.id().to_owned()).collect())
}
