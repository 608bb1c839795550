//! Media: uploaded, found, downloaded with the token for five minutes, deleted. Kept in memory, for
//! thirty days of the simulated clock.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::clock::later;
use crate::graph::{check, check_number};
use crate::graph_error::GraphError;
use crate::message::missing;
use crate::world::{self, World};

/// How long an address is good for.
const URL_LIFE: SignedDuration = SignedDuration::from_mins(5);
/// How long uploaded media are kept.
const MEDIUM_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long what a person sent can be had.
const INBOUND_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The largest upload.
pub const UPLOAD_BYTES_MAX: usize = 101 << 20;

/// What was uploaded.
#[derive(Debug)]
pub struct Medium {
    mime_type: String,
    bytes: Bytes,
    since: Timestamp,
    life: SignedDuration,
}

/// What kind of message may carry a type, and its most bytes; none: no message may.
fn kind_of(mime_type: &str) -> Option<(&'static str, usize)> {
    const MB: usize = 1 << 20;
    Some(match mime_type.split(';').next().unwrap_or_default().trim() {
        "audio/aac" | "audio/amr" | "audio/mpeg" | "audio/mp4" | "audio/ogg" => ("audio", 16 * MB),
        "image/jpeg" | "image/png" => ("image", 5 * MB),
        "image/webp" => ("sticker", MB / 2),
        "video/mp4" | "video/3gpp" => ("video", 16 * MB),
        "text/plain"
        | "application/pdf"
        | "application/vnd.ms-powerpoint"
        | "application/msword"
        | "application/vnd.ms-excel"
        | "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
        | "application/vnd.openxmlformats-officedocument.presentationml.presentation"
        | "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => {
            ("document", 100 * MB)
        }
        _ => return None,
    })
}

impl Medium {
    /// What a person sends.
    pub fn of_a_person(mime_type: String, bytes: Vec<u8>, now: Timestamp) -> Self {
        Self { mime_type, bytes: bytes.into(), since: now, life: INBOUND_LIFE }
    }

    /// The hash of its bytes.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// Whether it can still be had.
    fn lives(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) < self.life
    }

    /// Whether a message of this kind may carry it: a document may be anything.
    pub fn suits(&self, kind: &str) -> bool {
        kind == "document" || kind_of(&self.mime_type).is_some_and(|(own, _)| own == kind)
    }
}

/// `POST /{version}/{number}/media`: `multipart/form-data` with `file`, `type`, `messaging_product`.
pub async fn upload(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = match check_number(&world, &version, &number, &headers) {
        Ok(()) => form(&headers, body).await,
        Err(error) => Err(error),
    };
    let medium = form.and_then(|form| medium(form, world.now()));
    match medium {
        Ok(medium) => {
            let id = world.random.object_id();
            world.state().media.insert(id.clone(), medium);
            Json(json!({"id": id})).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// The parts of a form: name, the part's own type, content.
type Form = HashMap<String, (Option<String>, Bytes)>;

async fn form(headers: &HeaderMap, body: Body) -> Result<Form, GraphError> {
    let kind =
        headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind)
        .map_err(|_| GraphError::new(100, "The body is not multipart/form-data"))?;
    let limits = multer::Constraints::new()
        .size_limit(multer::SizeLimit::new().whole_stream(UPLOAD_BYTES_MAX as u64));
    let mut parts = multer::Multipart::with_constraints(body.into_data_stream(), boundary, limits);
    let broken = |_| GraphError::new(131_053, "The upload could not be read");
    let mut form = Form::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        let kind = part.content_type().map(ToString::to_string);
        form.insert(name, (kind, part.bytes().await.map_err(broken)?));
    }
    Ok(form)
}

fn medium(mut form: Form, now: Timestamp) -> Result<Medium, GraphError> {
    let mut text = |name: &str| {
        let (_, bytes) = form.remove(name)?;
        String::from_utf8(bytes.to_vec()).ok()
    };
    if text("messaging_product").as_deref() != Some("whatsapp") {
        return Err(missing("messaging_product"));
    }
    let named = text("type");
    let (own, bytes) = form.remove("file").ok_or_else(|| missing("file"))?;
    let mime_type = named.or(own).ok_or_else(|| missing("type"))?;
    let Some((kind, bytes_max)) = kind_of(&mime_type) else {
        return Err(GraphError::new(
            100,
            format!("Param file must be a file with one of the supported types, not {mime_type}"),
        ));
    };
    if bytes.is_empty() || bytes.len() > bytes_max {
        let what = format!("A file for {kind} messages has 1 to {bytes_max} bytes");
        return Err(GraphError::new(131_053, what));
    }
    Ok(Medium { mime_type, bytes, since: now, life: MEDIUM_LIFE })
}

/// A medium as the Graph API shows it, with an address that is new each time.
pub fn node(world: &World, state: &mut world::State, id: &str) -> Option<Value> {
    let now = world.now();
    expire(state, now);
    let medium = state.media.get(id)?;
    let until = later(now, URL_LIFE).as_second();
    let hash = medium.sha256();
    Some(json!({
        "messaging_product": "whatsapp",
        "url": format!("{}/whatsapp_business/attachments/?mid={id}&ext={until}&hash={}", world.url, seal(world, id, until)),
        "mime_type": medium.mime_type,
        "sha256": hash,
        "file_size": medium.bytes.len(),
        "id": id,
    }))
}

/// Forgets what is kept no longer.
pub fn expire(state: &mut world::State, now: Timestamp) {
    state.media.retain(|_, medium| medium.lives(now));
}

/// `GET /whatsapp_business/attachments/?mid=&ext=&hash=`.
pub async fn download(
    State(world): State<Arc<World>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let given = |name: &str| query.get(name).map_or("", String::as_str);
    let (id, until) = (given("mid"), given("ext").parse::<i64>().unwrap_or(0));
    let good = until > world.now().as_second() && given("hash") == seal(&world, id, until);
    if check(&world, "v0", &headers).is_err() || !good {
        return StatusCode::NOT_FOUND.into_response();
    }
    match world.state().media.get(id) {
        Some(medium) => ([(header::CONTENT_TYPE, medium.mime_type.clone())], medium.bytes.clone())
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What makes an address one that this simulator gave.
fn seal(world: &World, id: &str, until: i64) -> String {
    hex(&Sha256::digest(format!("{id} {until} {}", world.options.app_secret)))[..22].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
