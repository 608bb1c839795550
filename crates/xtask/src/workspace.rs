//! Where things are: the workspace, and the folder of one cluster under `target/`.

use std::path::{Path, PathBuf};

use crate::error::{At, Result};

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/xtask").to_path_buf()
}

/// The build folder, `CARGO_TARGET_DIR` respected.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The folder of one cluster: `dev`, `test` or `bench`.
#[derive(Debug, Clone)]
pub struct Home {
    /// Everything of that cluster is under it.
    pub dir: PathBuf,
}

impl Home {
    /// The folder of the named cluster, made if absent, closed to others where secrets stand.
    pub fn open(name: &str) -> Result<Home> {
        Home::at(target().join(name))
    }

    /// A folder anywhere, such as a test's own.
    pub fn at(dir: PathBuf) -> Result<Home> {
        for part in [dir.clone(), dir.join("logs"), dir.join("keys")] {
            std::fs::create_dir_all(&part).at(&part)?;
        }
        Ok(Home { dir })
    }

    /// A file or folder of this cluster.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The log of one of its processes or steps.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }
}

/// Writes a file that only its owner may read (0600), whole or not at all.
pub fn write_private(path: &Path, content: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let draft = path.with_extension("draft");
    let _ = std::fs::remove_file(&draft);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .at(&draft)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).at(&draft)?;
    std::fs::rename(&draft, path).at(path)
}
