//! Access records and fingerprints of numbers end by age, and the vault tells what would go before it goes. It guarantees
//! that nothing younger than the settings say goes, and that a look is told to whoever watches also where nothing
//! went. People go by erasures, keys by their store.
//!
//! A fingerprint keeps a number out that nobody here has: whoever is here is found by the index before any fingerprint
//! is looked for, and whether she may be written to is the gate's. So a fingerprint that ends makes nobody contactable.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use assent_http::{Caller, Json, Problem, Query};
use assent_participant::Keeping;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use opentelemetry::global;
use opentelemetry::metrics::Gauge;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::VaultError;

/// How often it is looked. Days matter here.
const PAUSE: Duration = Duration::from_secs(3_600);
/// How soon it is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Rows that end in one transaction.
const TOGETHER: i64 = 1_000;
/// How long a record may outlive its term before somebody is told.
const LATE: SignedDuration = SignedDuration::from_hours(24);

static RAN: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.retention.ran")
        .with_description("When what is kept no longer was last looked for, in seconds since 1970.")
        .build()
});

static OVERDUE: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.retention.overdue")
        .with_description("What is kept for more than a day longer than it may be.")
        .build()
});

/// What would go.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetentionView {
    /// How long access records are kept, in days.
    access_record_days: u32,
    /// How many access records would go now, because they are older.
    access_records_due: i64,
    /// How long fingerprints of numbers that are on a list of opt-outs or were erased are kept, in days since the last
    /// reason for it.
    suppression_days: u32,
    /// How many there are.
    suppressions_kept: i64,
    /// How many of them would go now, because they are older.
    suppressions_due: i64,
}

/// By how many days to look.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// As if the configuration said so; not given: what it says.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1)]
    access_record_days: Option<NonZeroU32>,
    /// Likewise.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1)]
    suppression_days: Option<NonZeroU32>,
}

/// What ends by age here, and how much of it would go now? Nothing is done by asking.
///
/// Needs `subjects:resolve`: whoever may see access records may see how many there are.
#[utoipa::path(
    get, path = "/v1/retention", tag = "access", security(("bearer" = [])), params(Asked),
    responses((status = 200, body = RetentionView))
)]
pub(crate) async fn retention(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<RetentionView>, Problem> {
    caller.require("subjects:resolve")?;
    let now = app.clock.now();
    let days = asked.access_record_days.map(NonZeroU32::get);
    let access_record_days = days.unwrap_or(app.access_record_days);
    let access_records_due = due(app.pool(), cutoff(access_record_days, now)).await?;
    let days = asked.suppression_days.map(NonZeroU32::get);
    let suppression_days = days.unwrap_or(app.keeping.suppression_days);
    let older = Keeping::over(suppression_days, now);
    let suppressions_due = suppressions_due(app.pool(), older).await?;
    let suppressions_kept = sqlx::query_scalar("SELECT count(*) FROM suppressions")
        .fetch_one(app.pool())
        .await
        .map_err(VaultError::from)?;
    Ok(Json(RetentionView {
        access_record_days,
        access_records_due,
        suppression_days,
        suppressions_kept,
        suppressions_due,
    }))
}

async fn due(pool: &PgPool, older: Timestamp) -> Result<i64, VaultError> {
    const DUE: &str = "SELECT count(*) FROM access_records WHERE at < $1";
    Ok(sqlx::query_scalar(DUE).bind(older.to_sqlx()).fetch_one(pool).await?)
}

async fn suppressions_due(pool: &PgPool, older: Timestamp) -> Result<i64, VaultError> {
    const DUE: &str = "SELECT count(*) FROM suppressions WHERE recorded_at < $1";
    Ok(sqlx::query_scalar(DUE).bind(older.to_sqlx()).fetch_one(pool).await?)
}

fn cutoff(days: u32, now: Timestamp) -> Timestamp {
    let kept = SignedDuration::from_hours(24 * i64::from(days));
    // Postgres knows no times as old as a year of millions would give.
    now.checked_sub(kept).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH)
}

/// Ends what is too old until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: failures are logged and tried again.
pub(crate) async fn run(app: Arc<App>, stopping: CancellationToken) -> Result<(), Infallible> {
    loop {
        let now = app.clock.now();
        let records = forget(app.pool(), app.access_record_days, now).await;
        // Neither waits for the other.
        let prints = forget_suppressions(app.pool(), app.keeping.suppression_days, now).await;
        let ended = records.and(prints);
        let pause = match ended {
            Ok(_) => {
                RAN.record(u64::try_from(now.as_second()).unwrap_or_default(), &[]);
                PAUSE
            }
            Err(error) => {
                tracing::warn!(%error, "what is kept no longer can't be ended yet");
                RETRY
            }
        };
        let late = now.checked_sub(LATE).unwrap_or(now);
        let records = due(app.pool(), cutoff(app.access_record_days, late)).await;
        let prints =
            suppressions_due(app.pool(), Keeping::overdue(app.keeping.suppression_days, now)).await;
        if let (Ok(records), Ok(prints)) = (records, prints) {
            OVERDUE.record((records + prints).unsigned_abs(), &[]);
        }
        if stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

/// Ends the records of who opened what that are older than so many days; gives how many.
///
/// # Errors
/// When the database fails; what has ended stays so.
pub async fn forget(pool: &PgPool, days: u32, now: Timestamp) -> Result<u64, VaultError> {
    const FORGET: &str = "
        DELETE FROM access_records WHERE id IN (
            SELECT id FROM access_records WHERE at < $1 ORDER BY at LIMIT $2
            FOR UPDATE SKIP LOCKED)";
    piece_by_piece(pool, FORGET, cutoff(days, now)).await
}

/// Ends the fingerprints to which nothing was added for so many days; gives how many.
///
/// # Errors
/// When the database fails; what has ended stays so.
pub async fn forget_suppressions(
    pool: &PgPool,
    days: u32,
    now: Timestamp,
) -> Result<u64, VaultError> {
    const FORGET: &str = "
        DELETE FROM suppressions WHERE fingerprint IN (
            SELECT fingerprint FROM suppressions WHERE recorded_at < $1
            ORDER BY recorded_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    piece_by_piece(pool, FORGET, Keeping::over(days, now)).await
}

/// No lock is held for long, and replicas share the work.
async fn piece_by_piece(
    pool: &PgPool,
    forget: &'static str,
    older: Timestamp,
) -> Result<u64, VaultError> {
    let older = older.to_sqlx();
    let mut all = 0;
    loop {
        let piece = sqlx::query(forget).bind(older).bind(TOGETHER).execute(pool).await?;
        all += piece.rows_affected();
        if piece.rows_affected() < TOGETHER.unsigned_abs() {
            return Ok(all);
        }
    }
}
