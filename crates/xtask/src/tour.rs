//! `tour`: what pages show of a shell is what a shell shows. Every block that is marked `console` is typed, page by
//! page, each on a new cluster, and what it prints is held against the page; ids, moments and ports may differ.

mod compare;
mod page;
mod shell;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use compare::Seen;
use page::Step;
use shell::Shell;

use crate::book;
use crate::cluster::Lent;
use crate::error::{At, Error, Result};
use crate::process::{catch_interrupts, wait_until};
use crate::workspace::{Home, root};

/// Walks the named pages; all of them when none is named.
pub fn tour(names: &[PathBuf]) -> Result<()> {
    catch_interrupts();
    println!("what pages show of a shell");
    let mut pages = Vec::new();
    for path in book::pages(&root()) {
        if !names.is_empty() && !names.contains(&path) {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).at(&path)?;
        let steps = page::steps(&text)
            .map_err(|fault| Error::Said(format!("{}:{fault}", path.display())))?;
        if !steps.is_empty() {
            pages.push((path, steps));
        }
    }
    if let Some(name) = names.iter().find(|name| pages.iter().all(|(path, _)| path != *name)) {
        return Err(Error::Said(format!("{}: no page with `console` blocks", name.display())));
    }
    let mut faults = Vec::new();
    for (path, steps) in &pages {
        let cluster = Lent::start("tour")?;
        match walk(cluster.home(), path, steps)? {
            Some(fault) => faults.push(fault),
            None => println!("  {}: {} commands", path.display(), steps.len()),
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Said(faults.join("\n\n"))) }
}

/// Types a page's commands; the first that prints something else, told for people.
fn walk(home: &Home, path: &Path, steps: &[Step]) -> Result<Option<String>> {
    let desk = desk(home)?;
    settled(home, &desk)?;
    let mut shell = Shell::start(&desk, &home.path("env"))?;
    let mut seen = Seen::default();
    for step in steps {
        let printed = shell.run(&seen.as_here(&step.command))?;
        if !seen.holds(&step.printed, &printed) {
            return Ok(Some(format!(
                "{}:{}: another output than on the page\n$ {}\n--- the page\n{}\n--- here\n{}",
                path.display(),
                step.line,
                step.command,
                step.printed,
                printed.trim_end()
            )));
        }
    }
    Ok(None)
}

/// Where the commands are typed: a folder in which the repository's examples and the cluster's settings are where
/// they are for whoever follows the page.
fn desk(home: &Home) -> Result<PathBuf> {
    let desk = home.path("desk");
    let _ = fs::remove_dir_all(&desk);
    let target = desk.join("target");
    fs::create_dir_all(&target).at(&target)?;
    for (there, name) in [(root().join("docs"), "docs"), (home.dir.clone(), "target/dev")] {
        let link = desk.join(name);
        std::os::unix::fs::symlink(there, &link).at(&link)?;
    }
    Ok(desk)
}

/// Waits until the gate knows the people whom `up` has imported: nobody types as fast as this.
fn settled(home: &Home, desk: &Path) -> Result<()> {
    let screen = ". target/dev/env && assent screen docs/examples/contacts.csv --country FR --json";
    let known = wait_until(Duration::from_secs(30), || {
        let screened = Command::new("bash").current_dir(desk).args(["-c", screen]).output();
        screened.is_ok_and(|output| {
            let printed = String::from_utf8_lossy(&output.stdout);
            printed.contains("no_consent") && !printed.contains("address_")
        })
    });
    let failed = || Error::Said(format!("the example was not loaded; see {}", home.dir.display()));
    if known { Ok(()) } else { Err(failed()) }
}
