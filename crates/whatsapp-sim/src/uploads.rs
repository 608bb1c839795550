//! Uploads in sessions: an example for a template's reviewers, which gets a handle. One piece is a whole
//! file here; the session knows how much it wants.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::graph::check;
use crate::graph_error::GraphError;
use crate::message::missing;
use crate::world::World;

/// The types that may be examples.
const TYPES: [&str; 5] = ["application/pdf", "image/jpeg", "image/jpg", "image/png", "video/mp4"];

/// An upload that was begun.
#[derive(Debug, Clone)]
pub struct Session {
    length: usize,
    mime_type: String,
}

/// `POST /{version}/{app_id}/uploads?file_name=&file_length=&file_type=`.
pub async fn begin(
    State(world): State<Arc<World>>,
    Path((version, app)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    match begun(&world, &version, &app, &query, &headers) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.into_response(),
    }
}

fn begun(
    world: &World,
    version: &str,
    app: &str,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
) -> Result<Value, GraphError> {
    // Here the token may stand in the address.
    if query.get("access_token") != Some(&world.options.access_token) {
        check(world, version, headers)?;
    }
    if app != world.options.app_id {
        return Err(GraphError::unknown_object(app));
    }
    let given = |name: &str| query.get(name).ok_or_else(|| missing(name));
    let length = given("file_length")?.parse().map_err(|_| missing("file_length"))?;
    let mime_type = given("file_type")?.clone();
    if !TYPES.contains(&mime_type.as_str()) {
        return Err(GraphError::new(100, format!("file_type {mime_type} is not supported")));
    }
    let id = format!("upload:{}", world.random.object_id());
    world.state().uploads.insert(id.clone(), Session { length, mime_type });
    Ok(json!({"id": format!("{id}?sig=simulated")}))
}

/// `POST /{version}/upload:…`, with the token as `OAuth`.
pub fn take(
    world: &World,
    id: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Value, GraphError> {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let token = format!("OAuth {}", world.options.access_token);
    if text(header::AUTHORIZATION.as_str()) != token {
        return Err(GraphError::new(190, "Invalid OAuth access token"));
    }
    if text("file_offset") != "0" {
        return Err(missing("file_offset"));
    }
    let mut state = world.state();
    let session = state.uploads.get(id).cloned();
    let session = session.ok_or_else(|| GraphError::unknown_object(id))?;
    if session.length != body.len() {
        return Err(GraphError::new(100, "The file has another length than the session"));
    }
    state.uploads.remove(id);
    let handle = format!("4::{}", STANDARD.encode(format!("{}:{id}", session.mime_type)));
    state.handles.insert(handle.clone());
    Ok(json!({"h": handle}))
}
