//! The worker of one partition: transactions, retries, parking. It guarantees that the position
//! moves only together with the rows of everything before it; a transient error is retried for
//! ever, a refused message is parked, a message on which the process keeps dying is parked too.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::topics::Cleanup;
use assent_eventstore::checkpoint::{self, AdvanceError};
use assent_eventstore::parked::{self, Parked};
use assent_runtime::{Clock, SystemClock, failpoint, telemetry};
use sqlx::Connection as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::lane::Lane;
use super::plan::{Plan, plan};
use super::{BACKOFF, Place, Shared, database_code, offsets};
use crate::envelope::{Delivery, Malformed, Received};
use crate::metrics::{metrics, of_consumer};
use crate::parked::HANDLER_CRASHED;
use crate::subscriber::{ApplyError, Sequencing};

/// Refused messages in one batch after which its messages are taken one by one.
const REFUSED_MAX: usize = 8;

/// How the worker ended.
pub(super) enum End {
    /// The partition was taken away, or the process is stopping.
    Ended,
    /// The position is not where this worker left it: somebody else commits in this partition.
    Lost,
}

/// Works until the lane ends.
pub(super) async fn run(shared: &Arc<Shared>, lane: &Arc<Lane>) -> End {
    let mut worker = Worker {
        shared,
        lane,
        expected: lane.start,
        starts: lane.starts,
        singly: if lane.starts > 0 { shared.config.batch_max } else { 0 },
        proven: false,
    };
    let mut next = Instant::now();
    loop {
        let limit = if worker.singly > 0 { 1 } else { shared.config.batch_max };
        tokio::time::sleep_until(next).await;
        let Some(messages) = lane.take(limit).await else { return End::Ended };
        // A full batch is no measure of what waits behind it.
        if messages.len() < shared.config.batch_max {
            next = Instant::now() + shared.handler.cadence().after(messages.len());
        }
        if let ControlFlow::Break(end) = worker.handle(messages).await {
            lane.set_busy(None);
            return end;
        }
    }
}

struct Worker<'a> {
    shared: &'a Arc<Shared>,
    lane: &'a Arc<Lane>,
    /// Where this worker left the position.
    expected: i64,
    /// Recorded starts at that position.
    starts: i32,
    /// So many messages are still taken one by one, each start recorded before it.
    singly: usize,
    /// A transaction of this worker has committed: until then the start is recorded.
    proven: bool,
}

/// The messages of one transaction.
#[derive(Clone)]
struct Batch {
    events: Vec<Received>,
    malformed: Vec<Malformed>,
    first_offset: i64,
    next_offset: i64,
}

/// Why a transaction did not commit.
enum Failure {
    Transient(String),
    Refused { offset: i64, reason: &'static str },
    Lost,
}

impl From<AdvanceError> for Failure {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Fenced { .. } => Self::Lost,
            AdvanceError::Database(error) => error.into(),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Transient(database_code(&error))
    }
}

