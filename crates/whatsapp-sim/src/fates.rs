//! What happens to a number and a phone without a word to the business: somebody else gets the number, she sets up
//! WhatsApp anew, her phone is off for a while. The inspection API and the phone page do it; a business
//! learns of it by what comes later, or never.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::acts::{digits, party};
use crate::webhook;
use crate::world::World;

/// Whose number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecycleRequest {
    /// The number.
    from: String,
    /// The profile name of whoever has it from now on.
    #[serde(default)]
    name: Option<String>,
}

/// `POST /_sim/recycle`: her number is somebody else's from now on. No webhook tells the business.
pub async fn recycle(
    State(world): State<Arc<World>>,
    Json(request): Json<RecycleRequest>,
) -> Response {
    let number = digits(&request.from);
    if number.is_empty() || party(&request.from) != number {
        let what = json!({"error": "from is a number"});
        return (StatusCode::BAD_REQUEST, Json(what)).into_response();
    }
    goes_on(&world, &number, request.name);
    StatusCode::NO_CONTENT.into_response()
}

/// Somebody else has this number, and gets what waited for its phone.
pub fn goes_on(world: &Arc<World>, number: &str, name: Option<String>) {
    let waiting = {
        let mut state = world.state();
        let waiting = state.people.recycle(number);
        state.people.person(number).name = name;
        waiting
    };
    webhook::arrive(world, waiting);
}

/// Who set up WhatsApp anew.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReinstallRequest {
    /// Her number or BSUID.
    from: String,
}

/// `POST /_sim/reinstall`: her identity hash is another one from now on. No webhook tells the business.
pub async fn reinstall(
    State(world): State<Arc<World>>,
    Json(request): Json<ReinstallRequest>,
) -> StatusCode {
    world.state().people.person(&party(&request.from)).installs += 1;
    StatusCode::NO_CONTENT
}

/// Whose phone is off, or on again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhoneRequest {
    /// Her number or BSUID.
    from: String,
    /// Whether what is sent to her waits from now on.
    off: bool,
}

/// `POST /_sim/phone`: while it is off messages are `sent` and no more; then they arrive.
pub async fn phone(
    State(world): State<Arc<World>>,
    Json(request): Json<PhoneRequest>,
) -> StatusCode {
    turns(&world, &party(&request.from), request.off);
    StatusCode::NO_CONTENT
}

/// Her phone is off, or on again.
pub fn turns(world: &Arc<World>, her: &str, off: bool) {
    let waiting = {
        let mut state = world.state();
        let person = state.people.person(her);
        person.off = off;
        if off { Vec::new() } else { std::mem::take(&mut person.waiting) }
    };
    webhook::arrive(world, waiting);
}
