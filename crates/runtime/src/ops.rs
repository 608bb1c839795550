//! The operations port: `/livez`, `/readyz`, `/metrics`, apart from the API and without keys. It
//! guarantees that a probe answers within a second; what counts as ready is said by the services.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::clock::{Clock, SystemClock};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Telemetry;

const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

type Check =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

#[derive(Default)]
struct Checks {
    ready: BTreeMap<&'static str, Check>,
    live: BTreeMap<&'static str, Watchdog>,
}

/// What a process says about itself. Clones speak of the same process.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<Checks>>);

impl Health {
    /// Nothing to check yet: live and ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a readiness check: can requests be served (its stores answer)? The error is a reason
    /// for operators. A check that takes longer than a second has failed.
    pub fn ready_check<F>(&self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        self.with(|checks| checks.ready.insert(name, check));
    }

    /// Adds a liveness watchdog: a loop that must report progress at least every `patience`,
    /// else the process is to be restarted.
    #[must_use]
    pub fn watchdog(&self, name: &'static str, patience: Duration) -> Watchdog {
        let watchdog = Watchdog { last: Arc::new(Mutex::new(SystemClock.boottime())), patience };
        self.with(|checks| checks.live.insert(name, watchdog.clone()));
        watchdog
    }

    /// Runs every readiness check; the failed ones with their reasons.
    pub async fn unready(&self) -> Vec<(&'static str, String)> {
        let checks: Vec<_> =
            self.with(|checks| checks.ready.iter().map(|(n, c)| (*n, Arc::clone(c))).collect());
        let mut failed = Vec::new();
        for (name, check) in checks {
            match tokio::time::timeout(CHECK_TIMEOUT, check()).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => failed.push((name, reason)),
                Err(_) => failed.push((name, "no answer within a second".to_owned())),
            }
        }
        failed
    }

    /// The watchdogs that heard nothing for too long.
    #[must_use]
    pub fn stuck(&self) -> Vec<&'static str> {
        self.with(|checks| {
            checks.live.iter().filter(|(_, dog)| dog.is_stuck()).map(|(name, _)| *name).collect()
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut Checks) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Held by a loop to tell that it is getting on.
#[derive(Debug, Clone)]
pub struct Watchdog {
    last: Arc<Mutex<Duration>>,
    patience: Duration,
}

impl Watchdog {
    /// The loop came round.
    pub fn progress(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = SystemClock.boottime();
    }

    fn is_stuck(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        SystemClock.boottime().saturating_sub(last) > self.patience
    }
}

#[derive(Clone)]
struct Ops {
    health: Health,
    telemetry: Telemetry,
    lifecycle: Lifecycle,
}

/// Serves the operations port until the soft stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    telemetry: Telemetry,
    lifecycle: Lifecycle,
) -> std::io::Result<()> {
    let stopping = lifecycle.stopping();
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Ops { health, telemetry, lifecycle });
    axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await
}

async fn livez(State(ops): State<Ops>) -> Response {
    let stuck = ops.health.stuck();
    if stuck.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", stuck.join(", "))).into_response()
}

async fn readyz(State(ops): State<Ops>) -> Response {
    if ops.lifecycle.stopping().is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let unready = ops.health.unready().await;
    if unready.is_empty() {
        return "ok\n".into_response();
    }
    let lines: String = unready.iter().map(|(name, why)| format!("{name}: {why}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics(State(ops): State<Ops>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], ops.telemetry.metrics_text())
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_names_what_is_missing() {
        let health = Health::new();
        health.ready_check("postgres", || async { Ok(()) });
        assert!(health.unready().await.is_empty());
        health.ready_check("kafka", || async { Err("no broker".to_owned()) });
        assert_eq!(health.unready().await, [("kafka", "no broker".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_has_failed() {
        let health = Health::new();
        health.ready_check("postgres", std::future::pending);
        assert_eq!(health.unready().await.len(), 1);
    }

    #[test]
    fn a_loop_that_stands_still_is_stuck() {
        let health = Health::new();
        let fast = health.watchdog("consumer", Duration::from_secs(60));
        let slow = health.watchdog("relay", Duration::ZERO);
        std::thread::sleep(Duration::from_millis(1));
        fast.progress();
        assert_eq!(health.stuck(), ["relay"]);
        drop(slow);
    }
}
