//! `POST /v1/tracking`: where a request stands, for whoever holds its reference and secret. It
//! guarantees that a wrong guess and a request that doesn't exist get the same answer, and that the
//! right one says nothing about what is held.

use assent_contracts::rights::RequestKind;
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::archive::ArchiveView;
use super::requests::{ExtensionView, RectificationView, RefusalView, RestrictionView};
use super::{App, certificate, requests, store_problem};
use crate::domain::request::RequestState;
use crate::tracking;

/// What she was given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Guess {
    reference: String,
    secret: String,
}

/// Where the request stands, as she is told.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tracked {
    reference: String,
    kind: RequestKind,
    /// Of an erasure: whose data alone are meant; none: all of hers.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    status: RequestState,
    received_at: Timestamp,
    /// By when it is answered.
    due: Timestamp,
    /// Why it takes longer; none: that wasn't extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<ExtensionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<Timestamp>,
    /// Why it was refused, and where to complain.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<RefusalView>,
    /// What was put right; none: nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    rectification: Option<RectificationView>,
    /// Whether the use of her data is restricted, and that this will end; none: it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    restriction: Option<RestrictionView>,
    /// What it is answered with, to be collected; none: it isn't made yet, or the answer is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<ArchiveView>,
    /// Whether its certificate is there to be collected: of an erasure that is complete.
    certificate: bool,
}

#[utoipa::path(
    post, path = "/v1/tracking", tag = "requests",
    request_body = Guess,
    responses(
        (status = 200, body = Tracked),
        (status = 404, description = "request_unknown: no such request, or not its secret"),
    ),
    security(("bearer" = []))
)]
/// Where a request stands, by its reference and secret.
pub(super) async fn track(
    State(app): State<App>,
    caller: Caller,
    Json(guess): Json<Guess>,
) -> Result<Json<Tracked>, Problem> {
    caller.require("erasure:track")?;
    let request_id = guessed(&app, &guess).await?;
    let person = requests::load(&app, request_id).await?;
    let request = person.requests.get(request_id).ok_or(Code::RequestUnknown)?;
    let certified = request.kind == RequestKind::Erasure
        && certificate::find(&app, request_id).await?.is_some();
    Ok(Json(Tracked {
        reference: tracking::reference(request_id),
        kind: request.kind,
        purpose: request.purpose.clone(),
        status: request.state(),
        received_at: request.received_at,
        due: request.due,
        extension: requests::extension(request),
        closed_at: request.closed.map(|end| end.at),
        refusal: requests::refusal(request),
        rectification: requests::rectification(request),
        restriction: requests::restriction(request),
        archive: ArchiveView::of(request, app.sagas.clock.now()),
        certificate: certified,
    }))
}

/// The request of this reference, for whoever has its secret.
pub(super) async fn guessed(app: &App, guess: &Guess) -> Result<Uuid, Problem> {
    const FIND: &str =
        "SELECT request_id, secret_sha256 FROM subject_requests WHERE reference = $1";
    let found: Option<(Uuid, Option<Vec<u8>>)> = sqlx::query_as(FIND)
        .bind(tracking::typed_reference(&guess.reference))
        .fetch_optional(app.sagas.store.pool())
        .await
        .map_err(|error| store_problem(error.into()))?;
    // Compared also where there is no such reference: how long it takes doesn't tell what was wrong.
    let kept = found.as_ref().and_then(|(_, kept)| kept.as_deref());
    if !tracking::opens(&guess.secret, kept) {
        return Err(Code::RequestUnknown.into());
    }
    let (request_id, _) = found.ok_or(Code::RequestUnknown)?;
    Ok(request_id)
}
