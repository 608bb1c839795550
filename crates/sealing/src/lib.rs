//! Envelope encryption under a key per person, and keyed hashes that find an address without
//! storing it. It guarantees that a destroyed key never comes back through this crate and that
//! ciphertext moved to another person, record, field or key version doesn't open; who may ask for
//! a key, and which access record is written first, is the business of the services that use it.

pub mod envelope;
pub mod index;
pub mod index_keys;
pub mod kek;
mod key;
pub mod key_file;
pub mod keystore;
pub mod link;
pub mod pkcs11;
pub mod spelling;
pub mod wal;
mod wrapping;

pub use envelope::{Aad, SealError, from_text, open, seal, to_text};
pub use index::{AddressIndex, Fingerprint, FingerprintIndex, IndexKeyName, IndexKeys};
pub use index_keys::IndexKeysError;
pub use kek::{FileKek, Kek, KekConfig, KekError, Keks};
pub use key::DataKey;
pub use key_file::KeyFileError;
pub use keystore::{KeyState, KeyStore, KeyStoreError, StoredKey};
pub use link::{LinkKey, LinkKind};
pub use wal::Wal;
