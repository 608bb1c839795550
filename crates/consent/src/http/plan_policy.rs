//! `POST /v1/policy/plan`: what applying a policy would change, for whom, and what it leaves out.

use assent_contracts::policy::{Policy, PolicyPlan};
use assent_http::{Caller, Json, Problem};
use axum::extract::State;

use super::App;

/// What would this policy change?
///
/// Nothing is changed and nothing is recorded.
#[utoipa::path(
    post, path = "/v1/policy/plan", tag = "policy",
    request_body = Policy,
    responses((status = 200, body = PolicyPlan)),
    security(("bearer" = []))
)]
pub(super) async fn plan_policy(
    State(app): State<App>,
    caller: Caller,
    Json(wanted): Json<Policy>,
) -> Result<Json<PolicyPlan>, Problem> {
    caller.require("consent:read")?;
    Ok(Json(app.0.policies.plan(&wanted, &app.0.papers.rules).await?))
}
