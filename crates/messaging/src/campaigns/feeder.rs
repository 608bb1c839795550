//! Turns a running campaign's people into messages, a few at a time, and ends what is over. It guarantees
//! that nobody is started twice, whatever is restarted: a person's row and the id of her message are made
//! of campaign and person, and both change in the transaction that queues it. The queue is kept short,
//! so that little waits in it when a campaign is paused.

use assent_contracts::SubjectId;
use assent_contracts::api::campaigns::CampaignState;
use assent_contracts::messaging::{MESSAGE_REQUESTED, MessageRequested};
use assent_eventstore::StoreError;
use assent_runtime::telemetry;
use jiff_sqlx::ToSqlx as _;
use sqlx::Row as _;
use uuid::Uuid;

use super::{CANCELLED, CampaignError, command, in_state, load};
use crate::domain::campaign::{Command, Refusal};
use crate::domain::intent::Happening;
use crate::intents::{self, Settlement};
use crate::state::{Messaging, fenced};

/// Messages of one campaign that wait or are on their way at the same time, those of quiet hours apart; or
/// as many as go out in [`QUEUE_SECONDS`], where these are more.
const QUEUE_MAX: i64 = 200;
/// Longer than the feeder ever rests.
const QUEUE_SECONDS: i64 = 2;
/// The same with those of quiet hours: whoever claims or counts passes by no more of them.
const OPEN_MAX: i64 = 5_000;
/// People of one transaction.
const CHUNK: i64 = 100;

/// The message of a person in a campaign: there is no other.
#[must_use]
pub fn message_id(campaign: Uuid, subject: SubjectId) -> Uuid {
    Uuid::new_v5(&campaign, subject.as_bytes())
}

/// Feeds each running campaign, refuses what cancelled ones had queued. Gives how many messages were queued or
/// refused.
///
/// # Errors
/// When the database fails; what was done stays.
pub async fn round(messaging: &Messaging) -> Result<usize, CampaignError> {
    const LEFT: &str = "
        SELECT id, subject_id FROM intents
        WHERE campaign_id IN (SELECT campaign_id FROM campaigns WHERE state = 'cancelled')
          AND state = 'queued' LIMIT $1";
    let mut conn = messaging.pool().acquire().await?;
    let running = in_state(&mut conn, &[CampaignState::Running]).await?;
    let left = sqlx::query(LEFT).bind(CHUNK).fetch_all(&mut *conn).await?;
    drop(conn);
    let mut moved = left.len();
    if !left.is_empty() {
        let refused = left.iter().map(|row| {
            let (id, subject) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Settlement::new(id, subject, None, Happening::Denied, CANCELLED))
        });
        intents::settle(messaging, refused.collect::<Result<_, sqlx::Error>>()?, None).await?;
    }
    for id in running {
        moved += feed(messaging, id).await?;
    }
    Ok(moved)
}

/// How a campaign's people and messages stand.
struct Stand {
    /// Messages without an outcome.
    open: i64,
    /// Those of them that wait for no quiet hour to end.
    queued: i64,
    /// People whose message is not queued.
    waiting: Vec<SubjectId>,
}

async fn stand(messaging: &Messaging, id: Uuid) -> Result<Stand, sqlx::Error> {
    // Where it is day nobody waits for the end of another country's night.
    const QUEUED: &str = "
        SELECT count(*), count(*) FILTER (WHERE reasons <> '{quiet_hours}') FROM intents
        WHERE campaign_id = $1 AND state IN ('queued', 'claimed', 'calling')";
    const WAITING: &str = "
        SELECT subject_id FROM campaign_members
        WHERE campaign_id = $1 AND state = 'waiting' ORDER BY subject_id LIMIT $2";
    let mut conn = messaging.pool().acquire().await?;
    // In this order: where nobody waits any more, no message comes after it.
    let waiting = sqlx::query_scalar(WAITING).bind(id).bind(CHUNK).fetch_all(&mut *conn).await?;
    let row = sqlx::query(QUEUED).bind(id).fetch_one(&mut *conn).await?;
    Ok(Stand { open: row.try_get(0)?, queued: row.try_get(1)?, waiting })
}

