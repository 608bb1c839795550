//! The Kafka topics, with the promises that come with each. Partition counts are fixed for good:
//! growing means a new topic, because a changed count would move keys and break their order.

/// How Kafka disposes of old records of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Every record is kept for ever; consumers may replay from zero.
    Keep,
    /// Only the newest record per key is kept.
    Compact,
}

/// A topic: its name without the deployment's prefix, its partition count and its cleanup policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Name without the prefix, such as `consent.events.v1`.
    pub suffix: &'static str,
    /// Partition count, fixed for the topic's life.
    pub partitions: i32,
    /// Cleanup policy.
    pub cleanup: Cleanup,
}

impl Topic {
    /// The full name under the deployment's prefix (`assent.` unless configured).
    #[must_use]
    pub fn name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.suffix)
    }
}

const fn keep(suffix: &'static str) -> Topic {
    Topic { suffix, partitions: 6, cleanup: Cleanup::Keep }
}

/// Consent events: grants, refusals, withdrawals, expiries, purposes and notices.
pub const CONSENT_EVENTS: Topic = keep("consent.events.v1");
/// The newest consent state per person, compacted: bootstrap here, then follow the events.
pub const CONSENT_STATE: Topic =
    Topic { suffix: "consent.state.v1", partitions: 6, cleanup: Cleanup::Compact };
/// Vault events: people known, addresses linked, addresses suppressed, people erased.
pub const VAULT_EVENTS: Topic = keep("vault.events.v1");
/// Messaging events: messages requested, refused, sent, delivered, stops heard.
pub const MESSAGING_EVENTS: Topic = keep("messaging.events.v1");
/// Commands of the erasure saga to its participants.
pub const ERASURE_COMMANDS: Topic = keep("erasure.commands.v1");
/// Erasure events: requests, acknowledgements, completion.
pub const ERASURE_EVENTS: Topic = keep("erasure.events.v1");

/// Every topic of this version.
pub const ALL: [Topic; 6] = [
    CONSENT_EVENTS,
    CONSENT_STATE,
    VAULT_EVENTS,
    MESSAGING_EVENTS,
    ERASURE_COMMANDS,
    ERASURE_EVENTS,
];

/// The topic with this suffix.
#[must_use]
pub fn by_suffix(suffix: &str) -> Option<Topic> {
    ALL.into_iter().find(|topic| topic.suffix == suffix)
}
