//! `assent request collect`: what is handed out once is written to a file. It guarantees that nothing is written over, and
//! that no other user can read it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::api::Api;
use crate::outcome::{Failure, Output};

/// The file is made before anything is asked for: what is handed out once must have its place.
pub(super) async fn collect(
    api: &Api,
    output: Output,
    reference: &str,
    file: &Path,
) -> Result<(), Failure> {
    let mut secret = String::new();
    std::io::stdin()
        .read_line(&mut secret)
        .map_err(|error| Failure::wrong_use(format!("the secret can't be read: {error}")))?;
    let mut written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| Failure::file(file, error))?;
    let guess = json!({"reference": reference, "secret": secret.trim()});
    let archive = match api.post_for_bytes("/erasure/v1/tracking/archive", &guess).await {
        Ok(archive) => archive,
        Err(error) => {
            // Nothing was written into it.
            let _ = std::fs::remove_file(file);
            return Err(error.into());
        }
    };
    written.write_all(&archive).map_err(|error| Failure::file(file, error))?;
    written.sync_all().map_err(|error| Failure::file(file, error))?;
    let bytes = archive.len();
    output.print(&json!({"file": file, "bytes": bytes}), |_| {
        format!("{} written, {bytes} bytes", file.display())
    });
    Ok(())
}
