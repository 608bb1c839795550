//! Intents in the database: queueing, claiming, marking, settling. It guarantees that each move is
//! one that [`crate::domain::intent`] allows, is made by whoever holds the claim, and commits together
//! with its event; what to do with an intent is left to the dispatcher.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::STOP_CONFIRMATION;
use assent_contracts::messaging::{
    LEASE_OVERRUN, LeaseOverrun, MESSAGE_ACCEPTED, MESSAGE_FAILED, MESSAGE_REFUSED,
    MESSAGE_UNCERTAIN, MessageAccepted, MessageFailed, MessageRefused, MessageUncertain,
};
use assent_contracts::sealed::Sealed;
use assent_eventstore::{Append, Session, StoreError, to_the_end};
use assent_sealing::to_text;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use crate::consequences::{self, Consequence, Obstacle};
use crate::conversations::HANDED_OVER;
use crate::declarations::{self, Declared};
use crate::domain::content::Values;
use crate::domain::intent::{Happening, State, after};
use crate::domain::stop::{Form, Will};
use crate::identities::Told;
use crate::person_keys::LeasedKeys;
use crate::state::{Messaging, fenced};
use crate::whatsapp::reaction::Reaction;
use crate::{campaigns, conversations, free_entries, identities, limits, metrics, outcomes};

/// Keys that are leased for longer are still good when the transaction has its locks, most likely.
const LONG_ENOUGH: Duration = Duration::from_millis(200);

/// An intent in a dispatcher's hands.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The message.
    pub id: Uuid,
    /// To whom.
    pub subject: SubjectId,
    /// For which purpose.
    pub purpose: String,
    /// On which channel.
    pub channel: String,
    /// Which template; none: the stop confirmation's text.
    pub template: Option<String>,
    /// In which language.
    pub language: Option<String>,
    /// Sealed parameters.
    pub parameters: Option<Vec<u8>>,
    /// How often it was claimed, this time included.
    pub attempts: u32,
    /// For how long it has been put off.
    pub put_off_for: Duration,
    /// The trace of whoever asked for it.
    pub traceparent: Option<String>,
    /// What the template's first button answers with.
    pub reply_code: Option<String>,
    /// Why it was put off the last time.
    pub put_off: Vec<String>,
    /// Its kind: `template`, or that of its content.
    pub kind: String,
    /// What the provider said the last time that it refused it.
    pub provider_code: Option<i64>,
    /// Of which campaign.
    pub campaign: Option<Uuid>,
    /// The template's values that a campaign has for everybody.
    pub values: Option<Values>,
    /// The limit that stands in its way: it is not to be tried.
    pub limit: Option<Obstacle>,
}

impl Claimed {
    /// For how long it has waited for this reason: patience with one says nothing of another.
    #[must_use]
    pub fn waited_for(&self, reason: &str) -> Duration {
        if self.put_off == [reason] { self.put_off_for } else { Duration::ZERO }
    }

    /// Whether it may go out only while the window is open. The confirmation of a stop answers what has
    /// just come in, whether that is processed or not.
    #[must_use]
    pub fn is_free_form(&self) -> bool {
        self.template.is_none() && self.purpose != STOP_CONFIRMATION
    }
}

/// Selects what is due as [`claimed`] reads it, the first parameter being how many.
macro_rules! select_due {
    ($which:literal) => {
        concat!(
            "SELECT id, subject_id, purpose, channel, template, language, parameters, attempts + 1,
                    coalesce(extract(epoch FROM now() - put_off_since), 0)::float8, traceparent,
                    reply_code, reasons, kind, provider_code, campaign_id,
                    (SELECT c.template_values FROM campaigns c
                     WHERE c.campaign_id = intents.campaign_id)
             FROM intents WHERE state = 'queued' AND not_before <= now() AND ",
            $which,
            " ORDER BY not_before, id LIMIT $1 FOR UPDATE SKIP LOCKED"
        )
    };
}

/// All that is due.
const DUE: &str = select_due!("(campaign_id IS NULL OR campaign_id = ANY($2))");
/// Answers alone: free form, and the confirmation of a stop.
const ANSWERS: &str = select_due!("template IS NULL");

/// Webhooks that wait for longer hold back what isn't an answer: what we sent comes back as statuses, three or
/// so for each message, and who sends without hearing them learns too late that it goes wrong.
const HEARS_WITHIN: Duration = Duration::from_millis(500);

