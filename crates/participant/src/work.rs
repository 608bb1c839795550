//! Works off the commands that were heard, and answers them. It guarantees that work and evidence
//! commit together, so that a command is done once however often it is tried, and that it stays
//! open until the saga has heard an answer that is younger than its last repeat. Replicas need no
//! claims: the row's lock keeps them from doing a step twice, and an answer may be given twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::{BusConfig, consumer};
use assent_contracts::erasure::{Ack, Command, Evidence, Positions, Step};
use assent_eventstore::{EventStore, StoreError};
use assent_http::{ClientError, Code, ServiceClient};
use assent_runtime::{Clock, Health, LeaseTerms, Lifecycle, failpoint, settle};
use jiff_sqlx::ToSqlx as _;
use serde::de::IgnoredAny;
use sqlx::types::Json;
use tokio::sync::Notify;
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::barrier::reached;
use crate::{Commands, Follows, Steps, Touched};

/// How often open commands are looked for when nothing announces them, and so how long one rests
/// that could not be done.
const PAUSE: Duration = Duration::from_millis(500);
/// Most commands worked on at once by one process: they share their waits.
const TOGETHER: usize = 32;

/// Takes part in erasures for one service.
pub struct Participant<S> {
    /// What the service does.
    pub steps: S,
    /// The service's database.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The lease.
    pub terms: LeaseTerms,
    /// The saga.
    pub saga: ServiceClient,
    /// Kafka.
    pub bus: BusConfig,
    /// What else the service consumes that may concern people.
    pub follows: Vec<Follows>,
    /// Rings when a command was heard.
    pub heard: Arc<Notify>,
}

/// A command that waits for an answer.
struct Waiting {
    command: Command,
    /// How often it had been heard when its work was begun.
    times_heard: i32,
}

/// Why a command is still open.
#[derive(Debug, thiserror::Error)]
pub enum Open<E> {
    /// What the barrier names hasn't been consumed.
    #[error("not all that the barrier names has been consumed")]
    Behind,
    /// Another replica is doing it, or it was never heard.
    #[error("another replica is at it")]
    Elsewhere,
    /// The step can't be done now.
    #[error("the step: {0}")]
    Step(E),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The saga could not be told.
    #[error("the answer was not heard: {0}")]
    Unheard(ClientError),
}

impl<E> From<sqlx::Error> for Open<E> {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl<S: Steps> Participant<S> {
    /// The subscriber that hears this participant's commands.
    pub fn commands(&self) -> Commands {
        Commands {
            participant: S::PARTICIPANT,
            consumer: S::CONSUMER,
            clock: Arc::clone(&self.clock),
            heard: Arc::clone(&self.heard),
        }
    }

    /// Starts hearing and working. Gives the subscriber, for parked messages.
    pub fn start(mut self, health: &Health, lifecycle: &Lifecycle) -> Arc<Commands> {
        let commands = Arc::new(self.commands());
        self.follows.push(Follows::of(&*commands));
        let (bus, pool) = (self.bus.clone(), self.store.pool().clone());
        consumer::spawn(lifecycle, bus, pool, Arc::clone(&commands)).watch(health);
        lifecycle.spawn("participant", self.run(lifecycle.stopping()));
        commands
    }

