//! Claims: consents that a list brings evidence of. A batch waits until somebody else than who brought it
//! has looked at the evidence and said why it proves something, or doesn't. It guarantees that a claim is no
//! consent before that, that an approved batch is carried out to its end whoever dies, and that each
//! claim comes to a consent or to the reason why not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::claims::{
    BatchState, Claim, ClaimBatch, ClaimDecision, ClaimView, ClaimsRequest, DecideRequest,
};
use assent_contracts::consent::{
    Actor, CLAIMS_DECIDED, CLAIMS_SUBMITTED, ClaimsDecided, ClaimsSubmitted, Method,
};
use assent_contracts::sealed::Sealed;
use assent_contracts::topics::CONSENT_EVENTS;
use assent_eventstore::batcher::Batcher;
use assent_eventstore::{Append, EventStore, Expected, NewEvent, Session, StoreError};
use assent_participant::Keeping;
use assent_runtime::{Clock, Ids};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::{CommandError, LedgerCommand, LedgerHandler, Shown, Wish, raw};
use crate::domain::decide::Refusal;
use crate::domain::event::Act;
use crate::domain::scope::Scope;
use crate::stored;

/// Most claims in one part of a batch.
pub const CLAIMS_MAX: usize = 500;

/// How often approved batches are looked for.
const PAUSE: Duration = Duration::from_millis(500);
/// Claims that are carried out at once.
const ROUND_MAX: i64 = 500;

/// Why a batch can't be changed so.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// There is none.
    #[error("the batch is not known")]
    Unknown,
    /// It is further than that.
    #[error("the batch is {0}: parts come while it is open, a decision while it waits")]
    State(String),
    /// The parts contradict each other.
    #[error("another purpose, channel, language or caller than in the first part of the batch")]
    OtherBatch,
    /// Nobody decides on what they brought.
    #[error("who brought a batch doesn't decide on it")]
    SameCaller,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ClaimError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The batches.
#[derive(Clone)]
pub struct Claims {
    /// The events.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
    /// How long what keeps people out, and evidence, is kept.
    pub keeping: Keeping,
}

