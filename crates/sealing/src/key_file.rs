//! Files that hold keys: created once, never overwritten, readable by their owner (and, for
//! mounted secrets, the owner's group) alone. Their content is the business of each kind of key.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::DataKey;

/// A key file can't be used. Messages name the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file can't be read or written, or exists where a new one was to be made.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is no key.
    #[error("key file {path}: expected {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// Others may read it, or the group may change it.
    #[error("key file {path}: mode {mode:03o} opens it to others; use 600 (or 640 for a group)")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// How the keys of a file are changed, one step after the other: each must have reached every replica before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new key comes behind the others: everybody knows it, and it isn't the one in use.
    Add,
    /// The last key becomes the first: it is in use from now on, and the others still do for what they made.
    Turn,
    /// The last key goes. What it made must be gone.
    Drop,
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError`] when it can't be read or is open to others.
pub fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o037 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Reads the keys of a file that may hold several: 64 hex digits on each line, the first of which is the one in use.
///
/// # Errors
/// [`KeyFileError`] when it can't be read, a line is no key, there is none, or it is open to others.
pub fn data_keys(path: &Path) -> Result<Vec<DataKey>, KeyFileError> {
    let text = read(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines.map(|line| from_hex(line).map(|bytes| DataKey::from_bytes(*bytes)));
    let keys = keys.collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty());
    keys.ok_or_else(|| KeyFileError::Malformed {
        path: path.to_owned(),
        expected: "64 hex digits on each line",
    })
}

/// Reads a key from its file: 64 hex digits.
///
/// # Errors
/// [`KeyFileError`] when it can't be read, is no key or is open to others.
pub fn data_key(path: &Path) -> Result<DataKey, KeyFileError> {
    let text = read(path)?;
    let bytes = from_hex(text.trim()).ok_or_else(|| KeyFileError::Malformed {
        path: path.to_owned(),
        expected: "64 hex digits",
    })?;
    Ok(DataKey::from_bytes(*bytes))
}

/// The name of a key: it tells which it is and nothing about it.
#[must_use]
pub fn name_of(key: &DataKey, label: &str) -> String {
    to_hex(key.derive(label).expose())[..16].to_owned()
}

/// Writes a new key file with mode 0600; it is on the disk when this returns. An existing one is never
/// touched: overwriting a key would lose everything sealed under it.
///
/// # Errors
/// [`KeyFileError::Io`] when it exists or can't be written.
pub fn create(path: &Path, content: &str) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    sync_folder(path).map_err(failed)
}

/// Puts another content in the place of a key file, with its owner, group and mode: what is read is the one or the other,
/// whole, also after a loss of power. Whoever calls this keeps the keys that are still needed in it.
///
/// # Errors
/// [`KeyFileError::Io`] when there is none, or it can't be written; then it is as it was.
pub fn replace(path: &Path, content: &str) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let kept = std::fs::metadata(path).map_err(failed)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    create(&beside, content)?;
    // Who changes keys may be somebody else than the service, which must be able to read the file.
    let replaced = chown(&beside, Some(kept.uid()), Some(kept.gid()))
        .and_then(|()| std::fs::set_permissions(&beside, kept.permissions()))
        .and_then(|()| std::fs::rename(&beside, path))
        .and_then(|()| sync_folder(path));
    if replaced.is_err() {
        // No keys lie about, and the step can be repeated.
        let _ = std::fs::remove_file(&beside);
    }
    replaced.map_err(failed)
}

/// Else a file's name may be gone after a loss of power, and with it everything sealed under it.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}

/// 64 hex digits.
pub(crate) fn to_hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(String::with_capacity(64));
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

/// The 32 bytes of 64 hex digits.
pub(crate) fn from_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}
