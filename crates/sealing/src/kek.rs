//! The key-encryption key above the key store: it wraps each person's key, so that the store's
//! bytes alone open nothing. A file holds it, or a module that never hands it out ([`crate::pkcs11`]).
//!
//! Several may be known, each by its id: one wraps, the others open what they have wrapped until that is wrapped
//! again. So a key is changed while replicas with the old order and with the new one serve side by side.
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
use crate::key_file::{self, Change, KeyFileError};
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

/// Where the key-encryption keys of a service are. The label of the module wraps; none: the first of the file. All
/// others only open what they have wrapped.
#[derive(Debug, Clone)]
pub struct KekConfig {
    /// A file that holds some, one a line.
    file: Option<PathBuf>,
    /// The key in a module that wraps.
    module: Option<Module>,
    /// Keys in a module that only open.
    others: Vec<Module>,
}

impl KekConfig {
    /// In a file.
    #[must_use]
    pub const fn file(path: PathBuf) -> Self {
        Self { file: Some(path), module: None, others: Vec::new() }
    }

    /// Reads it from a service's section; what is wrong is recorded in the settings, and then the answer
    /// is `None`.
    #[must_use]
    pub fn read(section: &Section) -> Option<Self> {
        let module = section.optional::<PathBuf>("kek_module");
        let [token, label, others] = ["kek_token", "kek_label", "kek_other_labels"]
            .map(|key| section.optional::<String>(key));
        let pin_file = section.optional::<PathBuf>("kek_pin_file");
        let Some(path) = module else {
            for (name, given) in [
                ("kek_token", token.is_some()),
                ("kek_label", label.is_some()),
                ("kek_other_labels", others.is_some()),
                ("kek_pin_file", pin_file.is_some()),
            ] {
                if given {
                    section.invalid(name, "means nothing without kek_module");
                }
            }
            return section.required("kek_file").map(Self::file);
        };
        let file = section.optional::<PathBuf>("kek_file");
        let others: Vec<String> = others.as_deref().map(names).unwrap_or_default();
        // Before a move into the module each replica must open what others wrap there already.
        let file_wraps = file.is_some() && !others.is_empty();
        for (name, missing) in [
            ("kek_token", token.is_none()),
            ("kek_label", label.is_none() && !file_wraps),
            ("kek_pin_file", pin_file.is_none()),
        ] {
            if missing {
                section.invalid(name, "must be set beside kek_module");
            }
        }
        if label.is_none() && !file_wraps {
            return None;
        }
        let (token, pin_file) = (token?, pin_file?);
        let of = |key| Module {
            path: path.clone(),
            token: token.clone(),
            key,
            pin_file: pin_file.clone(),
        };
        Some(Self { file, module: label.map(of), others: others.into_iter().map(of).collect() })
    }

    /// A key of the module, if there is one.
    #[must_use]
    pub fn in_module(&self) -> Option<&Module> {
        self.module.as_ref().or(self.others.first())
    }

    /// Opens all that is configured. It may block.
    ///
    /// # Errors
    /// [`KekError`] when one of them can't be used.
    pub fn open(&self, ids: &Arc<dyn Ids>) -> Result<Keks, KekError> {
        let mut all: Vec<Arc<dyn Kek>> = Vec::new();
        let open = |module: &Module| ModuleKek::open(module.clone(), Arc::clone(ids));
        if let Some(module) = &self.module {
            all.push(Arc::new(open(module)?));
        }
        if let Some(path) = &self.file {
            for kek in FileKek::load(path, ids)? {
                all.push(Arc::new(kek));
            }
        }
        for module in &self.others {
            all.push(Arc::new(open(module)?));
        }
        let mut all = all.into_iter();
        let nothing = || KekError::Call("no wrapping key is configured".to_owned());
        Ok(Keks { current: all.next().ok_or_else(nothing)?, others: all.collect() })
    }
}

/// The names of a list with commas between them.
fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// The key that wraps, and those that still open, or open already.
#[derive(Clone)]
pub struct Keks {
    /// It wraps.
    pub(crate) current: Arc<dyn Kek>,
    /// They only open what they wrapped.
    pub(crate) others: Vec<Arc<dyn Kek>>,
}

impl<K: Kek> From<K> for Keks {
    fn from(kek: K) -> Self {
        Self { current: Arc::new(kek), others: Vec::new() }
    }
}

impl Keks {
    /// One that wraps from now on, and one that opens what it wrapped.
    #[must_use]
    pub fn moving(current: impl Kek, other: impl Kek) -> Self {
        Self { current: Arc::new(current), others: vec![Arc::new(other)] }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Kek>> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// Whether all of them can be used now. It may block.
    ///
    /// # Errors
    /// [`KekError`] of the first that can't.
    pub fn look(&self) -> Result<(), KekError> {
        self.all().try_for_each(|kek| kek.look())
    }

    /// Their ids; the first is of the one that wraps.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.all().map(|kek| kek.id().to_owned()).collect()
    }

    /// The one of this id.
    pub(crate) fn of(&self, id: &str) -> Option<&Arc<dyn Kek>> {
        self.all().find(|kek| kek.id() == id)
    }
}

/// A key-encryption key in a file: 64 hex digits, readable by its owner alone.
pub struct FileKek {
    key: DataKey,
    id: String,
    ids: Arc<dyn Ids>,
}

