//! `/v1/bulk-erasures`: many people's erasures, asked for at once. It guarantees that nothing begins before all who
//! were announced are here and it is submitted, and that each piece may be sent again; how they become requests, a few
//! at a time, is `crate::bulk`'s.

use assent_contracts::SubjectId;
use assent_http::{Caller, Code, Json, Path, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;
use uuid::Uuid;

use super::decisions::DECIDES;
use super::{App, code, store_problem};
use crate::rows;

/// Most people of one bulk.
const PEOPLE_MAX: i64 = 1_000_000;
/// Most people of one piece.
const PIECE_MAX: usize = 1_000;
/// Most problems that a look lists.
const PROBLEMS_MAX: i64 = 100;

/// Many erasures that are to be asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBulk {
    /// How many people it has: it can't be submitted with fewer or more.
    #[schema(minimum = 1, maximum = 1_000_000)]
    people: i64,
    /// A code for what showed that each of them asks herself; no free text.
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    reason: String,
    /// Where they say that they are, such as `FR`; none: the countries of their numbers count.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    place: Option<String>,
    /// When they asked, where that was before now.
    #[serde(default)]
    received_at: Option<Timestamp>,
}

/// A piece of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Piece {
    /// At most 1,000 people.
    #[schema(max_items = 1000)]
    people: Vec<OneOfMany>,
}

/// Somebody in it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneOfMany {
    /// Her line in your file; the same line again changes nothing.
    #[schema(minimum = 1)]
    line: i64,
    /// Who.
    #[schema(value_type = Uuid)]
    subject_id: SubjectId,
    /// The country of her number, as the vault tells it.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}$")]
    number_country: Option<String>,
}

/// How far it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkView {
    bulk_id: Uuid,
    /// How many people it has.
    people: i64,
    /// How many of them are here.
    received: i64,
    /// When it was submitted; none: nothing begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_at: Option<Timestamp>,
    /// Of how many a request was made.
    requested: i64,
    /// How many of those are over.
    completed: i64,
    /// Of how many none could be made.
    failed: i64,
    /// The first of those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<LineProblem>,
}

/// Why no request was made of somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineProblem {
    line: i64,
    /// A code.
    problem: String,
}

