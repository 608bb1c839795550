//! `conform`: whether every HTTP API does what its description says. Schemathesis makes requests up
//! from `docs/openapi`, good ones and bad ones, and holds each answer against it; a cluster of its own
//! answers. What no request got through to is said.

use std::path::PathBuf;
use std::process::Command;

use crate::cluster::Lent;
use crate::error::{At, Error, Result};
use crate::process::{catch_interrupts, show, step};
use crate::workspace::{Home, root, target};

/// The name of the cluster's folder.
const HOME: &str = "conform";

/// Asks every service.
pub fn conform() -> Result<()> {
    catch_interrupts();
    println!("HTTP APIs against their descriptions");
    let cluster = Lent::start(HOME)?;
    let python = python(cluster.home())?;
    let mut ask = Command::new(python);
    ask.arg(root().join("crates/xtask/conform/ask.py"))
        .arg(&cluster.home().dir)
        .arg(root().join("docs/openapi"));
    show(&mut ask, "the comparison of the HTTP APIs with their descriptions")
}

/// A Python with Schemathesis, made once per list of requirements under `target/tools`.
fn python(home: &Home) -> Result<PathBuf> {
    let requirements = root().join("crates/xtask/conform/requirements.txt");
    let wanted = std::fs::read(&requirements).at(&requirements)?;
    let tools = target().join("tools/schemathesis");
    let python = tools.join("bin/python");
    let installed = tools.join("requirements.txt");
    if std::fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let venv = step(
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&tools),
        "making a Python environment",
        &home.log("venv"),
    );
    venv.map_err(|error| {
        Error::Said(format!(
            "{error}\nIt needs Python 3.10 or newer and its venv: `apt-get install python3-venv`"
        ))
    })?;
    step(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements),
        "installing Schemathesis",
        &home.log("schemathesis"),
    )?;
    std::fs::write(&installed, wanted).at(&installed)?;
    Ok(python)
}
