//! `POST /v1/verdicts`: what the gate would say about many at once, for the screening of a list.
//! The same function over the same facts as for one.

use assent_contracts::api::consent::{VerdictAsk, VerdictsRequest, VerdictsResponse};
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;
use uuid::Uuid;

use super::App;
use crate::domain::verdict::{Addresses, Ask, evaluate};
use crate::permits::settling;
use crate::views::Question;

/// Most asks of one request.
const ASKS_MAX: usize = 2_000;

/// What would the gate say about each of these?
///
/// Nothing is recorded and nothing may be sent on it. All verdicts are of one moment.
#[utoipa::path(
    post, path = "/v1/verdicts", tag = "gate",
    request_body = VerdictsRequest,
    responses(
        (status = 200, body = VerdictsResponse),
        (status = 404, description = "purpose_unknown"),
        (status = 422, description = "channel_unknown; validation_failed: more than 2,000 asks")
    ),
    security(("bearer" = []))
)]
pub(super) async fn verdicts(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<VerdictsRequest>,
) -> Result<Json<VerdictsResponse>, Problem> {
    caller.require("consent:read")?;
    let VerdictsRequest { purpose, channel, asks } = request;
    if asks.len() > ASKS_MAX {
        return Err(
            Problem::new(Code::ValidationFailed).detail(format!("at most {ASKS_MAX} asks at once"))
        );
    }
    let question = Question {
        subjects: asks.iter().filter_map(|ask| ask.subject_id).collect(),
        tokens: asks
            .iter()
            .flat_map(|ask| &ask.addresses)
            .map(|token| token.to_bytes().to_vec())
            .collect(),
        purposes: vec![purpose.clone()],
        asks: Vec::new(),
    };
    let mut view = app.facts(question).await?;
    // A list is looked at by day and by night: who may be messaged, not at which hour.
    view.purposes.values_mut().for_each(|pursued| pursued.quiet = None);
    match view.purposes.get(&purpose) {
        None => return Err(Problem::new(Code::PurposeUnknown)),
        Some(pursued) if !pursued.channels.contains(&channel) => {
            return Err(Problem::new(Code::ChannelUnknown));
        }
        Some(_) => {}
    }
    let (now, settling) = (app.0.clock.now(), settling(&app.0.terms));
    let verdict = |VerdictAsk { subject_id, addresses }: &VerdictAsk| {
        let (purpose, channel) = (&*purpose, &*channel);
        let (subject, addresses) = match subject_id {
            Some(subject) => (*subject, Addresses::Linked),
            None => (Uuid::nil(), Addresses::OfNobody(addresses)),
        };
        evaluate(&view, Ask { subject, addresses, purpose, channel, message: None }, now, settling)
    };
    Ok(Json(VerdictsResponse { verdicts: asks.iter().map(verdict).collect() }))
}
