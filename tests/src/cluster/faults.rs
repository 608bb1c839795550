//! Failpoints of one process: set while it runs, and the proof that they struck.

use std::path::PathBuf;
use std::process::Command;

use super::until;

/// The failpoints of one process: the file that it reads at each hit, and the file in which it
/// notes each fault before it happens.
pub struct Failpoints {
    entries: PathBuf,
    log: PathBuf,
}

/// A fault that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struck {
    /// Where.
    pub point: String,
    /// In which process.
    pub pid: u32,
    /// When, on CLOCK_BOOTTIME.
    pub boottime_ns: u64,
}

impl Failpoints {
    /// Those of the process called `name`, with their files in `dir`.
    pub fn new(dir: &std::path::Path, name: &str) -> Self {
        Self {
            entries: dir.join(format!("{name}.failpoints")),
            log: dir.join(format!("{name}.failpoints.log")),
        }
    }

    /// Tells a process about them.
    pub fn arm(&self, command: &mut Command) {
        command.env("ASSENT_FAILPOINTS_FILE", &self.entries);
        command.env("ASSENT_FAILPOINTS_LOG", &self.log);
    }

    /// Lets `entries` stand, such as `relay.before_publish=kill`, instead of what stood there.
    pub fn set(&self, entries: &str) {
        // Never half written: the process may look at any moment.
        let new = self.entries.with_extension("new");
        std::fs::write(&new, entries).unwrap();
        std::fs::rename(&new, &self.entries).unwrap();
    }

    /// Takes every entry away.
    pub fn clear(&self) {
        self.set("");
    }

    /// The faults that happened at `point`.
    pub fn struck(&self, point: &str) -> Vec<Struck> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let parse = |line: &str| {
            let mut words = line.split(' ');
            Some(Struck {
                point: words.next()?.to_owned(),
                pid: words.next()?.parse().ok()?,
                boottime_ns: words.next()?.parse().ok()?,
            })
        };
        text.lines().filter_map(parse).filter(|struck| struck.point == point).collect()
    }

    /// Waits until the fault has happened, and gives the first.
    pub async fn strikes(&self, point: &str) -> Struck {
        until(&format!("{point} strikes"), async || !self.struck(point).is_empty()).await;
        self.struck(point).remove(0)
    }
}
