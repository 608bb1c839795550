//! Counts, in the transaction that claims messages, what may go out: caps per person and purpose, the day's
//! ceiling of the number, the provider's tier. It guarantees that claimers of all replicas count one
//! after the other, so that no race exceeds a limit, and that what certainly did not go out counts no
//! more; what the limits are is [`crate::domain::limits`]'s to say.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use assent_contracts::SubjectId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, Row as _};

use crate::consequences::{Obstacle, windows};
use crate::domain::limits::{Ceilings, DAY};
use crate::intents::Claimed;
use crate::state::Messaging;

/// Our cap for this person and purpose: the message ends, for later it would be another one.
const CAPPED: &str = "frequency_capped";
/// The number has sent enough for a day.
const CEILING: &str = "daily_ceiling";
/// The business has spoken first to enough people for a day.
const TIER: &str = "recipient_tier";
/// How long a message waits for room: not less, for the queue would turn; not more, for ceilings may be
/// raised.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(900));

/// Writes down which of the claimed messages begin their try, and tells the others what stands in their way.
///
/// # Errors
/// When the database fails; then nothing may be claimed.
pub async fn apply(
    conn: &mut PgConnection,
    messaging: &Messaging,
    claimed: &mut [Claimed],
) -> Result<(), sqlx::Error> {
    // Another claimer's counts are in what the statements after this one see, or it counts ours.
    const LOCK: &str = "SELECT pg_advisory_xact_lock(1, hashtext($1))";
    const BEGIN: &str = "
        UPDATE intents SET started_at = clock_timestamp(), speaks_first = t.speaks_first
        FROM unnest($1::uuid[], $2::boolean[]) AS t (id, speaks_first) WHERE intents.id = t.id";
    if claimed.is_empty() {
        return Ok(());
    }
    let number = &messaging.config.whatsapp.phone_number_id;
    sqlx::query(LOCK).bind(number).execute(&mut *conn).await?;
    let mut counted = Counted::read(conn, messaging, claimed).await?;
    let (mut begun, mut speaking) = (Vec::new(), Vec::new());
    let mut is_bulk = false;
    for intent in claimed.iter_mut() {
        let bulk = bulk(messaging, intent);
        match counted.take(messaging, intent, bulk) {
            Ok(speaks_first) => {
                is_bulk |= bulk;
                begun.push(intent.id);
                speaking.push(speaks_first);
            }
            Err(obstacle) => intent.limit = Some(obstacle),
        }
    }
    sqlx::query(BEGIN).bind(begun).bind(speaking).execute(&mut *conn).await?;
    if is_bulk && counted.day.number == 0 {
        first(conn, number).await?;
    }
    Ok(())
}

/// Whether a message is one of many: of a campaign, or marketing.
fn bulk(messaging: &Messaging, intent: &Claimed) -> bool {
    intent.campaign.is_some() || messaging.config.marketing_purposes.contains(&intent.purpose)
}

/// Its days count from its first message to many.
async fn first(conn: &mut PgConnection, number: &str) -> Result<(), sqlx::Error> {
    const FIRST: &str = "
        INSERT INTO sending_numbers AS it (phone_number_id, first_at) VALUES ($1, now())
        ON CONFLICT (phone_number_id) DO UPDATE SET first_at = EXCLUDED.first_at
            WHERE it.first_at IS NULL";
    sqlx::query(FIRST).bind(number).execute(conn).await.map(|_| ())
}

/// What went out before this claim.
struct Counted {
    /// How long ago, by person and purpose.
    ago: HashMap<(SubjectId, String), Vec<Duration>>,
    day: Day,
    /// People to whom the business spoke first in the last day: how many, and those of this claim.
    people: u64,
    known: HashSet<SubjectId>,
    /// When the first of them leaves the window.
    people_room: Duration,
    /// Who wrote within a day.
    windows: HashSet<SubjectId>,
}

impl Counted {
    async fn read(
        conn: &mut PgConnection,
        messaging: &Messaging,
        claimed: &[Claimed],
    ) -> Result<Self, sqlx::Error> {
        let subjects: Vec<SubjectId> = claimed.iter().map(|it| it.subject).collect();
        let day = day(&mut *conn, messaging).await?;
        let mut counted = Self {
            ago: ago(&mut *conn, messaging, claimed).await?,
            day,
            people: 0,
            known: HashSet::new(),
            people_room: DAY,
            windows: windows(&mut *conn, &subjects, messaging.clock.now()).await?,
        };
        if counted.day.ceilings.people.is_some() {
            counted.read_people(conn, &subjects).await?;
        }
        Ok(counted)
    }