/// Claims up to `limit` intents that are due, under `claim_id`, and counts them against the limits in the
/// same transaction. Rows that another dispatcher is claiming at this moment are skipped, and so are
/// those of campaigns that may not send. While webhooks wait to be processed, only answers are claimed.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    messaging: &Messaging,
    claim_id: Uuid,
    limit: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    const BEHIND: &str = "
        SELECT EXISTS (SELECT FROM webhook_bodies
                       WHERE parked IS NULL AND not_before < now() - make_interval(secs => $1))";
    // Who begins her try counts from now on, and from the call once it comes.
    const CLAIM: &str = "
        UPDATE intents SET state = 'claimed', claim_id = $1, attempts = attempts + 1,
               claim_until = now() + make_interval(secs => $2),
               started_at = CASE WHEN t.begins THEN clock_timestamp() END,
               speaks_first = CASE WHEN t.begins THEN t.speaks_first ELSE intents.speaks_first END
        FROM unnest($3::uuid[], $4::boolean[], $5::boolean[]) AS t (id, begins, speaks_first)
        WHERE intents.id = t.id";
    let number = &messaging.config.whatsapp.phone_number_id;
    let mut transaction = messaging.pool().begin().await?;
    let behind: bool = sqlx::query_scalar(BEHIND)
        .bind(HEARS_WITHIN.as_secs_f64())
        .fetch_one(&mut *transaction)
        .await?;
    let due = if behind {
        metrics::listens_first();
        sqlx::query(ANSWERS).bind(limit)
    } else {
        let sending = campaigns::sending(&mut transaction, number).await?;
        sqlx::query(DUE).bind(limit).bind(sending)
    };
    let rows = due.fetch_all(&mut *transaction).await?;
    let mut claimed = rows.iter().map(self::claimed).collect::<Result<Vec<_>, _>>()?;
    let speaks_first = limits::count(&mut transaction, messaging, &mut claimed).await?;
    let ids: Vec<Uuid> = claimed.iter().map(|intent| intent.id).collect();
    let begins: Vec<bool> = claimed.iter().map(|intent| intent.limit.is_none()).collect();
    sqlx::query(CLAIM)
        .bind(claim_id)
        .bind(messaging.config.sending.claim.as_secs_f64())
        .bind(ids)
        .bind(begins)
        .bind(speaks_first)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(claimed)
}

fn claimed(row: &PgRow) -> Result<Claimed, sqlx::Error> {
    Ok(Claimed {
        id: row.try_get(0)?,
        subject: row.try_get(1)?,
        purpose: row.try_get(2)?,
        channel: row.try_get(3)?,
        template: row.try_get(4)?,
        language: row.try_get(5)?,
        parameters: row.try_get(6)?,
        attempts: row.try_get::<i32, _>(7)?.unsigned_abs(),
        put_off_for: Duration::from_secs_f64(row.try_get::<f64, _>(8)?.max(0.0)),
        traceparent: row.try_get(9)?,
        reply_code: row.try_get(10)?,
        put_off: row.try_get(11)?,
        kind: row.try_get(12)?,
        provider_code: row.try_get(13)?,
        campaign: row.try_get(14)?,
        values: row.try_get::<Option<Json<Values>>, _>(15)?.map(|Json(values)| values),
        limit: None,
    })
}

/// To whom messages were sent, by the provider's ids of them.
///
/// # Errors
/// When the database fails.
pub async fn sent_to<'a>(
    messaging: &Messaging,
    provider_ids: &[&'a str],
) -> Result<HashMap<&'a str, SubjectId>, sqlx::Error> {
    const SENT: &str = "
        SELECT provider_hash, subject_id FROM intents WHERE provider_hash = ANY($1)";
    let by_hash: HashMap<Vec<u8>, &str> = provider_ids
        .iter()
        .flat_map(|id| messaging.provider_hashes(id).into_iter().map(move |hash| (hash, *id)))
        .collect();
    if by_hash.is_empty() {
        return Ok(HashMap::new());
    }
    let hashes: Vec<&[u8]> = by_hash.keys().map(Vec::as_slice).collect();
    let rows = sqlx::query(SENT).bind(hashes).fetch_all(messaging.pool()).await?;
    let mut sent = HashMap::with_capacity(rows.len());
    for row in rows {
        let hash: Vec<u8> = row.try_get(0)?;
        if let Some(id) = by_hash.get(&hash) {
            sent.insert(*id, row.try_get(1)?);
        }
    }
    Ok(sent)
}

