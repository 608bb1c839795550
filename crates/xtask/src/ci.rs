//! `ci`: the suite, then what takes longer than a developer waits for: a public client library
//! against the simulator, damaged webhooks, the documentation without a warning and as a book, the HTTP APIs against their
//! descriptions, what is written for other teams, what pages show of a shell, the Kubernetes manifests, a rolling upgrade, and the dependency
//! tree's licences, sources, bans and known
//! vulnerabilities.

use std::process::Command;

use crate::book::book;
use crate::cargo_tool::{self, CargoTool};
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
use crate::tour::tour;
use crate::workspace::root;

const CARGO_DENY: CargoTool = CargoTool { name: "cargo-deny", version: "0.20.2", options: &[] };

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
    book()?;
    conform()?;
    examples()?;
    tour(&[])?;
    manifests()?;
    soak::upgrade(None)?;
    println!("dependencies");
    let deny = cargo_tool::program(&CARGO_DENY)?;
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