    async fn read_people(
        &mut self,
        conn: &mut PgConnection,
        subjects: &[SubjectId],
    ) -> Result<(), sqlx::Error> {
        const PEOPLE: &str = "
            SELECT count(*), coalesce(extract(epoch FROM now() - min(last)), 0)::float8
            FROM (SELECT max(started_at) AS last FROM intents
                  WHERE started_at > now() - interval '24 hours' AND speaks_first
                  GROUP BY subject_id) AS people";
        const KNOWN: &str = "
            SELECT DISTINCT subject_id FROM intents
            WHERE subject_id = ANY($1) AND started_at > now() - interval '24 hours' AND speaks_first";
        let row = sqlx::query(PEOPLE).fetch_one(&mut *conn).await?;
        self.people = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
        self.people_room = left(row.try_get(1)?);
        let known: Vec<SubjectId> =
            sqlx::query_scalar(KNOWN).bind(subjects).fetch_all(conn).await?;
        self.known = known.into_iter().collect();
        Ok(())
    }

    /// Counts one more message, if nothing stands in its way; gives whether the business speaks first.
    fn take(
        &mut self,
        messaging: &Messaging,
        intent: &Claimed,
        bulk: bool,
    ) -> Result<bool, Obstacle> {
        let Day { ceilings, number, used, room } = &mut self.day;
        let speaks_first = intent.template.is_some() && !self.windows.contains(&intent.subject);
        let ago = self.ago.entry((intent.subject, intent.purpose.clone())).or_default();
        if messaging.config.limits.caps.is_full(&intent.purpose, ago) {
            return Err(Obstacle::Refuse(CAPPED));
        }
        if bulk && ceilings.on(*number).is_some_and(|most| *used >= most) {
            return Err(Obstacle::Wait(CEILING, *room));
        }
        let is_new = speaks_first && !self.known.contains(&intent.subject);
        if is_new && ceilings.people.is_some_and(|most| self.people >= most) {
            return Err(Obstacle::Wait(TIER, self.people_room));
        }
        ago.push(Duration::ZERO);
        *used += u64::from(bulk);
        if is_new {
            self.people += 1;
            self.known.insert(intent.subject);
        }
        Ok(speaks_first)
    }
}

/// How long ago messages of capped purposes went out to these people.
async fn ago(
    conn: &mut PgConnection,
    messaging: &Messaging,
    claimed: &[Claimed],
) -> Result<HashMap<(SubjectId, String), Vec<Duration>>, sqlx::Error> {
    const AGO: &str = "
        SELECT subject_id, purpose, extract(epoch FROM now() - started_at)::float8 FROM intents
        WHERE subject_id = ANY($1) AND purpose = ANY($2)
          AND started_at > now() - make_interval(secs => $3)";
    let caps = &messaging.config.limits.caps;
    let capped = caps.purposes();
    let people: Vec<SubjectId> = claimed
        .iter()
        .filter(|it| capped.contains(&it.purpose.as_str()))
        .map(|it| it.subject)
        .collect();
    let mut ago: HashMap<(SubjectId, String), Vec<Duration>> = HashMap::new();
    if people.is_empty() {
        return Ok(ago);
    }
    let rows = sqlx::query(AGO)
        .bind(people)
        .bind(capped)
        .bind(caps.longest().as_secs_f64())
        .fetch_all(conn)
        .await?;
    for row in rows {
        let seconds = row.try_get::<f64, _>(2)?.max(0.0);
        let of = ago.entry((row.try_get(0)?, row.try_get(1)?)).or_default();
        of.push(Duration::from_secs_f64(seconds));
    }
    Ok(ago)
}

/// A number's day.
#[derive(Debug, Clone)]
pub struct Day {
    /// Its ceilings, with the tier as the provider told it.
    pub ceilings: Ceilings,
    /// Which day of the number it is, counted from 0.
    pub number: u64,
    /// Messages of campaigns and of marketing in the last 24 hours.
    pub used: u64,
    /// When the first of them leaves the window.
    room: Duration,
}

