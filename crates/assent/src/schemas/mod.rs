//! `assent schemas`: what is published on Kafka, generated from the wire types: a JSON Schema for each
//! event type, an AsyncAPI document and a page for people. CI compares them with those in `docs`, and
//! the schemas, and topics, keys and headers, with those that were released.

mod asyncapi;
mod compatible;
mod json_schema;
mod pages;
mod publish;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assent_contracts::published::ALL;
use assent_contracts::wire;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::outcome::{Failure, Output, Status};
use publish::Publish;

/// Arguments of `assent schemas`.
#[derive(Debug, Args)]
#[command(
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  assent schemas docs
  assent schemas publish --registry http://127.0.0.1:8081

Refuses to write schemas that break those in `schemas/released` of the folder: within a version, members and
codes are only added. Refuses too what breaks the released topics, keys and headers."
)]
pub struct Schemas {
    /// The folder to write to: `schemas/<event type>.json`, `schemas/README.md`, `asyncapi/assent.json`, `asyncapi/wire.json`.
    #[arg(required = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<SchemasCommand>,
}

/// `assent schemas …`, where it isn't a folder.
#[derive(Debug, Subcommand)]
enum SchemasCommand {
    /// Publish the schemas to a schema registry, where others look for them.
    Publish(Publish),
}

impl Schemas {
    /// The publication, where it is that.
    pub fn publish(&self) -> Option<&Publish> {
        self.command.as_ref().map(|SchemasCommand::Publish(publish)| publish)
    }

    /// Writes the documents.
    ///
    /// # Errors
    /// When a file can't be read or written, or what was released would be broken.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let dir = self.dir.as_deref().ok_or_else(|| Failure::wrong_use("no folder"))?;
        let mut broken = compatible::breaks_of_all(&released(dir)?, &current());
        let release = |error: serde_json::Error| Failure::wrong_use(error.to_string());
        broken.extend(wire::breaks().map_err(release)?);
        if !broken.is_empty() {
            return Err(Failure {
                status: Status::Refused,
                code: "schema_broken".to_owned(),
                message: format!("publish a new version beside it instead:\n{}", broken.join("\n")),
            });
        }
        let mut files: Vec<(String, String)> = Vec::new();
        for (name, schema) in current() {
            files.push((format!("schemas/{name}.json"), text(&schema)));
        }
        files.push(("schemas/README.md".to_owned(), pages::reference()));
        files.push(("asyncapi/assent.json".to_owned(), text(&asyncapi::document())));
        let today = serde_json::to_value(wire::today()).map_err(release)?;
        files.push(("asyncapi/wire.json".to_owned(), text(&today)));
        for (name, content) in &files {
            let path = dir.join(name);
            let parent = path.parent().unwrap_or(dir);
            std::fs::create_dir_all(parent).map_err(|error| Failure::file(parent, error))?;
            std::fs::write(&path, content).map_err(|error| Failure::file(&path, error))?;
        }
        let written: Vec<&String> = files.iter().map(|(name, _)| name).collect();
        output.print(&written, |written| format!("{} documents written", written.len()));
        Ok(Status::Done)
    }
}

/// Today's schemas, by type.
fn current() -> BTreeMap<String, Value> {
    ALL.iter().map(|event| (event.name.to_owned(), json_schema::of(event))).collect()
}

/// The schemas of the last release, by type. A folder without any compares with nothing, so it is an error.
fn released(dir: &Path) -> Result<BTreeMap<String, Value>, Failure> {
    let folder = dir.join("schemas/released");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).map_err(|error| Failure::file(&folder, error))? {
        let path = entry.map_err(|error| Failure::file(&folder, error))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| Failure::file(&path, error))?;
        let schema = serde_json::from_str(&text).map_err(|error| Failure::file(&path, error))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.insert(name, schema);
    }
    if found.is_empty() {
        return Err(Failure::wrong_use(format!("{} has no schemas", folder.display())));
    }
    Ok(found)
}

fn text(document: &Value) -> String {
    // `{:#}` of a JSON value is its indented form.
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_released_schemas_is_an_error() {
        assert!(released(Path::new("no-such-folder")).is_err());
        assert!(released(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))).is_ok());
    }
}
