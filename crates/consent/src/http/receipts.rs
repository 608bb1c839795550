//! `GET /v1/subjects/{subject_id}/receipts`: a signed receipt of each thing that a person said, as ISO/IEC TS
//! 27560 wants it. `GET /v1/receipts/public-key` is the key that they are signed with.

use std::collections::BTreeMap;

use assent_contracts::SubjectId;
use assent_contracts::api::consent::ReceiptView;
use assent_contracts::consent::PurposeDefined;
use assent_contracts::policy::{Controller, Notice};
use assent_eventstore::StoredEvent;
use assent_http::{Caller, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::App;
use super::refusals::{database, store};
use crate::domain::event::Event;
use crate::domain::receipt::{Said, TYPE, Word, missing, receipt, word};
use crate::lines;
use crate::policy::{Version, controllers, history};
use crate::stored::decode;

/// What did this person say, on paper?
///
/// Each receipt is the same whenever it is asked for. A page covers up to `limit` events, of which not
/// all are words of hers: it may hold fewer receipts, or none. Who is erased has none.
#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}/receipts", tag = "receipts",
    params(("subject_id" = Uuid, Path, description = "The person"), Page),
    responses((status = 200, description = "Oldest first", body = Listing<ReceiptView>)),
    security(("bearer" = []))
)]
pub(super) async fn receipts(
    State(app): State<App>,
    caller: Caller,
    Path(subject_id): Path<SubjectId>,
    Query(page): Query<Page>,
) -> Result<Json<Listing<ReceiptView>>, Problem> {
    caller.require("consent:read")?;
    let after = page.after::<i64>()?.unwrap_or(0);
    let limit = page.limit();
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let (_, erased) = lines::of_subject(&mut conn, subject_id).await.map_err(database)?;
    if erased {
        return Ok(Json(Listing { items: Vec::new(), next: None }));
    }
    let events = app.0.store.load(subject_id, after, limit as i64 + 1).await.map_err(store)?;
    // A page is of events; who said nothing in them has fewer receipts.
    let Listing { items: events, next } = Listing::cut(events, limit, |last| last.version);
    let papers = papers(&app, &mut conn, subject_id, &events).await?;
    let items = papers.into_iter().map(|paper| paper.receipt).collect();
    Ok(Json(Listing { items, next }))
}

/// A receipt, with the text that was shown.
pub(super) struct Paper {
    pub(super) receipt: ReceiptView,
    /// Of a yes: what she agreed to.
    pub(super) notice: Option<String>,
}

/// The receipts of those of these events that are words of hers, in their order.
pub(super) async fn papers(
    app: &App,
    conn: &mut PgConnection,
    subject_id: SubjectId,
    events: &[StoredEvent],
) -> Result<Vec<Paper>, Problem> {
    let controllers = controllers(&mut *conn).await.map_err(database)?;
    let mut purposes: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    let mut items = Vec::new();
    for stored in events {
        let event = decode(&stored.event_type, &stored.data).map_err(Problem::internal)?;
        let Some(word) = word(&event) else { continue };
        let purpose = &word.scope.purpose;
        if !purposes.contains_key(purpose) {
            let versions = history(&mut *conn, purpose).await.map_err(database)?;
            purposes.insert(purpose.clone(), versions);
        }
        let said = said((stored.id, subject_id, &event), &word, &purposes[purpose], &controllers);
        let Some(receipt) = receipt(&said) else { continue };
        let issuer = &app.0.papers.issuer;
        let receipt = ReceiptView {
            event_id: stored.id,
            sequence: stored.version,
            purpose: purpose.clone(),
            channel: word.scope.channel.clone(),
            recorded_at: word.at,
            signature: issuer.sign_detached(TYPE, &receipt).map_err(Problem::internal)?,
            missing: missing(&receipt),
            receipt,
        };
        items.push(Paper { receipt, notice: said.notice.map(|(_, notice)| notice.text.clone()) });
    }
    Ok(items)
}

/// The key that receipts and verdicts are signed with.
#[utoipa::path(
    get, path = "/v1/receipts/public-key", tag = "receipts",
    responses((status = 200, description = "SubjectPublicKeyInfo, PEM", body = String, content_type = "application/x-pem-file")),
    security(("bearer" = []))
)]
pub(super) async fn public_key(
    State(app): State<App>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.require("consent:read")?;
    let pem = app.0.papers.issuer.public_key_pem().map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response())
}

fn said<'a>(
    (event_id, subject, event): (Uuid, SubjectId, &'a Event),
    word: &Word<'_>,
    versions: &'a [Version],
    controllers: &'a [(Timestamp, Controller)],
) -> Said<'a> {
    let defined = |version: &'a Version| version.2.as_ref();
    let purpose = versions.iter().rev().find(|version| version.1 <= word.at).and_then(defined);
    let notice = word.given.and_then(|(hash, _)| {
        versions.iter().filter_map(defined).find_map(|defined| notice(defined, hash))
    });
    // From before there was a policy: the first one.
    let controller = controllers.iter().rev().find(|(since, _)| *since <= word.at);
    let controller = &controller.unwrap_or(&controllers[0]).1;
    Said { event_id, subject, event, purpose, notice, controller }
}

/// The text of a hash, with its language.
fn notice<'a>(defined: &'a PurposeDefined, hash: &str) -> Option<(&'a str, &'a Notice)> {
    let found = defined.notices.iter().find(|(_, text)| text.hash == hash);
    found.map(|(language, text)| (language.as_str(), &text.notice))
}
