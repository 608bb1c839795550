//! `GET /v1/erased-purposes`: erasures of single purposes' data that have begun, for whoever restored a backup. It is a list
//! of its own: whoever is on the other one is forgotten whole.

use assent_contracts::SubjectId;
use assent_contracts::purposes::ErasedPurpose;
use assent_http::{Caller, Json, Listing, Page, Problem, Query};
use axum::extract::State;
use uuid::Uuid;

use super::erased::{answered_by, names_of};
use super::{App, store_problem};

type Row = (SubjectId, Uuid, i64);

#[utoipa::path(
    get, path = "/v1/erased-purposes", tag = "participants",
    params(Page),
    responses(
        (status = 200, description = "Oldest first", body = Listing<ErasedPurpose>),
        (status = 403, description = "forbidden: the key lacks the scope, or a participant of this key is suspended"),
    ),
    security(("bearer" = []))
)]
/// Erasures of one purpose's data that have begun, oldest first.
pub(super) async fn erased_purposes(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<ErasedPurpose>>, Problem> {
    const LIST: &str = "
        SELECT subject_id, request_id, place FROM purpose_erasures
        WHERE place > $1 AND status NOT IN ('requested', 'on_hold') ORDER BY place LIMIT $2";
    let names = names_of(&app, &caller).await?;
    let after: i64 = page.after()?.unwrap_or(0);
    let rows: Vec<Row> = sqlx::query_as(LIST)
        .bind(after)
        .bind(i64::try_from(page.limit() + 1).unwrap_or(i64::MAX))
        .fetch_all(app.sagas.store.pool())
        .await
        .map_err(|error| store_problem(error.into()))?;
    let Listing { items: rows, next } = Listing::cut(rows, page.limit(), |(.., place)| *place);
    let mut items = Vec::with_capacity(rows.len());
    for (subject_id, request_id, _) in rows {
        let person = app.sagas.load(subject_id).await.map_err(store_problem)?;
        let Some(erasure) = person.purposes.get(request_id) else { continue };
        let (Some(request), Some(until)) = (erasure.request(), erasure.until()) else { continue };
        let acknowledged = answered_by(request, &names);
        let purpose = erasure.purpose.clone();
        items.push(ErasedPurpose { subject_id, request_id, purpose, until, acknowledged });
    }
    Ok(Json(Listing { items, next }))
}
