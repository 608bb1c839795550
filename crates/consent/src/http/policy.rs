//! `GET /v1/policy`: the policy in force, as `assent policy export` writes it.

use assent_contracts::policy::PolicyInForce;
use assent_http::{Caller, Json, Problem};
use axum::extract::State;

use super::App;
use super::refusals::database;
use crate::policy::in_force;

/// Which policy is in force?
#[utoipa::path(
    get, path = "/v1/policy", tag = "policy",
    responses((status = 200, body = PolicyInForce)),
    security(("bearer" = []))
)]
pub(super) async fn policy(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<PolicyInForce>, Problem> {
    caller.require("consent:read")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let current = in_force(&mut conn).await.map_err(database)?;
    current.map(Json).ok_or_else(|| Problem::internal("the service serves without a policy"))
}
