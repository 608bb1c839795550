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

/// What `ce_sequence` says on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// It counts the events of a key from 1, without a gap.
    Gapless,
    /// It only rises; `ce_eventsequence` names the last event that the record reflects.
    Rising,
    /// There is none.
    None,
}

impl Sequence {
    /// Its name in the golden file of what was released.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gapless => "gapless",
            Self::Rising => "rising",
            Self::None => "none",
        }
    }
}

/// How long a tombstone of a compacted topic stays for readers that were away: a day.
const TOMBSTONES_MS: &str = "86400000";

/// A topic: its name without the deployment's prefix, and the promises that come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Name without the prefix, such as `consent.events.v1`.
    pub suffix: &'static str,
    /// What stands in it, for people.
    pub about: &'static str,
    /// Partition count, fixed for the topic's life.
    pub partitions: i32,
    /// Cleanup policy.
    pub cleanup: Cleanup,
    /// What its sequence says.
    pub sequence: Sequence,
}

impl Topic {
    /// The full name under the deployment's prefix (`assent.` unless configured).
    #[must_use]
    pub fn name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.suffix)
    }

    /// The service that writes it, and nobody else.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.suffix.split('.').next().unwrap_or_default()
    }

    /// The settings at the broker that keep its promises, sorted; everything else is the deployment's.
    #[must_use]
    pub const fn settings(&self) -> &'static [(&'static str, &'static str)] {
        match self.cleanup {
            Cleanup::Keep => {
                &[("cleanup.policy", "delete"), ("retention.bytes", "-1"), ("retention.ms", "-1")]
            }
            Cleanup::Compact => {
                &[("cleanup.policy", "compact"), ("delete.retention.ms", TOMBSTONES_MS)]
            }
        }
    }
}

const fn keep(suffix: &'static str, about: &'static str) -> Topic {
    Topic { suffix, about, partitions: 6, cleanup: Cleanup::Keep, sequence: Sequence::Gapless }
}

/// Consent events.
pub const CONSENT_EVENTS: Topic = keep(
    "consent.events.v1",
    "What people said and what stands against them; purposes, notices, the policy, the rules, claims.",
);
/// The newest consent state per person, compacted: bootstrap here, then follow the events.
pub const CONSENT_STATE: Topic = Topic {
    suffix: "consent.state.v1",
    about: "All consents of each person as they hold now. A record without a value: she is being erased, forget her.",
    partitions: 6,
    cleanup: Cleanup::Compact,
    sequence: Sequence::Rising,
};
/// Vault events.
pub const VAULT_EVENTS: Topic = keep(
    "vault.events.v1",
    "People known, with the tokens of their addresses; addresses suppressed; people erased.",
);
/// Messaging events.
pub const MESSAGING_EVENTS: Topic = keep(
    "messaging.events.v1",
    "Messages and what became of them, stops heard, conversations, campaigns. Never what was written.",
);
/// Commands of the erasure saga to its participants.
pub const ERASURE_COMMANDS: Topic = Topic {
    sequence: Sequence::None,
    ..keep(
        "erasure.commands.v1",
        "What participants are to do for an erasure. A command that isn't answered is sent again.",
    )
};
/// Erasure events.
pub const ERASURE_EVENTS: Topic =
    keep("erasure.events.v1", "Requests to be erased, who answered, who is late, completion.");

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

#[cfg(test)]
mod tests {
    use super::*;

    /// What tells a participant to erase, and what says that somebody is erased, never ends.
    #[test]
    fn whoever_was_away_for_longer_than_tombstones_live_still_hears_of_every_erasure() {
        for topic in ALL.into_iter().filter(|topic| *topic != CONSENT_STATE) {
            let settings = topic.settings();
            for kept in
                [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")]
            {
                assert!(settings.contains(&kept), "{}: {settings:?}", topic.suffix);
            }
        }
        assert!(CONSENT_STATE.settings().contains(&("delete.retention.ms", TOMBSTONES_MS)));
    }
}
