//! Follows everybody's consents on Kafka: the compacted state from its beginning, the events from where they end when
//! it starts; between the two nothing is missing. It keeps its picture in memory and begins anew at each start.

use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::envelope::{CE_EVENT_SEQUENCE, CE_SEQUENCE, CE_TYPE};
use assent_contracts::published::{self, Key};
use assent_contracts::topics::{CONSENT_EVENTS, CONSENT_STATE};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::picture::{Change, Picture};

/// How long the broker is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why following ended. Begin anew, by [`Follower::start`].
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Kafka.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// A record is not what the contracts say.
    #[error("{topic}, partition {partition}, offset {offset}: {what}")]
    Record {
        /// Where it stands.
        topic: String,
        /// Where it stands.
        partition: i32,
        /// Where it stands.
        offset: i64,
        /// What is wrong.
        what: &'static str,
    },
}

/// A reader of both topics.
pub struct Follower {
    consumer: BaseConsumer,
    state: String,
    picture: Picture,
}

impl Follower {
    /// Begins. `kafka` has at least `bootstrap.servers`, and TLS and login where needed; `prefix` is the deployment's,
    /// `assent.` unless it says otherwise. Read access to both topics is enough: no group is joined, nothing committed.
    ///
    /// # Errors
    /// [`FollowError::Kafka`].
    pub fn start(kafka: &ClientConfig, prefix: &str) -> Result<Self, FollowError> {
        let mut config = kafka.clone();
        if config.get("group.id").is_none() {
            // The library wants one; it is never used.
            config.set("group.id", "assent-client");
        }
        config.set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create()?;
        let (state, events) = (CONSENT_STATE.name(prefix), CONSENT_EVENTS.name(prefix));
        let mut list = TopicPartitionList::new();
        for partition in 0..CONSENT_EVENTS.partitions {
            let (_, end) = consumer.fetch_watermarks(&events, partition, PATIENCE)?;
            list.add_partition_offset(&events, partition, Offset::Offset(end))?;
        }
        for partition in 0..CONSENT_STATE.partitions {
            list.add_partition_offset(&state, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Self { consumer, state, picture: Picture::default() })
    }

    /// What has changed with the next record; nothing, if none came within `wait` or it changed nothing. Blocks.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn poll(&mut self, wait: Duration) -> Result<Vec<Change>, FollowError> {
        match self.consumer.poll(wait) {
            Some(record) => take(&mut self.picture, &self.state, &record?),
            None => Ok(Vec::new()),
        }
    }

    /// What holds, as far as it was read.
    #[must_use]
    pub fn picture(&self) -> &Picture {
        &self.picture
    }
}

fn take(
    picture: &mut Picture,
    state: &str,
    record: &BorrowedMessage<'_>,
) -> Result<Vec<Change>, FollowError> {
    let wrong = |what| FollowError::Record {
        topic: record.topic().to_owned(),
        partition: record.partition(),
        offset: record.offset(),
        what,
    };
    let key = record.key().and_then(|key| SubjectId::try_parse_ascii(key).ok());
    let key = key.ok_or_else(|| wrong("its key is no id"))?;
    let number = |name| header(record, name).and_then(|text| text.parse::<i64>().ok());
    let changes = if record.topic() == state {
        let reflects = number(CE_EVENT_SEQUENCE).ok_or_else(|| wrong("no ce_eventsequence"))?;
        picture.state(key, reflects, record.payload())
    } else {
        let kind = header(record, CE_TYPE).ok_or_else(|| wrong("no ce_type"))?;
        if is_of_nobody(kind) {
            return Ok(Vec::new());
        }
        let sequence = number(CE_SEQUENCE).ok_or_else(|| wrong("no ce_sequence"))?;
        picture.event(key, sequence, kind, record.payload().unwrap_or_default())
    };
    changes.map_err(|_| wrong("its data is of no form that is known"))
}

/// Purposes, the policy, the rules, batches of claims: their keys name no person.
fn is_of_nobody(kind: &str) -> bool {
    published::ALL.iter().any(|event| event.name == kind && event.key != Key::Subject)
}

fn header<'a>(record: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let header = record.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok()
}
