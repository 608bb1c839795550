//! `/{version}/{id}`: objects of the Graph API share one path, so what a call means depends on
//! whose id it names: the number, the account, a template or a medium.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::callbacks::success;
use crate::graph::{self, Reading, check};
use crate::graph_error::GraphError;
use crate::world::World;
use crate::{media, numbers, templates, uploads};

/// `GET /{version}/{id}`.
pub async fn read(
    State(world): State<Arc<World>>,
    Path((version, id)): Path<(String, String)>,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check(&world, &version, &headers) {
        return error.into_response();
    }
    let mut state = world.state();
    if id == world.options.phone_number_id {
        let node = numbers::node(&world, &state);
        return Json(reading.select(&node, &numbers::FIELDS)).into_response();
    }
    if id == world.options.business_account_id {
        return Json(reading.select(&numbers::account(&world), &numbers::ACCOUNT_FIELDS))
            .into_response();
    }
    if let Some(template) = templates::find(&mut state, &id) {
        return Json(reading.select(&template.node(), &templates::FIELDS)).into_response();
    }
    match media::node(&world, &mut state, &id) {
        Some(node) => Json(node).into_response(),
        None => GraphError::unknown_object(&id).into_response(),
    }
}

/// `POST /{version}/{id}`.
pub async fn update(
    State(world): State<Arc<World>>,
    Path((version, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if id.starts_with("upload:") {
        return match uploads::take(&world, &id, &headers, &body) {
            Ok(answer) => Json(answer).into_response(),
            Err(error) => error.into_response(),
        };
    }
    let body = match check(&world, &version, &headers).and_then(|()| graph::object(&body)) {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let updated = if id == world.options.phone_number_id {
        numbers::update(&world, &body).await.map(|()| json!({"success": true}))
    } else {
        templates::edit(&world, &id, &body)
    };
    match updated {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.into_response(),
    }
}

/// `DELETE /{version}/{id}`: media only.
pub async fn delete(
    State(world): State<Arc<World>>,
    Path((version, id)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check(&world, &version, &headers) {
        return error.into_response();
    }
    let number = query.get("phone_number_id");
    if number.is_some_and(|number| *number != world.options.phone_number_id) {
        return GraphError::unknown_object(&id).into_response();
    }
    match world.state().media.remove(&id) {
        Some(_) => success(),
        None => GraphError::unknown_object(&id).into_response(),
    }
}
