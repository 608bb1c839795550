//! `/v1/holds`: data that must not be destroyed yet. Placing, reviewing and releasing need a scope of
//! their own. A hold keeps an erasure from its first step, never a stop of sending.

use assent_contracts::SubjectId;
use assent_eventstore::{Idempotency, StoreError, to_the_end};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::{Date as SqlDate, Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, code, store_problem};
use crate::domain::Event;
use crate::domain::hold::{Hold, HoldCommand, HoldError};
use crate::registry::Names;

/// Who may place, review and release.
const SCOPE: &str = "holds:write";

/// A hold that is to be placed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewHold {
    /// Whose data.
    #[schema(value_type = Uuid)]
    subject_id: SubjectId,
    /// The purpose whose data it is about; none: all of hers. Either keeps her whole erasure waiting; the erasure of another
    /// purpose's data goes on.
    #[serde(default)]
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    purpose: Option<String>,
    /// A code for the reason, such as `litigation`; no free text.
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    reason: String,
    /// By when it is looked at again; within a year.
    #[schema(value_type = String, format = Date)]
    review_on: Date,
    /// When it ends by itself; none: when it is released.
    #[serde(default)]
    ends_at: Option<Timestamp>,
}

/// A hold was looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Review {
    /// By when it is looked at again.
    #[schema(value_type = String, format = Date)]
    review_on: Date,
}

/// A hold is over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    /// A code for the reason, such as `settled`; no free text.
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    reason: String,
}

/// A hold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HoldView {
    hold_id: Uuid,
    #[schema(value_type = Uuid)]
    subject_id: SubjectId,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    reason: String,
    /// The caller that placed it.
    placed_by: String,
    placed_at: Timestamp,
    #[schema(value_type = String, format = Date)]
    review_on: Date,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    released_at: Option<Timestamp>,
    #[serde(skip)]
    place: i64,
}

#[utoipa::path(
    post, path = "/v1/holds", tag = "holds",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = NewHold,
    responses(
        (status = 201, body = HoldView),
        (status = 409, description = "hold_too_late: destruction had begun; that it was wanted is on record"),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
/// Keeps a person's data from destruction.
pub(super) async fn place(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(new, body): JsonBytes<NewHold>,
) -> Result<(StatusCode, Json<HoldView>), Problem> {
    caller.require(SCOPE)?;
    code("reason", &new.reason)?;
    if let Some(purpose) = &new.purpose {
        code("purpose", purpose)?;
    }
    let idempotency = key.0.map(|key| app.sagas.store.idempotency(caller.name(), &key, &body));
    let NewHold { subject_id, purpose, reason, review_on, ends_at } = new;
    let hold_id = app.sagas.ids.v7();
    let command = HoldCommand::Place { hold_id, purpose, reason, review_on, ends_at };
    let view = decide(app, subject_id, hold_id, command, caller, idempotency).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

#[utoipa::path(
    post, path = "/v1/holds/{hold_id}/review", tag = "holds",
    params(("hold_id" = Uuid, Path, description = "The hold")),
    request_body = Review,
    responses(
        (status = 200, body = HoldView),
        (status = 404, description = "hold_unknown"),
        (status = 409, description = "hold_over"),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
/// Records that a hold was looked at and stays.
pub(super) async fn review(
    State(app): State<App>,
    caller: Caller,
    Path(hold_id): Path<Uuid>,
    Json(review): Json<Review>,
) -> Result<Json<HoldView>, Problem> {
    caller.require(SCOPE)?;
    let subject = subject_of(&app, hold_id).await?;
    let command = HoldCommand::Review { hold_id, review_on: review.review_on };
    Ok(Json(decide(app, subject, hold_id, command, caller, None).await?))
}

#[utoipa::path(
    post, path = "/v1/holds/{hold_id}/release", tag = "holds",
    params(("hold_id" = Uuid, Path, description = "The hold")),
    request_body = Release,
    responses(
        (status = 200, description = "What waited goes on", body = HoldView),
        (status = 404, description = "hold_unknown"),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
/// Releases a hold.
pub(super) async fn release(
    State(app): State<App>,
    caller: Caller,
    Path(hold_id): Path<Uuid>,
    Json(release): Json<Release>,
) -> Result<Json<HoldView>, Problem> {
    caller.require(SCOPE)?;
    code("reason", &release.reason)?;
    let subject = subject_of(&app, hold_id).await?;
    let command = HoldCommand::Release { hold_id, reason: release.reason };
    Ok(Json(decide(app, subject, hold_id, command, caller, None).await?))
}

#[utoipa::path(
    get, path = "/v1/holds", tag = "holds",
    params(Page),
    responses((status = 200, description = "The next to be reviewed first", body = Listing<HoldView>)),
    security(("bearer" = []))
)]
/// Holds that were not released, the next to be reviewed first.
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<HoldView>>, Problem> {
    const LIST: &str = "
        SELECT hold_id, subject_id, purpose, reason, coalesce(name, key), placed_at, review_on,
               ends_at, released_at, place
        FROM holds LEFT JOIN callers USING (key)
        WHERE released_at IS NULL AND (ends_at IS NULL OR ends_at > $4)
          AND (review_on, place) > ($1, $2)
        ORDER BY review_on, place LIMIT $3";
    caller.require("erasure:read")?;
    let (day, place): (Date, i64) = page.after()?.unwrap_or((Date::constant(1, 1, 1), 0));
    let rows = sqlx::query(LIST)
        .bind(day.to_sqlx())
        .bind(place)
        .bind(i64::try_from(page.limit() + 1).unwrap_or(i64::MAX))
        .bind(app.sagas.clock.now().to_sqlx())
        .fetch_all(app.sagas.store.pool())
        .await
        .and_then(|rows| rows.iter().map(row).collect::<Result<Vec<_>, _>>())
        .map_err(|error| store_problem(error.into()))?;
    Ok(Json(Listing::cut(rows, page.limit(), |last| (last.review_on, last.place))))
}

fn row(row: &PgRow) -> Result<HoldView, sqlx::Error> {
    let timestamp = |column: usize| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<SqlTimestamp>, _>(column)?.map(|at| at.to_jiff()))
    };
    Ok(HoldView {
        hold_id: row.try_get(0)?,
        subject_id: row.try_get(1)?,
        purpose: row.try_get(2)?,
        reason: row.try_get(3)?,
        placed_by: row.try_get(4)?,
        placed_at: row.try_get::<SqlTimestamp, _>(5)?.to_jiff(),
        review_on: row.try_get::<SqlDate, _>(6)?.to_jiff(),
        ends_at: timestamp(7)?,
        released_at: timestamp(8)?,
        place: row.try_get(9)?,
    })
}

