//! Intents in a dispatcher's hands: taken, marked just before the call, and taken back when their time is over.

use std::collections::HashMap;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::consent::STOP_CONFIRMATION;
use assent_eventstore::StoreError;
use sqlx::PgPool;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::settlements::{Settlement, settle};
use crate::consequences::Obstacle;
use crate::domain::content::Values;
use crate::domain::intent::Happening;
use crate::state::Messaging;
use crate::{campaigns, limits, metrics};

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
    /// Of a stop's confirmation: whether it says how to be erased as well.
    pub asks_erasure: bool,
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
                     WHERE c.campaign_id = intents.campaign_id), asks_erasure
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
        asks_erasure: row.try_get(16)?,
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
