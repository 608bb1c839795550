//! How a service comes to its database. It guarantees that nothing rests on a database that was restored
//! before what was acknowledged since is back from the service's topic, what was erased since is erased
//! again, and what it follows is read to the end; and that a database which is the one of before makes
//! nobody wait for Kafka or for the saga.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::own_log::{self, Fold, OwnLogError};
use assent_bus::{BusConfig, end_offsets};
use assent_contracts::erasure::Positions;
use assent_contracts::topics::{ERASURE_COMMANDS, Topic};
use assent_eventstore::{EventStore, Incarnation, incarnation};
use assent_runtime::{Clock, Lifecycle};
use sqlx::PgPool;

use crate::barrier::reached;
use crate::{Follows, Participant, Steps};

/// How long a service on its own database waits for Kafka, or for the saga, before it goes on without.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A service that has come to its database and serves nothing yet.
pub struct Arrival {
    incarnation: Incarnation,
    service: &'static str,
    pool: PgPool,
    bus: BusConfig,
    lifecycle: Lifecycle,
}

/// The process is being stopped before the service could begin.
#[derive(Debug, thiserror::Error)]
#[error("stopped before its database was compared")]
pub struct Stopped;

/// Why a service may not begin.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// Its store and its topic can't be brought together.
    #[error(transparent)]
    OwnLog(#[from] OwnLogError),
    /// The process is being stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Arrival {
    /// Looks which database it is, as soon as it has its tables.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn at(
        service: &'static str,
        pool: &PgPool,
        bus: &BusConfig,
        lifecycle: &Lifecycle,
    ) -> Result<Self, Stopped> {
        let look = || incarnation::look(pool);
        let incarnation = until_done(service, "which database it is", lifecycle, look).await?;
        if incarnation == Incarnation::Other {
            tracing::warn!(
                service,
                "the database is another one than before: it is compared before anything is served"
            );
        }
        let (pool, bus, lifecycle) = (pool.clone(), bus.clone(), lifecycle.clone());
        Ok(Self { incarnation, service, pool, bus, lifecycle })
    }

    /// Takes back from the service's own topic what its store lacks, and goes on noting how far it reaches.
    ///
    /// # Errors
    /// When that can't be done by waiting.
    pub async fn own_log<F: Fold>(
        &self,
        store: &EventStore,
        topic: Topic,
        fold: F,
        task: &'static str,
    ) -> Result<(), ArrivalError> {
        let fold = Arc::new(fold);
        let (bus, store) = (self.bus.clone(), store.clone());
        let first = self.first(|| own_log::compare(&bus, &store, topic, &*fold)).await?;
        let done = match first {
            Ok(()) => true,
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(service = self.service, %error, "its topic can't be compared now: later");
                false
            }
        };
        let stopping = self.lifecycle.stopping();
        self.lifecycle.spawn(task, async move {
            let mut done = done;
            while !done && !stopping.is_cancelled() {
                match own_log::compare(&bus, &store, topic, &*fold).await {
                    Ok(0) => done = true,
                    Ok(_) => return Err(OwnLogError::SteppedBack),
                    Err(error) if error.is_transient() => {
                        stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
            own_log::keep_noting(bus, store, topic, stopping).await
        });
        Ok(())
    }

    /// Does again the erasures that the database doesn't know.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn erasures<S: Steps>(&self, participant: &Participant<S>) -> Result<(), Stopped> {
        loop {
            // Where no command was ever given nobody was erased: a deployment begins without its saga.
            if self.incarnation == Incarnation::Fresh && self.is_unspoilt().await {
                return Ok(());
            }
            let error = match self.bounded(participant.redo()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            let known = self.incarnation == Incarnation::Known;
            tracing::warn!(service = self.service, %error, waits = !known, "erasures since aren't done again");
            if known {
                return Ok(());
            }
            self.pause().await?;
        }
    }

    /// Waits until everything that the service follows is read as far as it reached at this moment, and
    /// says that the database may be rested on.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn caught_up(&self, follows: &[Follows], clock: &dyn Clock) -> Result<(), Stopped> {
        if self.incarnation == Incarnation::Known {
            return Ok(());
        }
        let ends = || async {
            let mut ends = Positions::new();
            for topic in follows.iter().flat_map(Follows::topics) {
                ends.insert(self.bus.topic_name(topic), end_offsets(&self.bus, *topic).await?);
            }
            Ok::<_, assent_bus::TopicError>(ends)
        };
        let ends =
            until_done(self.service, "how far its topics reach", &self.lifecycle, ends).await?;
        loop {
            match reached(&self.pool, &self.bus, follows, &ends).await {
                Ok(Some(_)) => break,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(service = self.service, %error, "positions can't be read")
                }
            }
            self.pause().await?;
        }
        let mark = || incarnation::mark(&self.pool, clock.now());
        until_done(self.service, "that it is compared", &self.lifecycle, mark).await?;
        tracing::info!(service = self.service, "the database is compared");
        Ok(())
    }

    /// The first try that counts: of a database of before the only one, else the one that succeeds.
    async fn first<T, F>(
        &self,
        mut act: impl FnMut() -> F,
    ) -> Result<Result<(), OwnLogError>, Stopped>
    where
        F: Future<Output = Result<T, OwnLogError>>,
    {
        loop {
            let outcome = match self.bounded(act()).await {
                Ok(outcome) => outcome.map(|_| ()),
                Err(_) => Err(OwnLogError::Read("no answer".to_owned())),
            };
            match &outcome {
                Err(error) if error.is_transient() && self.incarnation != Incarnation::Known => {
                    tracing::warn!(service = self.service, %error, "waits for its topic");
                    self.pause().await?;
                }
                _ => return Ok(outcome),
            }
        }
    }

    /// Whoever must have the answer waits for it; who can do without, not long.
    async fn bounded<T>(
        &self,
        act: impl Future<Output = T>,
    ) -> Result<T, tokio::time::error::Elapsed> {
        match self.incarnation {
            Incarnation::Known => tokio::time::timeout(PATIENCE, act).await,
            Incarnation::Fresh | Incarnation::Other => Ok(act.await),
        }
    }

    async fn is_unspoilt(&self) -> bool {
        let ends = end_offsets(&self.bus, ERASURE_COMMANDS).await;
        ends.is_ok_and(|ends| ends.values().all(|end| *end == 0))
    }

    async fn pause(&self) -> Result<(), Stopped> {
        let stopping = self.lifecycle.stopping();
        stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await.ok_or(Stopped)
    }
}

async fn until_done<T, E: Display, F>(
    service: &'static str,
    what: &str,
    lifecycle: &Lifecycle,
    mut act: impl FnMut() -> F,
) -> Result<T, Stopped>
where
    F: Future<Output = Result<T, E>>,
{
    let stopping = lifecycle.stopping();
    loop {
        match act().await {
            Ok(done) => return Ok(done),
            Err(error) => tracing::warn!(service, %error, "can't tell {what} yet"),
        }
        stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await.ok_or(Stopped)?;
    }
}
