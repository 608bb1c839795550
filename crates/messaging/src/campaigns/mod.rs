//! Campaigns in the database: commands, and the rows that others read. It guarantees that each change is
//! one that [`crate::domain::campaign`] decided under the lock of the campaign's stream, and that the row
//! commits together with its event; who does the work of a campaign is left to the files beside this one.

pub mod audience;
pub mod dry_run;
pub mod feeder;
pub mod read;
pub mod run;
pub mod watch;

use assent_contracts::api::campaigns::{Audience, CampaignState};
use assent_contracts::campaigns as wire;
use assent_eventstore::{Idempotency, NewEvent, Session, StoreError, StoredEvent};
use jiff_sqlx::ToSqlx as _;
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::consequences::Obstacle;
use crate::domain::campaign::{Campaign, Command, Event, Refusal, Template, decide, evolve};
use crate::domain::content::Values;
use crate::domain::template;
use crate::state::Messaging;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The campaign doesn't allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CampaignError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a draft holds beside its event.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its event.
    pub drafted: wire::CampaignDrafted,
    /// The template's values.
    pub values: Values,
    /// Who it is for.
    pub audience: Audience,
}

/// Writes a draft down and gives its id; the first one's where the key was used before.
///
/// # Errors
/// When the database fails, or the key was used with another body.
pub async fn draft(
    messaging: &Messaging,
    draft: Draft,
    idempotency: Option<Idempotency>,
) -> Result<Uuid, StoreError> {
    const INSERT: &str = "
        INSERT INTO campaigns (campaign_id, name, purpose, channel, template, language,
                               template_values, audience, state, drafted_by, drafted_at, changed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'gathering', $9, $10, $10)";
    let id = messaging.ids.v7();
    let mut session = messaging.store.begin().await?;
    session.lock_versions(&[id]).await?;
    if let Some(key) = idempotency
        && let Some(first) = session.first_answer(key).await?
    {
        session.rollback().await?;
        return Ok(first.stream);
    }
    let Draft { drafted, values, audience } = draft;
    let values = (!values.is_empty()).then(|| json(&values));
    let event = new_event(messaging, &Event::Drafted(drafted.clone()))?;
    let mut append = messaging.append(id, event, drafted.at);
    append.idempotency = idempotency;
    session.append(vec![append]).await?;
    sqlx::query(INSERT)
        .bind(id)
        .bind(&drafted.name)
        .bind(&drafted.purpose)
        .bind(&drafted.channel)
        .bind(&drafted.template)
        .bind(&drafted.language)
        .bind(values)
        .bind(json(&audience))
        .bind(&drafted.drafted_by)
        .bind(drafted.at.to_sqlx())
        .execute(session.conn())
        .await?;
    session.commit().await?;
    messaging.campaigns.notify_waiters();
    Ok(id)
}

fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("plain structs serialise")
}

/// Decides and writes. Gives whether something changed.
///
/// # Errors
/// [`CampaignError`].
pub async fn command(
    messaging: &Messaging,
    id: Uuid,
    command: Command,
) -> Result<bool, CampaignError> {
    let mut session = messaging.store.begin().await?;
    let changed = match command_in(messaging, &mut session, id, command).await {
        Ok(changed) => changed,
        Err(error) => {
            session.rollback().await?;
            return Err(error);
        }
    };
    session.commit().await?;
    messaging.campaigns.notify_waiters();
    messaging.queued.notify_one();
    Ok(changed)
}

/// The same within a session, whose caller commits.
///
/// # Errors
/// [`CampaignError`].
pub async fn command_in(
    messaging: &Messaging,
    session: &mut Session,
    id: Uuid,
    command: Command,
) -> Result<bool, CampaignError> {
    let now = messaging.clock.now();
    let campaign = load(session, id).await?;
    let Some(event) = decide(campaign.as_ref(), command, now)? else { return Ok(false) };
    let new = new_event(messaging, &event)?;
    session.append(vec![messaging.append(id, new, now)]).await?;
    if let Some(campaign) = evolve(campaign, &event) {
        write(session.conn(), id, &campaign, &event, now).await?;
    }
    Ok(true)
}

