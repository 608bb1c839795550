//! Apache Kafka and Postgres as Maven artifacts, fetched once per version into
//! `target/artifacts` and shared by all clusters of this checkout.

use std::path::PathBuf;
use std::process::Command;

use crate::error::{At, Error, Result};
use crate::process::step;
use crate::workspace::{Home, root, target};

/// Where the fetched programs are.
pub struct Artifacts {
    /// Kafka's jars.
    pub jars: PathBuf,
    /// Postgres: `bin`, `lib`, `share`.
    pub postgres: PathBuf,
}

/// Fetches what is not there yet. Broken downloads leave nothing behind that a later run trusts.
pub fn fetch(home: &Home) -> Result<Artifacts> {
    let pom = root().join("crates/xtask/cluster/pom.xml");
    let text = std::fs::read_to_string(&pom).at(&pom)?;
    let dir = target().join("artifacts").join(fingerprint(&text));
    let artifacts = Artifacts { jars: dir.join("jars"), postgres: postgres_home(&dir) };
    let done = dir.join("complete");
    if done.exists() && artifacts.postgres.join("bin/postgres").exists() {
        return Ok(artifacts);
    }
    for part in [&dir, &artifacts.jars, &artifacts.postgres] {
        std::fs::create_dir_all(part).at(part)?;
    }
    let platform = match std::env::consts::ARCH {
        "x86_64" => "linux-amd64",
        "aarch64" => "linux-arm64v8",
        other => return Err(Error::Said(format!("no Postgres artifact for {other}"))),
    };
    step(
        Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-Dpostgres.platform={platform}"))
            .arg(format!("-DoutputDirectory={}", artifacts.jars.display())),
        "fetching Apache Kafka and Postgres",
        &home.log("fetch"),
    )?;
    let jar = std::fs::read_dir(&artifacts.jars)
        .at(&artifacts.jars)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("embedded-postgres-binaries"))
        .ok_or_else(|| Error::Said("the Postgres artifact is missing".to_owned()))?;
    step(
        Command::new("sh")
            .arg("-c")
            .arg("unzip -qo \"$0\" -d \"$1\" && tar -xJf \"$1\"/*.txz -C \"$1\" && rm \"$1\"/*.txz && chmod -R a+rX \"$1\"")
            .arg(&jar)
            .arg(&artifacts.postgres),
        "unpacking Postgres",
        &home.log("fetch"),
    )?;
    std::fs::write(&done, "").at(&done)?;
    Ok(artifacts)
}

/// Postgres must be reachable for the user that runs it, which is not root.
fn postgres_home(dir: &std::path::Path) -> PathBuf {
    crate::postgres::reachable(dir.join("postgres"))
}

fn fingerprint(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes())[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
