//! `POST /v1/gate/stops`: stops that were heard elsewhere, known address or not.

use assent_contracts::api::consent::{StopsRequest, StopsResponse};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Problem};
use assent_runtime::telemetry;
use axum::extract::State;

use super::refusals::store;
use super::{ADDRESSES_MAX, App};
use crate::stops::STOPS_MAX;

/// Record stops.
///
/// Answers when they have settled. A stop is known by its id: repeating it changes nothing, and
/// still waits.
#[utoipa::path(
    post, path = "/v1/gate/stops", tag = "gate",
    request_body(content = StopsRequest, description = "at most 500 stops"),
    responses(
        (status = 200, description = "Recorded and settled", body = StopsResponse),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn hear_stops(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<StopsRequest>,
) -> Result<Json<StopsResponse>, Problem> {
    caller.require("gate:write")?;
    if request.stops.len() > STOPS_MAX {
        return Err(Problem::new(Code::ValidationFailed).detail("at most 500 stops at once"));
    }
    if request.stops.iter().any(|stop| !(1..=ADDRESSES_MAX).contains(&stop.addresses.len())) {
        return Err(Problem::new(Code::ValidationFailed).detail("a stop has 1 to 32 addresses"));
    }
    let (stops, traceparent) = (app.0.stops.clone(), telemetry::traceparent());
    let response = to_the_end(async move { stops.hear(request.stops, traceparent).await }).await;
    response.map(Json).map_err(store)
}
