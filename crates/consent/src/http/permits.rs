//! `POST /v1/permits`: ask for fresh verdicts just before sending.

use assent_contracts::api::consent::{PermitsRequest, PermitsResponse};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;

use super::refusals::database;
use super::{ADDRESSES_MAX, App};
use crate::permits::ASKS_MAX;

/// Ask for permits.
///
/// Start the lease before you ask. Each ask makes a new permit, worth one send within that lease;
/// this request is never repeated by itself.
#[utoipa::path(
    post, path = "/v1/permits", tag = "gate",
    request_body(content = PermitsRequest, description = "at most 500 asks"),
    responses(
        (status = 200, description = "Verdicts in the order of the asks", body = PermitsResponse),
        (status = 422, description = "validation_failed"),
        (status = 503, description = "dependency_unavailable: then nothing may be sent"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn give_permits(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<PermitsRequest>,
) -> Result<Json<PermitsResponse>, Problem> {
    caller.require("permits:write")?;
    if request.asks.len() > ASKS_MAX {
        return Err(
            Problem::new(Code::ValidationFailed).detail(format!("at most {ASKS_MAX} asks at once"))
        );
    }
    if request.asks.iter().any(|ask| ask.addresses.len() > ADDRESSES_MAX) {
        return Err(Problem::new(Code::ValidationFailed).detail("too many addresses"));
    }
    let permits = app.0.permits.clone();
    let permits = to_the_end(async move { permits.give(request.asks).await }).await;
    Ok(Json(PermitsResponse { permits: permits.map_err(database)? }))
}
