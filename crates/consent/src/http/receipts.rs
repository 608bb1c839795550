//! `GET /v1/subjects/{id}/receipts`: a signed receipt of each thing that a person said, as ISO/IEC TS
//! 27560 wants it. `GET /v1/receipts/public-key` is the key that they are signed with.

use std::collections::BTreeMap;

use assent_contracts::SubjectId;
use assent_contracts::consent::{GRANTED, PurposeDefined, REFUSED, WITHDRAWN};
use assent_contracts::policy::{Controller, Notice};
use assent_http::{Caller, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row as _};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::refusals::database;
use crate::domain::receipt::{Act, Said, TYPE, missing, receipt};
use crate::lines;
use crate::policy::{Version, controllers, history};

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// The event that it is the receipt of.
    pub event_id: Uuid,
    /// Its place in the ledger.
    pub sequence: i64,
    /// The purpose; `*` is every one.
    pub purpose: String,
    /// The channel; `*` is every one.
    pub channel: String,
    /// When the event was recorded.
    pub recorded_at: Timestamp,
    /// The receipt: JSON-LD in DPV terms. What is signed are its canonical bytes (RFC 8785).
    #[schema(value_type = Object)]
    pub receipt: serde_json::Value,
    /// A JWS with detached content (RFC 7515, appendix F), EdDSA.
    pub signature: String,
    /// What the profile requires and the policy doesn't say: paths in the receipt.
    pub missing: Vec<String>,
}

/// What did this person say, on paper?
///
/// Each receipt is the same whenever it is asked for. Who is erased has none.
#[utoipa::path(
    get, path = "/v1/subjects/{id}/receipts", tag = "receipts",
    params(("id" = Uuid, Path, description = "The subject_id"), Page),
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
    let acts = acts(&mut conn, subject_id, after, limit as i64 + 1).await.map_err(database)?;
    let controllers = controllers(&mut conn).await.map_err(database)?;
    let mut purposes: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    let mut items = Vec::with_capacity(acts.len());
    for (event_id, sequence, act) in &acts {
        let (purpose, channel) = act.scope();
        if !purposes.contains_key(purpose) {
            let versions = history(&mut conn, purpose).await.map_err(database)?;
            purposes.insert(purpose.to_owned(), versions);
        }
        let said = said((*event_id, subject_id, act), &purposes[purpose], &controllers);
        let receipt = receipt(&said);
        items.push(ReceiptView {
            event_id: *event_id,
            sequence: *sequence,
            purpose: purpose.to_owned(),
            channel: channel.to_owned(),
            recorded_at: act.recorded_at(),
            signature: app
                .0
                .papers
                .issuer
                .sign_detached(TYPE, &receipt)
                .map_err(Problem::internal)?,
            missing: missing(&receipt),
            receipt,
        });
    }
    Ok(Json(Listing::cut(items, limit, |last| last.sequence)))
}

/// The key that receipts are signed with.
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

/// What she said, oldest first.
async fn acts(
    conn: &mut PgConnection,
    subject: SubjectId,
    after: i64,
    limit: i64,
) -> Result<Vec<(Uuid, i64, Act)>, sqlx::Error> {
    const ACTS: &str = "
        SELECT id, version, event_type, data::text FROM eventstore.events
        WHERE stream = $1 AND version > $2 AND event_type = ANY($3)
        ORDER BY version LIMIT $4";
    let rows = sqlx::query(ACTS)
        .bind(subject)
        .bind(after)
        .bind([GRANTED, REFUSED, WITHDRAWN].as_slice())
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
        let (kind, data): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
        let act = match kind {
            GRANTED => serde_json::from_str(data).map(Act::Granted),
            REFUSED => serde_json::from_str(data).map(Act::Refused),
            _ => serde_json::from_str(data).map(Act::Withdrawn),
        };
        // The position in the data, never the data.
        let act = act.map_err(|error| sqlx::Error::Decode(error.to_string().into()))?;
        Ok((row.try_get(0)?, row.try_get(1)?, act))
    };
    rows.iter().map(read).collect()
}

fn said<'a>(
    (event_id, subject, act): (Uuid, SubjectId, &'a Act),
    versions: &'a [Version],
    controllers: &'a [(Timestamp, Controller)],
) -> Said<'a> {
    let at = act.recorded_at();
    let defined = |version: &'a Version| version.2.as_ref();
    let purpose = versions.iter().rev().find(|version| version.1 <= at).and_then(defined);
    let notice = match act {
        Act::Granted(granted) => {
            versions.iter().filter_map(defined).find_map(|it| notice(it, &granted.notice_hash))
        }
        Act::Refused(_) | Act::Withdrawn(_) => None,
    };
    // From before there was a policy: the first one.
    let controller = controllers.iter().rev().find(|(since, _)| *since <= at);
    let controller = &controller.unwrap_or(&controllers[0]).1;
    Said { event_id, subject, act, purpose, notice, controller }
}

/// The text of a hash, with its language.
fn notice<'a>(defined: &'a PurposeDefined, hash: &str) -> Option<(&'a str, &'a Notice)> {
    let found = defined.notices.iter().find(|(_, text)| text.hash == hash);
    found.map(|(language, text)| (language.as_str(), &text.notice))
}
