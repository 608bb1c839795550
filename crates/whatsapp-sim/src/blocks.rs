//! Whom the business blocked: `block_users`. Only somebody who wrote in the last 24 hours can be
//! blocked, and each number of a call succeeds or fails for itself.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::graph::{self, Reading, check_number};
use crate::graph_error::GraphError;
use crate::message::{is_bsuid, missing};
use crate::world::{self, World};

/// Longest list.
const BLOCKED_MAX: usize = 64_000;

/// The list, newest last: digits or BSUIDs.
#[derive(Debug, Default)]
pub struct Blocks(Vec<String>);

impl Blocks {
    /// Whether the business blocked this party.
    pub fn contains(&self, party: &str) -> bool {
        self.0.iter().any(|it| it == party)
    }
}

/// `GET /{version}/{number}/block_users`.
pub async fn list(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_number(&world, &version, &number, &headers) {
        return error.into_response();
    }
    let entry = |party: &String| {
        let mut entry = named(party, party);
        entry["messaging_product"] = json!("whatsapp");
        entry
    };
    let entries = world.state().blocks.0.iter().map(entry).collect();
    Json(reading.page(&world, &format!("/{version}/{number}/block_users"), entries)).into_response()
}

/// `POST /{version}/{number}/block_users`.
pub async fn block(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let inputs = match inputs(&world, &version, &number, &headers, &body) {
        Ok(inputs) => inputs,
        Err(error) => return error.into_response(),
    };
    let mut state = world.state();
    let (mut added, mut failed) = (Vec::new(), Vec::new());
    for input in inputs {
        let party = party(&input);
        match may_block(&world, &state, &party) {
            Ok(()) => {
                if !state.blocks.contains(&party) {
                    state.blocks.0.push(party.clone());
                }
                added.push(named(&input, &party));
            }
            Err(error) => {
                let mut entry = named(&input, &party);
                entry["errors"] = json!([error.body()["error"]]);
                failed.push(entry);
            }
        }
    }
    answer("added_users", added, failed)
}

/// `DELETE /{version}/{number}/block_users`.
pub async fn unblock(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let inputs = match inputs(&world, &version, &number, &headers, &body) {
        Ok(inputs) => inputs,
        Err(error) => return error.into_response(),
    };
    let mut state = world.state();
    let removed = inputs
        .iter()
        .map(|input| {
            let party = party(input);
            state.blocks.0.retain(|it| *it != party);
            named(input, &party)
        })
        .collect();
    answer("removed_users", removed, Vec::new())
}

fn may_block(world: &World, state: &world::State, party: &str) -> Result<(), GraphError> {
    if party == world.options.display_phone_number {
        return Err(GraphError::new(131_021, "Failed to block self phone number"));
    }
    if state.blocks.0.len() >= BLOCKED_MAX {
        return Err(GraphError::new(139_101, "The blocklist limit of 64k is reached"));
    }
    if !state.people.window_open(party, world.now()) {
        return Err(GraphError::new(
            131_047,
            "The business has not received a message from this number in the last 24 hours",
        ));
    }
    Ok(())
}

fn inputs(
    world: &World,
    version: &str,
    number: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<String>, GraphError> {
    check_number(world, version, number, headers)?;
    let body = graph::object(body)?;
    if body.get("messaging_product") != Some(&json!("whatsapp")) {
        return Err(missing("messaging_product"));
    }
    let users = body.get("block_users").and_then(Value::as_array);
    let users = users.filter(|it| !it.is_empty()).ok_or_else(|| missing("block_users"))?;
    let input = |user: &Value| {
        let input = user["user"].as_str().or_else(|| user["user_id"].as_str());
        input.map(str::to_owned).ok_or_else(|| missing("block_users.user"))
    };
    users.iter().map(input).collect()
}

fn party(input: &str) -> String {
    if is_bsuid(input) {
        return input.to_owned();
    }
    input.chars().filter(char::is_ascii_digit).collect()
}

fn named(input: &str, party: &str) -> Value {
    let key = if is_bsuid(party) { "user_id" } else { "wa_id" };
    json!({"input": input, key: party})
}

fn answer(done: &str, did: Vec<Value>, failed: Vec<Value>) -> Response {
    let mut answer = json!({"messaging_product": "whatsapp", "block_users": {done: did}});
    if failed.is_empty() {
        return Json(answer).into_response();
    }
    answer["block_users"]["failed_users"] = json!(failed);
    let details = "Failed to block some users, see the block_users response list for details";
    answer["error"] = GraphError::new(139_100, details).body()["error"].clone();
    (StatusCode::BAD_REQUEST, Json(answer)).into_response()
}
