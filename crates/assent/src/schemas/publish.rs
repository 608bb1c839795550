//! `assent schemas publish`: the schemas in a Confluent-compatible schema registry, where others look for them. It
//! guarantees that a repeat changes nothing, that nothing is overwritten, and that a refusal says which subject
//! and why. Records stay plain JSON: nobody needs a registry to read them, and none of our services asks one.

use std::path::PathBuf;
use std::time::Duration;

use assent_contracts::published::{ALL, EventType};
use assent_http::client::http_client;
use clap::{Args, ValueEnum};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::{Value, json};

use super::json_schema;
use crate::api::Token;
use crate::outcome::{Failure, Output, Status};
use crate::serve::ConfigFile;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// What a registry must take of later versions: members that are new. Its default, BACKWARD, refuses just that in a schema
/// that lets members pass that it doesn't name, as ours all do.
const COMPATIBILITY: &str = "FORWARD_TRANSITIVE";
/// The registry's codes for "there is no such subject" and "not this schema".
const NOT_THERE: [i64; 2] = [40_401, 40_403];
/// Most of a registry's message that is passed on.
const MESSAGE_CHARS_MAX: usize = 600;

/// Arguments of `assent schemas publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent schemas publish --registry http://127.0.0.1:8081
  ASSENT_REGISTRY_PASSWORD_FILE=/run/registry assent schemas publish --registry https://registry.example.com --user assent
  assent schemas publish --registry http://127.0.0.1:8081 --subjects topic-record --json

Publishes every schema of this build as JSON Schema, under a subject for each event type, and sets the subject's
compatibility to FORWARD_TRANSITIVE, without which a registry refuses new members. What is there already stays as it is,
so a repeat does nothing. Exit status: 0 done, 1 the registry refused a schema, 2 wrong use or a wrong login, 3 it
didn't answer. After a failure a repeat goes on.")]
pub struct Publish {
    /// Address of the registry, without a user or a password.
    #[arg(long, env = "ASSENT_REGISTRY_URL", value_name = "URL")]
    registry: String,
    /// How subjects are called: by the event type, or by topic and event type.
    #[arg(long, value_enum, default_value_t = Subjects::Record)]
    subjects: Subjects,
    /// User for HTTP's basic authentication.
    #[arg(long, env = "ASSENT_REGISTRY_USER")]
    user: Option<String>,
    /// The user's password; better given by the environment or as a file than on the command line.
    #[arg(long, env = "ASSENT_REGISTRY_PASSWORD", hide_env_values = true)]
    password: Option<Token>,
    /// File that holds the password, where none is given.
    #[arg(long, env = "ASSENT_REGISTRY_PASSWORD_FILE", value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

/// How subjects are called. A name of the topic alone would stand for one schema, and topics hold many types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subjects {
    /// `RecordNameStrategy`: `assent.consent.granted.v1`.
    Record,
    /// `TopicRecordNameStrategy`: `assent.consent.events.v1-assent.consent.granted.v1`.
    TopicRecord,
}

impl Subjects {
    fn of(self, event: &EventType, prefix: &str) -> String {
        match self {
            Self::Record => event.name.to_owned(),
            Self::TopicRecord => format!("{}-{}", event.topic.name(prefix), event.name),
        }
    }
}

/// A schema that is there now.
#[derive(Debug, Serialize)]
struct Published {
    subject: String,
    id: i64,
    change: &'static str,
}

impl Publish {
    /// Runs it.
    ///
    /// # Errors
    /// When the registry can't be asked or refuses a schema.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let registry = self.open()?;
        let prefix = self.config.topic_prefix()?;
        let mut published = Vec::with_capacity(ALL.len());
        for event in ALL {
            let subject = self.subjects.of(event, &prefix);
            published.push(registry.publish(subject, &json_schema::of(event)).await?);
        }
        output.print(&published, |published| {
            let new = published.iter().filter(|it| it.change == NEW);
            let mut lines: Vec<String> =
                new.map(|it| format!("{}  {}  id {}", it.change, it.subject, it.id)).collect();
            let same = published.len() - lines.len();
            lines.push(format!("{} published, {same} were there", lines.len()));
            lines.join("\n")
        });
        Ok(Status::Done)
    }

    fn open(&self) -> Result<Registry, Failure> {
        let base = self.registry.trim_end_matches('/').to_owned();
        let url = Url::parse(&base).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        // Neither is said again: there may be a password in it.
        let Some(url) = url else {
            return Err(Failure::wrong_use("--registry is no http(s) address"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::wrong_use(
                "--registry holds a user: give it by --user, and the password by ASSENT_REGISTRY_PASSWORD or as a file",
            ));
        }
        let password = match (&self.password, &self.password_file) {
            (Some(password), _) => Some(password.secret().clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| Failure::file(path, error))?;
                Some(SecretString::from(text.trim_end().to_owned()))
            }
            (None, None) => None,
        };
        let login = match (&self.user, password) {
            (Some(user), Some(password)) => Some((user.clone(), password)),
            (None, None) => None,
            _ => {
                return Err(Failure::wrong_use(
                    "a registry's user needs a password, and a password a user",
                ));
            }
        };
        let http = http_client(CONNECT_TIMEOUT, CALL_TIMEOUT)?;
        Ok(Registry { http, base, login })
    }
}

