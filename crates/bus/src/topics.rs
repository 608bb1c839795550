//! Topics: making them as the contracts say, and asking how far they reach. It guarantees that a
//! topic which exists has the partition count of its contract, since another count would move keys
//! and break their order.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use assent_contracts::topics::Topic;
use assent_runtime::{Clock as _, SystemClock};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use crate::config::BusConfig;
use crate::reach::{self, Listener, Unreached};
use crate::topic_id;
use crate::topic_plan::{Change, Found, changes};

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
    /// The broker refused to tell or to change a topic's settings.
    #[error("the settings of {topic} can't be told or changed: {code}")]
    Settings {
        /// Full name.
        topic: String,
        /// The broker's answer.
        code: RDKafkaErrorCode,
    },
    /// The broker won't tell of a topic.
    #[error("the broker doesn't tell of topic {topic}: {code}")]
    Untold {
        /// Full name.
        topic: String,
        /// The broker's answer.
        code: RDKafkaErrorCode,
    },
    /// What was changed doesn't show, or was changed by somebody else meanwhile.
    #[error("topic {0} is still not as its contract says: look at the plan again")]
    Unsettled(String),
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
            topic.settings().iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    for result in admin.create_topics(&wanted, &options()).await? {
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

/// What separates the broker's topics from these, in their order.
///
/// # Errors
/// If the broker doesn't answer, or won't tell a topic's settings.
pub async fn plan_topics(
    config: &BusConfig,
    topics: &[Topic],
) -> Result<Vec<(Topic, Vec<Change>)>, TopicError> {
    let found = look(config, topics).await?;
    let plan =
        |topic: &Topic| (*topic, changes(topic, found.get(topic.suffix).map(|it| &it.found)));
    Ok(topics.iter().map(plan).collect())
}

/// Makes the broker's topics what the contracts say: those that don't exist, and settings that are
/// others. What a topic has beside them stays. Returns when the broker tells the new settings, with what
/// had to be done.
///
/// # Errors
/// If a topic has another partition count: then nothing is changed. If the broker doesn't answer or
/// refuses, or goes on telling other settings.
pub async fn apply_topics(
    config: &BusConfig,
    topics: &[Topic],
) -> Result<Vec<(Topic, Vec<Change>)>, TopicError> {
    let plan = plan_topics(config, topics).await?;
    for (topic, changes) in &plan {
        for change in changes {
            if let Change::Partitions { found, wanted } = change {
                let (topic, found, wanted) = (config.topic_name(topic), *found, *wanted);
                return Err(TopicError::Partitions { topic, found, wanted });
            }
        }
    }
    ensure_topics(config, topics).await?;
    let found = look(config, topics).await?;
    let admin: AdminClient<DefaultClientContext> = config.client().create()?;
    // Also those that somebody made after the plan.
    for topic in topics {
        let Some(looked) = found.get(topic.suffix) else { continue };
        if !changes(topic, Some(&looked.found)).iter().any(is_setting) {
            continue;
        }
        // The call replaces all that is set: what isn't repeated would be lost.
        let mut own = looked.own.clone();
        for (name, value) in topic.settings() {
            own.insert((*name).to_owned(), (*value).to_owned());
        }
        let name = config.topic_name(topic);
        let entries: HashMap<&str, &str> = own.iter().map(|(n, v)| (&**n, &**v)).collect();
        let alter = AlterConfig { specifier: ResourceSpecifier::Topic(&name), entries };
        for result in admin.alter_configs([&alter], &options()).await? {
            result.map_err(|(_, code)| TopicError::Settings { topic: name.clone(), code })?;
        }
    }
    settled(config, topics).await?;
    Ok(plan)
}

/// A broker tells what was changed a moment later.
async fn settled(config: &BusConfig, topics: &[Topic]) -> Result<(), TopicError> {
    let mut patience = TIMEOUT;
    loop {
        let plan = plan_topics(config, topics).await?;
        let Some((topic, _)) = plan.iter().find(|(_, changes)| !changes.is_empty()) else {
            return Ok(());
        };
        if patience.is_zero() {
            return Err(TopicError::Unsettled(config.topic_name(topic)));
        }
        tokio::time::sleep(PAUSE).await;
        patience = patience.saturating_sub(PAUSE);
    }
}

fn is_setting(change: &Change) -> bool {
    matches!(change, Change::Set { .. })
}

/// A topic of the broker, with those settings that are its own and no default.
struct Looked {
    found: Found,
    own: BTreeMap<String, String>,
}

/// Those of the topics that exist, by suffix.
async fn look(
    config: &BusConfig,
    topics: &[Topic],
) -> Result<HashMap<&'static str, Looked>, TopicError> {
    let all = topics.to_vec();
    let counts = blocking(config, move |config, client| {
        let mut counts = Vec::new();
        for topic in &all {
            let name = config.topic_name(topic);
            if let Some(count) = patiently(|| partitions(client, &name, TIMEOUT), is_electing)? {
                counts.push((*topic, name, count));
            }
        }
        Ok(counts)
    })
    .await?;
    let admin: AdminClient<DefaultClientContext> = config.client().create()?;
    let mut looked = HashMap::new();
    for (topic, name, partitions) in counts {
        let (mut settings, mut own) = (BTreeMap::new(), BTreeMap::new());
        // One topic at a time: an answer that is an error doesn't say whose it is.
        let specifier = ResourceSpecifier::Topic(&name);
        for result in admin.describe_configs([&specifier], &options()).await? {
            let resource =
                result.map_err(|code| TopicError::Settings { topic: name.clone(), code })?;
            for entry in resource.entries {
                let Some(value) = entry.value else { continue };
                if entry.source == ConfigSource::DynamicTopic {
                    own.insert(entry.name.clone(), value.clone());
                }
                settings.insert(entry.name, value);
            }
        }
        looked.insert(topic.suffix, Looked { found: Found { partitions, settings }, own });
    }
    Ok(looked)
}

/// How many partitions a topic has; none: it doesn't exist, and no other answer means that.
fn partitions(
    client: &BaseConsumer<Listener>,
    name: &str,
    timeout: Duration,
) -> Result<Option<usize>, TopicError> {
    let metadata = client.fetch_metadata(Some(name), timeout)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == name) else {
        return Ok(None);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(found.partitions().len())),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Ok(None)
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            Err(TopicError::NotAllowed(name.to_owned()))
        }
        Some(code) => Err(TopicError::Untold { topic: name.to_owned(), code }),
    }
}

/// A topic that was just made gets its leaders a moment later.
fn is_electing(error: &TopicError) -> bool {
    matches!(error, TopicError::Untold { code: RDKafkaErrorCode::LeaderNotAvailable, .. })
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

/// A topic that was just made takes a moment until every broker knows it.
fn check_new(
    config: &BusConfig,
    client: &BaseConsumer<Listener>,
    topic: &Topic,
) -> Result<(), TopicError> {
    patiently(
        || check(config, client, topic),
        |error| matches!(error, TopicError::Missing(_)) || is_electing(error),
    )
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
    let Some(found) = partitions(client, &name, timeout)? else {
        return Err(TopicError::Missing(name));
    };
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
