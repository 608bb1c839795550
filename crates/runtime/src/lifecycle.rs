//! How a process lives and stops. It guarantees that an unexpected end of a task ends the process
//! with a failure, that a soft stop lets work finish and that a hard stop follows when it doesn't;
//! what a task does on a soft stop is left to the task.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The life of a process. Clones speak of the same life.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// A life that has just begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that lives as long as the process: if it ends, panics or fails before the
    /// process is being stopped, the process stops and fails. On a hard stop it is dropped.
    pub fn spawn<E: Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let life = self.clone();
        self.tasks.spawn(async move {
            let mut running = tokio::spawn(task);
            let ended = tokio::select! {
                ended = &mut running => ended,
                () = life.hard.cancelled() => {
                    running.abort();
                    tracing::warn!(task = name, "dropped by the hard stop");
                    return;
                }
            };
            let problem = match ended {
                Ok(Ok(())) if life.soft.is_cancelled() => return,
                Ok(Ok(())) => "ended unexpectedly".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.to_string(),
            };
            tracing::error!(task = name, problem, "task failed: the process stops");
            life.failed.store(true, Ordering::Release);
            life.soft.cancel();
        });
    }

    /// Starts a piece of work that ends by itself; a soft stop waits for it.
    pub fn track<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(work)
    }

    /// Cancelled when the process is asked to stop: take nothing new, finish what you have.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when the patience is over.
    #[must_use]
    pub fn hard_stopping(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Asks for a soft stop.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Stops softly, then, after `grace`, hard. Tells whether every task ended well.
    pub async fn stop_and_wait(&self, grace: Duration) -> bool {
        self.soft.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!("the grace period is over: hard stop");
            self.hard.cancel();
            // Whoever ignores even this is left behind when the process exits.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
            return false;
        }
        !self.failed.load(Ordering::Acquire)
    }

    /// Lives until SIGTERM, SIGINT or the end of a task; then stops softly, and hard on a second
    /// signal or after `grace`. The exit status is a failure unless every task ended well.
    pub async fn run_until_stopped(self, grace: Duration) -> ExitCode {
        let signals =
            signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
        let (mut terminate, mut interrupt) = match signals {
            Ok(signals) => signals,
            Err(error) => {
                tracing::error!(%error, "can't listen for signals");
                return ExitCode::FAILURE;
            }
        };
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: soft stop"),
            _ = interrupt.recv() => tracing::info!("SIGINT: soft stop"),
            () = self.soft.cancelled() => {}
        }
        let ended_well = tokio::select! {
            ended_well = self.stop_and_wait(grace) => ended_well,
            () = async {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            } => {
                tracing::warn!("second signal: hard stop");
                self.stop_and_wait(Duration::ZERO).await
            }
        };
        if ended_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_soft_stop_lets_tasks_finish() {
        let life = Lifecycle::new();
        let stopping = life.stopping();
        life.spawn("good", async move {
            stopping.cancelled().await;
            Ok::<_, Infallible>(())
        });
        let work = life.track(async { 42 });
        assert!(life.stop_and_wait(GRACE).await);
        assert_eq!(work.await.unwrap(), 42);
    }

    #[tokio::test]
    async fn an_unexpected_end_stops_the_process() {
        let life = Lifecycle::new();
        life.spawn("short", async { Ok::<_, Infallible>(()) });
        life.stopping().cancelled().await;
        assert!(!life.stop_and_wait(GRACE).await);
    }

    #[tokio::test]
    async fn a_panic_stops_the_process() {
        let life = Lifecycle::new();
        life.spawn("panics", async {
            assert!(life_is_short(), "as it must");
            Ok::<_, Infallible>(())
        });
        life.stopping().cancelled().await;
        assert!(!life.stop_and_wait(GRACE).await);
    }

    fn life_is_short() -> bool {
        false
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_the_soft_stop_meets_the_hard_one() {
        let life = Lifecycle::new();
        life.spawn("deaf", std::future::pending::<Result<(), Infallible>>());
        assert!(!life.stop_and_wait(GRACE).await);
    }
}
