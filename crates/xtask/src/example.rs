//! The small example that `up` loads: four invented people, none of whom may be messaged.

use std::path::Path;
use std::process::Command;

use crate::error::{At, Result};
use crate::process::step;
use crate::secrets::Secrets;
use crate::services::Addresses;
use crate::workspace::{Home, root};

/// Imports the example once per data folder.
pub fn run(home: &Home, assent: &Path, secrets: &Secrets, addresses: &Addresses) -> Result<()> {
    let done = home.path("example.done");
    if done.exists() {
        return Ok(());
    }
    step(
        Command::new(assent)
            .arg("import")
            .arg(root().join("docs/examples/contacts.csv"))
            .args(["--country", "FR"])
            .env("ASSENT_URL", addresses.url("gateway"))
            .env("ASSENT_TOKEN", &secrets.tokens["operator"]),
        "importing the example contacts",
        &home.log("example"),
    )?;
    std::fs::write(&done, "").at(&done)
}
