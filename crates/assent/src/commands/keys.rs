//! `assent keys init`: the keys that a deployment is born with, mode 0600. A key that exists is
//! kept: overwriting one would lose everything sealed under it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use assent_runtime::{Ids, SystemIds};
use assent_sealing::{FileKek, IndexKeys, key_file};
use clap::Subcommand;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
use serde::Serialize;

use crate::outcome::{Failure, Output, Status};

/// `assent keys …`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make the keys that are missing in a folder.
    #[command(after_help = "\
Examples:
  assent keys init /etc/assent/keys

Writes vault.kek, messaging.kek, index.toml (vault), index-address.toml (messaging), certificates.pem
and certificates.pub.pem. What exists is kept. Keep the folder out of data backups.")]
    Init {
        /// The folder.
        dir: PathBuf,
    },
}

#[derive(Debug, Default, Serialize)]
struct Made {
    created: Vec<PathBuf>,
    kept: Vec<PathBuf>,
}

impl Keys {
    /// Runs it.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let Self::Init { dir } = self;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| Failure::file(dir, error))?;
        let made = init(dir)?;
        output.print(&made, |made| {
            let line = |verb: &str, path: &PathBuf| format!("{verb} {}", path.display());
            let created = made.created.iter().map(|path| line("created", path));
            let kept = made.kept.iter().map(|path| line("kept   ", path));
            created.chain(kept).collect::<Vec<_>>().join("\n")
        });
        Ok(Status::Done)
    }
}

fn init(dir: &Path) -> Result<Made, Failure> {
    let mut made = Made::default();
    let mut make = |name: &str, create: &dyn Fn(&Path) -> Result<(), Failure>| {
        let path = dir.join(name);
        if path.exists() {
            made.kept.push(path);
            return Ok(());
        }
        create(&path)?;
        made.created.push(path);
        Ok::<_, Failure>(())
    };
    let failed = |error: key_file::KeyFileError| Failure::wrong_use(error.to_string());
    for name in ["vault.kek", "messaging.kek"] {
        make(name, &|path| FileKek::generate(path, &SystemIds).map_err(failed))?;
    }
    make("index.toml", &|path| IndexKeys::generate(&SystemIds).write(path).map_err(failed))?;
    // Messaging must find the vault's tokens, so its address keys are the same.
    make("index-address.toml", &|path| {
        let keys = IndexKeys::load(&dir.join("index.toml")).map_err(failed)?;
        keys.write_address_only(path).map_err(failed)
    })?;
    make("certificates.pem", &|path| {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        SystemIds.fill(seed.as_mut());
        let pem = SigningKey::from_bytes(&seed)
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| Failure::file(path, error))?;
        key_file::create(path, &pem).map_err(failed)
    })?;
    make("certificates.pub.pem", &|path| {
        let private = dir.join("certificates.pem");
        let pem = key_file::read(&private).map_err(failed)?;
        let public = public_key(&pem).map_err(|error| Failure::file(&private, error))?;
        std::fs::write(path, public).map_err(|error| Failure::file(path, error))
    })?;
    Ok(made)
}

fn public_key(pem: &str) -> io::Result<String> {
    use ed25519_dalek::pkcs8::DecodePrivateKey;
    let key = SigningKey::from_pkcs8_pem(pem).map_err(io::Error::other)?;
    key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_private_and_a_second_run_changes_nothing() {
        let dir = std::env::temp_dir().join(format!("assent-keys-{}", SystemIds.v4()));
        std::fs::create_dir(&dir).unwrap();
        let first = init(&dir).unwrap();
        assert_eq!(first.created.len(), 6);
        let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let before = bytes("vault.kek");
        let second = init(&dir).unwrap();
        assert!(second.created.is_empty());
        assert_eq!(bytes("vault.kek"), before);
        for path in first.created.iter().filter(|path| !path.ends_with("certificates.pub.pem")) {
            let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        let pem = std::fs::read_to_string(dir.join("certificates.pub.pem")).unwrap();
        assert!(assent_erasure::certificate::public_key(&pem).is_ok());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