impl Claims {
    /// Takes a part of a batch. Whoever is, or is being, erased is passed over. A claim that is older than what keeps
    /// people out is kept is refused at once, and its evidence isn't kept: a no that came after it may have ended.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub async fn take(&self, request: &ClaimsRequest, caller: &str) -> Result<(), ClaimError> {
        const BATCH: &str = "
            INSERT INTO claim_batches (batch_id, purpose, channel, locale, submitted_by, submitted_at)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (batch_id) DO NOTHING";
        const SAME: &str = "
            SELECT state, (purpose, channel, submitted_by) = ($2, $3, $5)
                          AND locale IS NOT DISTINCT FROM $4
            FROM claim_batches WHERE batch_id = $1 FOR SHARE";
        const CLAIMS: &str = "
            INSERT INTO claims (batch_id, subject_id, acted_at, evidence, outcome)
            SELECT DISTINCT ON (subject_id) $1, t.subject_id, t.acted_at,
                   CASE WHEN t.acted_at >= $5 THEN t.evidence END,
                   CASE WHEN t.acted_at < $5 THEN 'too_old' END
            FROM unnest($2::uuid[], $3::timestamptz[], $4::text[])
                AS t (subject_id, acted_at, evidence)
            WHERE NOT EXISTS (SELECT FROM fences f WHERE f.subject_id = t.subject_id)
            ORDER BY subject_id, acted_at DESC
            ON CONFLICT DO NOTHING";
        let ClaimsRequest { batch_id, purpose, channel, locale, claims } = request;
        let now = self.clock.now();
        let subjects: Vec<SubjectId> = claims.iter().map(|claim| claim.subject_id).collect();
        let mut session = self.store.begin().await?;
        // Under the lock of her stream no fence slips past.
        session.lock_versions(&subjects).await?;
        sqlx::query(BATCH)
            .bind(batch_id)
            .bind(purpose)
            .bind(channel)
            .bind(locale)
            .bind(caller)
            .bind(now.to_sqlx())
            .execute(session.conn())
            .await?;
        let row = sqlx::query(SAME)
            .bind(batch_id)
            .bind(purpose)
            .bind(channel)
            .bind(locale)
            .bind(caller)
            .fetch_one(session.conn())
            .await?;
        let state: String = row.try_get(0)?;
        if !row.try_get::<bool, _>(1)? {
            session.rollback().await?;
            return Err(ClaimError::OtherBatch);
        }
        if state != "open" {
            session.rollback().await?;
            return Err(ClaimError::State(state));
        }
        let at = |claim: &Claim| claim.acted_at.to_sqlx();
        sqlx::query(CLAIMS)
            .bind(batch_id)
            .bind(&subjects)
            .bind(claims.iter().map(at).collect::<Vec<SqlTimestamp>>())
            .bind(claims.iter().map(|claim| &*claim.evidence.0).collect::<Vec<&str>>())
            .bind(Keeping::over(self.keeping.suppression_days, now).to_sqlx())
            .execute(session.conn())
            .await?;
        session.commit().await?;
        Ok(())
    }

    /// The batch is whole. Saying so again changes nothing.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub async fn submit(&self, batch_id: Uuid, caller: &str) -> Result<ClaimBatch, ClaimError> {
        let mut session = self.store.begin().await?;
        session.lock_versions(&[stream_id(batch_id)]).await?;
        let batch = one(session.conn(), batch_id).await?.ok_or(ClaimError::Unknown)?;
        if batch.submitted_by != caller {
            session.rollback().await?;
            return Err(ClaimError::OtherBatch);
        }
        if batch.state != BatchState::Open {
            session.rollback().await?;
            return Ok(batch);
        }
        // It waits for a part that is under way; what is counted after it is whole.
        sqlx::query("UPDATE claim_batches SET state = 'waiting' WHERE batch_id = $1")
            .bind(batch_id)
            .execute(session.conn())
            .await?;
        let batch = one(session.conn(), batch_id).await?.ok_or(ClaimError::Unknown)?;
        let submitted = ClaimsSubmitted {
            purpose: batch.purpose.clone(),
            channel: batch.channel.clone(),
            claims: batch.claims,
            submitted_by: caller.to_owned(),
            at: self.clock.now(),
        };
        self.append(&mut session, batch_id, CLAIMS_SUBMITTED, &submitted).await?;
        session.commit().await?;
        Ok(batch)
    }

    /// Somebody has looked at it. The same decision again changes nothing.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub async fn decide(
        &self,
        batch_id: Uuid,
        request: &DecideRequest,
        caller: &str,
    ) -> Result<ClaimBatch, ClaimError> {
        const DECIDE: &str = "
            UPDATE claim_batches SET state = $2, decided_by = $3, decided_at = $4, reason = $5
            WHERE batch_id = $1";
        const DROP: &str = "
            UPDATE claims SET evidence = NULL, outcome = 'refused'
            WHERE batch_id = $1 AND outcome IS NULL";
        let mut session = self.store.begin().await?;
        session.lock_versions(&[stream_id(batch_id)]).await?;
        let batch = one(session.conn(), batch_id).await?.ok_or(ClaimError::Unknown)?;
        let state = match request.decision {
            ClaimDecision::Approve => BatchState::Approved,
            ClaimDecision::Refuse => BatchState::Refused,
        };
        let again = batch.decided_by.as_deref() == Some(caller)
            && batch.reason.as_ref() == Some(&request.reason)
            && (batch.state == state
                || (state, batch.state) == (BatchState::Approved, BatchState::Done));
        let error = if again {
            session.rollback().await?;
            return Ok(batch);
        } else if batch.submitted_by == caller {
            Some(ClaimError::SameCaller)
        } else if batch.state != BatchState::Waiting {
            Some(ClaimError::State(state_name(batch.state).to_owned()))
        } else {
            None
        };
        if let Some(error) = error {
            session.rollback().await?;
            return Err(error);
        }
        let now = self.clock.now();
        sqlx::query(DECIDE)
            .bind(batch_id)
            .bind(state_name(state))
            .bind(caller)
            .bind(now.to_sqlx())
            .bind(&request.reason)
            .execute(session.conn())
            .await?;
        if state == BatchState::Refused {
            sqlx::query(DROP).bind(batch_id).execute(session.conn()).await?;
        }
        let DecideRequest { decision, reason } = request.clone();
        let decided = ClaimsDecided { decision, reason, decided_by: caller.to_owned(), at: now };
        self.append(&mut session, batch_id, CLAIMS_DECIDED, &decided).await?;
        session.commit().await?;
        let mut conn = self.store.pool().acquire().await?;
        one(&mut conn, batch_id).await?.ok_or(ClaimError::Unknown)
    }

    async fn append<T: Serialize>(
        &self,
        session: &mut Session,
        batch_id: Uuid,
        event_type: &'static str,
        data: &T,
    ) -> Result<(), StoreError> {
        let event = NewEvent { id: self.ids.v7(), event_type, data: raw(stored::json(data)) };
        let now = self.clock.now();
        let stream = stream_id(batch_id);
        let append = Append::new(stream, Expected::Any, CONSENT_EVENTS, vec![event], now);
        session.append(vec![append]).await.map(|_| ())
    }
}

