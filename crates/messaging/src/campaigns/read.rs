//! Campaigns as the API shows them: what they are, what a dry run found, their people, the report. All of it is
//! counted from rows.

use std::collections::BTreeMap;

use assent_contracts::api::campaigns::{
    Audience, Billed, CampaignState, CampaignView, Cost, DryRun, Duration, Member, Report,
};
use assent_contracts::campaigns::PauseReason;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::feeder::message_id;
use crate::domain::limits::duration;
use crate::limits::number::{self, Day};
use crate::state::Messaging;

/// Up to `limit` campaigns before one, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    messaging: &Messaging,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<CampaignView>, sqlx::Error> {
    let mut conn = messaging.pool().acquire().await?;
    let rows = rows(&mut conn, messaging, None, before, limit).await?;
    let outlook = Outlook::read(&mut conn, messaging).await?;
    rows.iter().map(|row| view(messaging, &outlook, row)).collect()
}

/// One campaign.
///
/// # Errors
/// When the database fails.
pub async fn one(messaging: &Messaging, id: Uuid) -> Result<Option<CampaignView>, sqlx::Error> {
    let mut conn = messaging.pool().acquire().await?;
    let rows = rows(&mut conn, messaging, Some(id), None, 1).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let outlook = Outlook::read(&mut conn, messaging).await?;
    view(messaging, &outlook, row).map(Some)
}

/// Whether there is such a campaign.
///
/// # Errors
/// When the database fails.
pub async fn is_known(messaging: &Messaging, id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM campaigns WHERE campaign_id = $1)")
        .bind(id)
        .fetch_one(messaging.pool())
        .await
}

/// What the number's day leaves for a campaign.
struct Outlook {
    day: Day,
    /// Messages that have gone out of it.
    used: u64,
}

impl Outlook {
    async fn read(conn: &mut PgConnection, messaging: &Messaging) -> Result<Self, sqlx::Error> {
        let day = number::day(&mut *conn, messaging).await?;
        let used = match day.ceilings.on(day.number).max(day.ceilings.people) {
            Some(most) => number::used(conn, messaging, most).await?.messages,
            None => 0,
        };
        Ok(Self { day, used })
    }
}