const NEW: &str = "new";

/// A registry, as its REST API is documented.
struct Registry {
    http: reqwest::Client,
    base: String,
    login: Option<(String, SecretString)>,
}

impl Registry {
    /// Looks whether the schema is there; where it isn't, adds it as the subject's next version.
    async fn publish(&self, subject: String, schema: &Value) -> Result<Published, Failure> {
        let body = json!({"schemaType": "JSON", "schema": schema.to_string()});
        let place = format!("/subjects/{subject}");
        let (status, answer) = self.call(Method::POST, &place, &body).await?;
        let missing = answer["error_code"].as_i64().is_some_and(|code| NOT_THERE.contains(&code));
        if status == StatusCode::OK {
            return Ok(Published { id: id(&answer)?, subject, change: "unchanged" });
        }
        if status != StatusCode::NOT_FOUND || !missing {
            return Err(refused(&subject, status, &answer));
        }
        let level = json!({"compatibility": COMPATIBILITY});
        let (status, answer) =
            self.call(Method::PUT, &format!("/config/{subject}"), &level).await?;
        if status != StatusCode::OK {
            return Err(refused(&subject, status, &answer));
        }
        let versions = format!("{place}/versions");
        let (status, answer) = self.call(Method::POST, &versions, &body).await?;
        if status != StatusCode::OK {
            return Err(refused(&subject, status, &answer));
        }
        Ok(Published { id: id(&answer)?, subject, change: NEW })
    }

    /// The status and the JSON of the answer, null where it is none.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), Failure> {
        let silent = |error: reqwest::Error| Failure {
            status: Status::Unreachable,
            code: "unreachable".to_owned(),
            message: format!("the registry doesn't answer: {}", error.without_url()),
        };
        let request = self.http.request(method, format!("{}{path}", self.base));
        let mut request = request.header(CONTENT_TYPE, MEDIA_TYPE).header(ACCEPT, MEDIA_TYPE);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let answer = request.body(body.to_string()).send().await.map_err(silent)?;
        let status = answer.status();
        let text = answer.text().await.map_err(silent)?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }
}

fn id(answer: &Value) -> Result<i64, Failure> {
    answer["id"].as_i64().ok_or_else(|| Failure {
        status: Status::WrongUse,
        code: "not_a_registry".to_owned(),
        message: "what answers at --registry is no schema registry: no id in its answer".to_owned(),
    })
}

/// What a registry's refusal means for who called.
fn refused(subject: &str, status: StatusCode, answer: &Value) -> Failure {
    let (ends, code, what) = match status.as_u16() {
        401 | 403 => (
            Status::WrongUse,
            "registry_login_refused",
            "the registry doesn't let this user do that: look at --user, its password and its rights",
        ),
        409 => (
            Status::Refused,
            "schema_incompatible",
            "the registry holds a schema that this one may not follow; was something else published under this subject?",
        ),
        422 => (Status::Refused, "schema_refused", "the registry takes no such schema"),
        429 | 500.. => (Status::Unreachable, "registry_unavailable", "the registry is in trouble"),
        _ if answer["error_code"].is_null() => {
            (Status::WrongUse, "not_a_registry", "what answers at --registry is no schema registry")
        }
        _ => (Status::Refused, "registry_refused", "the registry refuses"),
    };
    let said: String =
        answer["message"].as_str().unwrap_or_default().chars().take(MESSAGE_CHARS_MAX).collect();
    let number = answer["error_code"].as_i64().map_or_else(String::new, |it| format!(", {it}"));
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Failure {
        status: ends,
        code: code.to_owned(),
        message: format!("{subject}: {what} (HTTP {}{number}){said}", status.as_u16()),
    }
}
