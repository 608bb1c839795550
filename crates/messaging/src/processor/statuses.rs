//! Statuses of messages that we sent. It guarantees that an intent whose answer was lost is settled by them,
//! that a status never steps back, that what a message costs comes out the same in whatever order they come, and that
//! many cost a handful of statements.

use std::collections::HashMap;

use assent_contracts::SubjectId;
use assent_contracts::messaging::{STATUS_CHANGED, Status, StatusChanged};
use assent_eventstore::{Session, StoreError};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::Row as _;
use uuid::Uuid;

use crate::api::webhook::said_at;
use crate::consequences::{self, Consequence};
use crate::domain::identity::Doubt;
use crate::domain::intent::{Happening, State, advance, after};
use crate::identities::Told;
use crate::intents::{self, Settlement};
use crate::person_keys::LeasedKeys;
use crate::state::Messaging;
use crate::whatsapp::reaction;
use crate::whatsapp::updates::{Address, Pricing, StatusUpdate};
use crate::{conversations, metrics, tasks};

/// A status and the intent that it is about.
pub struct OfIntent {
    /// Whose.
    pub subject: SubjectId,
    /// Whether its intent's outcome is known already, and stays.
    pub settled: bool,
    /// The trace of whoever asked for the message: what is told of it belongs there, whichever webhook tells it.
    pub traceparent: Option<String>,
    id: Uuid,
    status: Status,
    provider_id: String,
    code: Option<i64>,
    /// What the message costs, where that is said.
    pricing: Option<Pricing>,
    /// When, seconds since 1970.
    at: i64,
    /// By which names the provider knows her.
    recipient: Address,
}

impl OfIntent {
    /// What it tells of her names where no number is told: whose they are, who got the message.
    #[must_use]
    pub fn told(&self, heard_at: Timestamp) -> Option<Told> {
        let times = (said_at(self.at, heard_at), heard_at);
        let numberless = self.recipient.phone.is_none() && self.recipient.user_id.is_some();
        numberless.then(|| Told::answering(&self.recipient, self.subject, times))
    }
}

/// An update, what it reports, our id of the message, and the provider's as it is stored.
type Reported<'a> = (&'a StatusUpdate, Status, Option<Uuid>, Vec<Vec<u8>>);

/// An intent, its person, whether it is settled, and its trace.
type Found = (Uuid, SubjectId, bool, Option<String>);

/// The statuses that are about intents of ours: by our own id, which comes back, or by the provider's.
///
/// # Errors
/// When the database fails.
pub async fn of_intents(
    messaging: &Messaging,
    updates: &[&StatusUpdate],
) -> Result<Vec<OfIntent>, sqlx::Error> {
    const FIND: &str = "
        SELECT id, subject_id, state = 'accepted', NULL, traceparent FROM intents
        WHERE id = ANY($1)
        UNION ALL
        SELECT id, subject_id, state = 'accepted', provider_hash, traceparent FROM intents
        WHERE provider_hash = ANY($2)";
    let reported: Vec<Reported<'_>> = updates
        .iter()
        .filter_map(|update| {
            let status = reported(&update.status)?;
            let ours = update.callback_data.as_deref().and_then(|it| it.parse().ok());
            Some((*update, status, ours, messaging.provider_hashes(&update.id)))
        })
        .collect();
    if reported.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = reported.iter().filter_map(|(_, _, ours, _)| *ours).collect();
    let hashes: Vec<&[u8]> =
        reported.iter().flat_map(|(.., hashes)| hashes).map(Vec::as_slice).collect();
    let rows = sqlx::query(FIND).bind(ids).bind(hashes).fetch_all(messaging.pool()).await?;
    let mut by_id: HashMap<Uuid, Found> = HashMap::new();
    let mut by_hash: HashMap<Vec<u8>, Found> = HashMap::new();
    for row in rows {
        let found = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(4)?);
        match row.try_get::<Option<Vec<u8>>, _>(3)? {
            None => drop(by_id.insert(found.0, found)),
            Some(hash) => drop(by_hash.insert(hash, found)),
        }
    }
    let of_intent = |(update, status, ours, hashes): Reported<'_>| {
        let ours = ours.and_then(|id| by_id.get(&id));
        let found = ours.or_else(|| hashes.iter().find_map(|hash| by_hash.get(hash)));
        let (id, subject, settled, traceparent) = found?.clone();
        Some(OfIntent {
            id,
            subject,
            settled,
            traceparent,
            status,
            provider_id: update.id.clone(),
            code: update.codes.first().copied(),
            pricing: update.pricing.clone(),
            at: update.at,
            recipient: update.recipient.clone(),
        })
    };
    Ok(reported.into_iter().filter_map(of_intent).collect())
}

/// An intent under its lock.
struct Row {
    state: State,
    status: Option<Status>,
    template: Option<(String, String)>,
    has_permit: bool,
    /// The status that said what it costs.
    priced_by: Option<Status>,
}

/// What follows from statuses.
#[derive(Default)]
struct Follows {
    settlements: Vec<Settlement>,
    consequences: Vec<Consequence>,
    changes: Vec<(SubjectId, StatusChanged)>,
    prices: HashMap<Uuid, (Status, Pricing)>,
}