async fn feed(messaging: &Messaging, id: Uuid) -> Result<usize, CampaignError> {
    let Stand { open, queued, waiting } = stand(messaging, id).await?;
    if waiting.is_empty() && open == 0 {
        return match command(messaging, id, Command::Complete).await {
            Ok(_) | Err(CampaignError::Refused(Refusal::State(_))) => Ok(0),
            Err(error) => Err(error),
        };
    }
    if waiting.is_empty() || !has_room(open, queued, messaging.config.sending.per_second) {
        return Ok(0);
    }
    let queued = queue(messaging, id, &waiting).await?;
    messaging.queued.notify_one();
    Ok(queued)
}

/// Whether the queue is short, where so many messages have no outcome and so many of them wait for no quiet
/// hour to end.
fn has_room(open: i64, queued: i64, per_second: u32) -> bool {
    open < OPEN_MAX && queued < QUEUE_MAX.max(QUEUE_SECONDS * i64::from(per_second))
}

/// Queues the messages of these people, unless the campaign has stopped or another replica was faster.
async fn queue(messaging: &Messaging, id: Uuid, people: &[SubjectId]) -> Result<usize, StoreError> {
    const START: &str = "
        UPDATE campaign_members SET state = 'started'
        WHERE campaign_id = $1 AND subject_id = ANY($2) AND state = 'waiting'
        RETURNING subject_id";
    const INSERT: &str = "
        INSERT INTO intents (id, subject_id, purpose, channel, template, language, state, requested_at,
                             changed_at, traceparent, kind, campaign_id)
        SELECT t.id, t.subject_id, c.purpose, c.channel, c.template, c.language, 'queued', $4, $4, $5,
               'template', c.campaign_id
        FROM campaigns c, unnest($2::uuid[], $3::uuid[]) AS t (id, subject_id)
        WHERE c.campaign_id = $1";
    const OF: &str = "SELECT purpose, channel, template FROM campaigns WHERE campaign_id = $1";
    let now = messaging.clock.now();
    let mut session = messaging.store.begin().await?;
    // The campaign's lock is that of its commands: what is paused or cancelled gets nothing new.
    session.lock_versions(&[people, &[id]].concat()).await?;
    let campaign = load(&mut session, id).await?;
    if campaign.is_none_or(|it| it.state != CampaignState::Running) {
        session.rollback().await?;
        return Ok(0);
    }
    let gone = fenced(session.conn(), people).await?;
    let started: Vec<SubjectId> =
        sqlx::query_scalar(START).bind(id).bind(people).fetch_all(session.conn()).await?;
    let started: Vec<SubjectId> = started.into_iter().filter(|it| !gone.contains(it)).collect();
    let row = sqlx::query(OF).bind(id).fetch_one(session.conn()).await?;
    let (purpose, channel): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let template: String = row.try_get(2)?;
    let mut messages = Vec::with_capacity(started.len());
    let mut appends = Vec::with_capacity(started.len());
    for subject in &started {
        let message_id = message_id(id, *subject);
        let (purpose, channel) = (purpose.clone(), channel.clone());
        let template = template.clone();
        let campaign_id = Some(id);
        let event =
            MessageRequested { message_id, purpose, channel, template, campaign_id, at: now };
        let event_id = messaging.ids.v7();
        appends.push(messaging.event(*subject, event_id, MESSAGE_REQUESTED, &event, now)?);
        messages.push(message_id);
    }
    session.append(appends).await?;
    sqlx::query(INSERT)
        .bind(id)
        .bind(messages)
        .bind(&started)
        .bind(now.to_sqlx())
        .bind(telemetry::traceparent())
        .execute(session.conn())
        .await?;
    session.commit().await?;
    Ok(started.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_short_at_night_too_and_never_empty_where_the_number_is_fast() {
        assert!(has_room(199, 199, 80));
        assert!(!has_room(200, 200, 80));
        assert!(has_room(4_999, 0, 80), "where it is day nobody waits for another country");
        assert!(!has_room(5_000, 0, 80), "a night of a million people is no queue of a million");
        assert!(has_room(1_999, 1_999, 1_000));
        assert!(!has_room(2_000, 2_000, 1_000));
    }

    #[test]
    fn a_person_has_one_message_in_a_campaign_and_another_in_the_next() {
        let (campaign, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (ada, eva) = (Uuid::from_u128(3), Uuid::from_u128(4));
        assert_eq!(message_id(campaign, ada), message_id(campaign, ada));
        assert_ne!(message_id(campaign, ada), message_id(campaign, eva));
        assert_ne!(message_id(campaign, ada), message_id(other, ada));
    }
}