/// The number's day.
///
/// # Errors
/// When the database fails.
pub async fn day(conn: &mut PgConnection, messaging: &Messaging) -> Result<Day, sqlx::Error> {
    const NUMBER: &str = "
        SELECT coalesce(floor(extract(epoch FROM now() - first_at) / 86400), 0)::bigint, people_per_day
        FROM sending_numbers WHERE phone_number_id = $1";
    const USED: &str = "
        SELECT count(*), coalesce(extract(epoch FROM now() - min(started_at)), 0)::float8 FROM intents
        WHERE started_at > now() - interval '24 hours'
          AND (campaign_id IS NOT NULL OR purpose = ANY($1))";
    let config = &messaging.config;
    let number = &config.whatsapp.phone_number_id;
    let row = sqlx::query(NUMBER).bind(number).fetch_optional(&mut *conn).await?;
    let (day, told): (i64, Option<i64>) = match row {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (0, None),
    };
    let mut ceilings = config.limits.ceilings.clone();
    if let Some(told) = told {
        ceilings.people = u64::try_from(told).ok();
    }
    let row = sqlx::query(USED).bind(&config.marketing_purposes).fetch_one(conn).await?;
    Ok(Day {
        ceilings,
        number: u64::try_from(day).unwrap_or_default(),
        used: u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default(),
        room: left(row.try_get(1)?),
    })
}

/// How long what happened so many seconds ago stays in the window.
fn left(seconds: f64) -> Duration {
    DAY.saturating_sub(Duration::from_secs_f64(seconds.max(0.0))).clamp(PAUSE.0, PAUSE.1)
}

/// What the provider tells of the number: its quality, and its tier. Older news changes nothing.
///
/// # Errors
/// When the database fails.
pub async fn hear(
    conn: &mut PgConnection,
    phone_number_id: &str,
    event: &str,
    tier: Option<&str>,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    const HEAR: &str = "
        INSERT INTO sending_numbers AS it (phone_number_id, flagged_at, people_per_day, told_at)
        VALUES ($1, CASE WHEN $2 = 'low' THEN clock_timestamp() END, $3, $4)
        ON CONFLICT (phone_number_id) DO UPDATE
            SET flagged_at = CASE $2 WHEN 'low' THEN clock_timestamp() WHEN 'well' THEN NULL
                                     ELSE it.flagged_at END,
                people_per_day = coalesce($3, it.people_per_day), told_at = $4
            WHERE it.told_at IS NULL OR it.told_at <= $4";
    // There may be room now.
    const WAKE: &str = "
        UPDATE intents SET not_before = now()
        WHERE state = 'queued' AND not_before > now() AND reasons = ARRAY[$1]";
    let quality = match event {
        "FLAGGED" | "DOWNGRADE" => "low",
        "UNFLAGGED" | "UPGRADE" => "well",
        _ => "unchanged",
    };
    tracing::warn!(event, tier, "the provider tells of the number");
    sqlx::query(HEAR)
        .bind(phone_number_id)
        .bind(quality)
        .bind(tier.and_then(people))
        .bind(said_at.to_sqlx())
        .execute(&mut *conn)
        .await?;
    sqlx::query(WAKE).bind(TIER).execute(conn).await.map(|_| ())
}

/// To how many people in a day a tier lets the business speak first; -1: unlimited.
fn people(tier: &str) -> Option<i64> {
    match tier.strip_prefix("TIER_")? {
        "UNLIMITED" => Some(-1),
        text => match text.strip_suffix('K') {
            Some(thousands) => thousands.parse::<i64>().ok()?.checked_mul(1_000),
            None => text.parse().ok(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_read_as_the_provider_names_them() {
        let tiers = ["TIER_250", "TIER_2K", "TIER_100K", "TIER_UNLIMITED", "TIER_NOT_SET", "250"];
        let people: Vec<_> = tiers.into_iter().map(super::people).collect();
        assert_eq!(people, [Some(250), Some(2_000), Some(100_000), Some(-1), None, None]);
    }

    #[test]
    fn what_waits_for_room_waits_no_longer_than_a_quarter_of_an_hour() {
        assert_eq!(left(0.0), PAUSE.1);
        assert_eq!(left(86_390.0), Duration::from_secs(10));
        assert_eq!(left(86_400.0), PAUSE.0);
    }
}
