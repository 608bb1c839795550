//! A sealed file of records. It guarantees that a record opens only at its place in its own file of its own
//! backup, and that a file that ends early is told from a whole one; what the records mean is left to
//! whoever writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use assent_runtime::SystemIds;
use assent_sealing::envelope::OVERHEAD;
use assent_sealing::{Aad, DataKey, open, seal};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Longest record: what is read in one piece must fit into memory, whoever wrote the file.
const RECORD_MAX: usize = 64 << 20;

/// Which file of which backup. It is part of what every record is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The backup.
    pub backup: Uuid,
    /// The database.
    pub name: &'a str,
}

/// A file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It ends before its last record.
    #[error("{0}: the file is cut short")]
    Truncated(PathBuf),
    /// A record doesn't open.
    #[error("{0}: the file is damaged, or of another backup")]
    Damaged(PathBuf),
}

fn bound<'a>(place: Place<'_>, field: &'a str, record: i32) -> Aad<'a> {
    Aad { subject: place.backup, record: Uuid::nil(), field, version: record }
}

fn fields(name: &str) -> (String, String) {
    (format!("backup {name}"), format!("backup {name} end"))
}

/// Writes records.
pub struct Writer<'a> {
    file: BufWriter<File>,
    path: PathBuf,
    key: &'a DataKey,
    place: Place<'a>,
    records: i32,
    bytes: u64,
}

impl<'a> Writer<'a> {
    /// A new file, readable by its owner alone.
    ///
    /// # Errors
    /// When it exists or can't be made.
    pub fn create(path: &Path, key: &'a DataKey, place: Place<'a>) -> Result<Self, ArchiveError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|source| ArchiveError::Io { path: path.to_owned(), source })?;
        Ok(Self {
            file: BufWriter::new(file),
            path: path.to_owned(),
            key,
            place,
            records: 0,
            bytes: 0,
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn record(&mut self, plain: &[u8]) -> Result<(), ArchiveError> {
        let (field, _) = fields(self.place.name);
        self.put(&field, plain)
    }

    fn put(&mut self, field: &str, plain: &[u8]) -> Result<(), ArchiveError> {
        let sealed = seal(self.key, &SystemIds, bound(self.place, field, self.records), plain);
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_be_bytes();
        let written = self.file.write_all(&length).and_then(|()| self.file.write_all(&sealed));
        written.map_err(|source| ArchiveError::Io { path: self.path.clone(), source })?;
        self.records += 1;
        self.bytes += 4 + sealed.len() as u64;
        Ok(())
    }

    /// Ends the file and makes it durable. Gives its size in bytes.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(mut self) -> Result<u64, ArchiveError> {
        let (_, end) = fields(self.place.name);
        self.put(&end, b"")?;
        let io = |source| ArchiveError::Io { path: self.path.clone(), source };
        let file = self.file.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)?;
        Ok(self.bytes)
    }
}

/// Reads records.
pub struct Reader<'a> {
    file: BufReader<File>,
    path: PathBuf,
    key: &'a DataKey,
    place: Place<'a>,
    records: i32,
}

impl<'a> Reader<'a> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn open(path: &Path, key: &'a DataKey, place: Place<'a>) -> Result<Self, ArchiveError> {
        let file = File::open(path)
            .map_err(|source| ArchiveError::Io { path: path.to_owned(), source })?;
        Ok(Self { file: BufReader::new(file), path: path.to_owned(), key, place, records: 0 })
    }

    /// The next record; none behind the last.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, ArchiveError> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if !(OVERHEAD..=RECORD_MAX).contains(&length) {
            return Err(ArchiveError::Damaged(self.path.clone()));
        }
        let mut sealed = vec![0; length];
        self.fill(&mut sealed)?;
        let (field, end) = fields(self.place.name);
        let opened = |field: &str| open(self.key, bound(self.place, field, self.records), &sealed);
        if let Ok(plain) = opened(&field) {
            self.records += 1;
            return Ok(Some(plain));
        }
        match opened(&end) {
            Ok(_) => Ok(None),
            Err(_) => Err(ArchiveError::Damaged(self.path.clone())),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.file.read_exact(buffer).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated(self.path.clone()),
            _ => ArchiveError::Io { path: self.path.clone(), source },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DataKey {
        DataKey::from_bytes([byte; 32])
    }

    fn read(path: &Path, key: &DataKey, place: Place<'_>) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let mut reader = Reader::open(path, key, place)?;
        let mut all = Vec::new();
        while let Some(record) = reader.next()? {
            all.push(record.to_vec());
        }
        Ok(all)
    }

    #[test]
    fn a_file_opens_whole_in_its_place_with_its_key_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("assent_archive_{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("vault.sealed");
        let _ = std::fs::remove_file(&path);
        let place = Place { backup: Uuid::from_u128(7), name: "vault" };
        let right = key(1);
        let mut writer = Writer::create(&path, &right, place).unwrap();
        writer.record(b"one").unwrap();
        writer.record(b"two").unwrap();
        let bytes = writer.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len() as u64, bytes);
        assert_eq!(read(&path, &right, place).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
        assert!(!whole.windows(3).any(|it| it == b"one"));
        assert!(matches!(read(&path, &key(2), place), Err(ArchiveError::Damaged(_))));
        for other in
            [Place { backup: Uuid::from_u128(8), ..place }, Place { name: "consent", ..place }]
        {
            assert!(matches!(read(&path, &right, other), Err(ArchiveError::Damaged(_))));
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(
                matches!(read(&path, &right, place), Err(ArchiveError::Truncated(_))),
                "{length}"
            );
        }
        // A record that was taken out.
        let first = 4 + u32::from_be_bytes(whole[..4].try_into().unwrap()) as usize;
        std::fs::write(&path, &whole[first..]).unwrap();
        assert!(matches!(read(&path, &right, place), Err(ArchiveError::Damaged(_))));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