/// Marks intents as being called, each with its permit, in one statement guarded by the claim. Only
/// those that come back may be sent: the others' claims have expired, or their people are fenced.
///
/// # Errors
/// When the database fails; then none may be sent.
pub async fn mark_calling(
    pool: &PgPool,
    claim_id: Uuid,
    permits: &[(Uuid, Uuid)],
    call: Duration,
) -> Result<Vec<Uuid>, sqlx::Error> {
    const MARK: &str = "
        UPDATE intents SET state = 'calling', permit_id = permits.permit_id,
               -- Windows count from the call.
               started_at = clock_timestamp(),
               claim_until = now() + make_interval(secs => $4)
        FROM unnest($2::uuid[], $3::uuid[]) AS permits (id, permit_id)
        -- Claimed, for what has a claim is that or called. Said so, it goes by id: the index of claims is
        -- full of those that have gone.
        WHERE intents.id = permits.id AND claim_id = $1 AND state <> 'calling'
          AND claim_until > now()
          AND NOT EXISTS (SELECT FROM fences WHERE fences.subject_id = intents.subject_id)
        RETURNING intents.id";
    let (ids, permit_ids): (Vec<Uuid>, Vec<Uuid>) = permits.iter().copied().unzip();
    sqlx::query_scalar(MARK)
        .bind(claim_id)
        .bind(ids)
        .bind(permit_ids)
        .bind(call.as_secs_f64())
        .fetch_all(pool)
        .await
}

/// What became of an intent.
#[derive(Clone)]
pub struct Settlement {
    /// Which.
    pub id: Uuid,
    /// Whose.
    pub subject: SubjectId,
    /// Under which claim; none for webhooks, which need none.
    pub claim_id: Option<Uuid>,
    /// What happened.
    pub happening: Happening,
    /// Stable codes.
    pub reasons: Vec<String>,
    /// The provider's error code.
    pub provider_code: Option<i64>,
    /// The provider's message id.
    pub provider_id: Option<String>,
    /// When to try again.
    pub pause: Duration,
    /// By how much the write came after its lease.
    pub overrun: Option<Duration>,
    /// The provider says that she stopped marketing: tokens of her address.
    pub stopped: Option<Vec<AddressToken>>,
    /// What the provider's refusal asks for.
    pub reaction: Option<Reaction>,
    /// What the provider's answer tells of her names.
    pub told: Option<Told>,
}

impl Settlement {
    /// `happening` for an intent, with one reason.
    #[must_use]
    pub fn new(
        id: Uuid,
        subject: SubjectId,
        claim_id: Option<Uuid>,
        happening: Happening,
        reason: &str,
    ) -> Self {
        Self {
            id,
            subject,
            claim_id,
            happening,
            reasons: if reason.is_empty() { Vec::new() } else { vec![reason.to_owned()] },
            provider_code: None,
            provider_id: None,
            pause: Duration::ZERO,
            overrun: None,
            stopped: None,
            reaction: None,
            told: None,
        }
    }
}

/// Applies settlements in one transaction, with their events. Runs to its end even if the caller
/// goes away. Those that change nothing (settled meanwhile, claim lost, row gone) are passed over.
/// Provider ids are sealed under `keys`, or under others once their lease is over.
///
/// # Errors
/// When the transaction fails: nothing was applied, and it may be repeated.
pub async fn settle(
    messaging: &Messaging,
    settlements: Vec<Settlement>,
    keys: Option<Arc<LeasedKeys>>,
) -> Result<(), StoreError> {
    if settlements.is_empty() {
        return Ok(());
    }
    let service = messaging.clone();
    to_the_end(async move { settle_now(&service, settlements, keys).await }).await?;
    messaging.moved.notify_waiters();
    Ok(())
}

async fn settle_now(
    messaging: &Messaging,
    settlements: Vec<Settlement>,
    keys: Option<Arc<LeasedKeys>>,
) -> Result<(), StoreError> {
    let told = settlements.iter().filter_map(|it| it.told.clone()).collect();
    // Statuses tell it again: an outcome doesn't wait for it.
    let news = identities::news(messaging, told).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what an answer tells of people is not kept");
        Vec::new()
    });
    let keys = match keys.filter(|keys| keys.remaining() > LONG_ENOUGH) {
        Some(keys) => Some(keys),
        None => {
            let accepted = settlements.iter().filter(|it| it.provider_id.is_some());
            let accepted: Vec<SubjectId> = accepted.map(|it| it.subject).collect();
            lease_keys(messaging, &accepted).await.map(Arc::new)
        }
    };
    let mut session = messaging.store.begin().await?;
    apply(messaging, &mut session, &settlements, keys.as_deref()).await?;
    identities::insert(messaging, session.conn(), &news).await?;
    session.commit().await
}