impl FileKek {
    /// Reads the keys of a file, one a line.
    ///
    /// # Errors
    /// [`KeyFileError`] when it can't be read, is no key or is open to others.
    pub fn load(path: &Path, ids: &Arc<dyn Ids>) -> Result<Vec<Self>, KeyFileError> {
        let keys = key_file::data_keys(path)?;
        Ok(keys.into_iter().map(|key| Self::new(key, Arc::clone(ids))).collect())
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

    /// Changes which keys a file holds, and which of them wraps.
    ///
    /// # Errors
    /// [`KeyFileError`] when it can't be read or written, or its only key would go; then it is as it was.
    pub fn change(path: &Path, change: Change, ids: &dyn Ids) -> Result<(), KeyFileError> {
        let mut keys = key_file::data_keys(path)?;
        match change {
            Change::Add => keys.push(DataKey::generate(ids)),
            Change::Turn => keys.rotate_right(1),
            Change::Drop => drop(keys.pop()),
        }
        if keys.is_empty() {
            let expected = "another key beside the one that is to go";
            return Err(KeyFileError::Malformed { path: path.to_owned(), expected });
        }
        let mut text = Zeroizing::new(String::with_capacity(keys.len() * 65));
        for key in &keys {
            text.push_str(&key_file::to_hex(key.expose()));
            text.push('\n');
        }
        key_file::replace(path, &text)
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
        let config = config.unwrap();
        assert!(error.is_none() && config.in_module().is_some() && config.file.is_none());
        assert!(read(&format!("{whole}kek_file = \"/k\"")).0.unwrap().file.is_some());
        assert!(read("[vault]\nkek_file = \"/k\"").0.unwrap().in_module().is_none());
        for (line, named) in [
            ("kek_token = \"t\"\n", "kek_token"),
            ("kek_label = \"k\"\n", "kek_label"),
            ("kek_pin_file = \"/pin\"\n", "kek_pin_file"),
        ] {
            let (config, error) = read(&whole.replace(line, ""));
            assert!(config.is_none() && error.unwrap().contains(named));
        }
        let (config, error) = read("[vault]\nkek_label = \"k\"\nkek_file = \"/k\"");
        assert!(error.unwrap().contains("kek_label"), "it would be taken for used");
        assert!(config.is_some());
        assert!(read("[vault]").0.is_none());

        // The file wraps while the module's keys are only known; they wrap where one has the label.
        let only_known = whole.replace("kek_label", "kek_other_labels");
        let (config, error) = read(&format!("{only_known}kek_file = \"/k\""));
        assert!(error.is_none() && config.is_some_and(|it| it.module.is_none()));
        let (config, error) = read(&only_known);
        assert!(config.is_none() && error.unwrap().contains("kek_label"), "nothing would wrap");
        let (config, _) = read(&format!("{whole}kek_other_labels = \"a, b\""));
        let keys: Vec<String> = config.unwrap().others.into_iter().map(|it| it.key).collect();
        assert_eq!(keys, ["a", "b"]);
    }

    #[test]
    fn the_first_key_of_a_file_wraps_and_the_others_open() {
        let path = std::env::temp_dir().join(format!("assent-keks-{}", SystemIds.v4()));
        let hex = |byte: u8| key_file::to_hex(&[byte; 32]).to_string();
        key_file::create(&path, &format!("{}\n", hex(1))).unwrap();
        let open = || KekConfig::file(path.clone()).open(&system_ids()).ok().unwrap();
        let before = open();
        let wrapped = before
            .current
            .wrap(&[(&DataKey::from_bytes([9; 32]), b"her".as_slice())])
            .ok()
            .unwrap()
            .remove(0);
        key_file::replace(&path, &format!("{}\n\n{}\n", hex(2), hex(1))).unwrap();
        let now = open();
        assert_eq!(now.ids()[1..], before.ids());
        assert_ne!(now.current.id(), before.current.id());
        let kek = now.of(before.current.id()).unwrap();
        let opened = kek.unwrap(&[(wrapped.as_slice(), b"her".as_slice())]).ok().unwrap().remove(0);
        assert_eq!(opened.ok().unwrap().expose(), &[9; 32]);
        // The same by steps: first everybody knows it, then it wraps, then the old one goes.
        let change = |change| FileKek::change(&path, change, &SystemIds);
        change(Change::Add).unwrap();
        let three = open().ids();
        assert_eq!(three[..2], now.ids(), "it isn't in use yet");
        change(Change::Turn).unwrap();
        let [first, second, third] = [0, 1, 2].map(|n: usize| three[n].as_str());
        assert_eq!(open().ids(), [third, first, second]);
        change(Change::Drop).unwrap();
        change(Change::Drop).unwrap();
        assert_eq!(open().ids(), [third]);
        assert!(change(Change::Drop).is_err(), "the only one stays");
        assert_eq!(open().ids(), [third]);
        for wrong in [String::new(), format!("{}\nno key\n", hex(1))] {
            key_file::replace(&path, &wrong).unwrap();
            let opened = KekConfig::file(path.clone()).open(&system_ids());
            assert!(matches!(opened, Err(KekError::File(KeyFileError::Malformed { .. }))));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
