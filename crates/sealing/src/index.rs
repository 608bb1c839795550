//! Blind indexes: keyed hashes of addresses, by which a number is found without being stored.
//! Address tokens link people to the gate; suppression fingerprints outlive an erasure. They are
//! made under separate keys, so that neither can be matched with the other.

use std::path::Path;

use assent_contracts::address::AddressToken;
use assent_runtime::Ids;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::DataKey;
use crate::key_file::{self, KeyFileError};
use crate::spelling::spellings;

/// The index keys of a deployment, as their file holds them. The vault has both kinds; messaging
/// has address keys only. The first key of a list makes no difference to the others: tokens are
/// made under each, so that a new key can be added before an old one is dropped.
pub struct IndexKeys {
    address: Vec<Keyed>,
    fingerprint: Vec<Keyed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    address: Vec<KeyEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fingerprint: Vec<KeyEntry>,
}

#[derive(Serialize, Deserialize, zeroize::ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: u8,
    key: String,
}

struct Keyed {
    id: u8,
    key: DataKey,
}

impl IndexKeys {
    /// New random keys of both kinds, each with id 1.
    #[must_use]
    pub fn generate(ids: &dyn Ids) -> Self {
        let fresh = || vec![Keyed { id: 1, key: DataKey::generate(ids) }];
        Self { address: fresh(), fingerprint: fresh() }
    }

    /// Reads them from a TOML file: `[[address]]` and `[[fingerprint]]`, each with `id` and `key`
    /// (64 hex digits).
    ///
    /// # Errors
    /// [`KeyFileError`] when it can't be read, is malformed or is open to others.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let malformed = |expected| KeyFileError::Malformed { path: path.to_owned(), expected };
        let text = key_file::read(path)?;
        let file: KeysFile = toml::from_str(&text).map_err(|_| {
            malformed("[[address]] and [[fingerprint]] tables with id and key (64 hex digits)")
        })?;
        let read = |entries: Vec<KeyEntry>| {
            entries
                .into_iter()
                .map(|entry| {
                    let key = key_file::from_hex(&entry.key)?;
                    Some(Keyed { id: entry.id, key: DataKey::from_bytes(*key) })
                })
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| malformed("keys of 64 hex digits"))
        };
        let keys = Self { address: read(file.address)?, fingerprint: read(file.fingerprint)? };
        if keys.address.is_empty() {
            return Err(malformed("at least one [[address]] key"));
        }
        Ok(keys)
    }

    /// Writes both kinds to a new file: the vault's.
    ///
    /// # Errors
    /// [`KeyFileError::Io`] when it exists or can't be written.
    pub fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        self.write_file(path, true)
    }

    /// Writes the address keys alone to a new file: messaging's.
    ///
    /// # Errors
    /// [`KeyFileError::Io`] when it exists or can't be written.
    pub fn write_address_only(&self, path: &Path) -> Result<(), KeyFileError> {
        self.write_file(path, false)
    }

    fn write_file(&self, path: &Path, fingerprints: bool) -> Result<(), KeyFileError> {
        let entries = |keys: &[Keyed]| {
            let entry = |keyed: &Keyed| KeyEntry {
                id: keyed.id,
                key: key_file::to_hex(keyed.key.expose()).to_string(),
            };
            keys.iter().map(entry).collect()
        };
        let file = KeysFile {
            address: entries(&self.address),
            fingerprint: if fingerprints { entries(&self.fingerprint) } else { Vec::new() },
        };
        let text = Zeroizing::new(toml::to_string(&file).expect("plain tables are TOML"));
        key_file::create(path, &text)
    }

    /// The index of addresses.
    #[must_use]
    pub fn addresses(&self) -> AddressIndex {
        AddressIndex(Macs::new(&self.address))
    }

    /// The index of suppression fingerprints; none where the file holds no such key.
    #[must_use]
    pub fn fingerprints(&self) -> Option<FingerprintIndex> {
        (!self.fingerprint.is_empty()).then(|| FingerprintIndex(Macs::new(&self.fingerprint)))
    }
}

