//! `GET /v1/purposes`: the purposes of this deployment, each with its newest notice.

use assent_contracts::consent::PurposeDefined;
use assent_http::{Caller, Json, Listing, Problem};
use axum::extract::State;

use super::App;
use super::refusals::database;
use crate::policy;

/// Which purposes are there?
#[utoipa::path(
    get, path = "/v1/purposes", tag = "purposes",
    responses((status = 200, description = "The newest version of each", body = Listing<PurposeDefined>)),
    security(("bearer" = []))
)]
pub(super) async fn purposes(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Listing<PurposeDefined>>, Problem> {
    caller.require("consent:read")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let purposes = policy::purposes(&mut conn).await.map_err(database)?;
    Ok(Json(Listing { items: purposes.into_values().collect(), next: None }))
}
