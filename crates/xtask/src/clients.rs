//! A public client library against the simulator: the simulator is one that a library which was made
//! for Meta can't tell from Meta. The library, pinned, lives in an environment under `target`.

use std::process::Command;
use std::time::Duration;

use crate::compile::linting_cargo;
use crate::error::{Error, Result};
use crate::ports::Ports;
use crate::process::{Process, catch_interrupts, show, wait_until};
use crate::python::environment;
use crate::services::SIMULATOR;
use crate::workspace::{Home, root, target};

/// Runs the library's check against a simulator of its own.
pub fn check() -> Result<()> {
    catch_interrupts();
    let home = Home::open("clients")?;
    show(&mut linting_cargo(&["build", "--workspace", "--bins"]), "`cargo build`")?;
    let folder = root().join("crates/whatsapp-sim/clients");
    let python = environment(&home, "pywa", &folder.join("requirements.txt"))?;
    let address = format!("127.0.0.1:{}", Ports::default().any());
    let log = home.log(SIMULATOR);
    let _ = std::fs::remove_file(&log);
    let mut simulator = Command::new(target().join("debug").join(SIMULATOR));
    simulator.args(["--listen", &address, "--status-delay-ms", "5", "--seed", "1"]);
    let simulator = Process::start(&mut simulator, &log)?;
    let listens = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening"));
    let checked = if wait_until(Duration::from_secs(20), listens) {
        let mut check = Command::new(python);
        check.arg(folder.join("pywa_check.py")).arg(format!("http://{address}"));
        show(&mut check, "pywa against the simulator")
    } else {
        Err(Error::Said(format!("the simulator didn't start: see {}", log.display())))
    };
    simulator.stop(Duration::from_secs(5));
    checked
}