    /// Works until `stopping`; what is under way is finished. Any number of replicas may.
    ///
    /// # Errors
    /// Never: what fails is logged and tried again.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), std::convert::Infallible> {
        let this = Arc::new(self);
        let mut working = JoinSet::new();
        let mut under_way: HashMap<task::Id, Uuid> = HashMap::new();
        while !stopping.is_cancelled() {
            while let Some(ended) = working.try_join_next_with_id() {
                under_way.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
            match this.open(under_way.values().copied().collect()).await {
                Ok(commands) => {
                    for waiting in commands {
                        let (this, command_id) = (Arc::clone(&this), waiting.command.command_id);
                        let task = working.spawn(async move { this.work(&waiting).await });
                        under_way.insert(task.id(), command_id);
                    }
                }
                Err(error) => tracing::warn!(%error, "erasure commands wait"),
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = this.heard.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        working.join_all().await;
        Ok(())
    }

    /// Open commands, in any order, so that those that can't be done don't stand before those that
    /// can.
    async fn open(&self, under_way: Vec<Uuid>) -> Result<Vec<Waiting>, StoreError> {
        const OPEN: &str = "
            SELECT command, times_heard FROM participant.commands
            WHERE answered_at IS NULL AND command_id <> ALL ($1) ORDER BY random() LIMIT $2";
        let room = TOGETHER.saturating_sub(under_way.len());
        let commands: Vec<(Json<Command>, i32)> = sqlx::query_as(OPEN)
            .bind(under_way)
            .bind(room as i64)
            .fetch_all(self.store.pool())
            .await?;
        let waiting = |(Json(command), times_heard)| Waiting { command, times_heard };
        Ok(commands.into_iter().map(waiting).collect())
    }

    async fn work(&self, waiting: &Waiting) {
        let command = &waiting.command;
        let done = async {
            let evidence = self.carry_out(command).await?;
            self.answer(waiting, evidence).await
        };
        let (request_id, step) = (command.request_id, command.step.name());
        match done.await {
            Ok(()) => {}
            // Both pass by themselves.
            Err(error @ (Open::Behind | Open::Elsewhere)) => {
                tracing::debug!(%error, %request_id, step, "an erasure step is still open");
            }
            Err(error) => {
                tracing::warn!(%error, %request_id, step, "an erasure step is still open");
            }
        }
    }

    /// Does what a command asks, which was [heard](crate::hear), or finds what was done for it
    /// before. Returns when it may be answered.
    ///
    /// # Errors
    /// [`Open`]; nothing was half done in this database: try again.
    pub async fn carry_out(&self, command: &Command) -> Result<Evidence, Open<S::Error>> {
        const KEPT: &str = "SELECT evidence FROM participant.commands WHERE command_id = $1";
        let kept: Option<Option<Json<Evidence>>> = sqlx::query_scalar(KEPT)
            .bind(command.command_id)
            .fetch_optional(self.store.pool())
            .await?;
        let evidence = match kept.flatten() {
            Some(kept) => kept.0,
            None => self.first_time(command).await?,
        };
        // Whoever takes something away answers one lease later, and so does whoever finds it
        // taken away: when that was isn't known.
        if command.step != Step::Sweep {
            settle(&*self.clock, &self.terms).await;
        }
        Ok(evidence)
    }

    pub(crate) async fn first_time(&self, command: &Command) -> Result<Evidence, Open<S::Error>> {
        const TAKE: &str = "
            SELECT evidence FROM participant.commands WHERE command_id = $1
            FOR UPDATE SKIP LOCKED";
        const KEEP: &str = "UPDATE participant.commands SET evidence = $2 WHERE command_id = $1";
        const OLD_LOG: &str = "SELECT EXISTS (SELECT FROM participant.log_begins WHERE at > $1)";
        let pool = self.store.pool();
        let is_of_old_log: bool =
            sqlx::query_scalar(OLD_LOG).bind(command.at.to_sqlx()).fetch_one(pool).await?;
        let none = Positions::new();
        let barrier = if is_of_old_log { &none } else { &command.barrier };
        let positions = reached(pool, &self.bus, &self.follows, barrier).await?;
        let positions = positions.ok_or(Open::Behind)?;
        let mut touched = Touched::default();
        self.steps.prepare(command, &mut touched).await.map_err(Open::Step)?;

        let mut session = self.store.begin().await?;
        let taken: Option<Option<Json<Evidence>>> = sqlx::query_scalar(TAKE)
            .bind(command.command_id)
            .fetch_optional(session.conn())
            .await?;
        if !matches!(taken, Some(None)) {
            session.rollback().await?;
            // Another replica is at it, or was faster.
            return taken.flatten().map(|kept| kept.0).ok_or(Open::Elsewhere);
        }
        self.steps.carry_out(&mut session, command, &mut touched).await.map_err(Open::Step)?;
        let evidence = touched.evidence(positions);
        // A sweep that found something is no proof: it is looked again.
        let found = command.step == Step::Sweep && evidence.counts.values().any(|n| *n > 0);
        if found {
            tracing::error!(counts = ?evidence.counts, "the sweep found something left");
        } else {
            let keep = sqlx::query(KEEP).bind(command.command_id).bind(Json(&evidence));
            keep.execute(session.conn()).await?;
        }
        pass(command, "before_commit").await;
        session.commit().await?;
        pass(command, "after_commit").await;
        Ok(evidence)
    }

    async fn answer(&self, waiting: &Waiting, evidence: Evidence) -> Result<(), Open<S::Error>> {
        // Heard again meanwhile: then another answer is waited for.
        const ANSWERED: &str = "
            UPDATE participant.commands SET answered_at = $3
            WHERE command_id = $1 AND times_heard = $2";
        let Waiting { command, times_heard } = waiting;
        let ack = Ack {
            command_id: command.command_id,
            step: command.step,
            participant: S::PARTICIPANT.to_owned(),
            evidence,
        };
        let path = format!("/v1/requests/{}/acks", command.request_id);
        pass(command, "before_answer").await;
        match self.saga.post::<_, IgnoredAny>(&path, &ack, None).await {
            Ok(_) => {}
            Err(error) if is_heard(&error) => {
                // Should the saga wait for another answer, it repeats the command.
                tracing::warn!(%error, request_id = %command.request_id, "an answer was refused");
            }
            Err(error) => return Err(Open::Unheard(error)),
        }
        pass(command, "after_answer").await;
        sqlx::query(ANSWERED)
            .bind(command.command_id)
            .bind(times_heard)
            .bind(self.clock.now().to_sqlx())
            .execute(self.store.pool())
            .await?;
        Ok(())
    }
}

/// Whether it is the saga itself that doesn't take the answer.
fn is_heard(error: &ClientError) -> bool {
    let refusals = [Code::AckMismatch, Code::RequestUnknown, Code::ValidationFailed];
    error.code().is_some_and(|code| refusals.contains(&code))
}

async fn pass(command: &Command, place: &str) {
    failpoint::hit_async(&format!("participant.{}.{place}", command.step.name())).await;
}
