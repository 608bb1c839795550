//! A private Postgres. It refuses to run as root, so root runs it as `nobody`, from folders that
//! `nobody` can reach. Durability stays on: what the tests and figures say must hold for real.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::artifacts::Artifacts;
use crate::error::{At, Error, Result, hint_from};
use crate::process::{Process, step, wait_until};
use crate::workspace::{Home, write_private};

const NOBODY: u32 = 65534;

/// Settings beyond the defaults. fsync, full_page_writes and synchronous_commit are named so that
/// nobody has to know the defaults.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 400
shared_buffers = 256MB
max_wal_size = 2GB
fsync = on
full_page_writes = on
synchronous_commit = on
log_min_error_statement = panic
log_min_messages = warning
log_error_verbosity = terse
";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The path itself when the user that runs Postgres can reach it, else its stand-in.
pub fn reachable(path: PathBuf) -> PathBuf {
    if !is_root() || path.ancestors().skip(1).all(open_to_all) { path } else { stand_in(&path) }
}

/// A folder under the system's temporary one that stands for this path.
pub fn stand_in(path: &Path) -> PathBuf {
    use sha2::{Digest, Sha256};
    let name: String = Sha256::digest(path.as_os_str().as_encoded_bytes())[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    std::env::temp_dir().join(format!("assent-{name}"))
}

fn open_to_all(dir: &Path) -> bool {
    std::fs::metadata(dir).map_or(true, |data| data.permissions().mode() & 0o001 != 0)
}

fn program(artifacts: &Artifacts, name: &str) -> Command {
    let mut command = Command::new(artifacts.postgres.join("bin").join(name));
    command.env("LC_ALL", "C").current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Where this cluster's Postgres keeps its data.
#[must_use]
pub fn data_dir(home: &Home) -> PathBuf {
    reachable(home.path("postgres"))
}

/// Starts Postgres on the port, making its data folder on the first call.
pub fn start(artifacts: &Artifacts, home: &Home, port: u16, password: &str) -> Result<Process> {
    let data = data_dir(home);
    if !data.join("PG_VERSION").exists() {
        initialise(artifacts, home, &data, password)?;
    }
    let log = home.log("postgres");
    let process = Process::start(
        program(artifacts, "postgres").arg("-D").arg(&data).args(["-p", &port.to_string()]),
        &log,
    )?;
    let ready =
        wait_until(Duration::from_secs(60), || !process.is_alive() || is_ready(&data, process.pid));
    if ready && process.is_alive() {
        return Ok(process);
    }
    process.signal(Signal::KILL);
    Err(Error::Step { what: "starting Postgres".to_owned(), hint: hint_from(&log), log })
}

/// As `pg_ctl --wait` tells it: past its recovery it says so in its own file. One that was killed leaves that behind,
/// with another process id.
fn is_ready(data: &Path, pid: impl ToString) -> bool {
    let told = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = told.lines();
    lines.next() == Some(pid.to_string().as_str())
        && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

fn initialise(artifacts: &Artifacts, home: &Home, data: &Path, password: &str) -> Result<()> {
    std::fs::create_dir_all(data).at(data)?;
    let password_file = data.with_extension("password");
    write_private(&password_file, password)?;
    if is_root() {
        for path in [data, &password_file] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).at(path)?;
        }
    }
    let made = step(
        program(artifacts, "initdb")
            .arg("-D")
            .arg(data)
            .args(["-U", "postgres", "-E", "UTF8", "--no-locale", "--no-instructions"])
            // The password is random: stretching it protects nothing and costs each connection.
            .args(["--auth=scram-sha-256", "--set=scram_iterations=1", "--pwfile"])
            .arg(&password_file),
        "creating the Postgres data folder",
        &home.log("initdb"),
    );
    let _ = std::fs::remove_file(&password_file);
    made?;
    let settings = data.join("postgresql.auto.conf");
    let owner = std::fs::metadata(&settings).at(&settings)?.uid();
    std::fs::write(&settings, SETTINGS).at(&settings)?;
    std::os::unix::fs::chown(&settings, Some(owner), None).at(&settings)
}

/// Asks for a fast shutdown: sessions are ended, data is whole.
pub fn stop(process: &Process) {
    process.signal(Signal::INT);
    if !wait_until(Duration::from_secs(20), || !process.is_alive()) {
        process.stop(Duration::from_secs(5));
    }
}

/// Asks for an immediate shutdown: its data is not needed again.
pub fn abandon(process: &Process) {
    process.signal(Signal::QUIT);
    wait_until(Duration::from_secs(10), || !process.is_alive());
}
