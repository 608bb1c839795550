//! Topics: creating them as the contracts say, and asking how far they reach. It guarantees that a
//! topic which exists has the partition count of its contract, since another count would move keys
//! and break their order.

use std::collections::BTreeMap;
use std::time::Duration;

use assent_contracts::topics::{Cleanup, Topic};
use assent_runtime::{Clock as _, SystemClock};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use crate::config::BusConfig;
use crate::reach::{self, Listener, Unreached};
use crate::topic_id;

const TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Why a topic is not as it must be, or couldn't be asked for.
#[derive(Debug, Error)]
pub enum TopicError {
    /// The broker refused or couldn't be reached.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Nobody answers, or we aren't let in.
    #[error(transparent)]
    Unreached(#[from] Unreached),
    /// The broker refused to create a topic.
    #[error("topic {topic} can't be created: {code}")]
    NotCreated {
        /// Full name.
        topic: String,
        /// The broker's answer.
        code: RDKafkaErrorCode,
    },
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    Missing(String),
    /// The user may not describe the topic; whether it exists isn't told.
    #[error("our user may not see topic {0}")]
    NotAllowed(String),
    /// The topic has another partition count than its contract.
    #[error("topic {topic} has {found} partitions instead of {wanted}: keys would move")]
    Partitions {
        /// Full name.
        topic: String,
        /// What there is.
        found: usize,
        /// What the contract says.
        wanted: i32,
    },
    /// A blocking task ended early: the process is stopping.
    #[error("interrupted")]
    Interrupted,
}

/// Creates the topics that don't exist yet and checks those that do.
///
/// # Errors
/// If a topic can't be created, or exists with another partition count.
pub async fn ensure_topics(config: &BusConfig, topics: &[Topic]) -> Result<(), TopicError> {
    // The client that creates topics keeps to itself why nobody answers.
    reach::reach(config, TIMEOUT).await?;
    let admin: AdminClient<DefaultClientContext> = config.client().create()?;
    let names: Vec<String> = topics.iter().map(|topic| config.topic_name(topic)).collect();
    let wanted: Vec<NewTopic<'_>> = names
        .iter()
        .zip(topics)
        .map(|(name, topic)| {
            let replication = TopicReplication::Fixed(config.replication);
            let new = NewTopic::new(name, topic.partitions, replication);
            match topic.cleanup {
                Cleanup::Keep => new
                    .set("cleanup.policy", "delete")
                    .set("retention.ms", "-1")
                    .set("retention.bytes", "-1"),
                Cleanup::Compact => new.set("cleanup.policy", "compact"),
            }
        })
        .collect();
    let options =
        AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    for result in admin.create_topics(&wanted, &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(TopicError::NotCreated { topic, code }),
        }
    }
    let topics = topics.to_vec();
    blocking(config, move |config, client| {
        topics.iter().try_for_each(|topic| check_new(config, client, topic))
    })
    .await
}

/// A topic that was just made takes a moment until every broker knows it.
fn check_new(
    config: &BusConfig,
    client: &BaseConsumer<Listener>,
    topic: &Topic,
) -> Result<(), TopicError> {
    patiently(|| check(config, client, topic), |error| matches!(error, TopicError::Missing(_)))
}

/// A partition that is just getting its leader refuses to say how far it reaches.
fn is_changing_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
    )
}

/// Asks again while the answer is one that passes by itself.
fn patiently<T, E>(
    mut ask: impl FnMut() -> Result<T, E>,
    passes: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut patience = TIMEOUT;
    loop {
        match ask() {
            Err(error) if passes(&error) && !patience.is_zero() => {
                std::thread::sleep(PAUSE);
                patience = patience.saturating_sub(PAUSE);
            }
            answer => return answer,
        }
    }
}

/// The end of each partition: the offset that the next message will have. A barrier waits until
/// positions have reached it.
///
/// # Errors
/// If the broker doesn't answer or the topic doesn't exist.
pub async fn end_offsets(
    config: &BusConfig,
    topic: Topic,
) -> Result<BTreeMap<i32, i64>, TopicError> {
    let extents = extents(config, &[topic]).await?;
    Ok(extents.into_iter().map(|extent| (extent.partition, extent.end)).collect())
}