#[utoipa::path(
    post, path = "/v1/bulk-erasures", tag = "requests",
    request_body = NewBulk,
    responses(
        (status = 201, description = "Open: add its people", body = BulkView),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
/// Opens many erasures that are asked for at once.
///
/// One that isn't submitted within a day is dropped.
pub(super) async fn open(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewBulk>,
) -> Result<(StatusCode, Json<BulkView>), Problem> {
    const OPEN: &str = "
        INSERT INTO bulks (bulk_id, reason, key, place, received_at, people, opened_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    caller.require("erasure:write")?;
    caller.require(DECIDES)?;
    code("reason", &new.reason)?;
    let invalid = |detail: &str| Problem::new(Code::ValidationFailed).detail(detail);
    if !(1..=PEOPLE_MAX).contains(&new.people) {
        return Err(invalid("people: 1 to 1000000"));
    }
    if new.place.as_deref().is_some_and(|place| !is_place(place)) {
        return Err(invalid("place: write a country such as FR, or a part of one such as US-CA"));
    }
    let now = app.sagas.clock.now();
    let received_at = new.received_at.unwrap_or(now);
    if received_at > now {
        return Err(invalid("received_at: no request was received in the future"));
    }
    let bulk_id = app.sagas.ids.v7();
    let mut transaction = app.sagas.store.pool().begin().await.map_err(database)?;
    rows::write_caller(&mut transaction, caller.key(), caller.name()).await.map_err(database)?;
    sqlx::query(OPEN)
        .bind(bulk_id)
        .bind(&new.reason)
        .bind(caller.key())
        .bind(&new.place)
        .bind(received_at.to_sqlx())
        .bind(new.people)
        .bind(now.to_sqlx())
        .execute(&mut *transaction)
        .await
        .map_err(database)?;
    transaction.commit().await.map_err(database)?;
    Ok((StatusCode::CREATED, Json(view(&app, bulk_id).await?)))
}

#[utoipa::path(
    post, path = "/v1/bulk-erasures/{bulk_id}/people", tag = "requests",
    params(("bulk_id" = Uuid, Path, description = "The bulk")),
    request_body = Piece,
    responses(
        (status = 200, body = BulkView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict: it was submitted, or a line has somebody else"),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
/// Adds people. Sending them again changes nothing.
pub(super) async fn add(
    State(app): State<App>,
    caller: Caller,
    Path(bulk_id): Path<Uuid>,
    Json(piece): Json<Piece>,
) -> Result<Json<BulkView>, Problem> {
    // Locked, so that none comes in while it is submitted.
    const OPEN: &str = "SELECT submitted_at FROM bulks WHERE bulk_id = $1 FOR SHARE";
    const ADD: &str = "
        INSERT INTO bulk_people (bulk_id, line, subject_id, number_country)
        SELECT $1::uuid, * FROM unnest($2::bigint[], $3::uuid[], $4::text[])
        ON CONFLICT DO NOTHING";
    // Whoever is sent in somebody else's place would silently not be erased.
    const TAKEN: &str = "
        SELECT EXISTS (
            SELECT FROM unnest($2::bigint[], $3::uuid[]) AS sent (line, subject_id)
            JOIN bulk_people p ON p.bulk_id = $1 AND p.line = sent.line
            WHERE p.subject_id <> sent.subject_id)";
    caller.require("erasure:write")?;
    caller.require(DECIDES)?;
    let wrong = |it: &OneOfMany| {
        it.line < 1 || it.number_country.as_deref().is_some_and(|place| !is_place(place))
    };
    if piece.people.len() > PIECE_MAX || piece.people.iter().any(wrong) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("people: at most 1000, each with a line from 1 and a country such as FR"));
    }
    let mut transaction = app.sagas.store.pool().begin().await.map_err(database)?;
    let found: Option<Option<SqlTimestamp>> = sqlx::query_scalar(OPEN)
        .bind(bulk_id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(database)?;
    if found.ok_or(Code::RequestUnknown)?.is_some() {
        return Err(conflict("bulk_submitted", "it was submitted: nobody can be added"));
    }
    let lines: Vec<i64> = piece.people.iter().map(|it| it.line).collect();
    let subjects: Vec<Uuid> = piece.people.iter().map(|it| it.subject_id).collect();
    let countries: Vec<Option<String>> =
        piece.people.into_iter().map(|it| it.number_country).collect();
    sqlx::query(ADD)
        .bind(bulk_id)
        .bind(&lines)
        .bind(&subjects)
        .bind(countries)
        .execute(&mut *transaction)
        .await
        .map_err(database)?;
    let taken: bool = sqlx::query_scalar(TAKEN)
        .bind(bulk_id)
        .bind(&lines)
        .bind(&subjects)
        .fetch_one(&mut *transaction)
        .await
        .map_err(database)?;
    if taken {
        return Err(conflict(
            "bulk_line_taken",
            "a line has somebody else already: nobody was added",
        ));
    }
    transaction.commit().await.map_err(database)?;
    Ok(Json(view(&app, bulk_id).await?))
}

#[utoipa::path(
    post, path = "/v1/bulk-erasures/{bulk_id}/submit", tag = "requests",
    params(("bulk_id" = Uuid, Path, description = "The bulk")),
    responses(
        (status = 200, description = "It begins, and goes on by itself", body = BulkView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict: not all who were announced are here"),
    ),
    security(("bearer" = []))
)]
/// Submits it: from now on its people become requests, a few at a time. Submitting again changes nothing.
pub(super) async fn submit(
    State(app): State<App>,
    caller: Caller,
    Path(bulk_id): Path<Uuid>,
) -> Result<Json<BulkView>, Problem> {
    const LOCK: &str = "SELECT people FROM bulks WHERE bulk_id = $1 FOR UPDATE";
    const SUBMIT: &str = "
        UPDATE bulks b SET submitted_at = coalesce(submitted_at, $2)
        WHERE bulk_id = $1
          AND people = (SELECT count(*) FROM bulk_people p WHERE p.bulk_id = b.bulk_id)";
    caller.require("erasure:write")?;
    caller.require(DECIDES)?;
    let mut transaction = app.sagas.store.pool().begin().await.map_err(database)?;
    let found: Option<i64> = sqlx::query_scalar(LOCK)
        .bind(bulk_id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(database)?;
    found.ok_or(Code::RequestUnknown)?;
    let submitted = sqlx::query(SUBMIT)
        .bind(bulk_id)
        .bind(app.sagas.clock.now().to_sqlx())
        .execute(&mut *transaction)
        .await
        .map_err(database)?;
    if submitted.rows_affected() == 0 {
        return Err(conflict("bulk_incomplete", "not just those who were announced are here"));
    }
    transaction.commit().await.map_err(database)?;
    Ok(Json(view(&app, bulk_id).await?))
}

#[utoipa::path(
    get, path = "/v1/bulk-erasures/{bulk_id}", tag = "requests",
    params(("bulk_id" = Uuid, Path, description = "The bulk")),
    responses(
        (status = 200, body = BulkView),
        (status = 404, description = "request_unknown"),
    ),
    security(("bearer" = []))
)]
/// How far many erasures are.
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(bulk_id): Path<Uuid>,
) -> Result<Json<BulkView>, Problem> {
    caller.require("erasure:read")?;
    Ok(Json(view(&app, bulk_id).await?))
}