/// Makes address tokens.
#[derive(Clone)]
pub struct AddressIndex(Macs);

impl AddressIndex {
    /// The tokens of all spellings of a number in E.164, under every key. The same number gives
    /// the same tokens in the same order, whichever spelling it came in.
    #[must_use]
    pub fn tokens(&self, e164: &str) -> Vec<AddressToken> {
        self.0.hash(e164).map(|(key_id, mac)| AddressToken { key_id, mac }).collect()
    }
}

/// Makes suppression fingerprints.
#[derive(Clone)]
pub struct FingerprintIndex(Macs);

/// A keyed hash of a suppressed or erased address: key id and 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 33]);

impl FingerprintIndex {
    /// The fingerprints of all spellings of a number in E.164, under every key.
    #[must_use]
    pub fn fingerprints(&self, e164: &str) -> Vec<Fingerprint> {
        let join = |(key_id, mac)| Fingerprint(AddressToken { key_id, mac }.to_bytes());
        self.0.hash(e164).map(join).collect()
    }
}

/// Keyed hash states, so that a hash costs two blocks instead of four. `Hmac` wipes nothing on
/// drop; index keys live as long as the process anyway.
#[derive(Clone)]
struct Macs(Vec<(u8, Hmac<Sha256>)>);

impl Macs {
    fn new(keys: &[Keyed]) -> Self {
        Self(keys.iter().map(|keyed| (keyed.id, keyed.key.hmac())).collect())
    }

    fn hash(&self, e164: &str) -> impl Iterator<Item = (u8, [u8; 32])> {
        let spellings = spellings(e164);
        self.0.iter().flat_map(move |(id, mac)| {
            let hash = |spelling: &String| {
                let mut mac = mac.clone();
                mac.update(spelling.as_bytes());
                (*id, mac.finalize().into_bytes().into())
            };
            spellings.iter().map(hash).collect::<Vec<_>>()
        })
    }
}

#[cfg(test)]
mod tests {
    use assent_runtime::SystemIds;

    use super::*;

    #[test]
    fn spellings_of_one_number_have_the_same_tokens() {
        let index = IndexKeys::generate(&SystemIds).addresses();
        assert_eq!(index.tokens("+5511987654321"), index.tokens("+551187654321"));
        assert_eq!(index.tokens("+5511987654321").len(), 2);
        assert_ne!(index.tokens("+33612345678"), index.tokens("+33612345679"));
    }

    #[test]
    fn a_fingerprint_is_no_address_token() {
        let keys = IndexKeys::generate(&SystemIds);
        let token = keys.addresses().tokens("+33612345678")[0].to_bytes();
        assert_ne!(keys.fingerprints().unwrap().fingerprints("+33612345678")[0].0, token);
    }

    #[test]
    fn key_files_round_trip_and_messaging_gets_no_fingerprint_key() {
        let folder = std::env::temp_dir().join(SystemIds.v4().to_string());
        std::fs::create_dir(&folder).unwrap();
        let (vault, messaging) = (folder.join("vault.toml"), folder.join("messaging.toml"));
        let keys = IndexKeys::generate(&SystemIds);
        keys.write(&vault).unwrap();
        keys.write_address_only(&messaging).unwrap();
        assert!(matches!(keys.write(&vault), Err(KeyFileError::Io { .. })), "never overwritten");

        let (vault, messaging) =
            (IndexKeys::load(&vault).unwrap(), IndexKeys::load(&messaging).unwrap());
        let tokens = keys.addresses().tokens("+33612345678");
        assert_eq!(vault.addresses().tokens("+33612345678"), tokens);
        assert_eq!(messaging.addresses().tokens("+33612345678"), tokens);
        assert!(vault.fingerprints().is_some());
        assert!(messaging.fingerprints().is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
