//! `POST /v1/policy`: apply a policy, whole or not at all. Consents stay with the notice they were
//! given on.

use assent_contracts::policy::{ApplyPolicy, PolicyInForce};
use assent_eventstore::to_the_end;
use assent_http::extract::JsonBytes;
use assent_http::{Caller, IdempotencyKey, Json, Problem};
use assent_runtime::settle;
use axum::extract::State;

use super::App;

/// Apply a policy.
///
/// Applying the one that is in force changes nothing. A channel, a purpose or a notice that no longer
/// counts is a right less, so the answer comes when that has settled.
#[utoipa::path(
    post, path = "/v1/policy", tag = "policy",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = ApplyPolicy,
    responses(
        (status = 200, description = "What is in force now", body = PolicyInForce),
        (status = 409, description = "version_conflict: another was applied since the plan"),
        (status = 422, description = "validation_failed, with `refused`"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn apply_policy(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(request, body): JsonBytes<ApplyPolicy>,
) -> Result<Json<PolicyInForce>, Problem> {
    caller.require("policy:write")?;
    let idempotency = app.idempotency(&caller, "apply_policy", key, &body);
    let (policies, name) = (app.0.policies.clone(), caller.name().to_owned());
    let ApplyPolicy { version, policy } = request;
    let applied =
        to_the_end(async move { policies.apply(policy, version, &name, idempotency).await })
            .await?;
    settle(&*app.0.clock, &app.0.terms).await;
    Ok(Json(applied))
}