async fn view(app: &App, bulk_id: Uuid) -> Result<BulkView, Problem> {
    const COUNT: &str = "
        SELECT b.people, b.submitted_at, count(p.line), count(p.request_id),
               count(*) FILTER (WHERE s.closed_at IS NOT NULL), count(p.problem)
        FROM bulks b LEFT JOIN bulk_people p USING (bulk_id)
        LEFT JOIN subject_requests s ON s.request_id = p.request_id
        WHERE b.bulk_id = $1 GROUP BY b.bulk_id";
    const PROBLEMS: &str = "
        SELECT line, problem FROM bulk_people
        WHERE bulk_id = $1 AND problem IS NOT NULL ORDER BY line LIMIT $2";
    let pool = app.sagas.store.pool();
    let row = sqlx::query(COUNT).bind(bulk_id).fetch_optional(pool).await.map_err(database)?;
    let row = row.ok_or(Code::RequestUnknown)?;
    let problems: Vec<(i64, String)> = sqlx::query_as(PROBLEMS)
        .bind(bulk_id)
        .bind(PROBLEMS_MAX)
        .fetch_all(pool)
        .await
        .map_err(database)?;
    let submitted_at: Option<SqlTimestamp> = row.try_get(1).map_err(database)?;
    let number = |column: usize| row.try_get::<i64, _>(column).map_err(database);
    Ok(BulkView {
        bulk_id,
        people: number(0)?,
        received: number(2)?,
        submitted_at: submitted_at.map(SqlTimestamp::to_jiff),
        requested: number(3)?,
        completed: number(4)?,
        failed: number(5)?,
        problems: problems
            .into_iter()
            .map(|(line, problem)| LineProblem { line, problem })
            .collect(),
    })
}

fn conflict(reason: &str, detail: &str) -> Problem {
    Problem::new(Code::RequestStateConflict).detail(detail).with("reason", reason)
}

/// A country, or a part of one.
fn is_place(text: &str) -> bool {
    let (country, part) = text.split_once('-').map_or((text, None), |(it, part)| (it, Some(part)));
    let upper = |text: &str| text.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit());
    country.len() == 2
        && country.bytes().all(|it| it.is_ascii_uppercase())
        && part.is_none_or(|part| (1..=3).contains(&part.len()) && upper(part))
}

fn database(error: sqlx::Error) -> Problem {
    store_problem(error.into())
}