impl Worker<'_> {
    /// Handles a batch until it is committed, or hands it back in smaller pieces.
    async fn handle(&mut self, messages: Vec<Delivery>) -> ControlFlow<End> {
        let messages = match self.contiguous(messages) {
            ControlFlow::Continue(messages) if messages.is_empty() => {
                return ControlFlow::Continue(());
            }
            ControlFlow::Continue(messages) => messages,
            ControlFlow::Break(end) => return ControlFlow::Break(end),
        };
        let batch = Arc::new(Batch::of(messages));
        let mut refused: BTreeMap<i64, &'static str> = BTreeMap::new();
        let mut pause = BACKOFF.0;
        loop {
            if self.lane.ended().is_cancelled() {
                return ControlFlow::Break(End::Ended);
            }
            if batch.len() == 1 && self.starts >= self.shared.config.starts_max {
                refused.insert(batch.first_offset, HANDLER_CRASHED);
            } else if self.singly > 0 || !self.proven {
                match self.count_start().await {
                    Ok(starts) => self.starts = starts,
                    Err(AdvanceError::Fenced { .. }) => return ControlFlow::Break(End::Lost),
                    Err(AdvanceError::Database(error)) => {
                        self.wait(&mut pause, &database_code(&error)).await;
                        continue;
                    }
                }
            }
            let Ok(turn) = self.shared.turns.acquire().await else {
                return ControlFlow::Break(End::Ended);
            };
            self.lane.set_busy(Some(SystemClock.boottime()));
            // A task of its own: a panic ends it alone, and no cancellation leaves half a
            // transaction behind.
            let attempt = attempt(
                Arc::clone(self.shared),
                Arc::clone(self.lane),
                Arc::clone(&batch),
                refused.clone(),
                self.expected,
            );
            let outcome = tokio::spawn(attempt).await;
            self.lane.set_busy(None);
            drop(turn);
            match outcome {
                Ok(Ok(())) => {
                    self.committed(&batch);
                    return ControlFlow::Continue(());
                }
                Ok(Err(Failure::Lost)) => {
                    tracing::warn!(
                        consumer = self.shared.name,
                        place = %self.lane.place,
                        expected = self.expected,
                        "the position was moved by somebody else"
                    );
                    return ControlFlow::Break(End::Lost);
                }
                Ok(Err(Failure::Refused { offset, reason })) => {
                    refused.insert(offset, reason);
                    if refused.len() > REFUSED_MAX && batch.len() > 1 {
                        self.one_by_one(batch);
                        return ControlFlow::Continue(());
                    }
                }
                Ok(Err(Failure::Transient(code))) => {
                    // The handler came back, so it didn't crash.
                    self.forget_starts().await;
                    self.wait(&mut pause, &code).await;
                }
                Err(panic) => {
                    tracing::error!(
                        consumer = self.shared.name,
                        place = %self.lane.place,
                        offset = batch.first_offset,
                        messages = batch.len(),
                        panicked = panic.is_panic(),
                        "the handler crashed"
                    );
                    if batch.len() > 1 {
                        self.one_by_one(batch);
                        return ControlFlow::Continue(());
                    }
                    self.singly = self.singly.max(1);
                    self.wait(&mut pause, HANDLER_CRASHED).await;
                }
            }
        }
    }

    /// Drops what this worker has behind it, and notices when something is missing: records of a
    /// topic that keeps everything follow each other.
    fn contiguous(&self, mut messages: Vec<Delivery>) -> ControlFlow<End, Vec<Delivery>> {
        messages.retain(|message| message.offset() >= self.expected);
        let Some(first) = messages.first() else { return ControlFlow::Continue(messages) };
        let gap = first.offset() > self.expected;
        if gap && self.lane.place.topic.cleanup == Cleanup::Keep {
            tracing::warn!(
                consumer = self.shared.name,
                place = %self.lane.place,
                expected = self.expected,
                found = first.offset(),
                "offsets are missing"
            );
            // Read again from the position. If they are missing there too they don't exist: marks
            // of a foreign transaction take offsets.
            if self.expected != self.lane.start {
                return ControlFlow::Break(End::Lost);
            }
        }
        ControlFlow::Continue(messages)
    }

    fn committed(&mut self, batch: &Batch) {
        self.expected = batch.next_offset;
        self.lane.set_committed(batch.next_offset);
        self.starts = 0;
        self.proven = true;
        self.singly = self.singly.saturating_sub(batch.len());
    }

    /// What crashed or was refused so often may be any of them.
    fn one_by_one(&mut self, batch: Arc<Batch>) {
        self.singly = batch.len();
        let batch = Arc::try_unwrap(batch).unwrap_or_else(|shared| Batch::clone(&shared));
        self.lane.put_back(batch.into_messages());
    }

    async fn count_start(&self) -> Result<i32, AdvanceError> {
        let (name, place) = (self.shared.name, self.lane.place);
        let mut connection = self.shared.pool.acquire().await?;
        checkpoint::count_start(
            &mut connection,
            name,
            place.topic.suffix,
            place.partition,
            self.expected,
        )
        .await
    }

    async fn forget_starts(&mut self) {
        if self.starts == 0 {
            return;
        }
        let (pool, name) = (&self.shared.pool, self.shared.name);
        match offsets::forget_starts(pool, name, self.lane.place, self.expected).await {
            Ok(()) => self.starts = 0,
            // They stand until progress: at worst the message is taken alone once more.
            Err(error) => {
                tracing::debug!(consumer = name, code = database_code(&error), "starts stand");
            }
        }
    }

    async fn wait(&self, pause: &mut Duration, code: &str) {
        tracing::warn!(
            consumer = self.shared.name,
            place = %self.lane.place,
            offset = self.expected,
            code,
            pause_ms = pause.as_millis(),
            "a batch is tried again"
        );
        metrics().retries.add(1, &of_consumer(self.shared.name));
        tokio::select! {
            () = tokio::time::sleep(*pause) => {}
            () = self.lane.ended().cancelled() => {}
        }
        *pause = (*pause * 2).min(BACKOFF.1);
    }
}

impl Batch {
    /// The batch of these messages, of which there is at least one.
    fn of(messages: Vec<Delivery>) -> Self {
        let first_offset = messages.first().map_or(0, Delivery::offset);
        let next_offset = messages.last().map_or(0, Delivery::offset) + 1;
        let mut events = Vec::with_capacity(messages.len());
        let mut malformed = Vec::new();
        for message in messages {
            match message {
                Delivery::Event(event) => events.push(event),
                Delivery::Malformed(message) => malformed.push(message),
            }
        }
        Self { events, malformed, first_offset, next_offset }
    }

