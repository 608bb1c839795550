//! How to reach Kafka, and the settings that every client of it shares. It guarantees one reading
//! of the `[kafka]` section; what each client adds to it stands beside that client, and how a
//! client shows who it is in [`crate::security`].

use std::time::Duration;

use assent_contracts::topics::Topic;
use assent_runtime::Settings;
use rdkafka::ClientConfig;

use crate::security::Security;

/// The brokers and the deployment's prefix for topics and consumer groups.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// Bootstrap addresses, `host:port`, separated by commas.
    pub brokers: String,
    /// How the connection is protected, and who we are on it.
    pub security: Security,
    /// What every topic and group name begins with; it keeps deployments apart.
    pub topic_prefix: String,
    /// Copies of each partition of a topic that [`crate::ensure_topics`] creates; -1 leaves it to
    /// the broker.
    pub replication: i32,
    /// Largest number of messages that are handled in one transaction.
    pub batch_max: usize,
    /// Most transactions that one consumer has open at a time.
    pub workers: usize,
    /// How long a member may be silent before its partitions go to others.
    pub session_timeout: Duration,
    /// How often a process may start on the same message before the message is parked.
    pub starts_max: i32,
}

impl BusConfig {
    /// The configuration for these brokers and this prefix, everything else at its default.
    #[must_use]
    pub fn new(brokers: impl Into<String>, topic_prefix: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            security: Security::Plaintext,
            topic_prefix: topic_prefix.into(),
            replication: -1,
            batch_max: 5_000,
            workers: 2,
            session_timeout: Duration::from_secs(6),
            starts_max: 3,
        }
    }

    /// Reads the section `[kafka]`; what is wrong with it is recorded in the settings, and then
    /// the answer is `None`.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Self> {
        let section = settings.section("kafka");
        let brokers = section.required::<String>("brokers");
        let topic_prefix = Self::read_prefix(settings);
        let mut config = Self::new(String::new(), topic_prefix);
        config.replication = section.default("replication", config.replication);
        config.batch_max = section.default("batch_max", config.batch_max);
        config.workers = section.default("workers", config.workers);
        config.session_timeout = section.millis("session_timeout_ms", config.session_timeout);
        config.starts_max = section.default("starts_max", config.starts_max);
        for (key, value) in [("batch_max", config.batch_max), ("workers", config.workers)] {
            if value == 0 {
                section.invalid(key, "must be at least 1");
            }
        }
        let security = Security::read(&section);
        config.brokers = brokers?;
        config.security = security?;
        Some(config)
    }

    /// Reads only what names begin with; what is wrong with it is recorded in the settings.
    #[must_use]
    pub fn read_prefix(settings: &Settings) -> String {
        let section = settings.section("kafka");
        let topic_prefix = section.default("topic_prefix", "assent.".to_owned());
        if !topic_prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        {
            section.invalid("topic_prefix", "may hold letters, digits, '.', '_' and '-' only");
        }
        topic_prefix
    }

    /// The full name of a topic in this deployment.
    #[must_use]
    pub fn topic_name(&self, topic: &Topic) -> String {
        topic.name(&self.topic_prefix)
    }

    /// The consumer group of a subscriber in this deployment.
    #[must_use]
    pub fn group(&self, subscriber: &str) -> String {
        format!("{}{subscriber}", self.topic_prefix)
    }

    /// What all clients share: addresses, protection, no waiting for fuller packets, quick reconnects.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "assent")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("log.connection.close", "false");
        self.security.apply(&mut config);
        config
    }
}
