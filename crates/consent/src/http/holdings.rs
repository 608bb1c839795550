//! `GET /v1/subjects/{subject_id}/holdings`: what the ledger holds on a person, for her to have: what she said and what
//! she was shown, with receipts, what stands against her addresses, and every verdict that was given. It
//! guarantees that nothing of anybody else is in it, who shares an address with her or had it before.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::StopKind;
use assent_contracts::api::holdings::{Holding, Provenance};
use assent_contracts::consent::{
    AGE_STATED, ASKED, CONTACTED, GRANTED, REFUSED, REQUESTED, STANDING_CHANGED, WITHDRAWN,
};
use assent_contracts::sealed::Sealed;
use assent_eventstore::StoredEvent;
use assent_http::page::encode;
use assent_http::{Caller, Code, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::App;
use super::receipts::{Paper, papers};
use super::refusals::{database, store};
use crate::{gate, lines};

/// Where a page begins: events first, then verdicts.
#[derive(Serialize, Deserialize)]
enum From {
    Events(i64),
    Permits(Uuid),
}

/// What the ledger holds on a person.
///
/// Needs `subjects:export`. Evidence in it is sealed.
#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}/holdings", tag = "consents",
    params(("subject_id" = Uuid, Path, description = "The person"), Page),
    responses(
        (status = 200, body = Listing<Holding>),
        (status = 410, description = "subject_erased"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn holdings(
    State(app): State<App>,
    caller: Caller,
    Path(subject_id): Path<SubjectId>,
    Query(page): Query<Page>,
) -> Result<Json<Listing<Holding>>, Problem> {
    caller.require("subjects:export")?;
    let from = page.after::<From>()?;
    let limit = page.limit();
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let (_, erased) = lines::of_subject(&mut conn, subject_id).await.map_err(database)?;
    if erased {
        return Err(Code::SubjectErased.into());
    }
    let after = match from {
        Some(From::Permits(after)) => {
            let rows = permits(&mut conn, subject_id, after, limit).await.map_err(database)?;
            let last = |row: &Holding| From::Permits(row.id.unwrap_or_default());
            return Ok(Json(Listing::cut(rows, limit, last)));
        }
        Some(From::Events(after)) => Some(after),
        None => None,
    };
    let mut items = Vec::new();
    if after.is_none() {
        items = beside(&mut conn, subject_id).await.map_err(database)?;
    }
    let events = app.0.store.load(subject_id, after.unwrap_or(0), limit as i64 + 1).await;
    let Listing { items: events, next } =
        Listing::cut(events.map_err(store)?, limit, |last| From::Events(last.version));
    let papers = papers(&app, &mut conn, subject_id, &events).await?;
    for event in &events {
        let paper = papers.iter().find(|paper| paper.receipt.event_id == event.id);
        items.push(said(event, paper)?);
        items.extend(paper.map(receipt));
    }
    let next = next.unwrap_or_else(|| encode(&From::Permits(Uuid::nil())));
    Ok(Json(Listing { items, next: Some(next) }))
}

/// An event of her ledger, without what it tells of others.
fn said(event: &StoredEvent, paper: Option<&Paper>) -> Result<Holding, Problem> {
    let mut data: Value = serde_json::from_str(&event.data).map_err(Problem::internal)?;
    let (kind, provenance) = match event.event_type.as_str() {
        GRANTED | REFUSED | WITHDRAWN | REQUESTED | AGE_STATED => ("consent", Provenance::Provided),
        CONTACTED => ("contacted", Provenance::Observed),
        ASKED => ("asked", Provenance::Recorded),
        STANDING_CHANGED => {
            data = json!({"bars": bars(&data), "effective_at": data["effective_at"]});
            ("standing", Provenance::Derived)
        }
        _ => ("consent", Provenance::Derived),
    };
    let fields = data.as_object_mut();
    let evidence = fields.and_then(|fields| fields.remove("evidence"));
    let evidence = evidence.and_then(|it| it.as_str().map(|it| Sealed(it.to_owned())));
    data["event"] = Value::from(event.event_type.as_str());
    if let Some(notice) = paper.and_then(|paper| paper.notice.as_deref()) {
        data["notice_text"] = Value::from(notice);
    }
    let holding = Holding::new(kind, provenance, data);
    Ok(Holding { id: Some(event.id), at: Some(event.recorded_at), evidence, ..holding })
}

/// What stands against her addresses: that one of them was somebody's who was erased is nobody's to know.
fn bars(data: &Value) -> Vec<&str> {
    let erased = gate::kind_name(StopKind::Erased);
    let kinds =
        data["bars"].as_array().into_iter().flatten().filter_map(|bar| bar["kind"].as_str());
    kinds.filter(|kind| *kind != erased).collect()
}

fn receipt(paper: &Paper) -> Holding {
    let view = &paper.receipt;
    let data = json!({"receipt": view.receipt, "signature": view.signature});
    let holding = Holding::new("receipt", Provenance::Recorded, data);
    Holding { id: Some(view.event_id), at: Some(view.recorded_at), ..holding }
}

/// What isn't an event: consents that lists claim, links that were made for her.
async fn beside(conn: &mut PgConnection, subject: SubjectId) -> Result<Vec<Holding>, sqlx::Error> {
    const CLAIMS: &str = "
        SELECT b.purpose, b.channel, c.acted_at, c.evidence, c.outcome, b.submitted_at
        FROM claims c JOIN claim_batches b USING (batch_id)
        WHERE c.subject_id = $1 ORDER BY b.submitted_at";
    const LINKS: &str = "
        SELECT link_id, created_at, revoked_at FROM preference_links
        WHERE subject_id = $1 ORDER BY created_at";
    let at = |row: &PgRow, column: usize| -> Result<_, sqlx::Error> {
        Ok(row.try_get::<Option<SqlTimestamp>, _>(column)?.map(SqlTimestamp::to_jiff))
    };
    let mut items = Vec::new();
    for row in sqlx::query(CLAIMS).bind(subject).fetch_all(&mut *conn).await? {
        let data = json!({
            "purpose": row.try_get::<String, _>(0)?,
            "channel": row.try_get::<String, _>(1)?,
            "acted_at": at(&row, 2)?,
            "outcome": row.try_get::<Option<String>, _>(4)?,
        });
        let holding = Holding::new("claim", Provenance::Recorded, data);
        let evidence = row.try_get::<Option<String>, _>(3)?.map(Sealed);
        items.push(Holding { at: at(&row, 5)?, evidence, ..holding });
    }
    for row in sqlx::query(LINKS).bind(subject).fetch_all(conn).await? {
        let holding =
            Holding::new("link", Provenance::Recorded, json!({"revoked_at": at(&row, 2)?}));
        items.push(Holding { id: Some(row.try_get(0)?), at: at(&row, 1)?, ..holding });
    }
    Ok(items)
}

/// Verdicts that were given to whoever sends, in the order of their ids.
async fn permits(
    conn: &mut PgConnection,
    subject: SubjectId,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Holding>, sqlx::Error> {
    const PERMITS: &str = "
        SELECT permit_id, at, message_id, purpose, channel, template, allowed, reasons
        FROM permits WHERE subject_id = $1 AND permit_id > $2 ORDER BY permit_id LIMIT $3";
    let rows = sqlx::query(PERMITS)
        .bind(subject)
        .bind(after)
        .bind(limit as i64 + 1)
        .fetch_all(conn)
        .await?;
    let permit = |row: &PgRow| {
        let data = json!({
            "message_id": row.try_get::<Uuid, _>(2)?,
            "purpose": row.try_get::<String, _>(3)?,
            "channel": row.try_get::<String, _>(4)?,
            "template": row.try_get::<String, _>(5)?,
            "allowed": row.try_get::<bool, _>(6)?,
            "reasons": row.try_get::<Vec<String>, _>(7)?,
        });
        let at = row.try_get::<SqlTimestamp, _>(1)?.to_jiff();
        let holding = Holding::new("verdict", Provenance::Derived, data);
        Ok(Holding { id: Some(row.try_get(0)?), at: Some(at), ..holding })
    };
    rows.iter().map(permit).collect()
}