    fn len(&self) -> usize {
        self.events.len() + self.malformed.len()
    }

    fn into_messages(self) -> Vec<Delivery> {
        let events = self.events.into_iter().map(Delivery::Event);
        let malformed = self.malformed.into_iter().map(Delivery::Malformed);
        let mut messages: Vec<_> = events.chain(malformed).collect();
        messages.sort_by_key(Delivery::offset);
        messages
    }
}

/// One transaction.
async fn attempt(
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    batch: Arc<Batch>,
    refused: BTreeMap<i64, &'static str>,
    expected: i64,
) -> Result<(), Failure> {
    let began = SystemClock.boottime();
    let span = span(&shared, &lane, &batch);
    let plan = transaction(&shared, &lane, &batch, &refused, expected).instrument(span).await?;
    let (metrics, labels) = (metrics(), of_consumer(shared.name));
    metrics.batches.add(1, &labels);
    metrics.batch_seconds.record((SystemClock.boottime() - began).as_secs_f64(), &labels);
    metrics.events.add(plan.apply.len() as u64, &labels);
    metrics.duplicates.add(plan.duplicates as u64, &labels);
    metrics.parked.add(plan.park.len() as u64, &labels);
    for parking in &plan.park {
        tracing::warn!(
            consumer = shared.name,
            place = %lane.place,
            offset = parking.offset,
            reason = parking.reason,
            "message parked"
        );
    }
    Ok(())
}

async fn transaction(
    shared: &Shared,
    lane: &Lane,
    batch: &Batch,
    refused: &BTreeMap<i64, &'static str>,
    expected: i64,
) -> Result<Plan, Failure> {
    let (consumer, place) = (shared.name, lane.place);
    let topic = place.topic.suffix;
    let sequencing = shared.handler.sequencing();
    let mut connection = shared.pool.acquire().await?;
    let mut tx = connection.begin().await?;
    // First: whoever lost the partition is stopped before it does anything.
    checkpoint::advance(&mut tx, consumer, topic, place.partition, expected, batch.next_offset)
        .await?;
    let mut keys: Vec<_> = batch.events.iter().map(|event| event.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let facts = offsets::facts(&mut tx, consumer, topic, sequencing, &keys).await?;
    let plan = plan(&batch.events, &batch.malformed, sequencing, facts, refused);
    if !plan.apply.is_empty() {
        let chosen: Vec<Received>;
        let events = if plan.apply.len() == batch.events.len() {
            &batch.events[..]
        } else {
            chosen = plan.apply.iter().map(|index| batch.events[*index].clone()).collect();
            &chosen[..]
        };
        shared.handler.apply(&mut tx, events).await.map_err(|error| match error {
            ApplyError::Transient(code) => Failure::Transient(code),
            ApplyError::Poison { index, reason } => match events.get(index) {
                Some(event) => Failure::Refused { offset: event.offset, reason },
                None => Failure::Transient("poison_index_out_of_range".to_owned()),
            },
        })?;
    }
    parked::park(&mut tx, &parkings(consumer, place, &plan)).await?;
    if sequencing == Sequencing::Tracked {
        let advanced: Vec<_> = plan.advanced.iter().map(|(key, last)| (*key, *last)).collect();
        checkpoint::record_sequences(&mut tx, consumer, topic, &advanced).await?;
    }
    if failpoint::fails("consumer.before_commit").await {
        return Err(Failure::Transient("failpoint".to_owned()));
    }
    tx.commit().await?;
    failpoint::hit_async("consumer.after_commit").await;
    Ok(plan)
}

fn parkings(consumer: &str, place: Place, plan: &Plan) -> Vec<Parked> {
    let parked_at = SystemClock.now();
    let parking = plan.park.iter().map(|parking| Parked {
        consumer: consumer.to_owned(),
        topic: place.topic.suffix.to_owned(),
        partition: place.partition,
        offset: parking.offset,
        key: parking.key,
        sequence: parking.sequence,
        event_type: parking.event_type.clone(),
        reason: parking.reason.to_owned(),
        parked_at,
    });
    parking.collect()
}

/// One span for the batch: the child of its only message, or linked to the messages it holds.
fn span(shared: &Shared, lane: &Lane, batch: &Batch) -> tracing::Span {
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {}", lane.place.topic.suffix),
        otel.kind = "consumer",
        messaging.system = "kafka",
        "messaging.operation.type" = "process",
        messaging.destination.name = lane.place.topic.suffix,
        messaging.destination.partition.id = lane.place.partition,
        messaging.consumer.group.name = shared.name,
        messaging.batch.message_count = batch.len(),
    );
    telemetry::follows(&span, batch.events.iter().map(|event| event.traceparent.as_deref()));
    span
}