/// What the log of one partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The topic.
    pub topic: Topic,
    /// The topic's id in its cluster: a topic that was deleted and made again has another one.
    pub topic_id: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that is still there.
    pub start: i64,
    /// The offset that the next message will have.
    pub end: i64,
}

/// The extents of all partitions of these topics.
///
/// # Errors
/// If the broker doesn't answer or a topic doesn't exist as its contract says.
pub async fn extents(config: &BusConfig, topics: &[Topic]) -> Result<Vec<Extent>, TopicError> {
    let topics = topics.to_vec();
    blocking(config, move |config, client| {
        let names: Vec<String> = topics.iter().map(|topic| config.topic_name(topic)).collect();
        let ids = topic_id::fetch(client.client(), &names, TIMEOUT)?;
        let mut extents = Vec::new();
        for (topic, name) in topics.iter().zip(&names) {
            check(config, client, topic)?;
            let topic_id = ids.get(name).ok_or_else(|| TopicError::Missing(name.clone()))?;
            for partition in 0..topic.partitions {
                let (start, end) = patiently(
                    || client.fetch_watermarks(name, partition, TIMEOUT),
                    is_changing_leader,
                )?;
                let (topic, topic_id) = (*topic, topic_id.clone());
                extents.push(Extent { topic, topic_id, partition, start, end });
            }
        }
        Ok(extents)
    })
    .await
}

/// How each of these topics is; changes nothing.
///
/// # Errors
/// If Kafka isn't reached within `patience`. The looks at the topics take as long again, together.
pub async fn examine(
    config: &BusConfig,
    topics: &[Topic],
    patience: Duration,
) -> Result<Vec<(Topic, Result<(), TopicError>)>, Unreached> {
    let (config, topics) = (config.clone(), topics.to_vec());
    let examined = tokio::task::spawn_blocking(move || {
        let client = reach::client(&config, patience)?;
        let end = SystemClock.boottime() + patience;
        let look = |topic: Topic| {
            let left = end.saturating_sub(SystemClock.boottime());
            (topic, check_within(&config, &client, &topic, left))
        };
        Ok(topics.into_iter().map(look).collect())
    });
    examined.await.unwrap_or_else(|_| Err(Unreached::Silent("interrupted".to_owned())))
}

fn check(
    config: &BusConfig,
    client: &BaseConsumer<Listener>,
    topic: &Topic,
) -> Result<(), TopicError> {
    check_within(config, client, topic, TIMEOUT)
}

fn check_within(
    config: &BusConfig,
    client: &BaseConsumer<Listener>,
    topic: &Topic,
    timeout: Duration,
) -> Result<(), TopicError> {
    let name = config.topic_name(topic);
    let metadata = client.fetch_metadata(Some(&name), timeout)?;
    let found = metadata.topics().iter().find(|found| found.name() == name);
    let Some(found) = found else { return Err(TopicError::Missing(name)) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            return Err(TopicError::NotAllowed(name));
        }
        Some(_) => return Err(TopicError::Missing(name)),
    }
    let found = found.partitions().len();
    if usize::try_from(topic.partitions) != Ok(found) {
        return Err(TopicError::Partitions { topic: name, found, wanted: topic.partitions });
    }
    Ok(())
}

/// Asks with a client of its own: such questions are rare, and a client without a group has no
/// duties.
async fn blocking<T: Send + 'static>(
    config: &BusConfig,
    ask: impl FnOnce(&BusConfig, &BaseConsumer<Listener>) -> Result<T, TopicError> + Send + 'static,
) -> Result<T, TopicError> {
    let config = config.clone();
    tokio::task::spawn_blocking(move || {
        let client = reach::client(&config, TIMEOUT)?;
        ask(&config, &client)
    })
    .await
    .unwrap_or(Err(TopicError::Interrupted))
}
