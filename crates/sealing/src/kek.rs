//! The key-encryption key above the key store: it wraps each person's key, so that the store's
//! bytes alone open nothing. A file holds it by default; an external key service implements the
//! same trait.

use std::path::Path;
use std::sync::Arc;

use assent_runtime::Ids;
use zeroize::Zeroizing;

use crate::DataKey;
use crate::envelope::{SealError, open_bytes, seal_bytes};
use crate::key_file::{self, KeyFileError};

/// Wraps and unwraps the keys of people.
pub trait Kek: Send + Sync + 'static {
    /// Which key wraps now. Stored beside what it wrapped; tells nothing about the key.
    fn id(&self) -> &str;

    /// Wraps `key`. It unwraps only with the same `aad`.
    fn wrap(&self, key: &DataKey, aad: &[u8]) -> Vec<u8>;

    /// Unwraps what [`Self::wrap`] wrapped.
    ///
    /// # Errors
    /// [`SealError`] when another key or another `aad` wrapped it.
    fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, SealError>;
}

/// A key-encryption key in a file: 64 hex digits, readable by its owner alone.
pub struct FileKek {
    key: DataKey,
    id: String,
    ids: Arc<dyn Ids>,
}

impl FileKek {
    /// Reads the key from its file.
    ///
    /// # Errors
    /// [`KeyFileError`] when it can't be read, is no key or is open to others.
    pub fn load(path: &Path, ids: Arc<dyn Ids>) -> Result<Self, KeyFileError> {
        Ok(Self::new(key_file::data_key(path)?, ids))
    }

    /// Makes a new key and writes it to `path`, which must not exist.
    ///
    /// # Errors
    /// [`KeyFileError`] when the file exists or can't be written.
    pub fn generate(path: &Path, ids: &dyn Ids) -> Result<(), KeyFileError> {
        let key = DataKey::generate(ids);
        let text = Zeroizing::new(format!("{}\n", key_file::to_hex(key.expose()).as_str()));
        key_file::create(path, &text)
    }

    /// A key that is already in memory.
    #[must_use]
    pub fn new(key: DataKey, ids: Arc<dyn Ids>) -> Self {
        let id = key_file::name_of(&key, "assent kek id");
        Self { key, id, ids }
    }
}

impl Kek for FileKek {
    fn id(&self) -> &str {
        &self.id
    }

    fn wrap(&self, key: &DataKey, aad: &[u8]) -> Vec<u8> {
        seal_bytes(&self.key, self.ids.as_ref(), aad, key.expose())
    }

    fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, SealError> {
        let bytes = open_bytes(&self.key, aad, wrapped)?;
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| SealError)?;
        Ok(DataKey::from_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use assent_runtime::SystemIds;

    use super::*;

    #[test]
    fn a_wrapped_key_unwraps_for_its_owner_only() {
        let kek = FileKek::new(DataKey::from_bytes([1; 32]), Arc::new(SystemIds));
        let key = DataKey::from_bytes([2; 32]);
        let wrapped = kek.wrap(&key, b"her");
        assert_eq!(kek.unwrap(&wrapped, b"her").ok().unwrap().expose(), key.expose());
        assert!(kek.unwrap(&wrapped, b"him").is_err());
        let other = FileKek::new(DataKey::from_bytes([3; 32]), Arc::new(SystemIds));
        assert!(other.unwrap(&wrapped, b"her").is_err());
        assert_ne!(kek.id(), other.id());
    }
}
