//! The rows of intents under their locks, and what settlements make of them, written in one statement for all.

use std::collections::HashMap;

use assent_eventstore::{Session, StoreError};
use jiff_sqlx::ToSqlx as _;
use sqlx::Row as _;
use uuid::Uuid;

use super::settlements::Settlement;
use crate::domain::intent::State;

/// A row as it stands under its lock.
pub(super) struct Row {
    pub(super) state: State,
    pub(super) claim_id: Option<Uuid>,
    pub(super) permit_id: Option<Uuid>,
    pub(super) template: Option<(String, String)>,
    /// The bot said it.
    pub(super) of_bot: bool,
    /// It did, and lost the conversation meanwhile.
    pub(super) taken_back: bool,
    /// The trace of whoever asked for it: what becomes of it belongs there, whichever batch or
    /// webhook settles it.
    pub(super) traceparent: Option<String>,
}

pub(super) async fn lock_rows(
    session: &mut Session,
    settlements: &[Settlement],
) -> Result<HashMap<Uuid, Row>, StoreError> {
    const LOCK: &str = "
        SELECT id, state, claim_id, permit_id, traceparent, template, language, taken_back,
               author IS NOT DISTINCT FROM 'bot'
        FROM intents
        WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    let ids: Vec<Uuid> = settlements.iter().map(|it| it.id).collect();
    let rows = sqlx::query(LOCK).bind(ids).fetch_all(session.conn()).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let state: String = row.try_get(1)?;
        let state = State::parse(&state)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown state {state}").into()))?;
        let (claim_id, permit_id) = (row.try_get(2)?, row.try_get(3)?);
        let traceparent = row.try_get(4)?;
        let template = row.try_get::<Option<String>, _>(5)?.zip(row.try_get(6)?);
        let (taken_back, of_bot) = (row.try_get(7)?, row.try_get(8)?);
        let it = Row { state, claim_id, permit_id, template, of_bot, taken_back, traceparent };
        found.insert(row.try_get(0)?, it);
    }
    Ok(found)
}

/// The provider's id of a message: its keyed hash, and itself under the person's key.
pub(super) struct Named {
    pub(super) hash: Option<Vec<u8>>,
    pub(super) sealed: Option<Vec<u8>>,
}

/// What a settlement makes of a row.
pub(super) struct Move {
    pub(super) next: State,
    pub(super) reasons: String,
    pub(super) provider_code: Option<i64>,
    pub(super) pause: f64,
    pub(super) named: Named,
}

impl Move {
    pub(super) fn new(settlement: &Settlement, next: State, named: Named) -> Self {
        Self {
            next,
            reasons: serde_json::Value::from(settlement.reasons.clone()).to_string(),
            provider_code: settlement.provider_code,
            pause: settlement.pause.as_secs_f64(),
            named,
        }
    }
}

/// Notes the provider's ids of messages that don't move: the first one stays.
pub(super) async fn name(
    session: &mut Session,
    names: HashMap<Uuid, Named>,
) -> Result<(), StoreError> {
    const NAME: &str = "
        UPDATE intents SET provider_hash = coalesce(provider_hash, t.hash),
               provider_id = coalesce(provider_id, t.sealed)
        FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS t (id, hash, sealed)
        WHERE intents.id = t.id";
    let mut names: Vec<(Uuid, Named)> =
        names.into_iter().filter(|(_, named)| named.hash.is_some()).collect();
    if names.is_empty() {
        return Ok(());
    }
    names.sort_unstable_by_key(|(id, _)| *id);
    let (ids, names): (Vec<Uuid>, Vec<Named>) = names.into_iter().unzip();
    let (hashes, sealed): (Vec<_>, Vec<_>) =
        names.into_iter().map(|named| (named.hash, named.sealed)).unzip();
    sqlx::query(NAME).bind(ids).bind(hashes).bind(sealed).execute(session.conn()).await?;
    Ok(())
}

/// Writes moves, all in one statement.
pub(super) async fn write(
    session: &mut Session,
    moves: HashMap<Uuid, Move>,
    now: jiff::Timestamp,
) -> Result<(), StoreError> {
    const WRITE: &str = "
        UPDATE intents SET state = t.state, reasons = t.reasons,
               provider_code = coalesce(t.code, provider_code),
               claim_id = NULL, claim_until = NULL, changed_at = $8, settled_at = $8,
               not_before = now() + make_interval(secs => t.pause),
               -- What certainly did not go out counts no more.
               started_at = CASE WHEN t.state IN ('accepted', 'uncertain')
                                 THEN coalesce(started_at, now()) END,
               -- Since when for this reason.
               put_off_since = CASE WHEN t.state <> 'queued' THEN NULL
                   WHEN intents.reasons = t.reasons THEN coalesce(put_off_since, now())
                   ELSE now() END,
               provider_hash = coalesce(provider_hash, t.hash),
               provider_id = coalesce(provider_id, t.sealed)
        FROM (SELECT id, state, ARRAY(SELECT json_array_elements_text(reasons::json)) AS reasons,
                     code, pause, hash, sealed
              FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::float8[],
                          $6::bytea[], $7::bytea[])
                   AS u (id, state, reasons, code, pause, hash, sealed)) AS t
        WHERE intents.id = t.id";
    if moves.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::default();
    for (id, it) in moves {
        rows.ids.push(id);
        rows.states.push(it.next.as_str());
        rows.reasons.push(it.reasons);
        rows.codes.push(it.provider_code);
        rows.pauses.push(it.pause);
        rows.hashes.push(it.named.hash);
        rows.sealed.push(it.named.sealed);
    }
    sqlx::query(WRITE)
        .bind(rows.ids)
        .bind(rows.states)
        .bind(rows.reasons)
        .bind(rows.codes)
        .bind(rows.pauses)
        .bind(rows.hashes)
        .bind(rows.sealed)
        .bind(now.to_sqlx())
        .execute(session.conn())
        .await?;
    Ok(())
}

/// Moves as columns.
#[derive(Default)]
struct Rows {
    ids: Vec<Uuid>,
    states: Vec<&'static str>,
    reasons: Vec<String>,
    codes: Vec<Option<i64>>,
    pauses: Vec<f64>,
    hashes: Vec<Option<Vec<u8>>>,
    sealed: Vec<Option<Vec<u8>>>,
}
