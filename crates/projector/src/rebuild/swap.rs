//! The last look and the change of tables. In one transaction: stop the live consumer at a
//! position, read what is missing up to it, compare every row, rename. Queries go on until the
//! rename, and what is appended meanwhile waits for the consumer, so it lands once.

use std::collections::BTreeMap;
use std::sync::Mutex;

use assent_bus::replay;
use assent_runtime::failpoint;
use jiff_sqlx::ToSqlx as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{NEAR, Rebuilder, own_positions, read_error, take_in};
use crate::apply;
use crate::error::ProjectorError;
use crate::model::Projection;

/// Tries to end the rebuild. `false`: the live one has run ahead, read on first.
pub(super) async fn swap(
    rebuilder: &Rebuilder,
    projection: Projection,
) -> Result<bool, ProjectorError> {
    let mut tx = rebuilder.pool.begin().await?;
    // The order of the consumer's own locks: positions, fences, tables.
    let target = stop_consumer(&mut tx, projection).await?;
    apply::hold_fences(&mut tx).await?;
    for table in projection.tables() {
        let statement = format!("LOCK TABLE live.{table}, next.{table} IN EXCLUSIVE MODE");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await?;
    }
    let from = own_positions(&mut tx, projection).await?;
    let from: BTreeMap<i32, i64> =
        target.keys().map(|p| (*p, from.get(p).copied().unwrap_or(0))).collect();
    let missing: i64 = target.iter().map(|(p, end)| (end - from[p]).max(0)).sum();
    if missing > NEAR {
        return Ok(false);
    }
    let batches = Mutex::new(Vec::new());
    replay::read(&rebuilder.bus, projection.topic(), &from, &target, |batch| {
        if let Ok(mut batches) = batches.lock() {
            batches.push(batch);
        }
        std::future::ready(Ok::<_, ProjectorError>(()))
    })
    .await
    .map_err(read_error)?;
    for batch in batches.into_inner().unwrap_or_default() {
        take_in(&mut tx, projection, &batch).await?;
    }

    let differences = compare(&mut tx, projection).await?;
    let accepted: bool =
        sqlx::query_scalar("SELECT accept_differences FROM rebuilds WHERE projection = $1")
            .bind(projection.name())
            .fetch_one(&mut *tx)
            .await?;
    let swapped = differences == 0 || accepted;
    if swapped {
        rename(&mut tx, rebuilder, projection).await?;
    } else {
        tracing::error!(projection = projection.name(), differences, "a rebuild is different");
    }
    sqlx::query(
        "UPDATE rebuilds SET state = $2, differences = $3, finished_at = $4 WHERE projection = $1",
    )
    .bind(projection.name())
    .bind(if swapped { "done" } else { "different" })
    .bind(differences)
    .bind(rebuilder.clock.now().to_sqlx())
    .execute(&mut *tx)
    .await?;
    failpoint::hit_async("projector.before_swap_commit").await;
    tx.commit().await?;
    tracing::info!(projection = projection.name(), differences, swapped, "rebuild ended");
    Ok(true)
}

/// Takes the positions of the live consumer: it can't commit before this transaction ends.
async fn stop_consumer(
    conn: &mut PgConnection,
    projection: Projection,
) -> Result<BTreeMap<i32, i64>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT partition, next_offset FROM eventstore.consumer_offsets
         WHERE consumer = $1 AND topic = $2 ORDER BY partition FOR UPDATE",
    )
    .bind(projection.consumer())
    .bind(projection.topic().suffix)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// How many rows are in one and not, byte for byte, in the other.
async fn compare(conn: &mut PgConnection, projection: Projection) -> Result<i64, sqlx::Error> {
    let mut differences = 0;
    for table in projection.tables() {
        let query = format!(
            "SELECT count(*) FROM (
                 (SELECT l::text FROM live.{table} l EXCEPT ALL SELECT n::text FROM next.{table} n)
                 UNION ALL
                 (SELECT n::text FROM next.{table} n EXCEPT ALL SELECT l::text FROM live.{table} l)
             ) AS different"
        );
        differences +=
            sqlx::query_scalar::<_, i64>(AssertSqlSafe(query)).fetch_one(&mut *conn).await?;
    }
    Ok(differences)
}

async fn rename(
    conn: &mut PgConnection,
    rebuilder: &Rebuilder,
    projection: Projection,
) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        let statements =
            format!("DROP TABLE live.{table}; ALTER TABLE next.{table} SET SCHEMA live;");
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *conn).await?;
    }
    sqlx::query(
        "UPDATE generations SET generation = generation + 1, since = $2 WHERE projection = $1",
    )
    .bind(projection.name())
    .bind(rebuilder.clock.now().to_sqlx())
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM rebuild_offsets WHERE projection = $1")
        .bind(projection.name())
        .execute(conn)
        .await?;
    Ok(())
}
