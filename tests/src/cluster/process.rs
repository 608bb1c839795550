//! One process under test: started with its log in a file, stopped, frozen and killed by its id. It
//! guarantees that the process is gone when its owner is; what it should do is the test's.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::until;

/// A running process.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both its outputs are appended to `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let out = append(log);
        let err = out.try_clone().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // The child is not waited for yet, so the id is its own.
        self::signal(self.child.id(), signal);
    }

    /// Whether it is frozen by SIGSTOP.
    pub fn is_frozen(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it was killed by SIGKILL, by itself or by others.
    pub async fn died_of_sigkill(&mut self) {
        let mut status = None;
        until("the process is killed", async || {
            status = self.ended();
            status.is_some()
        })
        .await;
        assert_eq!(status.unwrap().signal(), Some(libc::SIGKILL), "{}", self.tail());
    }

    /// The end of its log, for messages.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(2_000);
        format!("{}:\n{}", self.log.display(), String::from_utf8_lossy(&text[from..]))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to the process with this id.
pub(crate) fn signal(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    #[expect(unsafe_code, reason = "std can't send signals")]
    // SAFETY: a plain system call without pointers.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0, "the process takes signals");
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}
