//! `POST /v1/requests/{request_id}/restriction`, `…/restriction/notice` and `…/restriction/release`: her data are kept
//! and not used, she hears that this ends, and it ends (GDPR Article 18). It guarantees that the gate denies before
//! the record says so, and allows again only after the record says that she was told.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{ConsentAnswer, RestrictionRequest};
use assent_contracts::rights::Task;
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{Caller, ClientError, Code, Json, Path, Problem};
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::decisions::{DECIDES, refused};
use super::rectification::asking;
use super::requests::{RequestView, view};
use super::{App, code, requests, store_problem};
use crate::domain::request::RequestRefusal;
use crate::domain::restriction::Said;

/// How she was told that the restriction ends.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndTold {
    /// A code, such as `letter`; no free text.
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    how: String,
}

/// Why the restriction is over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Over {
    /// A code, such as `data_verified`; no free text.
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    reason: String,
}

/// What is recorded.
#[derive(Debug, Clone)]
enum Wish {
    Restrict,
    Tell(Said),
    Release(Said),
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/restriction", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    responses(
        (status = 200, description = "Nothing is sent to her since, and recipients are told", body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
        (status = 410, description = "subject_erased"),
        (status = 503, description = "dependency_unavailable: repeat it"),
    ),
    security(("bearer" = []))
)]
/// Restricts the use of her data, and answers the request with it.
///
/// The answer comes once that has settled. Its repeat changes nothing more.
pub(super) async fn restrict(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
) -> Result<Json<RequestView>, Problem> {
    caller.require(DECIDES)?;
    requests::load(&app, request_id).await?.may_restrict(request_id).map_err(refused)?;
    at_the_gate(&app, request_id, "/v1/restrictions").await?;
    record(app, request_id, Wish::Restrict, caller).await
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/restriction/notice", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    request_body = EndTold,
    responses(
        (status = 200, description = "With what she is told", body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
/// Records that she was told that the restriction will be lifted.
pub(super) async fn tell_end(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
    Json(told): Json<EndTold>,
) -> Result<Json<RequestView>, Problem> {
    caller.require(DECIDES)?;
    code("how", &told.how)?;
    let said = Said { code: told.how, key: caller.key().to_owned() };
    record(app, request_id, Wish::Tell(said), caller).await
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/restriction/release", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    request_body = Over,
    responses(
        (status = 200, description = "What she agreed to counts again, and recipients are told", body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "validation_failed"),
        (status = 503, description = "dependency_unavailable: repeat it"),
    ),
    security(("bearer" = []))
)]
/// Lifts the restriction, once she was told.
pub(super) async fn release(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
    Json(over): Json<Over>,
) -> Result<Json<RequestView>, Problem> {
    caller.require(DECIDES)?;
    code("reason", &over.reason)?;
    requests::load(&app, request_id).await?.may_release(request_id).map_err(refused)?;
    at_the_gate(&app, request_id, "/v1/restrictions/lift").await?;
    let said = Said { code: over.reason, key: caller.key().to_owned() };
    record(app, request_id, Wish::Release(said), caller).await
}

/// The gate first: what is recorded holds there already. Both of its calls may be repeated.
async fn at_the_gate(app: &App, request_id: Uuid, path: &str) -> Result<(), Problem> {
    let subject_id = app.sagas.subject_of(request_id).await.map_err(store_problem)?;
    let subject_id = subject_id.ok_or(Code::RequestUnknown)?;
    let ask = RestrictionRequest { subject_id, request_id };
    let answer: Result<ConsentAnswer, ClientError> = app.consent.post(path, &ask, None).await;
    answer.map(|_| ()).map_err(|error| match error.code() {
        Some(Code::SubjectErased) => Problem::new(Code::SubjectErased),
        // A consent service of before, or one that is away.
        Some(Code::NotFound | Code::Forbidden) | None => Problem::unavailable("consent", error),
        _ if error.is_transient() => Problem::unavailable("consent", error),
        _ => Problem::internal(error),
    })
}

async fn record(
    app: App,
    request_id: Uuid,
    wish: Wish,
    caller: Caller,
) -> Result<Json<RequestView>, Problem> {
    let subject = app.sagas.subject_of(request_id).await.map_err(store_problem)?;
    let subject = subject.ok_or(Code::RequestUnknown)?;
    let recorded =
        to_the_end(async move { decide(&app, request_id, subject, wish, &caller).await });
    let view = recorded.await.map_err(store_problem)?.map_err(refused)?;
    Ok(Json(view))
}

async fn decide(
    app: &App,
    request_id: Uuid,
    subject: SubjectId,
    wish: Wish,
    caller: &Caller,
) -> Result<Result<RequestView, RequestRefusal>, StoreError> {
    let mut held = app.sagas.hold(subject).await?;
    let asking = asking(app, &mut held, request_id).await?;
    let (decided, task) = match wish {
        Wish::Restrict => {
            (held.person.restrict(request_id, asking, held.now), Some(Task::Restrict))
        }
        Wish::Tell(said) => (held.person.tell_end(request_id, said, held.now), None),
        Wish::Release(said) => {
            (held.person.release(request_id, said, asking, held.now), Some(Task::Release))
        }
    };
    let events = match decided {
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
    let asked = request.zip(task.filter(|_| new)).and_then(|(it, task)| it.asked(task)).cloned();
    if let Some(asked) = asked {
        held.inquire(request_id, &asked).await?;
    }
    let names = held.names().await?;
    let view = view(&held.person, request_id, &names, held.now).ok_or(RequestRefusal::Unknown);
    held.commit().await?;
    Ok(view)
}
