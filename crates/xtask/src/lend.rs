//! `lend`: one Postgres or Kafka in a folder of the borrower's own, started as everybody's is. It
//! guarantees that the server is gone when the borrower is; stopping it before is the borrower's.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rustix::process::Signal;

use crate::error::{At, Error, Result};
use crate::workspace::Home;
use crate::{artifacts, kafka, postgres};

/// What can be lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    Postgres,
    Kafka,
}

/// Arguments of `cargo xtask lend`.
#[derive(Debug, Args)]
pub struct Lend {
    /// Which server.
    server: Server,
    /// Its folder; what an earlier run left there is its data.
    dir: PathBuf,
    /// Its port.
    port: u16,
    /// Kafka's second port, for its controller.
    #[arg(default_value_t = 0)]
    controller_port: u16,
}

impl Lend {
    /// Starts the server, prints its process id once it is ready, and waits until standard input
    /// ends. The password of a Postgres comes in `PGPASSWORD`.
    pub fn run(&self) -> Result<()> {
        let home = Home::at(self.dir.clone())?;
        let programs = artifacts::fetch(&home)?;
        let process = match self.server {
            Server::Postgres => {
                let password = std::env::var("PGPASSWORD")
                    .map_err(|error| Error::Said(format!("PGPASSWORD: {error}")))?;
                postgres::start(&programs, &home, self.port, &password)?
            }
            Server::Kafka => {
                kafka::start(&programs, &home, (self.port, self.controller_port), None)?
            }
        };
        println!("{}", process.pid);
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).at("standard input")?;
        // Nobody wants its data any more, or its end is a fault that was meant.
        process.signal(match self.server {
            Server::Postgres => Signal::QUIT,
            Server::Kafka => Signal::KILL,
        });
        Ok(())
    }
}
