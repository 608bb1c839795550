//! `assent keys …`: the secrets that a deployment is born with, mode 0600, and how they are changed while it serves
//! (`change`, `rewrap`, `status`). What exists is kept: overwriting a key would lose everything sealed under it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use assent_runtime::{Ids, SystemIds};
use assent_sealing::{FileKek, IndexKeys, LinkKey, key_file};
use clap::Subcommand;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
use serde::Serialize;

use super::callers;
use crate::outcome::{Failure, Output, Status};

mod change;
mod reindex;
mod rewrap;

pub use reindex::run as reindex;

/// `assent keys …`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make the keys and tokens that are missing in a folder.
    #[command(after_help = "\
Examples:
  assent keys init /etc/assent/keys
  assent keys init --sandbox /keys

Writes vault.kek, messaging.kek, index.toml (vault), index-address.toml (messaging); certificates.pem
(erasure) and receipts.pem (consent), each with its .pub.pem; links.key (consent, console); tokens/NAME for the operator and each service, and callers.toml with their
hashes and the scopes that each needs. What exists is kept. Keep the folder out of data backups.

With --sandbox also what a real deployment gets from others: sandbox/postgres-password (and as pgpass),
sandbox/whatsapp-access-token, whatsapp-app-secret and whatsapp-verify-token.")]
    Init {
        /// The folder.
        dir: PathBuf,
        /// Also Postgres's password and the secrets that messaging shares with the simulator.
        #[arg(long)]
        sandbox: bool,
    },
    /// Make the wrapping key of a service in its PKCS#11 module, from which it never goes out.
    #[command(after_help = "\
Examples:
  assent keys generate vault --config /etc/assent/assent.toml

  assent keys generate vault --label assent-vault-2 --config /etc/assent/assent.toml

Needs kek_module, kek_token, kek_label (or kek_other_labels) and kek_pin_file of the service. A key of that label that
is there stays: then the exit status is 2.")]
    Generate(rewrap::Generate),
    /// Change which keys a key file holds, one step at a time.
    #[command(after_help = "\
Examples:
  assent keys change add /etc/assent/keys/vault.kek
  assent keys change turn /etc/assent/keys/vault.kek
  assent keys change drop /etc/assent/keys/vault.kek
  assent keys change add /etc/assent/keys/index.toml /etc/assent/keys/index-address.toml

add: a new key comes behind the others, known and not in use. turn: the last key becomes the first, which is in use.
drop: the last key goes; the only one stays. Of index keys, which are changed in both files at once, a turn lets the
last one hash alone and the others look; none of them goes. Files are read at the start: replace the replicas one after
the other between two steps; drop nothing before `assent keys status`, and turn no index keys before `assent keys
reindex` says that nobody is left.")]
    Change(change::Change),
    /// Hash everybody under the index keys in use, and under no other.
    #[command(after_help = "\
Examples:
  assent keys reindex

Beside the running services, once every replica of the vault and of messaging has the new key, and once more after the
turn. It goes through all
people by pieces of a hundred, puts each reading of a number on record (index_renewed), and may be interrupted and
repeated. Exit status: 0 nobody is left who lacks a key, 1 somebody is, 2 the token may not do it, 3 a service didn't
answer.")]
    Reindex,
    /// Wrap every key of a service again, under the wrapping key that is in use now.
    #[command(after_help = "\
Examples:
  assent keys rewrap vault --config /etc/assent/assent.toml

For a change of the wrapping key, or its move into a module, beside the running services, once every replica wraps
with the new one. Keys that were destroyed stay destroyed; backups aren't touched. It may be interrupted and repeated.
Exit status: 0 none is left that another key wraps, 1 some are, 2 wrong configuration, 3 a store or the module didn't
answer.")]
    Rewrap(rewrap::Rewrap),
    /// Show which wrapping keys a service has, and how many keys need each.
    #[command(after_help = "\
Examples:
  assent keys status vault --config /etc/assent/assent.toml

