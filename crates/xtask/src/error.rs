//! What can go wrong, each in one sentence that says what to do.

use std::path::PathBuf;

/// A developer command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system lacks packages and we may not install them.
    #[error("this machine lacks {what}. Type this, then try again:\n  {line}")]
    Missing {
        /// What is missing.
        what: String,
        /// The line that installs it.
        line: String,
    },
    /// A step failed; its log has the details.
    #[error("{what} failed{hint}; see {}", log.display())]
    Step {
        /// The step.
        what: String,
        /// A probable cause, starting with a colon, or nothing.
        hint: String,
        /// Where it logged.
        log: PathBuf,
    },
    /// A program could not be started.
    #[error("could not start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something said in full.
    #[error("{0}")]
    Said(String),
    /// Ctrl-C.
    #[error("interrupted; what had been started is stopped again")]
    Interrupted,
}

/// The result of a developer command.
pub type Result<T> = std::result::Result<T, Error>;

/// Puts the path into a file error.
pub trait At<T> {
    /// Names the file that the operation was about.
    fn at(self, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::File { path: path.into(), source })
    }
}

/// A probable cause, read off the end of a log.
#[must_use]
pub fn hint_from(log: &std::path::Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(8192)..]).to_lowercase();
    for (sign, hint) in [
        ("no space left on device", ": the disk is full, free some space and try again"),
        ("address already in use", ": a port is taken, run `cargo xtask down` and try again"),
        ("could not transfer artifact", ": the download broke, check the network and try again"),
        ("unknown host", ": the download broke, check the network and try again"),
        ("could not resolve dependencies", ": the download broke, check the network and try again"),
        ("cannot allocate memory", ": the machine is out of memory"),
    ] {
        if tail.contains(sign) {
            return hint.to_owned();
        }
    }
    String::new()
}
