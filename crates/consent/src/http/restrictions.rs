//! `POST /v1/restrictions` and `POST /v1/restrictions/lift`: her data are kept and not used (GDPR Article 18). The
//! answer to a restriction comes one lease after the commit: from then on nothing is sent to her.

use assent_contracts::api::consent::{ConsentAnswer, RestrictionRequest};
use assent_http::{Caller, Json, Problem};
use assent_runtime::telemetry;
use axum::extract::State;

use super::App;
use super::withdraw::settled;
use crate::commands::{LedgerCommand, Wish};

/// Restrict the use of a person's data.
///
/// Everything but the confirmation of a stop is denied (`restricted`), whatever she agreed to, until it is lifted.
/// Waits until that has settled, also where it stood already.
#[utoipa::path(
    post, path = "/v1/restrictions", tag = "consents",
    request_body = RestrictionRequest,
    responses(
        (status = 200, description = "It stands and has settled", body = ConsentAnswer),
        (status = 410, description = "subject_erased"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn restrict(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<RestrictionRequest>,
) -> Result<Json<ConsentAnswer>, Problem> {
    caller.require("restrictions:write")?;
    let RestrictionRequest { subject_id, request_id } = request;
    settled(&app, command(subject_id, Wish::Restrict { request_id })).await
}

/// Lift the restriction of a request.
///
/// What she agreed to counts again, unless another request restricts it.
#[utoipa::path(
    post, path = "/v1/restrictions/lift", tag = "consents",
    request_body = RestrictionRequest,
    responses(
        (status = 200, description = "It stands no more", body = ConsentAnswer),
        (status = 410, description = "subject_erased"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn lift(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<RestrictionRequest>,
) -> Result<Json<ConsentAnswer>, Problem> {
    caller.require("restrictions:write")?;
    let RestrictionRequest { subject_id, request_id } = request;
    settled(&app, command(subject_id, Wish::LiftRestriction { request_id })).await
}

fn command(subject: assent_contracts::SubjectId, wish: Wish) -> LedgerCommand {
    LedgerCommand { traceparent: telemetry::traceparent(), ..LedgerCommand::of_ours(subject, wish) }
}
