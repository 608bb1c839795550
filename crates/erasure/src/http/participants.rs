//! `/v1/participants`: who takes part in erasures. A newcomer first loads `GET /v1/erased`; it is
//! asked in every erasure that isn't completed when it registers. Neither leaving nor a suspension ends
//! the duty to answer. One with a webhook is called at an address that the operator allowed; the secret that its calls
//! are signed with is shown when it is made, and never again.

use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};
use utoipa::ToSchema;

use super::{App, store_problem};
use crate::domain::Participant;
use crate::registry::Registration;
use crate::webhooks::rows as calls;

/// A participant that registers.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewParticipant {
    /// Its name: 1 to 64 of a-z, 0-9, `-` and `_`.
    #[schema(pattern = "^[a-z0-9_-]{1,64}$")]
    name: String,
    /// The name of the bearer key that answers for it. Where none is given it stays, and that of a newcomer
    /// is its own name.
    #[serde(default)]
    key_name: Option<String>,
    /// Whether it keeps keys of persons, and so is asked to destroy them.
    #[serde(default)]
    keeps_keys: bool,
    /// A code for the team to turn to when it doesn't answer: 1 to 64 of a-z, 0-9, `-` and `_`.
    #[serde(default)]
    #[schema(pattern = "^[a-z0-9_-]{1,64}$")]
    owner: Option<String>,
    /// Where it is called, on a host that the operator allowed. Where none is given it stays as it is; a newcomer
    /// without one reads Kafka.
    #[serde(default)]
    webhook: Option<String>,
    /// It is called no more, and reads Kafka: its address and secrets go, and calls that wait are not made.
    #[serde(default)]
    no_webhook: bool,
}

/// A participant as it is registered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ParticipantView {
    name: String,
    key_name: String,
    keeps_keys: bool,
    /// The team to turn to when it doesn't answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    registered_at: Timestamp,
    /// Since when its answers are refused. It must still answer, once it is resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_at: Option<Timestamp>,
    /// When it left. It must still answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_at: Option<Timestamp>,
    /// Where it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
    /// Whether the secret of before signs beside the one of now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    rotating: bool,
    /// What its calls are signed with (Standard Webhooks): shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Names stand in events, certificates and logs: they are codes.
pub fn is_participant_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

#[utoipa::path(
    post, path = "/v1/participants", tag = "participants",
    request_body = NewParticipant,
    responses(
        (status = 201, description = "Registered; open erasures will ask it too", body = ParticipantView),
        (status = 200, description = "It was registered before", body = ParticipantView),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
/// Registers a participant, or changes how it is registered.
pub(super) async fn register(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewParticipant>,
) -> Result<(StatusCode, Json<ParticipantView>), Problem> {
    caller.require("operations")?;
    for (field, code) in [("name", Some(&new.name)), ("owner", new.owner.as_ref())] {
        if code.is_some_and(|code| !is_participant_name(code)) {
            return Err(Problem::new(Code::ValidationFailed)
                .detail(format!("{field}: 1 to 64 of a-z, 0-9, - and _")));
        }
    }
    if new.no_webhook && new.webhook.is_some() {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("webhook, no_webhook: one of them, or neither"));
    }
    if let Some(address) = &new.webhook {
        app.webhooks.allowed.check(address).map_err(|refusal| {
            Problem::new(Code::ValidationFailed)
                .detail(format!("webhook: {refusal}"))
                .with("reason", refusal.name())
        })?;
    }
    let registering = app.clone();
    let name = new.name.clone();
    let registered = to_the_end(async move {
        let participant = Participant { keeps_keys: new.keeps_keys };
        let registration = Registration {
            key_name: new.key_name.as_deref(),
            owner: new.owner.as_deref(),
            webhook: new.webhook.as_deref(),
            no_webhook: new.no_webhook,
        };
        registering.sagas.register(&new.name, registration, participant).await
    })
    .await
    .map_err(store_problem)?;
    app.wake.notify_one();
    let mut view = show(&app, &name).await?;
    view.secret = registered.secret.map(|id| app.webhooks.secrets.secret(&name, id).shown());
    Ok((if registered.new { StatusCode::CREATED } else { StatusCode::OK }, Json(view)))
}

#[utoipa::path(
    get, path = "/v1/participants", tag = "participants",
    params(Page),
    responses((status = 200, description = "By name", body = Listing<ParticipantView>)),
    security(("bearer" = []))
)]
/// All participants, those that left included.
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<ParticipantView>>, Problem> {
    caller.require("erasure:read")?;
    let after: String = page.after()?.unwrap_or_default();
    let rows =
        sqlx::query(AssertSqlSafe(format!("{COLUMNS} WHERE name > $1 ORDER BY name LIMIT $2")))
            .bind(after)
            .bind(i64::try_from(page.limit() + 1).unwrap_or(i64::MAX))
            .fetch_all(app.sagas.store.pool())
            .await
            .and_then(|rows| rows.iter().map(view).collect::<Result<Vec<_>, _>>())
            .map_err(|error| store_problem(error.into()))?;
    Ok(Json(Listing::cut(rows, page.limit(), |last| last.name.clone())))
}

