//! The thread that owns the Kafka client: one long-lived loop that polls, follows rebalances and
//! commits positions to Kafka for lag tools. It guarantees that nothing is read before its position
//! is known, and that leaving is prompt; what was read is applied elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use assent_contracts::topics::Topic;
use assent_runtime::{Clock, SystemClock};
use opentelemetry::KeyValue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Message, Offset, Statistics, TopicPartitionList};
use tokio::sync::mpsc::UnboundedSender;

use super::lane::Lane;
use super::{Command, ConsumerError, Event, PATIENCE, Place, Shared};
use crate::envelope::Delivery;
use crate::metrics::metrics;

/// Longest wait in one poll: commands are seen after it at the latest.
const POLL: Duration = Duration::from_millis(20);
/// How long the thread waits for a full lane before it pauses the partition, which throws away
/// what was fetched ahead.
const FULL_LANE: Duration = Duration::from_millis(200);
/// How often positions are committed to Kafka.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// How often the watchdog hears of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// From this pause between its transactions on, a subscriber's fetches are large instead of soon.
const UNHURRIED: Duration = Duration::from_millis(100);
/// How long a seek may take.
const SEEK: Duration = Duration::from_secs(5);

/// Starts the thread.
pub(super) fn start(
    shared: Arc<Shared>,
    tell: UnboundedSender<Event>,
    orders: Receiver<Command>,
) -> Result<(), KafkaError> {
    let consumer: BaseConsumer<Rebalances> =
        settings(&shared).create_with_context(Rebalances::default())?;
    let topics: Vec<(String, Topic)> = shared
        .handler
        .topics()
        .into_iter()
        .map(|topic| (shared.config.topic_name(&topic), topic))
        .collect();
    let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
    consumer.subscribe(&names)?;
    let mut client = Client {
        shared,
        consumer,
        topics,
        tell,
        generation: 0,
        lanes: HashMap::new(),
        to_rewind: Vec::new(),
        committed: HashMap::new(),
        paused: HashSet::new(),
        last_commit: Duration::ZERO,
        last_progress: Duration::ZERO,
    };
    let thread = std::thread::Builder::new().name(format!("kafka {}", client.shared.name));
    let spawned = thread.spawn(move || {
        client.run(&orders);
        let tell = client.tell.clone();
        client.close();
        let _ = tell.send(Event::Closed);
    });
    spawned.map(drop).map_err(|error| KafkaError::ClientCreation(error.to_string()))
}