async fn rows(
    conn: &mut PgConnection,
    messaging: &Messaging,
    id: Option<Uuid>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<PgRow>, sqlx::Error> {
    const CAMPAIGNS: &str = "
        SELECT campaign_id, c.name, purpose, channel, c.template, c.language, audience, state, pause_reason,
               drafted_by, drafted_at, approved_by, members, dry_run, dry_run_asked, dry_run_excluded,
               coalesce(c.category, CASE WHEN t.next_category_at <= now() THEN t.next_category
                                         ELSE t.category END) AS billed,
               (SELECT count(*) FROM free_entries f JOIN campaign_members m USING (subject_id)
                WHERE m.campaign_id = c.campaign_id AND m.reasons = '{}' AND f.answered_at > $4) AS free
        FROM campaigns c LEFT JOIN templates t ON t.name = c.template AND t.language = c.language
        WHERE ($1::uuid IS NULL OR campaign_id = $1) AND ($2::uuid IS NULL OR campaign_id < $2)
        ORDER BY campaign_id DESC LIMIT $3";
    let now = messaging.clock.now();
    let free_since = now.checked_sub(messaging.config.campaigns.free_entry).unwrap_or(now);
    sqlx::query(CAMPAIGNS)
        .bind(id)
        .bind(before)
        .bind(limit)
        .bind(free_since.to_sqlx())
        .fetch_all(conn)
        .await
}

fn view(
    messaging: &Messaging,
    outlook: &Outlook,
    row: &PgRow,
) -> Result<CampaignView, sqlx::Error> {
    let id: Uuid = row.try_get("campaign_id")?;
    let dry_run = match row.try_get::<Option<String>, _>("dry_run")? {
        None => None,
        Some(state) => Some(dry_run(messaging, outlook, row, state == "done")?),
    };
    let Json(audience): Json<Audience> = row.try_get("audience")?;
    let pause_reason: Option<String> = row.try_get("pause_reason")?;
    let approval_above = messaging.config.campaigns.approval_above;
    Ok(CampaignView {
        campaign_id: id,
        name: row.try_get("name")?,
        purpose: row.try_get("purpose")?,
        channel: row.try_get("channel")?,
        template: row.try_get("template")?,
        language: row.try_get("language")?,
        audience,
        state: state(row.try_get("state")?)?,
        pause_reason: pause_reason.as_deref().and_then(PauseReason::parse),
        drafted_by: row.try_get("drafted_by")?,
        drafted_at: row.try_get::<SqlTimestamp, _>("drafted_at")?.to_jiff(),
        approved_by: row.try_get("approved_by")?,
        members: row.try_get("members")?,
        approval_above: i64::try_from(approval_above).unwrap_or(i64::MAX),
        dry_run,
    })
}

fn state(name: &str) -> Result<CampaignState, sqlx::Error> {
    CampaignState::parse(name)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown state {name}").into()))
}

fn dry_run(
    messaging: &Messaging,
    outlook: &Outlook,
    row: &PgRow,
    done: bool,
) -> Result<DryRun, sqlx::Error> {
    let Json(excluded): Json<BTreeMap<String, i64>> = row.try_get("dry_run_excluded")?;
    let asked: i64 = row.try_get("dry_run_asked")?;
    // Who was not asked yet is not excluded yet.
    let allowed = (asked - excluded.values().sum::<i64>()).max(0);
    let messages = u64::try_from(allowed).unwrap_or_default();
    let Outlook { day, used } = outlook;
    let per_second = messaging.config.sending.per_second;
    let (takes, by) = duration(messages, per_second, &day.ceilings, day.number, *used);
    let category: Option<String> = row.try_get("billed")?;
    let prices = &messaging.config.campaigns.prices;
    let free = row.try_get::<i64, _>("free")?.min(allowed);
    let cost = category.and_then(|category| {
        let billed = messages - u64::try_from(free).unwrap_or_default();
        let (price, total) = prices.of(&category, billed)?;
        let currency = prices.currency.clone();
        Some(Cost { category, messages: allowed, free, price, total, currency })
    });
    let duration = Duration { seconds: takes.as_secs(), limited_by: by.as_str().to_owned() };
    Ok(DryRun { done, asked, allowed, excluded, duration, cost })
}

/// Up to `limit` of a campaign's people after one, all or those in one state.
///
/// # Errors
/// When the database fails.
pub async fn members(
    messaging: &Messaging,
    id: Uuid,
    in_state: Option<&str>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Member>, sqlx::Error> {
    const MEMBERS: &str = "
        SELECT subject_id, state, reasons FROM campaign_members
        WHERE campaign_id = $1 AND ($2::text IS NULL OR state = $2)
          AND ($3::uuid IS NULL OR subject_id > $3)
        ORDER BY subject_id LIMIT $4";
    let rows = sqlx::query(MEMBERS)
        .bind(id)
        .bind(in_state)
        .bind(after)
        .bind(limit)
        .fetch_all(messaging.pool())
        .await?;
    rows.iter()
        .map(|row| {
            let subject_id: Uuid = row.try_get(0)?;
            let state: String = row.try_get(1)?;
            let message_id = (state == "started").then(|| message_id(id, subject_id));
            Ok(Member { subject_id, state, reasons: row.try_get(2)?, message_id })
        })
        .collect()
}

/// What became of a campaign.
///
/// # Errors
/// When the database fails.
pub async fn report(messaging: &Messaging, id: Uuid) -> Result<Option<Report>, sqlx::Error> {
    const MEMBERS: &str = "
        SELECT count(*), count(*) FILTER (WHERE state = 'waiting'),
               count(*) FILTER (WHERE stopped_at IS NOT NULL)
        FROM campaign_members WHERE campaign_id = $1";
    const EXCLUDED: &str = "
        SELECT reasons[1], count(*) FROM campaign_members
        WHERE campaign_id = $1 AND reasons <> '{}' GROUP BY 1";
    const STATES: &str = "SELECT state, count(*) FROM intents WHERE campaign_id = $1 GROUP BY 1";
    const STATUSES: &str = "
        SELECT status, count(*) FROM intents
        WHERE campaign_id = $1 AND status IS NOT NULL GROUP BY 1";
    const REASONS: &str = "
        SELECT reasons[1], count(*) FROM intents
        WHERE campaign_id = $1 AND reasons <> '{}' GROUP BY 1";
    let Some(view) = one(messaging, id).await? else { return Ok(None) };
    let mut conn = messaging.pool().acquire().await?;
    let row = sqlx::query(MEMBERS).bind(id).fetch_one(&mut *conn).await?;
    Ok(Some(Report {
        campaign_id: id,
        state: view.state,
        members: row.try_get(0)?,
        waiting: row.try_get(1)?,
        excluded: counts(&mut conn, EXCLUDED, id).await?,
        messages: counts(&mut conn, STATES, id).await?,
        statuses: counts(&mut conn, STATUSES, id).await?,
        reasons: counts(&mut conn, REASONS, id).await?,
        estimate: view.dry_run.and_then(|run| run.cost),
        billed: billed(&mut conn, messaging, id).await?,
        stops: row.try_get(2)?,
    }))
}

/// What is charged is what reached her.
async fn billed(
    conn: &mut PgConnection,
    messaging: &Messaging,
    id: Uuid,
) -> Result<Vec<Billed>, sqlx::Error> {
    const BILLED: &str = "
        SELECT coalesce(price_category, 'unknown'), count(*) FILTER (WHERE billable),
               count(*) FILTER (WHERE NOT billable)
        FROM intents
        WHERE campaign_id = $1 AND billable IS NOT NULL AND status IN ('delivered', 'read')
        GROUP BY 1 ORDER BY 1";
    let prices = &messaging.config.campaigns.prices;
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(BILLED).bind(id).fetch_all(conn).await?;
    let billed = |(category, billable, free): (String, i64, i64)| {
        // They are configured under the names that templates have.
        let of = prices.of(&category.to_uppercase(), billable.unsigned_abs());
        let (total, currency) = (of.map(|(_, total)| total), prices.currency.clone());
        Billed { category, billable, free, total, currency }
    };
    Ok(rows.into_iter().map(billed).collect())
}

async fn counts(
    conn: &mut PgConnection,
    query: &'static str,
    id: Uuid,
) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(query).bind(id).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}
