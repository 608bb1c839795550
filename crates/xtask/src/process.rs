//! Long-lived processes of a cluster and one-off steps. A process is known by its id and its start
//! time, so that a reused id is never mistaken for ours.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result, hint_from};

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on Ctrl-C sets a flag that [`interrupted`] reads, instead of ending the command.
pub fn catch_interrupts() {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let _ = signal_hook::flag::register(signal, Arc::clone(flag));
    }
}

/// Whether Ctrl-C was pressed.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// A process that we started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its start time in clock ticks since boot: with the id, its identity.
    pub start: u64,
    /// Where it logs.
    pub log: PathBuf,
}

impl Process {
    /// Starts it in a group of its own, logging to `log`, deaf to our terminal's Ctrl-C.
    pub fn start(command: &mut Command, log: &Path) -> Result<Process> {
        let file = File::options().create(true).append(true).open(log).at(log)?;
        let errors = file.try_clone().at(log)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Start { program, source })?;
        let pid = i32::try_from(child.id()).expect("a process id");
        Ok(Process { pid, start: start_time(pid).unwrap_or(0), log: log.to_path_buf() })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start)
    }

    /// Sends it a signal, if it still is the process that we started.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to stop, waits, and ends it by force when it doesn't.
    pub fn stop(&self, patience: Duration) {
        self.signal(Signal::TERM);
        if !wait_until(patience, || !self.is_alive()) {
            self.signal(Signal::KILL);
            wait_until(Duration::from_secs(5), || !self.is_alive());
        }
    }
}

/// The start time of a live process, from `/proc`; a zombie counts as gone.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Looks again and again until the condition holds or the patience ends.
pub fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begin.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A spinner for a step that takes its time.
#[must_use]
pub fn spinner(text: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(text.into());
    bar.set_style(
        ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a valid template"),
    );
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Runs a step to its end, its output in `log`.
pub fn step(command: &mut Command, what: &str, log: &Path) -> Result<()> {
    let file = File::create(log).at(log)?;
    let errors = file.try_clone().at(log)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let bar = spinner(what);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|source| Error::Start { program, source })?;
    loop {
        if let Some(status) = child.try_wait().at(log)? {
            bar.finish_and_clear();
            return if status.success() {
                Ok(())
            } else if interrupted() {
                Err(Error::Interrupted)
            } else {
                Err(Error::Step {
                    what: what.to_owned(),
                    hint: hint_from(log),
                    log: log.to_path_buf(),
                })
            };
        }
        if interrupted() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a step in the foreground, its output on our terminal. Ctrl-C ends it and all that it
/// started, and comes back as an error, so that what we started ourselves is stopped.
pub fn show(command: &mut Command, what: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| Error::Start { program: program.clone(), source };
    let mut child = command.process_group(0).spawn().map_err(failed)?;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return if interrupted() {
                Err(Error::Interrupted)
            } else if status.success() {
                Ok(())
            } else {
                Err(Error::Said(format!("{what} failed")))
            };
        }
        if interrupted()
            && let Some(group) = Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
        {
            let _ = kill_process_group(group, Signal::TERM);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
