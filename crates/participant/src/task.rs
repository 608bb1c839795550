//! One command of a batch of the same step. It guarantees that one that can't be done yet keeps no other from
//! being done; what doing means is the service's.

use std::fmt::Display;

use assent_contracts::SubjectId;
use assent_contracts::erasure::Command;

use crate::Touched;

/// A command that is being done, and what is touched for it.
#[derive(Debug)]
pub struct Task {
    /// The command.
    pub command: Command,
    /// What was touched or, by a sweep, found.
    pub touched: Touched,
    put_off: Option<String>,
}

impl Task {
    /// Nothing is touched yet.
    #[must_use]
    pub fn of(command: Command) -> Self {
        Self { command, touched: Touched::default(), put_off: None }
    }

    /// It can't be done yet, and is tried again; what was written for it meanwhile must be harmless. The reason goes
    /// to the log, so it holds no personal data.
    pub fn put_off(&mut self, why: impl Display) {
        self.put_off = Some(why.to_string());
    }

    /// Why it is put off; none: it isn't.
    #[must_use]
    pub fn why_put_off(&self) -> Option<&str> {
        self.put_off.as_deref()
    }
}

/// Those that aren't put off.
pub fn open(tasks: &mut [Task]) -> impl Iterator<Item = &mut Task> {
    tasks.iter_mut().filter(|task| task.put_off.is_none())
}

/// The people of those that aren't put off.
#[must_use]
pub fn subjects(tasks: &[Task]) -> Vec<SubjectId> {
    let open = tasks.iter().filter(|task| task.put_off.is_none());
    open.map(|task| task.command.subject_id).collect()
}
