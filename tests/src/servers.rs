//! A Postgres or a Kafka of one test's own, for tests that kill it: the shared ones serve others
//! meanwhile. It guarantees the settings of the shared ones, and that nothing is left of it when its
//! owner is gone.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use assent_bus::BusConfig;
use tokio::task::{block_in_place, spawn_blocking};

use crate::cluster::{ports, process, until};
use crate::harness::{Stores, required, topic_prefix, unique};

/// A server that can be killed and started again, with its data and under its address.
pub struct Server {
    name: &'static str,
    /// Which signal ends it at once, without a last word to its files.
    deadly: i32,
    dir: PathBuf,
    ports: [u16; 2],
    password: String,
    lender: Option<Child>,
    pid: u32,
}

/// A Postgres and a Kafka, started beside each other.
pub async fn both() -> (Server, Server) {
    tokio::join!(postgres(), start("kafka", libc::SIGKILL))
}

/// A Postgres alone.
pub async fn postgres() -> Server {
    // It would survive the SIGKILL of its first process: SIGQUIT is its immediate shutdown, which
    // ends all of them and leaves recovery to the next start.
    start("postgres", libc::SIGQUIT).await
}

async fn start(name: &'static str, deadly: i32) -> Server {
    let started = spawn_blocking(move || {
        let dir = std::env::temp_dir().join(unique("assent_server"));
        let ports = [ports::free(), ports::free()];
        let password = unique("password");
        let mut server = Server { name, deadly, dir, ports, password, lender: None, pid: 0 };
        server.lend();
        server
    });
    started.await.unwrap()
}

/// Both as what a cluster stands on.
pub fn stores(postgres: &Server, kafka: &Server) -> Stores {
    Stores {
        postgres: postgres.superuser(),
        bus: BusConfig::new(format!("127.0.0.1:{}", kafka.ports[0]), topic_prefix()),
    }
}

impl Server {
    /// The address of a Postgres for its superuser, without a database name.
    #[must_use]
    pub fn superuser(&self) -> String {
        self.address("postgres", &self.password)
    }

    /// The same for another role.
    #[must_use]
    pub fn address(&self, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}", self.ports[0])
    }

    /// Kills it.
    ///
    /// # Panics
    /// When it is not gone afterwards: neither the process nor anybody at its address.
    pub async fn kill(&mut self) {
        process::signal(self.pid, self.deadly);
        let (pid, port) = (self.pid, self.ports[0]);
        until(&format!("{} takes no connections", self.name), async || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
        })
        .await;
        block_in_place(|| self.give_back());
        until(&format!("{} is gone", self.name), async || {
            !std::path::Path::new(&format!("/proc/{pid}")).exists()
        })
        .await;
    }

    /// Where it keeps its data: the folder that it works in, or of a Kafka the one it was given.
    ///
    /// # Panics
    /// When it doesn't run.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        match self.name {
            "kafka" => self.dir.join("kafka"),
            _ => std::fs::read_link(format!("/proc/{}/cwd", self.pid)).expect("it runs"),
        }
    }

    /// Starts it again, and comes back when it is ready.
    pub fn start_again(&mut self) {
        block_in_place(|| self.lend());
    }

    fn lend(&mut self) {
        let mut lender = Command::new(required("ASSENT_TEST_XTASK"))
            .args(["lend", self.name])
            .arg(&self.dir)
            .args(self.ports.map(|port| port.to_string()))
            .env("PGPASSWORD", &self.password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C ends the borrower, and by that the loan.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(lender.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        self.pid = line.trim().parse().unwrap_or_else(|_| {
            panic!("{} doesn't start: see {}", self.name, self.dir.join("logs").display())
        });
        self.lender = Some(lender);
    }

    /// Lets go of the lender, which then ends the server if it still runs.
    fn give_back(&mut self) {
        let Some(mut lender) = self.lender.take() else { return };
        drop(lender.stdin.take());
        let _ = lender.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.give_back();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