/// The stream of a batch: an id of its own, since a caller may name a batch as it likes.
#[must_use]
pub fn stream_id(batch_id: Uuid) -> Uuid {
    const NAMESPACE: Uuid = Uuid::from_u128(0x8c1f_5d0a_7a0e_4b53_9f2b_61c0_35c7_2d14);
    Uuid::new_v5(&NAMESPACE, batch_id.as_bytes())
}

const BATCHES: &str = "
    SELECT b.batch_id, purpose, channel, locale, state, submitted_by, submitted_at, decided_by,
           decided_at, reason,
           (SELECT count(*) FROM claims c WHERE c.batch_id = b.batch_id),
           (SELECT coalesce(jsonb_object_agg(outcome, n), '{}'::jsonb)::text
            FROM (SELECT outcome, count(*) AS n FROM claims c
                  WHERE c.batch_id = b.batch_id AND outcome IS NOT NULL GROUP BY outcome) o)
    FROM claim_batches b
    WHERE ($1::uuid IS NULL OR b.batch_id = $1) AND ($2::uuid IS NULL OR b.batch_id < $2)
    ORDER BY b.batch_id DESC LIMIT $3";

/// One batch.
///
/// # Errors
/// When the database fails.
pub async fn one(
    conn: &mut PgConnection,
    batch_id: Uuid,
) -> Result<Option<ClaimBatch>, sqlx::Error> {
    let row = sqlx::query(BATCHES)
        .bind(Some(batch_id))
        .bind(None::<Uuid>)
        .bind(1_i64)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(batch).transpose()
}

/// Batches, newest first, before one of them.
///
/// # Errors
/// When the database fails.
pub async fn list(
    conn: &mut PgConnection,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ClaimBatch>, sqlx::Error> {
    let rows =
        sqlx::query(BATCHES).bind(None::<Uuid>).bind(before).bind(limit).fetch_all(conn).await?;
    rows.iter().map(batch).collect()
}

fn batch(row: &PgRow) -> Result<ClaimBatch, sqlx::Error> {
    let time = |index: usize| -> Result<Option<jiff::Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<SqlTimestamp>, _>(index)?.map(SqlTimestamp::to_jiff))
    };
    let outcomes: BTreeMap<String, i64> = serde_json::from_str(row.try_get(11)?)
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(ClaimBatch {
        batch_id: row.try_get(0)?,
        purpose: row.try_get(1)?,
        channel: row.try_get(2)?,
        locale: row.try_get(3)?,
        state: state(row.try_get(4)?)?,
        submitted_by: row.try_get(5)?,
        submitted_at: row.try_get::<SqlTimestamp, _>(6)?.to_jiff(),
        decided_by: row.try_get(7)?,
        decided_at: time(8)?,
        reason: row.try_get(9)?,
        claims: row.try_get(10)?,
        outcomes,
    })
}

