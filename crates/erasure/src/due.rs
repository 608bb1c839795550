//! How many requests wait, by kind, and how many are late or soon will be: what alerts rest on. It
//! guarantees a figure for every kind, also none; each replica tells the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::rights::RequestKind;
use assent_runtime::Clock;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgPool, Row as _};
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Terms that end within a week are soon over.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How often it is counted.
const PAUSE: Duration = Duration::from_secs(15);

/// The requests of one kind that are not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// All of them.
    pub open: u64,
    /// Those whose term ends within a week.
    pub due_soon: u64,
    /// Those whose term is over; not those that a hold keeps waiting.
    pub overdue: u64,
    /// Erasures that a legal hold keeps waiting.
    pub held: u64,
    /// Those that had to be acknowledged and were not.
    pub unacknowledged: u64,
}

/// What waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Requests by kind.
    pub requests: BTreeMap<&'static str, Waiting>,
    /// Holds whose day of review has passed.
    pub holds_unreviewed: u64,
}

/// Counts.
///
/// # Errors
/// When the database fails.
pub async fn count(pool: &PgPool, now: Timestamp) -> Result<Due, sqlx::Error> {
    const REQUESTS: &str = "
        SELECT kind, count(*), count(*) FILTER (WHERE due > $1 AND due <= $2 AND NOT held),
               count(*) FILTER (WHERE due <= $1 AND NOT held),
               count(*) FILTER (WHERE acknowledge_by <= $1), count(*) FILTER (WHERE held)
        FROM (SELECT s.kind, s.due, s.acknowledge_by,
                     coalesce(r.status = 'on_hold', p.status = 'on_hold', false) AS held
              FROM subject_requests s LEFT JOIN requests r USING (request_id)
                   LEFT JOIN purpose_erasures p USING (request_id)
              -- A replica of the version before completes erasures in its own table.
              WHERE s.closed_at IS NULL AND r.completed_at IS NULL) open
        GROUP BY kind";
    const HOLDS: &str = "
        SELECT count(*) FROM holds
        WHERE released_at IS NULL AND (ends_at IS NULL OR ends_at > $1) AND review_on < $2";
    let soon = now.checked_add(SOON).unwrap_or(Timestamp::MAX);
    let mut due = Due::default();
    for kind in RequestKind::ALL {
        due.requests.insert(kind.name(), Waiting::default());
    }
    let rows =
        sqlx::query(REQUESTS).bind(now.to_sqlx()).bind(soon.to_sqlx()).fetch_all(pool).await?;
    for row in rows {
        let count = |column: usize| -> Result<u64, sqlx::Error> {
            Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
        };
        let waiting = Waiting {
            open: count(1)?,
            due_soon: count(2)?,
            overdue: count(3)?,
            unacknowledged: count(4)?,
            held: count(5)?,
        };
        let kind: String = row.try_get(0)?;
        if let Some(of_kind) = due.requests.get_mut(kind.as_str()) {
            *of_kind = waiting;
        }
    }
    let today = now.to_zoned(TimeZone::UTC).date();
    let unreviewed: i64 =
        sqlx::query_scalar(HOLDS).bind(now.to_sqlx()).bind(today.to_sqlx()).fetch_one(pool).await?;
    due.holds_unreviewed = u64::try_from(unreviewed).unwrap_or_default();
    Ok(due)
}

/// Tells it until `stopping`. Failures are logged and outlived.
///
/// # Errors
/// Never; the type is the lifecycle's.
pub async fn report(
    pool: PgPool,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        let now = clock.now();
        match count(&pool, now).await {
            Ok(due) => metrics::waiting(&due, now),
            Err(error) => tracing::warn!(%error, "requests that are due can't be counted"),
        }
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
