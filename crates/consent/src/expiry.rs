//! Writes down that a consent's time is over. The verdict knows it without (it compares the clock),
//! so nothing depends on this being quick; what it guarantees is that history and read models say
//! so at last.

use std::sync::Arc;
use std::time::Duration;

use assent_eventstore::batcher::Batcher;
use assent_runtime::Clock;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::commands::{LedgerCommand, LedgerHandler, Wish};
use crate::domain::scope::Scope;

const PAUSE: Duration = Duration::from_secs(1);
const ROUND_MAX: i64 = 500;

/// Looks every second until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: failures are logged and tried again.
pub async fn run(
    pool: PgPool,
    batcher: Batcher<LedgerHandler>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        if let Err(error) = codes::forget_old(&pool, clock.now()).await {
            tracing::warn!(%error, "codes that are over stay");
        }
        loop {
            match round(&pool, &batcher, &*clock).await {
                Ok(found) if found == ROUND_MAX as usize => {}
                Ok(_) => break,
                Err(problem) => {
                    tracing::warn!(problem, "expiries wait");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Expires what is due; gives how many were found.
///
/// # Errors
/// What stands in the way.
pub async fn round(
    pool: &PgPool,
    batcher: &Batcher<LedgerHandler>,
    clock: &dyn Clock,
) -> Result<usize, String> {
    const DUE: &str = "
        SELECT subject_id, purpose, channel FROM consent_lines
        WHERE state = 'given' AND valid_until IS NOT NULL AND valid_until <= $1
        ORDER BY valid_until LIMIT $2";
    let due = sqlx::query(DUE)
        .bind(clock.now().to_sqlx())
        .bind(ROUND_MAX)
        .fetch_all(pool)
        .await
        .map_err(|error| error.to_string())?;
    let command = |row: &PgRow| {
        let scope = Scope { purpose: row.try_get(1)?, channel: row.try_get(2)? };
        Ok(LedgerCommand::of_ours(row.try_get(0)?, Wish::Expire { scope }))
    };
    let commands = due.iter().map(command).collect::<Result<Vec<_>, sqlx::Error>>();
    for outcome in batcher.run_each(commands.map_err(|error| error.to_string())?).await {
        outcome.map_err(|error| error.to_string())?;
    }
    Ok(due.len())
}
