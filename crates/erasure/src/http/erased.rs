//! `GET /v1/erased`: everyone whose erasure was requested, for newcomers and for whoever restored
//! a backup. It is complete for whoever registered before it began to read: a request that commits
//! meanwhile asks the newcomer itself. Nobody outside is told of an erasure that hasn't begun: it may be on hold, and
//! whoever is on the list is forgotten. Once it begins it asks whoever is registered then.

use std::collections::BTreeSet;

use assent_contracts::SubjectId;
use assent_contracts::erasure::{AnsweredStep, Erased};
use assent_eventstore::StoreError;
use assent_http::{Caller, Code, Json, Listing, Page, Problem, Query};
use axum::extract::State;
use jiff_sqlx::Timestamp as SqlTimestamp;
use uuid::Uuid;

use super::{App, store_problem};
use crate::domain::Request;

type Row = (SubjectId, Uuid, SqlTimestamp, bool, i64);

#[utoipa::path(
    get, path = "/v1/erased", tag = "participants",
    params(Page),
    responses(
        (status = 200, description = "Oldest first", body = Listing<Erased>),
        (status = 403, description = "forbidden: the key lacks the scope, or a participant of this key is suspended"),
    ),
    security(("bearer" = []))
)]
/// Everyone whose erasure was requested, oldest first; to participants outside, everyone whose erasure has begun.
pub(super) async fn erased(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<Erased>>, Problem> {
    const LIST: &str = "
        SELECT subject_id, request_id, requested_at, completed_at IS NOT NULL, place FROM requests
        WHERE place > $1 AND ($3 OR status NOT IN ('requested', 'on_hold'))
        ORDER BY place LIMIT $2";
    let names = names_of(&app, &caller).await?;
    // The deployment's own do nothing about these. They must see them: where the list ends for them depends on it.
    let whole = names.iter().all(|name| app.own.contains_key(name));
    let after: i64 = page.after()?.unwrap_or(0);
    let rows: Vec<Row> = sqlx::query_as(LIST)
        .bind(after)
        .bind(i64::try_from(page.limit() + 1).unwrap_or(i64::MAX))
        .bind(whole)
        .fetch_all(app.sagas.store.pool())
        .await
        .map_err(|error| store_problem(error.into()))?;
    let Listing { items: rows, next } = Listing::cut(rows, page.limit(), |(.., place)| *place);
    let mut items = Vec::with_capacity(rows.len());
    for (subject_id, request_id, requested_at, completed, _) in rows {
        let acknowledged = answered(&app, subject_id, &names).await.map_err(store_problem)?;
        let requested_at = requested_at.to_jiff();
        items.push(Erased { subject_id, request_id, requested_at, completed, acknowledged });
    }
    Ok(Json(Listing { items, next }))
}

/// What these participants have answered for a person.
async fn answered(
    app: &App,
    subject: SubjectId,
    names: &BTreeSet<String>,
) -> Result<Vec<AnsweredStep>, StoreError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let person = app.sagas.load(subject).await?;
    Ok(person.saga.request.iter().flat_map(|request| answered_by(request, names)).collect())
}

/// Which participants a caller is. Whoever is none reads as an operator does; whoever is suspended reads nothing.
pub(super) async fn names_of(app: &App, caller: &Caller) -> Result<BTreeSet<String>, Problem> {
    if !caller.has("erasure:ack") && !caller.has("erasure:read") {
        return Err(Problem::new(Code::Forbidden)
            .detail("the key needs the scope erasure:ack or erasure:read"));
    }
    if app.sagas.is_suspended(caller.name()).await.map_err(store_problem)? {
        return Err(Problem::new(Code::Forbidden).detail("this participant is suspended"));
    }
    app.sagas.names_of(caller.name()).await.map_err(store_problem)
}

/// The commands of a saga that these participants have answered.
pub(super) fn answered_by(request: &Request, names: &BTreeSet<String>) -> Vec<AnsweredStep> {
    let commands = request.commands.iter();
    let answered = commands.filter(|it| it.answers.keys().any(|name| names.contains(name)));
    answered
        .map(|it| AnsweredStep { command_id: it.command_id, step: it.step, at: it.at })
        .collect()
}
