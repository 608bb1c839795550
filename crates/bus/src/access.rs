//! What a service does with Kafka, as the service itself declares it. It guarantees nothing: whoever makes rights
//! of it (`assent topics rights`) and whoever runs the consumers take both from here, so that they agree.

use assent_contracts::topics::Topic;

/// The group that replays name, though they join nothing: the client wants a name.
pub const REPLAY: &str = "replay";

/// A consumer: the name under which its positions are kept, and the topic that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// `<service>.<purpose>`.
    pub consumer: &'static str,
    /// What it reads.
    pub topic: Topic,
}

/// What a service does with Kafka beside writing to the topics that are its own.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Its consumers.
    pub readers: Vec<Reader>,
    /// Topics that it reads without being a member of a group: its own log. Parked messages and rebuilds are of
    /// topics that a consumer reads anyway.
    pub replayed: Vec<Topic>,
    /// Topics of which it asks only how far they reach.
    pub measured: Vec<Topic>,
}

impl Access {
    /// Whether it reads records of the topic.
    #[must_use]
    pub fn reads(&self, topic: &Topic) -> bool {
        self.readers.iter().any(|reader| reader.topic == *topic) || self.replayed.contains(topic)
    }
}
