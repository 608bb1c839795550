//! Python tools of the checks, each in an environment of its own under `target/tools`, never in the
//! system's.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{At, Error, Result};
use crate::process::step;
use crate::workspace::{Home, target};

/// The Python of an environment with what `requirements` lists, made once per list.
pub fn environment(home: &Home, name: &str, requirements: &Path) -> Result<PathBuf> {
    let wanted = std::fs::read(requirements).at(requirements)?;
    let tools = target().join("tools").join(name);
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
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .arg("--requirement")
            .arg(requirements),
        &format!("installing {name}"),
        &home.log(name),
    )?;
    std::fs::write(&installed, wanted).at(&installed)?;
    Ok(python)
}