Exit status: 0 all are wrapped by the key in use, 1 some by another, 2 wrong configuration, 3 a store or the module
didn't answer.")]
    Status(rewrap::Show),
}

/// What became of the files.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Made {
    created: Vec<PathBuf>,
    kept: Vec<PathBuf>,
}

impl Made {
    /// Makes a file that isn't there.
    fn file(
        &mut self,
        path: PathBuf,
        create: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if path.exists() {
            self.kept.push(path);
            return Ok(());
        }
        create(&path)?;
        self.created.push(path);
        Ok(())
    }
}

impl Keys {
    /// Runs it.
    ///
    /// # Errors
    /// When a file can't be written.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let (dir, sandbox) = match self {
            Self::Generate(generate) => return generate.run(output),
            Self::Change(change) => return change.run(output),
            Self::Rewrap(rewrap) => return rewrap.run(output).await,
            Self::Status(status) => return status.run(output).await,
            // It calls the services: see [`reindex`].
            Self::Reindex => return Ok(Status::Done),
            Self::Init { dir, sandbox } => (dir, sandbox),
        };
        let made = init(dir, *sandbox)?;
        output.print(&made, |made| {
            let line = |verb: &str, path: &PathBuf| format!("{verb} {}", path.display());
            let created = made.created.iter().map(|path| line("created", path));
            let kept = made.kept.iter().map(|path| line("kept   ", path));
            created.chain(kept).collect::<Vec<_>>().join("\n")
        });
        Ok(Status::Done)
    }
}

/// Makes what is missing in the folder.
pub(crate) fn init(dir: &Path, sandbox: bool) -> Result<Made, Failure> {
    private_dir(dir)?;
    let mut made = Made::default();
    keys(dir, &mut made)?;
    let callers = dir.join("callers.toml");
    // Tokens that the file doesn't know would open nothing: they are made with it or not at all.
    if !callers.exists() {
        let tokens = dir.join("tokens");
        private_dir(&tokens)?;
        for caller in callers::CALLERS {
            made.file(tokens.join(caller.name), |path| write(path, &random_hex()))?;
        }
    }
    made.file(callers, |path| write(path, &callers::file(&dir.join("tokens"))?))?;
    if sandbox {
        let dir = dir.join("sandbox");
        private_dir(&dir)?;
        for name in [
            "postgres-password",
            "whatsapp-access-token",
            "whatsapp-app-secret",
            "whatsapp-verify-token",
        ] {
            made.file(dir.join(name), |path| write(path, &random_hex()))?;
        }
        made.file(dir.join("pgpass"), |path| {
            let password = read(&dir.join("postgres-password"))?;
            write(path, &format!("*:*:*:postgres:{}\n", password.trim_end()))
        })?;
    }
    Ok(made)
}

fn keys(dir: &Path, made: &mut Made) -> Result<(), Failure> {
    for name in ["vault.kek", "messaging.kek"] {
        made.file(dir.join(name), |path| FileKek::generate(path, &SystemIds).map_err(failed))?;
    }
    let index = dir.join("index.toml");
    made.file(index.clone(), |path| IndexKeys::generate(&SystemIds).write(path).map_err(failed))?;
    // Messaging must find the vault's tokens, so its address keys are the same.
    made.file(dir.join("index-address.toml"), |path| {
        IndexKeys::load(&index).and_then(|keys| keys.write_address_only(path)).map_err(failed)
    })?;
    made.file(dir.join("links.key"), |path| LinkKey::generate(path, &SystemIds).map_err(failed))?;
    for name in ["certificates", "receipts"] {
        signing_key(dir, name, made)?;
    }
    Ok(())
}

