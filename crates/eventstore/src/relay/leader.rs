//! Who relays: the holder of a session's advisory lock. It guarantees that a leader that stops
//! answering, be it dead, frozen or cut off, loses the lock within the lease, because Postgres ends
//! its idle session; that a deposed leader stops sending at once is neither guaranteed nor needed.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::Gauge;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::pump::Pump;
use super::{Publisher, RelayConfig};
use crate::EventStore;

/// The advisory lock of the leader. Advisory locks are per database, so one number serves all services.
pub const LOCK: i64 = 0x0061_7373_656e_7431;
const CHANNEL: &str = "assent_outbox";
/// Hints of one process to the leader in another go out at most this often.
const HINT_PAUSE: Duration = Duration::from_millis(2);
const BACKLOG_PAUSE: Duration = Duration::from_secs(5);
/// Above this the backlog is not counted further.
const BACKLOG_MAX: i64 = 1_000_000;

/// Waits to become the leader, leads until that ends.
pub(super) async fn term<P: Publisher>(
    store: &EventStore,
    publisher: &P,
    config: &RelayConfig,
    stopping: &CancellationToken,
) -> Result<(), sqlx::Error> {
    let options = store.pool().connect_options();
    let Some(mut lease) =
        stopping.run_until_cancelled(elected(store, &options, config)).await.transpose()?
    else {
        return Ok(());
    };
    tracing::info!("this relay leads");
    let ended = tokio::select! {
        ended = lead(store, &options, publisher, config, stopping) => ended,
        lost = keep(&mut lease, config.lease) => Err(lost),
    };
    // Closing gives the lock back at once.
    lease.close().await.ok();
    ended
}

/// Returns the connection that holds the lock.
async fn elected(
    store: &EventStore,
    options: &PgConnectOptions,
    config: &RelayConfig,
) -> Result<PgConnection, sqlx::Error> {
    // The lease: a session that is silent for longer is ended by Postgres, and its lock with it.
    // This also covers a machine that vanished without closing its connections.
    let lease_ms = config.lease.as_millis().to_string();
    let options = options.clone().options([("idle_session_timeout", lease_ms.as_str())]);
    let mut conn = options.connect().await?;
    loop {
        // Waiting inside pg_advisory_lock would hold a snapshot and keep vacuum from the outbox.
        let won: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut conn)
            .await?;
        if won {
            return Ok(conn);
        }
        let next = tokio::time::sleep(config.candidacy.min(config.lease / 4));
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                () = store.outbox_hint().notified() => {
                    sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(&mut conn).await?;
                    tokio::time::sleep(HINT_PAUSE).await;
                }
            }
        }
    }
}

/// Shows signs of life until there are none; returns why.
async fn keep(lease: &mut PgConnection, length: Duration) -> sqlx::Error {
    let mut beat = tokio::time::interval(length / 4);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        match tokio::time::timeout(length / 2, lease.execute("SELECT 1")).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error,
            Err(_) => return sqlx::Error::Protocol("the lease could not be kept in time".into()),
        }
    }
}

async fn lead<P: Publisher>(
    store: &EventStore,
    options: &PgConnectOptions,
    publisher: &P,
    config: &RelayConfig,
    stopping: &CancellationToken,
) -> Result<(), sqlx::Error> {
    let listening = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let mut listener = PgListener::connect_with(&listening).await?;
    listener.listen(CHANNEL).await?;
    let wake = Arc::new(tokio::sync::Notify::new());
    let pump = Pump::start(options, publisher, config, Arc::clone(&wake)).await?;
    let backlog = Backlog::new();
    tokio::select! {
        ended = pump.run(stopping) => ended,
        failed = hear(store, &mut listener, &wake) => Err(failed),
        () = report_backlog(store, &backlog) => Ok(()),
    }
}

/// Wakes the pump on hints, from this process and from others.
async fn hear(
    store: &EventStore,
    listener: &mut PgListener,
    wake: &tokio::sync::Notify,
) -> sqlx::Error {
    loop {
        tokio::select! {
            () = store.outbox_hint().notified() => {}
            heard = listener.recv() => if let Err(error) = heard { return error },
        }
        wake.notify_one();
    }
}

/// What is still in the outbox, as the leader tells it. Whoever leads no longer has nothing to tell.
struct Backlog(Gauge<i64>);

impl Backlog {
    fn new() -> Self {
        let gauge = opentelemetry::global::meter("assent")
            .i64_gauge("assent.outbox.backlog")
            .with_description(
                "Outbox rows that Kafka has not acknowledged yet; counted up to a million",
            )
            .with_unit("{row}")
            .build();
        Self(gauge)
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.0.record(0, &[]);
    }
}

async fn report_backlog(store: &EventStore, backlog: &Backlog) {
    let mut tick = tokio::time::interval(BACKLOG_PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match store.backlog(BACKLOG_MAX).await {
            Ok(rows) => backlog.0.record(rows, &[]),
            Err(error) => tracing::warn!(%error, "the backlog of the outbox is not known"),
        }
    }
}