/// Claims of a batch, in the order of their people, after one of them.
///
/// # Errors
/// When the database fails.
pub async fn items(
    conn: &mut PgConnection,
    batch_id: Uuid,
    after: Option<SubjectId>,
    limit: i64,
) -> Result<Vec<ClaimView>, sqlx::Error> {
    const ITEMS: &str = "
        SELECT subject_id, acted_at, evidence, outcome FROM claims
        WHERE batch_id = $1 AND ($2::uuid IS NULL OR subject_id > $2)
        ORDER BY subject_id LIMIT $3";
    let rows = sqlx::query(ITEMS).bind(batch_id).bind(after).bind(limit).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(ClaimView {
                subject_id: row.try_get(0)?,
                acted_at: row.try_get::<SqlTimestamp, _>(1)?.to_jiff(),
                evidence: row.try_get::<Option<String>, _>(2)?.map(Sealed),
                outcome: row.try_get(3)?,
            })
        })
        .collect()
}

const fn state_name(state: BatchState) -> &'static str {
    match state {
        BatchState::Open => "open",
        BatchState::Waiting => "waiting",
        BatchState::Approved => "approved",
        BatchState::Done => "done",
        BatchState::Refused => "refused",
    }
}

fn state(name: &str) -> Result<BatchState, sqlx::Error> {
    const STATES: [BatchState; 5] = [
        BatchState::Open,
        BatchState::Waiting,
        BatchState::Approved,
        BatchState::Done,
        BatchState::Refused,
    ];
    STATES
        .into_iter()
        .find(|state| state_name(*state) == name)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown state {name}").into()))
}

