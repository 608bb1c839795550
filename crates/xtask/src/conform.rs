//! `conform`: whether every HTTP API does what its description says. Schemathesis makes requests up
//! from `docs/openapi`, good ones and bad ones, and holds each answer against it; a cluster of its own
//! answers. What no request got through to is said.

use std::process::Command;

use crate::cluster::Lent;
use crate::error::Result;
use crate::process::{catch_interrupts, show};
use crate::python::environment;
use crate::workspace::root;

/// The name of the cluster's folder.
const HOME: &str = "conform";

/// Asks every service.
pub fn conform() -> Result<()> {
    catch_interrupts();
    println!("HTTP APIs against their descriptions");
    let cluster = Lent::start(HOME)?;
    let requirements = root().join("crates/xtask/conform/requirements.txt");
    let python = environment(cluster.home(), "schemathesis", &requirements)?;
    let mut ask = Command::new(python);
    ask.arg(root().join("crates/xtask/conform/ask.py"))
        .arg(&cluster.home().dir)
        .arg(root().join("docs/openapi"));
    show(&mut ask, "the comparison of the HTTP APIs with their descriptions")
}
