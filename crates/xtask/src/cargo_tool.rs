//! Programs of the checks that Cargo builds, each once under `target/tools`.

use std::path::PathBuf;

use crate::compile::cargo;
use crate::error::Result;
use crate::process::show;
use crate::workspace::target;

/// Such a program.
pub struct CargoTool {
    /// The package and the program in it.
    pub name: &'static str,
    /// The exact version.
    pub version: &'static str,
    /// How it is built, if not as it is by default.
    pub options: &'static [&'static str],
}

/// The program, built if it isn't there yet.
pub fn program(tool: &CargoTool) -> Result<PathBuf> {
    let tools = target().join(format!("tools/{}-{}", tool.name, tool.version));
    let program = tools.join("bin").join(tool.name);
    if !program.exists() {
        let mut install = cargo(&["install", "--quiet", "--locked", tool.name, "--version"]);
        install.arg(tool.version).args(tool.options).arg("--root").arg(&tools);
        show(&mut install, &format!("`cargo install {}`", tool.name))?;
    }
    Ok(program)
}
