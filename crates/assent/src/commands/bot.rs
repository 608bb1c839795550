//! `assent bot check`: whether the bot's files make sense, offline, as the service reads them.

use std::path::PathBuf;

use assent_messaging::bot::files;
use assent_messaging::domain::bot::flows::Around;
use assent_messaging::domain::stop::Words;
use clap::Subcommand;
use serde::Serialize;

use crate::outcome::{Failure, Output, Status};

/// `assent bot …`
#[derive(Debug, Subcommand)]
pub enum Bot {
    /// Say whether a folder of the bot's files makes sense: bot.toml and steps beside it.
    #[command(after_help = "\
Examples:
  assent bot check docs/examples/bot

The stop words are the built-in ones; the controller's name counts with the length of the one given.
Exit status: 0 it does, 1 it doesn't (each fault is shown with its file), 2 no such folder.")]
    Check {
        /// The folder.
        dir: PathBuf,
        /// The controller's name, which stands in the disclosure.
        #[arg(long, default_value = "Example Company Ltd")]
        controller: String,
    },
}

#[derive(Debug, Serialize)]
struct Checked {
    faults: Vec<Fault>,
    languages: Vec<String>,
    steps: usize,
}

#[derive(Debug, Serialize)]
struct Fault {
    file: String,
    problem: String,
}

impl Bot {
    /// Runs it.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let Self::Check { dir, controller } = self;
        if !dir.is_dir() {
            return Err(Failure::file(dir, "there is no such folder"));
        }
        let words = Words::standard();
        let around = Around { controller, words: &words, engine: false };
        let checked = match files::load(dir, around) {
            Ok(bot) => Checked {
                faults: Vec::new(),
                languages: bot.languages().to_vec(),
                steps: bot.steps().len(),
            },
            Err(faults) => Checked {
                faults: faults
                    .into_iter()
                    .map(|it| Fault { file: it.file, problem: it.problem })
                    .collect(),
                languages: Vec::new(),
                steps: 0,
            },
        };
        output.print(&checked, |it| match &it.faults[..] {
            [] => format!("{} steps in {}", it.steps, it.languages.join(", ")),
            faults => {
                let line = |fault: &Fault| format!("{}: {}", fault.file, fault.problem);
                faults.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        });
        Ok(if checked.faults.is_empty() { Status::Done } else { Status::Refused })
    }
}
