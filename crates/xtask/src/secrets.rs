//! The secrets of one cluster on this machine: made by `assent keys init --sandbox` on the first
//! start, kept in files that only their owner may read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::error::{At, Result};
use crate::process::step;
use crate::workspace::Home;

/// Tokens and passwords.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The password of the Postgres superuser.
    pub postgres_password: String,
    /// Bearer tokens by caller: `operator` and the services that call others.
    pub tokens: BTreeMap<String, String>,
    /// The simulator's and messaging's shared access token.
    pub whatsapp_access_token: String,
    /// Signs the simulator's webhooks.
    pub whatsapp_app_secret: String,
    /// Answers the webhook handshake.
    pub whatsapp_verify_token: String,
}

impl Secrets {
    /// The cluster's secrets; what is missing is made by this `assent`.
    pub fn open(home: &Home, assent: &Path) -> Result<Secrets> {
        let keys = home.path("keys");
        step(
            Command::new(assent).args(["keys", "init", "--sandbox"]).arg(&keys),
            "making keys",
            &home.log("keys"),
        )?;
        let sandbox = |name: &str| read(&keys.join("sandbox").join(name));
        let tokens = keys.join("tokens");
        let entries = std::fs::read_dir(&tokens).at(&tokens)?;
        let token = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.at(&tokens)?;
            Ok((entry.file_name().to_string_lossy().into_owned(), read(&entry.path())?))
        };
        Ok(Secrets {
            postgres_password: sandbox("postgres-password")?,
            tokens: entries.map(token).collect::<Result<_>>()?,
            whatsapp_access_token: sandbox("whatsapp-access-token")?,
            whatsapp_app_secret: sandbox("whatsapp-app-secret")?,
            whatsapp_verify_token: sandbox("whatsapp-verify-token")?,
        })
    }
}

fn read(path: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(path).at(path)?.trim_end().to_owned())
}

/// A password for a server that lasts no longer than one run.
pub fn one_time_password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .at("/dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