#[utoipa::path(
    delete, path = "/v1/participants/{name}", tag = "participants",
    params(("name" = String, Path, description = "The participant")),
    responses(
        (status = 204, description = "Recorded; what it received is still to be erased, so it must still answer"),
        (status = 404, description = "participant_unknown"),
    ),
    security(("bearer" = []))
)]
/// Records that a participant left.
pub(super) async fn leave(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require("operations")?;
    match app.sagas.leave(&name).await.map_err(store_problem)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Code::ParticipantUnknown.into()),
    }
}

#[utoipa::path(
    post, path = "/v1/participants/{name}/suspend", tag = "participants",
    params(("name" = String, Path, description = "The participant")),
    responses(
        (status = 200, description = "No answer of its is recorded from now on, and its key reads nothing; requests wait for it", body = ParticipantView),
        (status = 404, description = "participant_unknown"),
    ),
    security(("bearer" = []))
)]
/// Takes no answers of a participant until it is resumed. Those that were recorded before stand.
pub(super) async fn suspend(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ParticipantView>, Problem> {
    caller.require("operations")?;
    let suspending = app.clone();
    let named = name.clone();
    let suspended = to_the_end(async move { suspending.sagas.suspend(&named).await }).await;
    if !suspended.map_err(store_problem)? {
        return Err(Code::ParticipantUnknown.into());
    }
    Ok(Json(show(&app, &name).await?))
}

#[utoipa::path(
    post, path = "/v1/participants/{name}/resume", tag = "participants",
    params(("name" = String, Path, description = "The participant")),
    responses(
        (status = 200, description = "Its answers are taken again", body = ParticipantView),
        (status = 404, description = "participant_unknown"),
    ),
    security(("bearer" = []))
)]
/// Ends the suspension of a participant.
pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ParticipantView>, Problem> {
    caller.require("operations")?;
    if !app.sagas.resume(&name).await.map_err(store_problem)? {
        return Err(Code::ParticipantUnknown.into());
    }
    Ok(Json(show(&app, &name).await?))
}

#[utoipa::path(
    post, path = "/v1/participants/{name}/secret", tag = "participants",
    params(("name" = String, Path, description = "The participant")),
    responses(
        (status = 200, description = "Its calls are signed with this secret from now on, and with the one before until that is ended", body = ParticipantView),
        (status = 404, description = "participant_unknown"),
        (status = 422, description = "validation_failed: it has no webhook"),
    ),
    security(("bearer" = []))
)]
/// Gives a participant another secret for its webhook, shown this once.
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ParticipantView>, Problem> {
    caller.require("operations")?;
    let pool = app.sagas.store.pool();
    let rotated = calls::rotate(pool, &name, app.sagas.ids.v4()).await;
    let secret = rotated.map_err(|error| store_problem(error.into()))?;
    let mut view = show(&app, &name).await?;
    let Some(id) = secret else {
        return Err(Problem::new(Code::ValidationFailed).detail("this participant has no webhook"));
    };
    view.secret = Some(app.webhooks.secrets.secret(&name, id).shown());
    Ok(Json(view))
}

#[utoipa::path(
    delete, path = "/v1/participants/{name}/secret", tag = "participants",
    params(("name" = String, Path, description = "The participant")),
    responses(
        (status = 204, description = "The secret of before signs no more; the one of now stays"),
        (status = 404, description = "participant_unknown"),
    ),
    security(("bearer" = []))
)]
/// Ends the secret of before, once the participant knows the new one.
pub(super) async fn end_rotation(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require("operations")?;
    let ended = calls::end_rotation(app.sagas.store.pool(), &name).await;
    match ended.map_err(|error| store_problem(error.into()))? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Code::ParticipantUnknown.into()),
    }
}

const COLUMNS: &str = "SELECT name, key_name, keeps_keys, owner, registered_at, suspended_at, left_at, \
    webhook_url, webhook_secret_before IS NOT NULL FROM participants";

async fn show(app: &App, name: &str) -> Result<ParticipantView, Problem> {
    sqlx::query(AssertSqlSafe(format!("{COLUMNS} WHERE name = $1")))
        .bind(name)
        .fetch_optional(app.sagas.store.pool())
        .await
        .and_then(|row| row.as_ref().map(view).transpose())
        .map_err(|error| store_problem(error.into()))?
        .ok_or_else(|| Code::ParticipantUnknown.into())
}

fn view(row: &PgRow) -> Result<ParticipantView, sqlx::Error> {
    Ok(ParticipantView {
        name: row.try_get(0)?,
        key_name: row.try_get(1)?,
        keeps_keys: row.try_get(2)?,
        owner: row.try_get(3)?,
        registered_at: row.try_get::<SqlTimestamp, _>(4)?.to_jiff(),
        suspended_at: row.try_get::<Option<SqlTimestamp>, _>(5)?.map(|at| at.to_jiff()),
        left_at: row.try_get::<Option<SqlTimestamp>, _>(6)?.map(|at| at.to_jiff()),
        webhook: row.try_get(7)?,
        rotating: row.try_get(8)?,
        secret: None,
    })
}
