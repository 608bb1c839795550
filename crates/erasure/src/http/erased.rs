//! `GET /v1/erased`: everyone whose erasure was requested, for newcomers and for whoever restored
//! a backup. It is complete for whoever registered before it began to read: a request that commits
//! meanwhile asks the newcomer itself.

use assent_contracts::SubjectId;
use assent_http::{Caller, Code, Json, Listing, Page, Problem, Query};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, store_problem};

/// A person of whom nothing may be held.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Erased {
    #[schema(value_type = Uuid)]
    subject_id: SubjectId,
    request_id: Uuid,
    requested_at: Timestamp,
    #[serde(skip)]
    place: i64,
}

#[utoipa::path(
    get, path = "/v1/erased", tag = "participants",
    params(Page),
    responses(
        (status = 200, description = "Oldest first", body = Listing<Erased>),
        (status = 403, description = "forbidden: the key lacks the scope, or a participant of this key is suspended"),
    ),
    security(("bearer" = []))
)]
/// Everyone whose erasure was requested, oldest first.
pub(super) async fn erased(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<Erased>>, Problem> {
    const LIST: &str = "
        SELECT subject_id, request_id, requested_at, place FROM requests
        WHERE place > $1 ORDER BY place LIMIT $2";
    if !caller.has("erasure:ack") && !caller.has("erasure:read") {
        return Err(Problem::new(Code::Forbidden)
            .detail("the key needs the scope erasure:ack or erasure:read"));
    }
    if app.sagas.is_suspended(caller.name()).await.map_err(store_problem)? {
        return Err(Problem::new(Code::Forbidden).detail("this participant is suspended"));
    }
    let after: i64 = page.after()?.unwrap_or(0);
    let rows = sqlx::query(LIST)
        .bind(after)
        .bind(i64::try_from(page.limit() + 1).unwrap_or(i64::MAX))
        .fetch_all(app.sagas.store.pool())
        .await
        .and_then(|rows| rows.iter().map(entry).collect::<Result<Vec<_>, _>>())
        .map_err(|error| store_problem(error.into()))?;
    Ok(Json(Listing::cut(rows, page.limit(), |last| last.place)))
}

fn entry(row: &PgRow) -> Result<Erased, sqlx::Error> {
    Ok(Erased {
        subject_id: row.try_get(0)?,
        request_id: row.try_get(1)?,
        requested_at: row.try_get::<SqlTimestamp, _>(2)?.to_jiff(),
        place: row.try_get(3)?,
    })
}
