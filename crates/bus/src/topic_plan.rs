//! What separates the topics that a broker has from those of the contracts, as a pure function. It
//! guarantees that a change of a partition count is never planned: it would move keys and break their
//! order.

use std::collections::BTreeMap;

use assent_contracts::topics::Topic;

/// A topic as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its partitions.
    pub partitions: usize,
    /// Its settings, defaults included.
    pub settings: BTreeMap<String, String>,
}

/// One thing that is not as the contract says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It doesn't exist.
    Create,
    /// A setting is another.
    Set {
        /// Which, such as `retention.ms`.
        setting: &'static str,
        /// What it is.
        from: Option<String>,
        /// What it must be.
        to: &'static str,
    },
    /// The partition count is another: nobody changes that.
    Partitions {
        /// What there is.
        found: usize,
        /// What the contract says.
        wanted: i32,
    },
}

/// What is to be changed about a topic, as the broker has it or hasn't.
#[must_use]
pub fn changes(topic: &Topic, found: Option<&Found>) -> Vec<Change> {
    let Some(found) = found else { return vec![Change::Create] };
    let mut changes = Vec::new();
    if usize::try_from(topic.partitions) != Ok(found.partitions) {
        changes.push(Change::Partitions { found: found.partitions, wanted: topic.partitions });
    }
    for (setting, to) in topic.settings() {
        let from = found.settings.get(*setting);
        if from.map(String::as_str) != Some(to) {
            changes.push(Change::Set { setting, from: from.cloned(), to });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use assent_contracts::topics::{CONSENT_EVENTS, CONSENT_STATE};

    use super::*;

    fn found(topic: &Topic) -> Found {
        let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Found {
            partitions: usize::try_from(topic.partitions).unwrap(),
            settings: topic.settings().iter().map(setting).collect(),
        }
    }

    #[test]
    fn what_is_as_the_contract_says_stays() {
        for topic in [CONSENT_EVENTS, CONSENT_STATE] {
            let mut found = found(&topic);
            assert_eq!(changes(&topic, Some(&found)), []);
            found.settings.insert("min.insync.replicas".to_owned(), "2".to_owned());
            assert_eq!(
                changes(&topic, Some(&found)),
                [],
                "what isn't promised is the deployment's"
            );
        }
    }

    #[test]
    fn what_is_missing_or_different_is_planned_and_partitions_are_told() {
        assert_eq!(changes(&CONSENT_STATE, None), [Change::Create]);
        let mut found = found(&CONSENT_EVENTS);
        found.settings.insert("retention.ms".to_owned(), "604800000".to_owned());
        found.settings.remove("retention.bytes");
        found.partitions = 12;
        let expected = [
            Change::Partitions { found: 12, wanted: 6 },
            Change::Set { setting: "retention.bytes", from: None, to: "-1" },
            Change::Set { setting: "retention.ms", from: Some("604800000".to_owned()), to: "-1" },
        ];
        assert_eq!(changes(&CONSENT_EVENTS, Some(&found)), expected);
    }
}
