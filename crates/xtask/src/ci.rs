//! `ci`: the suite, then what takes longer than a developer waits for: a public client library
//! against the simulator, damaged webhooks, the documentation without a warning, the HTTP APIs against their
//! descriptions, what is written for other teams, the Kubernetes manifests, a rolling upgrade, and the dependency
//! tree's licences, sources, bans and known
//! vulnerabilities.

use std::path::PathBuf;
use std::process::Command;

use crate::clients;
use crate::compile::cargo;
use crate::conform::conform;
use crate::error::Result;
use crate::examples::examples;
use crate::fuzz;
use crate::manifests::manifests;
use crate::process::show;
use crate::soak;
use crate::suite;
use crate::workspace::{root, target};

const CARGO_DENY: &str = "0.20.2";

/// Runs everything.
pub fn ci() -> Result<()> {
    suite::test(&[])?;
    println!("pywa against the simulator");
    clients::check()?;
    println!("damaged webhooks");
    fuzz::fuzz(1_000_000, 1)?;
    println!("documentation");
    show(
        cargo(&["doc", "--workspace", "--no-deps", "--quiet", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
        "`cargo doc`",
    )?;
    conform()?;
    examples()?;
    manifests()?;
    soak::upgrade(None)?;
    println!("dependencies");
    let deny = cargo_deny()?;
    let check = |what: &[&str]| {
        let mut check = Command::new(&deny);
        check.current_dir(root()).args(["--workspace", "--log-level", "warn"]).args(what);
        check
    };
    show(
        &mut check(&["check", "licenses", "bans", "sources"]),
        "`cargo deny check licenses bans sources`",
    )?;
    // The database of vulnerabilities is a Git repository: an isolated machine can't have it.
    if check(&["fetch", "db"]).status().is_ok_and(|status| status.success()) {
        show(&mut check(&["check", "advisories"]), "`cargo deny check advisories`")
    } else {
        println!("NOT CHECKED: known vulnerabilities; their database can't be reached from here");
        Ok(())
    }
}

/// The checker, built once under `target/tools`.
fn cargo_deny() -> Result<PathBuf> {
    let tools = target().join(format!("tools/cargo-deny-{CARGO_DENY}"));
    let program = tools.join("bin/cargo-deny");
    if !program.exists() {
        let mut install = cargo(&["install", "--quiet", "--locked", "cargo-deny", "--version"]);
        install.arg(CARGO_DENY).arg("--root").arg(&tools);
        show(&mut install, "`cargo install cargo-deny`")?;
    }
    Ok(program)
}
