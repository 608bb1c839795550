//! `soak` and `upgrade`: a cluster under load and faults, or while every process of an older build is replaced,
//! judged afterwards.

use std::path::Path;

use crate::compile::{cargo, linting_cargo};
use crate::error::Result;
use crate::machine;
use crate::process::{catch_interrupts, show};
use crate::suite::Stores;
use crate::workspace::{Home, target};

/// Runs for so many minutes with the faults of this seed.
pub fn soak(minutes: u32, seed: u64, report: Option<&Path>) -> Result<()> {
    let minutes = minutes.to_string();
    run(&["--minutes", &minutes, "--seed", &seed.to_string()], report)
}

fn run(arguments: &[&str], report: Option<&Path>) -> Result<()> {
    catch_interrupts();
    let home = Home::open("soak")?;
    machine::prepare(&home)?;
    println!("build");
    show(&mut linting_cargo(&["build", "--workspace", "--bins"]), "`cargo build`")?;
    let stores = Stores::start(&home)?;
    // As the tests are built: what is compiled for them is there already, and overflows are seen.
    let mut soak = cargo(&["bench", "--quiet", "--profile", "dev", "-p", "assent-tests"]);
    soak.args(["--bench", "soak", "--"]).args(arguments);
    if let Some(path) = report {
        soak.arg("--report").arg(std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
    }
    stores.tell(&mut soak, &home, &target().join("debug"));
    show(&mut soak, "the soak")
}