/// Carries approved batches out until `stopping`, and forgets those that were never brought to their end.
/// Any number of replicas may: a claim is carried out under a key of its own.
///
/// # Errors
/// Never: failures are logged and tried again.
pub async fn run(
    store: EventStore,
    batcher: Batcher<LedgerHandler>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        if let Err(error) = forget_open(store.pool(), &*clock).await {
            tracing::warn!(%error, "batches that were never whole stay");
        }
        loop {
            match round(&store, &batcher).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(problem) => {
                    tracing::warn!(problem, "approved claims wait");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Whoever was interrupted begins anew: parts without an end are kept for a week.
async fn forget_open(pool: &PgPool, clock: &dyn Clock) -> Result<(), sqlx::Error> {
    const CLAIMS: &str = "
        DELETE FROM claims USING claim_batches b
        WHERE b.batch_id = claims.batch_id AND b.state = 'open' AND b.submitted_at < $1";
    const BATCHES: &str = "
        DELETE FROM claim_batches b WHERE state = 'open' AND submitted_at < $1
          AND NOT EXISTS (SELECT FROM claims c WHERE c.batch_id = b.batch_id)";
    let week = jiff::SignedDuration::from_hours(7 * 24);
    let before = clock.now().checked_sub(week).unwrap_or(jiff::Timestamp::MIN).to_sqlx();
    sqlx::query(CLAIMS).bind(before).execute(pool).await?;
    sqlx::query(BATCHES).bind(before).execute(pool).await.map(|_| ())
}

/// Carries out what is approved; gives how many claims that were.
///
/// # Errors
/// What stands in the way.
pub async fn round(store: &EventStore, batcher: &Batcher<LedgerHandler>) -> Result<usize, String> {
    const OPEN: &str = "
        SELECT c.batch_id, c.subject_id, c.acted_at, c.evidence, b.purpose, b.channel, b.locale
        FROM claim_batches b JOIN claims c USING (batch_id)
        WHERE b.state = 'approved' AND c.outcome IS NULL
        ORDER BY c.batch_id, c.subject_id LIMIT $1";
    const SETTLE: &str = "
        UPDATE claims SET outcome = t.outcome, evidence = NULL
        FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS t (batch_id, subject_id, outcome)
        WHERE claims.batch_id = t.batch_id AND claims.subject_id = t.subject_id";
    const DONE: &str = "
        UPDATE claim_batches b SET state = 'done' WHERE state = 'approved'
          AND NOT EXISTS (SELECT FROM claims c WHERE c.batch_id = b.batch_id AND outcome IS NULL)";
    let failed = |error: sqlx::Error| error.to_string();
    let pool = store.pool();
    let rows = sqlx::query(OPEN).bind(ROUND_MAX).fetch_all(pool).await.map_err(failed)?;
    let (mut claims, mut commands) = (Vec::new(), Vec::new());
    for row in &rows {
        let (batch, mut command) = command(row).map_err(failed)?;
        let key = format!("{batch} {}", command.subject);
        command.idempotency = Some(store.idempotency("claim", &key, key.as_bytes()));
        claims.push((batch, command.subject));
        commands.push(command);
    }
    let mut waits = None;
    let (mut batches, mut subjects, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    for ((batch, subject), outcome) in claims.into_iter().zip(batcher.run_each(commands).await) {
        let outcome = match outcome {
            Ok(done) if done.answer.unconfirmed.is_some() => "unconfirmed",
            Ok(_) => "granted",
            Err(error) if error.lasts() => why_not(&error),
            // The others are settled all the same.
            Err(error) => {
                waits = Some(error.to_string());
                continue;
            }
        };
        batches.push(batch);
        subjects.push(subject);
        outcomes.push(outcome);
    }
    if !batches.is_empty() {
        sqlx::query(SETTLE)
            .bind(&batches)
            .bind(&subjects)
            .bind(&outcomes)
            .execute(pool)
            .await
            .map_err(failed)?;
    }
    sqlx::query(DONE).execute(pool).await.map_err(failed)?;
    waits.map_or(Ok(rows.len()), Err)
}

/// The batch, and what its claim asks for.
fn command(row: &PgRow) -> Result<(Uuid, LedgerCommand), sqlx::Error> {
    let batch: Uuid = row.try_get(0)?;
    let (purpose, channel): (String, String) = (row.try_get(4)?, row.try_get(5)?);
    let act = Act {
        actor: Actor::Operator,
        method: Method::Import,
        place: Some(format!("claims-{batch}")),
        evidence: row.try_get::<Option<String>, _>(3)?.map(Sealed),
        acted_at: Some(row.try_get::<SqlTimestamp, _>(2)?.to_jiff()),
    };
    let shown = row.try_get::<Option<String>, _>(6)?.map_or(Shown::Default, Shown::InLanguage);
    let scope = Scope::new(&purpose, &channel);
    let wish = Wish::Grant { scope, act, own_addresses: Vec::new(), shown };
    Ok((batch, LedgerCommand::of_ours(row.try_get(1)?, wish)))
}

fn why_not(error: &CommandError) -> &'static str {
    match error {
        CommandError::Refused(Refusal::OwnActNeeded) => "own_act_needed",
        CommandError::Refused(Refusal::SubjectErased) => "erased",
        CommandError::PurposeUnknown => "purpose_unknown",
        CommandError::ChannelUnknown => "channel_unknown",
        CommandError::NoNoticeThen => "notice_unknown",
        CommandError::Store(_) => "ledger_unreadable",
        _ => "not_allowed",
    }
}
