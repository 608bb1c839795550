//! The consumer: a thread that talks to Kafka, a worker per assigned partition that talks to
//! Postgres. It guarantees that a handler's rows and the position commit together, that nothing is
//! skipped, that one partition's trouble stays there, and that a position the log can't have halts
//! the process; what the rows are is left to the handler.
//!
//! Files: `client` owns the Kafka connection, `lane` is the bounded queue between the two sides,
//! `worker` runs the transactions, `plan` decides, `offsets` holds the SQL.

mod client;
mod lane;
pub(crate) mod offsets;
mod plan;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use assent_contracts::topics::Topic;
use assent_runtime::Lifecycle;
use assent_runtime::ops::{Health, Watchdog};
use sqlx::PgPool;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::task::TaskTracker;

use crate::config::BusConfig;
use crate::subscriber::{Handler, Subscriber};
use crate::topics::{Extent, TopicError, extents};
use lane::Lane;
pub use offsets::positions;

/// How long the loop may show no progress before the process is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(90);
/// First and longest pause before something that failed is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long partitions that were just lost may finish their transactions before new ones start.
const HANDOVER: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const CLOSING: Duration = Duration::from_secs(3);

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic.suffix, self.partition)
    }
}

/// Why a consumer halted. The process ends with it; starting again doesn't help before the cause
/// is gone.
#[derive(Debug, Error)]
pub enum ConsumerError {
    /// The stored position lies outside the log: records that had been read are gone (an older
    /// broker's disk, a topic cut short), or the database is newer than Kafka.
    #[error("{place}: position {next_offset} lies outside the log ({start}..{end}): halted")]
    OutsideLog {
        /// Where.
        place: Place,
        /// The stored position.
        next_offset: i64,
        /// The first offset there is.
        start: i64,
        /// The end of the log.
        end: i64,
    },
    /// The topic was deleted and made anew: its offsets mean other records.
    #[error("{place}: the topic has the id {found}, positions are of {stored}: halted")]
    OtherTopic {
        /// Where.
        place: Place,
        /// The id that the positions belong to.
        stored: String,
        /// The id it has now.
        found: String,
    },
    /// Kafka says that a position lies outside its log.
    #[error("a position lies outside the log: halted")]
    OutOfRange,
    /// The row of a position disappeared.
    #[error("{0}: the position is gone from the database")]
    PositionGone(Place),
    /// Kafka's client gave up.
    #[error("kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// A topic is not as its contract says.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Postgres failed.
    #[error("the database failed ({})", database_code(.0))]
    Database(#[from] sqlx::Error),
    /// The thread that talks to Kafka ended.
    #[error("the Kafka thread ended")]
    ThreadEnded,
}

impl ConsumerError {
    /// Whether trying again may help.
    fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Database(_)
                | Self::Topic(
                    TopicError::Kafka(_)
                        | TopicError::Unreached(_)
                        | TopicError::Missing(_)
                        | TopicError::Untold { .. }
                )
        )
    }
}

/// What can be told of a database error without quoting values.
pub(crate) fn database_code(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => {
            format!("postgres_{}", error.code().as_deref().unwrap_or("unknown"))
        }
        sqlx::Error::Io(_) => "postgres_connection".to_owned(),
        sqlx::Error::PoolTimedOut => "postgres_pool_timed_out".to_owned(),
        sqlx::Error::PoolClosed => "postgres_pool_closed".to_owned(),
        sqlx::Error::RowNotFound => "postgres_row_not_found".to_owned(),
        _ => "postgres_client".to_owned(),
    }
}

/// A running consumer, for barriers and probes.
#[derive(Clone)]
pub struct ConsumerHandle {
    shared: Arc<Shared>,
}

impl ConsumerHandle {
    /// The subscriber's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The next offset of each partition, by topic (without prefix) and partition, whichever
    /// replica reads it.
    ///
    /// # Errors
    /// If Postgres doesn't answer.
    pub async fn positions(&self) -> Result<BTreeMap<(String, i32), i64>, sqlx::Error> {
        positions(&self.shared.pool, self.shared.name).await
    }

