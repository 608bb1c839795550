//! Who calls whom inside a deployment: each service's key opens what its own calls need and nothing
//! else. What an endpoint demands is said by its handler.

use std::path::Path;

use assent_http::auth::{SCOPES, key_entry};
use assent_sealing::key_file;

use crate::outcome::Failure;

/// A caller that a deployment is born with.
pub struct Caller {
    /// Its name in access records; a service answers erasures under it.
    pub name: &'static str,
    scopes: &'static [&'static str],
}

/// What the ledger alone may say: that somebody is kept no longer, so that nobody has to show who asks.
const LEDGERS_OWN: &str = "erasure:retention";

impl Caller {
    /// The scopes of its key. The operator's opens all but what the ledger alone may say.
    fn opens(&self) -> Vec<&'static str> {
        let own = |scope: &&str| *scope != LEDGERS_OWN || self.name == "consent";
        self.scopes.iter().copied().filter(own).collect()
    }
}

/// The operator and the services that call others.
pub const CALLERS: [Caller; 7] = [
    // Whoever runs the deployment; people who work with it get keys with less.
    Caller { name: "operator", scopes: &SCOPES },
    // Who is kept no longer is to be erased.
    Caller { name: "consent", scopes: &["erasure:ack", LEDGERS_OWN] },
    // An opt-out list becomes stops at the gate; a list that is screened is judged by it.
    Caller { name: "vault", scopes: &["erasure:ack", "gate:write", "consent:read"] },
    Caller {
        name: "messaging",
        scopes: &[
            // A person's own START: found or made at the vault, granted at the ledger.
            "subjects:read",
            "subjects:write",
            "consent:write",
            // Which templates her consent covers, once the window is closed.
            "consent:read",
            // Her STOP.
            "gate:write",
            // A message: the permit, then the address; what she writes is sealed under her key.
            "permits:write",
            "subjects:resolve",
            "keys:lease",
            "erasure:ack",
            // What she asks for by a message: taken in, and shown by her number alone.
            "erasure:intake",
            // A campaign: its people from the read models, and what the gate would say of them.
            "query:read",
            "consent:read",
        ],
    },
    // A request for erasure withdraws everything first, or stops the number where nobody is known; the
    // dates of each come from the rules. What a person asks to see it asks every service for, and keeps it
    // under her key until she collects it.
    Caller {
        name: "erasure",
        // What she has put right is put right at the vault.
        scopes: &[
            "consent:write",
            "consent:read",
            "gate:write",
            "subjects:write",
            "subjects:export",
            "keys:lease",
            // What is restricted is restricted at the gate, for the sake of a request.
            "restrictions:write",
        ],
    },
    Caller { name: "projector", scopes: &["erasure:ack"] },
    // A person's page: what she agreed to, and her yes or no, from the number that she has shown to be
    // hers; what she asks for there; where her request stands, and what it is answered with, for whoever has its
    // secret.
    Caller {
        name: "console",
        scopes: &["consent:read", "consent:write", "gate:write", "erasure:intake", "erasure:track"],
    },
];

/// The callers' file for the tokens in this folder: their hashes, never the tokens.
///
/// # Errors
/// When a token can't be read.
pub fn file(tokens: &Path) -> Result<String, Failure> {
    let mut text = String::from("# Who may call: a token's SHA-256 and what it opens.\n");
    for caller in CALLERS {
        let name = caller.name;
        let token = key_file::read(&tokens.join(name))
            .map_err(|error| Failure::wrong_use(error.to_string()))?;
        text.push('\n');
        text.push_str(&key_entry(name, token.trim_end(), &caller.opens()));
    }
    Ok(text)
}