/// Settles intents whose answer was lost or is not here yet, and moves statuses forward.
///
/// # Errors
/// When the database fails.
pub async fn reconcile(
    messaging: &Messaging,
    session: &mut Session,
    statuses: &[&OfIntent],
    keys: Option<&LeasedKeys>,
) -> Result<(), StoreError> {
    if statuses.is_empty() {
        return Ok(());
    }
    let now = messaging.clock.now();
    let mut rows = lock(session, statuses).await?;
    let mut follows = Follows::default();
    for it in statuses {
        if let Some(row) = rows.get_mut(&it.id) {
            follow(it, row, now, &mut follows);
        }
    }
    let Follows { settlements, consequences, changes, prices } = follows;
    let failed = changes.iter().map(|(_, it)| it).filter(|it| it.status == Status::Failed);
    let failed: Vec<Uuid> = failed.map(|it| it.message_id).collect();
    if !settlements.is_empty() {
        intents::apply(messaging, session, &settlements, keys).await?;
    }
    advance_all(session, &changes, prices, now).await?;
    reached_after_move(messaging, session, statuses).await?;
    let appends = conversations::unsaid(messaging, session.conn(), &failed, now).await?;
    session.append(appends).await?;
    consequences::record(messaging, session.conn(), &consequences, |_| false).await?;
    let of_message = |it: &&OfIntent| Some((it.id, it.traceparent.clone()?));
    let traces: HashMap<Uuid, String> = statuses.iter().filter_map(of_message).collect();
    let mut appends = Vec::with_capacity(changes.len());
    for (subject, event) in &changes {
        let id = messaging.ids.v7();
        let mut append = messaging.event(*subject, id, STATUS_CHANGED, event, now)?;
        if let Some(trace) = traces.get(&event.message_id) {
            append.traceparent = Some(trace.clone());
        }
        appends.push(append);
    }
    session.append(appends).await?;
    Ok(())
}

/// She was said to have another number, and a message reached the old one: somebody has it.
async fn reached_after_move(
    messaging: &Messaging,
    session: &mut Session,
    statuses: &[&OfIntent],
) -> Result<(), StoreError> {
    const MOVED: &str = "
        SELECT subject_id, moved_at FROM identities
        WHERE subject_id = ANY($1) AND moved_at IS NOT NULL";
    let now = messaging.clock.now();
    let reached = |it: &&&OfIntent| matches!(it.status, Status::Delivered | Status::Read);
    let reached: Vec<&&OfIntent> = statuses.iter().filter(reached).collect();
    if reached.is_empty() {
        return Ok(());
    }
    let subjects: Vec<SubjectId> = reached.iter().map(|it| it.subject).collect();
    for row in sqlx::query(MOVED).bind(subjects).fetch_all(session.conn()).await? {
        let subject: SubjectId = row.try_get(0)?;
        let moved_at = row.try_get::<jiff_sqlx::Timestamp, _>(1)?.to_jiff();
        let after = |it: &&&&OfIntent| it.subject == subject && said_at(it.at, now) > moved_at;
        if let Some(it) = reached.iter().find(after) {
            let at = said_at(it.at, now);
            tasks::doubt(messaging, session.conn(), subject, Doubt::DeliveredAfterMove, at).await?;
        }
    }
    Ok(())
}

async fn lock(
    session: &mut Session,
    statuses: &[&OfIntent],
) -> Result<HashMap<Uuid, Row>, StoreError> {
    const LOCK: &str = "
        SELECT id, state, status, template, language, permit_id IS NOT NULL, priced_by FROM intents
        WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    let ids: Vec<Uuid> = statuses.iter().map(|it| it.id).collect();
    let mut rows = HashMap::with_capacity(ids.len());
    for row in sqlx::query(LOCK).bind(ids).fetch_all(session.conn()).await? {
        let Some(state) = State::parse(row.try_get(1)?) else { continue };
        let status = row.try_get::<Option<&str>, _>(2)?.and_then(reported);
        let template = row.try_get::<Option<String>, _>(3)?.zip(row.try_get(4)?);
        let has_permit = row.try_get(5)?;
        let priced_by = row.try_get::<Option<&str>, _>(6)?.and_then(reported);
        rows.insert(row.try_get(0)?, Row { state, status, template, has_permit, priced_by });
    }
    Ok(rows)
}

