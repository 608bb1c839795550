//! `test`: everything that must hold before a change lands, on servers of its own beside a
//! running `up`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compile::{self, cargo, linting_cargo};
use crate::error::{At as _, Error, Result};
use crate::ports::Ports;
use crate::process::{Process, catch_interrupts, show};
use crate::secured::Secured;
use crate::workspace::{Home, root, target};
use crate::{artifacts, kafka, machine, postgres, secrets};

/// Postgres and Kafka for one run, gone with their files when dropped.
pub struct Stores {
    postgres: Process,
    kafka: Process,
    /// Address of the Postgres server, without a database name.
    postgres_url: String,
    /// Bootstrap address of Kafka.
    kafka_address: String,
    /// Kafka's second door.
    secured: Secured,
    dirs: [PathBuf; 4],
}

impl Stores {
    /// Starts both, empty, in the named cluster's folder.
    pub fn start(home: &Home) -> Result<Stores> {
        let programs = artifacts::fetch(home)?;
        let dirs =
            [postgres::data_dir(home), home.path("kafka"), home.path("kafka-tls"), temporary(home)];
        // What an interrupted run left.
        remove(&dirs);
        std::fs::create_dir_all(temporary(home)).at(temporary(home))?;
        softhsm(home)?;
        let password = secrets::one_time_password()?;
        let mut ports = Ports::default();
        let (postgres_port, kafka_port, controller_port) = (ports.any(), ports.any(), ports.any());
        let secured = Secured::make(home, ports.any())?;
        let postgres = postgres::start(&programs, home, postgres_port, &password)?;
        let kafka = kafka::start(&programs, home, (kafka_port, controller_port), Some(&secured))
            .inspect_err(|_| postgres::stop(&postgres))?;
        Ok(Stores {
            postgres,
            kafka,
            postgres_url: format!("postgres://postgres:{password}@127.0.0.1:{postgres_port}"),
            kafka_address: format!("127.0.0.1:{kafka_port}"),
            secured,
            dirs,
        })
    }

    /// Tells a command where the servers, their files and the binaries under test are.
    pub fn tell(&self, command: &mut Command, home: &Home, binaries: &Path) {
        self.secured.tell(command);
        command
            .env("ASSENT_TEST_POSTGRES", &self.postgres_url)
            .env("ASSENT_TEST_KAFKA", &self.kafka_address)
            .env("ASSENT_TEST_POSTGRES_DATA", postgres::data_dir(home))
            .env("ASSENT_TEST_KAFKA_DATA", home.path("kafka"))
            .env("ASSENT_TEST_BIN_DIR", binaries)
            .env("ASSENT_TEST_XTASK", binaries.join("xtask"))
            .env("ASSENT_TEST_HOME", &home.dir)
            .env("SOFTHSM2_CONF", temporary(home).join("softhsm2.conf"))
            .env("TMPDIR", temporary(home));
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        self.kafka.signal(rustix::process::Signal::KILL);
        postgres::abandon(&self.postgres);
        remove(&self.dirs);
    }
}

/// For what a run writes and nobody reads afterwards. Under the system's own, so that the user that runs
/// Postgres reaches it too.
fn temporary(home: &Home) -> PathBuf {
    postgres::stand_in(&home.path("temporary"))
}

/// A PKCS#11 module reads from the environment of its process where its tokens are: here, for all tests.
fn softhsm(home: &Home) -> Result<()> {
    let tokens = temporary(home).join("tokens");
    std::fs::create_dir_all(&tokens).at(&tokens)?;
    let settings = temporary(home).join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    std::fs::write(&settings, text).at(&settings)
}

/// Out of the way at once; the hundred thousand files behind it go meanwhile, and so does what an
/// interrupted removal left.
fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        let _ = std::fs::rename(dir, dir.with_extension(format!("gone-{}", std::process::id())));
        let gone = |entry: &PathBuf| {
            entry.file_stem() == dir.file_stem()
                && entry.extension().is_some_and(|it| it.to_string_lossy().starts_with("gone-"))
        };
        let siblings = dir.parent().and_then(|parent| std::fs::read_dir(parent).ok());
        let entries = siblings.into_iter().flatten().flatten().map(|entry| entry.path());
        // It outlives this process, whoever interrupts that.
        let _ = Command::new("rm").arg("-rf").args(entries.filter(gone)).process_group(0).spawn();
    }
}

/// Runs the suite.
pub fn test(filter: &[String]) -> Result<()> {
    catch_interrupts();
    let home = Home::open("test")?;
    machine::prepare(&home)?;
    if filter.is_empty() {
        println!("formatting");
        show(&mut cargo(&["fmt", "--all", "--check"]), "`cargo fmt --all --check`")?;
        println!("build, with lints");
        compile::everything()?;
        generated_files_are_current()?;
    } else {
        println!("build");
        show(&mut linting_cargo(&["build", "--workspace", "--bins"]), "`cargo build`")?;
    }
    println!("tests");
    let stores = Stores::start(&home)?;
    let mut tests = linting_cargo(&["test", "--workspace"]);
    if filter.is_empty() {
        tests.args(["--lib", "--bins", "--tests"]);
    } else {
        tests.args(["--test", "it", "--"]).args(filter);
    }
    stores.tell(&mut tests, &home, &target().join("debug"));
    // They wait for each other's servers more than they work.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tests.env("RUST_TEST_THREADS", (2 * cores).to_string());
    show(&mut tests, "the tests")
}

/// What is generated from code must be what the code generates.
fn generated_files_are_current() -> Result<()> {
    let docs = root().join("docs");
    let fresh = target().join("generated");
    let _ = std::fs::remove_dir_all(&fresh);
    let assent = || Command::new(target().join("debug/assent"));
    show(assent().arg("openapi").arg(fresh.join("openapi")), "`assent openapi`")?;
    // The command compares with what was released, so it must find that.
    let released = fresh.join("schemas/released");
    std::fs::create_dir_all(&released).at(&released)?;
    for (name, content) in files(&docs.join("schemas/released")) {
        std::fs::write(released.join(name), content).at(&released)?;
    }
    show(assent().arg("schemas").arg(&fresh), "`assent schemas`")?;
    for (folder, command) in [
        ("openapi", "assent openapi docs/openapi"),
        ("schemas", "assent schemas docs"),
        ("asyncapi", "assent schemas docs"),
    ] {
        if files(&fresh.join(folder)) != files(&docs.join(folder)) {
            return Err(Error::Said(format!(
                "docs/{folder} is stale: run `target/debug/{command}` and commit"
            )));
        }
    }
    show(assent().arg("configuration").arg(&fresh), "`assent configuration`")?;
    let page = |folder: &Path| std::fs::read(folder.join("configuration.md")).ok();
    if page(&fresh) != page(&docs) {
        let said = "docs/configuration.md is stale: run `target/debug/assent configuration docs` and commit";
        return Err(Error::Said(said.to_owned()));
    }
    Ok(())
}

/// The files of a folder with what is in them, those of folders in it left out.
fn files(dir: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        Some((path.file_name()?.to_owned(), std::fs::read(&path).ok()?))
    };
    entries.filter_map(read).collect()
}
