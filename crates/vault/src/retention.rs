//! Access records end by age, and the vault tells what would go before it goes. It guarantees that nothing younger
//! than the setting says goes, and that a look is told to whoever watches also where nothing went. People go by
//! erasures, keys by their store.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use assent_http::{Caller, Json, Problem, Query};
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
/// Records that end in one transaction.
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
    /// Fingerprints of numbers that are on a list of opt-outs or were erased: no law ends them, and none goes.
    suppressions_kept: i64,
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
    let asked = asked.access_record_days.map(NonZeroU32::get);
    let access_record_days = asked.unwrap_or(app.access_record_days);
    let older = cutoff(access_record_days, app.clock.now());
    let access_records_due = due(app.pool(), older).await?;
    let suppressions_kept = sqlx::query_scalar("SELECT count(*) FROM suppressions")
        .fetch_one(app.pool())
        .await
        .map_err(VaultError::from)?;
    Ok(Json(RetentionView { access_record_days, access_records_due, suppressions_kept }))
}

async fn due(pool: &PgPool, older: Timestamp) -> Result<i64, VaultError> {
    const DUE: &str = "SELECT count(*) FROM access_records WHERE at < $1";
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
        let ended = forget(app.pool(), app.access_record_days, now).await;
        let pause = match ended {
            Ok(_) => {
                RAN.record(u64::try_from(now.as_second()).unwrap_or_default(), &[]);
                PAUSE
            }
            Err(error) => {
                tracing::warn!(%error, "access records can't be ended yet");
                RETRY
            }
        };
        let late = now.checked_sub(LATE).unwrap_or(now);
        if let Ok(overdue) = due(app.pool(), cutoff(app.access_record_days, late)).await {
            OVERDUE.record(overdue.unsigned_abs(), &[]);
        }
        if stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

/// Ends the records that are older than so many days; gives how many.
///
/// # Errors
/// When the database fails; what has ended stays so.
pub async fn forget(pool: &PgPool, days: u32, now: Timestamp) -> Result<u64, VaultError> {
    const FORGET: &str = "
        DELETE FROM access_records WHERE id IN (
            SELECT id FROM access_records WHERE at < $1 ORDER BY at LIMIT $2
            FOR UPDATE SKIP LOCKED)";
    let older = cutoff(days, now).to_sqlx();
    let mut all = 0;
    // Piece by piece: no lock is held for long, and replicas share the work.
    loop {
        let piece = sqlx::query(FORGET).bind(older).bind(TOGETHER).execute(pool).await?;
        all += piece.rows_affected();
        if piece.rows_affected() < TOGETHER.unsigned_abs() {
            return Ok(all);
        }
    }
}
