//! The loops behind campaigns. Any number of replicas may run them: whoever is faster does the work.

use std::convert::Infallible;
use std::time::Duration;

use assent_runtime::ops::Watchdog;
use assent_runtime::{Health, Lifecycle};
use tokio_util::sync::CancellationToken;

use super::{audience, dry_run, feeder, watch};
use crate::state::Messaging;

/// How often work is looked for when nothing announces it.
const POLL: Duration = Duration::from_millis(500);

/// How often campaigns are looked at that may have to pause: that nothing more goes out for bad news is the
/// claim's to see.
const WATCH: Duration = Duration::from_secs(2);

/// A loop that reports nothing for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the loops.
pub fn spawn(messaging: &Messaging, health: &Health, lifecycle: &Lifecycle) {
    let (stopping, watchdog) = (lifecycle.stopping(), health.watchdog("campaigns", PATIENCE));
    lifecycle.spawn("messaging.campaigns", prepare(messaging.clone(), stopping, watchdog));
    let (stopping, watchdog) = (lifecycle.stopping(), health.watchdog("feeder", PATIENCE));
    lifecycle.spawn("messaging.feeder", feed(messaging.clone(), stopping, watchdog));
    lifecycle.spawn("messaging.watch", watch(messaging.clone(), lifecycle.stopping()));
}

/// Takes audiences and tries campaigns dry, until `stopping`.
///
/// # Errors
/// Never: what fails is logged and tried again.
async fn prepare(
    messaging: Messaging,
    stopping: CancellationToken,
    watchdog: Watchdog,
) -> Result<(), Infallible> {
    while !stopping.is_cancelled() {
        watchdog.progress();
        let gathered = audience::round(&messaging).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "audiences wait");
            0
        });
        let tried = dry_run::round(&messaging).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "dry runs wait");
            0
        });
        if gathered + tried == 0 {
            rest(&messaging, &stopping).await;
        }
    }
    Ok(())
}

/// Feeds running campaigns, until `stopping`.
///
/// # Errors
/// Never: what fails is logged and tried again.
async fn feed(
    messaging: Messaging,
    stopping: CancellationToken,
    watchdog: Watchdog,
) -> Result<(), Infallible> {
    while !stopping.is_cancelled() {
        watchdog.progress();
        let moved = feeder::round(&messaging).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "campaigns wait");
            0
        });
        if moved == 0 {
            rest(&messaging, &stopping).await;
        }
    }
    Ok(())
}

/// Looks for what pauses a campaign, until `stopping`.
///
/// # Errors
/// Never: what fails is logged and tried again.
async fn watch(messaging: Messaging, stopping: CancellationToken) -> Result<(), Infallible> {
    while !stopping.is_cancelled() {
        if let Err(error) = watch::round(&messaging).await {
            tracing::warn!(%error, "campaigns are not watched");
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(WATCH) => {}
        }
    }
    Ok(())
}

async fn rest(messaging: &Messaging, stopping: &CancellationToken) {
    tokio::select! {
        () = stopping.cancelled() => {}
        () = messaging.campaigns.notified() => {}
        () = tokio::time::sleep(POLL) => {}
    }
}
