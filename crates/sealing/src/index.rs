//! Blind indexes: keyed hashes of addresses, by which a number is found without being stored.
//! Address tokens link people to the gate; suppression fingerprints outlive an erasure. They are
//! made under separate keys, so that neither can be matched with the other.

use std::path::{Path, PathBuf};

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
/// has address keys only. Hashes are made under each key and looked for under each, so that a new key can be
/// added beside an old one; under one that looks only none is made any more.
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    looks_only: bool,
}

struct Keyed {
    id: u8,
    key: DataKey,
    /// Nothing new is hashed under it: it finds what was.
    looks_only: bool,
}

impl Keyed {
    fn name(&self) -> String {
        key_file::name_of(&self.key, "assent index key id")
    }
}

/// Which index key it is; nothing here tells anything about the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexKeyName {
    /// `address` or `fingerprint`.
    pub kind: &'static str,
    /// Its id among those of its kind, which stands in front of each of its hashes.
    pub id: u8,
    /// Its name: another key has another one.
    pub name: String,
}

impl IndexKeys {
    /// New random keys of both kinds, each with id 1.
    #[must_use]
    pub fn generate(ids: &dyn Ids) -> Self {
        let fresh = || vec![Keyed { id: 1, key: DataKey::generate(ids), looks_only: false }];
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
                    let key = DataKey::from_bytes(*key_file::from_hex(&entry.key)?);
                    Some(Keyed { id: entry.id, key, looks_only: entry.looks_only })
                })
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| malformed("keys of 64 hex digits"))
        };
        let keys = Self { address: read(file.address)?, fingerprint: read(file.fingerprint)? };
        let none_in_use = |keys: &[Keyed]| keys.iter().all(|keyed| keyed.looks_only);
        if none_in_use(&keys.address) {
            return Err(malformed("at least one [[address]] key that doesn't look only"));
        }
        if !keys.fingerprint.is_empty() && none_in_use(&keys.fingerprint) {
            return Err(malformed("at least one [[fingerprint]] key that doesn't look only"));
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

    /// Adds a key to files that share their address keys (the vault's and messaging's): all get the same new address
    /// key behind the others, and those that have fingerprint keys a new one of these too, under an id that no key has.
    /// Gives the keys of the first file.
    ///
    /// # Errors
    /// [`KeyFileError`] when a file can't be read or written, or when their address keys differ. Only where one of them
    /// can't be written the others may have it already.
    pub fn add(files: &[PathBuf], ids: &dyn Ids) -> Result<Vec<IndexKeyName>, KeyFileError> {
        Self::change(files, Some(ids))
    }

    /// From now on the last key alone makes hashes, and the others look only: in all files that share their address
    /// keys, as with [`Self::add`].
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn turn(files: &[PathBuf]) -> Result<Vec<IndexKeyName>, KeyFileError> {
        Self::change(files, None)
    }

    /// Adds keys out of `new`; without it the last ones stay alone in use.
    fn change(files: &[PathBuf], new: Option<&dyn Ids>) -> Result<Vec<IndexKeyName>, KeyFileError> {
        let wrong = |path: &Path, expected| {
            Err(KeyFileError::Malformed { path: path.to_owned(), expected })
        };
        let mut all = Vec::with_capacity(files.len());
        for path in files {
            all.push(Self::load(path)?);
        }
        for (path, keys) in files.iter().zip(&all) {
            if !keys.has_addresses_of(&all[0]) {
                return wrong(path, "the same [[address]] keys in each of the files");
            }
        }
        let taken = all.iter().flat_map(|keys| keys.address.iter().chain(&keys.fingerprint));
        let last = taken.map(|keyed| keyed.id).max().unwrap_or_default();
        let Some(id) = last.checked_add(1) else { return wrong(&files[0], "ids below 255") };
        let made = new.map(|ids| (DataKey::generate(ids), DataKey::generate(ids)));
        for keys in &mut all {
            let Some((address, fingerprint)) = &made else {
                only_the_last(&mut keys.address);
                only_the_last(&mut keys.fingerprint);
                continue;
            };
            let keyed = |key: &DataKey| Keyed {
                id,
                key: DataKey::from_bytes(*key.expose()),
                looks_only: false,
            };
            keys.address.push(keyed(address));
            if !keys.fingerprint.is_empty() {
                keys.fingerprint.push(keyed(fingerprint));
            }
        }
        for (path, keys) in files.iter().zip(&all) {
            key_file::replace(path, &keys.text(true))?;
        }
        Ok(all.first().map(Self::names).unwrap_or_default())
    }

    /// Whether its address keys are those of another file, in the same order and used alike: else who reads the one
    /// doesn't find what who reads the other has hashed.
    #[must_use]
    pub fn has_addresses_of(&self, other: &Self) -> bool {
        let same = |one: &Keyed, other: &Keyed| {
            (one.id, one.name(), one.looks_only) == (other.id, other.name(), other.looks_only)
        };
        self.address.len() == other.address.len()
            && self.address.iter().zip(&other.address).all(|(one, other)| same(one, other))
    }

    /// The keys by their names, each kind in its order.
    #[must_use]
    pub fn names(&self) -> Vec<IndexKeyName> {
        let of = |kind: &'static str, keys: &[Keyed]| -> Vec<IndexKeyName> {
            let name = |keyed: &Keyed| IndexKeyName { kind, id: keyed.id, name: keyed.name() };
            keys.iter().map(name).collect()
        };
        [of("address", &self.address), of("fingerprint", &self.fingerprint)].concat()
    }

    fn write_file(&self, path: &Path, fingerprints: bool) -> Result<(), KeyFileError> {
        key_file::create(path, &self.text(fingerprints))
    }

    fn text(&self, fingerprints: bool) -> Zeroizing<String> {
        let entries = |keys: &[Keyed]| {
            let entry = |keyed: &Keyed| KeyEntry {
                id: keyed.id,
                key: key_file::to_hex(keyed.key.expose()).to_string(),
                looks_only: keyed.looks_only,
            };
            keys.iter().map(entry).collect()
        };
        let file = KeysFile {
            address: entries(&self.address),
            fingerprint: if fingerprints { entries(&self.fingerprint) } else { Vec::new() },
        };
        Zeroizing::new(toml::to_string(&file).expect("plain tables are TOML"))
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

fn only_the_last(keys: &mut [Keyed]) {
    if let Some((last, others)) = keys.split_last_mut() {
        last.looks_only = false;
        others.iter_mut().for_each(|keyed| keyed.looks_only = true);
    }
}

/// Makes address tokens.
#[derive(Clone)]
pub struct AddressIndex(Macs);

impl AddressIndex {
    /// The tokens of all spellings of a number in E.164, under every key in use: those to store. The same number
    /// gives the same tokens in the same order, whichever spelling it came in.
    #[must_use]
    pub fn tokens(&self, e164: &str) -> Vec<AddressToken> {
        self.0.hash(e164, |looks_only| !looks_only).map(token).collect()
    }

    /// The same under every key: those to look for, and to compare with what is stored.
    #[must_use]
    pub fn all(&self, e164: &str) -> Vec<AddressToken> {
        self.0.hash(e164, |_| true).map(token).collect()
    }

    /// The same under the keys that look only: those that nobody gets any more.
    #[must_use]
    pub fn former(&self, e164: &str) -> Vec<AddressToken> {
        self.0.hash(e164, |looks_only| looks_only).map(token).collect()
    }

    /// The ids of the keys in use, and of those that look only.
    #[must_use]
    pub fn key_ids(&self) -> (Vec<u8>, Vec<u8>) {
        let (former, used): (Vec<_>, Vec<_>) = self.0.0.iter().partition(|it| it.looks_only);
        let ids = |macs: Vec<&KeyedMac>| macs.into_iter().map(|it| it.id).collect();
        (ids(used), ids(former))
    }
}

fn token((key_id, mac): (u8, [u8; 32])) -> AddressToken {
    AddressToken { key_id, mac }
}

/// Makes suppression fingerprints.
#[derive(Clone)]
pub struct FingerprintIndex(Macs);

/// A keyed hash of a suppressed or erased address: key id and 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 33]);

impl FingerprintIndex {
    /// The fingerprints of all spellings of a number in E.164, under every key in use: those to store.
    #[must_use]
    pub fn fingerprints(&self, e164: &str) -> Vec<Fingerprint> {
        let hashes = self.0.hash(e164, |looks_only| !looks_only);
        hashes.map(|hash| Fingerprint(token(hash).to_bytes())).collect()
    }

    /// The same under every key: those to look for.
    #[must_use]
    pub fn all(&self, e164: &str) -> Vec<Fingerprint> {
        let hashes = self.0.hash(e164, |_| true);
        hashes.map(|hash| Fingerprint(token(hash).to_bytes())).collect()
    }
}

/// Keyed hash states, so that a hash costs two blocks instead of four. `Hmac` wipes nothing on
/// drop; index keys live as long as the process anyway.
#[derive(Clone)]
struct Macs(Vec<KeyedMac>);

#[derive(Clone)]
struct KeyedMac {
    id: u8,
    mac: Hmac<Sha256>,
    looks_only: bool,
}

impl Macs {
    fn new(keys: &[Keyed]) -> Self {
        let mac = |keyed: &Keyed| KeyedMac {
            id: keyed.id,
            mac: keyed.key.hmac(),
            looks_only: keyed.looks_only,
        };
        Self(keys.iter().map(mac).collect())
    }

    /// Under those keys for which `wanted` is so, asked whether they look only; in the order of the file.
    fn hash(&self, e164: &str, wanted: fn(bool) -> bool) -> impl Iterator<Item = (u8, [u8; 32])> {
        let spellings = spellings(e164);
        let keys = self.0.iter().filter(move |it| wanted(it.looks_only));
        keys.flat_map(move |keyed| {
            let hash = |spelling: &String| {
                let mut mac = keyed.mac.clone();
                mac.update(spelling.as_bytes());
                (keyed.id, mac.finalize().into_bytes().into())
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

    #[test]
    fn files_that_share_address_keys_get_the_same_new_one() {
        const NUMBER: &str = "+33612345678";
        let folder = std::env::temp_dir().join(SystemIds.v4().to_string());
        std::fs::create_dir(&folder).unwrap();
        let files = ["vault.toml", "messaging.toml"].map(|name| folder.join(name));
        let before = IndexKeys::generate(&SystemIds);
        before.write(&files[0]).unwrap();
        before.write_address_only(&files[1]).unwrap();
        let load = || [0, 1].map(|n: usize| IndexKeys::load(&files[n]).unwrap());
        let old = before.addresses().tokens(NUMBER);

        let added = IndexKeys::add(&files, &SystemIds).unwrap();
        let [vault, messaging] = load();
        assert_eq!(added, vault.names());
        assert_eq!(added[..1], before.names()[..1], "the old one is first, as it was");
        let both = vault.addresses().tokens(NUMBER);
        assert_eq!((both[0], both[1].key_id, both.len()), (old[0], 2, 2));
        assert_eq!(messaging.addresses().tokens(NUMBER), both);
        assert_eq!(vault.addresses().key_ids(), (vec![1, 2], vec![]));
        let prints = vault.fingerprints().unwrap().fingerprints(NUMBER);
        assert_eq!(prints.len(), 2);
        assert_eq!(prints[0], before.fingerprints().unwrap().fingerprints(NUMBER)[0]);
        assert!(messaging.fingerprints().is_none());

        // The old one looks only: it makes nothing new, and finds what it made.
        IndexKeys::turn(&files).unwrap();
        for keys in load() {
            let index = keys.addresses();
            assert_eq!(index.tokens(NUMBER), both[1..]);
            assert_eq!((index.all(NUMBER), index.former(NUMBER)), (both.clone(), old.clone()));
            assert_eq!(index.key_ids(), (vec![2], vec![1]));
            if let Some(index) = keys.fingerprints() {
                assert_eq!(index.fingerprints(NUMBER), prints[1..]);
                assert_eq!(index.all(NUMBER), prints);
            }
        }

        // One file that was forgotten is found out before anything is written.
        IndexKeys::add(&files[..1], &SystemIds).unwrap();
        assert!(matches!(IndexKeys::add(&files, &SystemIds), Err(KeyFileError::Malformed { .. })));
        assert_eq!(load()[1].addresses().all(NUMBER), both);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
