//! How the workspace is compiled for `up` and `test`: once, by clippy's driver, which is the compiler
//! with its lints. A check of its own would compile every dependency a second time.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::workspace::root;

/// Cargo, as it runs us.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(arguments);
    cargo
}

/// Cargo with lints: what one of these commands has compiled, the others find compiled.
pub fn linting_cargo(arguments: &[&str]) -> Command {
    let mut cargo = cargo(arguments);
    if let Some(driver) = clippy_driver() {
        cargo.env("RUSTC_WORKSPACE_WRAPPER", driver);
    }
    cargo
}

/// Compiles everything, tests and benchmarks included. Any warning is an error, but one that
/// leaves what was compiled in place, so that the next run shows it again at once.
pub fn everything() -> Result<()> {
    if clippy_driver().is_none() {
        let said = "clippy is missing: `rustup component add clippy`, or install it beside rustc";
        return Err(Error::Said(said.to_owned()));
    }
    let mut command = linting_cargo(&["build", "--workspace", "--all-targets"]);
    let mut child = command
        .arg("--message-format=json-diagnostic-rendered-ansi")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start { program: "cargo".to_owned(), source })?;
    let mut warnings = 0;
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        // A line that is no message of this kind is none for us.
        let Ok(Message { message }) = serde_json::from_str(&line.unwrap_or_default()) else {
            continue;
        };
        warnings += usize::from(message.level == "warning");
        eprint!("{}", message.rendered.unwrap_or_default());
    }
    if !child.wait().is_ok_and(|status| status.success()) {
        return Err(Error::Said("`cargo build` failed".to_owned()));
    }
    if warnings > 0 {
        return Err(Error::Said(format!("the compiler warns {warnings} times: see above")));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Message {
    message: Diagnostic,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

/// Beside the compiler, if clippy is installed.
fn clippy_driver() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).current_dir(root()).args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(output.ok()?.stdout).ok()?;
    let driver = PathBuf::from(sysroot.trim()).join("bin/clippy-driver");
    driver.exists().then_some(driver)
}
