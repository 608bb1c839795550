//! `assent openapi`: the HTTP APIs as OpenAPI 3.1 documents, generated from code. CI compares them
//! with those in `docs/openapi/`.

use std::path::PathBuf;

use clap::Args;

use crate::outcome::{Failure, Output, Status};

/// Arguments of `assent openapi`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  assent openapi docs/openapi")]
pub struct OpenApi {
    /// The folder to write to: one `<service>.json` per service.
    dir: PathBuf,
}

impl OpenApi {
    /// Runs it.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        std::fs::create_dir_all(&self.dir).map_err(|error| Failure::file(&self.dir, error))?;
        let documents = [
            ("consent", assent_consent::openapi()),
            ("erasure", assent_erasure::openapi()),
            ("messaging", assent_messaging::openapi()),
            ("projector", assent_projector::openapi()),
            ("vault", assent_vault::openapi()),
        ];
        let mut written = Vec::new();
        for (name, document) in documents {
            let path = self.dir.join(format!("{name}.json"));
            let mut text = serde_json::to_string_pretty(&document)
                .map_err(|error| Failure::file(&path, error))?;
            text.push('\n');
            std::fs::write(&path, text).map_err(|error| Failure::file(&path, error))?;
            written.push(path);
        }
        output.print(&written, |written| format!("{} documents written", written.len()));
        Ok(Status::Done)
    }
}
