//! Tries a campaign dry: asks the gate about each of its people, sends nothing. It guarantees that an
//! interruption goes on where it was, and that who may not be written to is left out with the reason;
//! the gate is asked again before each send, and has the last word.

use std::collections::BTreeMap;

use assent_contracts::SubjectId;
use assent_contracts::api::campaigns::CampaignState;
use assent_contracts::api::consent::{Decision, VerdictAsk, VerdictsRequest, VerdictsResponse};
use assent_http::ClientError;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{CampaignError, command_in, load, template_of};
use crate::domain::campaign::{Command, Refusal};
use crate::state::Messaging;

/// People of one question to the gate.
const ASK: i64 = 1_000;

/// Why a part of a dry run was not done.
#[derive(Debug, thiserror::Error)]
enum DryRunError {
    /// The gate.
    #[error(transparent)]
    Consent(#[from] ClientError),
    /// The gate answered something else.
    #[error("the consent service gave another number of verdicts than asked for")]
    Mismatch,
    /// The campaign, or the database.
    #[error(transparent)]
    Campaign(#[from] CampaignError),
}

impl From<sqlx::Error> for DryRunError {
    fn from(error: sqlx::Error) -> Self {
        Self::Campaign(error.into())
    }
}

impl From<assent_eventstore::StoreError> for DryRunError {
    fn from(error: assent_eventstore::StoreError) -> Self {
        Self::Campaign(error.into())
    }
}

/// Begins a dry run; one that is under way goes on.
///
/// # Errors
/// [`CampaignError`]: also when it has started, for then the gate is asked in earnest.
pub async fn begin(messaging: &Messaging, id: Uuid) -> Result<(), CampaignError> {
    const BEGIN: &str = "
        UPDATE campaigns SET dry_run = 'running', dry_run_after = NULL, dry_run_asked = 0,
               dry_run_excluded = '{}'
        WHERE campaign_id = $1 AND dry_run IS DISTINCT FROM 'running'";
    let mut session = messaging.store.begin().await?;
    let campaign = load(&mut session, id).await?;
    let refusal = match campaign.map(|it| it.state) {
        None => Some(Refusal::Unknown),
        Some(CampaignState::Draft | CampaignState::Approved) => None,
        Some(state) => Some(Refusal::State(state)),
    };
    if let Some(refusal) = refusal {
        session.rollback().await?;
        return Err(refusal.into());
    }
    sqlx::query(BEGIN).bind(id).execute(session.conn()).await?;
    session.commit().await?;
    messaging.campaigns.notify_waiters();
    Ok(())
}

/// A part of each dry run that is under way. Gives how many were done.
///
/// # Errors
/// When the database fails; what was asked stays.
pub async fn round(messaging: &Messaging) -> Result<usize, sqlx::Error> {
    const RUNNING: &str = "
        SELECT campaign_id FROM campaigns
        WHERE dry_run = 'running' AND state IN ('draft', 'approved') ORDER BY campaign_id";
    let running: Vec<Uuid> = sqlx::query_scalar(RUNNING).fetch_all(messaging.pool()).await?;
    let mut done = 0;
    for id in running {
        match part(messaging, id).await {
            Ok(()) => done += 1,
            // The others go on.
            Err(error) => tracing::warn!(%error, campaign_id = %id, "a dry run waits"),
        }
    }
    Ok(done)
}

async fn part(messaging: &Messaging, id: Uuid) -> Result<(), DryRunError> {
    const WANTED: &str = "SELECT purpose, channel, dry_run_after, dry_run_asked, dry_run_excluded FROM campaigns WHERE campaign_id = $1";
    const NEXT: &str = "
        SELECT subject_id FROM campaign_members
        WHERE campaign_id = $1 AND ($2::uuid IS NULL OR subject_id > $2) AND state <> 'started'
        ORDER BY subject_id LIMIT $3";
    const MOVE: &str = "
        UPDATE campaigns SET dry_run_after = coalesce($3, dry_run_after), dry_run_asked = $4, dry_run_excluded = $5,
               dry_run = CASE WHEN $3 IS NULL THEN 'done' ELSE dry_run END
        WHERE campaign_id = $1 AND dry_run_after IS NOT DISTINCT FROM $2 AND dry_run = 'running'
          AND state IN ('draft', 'approved')";
    let row = sqlx::query(WANTED).bind(id).fetch_one(messaging.pool()).await?;
    let after: Option<Uuid> = row.try_get(2)?;
    let asked: i64 = row.try_get(3)?;
    let Json(mut excluded): Json<BTreeMap<String, i64>> = row.try_get(4)?;
    let people: Vec<SubjectId> =
        sqlx::query_scalar(NEXT).bind(id).bind(after).bind(ASK).fetch_all(messaging.pool()).await?;
    let verdicts = if people.is_empty() {
        Vec::new()
    } else {
        let ask =
            |subject: &SubjectId| VerdictAsk { subject_id: Some(*subject), addresses: Vec::new() };
        let request = VerdictsRequest {
            purpose: row.try_get(0)?,
            channel: row.try_get(1)?,
            asks: people.iter().map(ask).collect(),
        };
        let answer: VerdictsResponse =
            messaging.consent.post("/v1/verdicts", &request, None).await?;
        answer.verdicts
    };
    if verdicts.len() != people.len() {
        return Err(DryRunError::Mismatch);
    }
    let asked = asked + i64::try_from(people.len()).unwrap_or(i64::MAX);
    let found: Vec<Vec<String>> = verdicts
        .into_iter()
        .map(|verdict| match verdict.verdict {
            Decision::Allow => Vec::new(),
            Decision::Deny => verdict.reasons,
        })
        .collect();
    for reason in found.iter().filter_map(|reasons| reasons.first()) {
        *excluded.entry(reason.clone()).or_default() += 1;
    }
    let mut session = messaging.store.begin().await?;
    session.lock_versions(&[id]).await?;
    let moved = sqlx::query(MOVE)
        .bind(id)
        .bind(after)
        .bind(people.last())
        .bind(asked)
        .bind(Json(&excluded))
        .execute(session.conn())
        .await?;
    if moved.rows_affected() == 0 {
        // Another replica was faster, or it was cancelled.
        session.rollback().await?;
        return Ok(());
    }
    mark(session.conn(), id, people.iter().copied().zip(found)).await?;
    if people.is_empty() {
        let positive = |count: i64| u64::try_from(count).unwrap_or_default();
        let allowed = positive(asked - excluded.values().sum::<i64>());
        let excluded = excluded.into_iter().map(|(reason, count)| (reason, positive(count)));
        let template = template_of(session.conn(), id).await?;
        let command = Command::FinishDryRun { allowed, excluded: excluded.collect(), template };
        command_in(messaging, &mut session, id, command).await?;
    }
    session.commit().await?;
    Ok(())
}

/// Marks who is excluded, and why; the others wait.
async fn mark(
    conn: &mut PgConnection,
    id: Uuid,
    found: impl Iterator<Item = (SubjectId, Vec<String>)>,
) -> Result<(), sqlx::Error> {
    const MARK: &str = "
        UPDATE campaign_members m SET reasons = string_to_array(t.reasons, ','),
               state = CASE WHEN t.reasons = '' THEN 'waiting' ELSE 'excluded' END
        FROM unnest($2::uuid[], $3::text[]) AS t (subject_id, reasons)
        WHERE m.campaign_id = $1 AND m.subject_id = t.subject_id AND m.state <> 'started'";
    let (people, reasons): (Vec<SubjectId>, Vec<String>) =
        found.map(|(subject, reasons)| (subject, reasons.join(","))).unzip();
    sqlx::query(MARK).bind(id).bind(people).bind(reasons).execute(conn).await.map(|_| ())
}
