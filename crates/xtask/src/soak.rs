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

/// How a build that breaks a guarantee is judged: for so many seconds, with the faults of this seed. Where the
/// guarantee needs a fault to be seen broken, the seed is one that has it early.
struct Broken {
    guarantee: &'static str,
    seconds: u32,
    seed: u64,
}

const BROKEN: [Broken; 7] = [
    Broken { guarantee: "G1", seconds: 40, seed: 1 },
    // Seen when the ledger is killed between a commit and its answer.
    Broken { guarantee: "G2", seconds: 60, seed: 3 },
    Broken { guarantee: "G3", seconds: 20, seed: 1 },
    Broken { guarantee: "G4", seconds: 20, seed: 1 },
    Broken { guarantee: "G5", seconds: 20, seed: 1 },
    Broken { guarantee: "G6", seconds: 20, seed: 1 },
    Broken { guarantee: "G7", seconds: 20, seed: 1 },
];

/// Runs a build that breaks this guarantee, or one after the other each that a soak judges (`all`), and succeeds
/// only if the judge finds just that one broken.
pub fn broken(guarantee: &str, report: Option<&Path>) -> Result<()> {
    catch_interrupts();
    let chosen: Vec<&Broken> =
        BROKEN.iter().filter(|it| guarantee == "all" || it.guarantee == guarantee).collect();
    if chosen.is_empty() {
        let known = BROKEN.map(|it| it.guarantee).join(", ");
        return Err(Error::Said(format!("{guarantee} is unknown; there are {known} and all")));
    }
    let home = Home::open("soak")?;
    machine::prepare(&home)?;
    let binaries = wrong_on_purpose(&home)?;
    for Broken { guarantee, seconds, seed } in chosen {
        println!("a build that breaks {guarantee}");
        let (seconds, seed) = (seconds.to_string(), seed.to_string());
        let arguments = ["--seconds", &seconds, "--seed", &seed, "--expect", guarantee];
        judge(&home, &binaries, &arguments, &[("ASSENT_BROKEN", guarantee)], report)?;
    }
    Ok(())
}

/// The folder of the build with the feature `broken`. It never stays where others look for the sound one.
fn wrong_on_purpose(home: &Home) -> Result<PathBuf> {
    println!("build, wrong on purpose");
    let mut wrong = linting_cargo(&["build", "--workspace", "--bins"]);
    wrong.args(["--features", "assent/broken"]);
    let folder = home.path("broken");
    std::fs::create_dir_all(&folder).at(&folder)?;
    let built = show(&mut wrong, "`cargo build`").and_then(|()| {
        for name in ["assent", "whatsapp-sim", "xtask"] {
            let (from, to) = (target().join("debug").join(name), folder.join(name));
            let _ = std::fs::remove_file(&to);
            std::fs::copy(&from, &to).at(&from)?;
        }
        Ok(())
    });
    println!("build");
    show(&mut linting_cargo(&["build", "--workspace", "--bins"]), "`cargo build`")?;
    built.map(|()| folder)
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
    judge(home, &target().join("debug"), arguments, &[], report)
}

fn judge(
    home: &Home,
    binaries: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    report: Option<&Path>,
) -> Result<()> {
    let stores = Stores::start(home)?;
    // As the tests are built: what is compiled for them is there already, and overflows are seen.
    let mut soak = cargo(&["bench", "--quiet", "--profile", "dev", "-p", "assent-tests"]);
    soak.args(["--bench", "soak", "--"]).args(arguments).envs(environment.iter().copied());
    if let Some(path) = report {
        soak.arg("--report").arg(std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
    }
    stores.tell(&mut soak, home, binaries);
    show(&mut soak, "the soak")
}