/// The keys that seal provider ids. Without them (vault down, person erased) the id itself is
/// dropped: reconciliation needs its hash and our own id only.
pub async fn lease_keys(messaging: &Messaging, subjects: &[SubjectId]) -> Option<LeasedKeys> {
    if subjects.is_empty() {
        return None;
    }
    match messaging.person_keys.lease("seal_provider_id", subjects).await {
        Ok(keys) => Some(keys),
        Err(error) => {
            tracing::warn!(%error, "provider ids are not kept: no keys to seal them");
            None
        }
    }
}

/// A row as it stands under its lock.
struct Row {
    state: State,
    claim_id: Option<Uuid>,
    permit_id: Option<Uuid>,
    template: Option<(String, String)>,
    /// The bot said it.
    of_bot: bool,
    /// It did, and lost the conversation meanwhile.
    taken_back: bool,
    /// The trace of whoever asked for it: what becomes of it belongs there, whichever batch or
    /// webhook settles it.
    traceparent: Option<String>,
}

/// Applies settlements within a session. The caller commits.
///
/// # Errors
/// When the database fails.
pub async fn apply(
    messaging: &Messaging,
    session: &mut Session,
    settlements: &[Settlement],
    keys: Option<&LeasedKeys>,
) -> Result<(), StoreError> {
    let now = messaging.clock.now();
    let mut subjects: Vec<SubjectId> = settlements.iter().map(|it| it.subject).collect();
    subjects.sort_unstable();
    subjects.dedup();
    session.lock_versions(&subjects).await?;
    let fenced = fenced(session.conn(), &subjects).await?;
    let mut rows = lock_rows(session, settlements).await?;
    let mut appends = Vec::new();
    let mut consequences = Vec::new();
    let mut unsaid = Vec::new();
    let mut answered = Vec::new();
    let mut known = Vec::new();
    let (mut names, mut moves) = (HashMap::new(), HashMap::new());
    for settlement in settlements {
        if let Some(overrun) = settlement.overrun {
            let is_fenced = fenced.contains(&settlement.subject);
            appends.push(overran(messaging, settlement, overrun, is_fenced, now)?);
        }
        let Some(row) = rows.get_mut(&settlement.id) else { continue };
        consequences.extend(settlement.reaction.map(|reaction| Consequence {
            reaction,
            code: settlement.provider_code,
            subject: settlement.subject,
            template: row.template.clone(),
            said_at: now,
        }));
        let is_ours = row.claim_id.is_none()
            || settlement.claim_id.is_none()
            || row.claim_id == settlement.claim_id;
        let given_up;
        let settlement = if row.taken_back && settlement.happening == Happening::NotSent {
            let (happening, reasons) = (Happening::GivenUp, vec![HANDED_OVER.to_owned()]);
            given_up = Settlement { happening, reasons, ..settlement.clone() };
            &given_up
        } else {
            settlement
        };
        let next = after(row.state, settlement.happening).filter(|_| is_ours);
        let sealed = settlement.provider_id.as_ref().and_then(|provider_id| {
            let plain = provider_id.as_bytes();
            keys?.seal(settlement.subject, settlement.id, "provider_id", plain).ok()
        });
        let hash = settlement.provider_id.as_deref().map(|id| messaging.provider_hashes(id));
        let hash = hash.and_then(|hashes| hashes.into_iter().next());
        let named = Named { hash, sealed: sealed.clone() };
        let Some(next) = next else {
            names.insert(settlement.id, named);
            continue;
        };
        moves.insert(settlement.id, Move::new(settlement, next, named));
        if !fenced.contains(&settlement.subject) {
            if next == State::Accepted {
                answered.push(settlement.subject);
            }
            let provider_id = sealed.map_or(Sealed(String::new()), |it| to_text(&it));
            appends.extend(event(messaging, settlement, next, row, provider_id, now)?);
            // Who said stop wants no human instead.
            let stopped = settlement.reasons.iter().any(|reason| reason == "stopped");
            if row.of_bot && !stopped && matches!(next, State::Refused | State::Failed) {
                unsaid.push(settlement.id);
            }
        }
        if row.state == State::Uncertain {
            known.push(settlement.id);
        }
        row.state = next;
        row.claim_id = None;
    }
    name(session, names).await?;
    write(session, moves, now).await?;
    outcomes::known(session.conn(), &known, now).await?;
    free_entries::answered(session.conn(), &answered, now).await?;
    appends.extend(conversations::unsaid(messaging, session.conn(), &unsaid, now).await?);
    session.append(appends).await?;
    let is_gone = |subject| fenced.contains(&subject);
    consequences::record(messaging, session.conn(), &consequences, is_gone).await?;
    for settlement in settlements {
        let Some(tokens) = &settlement.stopped else { continue };
        let declared = Declared {
            tokens: tokens.clone(),
            said_at: now,
            heard_at: now,
            ..Declared::new(messaging.ids.v7(), Will::Stop, Form::ProviderRefusal)
        };
        declarations::insert(session.conn(), &[declared]).await?;
        messaging.declared.notify_one();
    }
    Ok(())
}