/// What one status means for its intent as it stands.
fn follow(it: &OfIntent, row: &mut Row, now: Timestamp, follows: &mut Follows) {
    let waits = matches!(row.state, State::Queued | State::Claimed);
    // A try that the provider seemed to refuse, and took all the same.
    let went_out = waits && row.has_permit && it.status != Status::Failed;
    if went_out || matches!(row.state, State::Calling | State::Uncertain) {
        // A status proves that the provider has it; `failed` says that it did, and gave up.
        let (happening, reason) = match it.status {
            Status::Failed => (Happening::Rejected, failure(it.code)),
            _ => (Happening::Accepted, ""),
        };
        let mut settlement = Settlement::new(it.id, it.subject, None, happening, reason);
        settlement.provider_id = Some(it.provider_id.clone()).filter(|id| !id.is_empty());
        settlement.provider_code = it.code;
        follows.settlements.push(settlement);
        row.state = after(row.state, happening).unwrap_or(row.state);
    } else if waits || row.state == State::Refused {
        tracing::error!(message_id = %it.id, "a status for a message that was not sent");
        return;
    }
    // Also of a status that is no news: the first to come need not be the one that says it. What failed costs nothing.
    if let Some(pricing) = &it.pricing
        && it.status != Status::Failed
        && row.priced_by.is_none_or(|by| it.status > by)
    {
        row.priced_by = Some(it.status);
        follows.prices.insert(it.id, (it.status, pricing.clone()));
    }
    let Some(next) = advance(row.status, it.status) else { return };
    row.status = Some(next);
    if next == Status::Failed {
        let meaning = reaction::to(None, it.code);
        metrics::provider_error(it.code, meaning);
        follows.consequences.push(Consequence {
            reaction: meaning.reaction,
            code: it.code,
            subject: it.subject,
            template: row.template.clone(),
            said_at: said_at(it.at, now),
        });
    }
    let provider_code = it.code.filter(|_| next == Status::Failed);
    let changed = StatusChanged { message_id: it.id, status: next, provider_code, at: now };
    follows.changes.push((it.subject, changed));
}

/// What statuses change of a row.
#[derive(Default)]
struct News {
    moved: Option<(Status, Option<i64>)>,
    priced: Option<(Status, Pricing)>,
}

async fn advance_all(
    session: &mut Session,
    changes: &[(SubjectId, StatusChanged)],
    prices: HashMap<Uuid, (Status, Pricing)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    const MOVE: &str = "
        UPDATE intents SET status = coalesce(t.status, intents.status),
                           provider_code = coalesce(t.code, provider_code),
                           changed_at = CASE WHEN t.status IS NULL THEN changed_at ELSE $4 END,
                           settled_at = CASE WHEN t.status = 'failed' THEN $4 ELSE settled_at END,
                           priced_by = coalesce(t.priced, priced_by),
                           price_category = CASE WHEN t.priced IS NULL THEN price_category
                                                 ELSE t.category END,
                           price_model = CASE WHEN t.priced IS NULL THEN price_model
                                              ELSE t.model END,
                           price_type = CASE WHEN t.priced IS NULL THEN price_type ELSE t.kind END,
                           billable = CASE WHEN t.priced IS NULL THEN billable ELSE t.billed END
        FROM unnest($1::uuid[], $2::text[], $3::bigint[], $5::text[], $6::text[], $7::text[],
                    $8::text[], $9::boolean[])
             AS t (id, status, code, priced, category, model, kind, billed)
        WHERE intents.id = t.id";
    // The last one of each is where it stands.
    let mut news: HashMap<Uuid, News> = HashMap::new();
    for (_, change) in changes {
        let moved = Some((change.status, change.provider_code));
        news.entry(change.message_id).or_default().moved = moved;
    }
    for (id, priced) in prices {
        news.entry(id).or_default().priced = Some(priced);
    }
    if news.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    for (id, News { moved, priced }) in news {
        columns.ids.push(id);
        columns.statuses.push(moved.map(|(status, _)| name(status)));
        columns.codes.push(moved.and_then(|(_, code)| code));
        columns.priced.push(priced.as_ref().map(|(by, _)| name(*by)));
        let pricing = priced.map(|(_, pricing)| pricing).unwrap_or_default();
        columns.categories.push(pricing.category);
        columns.models.push(pricing.model);
        columns.kinds.push(pricing.kind);
        columns.billable.push(pricing.billable);
    }
    sqlx::query(MOVE)
        .bind(columns.ids)
        .bind(columns.statuses)
        .bind(columns.codes)
        .bind(now.to_sqlx())
        .bind(columns.priced)
        .bind(columns.categories)
        .bind(columns.models)
        .bind(columns.kinds)
        .bind(columns.billable)
        .execute(session.conn())
        .await?;
    Ok(())
}

/// News as columns.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    statuses: Vec<Option<&'static str>>,
    codes: Vec<Option<i64>>,
    priced: Vec<Option<&'static str>>,
    categories: Vec<Option<String>>,
    models: Vec<Option<String>>,
    kinds: Vec<Option<String>>,
    billable: Vec<Option<bool>>,
}

/// Why it failed, a stable code. By webhook nothing is tried again, whatever the code asks for.
fn failure(code: Option<i64>) -> &'static str {
    let meaning = reaction::to(None, code);
    if meaning.known { meaning.reason } else { "provider_failed" }
}

const fn name(status: Status) -> &'static str {
    match status {
        Status::Sent => "sent",
        Status::Delivered => "delivered",
        Status::Read => "read",
        Status::Failed => "failed",
    }
}

/// A status by the provider's name of it, or ours.
fn reported(name: &str) -> Option<Status> {
    match name {
        "sent" => Some(Status::Sent),
        "delivered" => Some(Status::Delivered),
        "read" | "played" => Some(Status::Read),
        "failed" => Some(Status::Failed),
        _ => None,
    }
}
