//! `assent template`: templates at WhatsApp, written as files, reviewed there.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::Api;
use crate::outcome::{Failure, Output, Status};

/// `assent template …`
#[derive(Debug, Subcommand)]
pub enum Template {
    /// Give a template to WhatsApp, who reviews it.
    #[command(after_help = "\
Examples:
  assent template create docs/examples/templates/spring_offer.toml

A repeat is answered like the first. What the review says is shown by `assent template list`.
Exit status: 0 it is there, 1 there is another of this name, or WhatsApp refuses it, 2 wrong use, 3 a service didn't answer (repeat it).")]
    Create(Written),
    /// Replace what a template says; WhatsApp reviews it anew, and its campaigns stop.
    #[command(after_help = "\
Examples:
  assent template edit docs/examples/templates/spring_offer.toml

Exit status: 0 it says so, 1 WhatsApp refuses it, 2 wrong use, 3 a service didn't answer (repeat it).")]
    Edit(Written),
    /// List the templates that are known, with their status.
    #[command(after_help = "\
Examples:
  assent template list
  assent template list --json")]
    List,
    /// Delete a template at WhatsApp; its campaigns stop at once.
    #[command(after_help = "\
Examples:
  assent template delete spring_offer --language fr
  assent template delete spring_offer

Its name can't be used for 30 days. Exit status: 0 it is gone, 1 WhatsApp refuses it, 2 wrong use, 3 a service didn't answer (repeat it).")]
    Delete {
        /// Its name.
        name: String,
        /// In which language; without: in all.
        #[arg(long)]
        language: Option<String>,
    },
}

/// A template as a file.
#[derive(Debug, Args)]
pub struct Written {
    /// The file, in TOML with the fields of `POST /messaging/v1/templates/create`. A header's `example_file`, beside
    /// it, is uploaded for its `example`.
    file: PathBuf,
}

/// A template, as messaging tells of it.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    name: String,
    language: String,
    category: String,
    status: String,
    status_reason: Option<String>,
    quality: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct All {
    templates: Vec<Known>,
}

impl Template {
    /// Runs it.
    ///
    /// # Errors
    /// When the file can't be read, WhatsApp refuses, or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Create(Written { file }) => {
                let draft = read(api, file).await?;
                let known: Known = api.post("/messaging/v1/templates/create", &draft, None).await?;
                output.print(&known, line);
            }
            Self::Edit(Written { file }) => {
                let draft = read(api, file).await?;
                let known: Known = api.post("/messaging/v1/templates/edit", &draft, None).await?;
                output.print(&known, line);
            }
            Self::List => {
                let all: All = api.get("/messaging/v1/templates").await?;
                output.print(&all, lines);
            }
            Self::Delete { name, language } => {
                let mut request = json!({"name": name});
                if let Some(language) = language {
                    request["language"] = json!(language);
                }
                let gone: All = api.post("/messaging/v1/templates/delete", &request, None).await?;
                output.print(&gone, lines);
            }
        }
        Ok(Status::Done)
    }
}

/// The template, each `example_file` of a header taken to the provider and replaced by its handle.
async fn read(api: &Api, path: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
    let mut draft: Value =
        toml::from_str(&text).map_err(|error| Failure::file(path, error.message()))?;
    let mut headers: Vec<&mut Value> = Vec::new();
    if let Value::Object(draft) = &mut draft {
        for (key, value) in draft {
            match (key.as_str(), value) {
                ("header", header) => headers.push(header),
                ("cards", Value::Array(cards)) => {
                    headers.extend(cards.iter_mut().filter_map(|card| card.get_mut("header")));
                }
                _ => {}
            }
        }
    }
    for header in headers.into_iter().filter_map(Value::as_object_mut) {
        let Some(Value::String(name)) = header.remove("example_file") else { continue };
        let file = path.parent().unwrap_or(Path::new("")).join(name);
        header.insert("example".to_owned(), Value::String(upload(api, &file).await?));
    }
    Ok(draft)
}

#[derive(Deserialize)]
struct Example {
    example: String,
}

/// Takes an example to the provider, and gives its handle.
async fn upload(api: &Api, file: &Path) -> Result<String, Failure> {
    let extension = file.extension().and_then(|it| it.to_str()).unwrap_or_default();
    let media_type = match extension.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "mp4" => "video/mp4",
        "pdf" => "application/pdf",
        _ => return Err(Failure::file(file, "an example is a .jpg, .png, .mp4 or .pdf")),
    };
    let bytes = std::fs::read(file).map_err(|error| Failure::file(file, error))?;
    let Example { example } =
        api.post_file("/messaging/v1/templates/examples", media_type, bytes).await?;
    Ok(example)
}

fn lines(all: &All) -> String {
    all.templates.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(it: &Known) -> String {
    let mut text = format!("{} {}: {}, {}", it.name, it.language, it.category, it.status);
    for more in [&it.status_reason, &it.quality].into_iter().flatten() {
        text.push_str(", ");
        text.push_str(more);
    }
    text
}