/// The incident of a write that ended after its lease. Nothing of the fenced is written: then it stands in a stream
/// of its own, the message's, which names nobody. It is on record also where the message is deleted already.
fn overran(
    messaging: &Messaging,
    settlement: &Settlement,
    overrun: Duration,
    is_fenced: bool,
    at: jiff::Timestamp,
) -> Result<Append, StoreError> {
    let message_id = settlement.id;
    tracing::error!(%message_id, ?overrun, "a write ended after its lease");
    let event = LeaseOverrun { message_id, overrun_ms: overrun.as_millis() as u64, at };
    let stream = if is_fenced { message_id } else { settlement.subject };
    messaging.event(stream, messaging.ids.v7(), LEASE_OVERRUN, &event, at)
}

async fn lock_rows(
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
struct Named {
    hash: Option<Vec<u8>>,
    sealed: Option<Vec<u8>>,
}

/// What a settlement makes of a row.
struct Move {
    next: State,
    reasons: String,
    provider_code: Option<i64>,
    pause: f64,
    named: Named,
}

impl Move {
    fn new(settlement: &Settlement, next: State, named: Named) -> Self {
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
async fn name(session: &mut Session, names: HashMap<Uuid, Named>) -> Result<(), StoreError> {
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
async fn write(
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

/// The event of a move, where it has one: going back to the queue is nobody else's business.
fn event(
    messaging: &Messaging,
    settlement: &Settlement,
    next: State,
    row: &Row,
    provider_id: Sealed,
    at: jiff::Timestamp,
) -> Result<Option<Append>, StoreError> {
    let message_id = settlement.id;
    let id = messaging.ids.v7();
    let reason = || settlement.reasons.first().cloned().unwrap_or_default();
    let subject = settlement.subject;
    let mut append = match next {
        State::Queued | State::Claimed | State::Calling => return Ok(None),
        State::Accepted => {
            let permit_id = row.permit_id.unwrap_or_default();
            let event = MessageAccepted { message_id, permit_id, provider_id, at };
            messaging.event(subject, id, MESSAGE_ACCEPTED, &event, at)?
        }
        State::Refused => {
            let event = MessageRefused { message_id, reasons: settlement.reasons.clone(), at };
            messaging.event(subject, id, MESSAGE_REFUSED, &event, at)?
        }
        State::Failed => {
            let provider_code = settlement.provider_code;
            let event = MessageFailed { message_id, provider_code, reason: reason(), at };
            messaging.event(subject, id, MESSAGE_FAILED, &event, at)?
        }
        State::Uncertain => {
            let event = MessageUncertain { message_id, reason: reason(), at };
            messaging.event(subject, id, MESSAGE_UNCERTAIN, &event, at)?
        }
    };
    if row.traceparent.is_some() {
        append.traceparent.clone_from(&row.traceparent);
    }
    Ok(Some(append))
}

/// Claims whose time is over: those that were not called go back to the queue, those that were are
/// lost (their dispatcher died, or is frozen) and become uncertain. Gives how many of each.
///
/// # Errors
/// When the database fails.
pub async fn reap(messaging: &Messaging) -> Result<(u64, u64), StoreError> {
    const REQUEUE: &str = "
        UPDATE intents SET state = 'queued', claim_id = NULL, claim_until = NULL, started_at = NULL
        WHERE id IN (SELECT id FROM intents WHERE state = 'claimed' AND claim_until < now()
                     ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)";
    const LOST: &str = "
        SELECT id, subject_id, claim_id FROM intents WHERE state = 'calling' AND claim_until < now()
        ORDER BY id LIMIT 200";
    let requeued = sqlx::query(REQUEUE).execute(messaging.pool()).await?.rows_affected();
    let rows = sqlx::query(LOST).fetch_all(messaging.pool()).await?;
    let lost = rows
        .iter()
        .map(|row| {
            let (id, subject) = (row.try_get(0)?, row.try_get(1)?);
            let claim_id = row.try_get(2)?;
            Ok(Settlement::new(id, subject, claim_id, Happening::Lost, "dispatcher_lost"))
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    let count = lost.len() as u64;
    settle(messaging, lost, None).await?;
    if requeued > 0 {
        messaging.queued.notify_one();
    }
    Ok((requeued, count))
}