/// The campaign, under the lock of its stream.
///
/// # Errors
/// When the database fails.
pub async fn load(session: &mut Session, id: Uuid) -> Result<Option<Campaign>, StoreError> {
    let streams = session.lock(&[id]).await?;
    let events = streams.get(&id).map_or(&[][..], |stream| stream.events.as_slice());
    let mut campaign = None;
    for event in events {
        if let Some(event) = read_event(event)? {
            campaign = evolve(campaign, &event);
        }
    }
    Ok(campaign)
}

/// The row after an event.
async fn write(
    conn: &mut PgConnection,
    id: Uuid,
    campaign: &Campaign,
    event: &Event,
    now: jiff::Timestamp,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        UPDATE campaigns SET state = $2, pause_reason = $3, approved_by = $4, category = $5, members = $6,
               running_since = CASE WHEN $7 THEN clock_timestamp() ELSE running_since END, changed_at = $8
        WHERE campaign_id = $1";
    // What waited is due at once, whatever it waited for: that is looked at again.
    const WAKE: &str = "
        UPDATE intents SET not_before = now()
        WHERE campaign_id = $1 AND state = 'queued' AND not_before > now()";
    let runs = matches!(event, Event::Started(_) | Event::Resumed(_));
    if runs {
        order_news(&mut *conn).await?;
    }
    sqlx::query(WRITE)
        .bind(id)
        .bind(campaign.state.as_str())
        .bind(campaign.pause_reason.map(wire::PauseReason::as_str))
        .bind(campaign.approval.as_ref().map(|(by, _)| by))
        .bind(&campaign.category)
        .bind(i64::try_from(campaign.members).unwrap_or(i64::MAX))
        .bind(runs)
        .bind(now.to_sqlx())
        .execute(&mut *conn)
        .await?;
    if runs {
        sqlx::query(WAKE).bind(id).execute(conn).await?;
    }
    Ok(())
}

/// Puts news of quality and whoever lets a campaign run one after the other, until the transaction ends: what
/// the one could not see bears a later time than the other.
///
/// # Errors
/// When the database fails.
pub async fn order_news(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(2, 0)").execute(conn).await.map(|_| ())
}

/// Why a message of a campaign waits that doesn't run.
pub const NOT_RUNNING: &str = "campaign_paused";
/// Why a message of a cancelled campaign is refused.
pub const CANCELLED: &str = "campaign_cancelled";

/// Which campaigns may send at this moment: those that run, and against which no news of the provider
/// stands that their last start or resumption could not have known. So a paused, rejected or re-categorised
/// template, or a flagged number, counts from its commit on; the event follows ([`watch`]).
///
/// # Errors
/// When the database fails; then none of them may send.
pub async fn sending(
    conn: &mut PgConnection,
    phone_number_id: &str,
) -> Result<Vec<Uuid>, sqlx::Error> {
    const SENDING: &str = "
        SELECT c.campaign_id FROM campaigns c
        JOIN templates t ON t.name = c.template AND t.language = c.language
        WHERE c.state = 'running' AND t.status = ANY($2)
          AND CASE WHEN t.next_category_at <= now() THEN t.next_category ELSE t.category END = c.category
          AND NOT (coalesce(t.quality = 'RED', false) AND coalesce(t.quality_since > c.running_since, false))
          AND NOT EXISTS (SELECT FROM sending_numbers n
                          WHERE n.phone_number_id = $1 AND n.flagged_at > c.running_since)";
    sqlx::query_scalar(SENDING).bind(phone_number_id).bind(template::SENDABLE).fetch_all(conn).await
}

