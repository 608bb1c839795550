//! A stand-in for a Confluent-compatible schema registry: subjects with versions and a compatibility level, ids by content, and
//! the refusals of the real one with its status, its `error_code` and its words. Of what may follow what, it knows the rules that
//! matter to open schemas: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/serdes-json.html

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{post, put};
use serde_json::{Value, json};

/// Of the user `assent`.
pub const PASSWORD: &str = "for-this-test";
const LOGIN: &str = "Basic YXNzZW50OmZvci10aGlzLXRlc3Q=";
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
    "application/octet-stream",
];

#[derive(Default)]
struct Subjects {
    versions: BTreeMap<String, Vec<Value>>,
    levels: BTreeMap<String, String>,
    /// A schema's id is its place here, from 1.
    schemas: Vec<Value>,
}

type Shared = Arc<Mutex<Subjects>>;
type Answer = (StatusCode, String);

pub struct Registry {
    pub url: String,
    subjects: Shared,
}

impl Registry {
    pub async fn start() -> Self {
        let subjects = Shared::default();
        let router = Router::new()
            .route("/subjects/{subject}", post(look_up))
            .route("/subjects/{subject}/versions", post(register))
            .route("/config/{subject}", put(configure))
            .with_state(Arc::clone(&subjects));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, subjects }
    }

    /// All versions of a subject, the newest last.
    pub fn versions(&self, subject: &str) -> Vec<Value> {
        let subjects = self.subjects.lock().unwrap();
        subjects.versions.get(subject).cloned().unwrap_or_default()
    }

    /// What it holds versions of the subject against.
    pub fn level(&self, subject: &str) -> String {
        let subjects = self.subjects.lock().unwrap();
        subjects.levels.get(subject).cloned().unwrap_or_default()
    }

    /// Something that is there already.
    pub fn seed(&self, subject: &str, schema: &Value) {
        let mut subjects = self.subjects.lock().unwrap();
        subjects.schemas.push(schema.clone());
        subjects.versions.entry(subject.to_owned()).or_default().push(schema.clone());
    }
}

/// The real one's word for why the new schema may not follow the old one at this level.
pub fn conflict(level: &str, old: &Value, new: &Value) -> Option<&'static str> {
    // Backward: the new one reads what the old one wrote; forward: the other way round.
    let level = level.trim_end_matches("_TRANSITIVE");
    let backward = matches!(level, "BACKWARD" | "FULL").then(|| breaks(old, new)).flatten();
    backward.or_else(|| matches!(level, "FORWARD" | "FULL").then(|| breaks(new, old)).flatten())
}

/// Whether `reader` fails on something that `writer` lets pass. All schemas are open.
fn breaks(writer: &Value, reader: &Value) -> Option<&'static str> {
    let members = |schema: &Value| schema["properties"].as_object().cloned().unwrap_or_default();
    let (written, read) = (members(writer), members(reader));
    if read.keys().any(|name| !written.contains_key(name)) {
        return Some("PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL");
    }
    let changed = read.iter().any(|(name, schema)| schema["type"] != written[name]["type"]);
    changed.then_some("TYPE_CHANGED")
}

fn error(status: u16, code: u32, message: &str) -> Answer {
    let body = json!({"error_code": code, "message": message});
    (StatusCode::from_u16(status).unwrap(), body.to_string())
}

/// What every call must be: from somebody who is known, of a type that is read, with a body that is JSON.
fn read(headers: &HeaderMap, body: &Bytes) -> Result<Value, Answer> {
    let header = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if header("authorization") != LOGIN {
        return Err(error(401, 401, "Unauthorized"));
    }
    if !MEDIA_TYPES.contains(&header("content-type")) {
        return Err(error(415, 415, "HTTP 415 Unsupported Media Type"));
    }
    serde_json::from_slice(body).map_err(|_| error(400, 400, "Unable to process JSON"))
}

/// The schema in the body. Without its type it would be one of Avro.
fn schema(body: &Value) -> Result<Value, Answer> {
    let text = body["schema"].as_str().unwrap_or_default();
    let schema: Option<Value> = serde_json::from_str(text).ok();
    match (body["schemaType"].as_str(), schema) {
        (Some("JSON"), Some(schema)) if schema.is_object() => Ok(schema),
        (kind, _) => {
            let kind = kind.unwrap_or("AVRO");
            Err(error(
                422,
                42_201,
                &format!("Invalid schema of type {kind}, details: Invalid schema"),
            ))
        }
    }
}

async fn look_up(
    State(shared): State<Shared>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let asked = read(&headers, &body).and_then(|body| schema(&body));
    let schema = match asked {
        Ok(schema) => schema,
        Err(refusal) => return refusal,
    };
    let subjects = shared.lock().unwrap();
    let Some(versions) = subjects.versions.get(&subject) else {
        return error(404, 40_401, &format!("Subject '{subject}' not found."));
    };
    let Some(version) = versions.iter().position(|it| *it == schema) else {
        return error(404, 40_403, "Schema not found");
    };
    let id = subjects.schemas.iter().position(|it| *it == schema).map(|place| place + 1);
    let answer =
        json!({"subject": subject, "id": id, "version": version + 1, "schema": schema.to_string()});
    (StatusCode::OK, answer.to_string())
}

async fn register(
    State(shared): State<Shared>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let asked = read(&headers, &body).and_then(|body| schema(&body));
    let schema = match asked {
        Ok(schema) => schema,
        Err(refusal) => return refusal,
    };
    let mut subjects = shared.lock().unwrap();
    let level = subjects.levels.get(&subject).cloned().unwrap_or_else(|| "BACKWARD".to_owned());
    let known = subjects.versions.get(&subject).cloned().unwrap_or_default();
    if !known.contains(&schema) {
        if let Some(kind) = known.iter().find_map(|old| conflict(&level, old, &schema)) {
            let message = format!(
                "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", \
                 details: [{{errorType:'{kind}'}}, {{compatibility: '{level}'}}]"
            );
            return error(409, 409, &message);
        }
        subjects.versions.entry(subject).or_default().push(schema.clone());
    }
    if !subjects.schemas.contains(&schema) {
        subjects.schemas.push(schema.clone());
    }
    let id = subjects.schemas.iter().position(|it| *it == schema).map(|place| place + 1);
    (StatusCode::OK, json!({"id": id}).to_string())
}

async fn configure(
    State(shared): State<Shared>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    const LEVELS: [&str; 7] = [
        "NONE",
        "BACKWARD",
        "BACKWARD_TRANSITIVE",
        "FORWARD",
        "FORWARD_TRANSITIVE",
        "FULL",
        "FULL_TRANSITIVE",
    ];
    let body = match read(&headers, &body) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let level = body["compatibility"].as_str().unwrap_or_default();
    if !LEVELS.contains(&level) {
        return error(422, 42_203, "Invalid compatibility level.");
    }
    shared.lock().unwrap().levels.insert(subject, level.to_owned());
    (StatusCode::OK, json!({"compatibility": level}).to_string())
}
