//! What a number may send: its day, how much of it is gone, and what the provider tells of it. It guarantees
//! that older news changes nothing; what stands in a message's way is [`super`]'s to say.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgPool, Row as _};

use crate::domain::limits::{Ceilings, DAY};
use crate::state::Messaging;

/// The business has spoken first to enough people for a day.
pub(super) const TIER: &str = "recipient_tier";
/// How long a message waits for room: not less, for the queue would turn; not more, for ceilings may be
/// raised.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(900));
/// Messages that are woken in one transaction.
const WAKE_CHUNK: i64 = 1_000;

/// A number's day.
#[derive(Debug, Clone)]
pub struct Day {
    /// Its ceilings, with the tier as the provider told it.
    pub ceilings: Ceilings,
    /// Which day of the number it is, counted from 0.
    pub number: u64,
    /// Whether its days count yet.
    pub(super) has_begun: bool,
}

/// The number's day.
///
/// # Errors
/// When the database fails.
pub async fn day(conn: &mut PgConnection, messaging: &Messaging) -> Result<Day, sqlx::Error> {
    const NUMBER: &str = "
        SELECT floor(extract(epoch FROM now() - first_at) / 86400)::bigint, people_per_day
        FROM sending_numbers WHERE phone_number_id = $1";
    let config = &messaging.config;
    let number = &config.whatsapp.phone_number_id;
    let row = sqlx::query(NUMBER).bind(number).fetch_optional(&mut *conn).await?;
    let (day, told): (Option<i64>, Option<i64>) = match row {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (None, None),
    };
    let mut ceilings = config.limits.ceilings.clone();
    if let Some(told) = told {
        ceilings.people = u64::try_from(told).ok();
    }
    let number = day.and_then(|day| u64::try_from(day).ok()).unwrap_or_default();
    Ok(Day { ceilings, number, has_begun: day.is_some() })
}

/// Its days count from its first message to many. Where no number's days were ever counted, that is one
/// of before there were limits.
pub(super) async fn first(
    conn: &mut PgConnection,
    messaging: &Messaging,
) -> Result<(), sqlx::Error> {
    const FIRST: &str = "
        INSERT INTO sending_numbers AS it (phone_number_id, first_at)
        SELECT $1, CASE WHEN EXISTS (SELECT FROM sending_numbers WHERE first_at IS NOT NULL) THEN now()
                   ELSE coalesce((SELECT min(started_at) FROM intents
                                  WHERE started_at IS NOT NULL
                                    AND (campaign_id IS NOT NULL OR purpose = ANY($2))), now()) END
        ON CONFLICT (phone_number_id) DO UPDATE SET first_at = EXCLUDED.first_at
            WHERE it.first_at IS NULL";
    let config = &messaging.config;
    sqlx::query(FIRST)
        .bind(&config.whatsapp.phone_number_id)
        .bind(&config.marketing_purposes)
        .execute(conn)
        .await
        .map(|_| ())
}

/// What of a day's room is gone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Messages of campaigns and of marketing in the last 24 hours.
    pub messages: u64,
    /// When the first of them leaves the window.
    pub(super) room: Duration,
}

/// How much of a day's room is gone, counted up to `most`: what is beyond changes nothing.
///
/// # Errors
/// When the database fails.
pub async fn used(
    conn: &mut PgConnection,
    messaging: &Messaging,
    most: u64,
) -> Result<Used, sqlx::Error> {
    const USED: &str = "
        SELECT count(*), coalesce(extract(epoch FROM now() - min(started_at)), 0)::float8
        FROM (SELECT started_at FROM intents
              WHERE started_at > now() - interval '24 hours'
                AND (campaign_id IS NOT NULL OR purpose = ANY($1))
              ORDER BY started_at LIMIT $2) AS oldest";
    let purposes = &messaging.config.marketing_purposes;
    let row = sqlx::query(USED).bind(purposes).bind(rows(most)).fetch_one(conn).await?;
    let messages = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
    Ok(Used { messages, room: left(row.try_get(1)?) })
}

pub(super) fn rows(most: u64) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// How long what happened so many seconds ago stays in the window.
pub(super) fn left(seconds: f64) -> Duration {
    DAY.saturating_sub(Duration::from_secs_f64(seconds.max(0.0))).clamp(PAUSE.0, PAUSE.1)
}

/// What the provider tells of the number, its quality (`event`; none: it is another number's), and of the
/// portfolio, the tier that all its numbers share. Older news of either changes nothing.
///
/// # Errors
/// When the database fails.
pub async fn hear(
    conn: &mut PgConnection,
    phone_number_id: &str,
    event: Option<&str>,
    tier: Option<&str>,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    const HEAR: &str = "
        INSERT INTO sending_numbers AS it (phone_number_id, flagged_at, people_per_day, told_at,
                                           tier_told_at)
        VALUES ($1, CASE WHEN $2 = 'low' THEN clock_timestamp() END, $3,
                CASE WHEN $2 IS NOT NULL THEN $4 END, CASE WHEN $3 IS NOT NULL THEN $4 END)
        ON CONFLICT (phone_number_id) DO UPDATE
            SET flagged_at = CASE WHEN it.told_at > $4 THEN it.flagged_at
                                  WHEN $2 = 'low' THEN clock_timestamp()
                                  WHEN $2 = 'well' THEN NULL
                                  ELSE it.flagged_at END,
                told_at = greatest(it.told_at, EXCLUDED.told_at),
                people_per_day = CASE WHEN it.tier_told_at > $4 THEN it.people_per_day
                                      ELSE coalesce($3, it.people_per_day) END,
                tier_told_at = greatest(it.tier_told_at, EXCLUDED.tier_told_at)";
    let quality = event.map(|event| match event {
        "FLAGGED" | "DOWNGRADE" => "low",
        "UNFLAGGED" | "UPGRADE" => "well",
        _ => "unchanged",
    });
    tracing::warn!(event, tier, "the provider tells of the number");
    sqlx::query(HEAR)
        .bind(phone_number_id)
        .bind(quality)
        .bind(tier.and_then(people))
        .bind(said_at.to_sqlx())
        .execute(conn)
        .await
        .map(|_| ())
}

/// Lets what waits for the tier be looked at again: there may be room now. What is locked meanwhile waits
/// for its own time.
///
/// # Errors
/// When the database fails.
pub async fn wake(pool: &PgPool) -> Result<(), sqlx::Error> {
    const WAKE: &str = "
        UPDATE intents SET not_before = now()
        WHERE id IN (SELECT id FROM intents
                     WHERE state = 'queued' AND not_before > now() AND reasons = ARRAY[$1]
                     ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)";
    loop {
        let woken = sqlx::query(WAKE).bind(TIER).bind(WAKE_CHUNK).execute(pool).await?;
        if woken.rows_affected() < WAKE_CHUNK.unsigned_abs() {
            return Ok(());
        }
    }
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
