//! The key-encryption key above the key store: it wraps each person's key, so that the store's
//! bytes alone open nothing. A file holds it, or a module that never hands it out ([`crate::pkcs11`]).
//!
//! Calls may take their time (a module may be a machine elsewhere): keep them off the threads of async
//! code, and ask for many keys at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use assent_runtime::Ids;
use assent_runtime::config::Section;
use zeroize::Zeroizing;

use crate::DataKey;
use crate::envelope::{SealError, open_bytes, seal_bytes};
use crate::key_file::{self, KeyFileError};
use crate::pkcs11::{Module, ModuleKek};

/// Wraps and unwraps the keys of people.
pub trait Kek: Send + Sync + 'static {
    /// Which key wraps now. Stored beside what it wrapped; tells nothing about the key.
    fn id(&self) -> &str;

    /// Wraps keys, each bound to its `aad`, in order.
    ///
    /// # Errors
    /// [`KekError`] when it can't be used now; then none was wrapped.
    fn wrap(&self, keys: &[(&DataKey, &[u8])]) -> Result<Vec<Vec<u8>>, KekError>;

    /// Unwraps what [`Self::wrap`] wrapped, in order; [`SealError`] for those that another key, or another
    /// `aad`, wrapped.
    ///
    /// # Errors
    /// [`KekError`] when it can't be used now.
    fn unwrap(&self, keys: &[Wrapped<'_>]) -> Result<Vec<Result<DataKey, SealError>>, KekError>;

    /// Whether it can be used now.
    ///
    /// # Errors
    /// [`KekError`] when it can't.
    fn look(&self) -> Result<(), KekError>;
}

/// A wrapped key and what it is bound to.
pub type Wrapped<'a> = (&'a [u8], &'a [u8]);

/// The key-encryption key can't be used. Messages name files, tokens and labels, never a PIN or a key.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// Its file, or that of the PIN.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The module isn't there, or is none.
    #[error("PKCS#11 module {path} can't be loaded: {cause}")]
    Module {
        /// Its file.
        path: PathBuf,
        /// What the system or the module said.
        cause: String,
    },
    /// No slot holds the token.
    #[error("PKCS#11: no slot holds a token labelled {token:?}; there are: {there}")]
    Token {
        /// Its label.
        token: String,
        /// Those that are there.
        there: String,
    },
    /// The module took no login.
    #[error("PKCS#11: token {token:?} refuses the login: {cause}")]
    Login {
        /// The token's label.
        token: String,
        /// What it said.
        cause: String,
    },
    /// There isn't exactly one such key that may be used so.
    #[error("PKCS#11: key {key:?} in token {token:?}: {cause}")]
    Key {
        /// Its label.
        key: String,
        /// The token's label.
        token: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A call failed, also when it was repeated in a new session.
    #[error("PKCS#11: the module can't do it now: {0}")]
    Call(String),
}

/// Where the key-encryption key of a service is.
#[derive(Debug, Clone)]
pub struct KekConfig {
    /// A file that holds it. Beside a module it only opens what it has wrapped, until that is wrapped again.
    file: Option<PathBuf>,
    /// A module that holds it.
    module: Option<Module>,
}

impl KekConfig {
    /// In a file.
    #[must_use]
    pub const fn file(path: PathBuf) -> Self {
        Self { file: Some(path), module: None }
    }

    /// In a module, beside the file from before, if there was one.
    #[must_use]
    pub const fn module(module: Module, file: Option<PathBuf>) -> Self {
        Self { file, module: Some(module) }
    }

    /// Reads it from a service's section; what is wrong is recorded in the settings, and then the answer
    /// is `None`.
    #[must_use]
    pub fn read(section: &Section) -> Option<Self> {
        let module = section.optional::<PathBuf>("kek_module");
        let rest = ["kek_token", "kek_label"].map(|key| section.optional::<String>(key));
        let pin_file = section.optional::<PathBuf>("kek_pin_file");
        let Some(path) = module else {
            for (name, given) in [
                ("kek_token", rest[0].is_some()),
                ("kek_label", rest[1].is_some()),
                ("kek_pin_file", pin_file.is_some()),
            ] {
                if given {
                    section.invalid(name, "means nothing without kek_module");
                }
            }
            return section.required("kek_file").map(Self::file);
        };
        let [token, key] = rest;
        for (name, missing) in [
            ("kek_token", token.is_none()),
            ("kek_label", key.is_none()),
            ("kek_pin_file", pin_file.is_none()),
        ] {
            if missing {
                section.invalid(name, "must be set beside kek_module");
            }
        }
        let file = section.optional("kek_file");
        let module = Module { path, token: token?, key: key?, pin_file: pin_file? };
        Some(Self::module(module, file))
    }

    /// The module, if there is one.
    #[must_use]
    pub const fn in_module(&self) -> Option<&Module> {
        self.module.as_ref()
    }

    /// Whether keys may still be wrapped by a file beside the module.
    #[must_use]
    pub const fn moves(&self) -> bool {
        self.module.is_some() && self.file.is_some()
    }

    /// Opens all that is configured. It may block.
    ///
    /// # Errors
    /// [`KekError`] when one of them can't be used.
    pub fn open(&self, ids: &Arc<dyn Ids>) -> Result<Keks, KekError> {
        let file = self.file.as_deref().map(|path| FileKek::load(path, Arc::clone(ids)));
        let file = file.transpose()?.map(|kek| Arc::new(kek) as Arc<dyn Kek>);
        let module = self.module.clone().map(|module| ModuleKek::open(module, Arc::clone(ids)));
        let module = module.transpose()?.map(|kek| Arc::new(kek) as Arc<dyn Kek>);
        let mut all = module.into_iter().chain(file);
        let nothing = || KekError::Call("no wrapping key is configured".to_owned());
        Ok(Keks { current: all.next().ok_or_else(nothing)?, former: all.next() })
    }
}

/// The key that wraps, and the one from before that still opens.
#[derive(Clone)]
pub struct Keks {
    /// It wraps.
    pub(crate) current: Arc<dyn Kek>,
    /// It only opens what it wrapped.
    pub(crate) former: Option<Arc<dyn Kek>>,
}

impl<K: Kek> From<K> for Keks {
    fn from(kek: K) -> Self {
        Self { current: Arc::new(kek), former: None }
    }
}

impl Keks {
    /// One that wraps from now on, and the one from before that still opens what it wrapped.
    #[must_use]
    pub fn moving(current: impl Kek, former: impl Kek) -> Self {
        Self { current: Arc::new(current), former: Some(Arc::new(former)) }
    }

    /// Whether all of them can be used now. It may block.
    ///
    /// # Errors
    /// [`KekError`] of the first that can't.
    pub fn look(&self) -> Result<(), KekError> {
        [Some(&self.current), self.former.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|kek| kek.look())
    }

    /// The one of this id.
    pub(crate) fn of(&self, id: &str) -> Option<&Arc<dyn Kek>> {
        [Some(&self.current), self.former.as_ref()].into_iter().flatten().find(|kek| kek.id() == id)
    }
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

    fn wrap(&self, keys: &[(&DataKey, &[u8])]) -> Result<Vec<Vec<u8>>, KekError> {
        let wrap = |(key, aad): &(&DataKey, &[u8])| {
            seal_bytes(&self.key, self.ids.as_ref(), aad, key.expose())
        };
        Ok(keys.iter().map(wrap).collect())
    }

    fn unwrap(&self, keys: &[Wrapped<'_>]) -> Result<Vec<Result<DataKey, SealError>>, KekError> {
        let unwrap = |(wrapped, aad): &Wrapped<'_>| {
            let bytes = open_bytes(&self.key, aad, wrapped)?;
            let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| SealError)?;
            Ok(DataKey::from_bytes(*bytes))
        };
        Ok(keys.iter().map(unwrap).collect())
    }

    fn look(&self) -> Result<(), KekError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use assent_runtime::{Settings, SystemIds};

    use super::*;

    fn system_ids() -> Arc<dyn Ids> {
        Arc::new(SystemIds)
    }

    #[test]
    fn a_wrapped_key_unwraps_for_its_owner_only() {
        let kek = FileKek::new(DataKey::from_bytes([1; 32]), system_ids());
        let key = DataKey::from_bytes([2; 32]);
        let wrapped = kek.wrap(&[(&key, b"her".as_slice())]).ok().unwrap().remove(0);
        let unwrap = |kek: &FileKek, aad: &[u8]| {
            kek.unwrap(&[(wrapped.as_slice(), aad)]).ok().unwrap().remove(0)
        };
        assert_eq!(unwrap(&kek, b"her").ok().unwrap().expose(), key.expose());
        assert!(unwrap(&kek, b"him").is_err());
        let other = FileKek::new(DataKey::from_bytes([3; 32]), system_ids());
        assert!(unwrap(&other, b"her").is_err());
        assert_ne!(kek.id(), other.id());
    }

    #[test]
    fn a_module_is_configured_whole_or_not_at_all() {
        let whole = "[vault]\nkek_module = \"/m.so\"\nkek_token = \"t\"\nkek_label = \"k\"\nkek_pin_file = \"/pin\"\n";
        let read = |text: &str| {
            let settings = Settings::from_parts(text, []).unwrap();
            let config = KekConfig::read(&settings.section("vault"));
            (config, settings.finish().err().map(|error| error.to_string()))
        };
        let (config, error) = read(whole);
        assert!(error.is_none() && !config.unwrap().moves());
        assert!(read(&format!("{whole}kek_file = \"/k\"")).0.unwrap().moves());
        assert!(read("[vault]\nkek_file = \"/k\"").0.unwrap().in_module().is_none());
        for (line, named) in
            [("kek_token = \"t\"\n", "kek_token"), ("kek_pin_file = \"/pin\"\n", "kek_pin_file")]
        {
            let (config, error) = read(&whole.replace(line, ""));
            assert!(config.is_none() && error.unwrap().contains(named));
        }
        let (config, error) = read("[vault]\nkek_label = \"k\"\nkek_file = \"/k\"");
        assert!(error.unwrap().contains("kek_label"), "it would be taken for used");
        assert!(config.is_some());
        assert!(read("[vault]").0.is_none());
    }
}
