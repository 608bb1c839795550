//! The secrets of one cluster on this machine: random, made once, kept in files that only their
//! owner may read.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{At, Error, Result};
use crate::workspace::{Home, write_private};

/// Every scope that a caller can have.
const ALL_SCOPES: &[&str] = &[
    "consent:read",
    "consent:write",
    "gate:write",
    "permits:write",
    "subjects:read",
    "subjects:write",
    "subjects:resolve",
    "keys:lease",
    "seal:write",
    "suppression:read",
    "suppression:write",
    "messages:read",
    "messages:write",
    "erasure:read",
    "erasure:write",
    "erasure:ack",
    "query:read",
    "operations",
];

/// Tokens and passwords.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// The password of the Postgres superuser.
    pub postgres_password: String,
    /// Bearer tokens by caller: `operator` and one per service.
    pub tokens: BTreeMap<String, String>,
    /// The simulator's and messaging's shared access token.
    pub whatsapp_access_token: String,
    /// Signs the simulator's webhooks.
    pub whatsapp_app_secret: String,
    /// Answers the webhook handshake.
    pub whatsapp_verify_token: String,
}

impl Secrets {
    /// The cluster's secrets, made on the first call.
    pub fn open(home: &Home) -> Result<Secrets> {
        let path = home.path("secrets.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            return serde_json::from_str(&text)
                .map_err(|error| Error::Said(format!("{}: {error}", path.display())));
        }
        let callers = ["operator", "consent", "vault", "messaging", "erasure", "projector"];
        let secrets = Secrets {
            postgres_password: random_hex()?,
            tokens: callers
                .iter()
                .map(|caller| Ok(((*caller).to_owned(), random_hex()?)))
                .collect::<Result<_>>()?,
            whatsapp_access_token: random_hex()?,
            whatsapp_app_secret: random_hex()?,
            whatsapp_verify_token: random_hex()?,
        };
        write_private(&path, &serde_json::to_string_pretty(&secrets).expect("plain data"))?;
        Ok(secrets)
    }

    /// The callers' file that the services read: hashes of the tokens, never the tokens.
    #[must_use]
    pub fn callers_toml(&self) -> String {
        let scopes =
            ALL_SCOPES.iter().map(|scope| format!("\"{scope}\"")).collect::<Vec<_>>().join(", ");
        self.tokens
            .iter()
            .map(|(name, token)| {
                format!(
                    "[[key]]\nname = \"{name}\"\nsha256 = \"{}\"\nscopes = [{scopes}]\n\n",
                    hex(&Sha256::digest(token.as_bytes()))
                )
            })
            .collect()
    }
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .at("/dev/urandom")?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
