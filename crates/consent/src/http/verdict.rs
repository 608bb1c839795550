//! `POST /v1/verdict`: what the gate would say. It asks the same function over the same facts as
//! a permit, so no page can promise what the gate refuses.

use assent_contracts::api::consent::{Verdict, VerdictRequest};
use assent_http::{Caller, Json, Problem};
use axum::extract::State;

use super::App;
use crate::domain::verdict::{Addresses, Ask, evaluate, evaluate_without_bars};
use crate::permits::settling;
use crate::views::Question;

/// What would the gate say?
///
/// Nothing is recorded and nothing may be sent on it. It does not wait: `settling_until` tells of
/// a change that is still settling. Without `suppression:read` an erased or suppressed person can't
/// be told from one who never agreed.
#[utoipa::path(
    post, path = "/v1/verdict", tag = "gate",
    request_body = VerdictRequest,
    responses((status = 200, body = Verdict)),
    security(("bearer" = []))
)]
pub(super) async fn verdict(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<VerdictRequest>,
) -> Result<Json<Verdict>, Problem> {
    caller.require("consent:read")?;
    let question = Question {
        subjects: vec![request.subject_id],
        tokens: Vec::new(),
        purposes: vec![request.purpose.clone()],
        asks: Vec::new(),
    };
    let view = app.facts(question).await?;
    let ask = Ask {
        subject: request.subject_id,
        addresses: Addresses::Linked,
        purpose: &request.purpose,
        channel: &request.channel,
        message: None,
    };
    let (now, settling) = (app.0.clock.now(), settling(&app.0.terms));
    Ok(Json(if caller.has("suppression:read") {
        evaluate(&view, ask, now, settling)
    } else {
        evaluate_without_bars(view, ask, now, settling)
    }))
}
