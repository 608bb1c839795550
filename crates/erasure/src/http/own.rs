//! `GET /v1/subjects/{subject_id}/requests`: what a person asked for by a road of her own, with what she tracks it by, for
//! the page that she alone opens. It guarantees that what others asked for in her name isn't among it: the secret of a
//! forged request is the forger's.

use assent_contracts::SubjectId;
use assent_contracts::rights::{RequestKind, RequestOrigin};
use assent_http::{Caller, Json, Listing, Path, Problem};
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::request::INTAKE;
use super::{App, store_problem};
use crate::domain::request::RequestState;
use crate::tracking;

/// A request of hers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnRequest {
    reference: String,
    /// None: it was given under another key of the service, and can't be said again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    kind: RequestKind,
    origin: RequestOrigin,
    status: RequestState,
    received_at: Timestamp,
    /// By when it is answered.
    due: Timestamp,
}

#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}/requests", tag = "requests",
    params(("subject_id" = Uuid, Path, description = "Whose")),
    responses(
        (status = 200, description = "Oldest first; nobody's: none", body = Listing<OwnRequest>),
    ),
    security(("bearer" = []))
)]
/// What a person asked for by her page or by a message, with what she tracks it by. It needs two scopes.
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(subject_id): Path<SubjectId>,
) -> Result<Json<Listing<OwnRequest>>, Problem> {
    caller.require(INTAKE)?;
    caller.require("erasure:track")?;
    let person = app.sagas.load(subject_id).await.map_err(store_problem)?;
    let mut items = Vec::new();
    for request in person.requests.iter() {
        let Some(origin) = request.origin else { continue };
        let secret = app.sagas.tracking.secret(request.id);
        let is_hers = app.sagas.is_secret_of(request.id, &secret).await.map_err(store_problem)?;
        items.push(OwnRequest {
            reference: tracking::reference(request.id),
            secret: is_hers.then_some(secret),
            kind: request.kind,
            origin,
            status: request.state(),
            received_at: request.received_at,
            due: request.due,
        });
    }
    Ok(Json(Listing { items, next: None }))
}
