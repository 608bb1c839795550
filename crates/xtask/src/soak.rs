//! `soak` and `upgrade`: a cluster under load and faults, or while every process of an older build is replaced,
//! judged afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compile::{cargo, linting_cargo};
use crate::error::{At as _, Error, Result};
use crate::machine;
use crate::process::{catch_interrupts, show};
use crate::suite::Stores;
use crate::workspace::{Home, root, target};

/// The build that `upgrade` begins with: where contracts and upgrades were begun to be kept. A release takes
/// its place.
const BEFORE: &str = "25426873d7217a7874c859946ebe7147f1a8e8cd";

/// Runs for so many minutes with the faults of this seed.
pub fn soak(minutes: u32, seed: u64, report: Option<&Path>) -> Result<()> {
    catch_interrupts();
    println!("{minutes} minutes of faults");
    let home = Home::open("soak")?;
    let minutes = minutes.to_string();
    run(&home, &["--minutes", &minutes, "--seed", &seed.to_string()], report)
}

/// Replaces every process of the build of [`BEFORE`] by this one, one after the other, under load.
pub fn upgrade(report: Option<&Path>) -> Result<()> {
    catch_interrupts();
    println!("a rolling upgrade from {}", &BEFORE[..12]);
    let home = Home::open("upgrade")?;
    let build = before(&home)?;
    run(&home, &["--from", &build.display().to_string()], report)
}

/// The folder of the older build, compiled from the history of this repository.
fn before(home: &Home) -> Result<PathBuf> {
    // A folder for each commit: what was compiled of it stays.
    let commit = home.path(BEFORE);
    std::fs::create_dir_all(&commit).at(&commit)?;
    let (source, archive) = (commit.join("source"), commit.join("source.tar"));
    let build = commit.join("build/debug");
    if build.join("assent").exists() {
        return Ok(build);
    }
    let mut git = Command::new("git");
    git.current_dir(root()).arg("archive").arg("--output").arg(&archive).arg(BEFORE);
    show(&mut git, "`git archive`").map_err(|_| {
        Error::Said(format!("the upgrade needs the whole history: {BEFORE} isn't in this clone"))
    })?;
    std::fs::create_dir_all(&source).at(&source)?;
    show(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source), "`tar`")?;
    let mut compile = cargo(&["build", "--quiet", "--locked", "--package", "assent"]);
    compile.current_dir(&source).arg("--target-dir").arg(commit.join("build"));
    show(&mut compile, "`cargo build` of the older build")?;
    Ok(build)
}

fn run(home: &Home, arguments: &[&str], report: Option<&Path>) -> Result<()> {
    machine::prepare(home)?;
    println!("build");
    show(&mut linting_cargo(&["build", "--workspace", "--bins"]), "`cargo build`")?;
    let stores = Stores::start(home)?;
    // As the tests are built: what is compiled for them is there already, and overflows are seen.
    let mut soak = cargo(&["bench", "--quiet", "--profile", "dev", "-p", "assent-tests"]);
    soak.args(["--bench", "soak", "--"]).args(arguments);
    if let Some(path) = report {
        soak.arg("--report").arg(std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
    }
    stores.tell(&mut soak, home, &target().join("debug"));
    show(&mut soak, "the soak")
}
