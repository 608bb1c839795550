//! One shell for a whole page: what an earlier command has set, a later one finds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};
use crate::process::interrupted;

/// What stands between the outputs of two commands; no command prints it.
const END: u8 = 0x1e;
/// The slowest command erases a person and waits for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running shell.
pub struct Shell {
    child: Child,
    typed: ChildStdin,
    printed: Receiver<String>,
}

impl Shell {
    /// Starts one in a folder, with a cluster's settings.
    pub fn start(folder: &Path, settings: &Path) -> Result<Shell> {
        let failed = |source| Error::Start { program: "bash".to_owned(), source };
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(folder)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let typed = child.stdin.take().expect("a pipe");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, printed) = channel();
        std::thread::spawn(move || {
            loop {
                let mut text = Vec::new();
                match output.read_until(END, &mut text) {
                    Ok(_) if text.last() == Some(&END) => {
                        text.pop();
                        if send.send(String::from_utf8_lossy(&text).into_owned()).is_err() {
                            return;
                        }
                    }
                    _ => return,
                }
            }
        });
        let mut shell = Shell { child, typed, printed };
        shell.run(&format!("exec 2>&1; . '{}'", settings.display()))?;
        Ok(shell)
    }

    /// Types a command; what it prints, errors among it.
    pub fn run(&mut self, command: &str) -> Result<String> {
        let ended = || Error::Said(format!("the shell ended at `{command}`"));
        let line = format!("{{ {command}\n}} </dev/null\nprintf '\\036'\n");
        self.typed.write_all(line.as_bytes()).map_err(|_| ended())?;
        let begin = Instant::now();
        loop {
            match self.printed.recv_timeout(Duration::from_millis(100)) {
                Ok(printed) => return Ok(printed),
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
                Err(RecvTimeoutError::Timeout) if interrupted() => return Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) if begin.elapsed() > PATIENCE => {
                    let seconds = PATIENCE.as_secs();
                    return Err(Error::Said(format!("`{command}` took more than {seconds} s")));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
