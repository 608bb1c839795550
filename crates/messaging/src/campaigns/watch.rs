//! Pauses a campaign by itself: for its template, for quality, when too many messages fail or too many people
//! say stop. It guarantees that it goes on only by a person's word. That nothing is claimed
//! meanwhile is [`super::sending`]'s: this file writes down why.

use assent_contracts::api::campaigns::CampaignState;
use assent_contracts::campaigns::PauseReason;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{CampaignError, command, in_state, sending};
use crate::config::Pausing;
use crate::domain::campaign::{Command, Refusal};
use crate::domain::template;
use crate::metrics;
use crate::state::Messaging;

/// How long after her message a stop is of the campaign; also how long back stops are looked for.
const OF_THE_CAMPAIGN: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// Looks at each running campaign. Gives how many were paused.
///
/// # Errors
/// When the database fails.
pub async fn round(messaging: &Messaging) -> Result<usize, CampaignError> {
    let number = &messaging.config.whatsapp.phone_number_id;
    let mut conn = messaging.pool().acquire().await?;
    stopped(&mut conn, messaging.clock.now()).await?;
    let running = in_state(&mut conn, &[CampaignState::Running]).await?;
    let sending = sending(&mut conn, number).await?;
    let mut found = Vec::new();
    for id in running {
        let reason = if sending.contains(&id) {
            heard(&mut conn, id, &messaging.config.campaigns.pausing).await?
        } else {
            Some(news(&mut conn, id).await?)
        };
        found.extend(reason.map(|reason| (id, reason)));
    }
    drop(conn);
    let mut paused = 0;
    for (id, reason) in found {
        match command(messaging, id, Command::Pause { by: None, reason }).await {
            Ok(true) => {
                tracing::warn!(campaign_id = %id, reason = reason.as_str(), "a campaign pauses by itself");
                metrics::campaign_paused(reason);
                paused += 1;
            }
            // Somebody was faster.
            Ok(false) | Err(CampaignError::Refused(Refusal::State(_))) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(paused)
}

/// Notes who said stop within a day of her message: the declarations themselves are not kept.
async fn stopped(conn: &mut PgConnection, now: jiff::Timestamp) -> Result<(), sqlx::Error> {
    const NOTE: &str = "
        UPDATE campaign_members m SET stopped_at = d.heard_at
        FROM declarations d CROSS JOIN LATERAL unnest(d.subjects) AS s (subject_id)
        JOIN intents i ON i.subject_id = s.subject_id AND i.campaign_id IS NOT NULL
        WHERE d.will = 'stop' AND d.heard_at > $1
          AND d.heard_at >= i.requested_at
          AND d.heard_at < coalesce(i.started_at, i.requested_at) + interval '1 day'
          AND m.campaign_id = i.campaign_id AND m.subject_id = i.subject_id
          AND m.stopped_at IS NULL";
    let since = now.checked_sub(OF_THE_CAMPAIGN * 2).unwrap_or(now);
    sqlx::query(NOTE).bind(since.to_sqlx()).execute(conn).await.map(|_| ())
}

/// Why a campaign that runs may not send.
async fn news(conn: &mut PgConnection, id: Uuid) -> Result<PauseReason, sqlx::Error> {
    const NEWS: &str = "
        SELECT t.status, c.category = CASE WHEN t.next_category_at <= now()
                                           THEN t.next_category ELSE t.category END
        FROM campaigns c JOIN templates t ON t.name = c.template AND t.language = c.language
        WHERE c.campaign_id = $1";
    let row = sqlx::query(NEWS).bind(id).fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(PauseReason::TemplateUnavailable) };
    let status: String = row.try_get(0)?;
    Ok(match row.try_get::<Option<bool>, _>(1)? {
        _ if template::obstacle(&status).is_some() => PauseReason::TemplateUnavailable,
        Some(true) => PauseReason::Quality,
        _ => PauseReason::TemplateRecategorised,
    })
}

/// What came back since somebody let it run.
async fn heard(
    conn: &mut PgConnection,
    id: Uuid,
    pausing: &Pausing,
) -> Result<Option<PauseReason>, sqlx::Error> {
    // Of the last ones that were settled: failures come at once.
    const FAILED: &str = "
        SELECT count(*), count(*) FILTER (WHERE last.failed)
        FROM (SELECT state = 'failed' OR coalesce(status = 'failed', false) AS failed FROM intents
              WHERE campaign_id = $1 AND state IN ('accepted', 'failed')
                AND settled_at > (SELECT changed_at FROM campaigns WHERE campaign_id = $1)
              ORDER BY settled_at DESC LIMIT $2) AS last";
    // Of all that went out: people take their time.
    const STOPPED: &str = "
        SELECT count(*) FROM campaign_members m
        JOIN intents i ON i.subject_id = m.subject_id AND i.campaign_id = m.campaign_id
        WHERE m.campaign_id = $1 AND m.stopped_at IS NOT NULL AND i.state = 'accepted'
          AND i.started_at > (SELECT running_since FROM campaigns WHERE campaign_id = $1)";
    const ACCEPTED: &str = "
        SELECT count(*) FROM (
            SELECT FROM intents WHERE campaign_id = $1 AND state = 'accepted'
              AND started_at > (SELECT running_since FROM campaigns WHERE campaign_id = $1)
            LIMIT $2) AS accepted";
    let row = sqlx::query(FAILED).bind(id).bind(pausing.sample).fetch_one(&mut *conn).await?;
    if is_above(pausing, row.try_get(1)?, row.try_get(0)?, pausing.failures_percent) {
        return Ok(Some(PauseReason::Failures));
    }
    let stopped: i64 = sqlx::query_scalar(STOPPED).bind(id).fetch_one(&mut *conn).await?;
    if stopped == 0 {
        return Ok(None);
    }
    // One more than the share allows is enough to know.
    let enough = (stopped * 100).checked_div(i64::from(pausing.stops_percent)).unwrap_or(0) + 1;
    let enough = enough.max(pausing.least);
    let accepted: i64 = sqlx::query_scalar(ACCEPTED).bind(id).bind(enough).fetch_one(conn).await?;
    let is_above = is_above(pausing, stopped, accepted, pausing.stops_percent);
    Ok(is_above.then_some(PauseReason::Blocks))
}

fn is_above(pausing: &Pausing, count: i64, of: i64, percent: u8) -> bool {
    of >= pausing.least && count * 100 > of * i64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_pauses_above_the_share_and_not_on_a_handful() {
        let pausing = Pausing { sample: 100, least: 20, failures_percent: 20, stops_percent: 5 };
        assert!(!is_above(&pausing, 19, 19, 20), "too few to tell");
        assert!(!is_above(&pausing, 4, 20, 20), "at the share");
        assert!(is_above(&pausing, 5, 20, 20));
        assert!(is_above(&pausing, 6, 100, 5));
        assert!(!is_above(&pausing, 0, 20, 0));
    }
}
