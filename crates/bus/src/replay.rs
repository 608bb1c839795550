//! Reading a topic without a group: for rebuilds, checks and parked messages. It guarantees every
//! message of the given ranges, in order per partition, and takes part in nobody's positions.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use assent_contracts::topics::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use thiserror::Error;
use tokio::sync::mpsc::{Sender, channel};

use crate::access::REPLAY;
use crate::config::BusConfig;
use crate::envelope::Delivery;

const POLL: Duration = Duration::from_millis(100);
/// How long Kafka may stay silent before reading has failed.
const SILENCE: Duration = Duration::from_secs(15);
/// Messages that make a batch; fewer where nothing more is there.
const BATCH: usize = 5_000;

/// Why reading stopped early.
#[derive(Debug, Error)]
pub enum ReadError<E: Display> {
    /// Kafka's client gave up.
    #[error("kafka: {0}")]
    Kafka(KafkaError),
    /// Kafka said nothing for too long.
    #[error("kafka is silent")]
    Silent,
    /// The reading task ended early: the process is stopping.
    #[error("interrupted")]
    Interrupted,
    /// The reader refused a batch.
    #[error("{0}")]
    Handler(E),
}

/// Messages of one partition, in order.
#[derive(Debug)]
pub struct Batch {
    /// The partition.
    pub partition: i32,
    /// The messages; none where the range holds nothing more.
    pub messages: Vec<Delivery>,
    /// Where reading goes on after them.
    pub next_offset: i64,
}

/// Reads the partitions of a topic from `from` (inclusive) to `to` (exclusive) and gives them in
/// batches to `handle`. Partitions that either side doesn't name are left out.
///
/// # Errors
/// If Kafka fails or is silent, or with what `handle` says.
pub async fn read<E, F>(
    config: &BusConfig,
    topic: Topic,
    from: &BTreeMap<i32, i64>,
    to: &BTreeMap<i32, i64>,
    mut handle: impl FnMut(Batch) -> F,
) -> Result<(), ReadError<E>>
where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    let ranges: BTreeMap<i32, (i64, i64)> = from
        .iter()
        .filter_map(|(partition, start)| Some((*partition, (*start, *to.get(partition)?))))
        .filter(|(_, (start, end))| start < end)
        .collect();
    if ranges.is_empty() {
        return Ok(());
    }
    let (send, mut batches) = channel(2);
    let config = config.clone();
    let reader = tokio::task::spawn_blocking(move || {
        Reader::new(&config, topic, ranges).and_then(|reader| reader.run(&send))
    });
    while let Some(batch) = batches.recv().await {
        handle(batch).await.map_err(ReadError::Handler)?;
    }
    match reader.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Stop::Kafka(error))) => Err(ReadError::Kafka(error)),
        Ok(Err(Stop::Silent)) => Err(ReadError::Silent),
        Err(_) => Err(ReadError::Interrupted),
    }
}

/// The message at one place; `None` if it is no longer there (compacted away).
///
/// # Errors
/// If Kafka fails or is silent.
pub async fn message(
    config: &BusConfig,
    topic: Topic,
    partition: i32,
    offset: i64,
) -> Result<Option<Delivery>, ReadError<std::convert::Infallible>> {
    let mut found = None;
    let (from, to) = (BTreeMap::from([(partition, offset)]), [(partition, offset + 1)].into());
    read(config, topic, &from, &to, |batch| {
        found = batch.messages.into_iter().find(|message| message.offset() == offset);
        std::future::ready(Ok(()))
    })
    .await?;
    Ok(found)
}

enum Stop {
    Kafka(KafkaError),
    Silent,
}

impl From<KafkaError> for Stop {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

struct Reader {
    consumer: BaseConsumer,
    topic: Topic,
    /// Per partition: where it ends, and what was read since the last batch.
    open: BTreeMap<i32, (i64, Vec<Delivery>)>,
}

impl Reader {
    fn new(
        config: &BusConfig,
        topic: Topic,
        ranges: BTreeMap<i32, (i64, i64)>,
    ) -> Result<Self, Stop> {
        let mut client = config.client();
        client
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", "5")
            // The client wants a name although it joins nothing.
            .set("group.id", config.group(REPLAY));
        let consumer: BaseConsumer = client.create()?;
        let mut list = TopicPartitionList::new();
        let name = config.topic_name(&topic);
        for (partition, (start, _)) in &ranges {
            list.add_partition_offset(&name, *partition, Offset::Offset(*start))?;
        }
        consumer.assign(&list)?;
        let open = ranges.into_iter().map(|(partition, (_, end))| (partition, (end, Vec::new())));
        Ok(Self { consumer, topic, open: open.collect() })
    }

    fn run(mut self, send: &Sender<Batch>) -> Result<(), Stop> {
        let mut silence = Duration::ZERO;
        while !self.open.is_empty() {
            let batch = match self.consumer.poll(POLL) {
                None => {
                    silence += POLL;
                    if silence >= SILENCE {
                        return Err(Stop::Silent);
                    }
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => self.ended(partition),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    // The client goes on by itself.
                    Some(
                        RDKafkaErrorCode::AllBrokersDown
                        | RDKafkaErrorCode::BrokerTransportFailure
                        | RDKafkaErrorCode::Resolve,
                    ) => continue,
                    _ => return Err(error.into()),
                },
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some((end, read)) = self.open.get_mut(&partition) else { continue };
                    if offset < *end {
                        read.push(Delivery::read(self.topic, &message));
                    }
                    if offset + 1 >= *end {
                        self.ended(partition)
                    } else if read.len() >= BATCH {
                        let messages = std::mem::take(read);
                        Some(Batch { partition, messages, next_offset: offset + 1 })
                    } else {
                        None
                    }
                }
            };
            silence = Duration::ZERO;
            if let Some(batch) = batch
                && send.blocking_send(batch).is_err()
            {
                // The reader doesn't want any more.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Closes a partition and gives what is left of it. The end of a partition is also told by
    /// Kafka's word, because the last offsets of a range may hold no message.
    fn ended(&mut self, partition: i32) -> Option<Batch> {
        let (end, messages) = self.open.remove(&partition)?;
        Some(Batch { partition, messages, next_offset: end })
    }
}