    /// Makes `/livez` fail when the loop gets stuck: no round of the Kafka thread, or one
    /// transaction that doesn't end.
    pub fn watch(&self, health: &Health) {
        self.shared.watchdog.get_or_init(|| health.watchdog(self.shared.name, PATIENCE));
    }
}

struct Shared {
    name: &'static str,
    handler: Arc<dyn Handler>,
    config: BusConfig,
    pool: PgPool,
    /// Bounds the transactions that are open at a time.
    turns: Semaphore,
    watchdog: OnceLock<Watchdog>,
}

/// Starts reading. The consumer lives as long as the process; if it halts, the process stops.
pub fn spawn<S: Subscriber>(
    life: &Lifecycle,
    config: BusConfig,
    pool: PgPool,
    subscriber: Arc<S>,
) -> ConsumerHandle {
    let shared = Arc::new(Shared {
        name: Subscriber::name(&*subscriber),
        handler: subscriber,
        turns: Semaphore::new(config.workers),
        config,
        pool,
        watchdog: OnceLock::new(),
    });
    let (lost, losses) = unbounded_channel();
    let workers = TaskTracker::new();
    let supervisor = Supervisor { shared: Arc::clone(&shared), life: life.clone(), workers, lost };
    life.spawn(shared.name, supervisor.run(losses));
    ConsumerHandle { shared }
}

/// What the Kafka thread tells.
enum Event {
    /// These partitions are ours once positions are known.
    Assigned { generation: u64, places: Vec<Place> },
    /// Nothing is ours any more.
    Revoked,
    /// The client can't go on.
    Failed(ConsumerError),
    /// The group was left.
    Closed,
}

/// What the Kafka thread is told.
enum Command {
    /// Start reading into these lanes, if the assignment is still this one.
    Assign { generation: u64, lanes: Vec<Arc<Lane>> },
    /// Read a partition from another offset, into a new lane, if the assignment is still this one.
    Rewind { generation: u64, lane: Arc<Lane> },
    /// Leave the group and end.
    Close,
}

/// Brings both sides together: positions for new assignments, workers for lanes, an orderly end.
struct Supervisor {
    shared: Arc<Shared>,
    life: Lifecycle,
    workers: TaskTracker,
    lost: UnboundedSender<Lost>,
}

/// A worker found that its position is not where it left it.
struct Lost {
    generation: u64,
    lane: Arc<Lane>,
}

impl Supervisor {
    async fn run(self, mut losses: UnboundedReceiver<Lost>) -> Result<(), ConsumerError> {
        let (tell, mut events) = unbounded_channel();
        let (commands, orders) = mpsc::channel();
        client::start(Arc::clone(&self.shared), tell, orders)?;
        let stopping = self.life.stopping();
        let mut pending: Option<(u64, Vec<Place>)> = None;
        let mut current: Option<(u64, Vec<Arc<Lane>>)> = None;
        let outcome = loop {
            tokio::select! {
                () = stopping.cancelled() => break Ok(()),
                event = events.recv() => match event {
                    Some(Event::Assigned { generation, places }) => {
                        pending = Some((generation, places));
                    }
                    Some(Event::Revoked) => {
                        pending = None;
                        end(current.take());
                    }
                    Some(Event::Failed(error)) => break Err(self.explain(error).await),
                    Some(Event::Closed) | None => break Err(ConsumerError::ThreadEnded),
                },
                lanes = self.take_over(pending.as_ref()), if pending.is_some() => {
                    let (generation, lanes) = match lanes {
                        Ok(lanes) => lanes,
                        Err(error) => break Err(error),
                    };
                    pending = None;
                    for lane in &lanes {
                        self.start_worker(generation, lane);
                    }
                    current = Some((generation, lanes.clone()));
                    // Nobody listens only when the thread ended: then `events` says so.
                    let _ = commands.send(Command::Assign { generation, lanes });
                }
                Some(lost) = losses.recv() => {
                    let Some((generation, lanes)) = &mut current else { continue };
                    if *generation != lost.generation {
                        continue;
                    }
                    let generation = *generation;
                    let lane = match self.position_again(generation, &lost).await {
                        Ok(lane) => lane,
                        Err(error) if error.is_transient() => {
                            tokio::time::sleep(BACKOFF.0).await;
                            let _ = self.lost.send(lost);
                            continue;
                        }
                        Err(error) => break Err(error),
                    };
                    lanes.retain(|kept| kept.place != lane.place);
                    lanes.push(Arc::clone(&lane));
                    self.start_worker(generation, &lane);
                    let _ = commands.send(Command::Rewind { generation, lane });
                }
            }
        };
        end(current);
        self.workers.close();
        self.workers.wait().await;
        let _ = commands.send(Command::Close);
        let closed = async { while !matches!(events.recv().await, Some(Event::Closed) | None) {} };
        if tokio::time::timeout(CLOSING, closed).await.is_err() {
            tracing::warn!(consumer = self.shared.name, "leaving the group takes too long");
        }
        outcome
    }

