//! `up`, `down`, `status`, `logs`: one cluster under `target/dev`, remembered in `cluster.json`.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::compile::linting_cargo;
use crate::error::{At, Error, Result, hint_from};
use crate::ports::Ports;
use crate::process::{self, Process, interrupted, spinner, wait_until};
use crate::secrets::Secrets;
use crate::services::{self, Addresses, Binaries, SERVICES, SIMULATOR};
use crate::workspace::{Home, target, write_private};
use crate::{artifacts, example, kafka, machine, postgres};

/// What runs, as the last command left it.
#[derive(Serialize, Deserialize)]
struct Cluster {
    addresses: Addresses,
    processes: BTreeMap<String, Process>,
}

impl Cluster {
    fn read(home: &Home) -> Option<Cluster> {
        serde_json::from_str(&std::fs::read_to_string(home.path("cluster.json")).ok()?).ok()
    }

    fn write(&self, home: &Home) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain data");
        write_private(&home.path("cluster.json"), &text)
    }

    fn is_alive(&self, name: &str) -> bool {
        self.processes.get(name).is_some_and(Process::is_alive)
    }

    fn is_whole(&self) -> bool {
        self.is_alive("postgres")
            && self.is_alive("kafka")
            && self.is_alive(SIMULATOR)
            && SERVICES.iter().all(|service| {
                self.is_alive(service) && services::is_ready(&self.addresses, service)
            })
    }

    /// Stops the named processes, services before the stores that they write to.
    fn stop(&mut self, names: &[String]) {
        let stores = ["kafka", "postgres"];
        let (last, first): (Vec<&String>, Vec<&String>) =
            names.iter().partition(|name| stores.contains(&name.as_str()));
        for name in &first {
            if let Some(process) = self.processes.get(*name) {
                process.signal(rustix::process::Signal::TERM);
            }
        }
        for name in first.into_iter().chain(last) {
            if let Some(process) = self.processes.remove(name) {
                if name == "postgres" {
                    postgres::stop(&process);
                } else {
                    process.stop(Duration::from_secs(15));
                }
            }
        }
    }
}

/// Two commands at once would undo each other: the second one waits its turn, or says so.
fn lock(home: &Home) -> Result<std::fs::File> {
    let path = home.path("lock");
    let file = std::fs::File::create(&path).at(&path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::Said("another `cargo xtask up` or `down` is at work; wait for it".to_owned())
    })?;
    Ok(file)
}

/// Starts what isn't running.
pub fn up() -> Result<()> {
    let home = Home::open("dev")?;
    let _lock = lock(&home)?;
    if let Some(cluster) = Cluster::read(&home)
        && cluster.is_whole()
    {
        println!("Assent is already running.\n");
        print_addresses(&cluster, &home);
        return Ok(());
    }
    process::catch_interrupts();
    let before: Vec<String> = Cluster::read(&home)
        .map(|cluster| {
            cluster.processes.keys().filter(|name| cluster.is_alive(name)).cloned().collect()
        })
        .unwrap_or_default();
    if !before.is_empty() {
        println!("Part of Assent is running; starting the rest.");
    }
    match start(&home) {
        Ok(cluster) => {
            println!("\nAssent is running.\n");
            print_addresses(&cluster, &home);
            Ok(())
        }
        Err(error) => {
            if let Some(mut cluster) = Cluster::read(&home) {
                let ours: Vec<String> = cluster
                    .processes
                    .keys()
                    .filter(|name| !before.contains(name))
                    .cloned()
                    .collect();
                cluster.stop(&ours);
                cluster.write(&home)?;
            }
            Err(if interrupted() { Error::Interrupted } else { error })
        }
    }
}

