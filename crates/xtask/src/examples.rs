//! `examples`: what is written for other teams, held against a cluster of its own: the schemas of events, the
//! AsyncAPI document, and the examples in three languages as those teams run them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::Lent;
use crate::error::{At, Error, Result};
use crate::process::{catch_interrupts, show, step};
use crate::python::environment;
use crate::workspace::{Home, root, target};

/// The name of the cluster's folder.
const HOME: &str = "examples";

/// Runs them.
pub fn examples() -> Result<()> {
    catch_interrupts();
    println!("contracts and examples");
    for (program, package) in
        [("node", "nodejs"), ("npm", "npm"), ("javac", "default-jdk-headless")]
    {
        need(program, package)?;
    }
    let checks = root().join("crates/xtask/examples");
    let cluster = Lent::start(HOME)?;
    let home = cluster.home();
    let python = environment(home, "examples", &checks.join("requirements.txt"))?;

    let tools = home.path("asyncapi");
    copy(&checks, &tools, &["package.json", "package-lock.json", "asyncapi.mjs"])?;
    install(home, &tools, "the AsyncAPI parser")?;
    let document = root().join("docs/asyncapi/assent.json");
    let mut parse = Command::new("node");
    parse.current_dir(&tools).arg("asyncapi.mjs").arg(document);
    show(&mut parse, "the check of docs/asyncapi")?;

    let examples = root().join("docs/examples");
    let node = home.path("node");
    copy(
        &examples.join("node"),
        &node,
        &["package.json", "package-lock.json", "follow.mjs", "participant.mjs"],
    )?;
    install(home, &node, "the client for Node")?;
    let java = home.path("java");
    copy(&examples.join("java"), &java, &["pom.xml", "Follow.java", "Participant.java"])?;
    step(
        Command::new("mvn").current_dir(&java).args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=lib",
        ]),
        "fetching the client for Java",
        &home.log("mvn"),
    )?;

    let mut check = Command::new(python);
    check
        .arg(checks.join("check.py"))
        .arg(&home.dir)
        .arg(root())
        .env("ASSENT_BINARY", target().join("debug/assent"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    show(&mut check, "the check of the examples")
}

fn need(program: &str, package: &str) -> Result<()> {
    let mut look = Command::new(program);
    let found = look.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Error::Said(format!(
        "the examples need {program}, which isn't there: `apt-get install {package}`"
    )))
}

/// What npm or Maven put beside a program stays out of the workspace.
fn copy(from: &Path, to: &Path, names: &[&str]) -> Result<()> {
    std::fs::create_dir_all(to).at(to)?;
    for name in names {
        let (from, to) = (from.join(name), to.join(name));
        std::fs::copy(&from, &to).at(&from)?;
    }
    Ok(())
}

fn install(home: &Home, dir: &Path, what: &str) -> Result<()> {
    step(
        Command::new("npm").current_dir(dir).args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
        ]),
        &format!("installing {what}"),
        &home.log("npm"),
    )
}