    /// Positions for a new assignment; tries until it has them.
    async fn take_over(
        &self,
        pending: Option<&(u64, Vec<Place>)>,
    ) -> Result<(u64, Vec<Arc<Lane>>), ConsumerError> {
        let Some((generation, places)) = pending else { return std::future::pending().await };
        // The workers of the assignment before may still be committing; their commits would make
        // the positions read here stale. Who takes longer is stopped by the compare-and-set.
        let _ = tokio::time::timeout(HANDOVER, self.idle()).await;
        let mut pause = BACKOFF.0;
        loop {
            match self.lanes(*generation, places).await {
                Ok(lanes) => return Ok((*generation, lanes)),
                Err(error) if error.is_transient() => {
                    tracing::warn!(consumer = self.shared.name, %error, "no positions yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn idle(&self) {
        while !self.workers.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn lanes(
        &self,
        generation: u64,
        places: &[Place],
    ) -> Result<Vec<Arc<Lane>>, ConsumerError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let topics: Vec<Topic> = self.shared.handler.topics();
        let mut extents: Vec<Extent> = extents(&self.shared.config, &topics).await?;
        extents.retain(|extent| {
            places.contains(&Place { topic: extent.topic, partition: extent.partition })
        });
        let positions = offsets::claim(&self.shared.pool, self.shared.name, &extents).await?;
        tracing::info!(
            consumer = self.shared.name,
            generation,
            partitions = positions.len(),
            "partitions taken over"
        );
        Ok(positions.into_iter().map(|position| self.lane(position)).collect())
    }

    fn lane(&self, position: offsets::Position) -> Arc<Lane> {
        Arc::new(Lane::new(position, self.shared.config.batch_max))
    }

    async fn position_again(
        &self,
        generation: u64,
        lost: &Lost,
    ) -> Result<Arc<Lane>, ConsumerError> {
        let lanes = self.lanes(generation, &[lost.lane.place]).await?;
        lanes.into_iter().next().ok_or(ConsumerError::PositionGone(lost.lane.place))
    }

    fn start_worker(&self, generation: u64, lane: &Arc<Lane>) {
        let (lane, shared) = (Arc::clone(lane), Arc::clone(&self.shared));
        let lost = self.lost.clone();
        self.workers.spawn(async move {
            let end = worker::run(&shared, &lane).await;
            if matches!(end, worker::End::Lost) {
                let _ = lost.send(Lost { generation, lane });
            }
        });
    }

    /// Kafka says only that some position is out of range: find out which.
    async fn explain(&self, error: ConsumerError) -> ConsumerError {
        if !matches!(error, ConsumerError::OutOfRange) {
            return error;
        }
        let Ok(extents) = extents(&self.shared.config, &self.shared.handler.topics()).await else {
            return error;
        };
        let claimed = offsets::claim(&self.shared.pool, self.shared.name, &extents).await;
        claimed.err().filter(|found| !found.is_transient()).unwrap_or(error)
    }
}

fn end(lanes: Option<(u64, Vec<Arc<Lane>>)>) {
    for lane in lanes.into_iter().flat_map(|(_, lanes)| lanes) {
        lane.end();
    }
}