fn start(home: &Home) -> Result<Cluster> {
    // Its Postgres has another password than the one that would be made now.
    if home.path("secrets.json").exists() {
        return Err(Error::Said(format!(
            "{} was made by an older version; `cargo xtask down --purge` deletes it",
            home.dir.display()
        )));
    }
    machine::prepare(home)?;
    let programs = artifacts::fetch(home)?;
    let binaries = build(home)?;
    let assent = binaries.dir.join("assent");
    let secrets = Secrets::open(home, &assent)?;
    let mut cluster = Cluster::read(home).unwrap_or_else(|| Cluster {
        addresses: Addresses::documented(&mut Ports::default()),
        processes: BTreeMap::new(),
    });
    cluster.processes.retain(|_, process| process.is_alive());
    if cluster.processes.is_empty() {
        cluster.addresses = Addresses::documented(&mut Ports::default());
    }
    let addresses = cluster.addresses.clone();

    let mut launch = |name: &str, what: &str, run: &dyn Fn() -> Result<Process>| -> Result<bool> {
        if cluster.is_alive(name) {
            return Ok(false);
        }
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let bar = spinner(what);
        let process = run();
        bar.finish_and_clear();
        cluster.processes.insert(name.to_owned(), process?);
        cluster.write(home)?;
        Ok(true)
    };
    launch("postgres", "starting Postgres", &|| {
        postgres::start(&programs, home, addresses.postgres, &secrets.postgres_password)
    })?;
    launch("kafka", "starting Kafka", &|| {
        kafka::start(&programs, home, (addresses.kafka, addresses.kafka_controller), None)
    })?;
    let config = services::configure(home, &secrets, &addresses)?;
    process::step(
        Command::new(&assent).arg("migrate").env("ASSENT_CONFIG", &config),
        "migrating the databases",
        &home.log("migrate"),
    )?;
    for service in std::iter::once(SIMULATOR).chain(SERVICES) {
        launch(service, "starting the services", &|| {
            services::start(&binaries, home, &secrets, &addresses, service)
        })?;
    }
    await_ready(&cluster, home)?;
    services::write_env(home, &binaries, &secrets, &addresses)?;
    example::run(home, &assent, &secrets, &addresses)?;
    Ok(cluster)
}

/// Builds both binaries, in the profile that the tests use too.
pub fn build(home: &Home) -> Result<Binaries> {
    let what = "building Assent (the first time takes some minutes)";
    let mut build = linting_cargo(&["build", "--workspace", "--bins"]);
    process::step(&mut build, what, &home.log("build"))?;
    Ok(Binaries { dir: target().join("debug") })
}