fn settings(shared: &Shared) -> rdkafka::ClientConfig {
    let mut client = shared.config.client();
    let session_ms = shared.config.session_timeout.as_millis();
    client
        .set("group.id", shared.config.group(shared.name))
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", session_ms.to_string())
        // Often: the answer to one is how a member learns that another is gone.
        .set("heartbeat.interval.ms", (session_ms / 12).to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        // Ahead of the lanes, which hold a batch each.
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set("statistics.interval.ms", "5000");
    if shared.handler.cadence().least >= UNHURRIED {
        // Nobody waits for it: the broker need not answer for each record.
        client.set("fetch.min.bytes", "1000000").set("fetch.wait.max.ms", "500");
    }
    client
}

struct Client {
    shared: Arc<Shared>,
    consumer: BaseConsumer<Rebalances>,
    /// Full names of the topics.
    topics: Vec<(String, Topic)>,
    tell: UnboundedSender<Event>,
    /// Counts assignments: answers to an older one are void.
    generation: u64,
    lanes: HashMap<(usize, i32), Arc<Lane>>,
    /// Lanes whose partition is still to be read from another offset.
    to_rewind: Vec<Arc<Lane>>,
    /// What Kafka was told.
    committed: HashMap<(usize, i32), i64>,
    /// Partitions whose lane was full.
    paused: HashSet<(usize, i32)>,
    last_commit: Duration,
    last_progress: Duration,
}

impl Client {
    /// Polls until told to leave.
    fn run(&mut self, orders: &Receiver<Command>) {
        loop {
            loop {
                match orders.try_recv() {
                    Ok(Command::Close) | Err(TryRecvError::Disconnected) => return,
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.rewind();
            self.resume();
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    if let Some(full) = deliver(&self.topics, &self.lanes, &message) {
                        drop(message);
                        self.pause(full);
                    }
                }
                Some(Err(error)) => self.trouble(error),
                None => {}
            }
            for rebalance in self.consumer.context().take_rebalances() {
                self.rebalance(rebalance);
            }
            let now = SystemClock.boottime();
            self.report_progress(now);
            if now.saturating_sub(self.last_commit) >= COMMIT_EVERY {
                self.last_commit = now;
                self.commit(CommitMode::Async);
                self.record_lag();
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Assign { generation, lanes } if generation == self.generation => {
                self.assign(lanes);
            }
            Command::Rewind { generation, lane } if generation == self.generation => {
                if let Some(place) = self.index(lane.place) {
                    // Nothing of this partition is delivered until the seek is done.
                    self.lanes.remove(&place);
                    self.to_rewind.retain(|other| other.place != lane.place);
                    self.to_rewind.push(lane);
                }
            }
            Command::Assign { .. } | Command::Rewind { .. } | Command::Close => {}
        }
    }

    fn assign(&mut self, lanes: Vec<Arc<Lane>>) {
        let mut list = TopicPartitionList::new();
        for lane in &lanes {
            let name = self.shared.config.topic_name(&lane.place.topic);
            let offset = Offset::Offset(lane.start);
            if let Err(error) = list.add_partition_offset(&name, lane.place.partition, offset) {
                return self.fail(error.into());
            }
        }
        self.committed.clear();
        self.to_rewind.clear();
        self.lanes =
            lanes.into_iter().filter_map(|lane| Some((self.index(lane.place)?, lane))).collect();
        if let Err(error) = self.consumer.assign(&list) {
            return self.fail(error.into());
        }
        // A pause may outlive the assignment in which it was made.
        let places: Vec<_> = self.lanes.keys().copied().collect();
        self.paused.clear();
        if let Err(error) = self.consumer.resume(&self.list(&places)) {
            self.fail(error.into());
        }
    }

    fn pause(&mut self, place: (usize, i32)) {
        match self.consumer.pause(&self.list(&[place])) {
            Ok(()) => drop(self.paused.insert(place)),
            Err(error) => tracing::warn!(%error, "can't pause a partition"),
        }
    }

    /// Begins to fetch again where there is room.
    fn resume(&mut self) {
        if self.paused.is_empty() {
            return;
        }
        let ready: Vec<_> = self
            .paused
            .iter()
            .copied()
            .filter(|place| self.lanes.get(place).is_none_or(|lane| lane.is_half_empty()))
            .collect();
        match self.consumer.resume(&self.list(&ready)) {
            Ok(()) => self.paused.retain(|place| !ready.contains(place)),
            Err(error) => tracing::warn!(%error, "can't resume a partition"),
        }
    }

    fn rebalance(&mut self, rebalance: Rebalance) {
        self.generation += 1;
        for lane in self.lanes.values().chain(&self.to_rewind) {
            lane.end();
        }
        self.lanes.clear();
        self.to_rewind.clear();
        let event = match rebalance {
            Rebalance::Assigned(partitions) => {
                let places = partitions.into_iter().filter_map(|(name, partition)| {
                    let (_, topic) = self.topics.iter().find(|(known, _)| *known == name)?;
                    Some(Place { topic: *topic, partition })
                });
                Event::Assigned { generation: self.generation, places: places.collect() }
            }
            Rebalance::Revoked => {
                if let Err(error) = self.consumer.unassign() {
                    return self.fail(error.into());
                }
                Event::Revoked
            }
        };
        let _ = self.tell.send(event);
    }

    fn rewind(&mut self) {
        for lane in std::mem::take(&mut self.to_rewind) {
            let name = self.shared.config.topic_name(&lane.place.topic);
            let offset = Offset::Offset(lane.start);
            match self.consumer.seek(&name, lane.place.partition, offset, SEEK) {
                Ok(()) => {
                    if let Some(place) = self.index(lane.place) {
                        self.lanes.insert(place, lane);
                    }
                }
                Err(error) => {
                    // Usually the partition is on its way to somebody else.
                    tracing::warn!(%error, place = %lane.place, "can't seek yet");
                    self.to_rewind.push(lane);
                }
            }
        }
    }

    fn trouble(&mut self, error: KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.fail(ConsumerError::OutOfRange);
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                self.fail(error.into());
            }
            // The client goes on by itself: a broker is away, a topic is not there yet.
            _ => tracing::warn!(consumer = self.shared.name, %error, "kafka"),
        }
    }

    fn fail(&self, error: ConsumerError) {
        let _ = self.tell.send(Event::Failed(error));
    }

    /// Tells the watchdog, unless a transaction doesn't end.
    fn report_progress(&mut self, now: Duration) {
        if now.saturating_sub(self.last_progress) < PROGRESS_EVERY {
            return;
        }
        self.last_progress = now;
        let stuck = self.lanes.values().any(|lane| lane.busy_for(now) > PATIENCE);
        if let Some(watchdog) = self.shared.watchdog.get().filter(|_| !stuck) {
            watchdog.progress();
        }
    }

    /// Commits to Kafka what Postgres has.
    fn commit(&mut self, mode: CommitMode) {
        let mut list = TopicPartitionList::new();
        for (place, lane) in &self.lanes {
            let next = lane.committed();
            if self.committed.get(place) != Some(&next) {
                self.committed.insert(*place, next);
                let (name, _) = &self.topics[place.0];
                // An offset can't be invalid here, and lag tools are all that would miss it.
                let _ = list.add_partition_offset(name, place.1, Offset::Offset(next));
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, mode)
        {
            tracing::debug!(%error, "lag tools will see an older position");
        }
    }

    fn record_lag(&self) {
        let Some(ends) = self.consumer.context().take_ends() else { return };
        for (name, partition, end) in ends {
            let Some(topic) = self.topics.iter().position(|(known, _)| *known == name) else {
                continue;
            };
            let Some(lane) = self.lanes.get(&(topic, partition)) else { continue };
            let labels = [
                KeyValue::new("consumer", self.shared.name),
                KeyValue::new("topic", lane.place.topic.suffix),
                KeyValue::new("partition", i64::from(partition)),
            ];
            metrics().lag.record((end - lane.committed()).max(0), &labels);
        }
    }

    /// Leaves the group, so that others take over at once.
    fn close(mut self) {
        for lane in self.lanes.values() {
            lane.end();
        }
        self.commit(CommitMode::Sync);
        self.consumer.context().closing.store(true, Ordering::Release);
        // Dropping the client leaves the group, and serves the last rebalance by the context.
    }

    fn index(&self, place: Place) -> Option<(usize, i32)> {
        let topic = self.topics.iter().position(|(_, topic)| *topic == place.topic)?;
        Some((topic, place.partition))
    }

    fn list(&self, places: &[(usize, i32)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in places {
            list.add_partition(&self.topics[*topic].0, *partition);
        }
        list
    }
}

/// Puts a message into its lane. The partition, if the lane stayed full.
fn deliver(
    topics: &[(String, Topic)],
    lanes: &HashMap<(usize, i32), Arc<Lane>>,
    message: &BorrowedMessage<'_>,
) -> Option<(usize, i32)> {
    let topic = topics.iter().position(|(name, _)| name == message.topic())?;
    let place = (topic, message.partition());
    // Without a lane it is a message of an assignment that has ended.
    let lane = lanes.get(&place)?;
    let full = lane.push(Delivery::read(lane.place.topic, message));
    (full && !lane.wait_for_room(FULL_LANE)).then_some(place)
}

enum Rebalance {
    Assigned(Vec<(String, i32)>),
    Revoked,
}

/// Only notes what happened: answering takes a look into Postgres, and callbacks must not wait.
/// Until the loop has answered, the client neither fetches nor lets the group go on without it.
#[derive(Default)]
struct Rebalances {
    noted: Mutex<VecDeque<Rebalance>>,
    ends: Mutex<Option<Vec<(String, i32, i64)>>>,
    closing: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rebalances {
    fn take_rebalances(&self) -> VecDeque<Rebalance> {
        std::mem::take(&mut locked(&self.noted))
    }

    fn take_ends(&self) -> Option<Vec<(String, i32, i64)>> {
        locked(&self.ends).take()
    }
}

impl ClientContext for Rebalances {
    fn stats(&self, statistics: Statistics) {
        let ends = statistics.topics.into_values().flat_map(|topic| {
            let partitions = topic.partitions.into_iter();
            partitions
                .filter(|(_, partition)| partition.hi_offset >= 0)
                .map(move |(id, partition)| (topic.topic.clone(), id, partition.hi_offset))
        });
        *locked(&self.ends) = Some(ends.collect());
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            // Nobody listens any more, and the client waits for this before it can end.
            if let Err(error) = consumer.unassign() {
                tracing::warn!(%error, "can't give partitions back");
            }
            return;
        }
        let rebalance = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let partitions = partitions.elements();
            let partitions =
                partitions.iter().map(|element| (element.topic().to_owned(), element.partition()));
            Rebalance::Assigned(partitions.collect())
        } else {
            Rebalance::Revoked
        };
        locked(&self.noted).push_back(rebalance);
    }
}