async fn subject_of(app: &App, hold_id: Uuid) -> Result<SubjectId, Problem> {
    let subject: Option<SubjectId> =
        sqlx::query_scalar("SELECT subject_id FROM holds WHERE hold_id = $1")
            .bind(hold_id)
            .fetch_optional(app.sagas.store.pool())
            .await
            .map_err(|error| store_problem(error.into()))?;
    subject.ok_or_else(|| Code::HoldUnknown.into())
}

async fn decide(
    app: App,
    subject: SubjectId,
    hold_id: Uuid,
    command: HoldCommand,
    caller: Caller,
    idempotency: Option<Idempotency>,
) -> Result<HoldView, Problem> {
    let deciding = app.clone();
    let decided = to_the_end(async move {
        loop {
            let command = command.clone();
            match record(&deciding, subject, hold_id, command, &caller, idempotency).await {
                Err(StoreError::KeyTaken) => {}
                recorded => return recorded,
            }
        }
    });
    let view = decided.await.map_err(store_problem)?.map_err(|error| match error {
        Outcome::TooLate => Problem::new(Code::HoldTooLate),
        Outcome::Wrong(HoldError::Unknown) => Code::HoldUnknown.into(),
        Outcome::Wrong(HoldError::Over) => Code::HoldOver.into(),
        Outcome::Wrong(error @ (HoldError::Past | HoldError::TooFar)) => {
            Problem::new(Code::ValidationFailed).detail(error.to_string())
        }
    })?;
    app.wake.notify_one();
    Ok(view)
}

/// Why there is no hold to show.
enum Outcome {
    TooLate,
    Wrong(HoldError),
}

async fn record(
    app: &App,
    subject: SubjectId,
    hold_id: Uuid,
    command: HoldCommand,
    caller: &Caller,
    idempotency: Option<Idempotency>,
) -> Result<Result<HoldView, Outcome>, StoreError> {
    let mut held = app.sagas.hold(subject).await?;
    if let Some(key) = idempotency
        && let Some(first) = held.first_answer(key).await?
    {
        held.rollback().await?;
        let (person, event) =
            app.sagas.as_of(first.stream, first.version, &first.event_ids).await?;
        let names = app.sagas.names().await?;
        let hold = event.and_then(|event| person.holds.get(event.hold_id()?));
        return Ok(hold.map(|hold| view(first.stream, hold, &names)).ok_or(Outcome::TooLate));
    }
    let events = match held.person.hold(command, caller.key().to_owned(), held.now) {
        Ok(events) => events,
        Err(error) => {
            held.rollback().await?;
            return Ok(Err(Outcome::Wrong(error)));
        }
    };
    let too_late = matches!(events[..], [Event::HoldRefused(_)]);
    held.keep_caller(caller).await?;
    held.record(events, idempotency).await?;
    let names = held.names().await?;
    let hold = held.person.holds.get(hold_id).map(|hold| view(subject, hold, &names));
    held.commit().await?;
    Ok(match hold {
        Some(hold) if !too_late => Ok(hold),
        _ => Err(Outcome::TooLate),
    })
}

fn view(subject_id: SubjectId, hold: &Hold, names: &Names) -> HoldView {
    let placed = &hold.placed;
    HoldView {
        hold_id: placed.hold_id,
        subject_id,
        purpose: placed.purpose.clone(),
        reason: placed.reason.clone(),
        placed_by: names.caller(&placed.key),
        placed_at: placed.at,
        review_on: hold.review_on,
        ends_at: placed.ends_at,
        released_at: hold.released_at,
        place: 0,
    }
}