fn await_ready(cluster: &Cluster, home: &Home) -> Result<()> {
    let bar = spinner("waiting until every service is ready");
    for service in std::iter::once(SIMULATOR).chain(SERVICES) {
        let ready = wait_until(Duration::from_secs(30), || {
            interrupted()
                || !cluster.is_alive(service)
                || services::is_ready(&cluster.addresses, service)
        });
        if interrupted() {
            return Err(Error::Interrupted);
        }
        if !ready || !cluster.is_alive(service) {
            let log = home.log(service);
            return Err(Error::Step {
                what: format!("starting {service}"),
                hint: hint_from(&log),
                log,
            });
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn print_addresses(cluster: &Cluster, home: &Home) {
    let addresses = &cluster.addresses;
    println!("  {:<13} {}", "gateway", addresses.url("gateway"));
    for service in SERVICES.iter().filter(|service| **service != "gateway") {
        println!(
            "  {:<13} {}   probes and metrics: http://127.0.0.1:{}",
            service,
            addresses.url(service),
            addresses.ops[*service]
        );
    }
    println!("  {:<13} {}/phone   a person's phone", SIMULATOR, addresses.url(SIMULATOR));
    println!("  {:<13} 127.0.0.1:{}", "kafka", addresses.kafka);
    println!("  {:<13} 127.0.0.1:{}", "postgres", addresses.postgres);
    println!("\nTry next:");
    println!("  . {}", home.path("env").display());
    println!("  assent explain '+33 6 39 98 00 01' --purpose marketing");
    println!("  assent --help          cargo xtask status          cargo xtask down");
}

/// Stops everything; with `purge` the data goes too.
pub fn down(purge: bool) -> Result<()> {
    let home = Home::open("dev")?;
    let _lock = lock(&home)?;
    let stopped = match Cluster::read(&home) {
        Some(mut cluster) => {
            let bar = spinner("stopping");
            let names: Vec<String> = cluster.processes.keys().cloned().collect();
            let alive = names.iter().filter(|name| cluster.is_alive(name)).count();
            cluster.stop(&names);
            bar.finish_and_clear();
            cluster.write(&home)?;
            alive
        }
        None => 0,
    };
    println!("{}", if stopped > 0 { "Assent is stopped." } else { "Assent was not running." });
    if purge {
        delete(&[postgres::data_dir(&home), home.dir])?;
        println!("Its data, keys and logs are deleted.");
    }
    Ok(())
}

fn delete(dirs: &[std::path::PathBuf]) -> Result<()> {
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        std::fs::remove_dir_all(dir).at(dir)?;
    }
    Ok(())
}

/// A cluster for one check, beside a running `up`: new, and gone but for its logs when dropped.
pub struct Lent {
    home: Home,
    _lock: std::fs::File,
}

impl Lent {
    /// Starts it in the named folder, the example loaded.
    pub fn start(name: &str) -> Result<Lent> {
        let home = Home::open(name)?;
        let lock = lock(&home)?;
        let mut lent = Lent { home, _lock: lock };
        // What an interrupted run left.
        lent.end()?;
        delete(&[lent.home.path("logs")])?;
        lent.home = Home::open(name)?;
        match start(&lent.home) {
            Ok(_) => Ok(lent),
            Err(error) => Err(if interrupted() { Error::Interrupted } else { error }),
        }
    }

    /// Its folder.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    fn end(&self) -> Result<()> {
        if let Some(mut cluster) = Cluster::read(&self.home) {
            let names: Vec<String> = cluster.processes.keys().cloned().collect();
            cluster.stop(&names);
            cluster.write(&self.home)?;
        }
        let _ = std::fs::remove_file(self.home.path("example.done"));
        delete(&[postgres::data_dir(&self.home), self.home.path("kafka"), self.home.path("keys")])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{}: {error}", self.home.dir.display());
        }
    }
}

/// Prints what runs.
pub fn status() -> Result<()> {
    let home = Home::open("dev")?;
    let Some(cluster) = Cluster::read(&home) else {
        println!("Assent is not running; start it with `cargo xtask up`.");
        return Ok(());
    };
    let mut whole = true;
    for name in ["postgres", "kafka", SIMULATOR].into_iter().chain(SERVICES) {
        let state = match cluster.processes.get(name) {
            Some(process) if process.is_alive() => {
                let ready = matches!(name, "postgres" | "kafka")
                    || services::is_ready(&cluster.addresses, name);
                whole &= ready;
                format!("{} (pid {})", if ready { "ready" } else { "not ready" }, process.pid)
            }
            _ => {
                whole = false;
                "stopped".to_owned()
            }
        };
        let port = match name {
            "postgres" => cluster.addresses.postgres,
            "kafka" => cluster.addresses.kafka,
            other => cluster.addresses.api[other],
        };
        println!("  {name:<13} 127.0.0.1:{port:<6} {state}");
    }
    if !whole {
        println!(
            "\n`cargo xtask up` starts what is missing; logs: {}",
            home.path("logs").display()
        );
    }
    Ok(())
}

/// Prints a log, and with `follow` what is added to it until Ctrl-C.
pub fn logs(service: &str, follow: bool) -> Result<()> {
    let home = Home::open("dev")?;
    let path = home.log(service);
    let Ok(mut file) = std::fs::File::open(&path) else {
        return Err(Error::Said(format!(
            "no log of {service:?}; there are: postgres, kafka, {SIMULATOR}, {}",
            SERVICES.join(", ")
        )));
    };
    let mut position = 0;
    loop {
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(position)).at(&path)?;
        position += file.read_to_end(&mut text).at(&path)? as u64;
        if std::io::stdout().write_all(&text).is_err() || !follow {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
