//! `POST /v1/stops`: the door for opt-outs that come by a page while the consent service is down. It
//! guarantees what the webhook's does: from its commit on nothing new is sent to the address.

use assent_contracts::api::messaging::{PageStop, PageStopTaken};
use assent_contracts::api::vault::{ResolveRequest, ResolveResponse};
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;

use crate::api::messages::database;
use crate::declarations::{self, Declared};
use crate::domain::stop::{Form, Will};
use crate::state::Messaging;

/// Takes an opt-out from everything.
///
/// It travels to the consent service as soon as that is back. Repeating it changes nothing.
///
/// # Errors
/// `subject_unknown`; `dependency_unavailable` when the vault can't say which number is hers: then she
/// has to write STOP.
#[utoipa::path(
    post, path = "/v1/stops", tag = "stops", security(("bearer" = [])),
    request_body = PageStop,
    responses(
        (status = 200, description = "It holds from now on", body = PageStopTaken),
        (status = 404, description = "subject_unknown")
    )
)]
pub async fn take(
    State(messaging): State<Messaging>,
    caller: Caller,
    Json(request): Json<PageStop>,
) -> Result<Json<PageStopTaken>, Problem> {
    caller.require("gate:write")?;
    let ask = ResolveRequest { reason: "stop".to_owned(), subjects: vec![request.subject_id] };
    let answer = messaging.vault.post("/v1/addresses/resolve", &ask, None).await;
    let answer: ResolveResponse = answer.map_err(|error| Problem::unavailable("vault", error))?;
    let address = answer.addresses.into_iter().flatten().next().ok_or(Code::SubjectUnknown)?;
    let now = messaging.clock.now();
    let declared = Declared {
        tokens: address.hers(),
        said_at: now,
        heard_at: now,
        ..Declared::new(request.stop_id, Will::Stop, Form::Page)
    };
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    declarations::insert(&mut conn, &[declared]).await.map_err(database)?;
    messaging.declared.notify_one();
    Ok(Json(PageStopTaken { stop_id: request.stop_id }))
}
