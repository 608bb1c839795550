//! `POST /v1/requests/{request_id}/rectification`: what she wants to be held instead. It guarantees that nothing is
//! changed before it is shown who asks, that the new content goes to the vault and stays nowhere here, and that the
//! recipients outside are told with the record of it (GDPR Articles 16 and 19).

use std::collections::BTreeSet;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{RectifyRequest, RectifyResponse};
use assent_contracts::rights::Task;
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{Caller, ClientError, Code, Json, Path, Problem};
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::decisions::{DECIDES, refused};
use super::requests::{RequestView, view};
use super::{App, requests, store_problem};
use crate::domain::recipients::Asking;
use crate::domain::request::RequestRefusal;
use crate::store::Held;

/// What is to be held instead; what is left out stays. No `Debug`: it holds plaintext.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Right {
    /// Her number, in any spelling.
    #[serde(default)]
    phone: Option<String>,
    /// Country of a number without a country code.
    #[serde(default)]
    country: Option<String>,
    /// Her name; empty: what is held is wrong, and goes.
    #[serde(default)]
    name: Option<String>,
    /// Her e-mail address; empty: what is held is wrong, and goes.
    #[serde(default)]
    email: Option<String>,
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/rectification", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    request_body = Right,
    responses(
        (status = 200, description = "Done, and recipients are told: what was put right, and what she is told", body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "phone_invalid, validation_failed"),
        (status = 503, description = "dependency_unavailable: repeat it"),
    ),
    security(("bearer" = []))
)]
/// Puts right what is held of her, and answers the request with it.
///
/// All that is wrong goes into one call. Its repeat changes nothing more.
pub(super) async fn rectify(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
    Json(right): Json<Right>,
) -> Result<Json<RequestView>, Problem> {
    caller.require(DECIDES)?;
    let person = requests::load(&app, request_id).await?;
    person.may_rectify(request_id).map_err(refused)?;
    let subject = app.sagas.subject_of(request_id).await.map_err(store_problem)?;
    let subject = subject.ok_or(Code::RequestUnknown)?;
    let Right { phone, country, name, email } = right;
    let ask = RectifyRequest { request_id, phone, country, name, email };
    let path = format!("/v1/subjects/{subject}/rectify");
    let changed: Result<RectifyResponse, ClientError> =
        app.archivist.holders.vault.post(&path, &ask, None).await;
    let fields = changed.map_err(vaults)?.fields;
    let recording = app.clone();
    let recorded =
        to_the_end(async move { record(&recording, request_id, subject, fields, &caller).await });
    let view = recorded.await.map_err(store_problem)?.map_err(refused)?;
    Ok(Json(view))
}

async fn record(
    app: &App,
    request_id: Uuid,
    subject: SubjectId,
    fields: Vec<String>,
    caller: &Caller,
) -> Result<Result<RequestView, RequestRefusal>, StoreError> {
    let mut held = app.sagas.hold(subject).await?;
    let asking = asking(app, &mut held, request_id).await?;
    let events = match held.person.rectify(request_id, fields, asking, held.now) {
        Ok(events) => events,
        Err(refusal) => {
            held.rollback().await?;
            return Ok(Err(refusal));
        }
    };
    let new = !events.is_empty();
    held.keep_caller(caller).await?;
    held.record(events, None).await?;
    let request = held.person.requests.get(request_id);
    if let Some(asked) = request.and_then(|it| it.asked(Task::Rectify)).filter(|_| new).cloned() {
        held.inquire(request_id, &asked).await?;
    }
    let names = held.names().await?;
    let view = view(&held.person, request_id, &names, held.now).ok_or(RequestRefusal::Unknown);
    held.commit().await?;
    Ok(view)
}

/// Whom to ask, and until when.
pub(super) async fn asking(
    app: &App,
    held: &mut Held,
    request_id: Uuid,
) -> Result<Asking, StoreError> {
    let recipients: BTreeSet<String> = held.owners().await?.into_keys().collect();
    let due = held.person.requests.get(request_id).map_or(Timestamp::MAX, |it| it.due);
    let answer_by = crate::domain::recipients::answer_by(app.archivist.inquiry_time, due, held.now);
    Ok(Asking { inquiry_id: app.sagas.ids.v7(), recipients, answer_by })
}

/// What the vault says no to is the caller's to know: the detail is a code's.
fn vaults(error: ClientError) -> Problem {
    const TOLD: [Code; 5] = [
        Code::PhoneInvalid,
        Code::ValidationFailed,
        Code::SubjectErased,
        Code::SubjectUnknown,
        Code::RequestStateConflict,
    ];
    match error.code().filter(|code| TOLD.contains(code)) {
        Some(code) => {
            let ClientError::Problem { detail, body, .. } = error else { return code.into() };
            let problem = Problem::new(code).detail(detail.unwrap_or_default());
            match body.get("reason") {
                Some(reason) => problem.with("reason", reason.clone()),
                None => problem,
            }
        }
        None if error.is_transient() => Problem::unavailable("vault", error),
        None => Problem::internal(error),
    }
}
