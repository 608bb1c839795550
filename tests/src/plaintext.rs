//! A search for plaintext in the files that servers write: what a person or a client wrote, in the clear
//! and in the usual disguises. What must not be found is for the tests to say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The disguises of one canary.
#[must_use]
pub fn disguises(canary: &str) -> BTreeSet<Vec<u8>> {
    let bytes = canary.as_bytes();
    let utf16: Vec<u16> = canary.encode_utf16().collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut found = BTreeSet::from([
        bytes.to_vec(),
        utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ]);
    // Base64 depends on where in a text the canary stands: only the groups that hold nothing else.
    for before in 0..3 {
        let shifted = [&vec![0; before], bytes].concat();
        let (from, to) = (before.div_ceil(3) * 4, shifted.len() / 3 * 4);
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            found.insert(encoded.as_bytes()[from..to].to_vec());
        }
    }
    found
}

/// A number in the spellings in which people and programs write it.
#[must_use]
pub fn spellings(digits: &str) -> Vec<String> {
    let national = &digits[2..];
    let pairs: Vec<&str> = (1..9).step_by(2).map(|at| &national[at..at + 2]).collect();
    let head = &national[..1];
    let mut all = vec![digits.to_owned(), format!("0{national}")];
    for separator in [" ", ".", "-"] {
        let rest = pairs.join(separator);
        all.push(format!("0{head}{separator}{rest}"));
        all.push(format!("33{separator}{head}{separator}{rest}"));
    }
    all
}

/// What was found where. Every byte of `files` is read once.
pub fn find(canaries: &[String], dir: &Path, files: &[PathBuf]) -> Vec<String> {
    let hits = files_with(canaries, dir, files);
    let named = |file: &PathBuf| {
        let here = |canary: &&String| {
            !files_with(std::slice::from_ref(*canary), dir, std::slice::from_ref(file)).is_empty()
        };
        format!("{:?} in {}", canaries.iter().filter(here).collect::<Vec<_>>(), file.display())
    };
    hits.iter().map(named).collect()
}

/// The files that hold a disguise of a canary. grep looks: it gives the same answer in a second for
/// which unoptimised code needs a minute.
fn files_with(canaries: &[String], dir: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    files_with_bytes(canaries.iter().flat_map(|it| disguises(it)).collect(), dir, files)
}

/// The files that hold one of these. None of them has a line's end or a zero in it: grep reads lines.
#[must_use]
pub fn files_with_bytes(
    patterns: BTreeSet<Vec<u8>>,
    dir: &Path,
    files: &[PathBuf],
) -> Vec<PathBuf> {
    let list = dir.join("patterns");
    std::fs::write(&list, patterns.into_iter().collect::<Vec<_>>().join(&b'\n')).unwrap();
    let mut found = Vec::new();
    for some in files.chunks(500) {
        let output = Command::new("grep")
            .env("LC_ALL", "C")
            .args(["--text", "--fixed-strings", "--files-with-matches", "--file"])
            .arg(&list)
            .arg("--")
            .args(some)
            .output()
            .unwrap();
        // 2: a file went away meanwhile, as segments of the WAL do.
        assert!(matches!(output.status.code(), Some(0..=2)), "{output:?}");
        found.extend(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from));
    }
    found
}

/// Every file under a folder.
#[must_use]
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&path)),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

/// What Kafka wrote into its folder: segments, snapshots and the groups' topic. Indexes hold offsets and times only.
#[must_use]
pub fn kafka_files(dir: &Path) -> Vec<PathBuf> {
    let mut all = files(dir);
    all.retain(|file| {
        !matches!(
            file.extension().and_then(|it| it.to_str()),
            Some("index" | "timeindex" | "txnindex")
        )
    });
    all
}