/// How a template stands.
///
/// # Errors
/// When the database fails.
pub async fn template_of(
    conn: &mut PgConnection,
    campaign_id: Uuid,
) -> Result<Option<Template>, sqlx::Error> {
    const STANDS: &str = "
        SELECT CASE WHEN t.next_category_at <= now() THEN t.next_category ELSE t.category END, t.status,
               encode(sha256(convert_to(t.components::text, 'UTF8')), 'hex')
        FROM campaigns c JOIN templates t ON t.name = c.template AND t.language = c.language
        WHERE c.campaign_id = $1";
    let row = sqlx::query(STANDS).bind(campaign_id).fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(None) };
    let status: String = row.try_get(1)?;
    let unavailable = template::obstacle(&status).map(|obstacle| match obstacle {
        Obstacle::Wait(reason, _) | Obstacle::Refuse(reason) => reason,
    });
    Ok(Some(Template { category: row.try_get(0)?, content: row.try_get(2)?, unavailable }))
}

/// The template's values that a campaign has for everybody.
///
/// # Errors
/// When the database fails.
pub async fn values_of(
    conn: &mut PgConnection,
    campaign_id: Uuid,
) -> Result<Option<Values>, sqlx::Error> {
    const VALUES: &str = "SELECT template_values FROM campaigns WHERE campaign_id = $1";
    let found: Option<Option<Json<Values>>> =
        sqlx::query_scalar(VALUES).bind(campaign_id).fetch_optional(conn).await?;
    Ok(found.flatten().map(|Json(values)| values))
}

/// The campaigns in one of these states, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn in_state(
    conn: &mut PgConnection,
    states: &[CampaignState],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let states: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    sqlx::query_scalar(
        "SELECT campaign_id FROM campaigns WHERE state = ANY($1) ORDER BY campaign_id",
    )
    .bind(states)
    .fetch_all(conn)
    .await
}

/// An event in its published shape.
fn new_event(messaging: &Messaging, event: &Event) -> Result<NewEvent, StoreError> {
    let id = messaging.ids.v7();
    let new = match event {
        Event::Drafted(it) => NewEvent::new(id, wire::CAMPAIGN_DRAFTED, it),
        Event::AudienceTaken(it) => NewEvent::new(id, wire::CAMPAIGN_AUDIENCE_TAKEN, it),
        Event::DryRunDone(it) => NewEvent::new(id, wire::CAMPAIGN_DRY_RUN_DONE, it),
        Event::Approved(it) => NewEvent::new(id, wire::CAMPAIGN_APPROVED, it),
        Event::Started(it) => NewEvent::new(id, wire::CAMPAIGN_STARTED, it),
        Event::Paused(it) => NewEvent::new(id, wire::CAMPAIGN_PAUSED, it),
        Event::Resumed(it) => NewEvent::new(id, wire::CAMPAIGN_RESUMED, it),
        Event::Cancelled(it) => NewEvent::new(id, wire::CAMPAIGN_CANCELLED, it),
        Event::Completed(it) => NewEvent::new(id, wire::CAMPAIGN_COMPLETED, it),
    };
    new.map_err(|error| StoreError::Database(sqlx::Error::Encode(error.into())))
}

/// A stored event; none: of a later version.
fn read_event(event: &StoredEvent) -> Result<Option<Event>, StoreError> {
    Ok(Some(match event.event_type.as_str() {
        wire::CAMPAIGN_DRAFTED => Event::Drafted(event.decode()?),
        wire::CAMPAIGN_AUDIENCE_TAKEN => Event::AudienceTaken(event.decode()?),
        wire::CAMPAIGN_DRY_RUN_DONE => Event::DryRunDone(event.decode()?),
        wire::CAMPAIGN_APPROVED => Event::Approved(event.decode()?),
        wire::CAMPAIGN_STARTED => Event::Started(event.decode()?),
        wire::CAMPAIGN_PAUSED => Event::Paused(event.decode()?),
        wire::CAMPAIGN_RESUMED => Event::Resumed(event.decode()?),
        wire::CAMPAIGN_CANCELLED => Event::Cancelled(event.decode()?),
        wire::CAMPAIGN_COMPLETED => Event::Completed(event.decode()?),
        _ => return Ok(None),
    }))
}