/// A private key and its public one.
fn signing_key(dir: &Path, name: &str, made: &mut Made) -> Result<(), Failure> {
    let private = dir.join(format!("{name}.pem"));
    made.file(private.clone(), |path| {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        SystemIds.fill(seed.as_mut());
        let pem = SigningKey::from_bytes(&seed)
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| Failure::file(path, error))?;
        write(path, &pem)
    })?;
    made.file(dir.join(format!("{name}.pub.pem")), |path| {
        let public =
            public_key(&read(&private)?).map_err(|error| Failure::file(&private, error))?;
        std::fs::write(path, public).map_err(|error| Failure::file(path, error))
    })
}

fn public_key(pem: &str) -> io::Result<String> {
    use ed25519_dalek::pkcs8::DecodePrivateKey;
    let key = SigningKey::from_pkcs8_pem(pem).map_err(io::Error::other)?;
    key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(io::Error::other)
}

fn private_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::file(dir, error))
}

fn write(path: &Path, content: &str) -> Result<(), Failure> {
    key_file::create(path, content).map_err(failed)
}

fn read(path: &Path) -> Result<zeroize::Zeroizing<String>, Failure> {
    key_file::read(path).map_err(failed)
}

fn failed(error: key_file::KeyFileError) -> Failure {
    Failure::wrong_use(error.to_string())
}

/// 256 bits.
fn random_hex() -> zeroize::Zeroizing<String> {
    use std::fmt::Write;
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    SystemIds.fill(bytes.as_mut());
    let mut hex = zeroize::Zeroizing::new(String::with_capacity(64));
    for byte in bytes.iter() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use assent_http::auth::{Keys, SCOPES};

    use super::*;

    #[test]
    fn secrets_are_private_and_a_second_run_changes_nothing() {
        let dir = std::env::temp_dir().join(format!("assent-keys-{}", SystemIds.v4()));
        let first = init(&dir, true).unwrap();
        assert_eq!(first.created.len(), 9 + 8 + 5);
        let read_all = || first.created.iter().map(|path| std::fs::read(path).unwrap());
        let before: Vec<Vec<u8>> = read_all().collect();
        let second = init(&dir, true).unwrap();
        assert!(second.created.is_empty());
        assert_eq!(read_all().collect::<Vec<_>>(), before);
        for path in
            first.created.iter().filter(|path| !path.to_string_lossy().ends_with(".pub.pem"))
        {
            let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        let pem = std::fs::read_to_string(dir.join("certificates.pub.pem")).unwrap();
        assert!(assent_signing::public_key(&pem).is_ok());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_token_opens_what_its_caller_needs_and_no_more() {
        let dir = std::env::temp_dir().join(format!("assent-callers-{}", SystemIds.v4()));
        init(&dir, false).unwrap();
        assert!(!dir.join("sandbox").exists());
        let text = std::fs::read_to_string(dir.join("callers.toml")).unwrap();
        let keys = Keys::parse(&text).unwrap();
        let caller = |name: &str| {
            let token = std::fs::read_to_string(dir.join("tokens").join(name)).unwrap();
            keys.caller(&token).unwrap()
        };
        let operators = SCOPES.iter().filter(|scope| **scope != "erasure:retention");
        assert!(operators.into_iter().all(|scope| caller("operator").has(scope)));
        for name in callers::CALLERS.map(|caller| caller.name) {
            let ledger = name == "consent";
            assert_eq!(caller(name).has("erasure:retention"), ledger, "{name}");
            assert!(!ledger || !caller(name).has("erasure:write"));
        }
        assert!(caller("messaging").has("permits:write"));
        assert!(!caller("messaging").has("suppression:read"));
        for name in ["messaging", "console"] {
            // They bring what people ask for, and neither vouch for anybody else nor decide.
            assert!(caller(name).has("erasure:intake"), "{name}");
            assert!(!caller(name).has("erasure:decide") && !caller(name).has("erasure:write"));
        }
        assert!(!caller("messaging").has("erasure:track"), "a secret is for her page");
        let of_projector = SCOPES.iter().filter(|scope| caller("projector").has(scope));
        assert_eq!(of_projector.collect::<Vec<_>>(), [&"erasure:ack"]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
