//! Decides what becomes of each message of a batch: applied, dropped or parked. It guarantees order
//! per key whatever is broken; it is pure, and its facts are read by the caller under the lock of
//! the partition's position.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use crate::envelope::{Malformed, Received};
use crate::parked::{BEHIND, MALFORMED_ENVELOPE, SEQUENCE_GAP};
use crate::subscriber::Sequencing;

/// What is known before the batch.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The last applied sequence of keys that have one ([`Sequencing::Tracked`] only).
    pub last: HashMap<Uuid, i64>,
    /// Keys of which a message is parked.
    pub blocked: HashSet<Uuid>,
}

/// A message that is to be parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parking {
    pub offset: i64,
    pub key: Uuid,
    pub sequence: Option<i64>,
    pub event_type: String,
    pub reason: &'static str,
}

/// What becomes of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Indices of the events that are applied, in order.
    pub apply: Vec<usize>,
    /// Messages that are parked.
    pub park: Vec<Parking>,
    /// How many were dropped because they had been applied before.
    pub duplicates: usize,
    /// The last sequence of each key that got on ([`Sequencing::Tracked`] only).
    pub advanced: HashMap<Uuid, i64>,
}

/// Decides. `poisoned` names, by offset, messages that the handler refused, with the reason.
pub(crate) fn plan(
    events: &[Received],
    malformed: &[Malformed],
    sequencing: Sequencing,
    mut facts: Facts,
    poisoned: &BTreeMap<i64, &'static str>,
) -> Plan {
    let mut plan = Plan::default();
    let mut malformed = malformed.iter().peekable();
    for (index, event) in events.iter().enumerate() {
        while let Some(message) = malformed.next_if(|message| message.offset < event.offset) {
            plan.park_malformed(message, &mut facts);
        }
        let tracked = sequencing == Sequencing::Tracked;
        let last = facts.last.get(&event.key).copied().unwrap_or(0);
        if tracked && (1..=last).contains(&event.sequence) {
            plan.duplicates += 1;
            continue;
        }
        let reason = if facts.blocked.contains(&event.key) {
            Some(BEHIND)
        } else if let Some(reason) = poisoned.get(&event.offset) {
            Some(*reason)
        } else if sequencing != Sequencing::None && event.sequence == 0 {
            Some(MALFORMED_ENVELOPE)
        } else if tracked && event.sequence > last + 1 {
            Some(SEQUENCE_GAP)
        } else {
            None
        };
        if let Some(reason) = reason {
            facts.blocked.insert(event.key);
            plan.park.push(Parking {
                offset: event.offset,
                key: event.key,
                sequence: (event.sequence > 0).then_some(event.sequence),
                event_type: event.event_type.clone(),
                reason,
            });
            continue;
        }
        if tracked {
            facts.last.insert(event.key, event.sequence);
            plan.advanced.insert(event.key, event.sequence);
        }
        plan.apply.push(index);
    }
    for message in malformed {
        plan.park_malformed(message, &mut facts);
    }
    plan
}

impl Plan {
    /// A message without a readable key blocks nobody; with one it blocks that key, since nothing
    /// tells whether its later events rest on it.
    fn park_malformed(&mut self, message: &Malformed, facts: &mut Facts) {
        if let Some(key) = message.key {
            facts.blocked.insert(key);
        }
        self.park.push(Parking {
            offset: message.offset,
            key: message.key.unwrap_or_default(),
            sequence: None,
            event_type: String::new(),
            reason: MALFORMED_ENVELOPE,
        });
    }
}

#[cfg(test)]
mod tests {
    use assent_contracts::topics::CONSENT_EVENTS;
    use jiff::Timestamp;

    use super::*;

    const ANN: Uuid = Uuid::from_u128(1);
    const BEN: Uuid = Uuid::from_u128(2);

    fn event(offset: i64, key: Uuid, sequence: i64) -> Received {
        Received {
            topic: CONSENT_EVENTS,
            partition: 0,
            offset,
            key,
            sequence,
            event_sequence: None,
            id: Uuid::nil(),
            event_type: "assent.consent.granted.v1".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            traceparent: None,
            data: Vec::new(),
        }
    }

    fn garbage(offset: i64, key: Option<Uuid>) -> Malformed {
        Malformed { topic: CONSENT_EVENTS, partition: 0, offset, key, defect: "headers" }
    }

    fn facts(last: &[(Uuid, i64)], blocked: &[Uuid]) -> Facts {
        Facts { last: last.iter().copied().collect(), blocked: blocked.iter().copied().collect() }
    }

    fn reasons(plan: &Plan) -> Vec<(i64, &'static str)> {
        plan.park.iter().map(|parking| (parking.offset, parking.reason)).collect()
    }

    const TRACKED: Sequencing = Sequencing::Tracked;

    #[test]
    fn the_next_of_each_key_is_applied_and_what_is_not_newer_is_dropped() {
        let events = [event(0, ANN, 2), event(1, BEN, 1), event(2, ANN, 3), event(3, ANN, 3)];
        let plan = plan(&events, &[], TRACKED, facts(&[(ANN, 2)], &[]), &BTreeMap::new());
        assert_eq!(plan.apply, [1, 2]);
        assert_eq!(plan.duplicates, 2);
        assert_eq!(plan.advanced, HashMap::from([(ANN, 3), (BEN, 1)]));
        assert!(plan.park.is_empty());
    }

    #[test]
    fn a_gap_stops_its_key_and_no_other() {
        let events = [event(0, ANN, 3), event(1, BEN, 1), event(2, ANN, 4), event(3, ANN, 2)];
        let plan = plan(&events, &[], TRACKED, facts(&[(ANN, 1)], &[]), &BTreeMap::new());
        assert_eq!(plan.apply, [1]);
        assert_eq!(reasons(&plan), [(0, SEQUENCE_GAP), (2, BEHIND), (3, BEHIND)]);
    }

    #[test]
    fn later_events_of_a_parked_key_wait_behind_it() {
        for sequencing in [Sequencing::Tracked, Sequencing::Own, Sequencing::None] {
            let events = [event(0, ANN, 2), event(1, BEN, 1), event(2, ANN, 3)];
            let given = facts(&[(ANN, 1)], &[ANN]);
            let plan = plan(&events, &[], sequencing, given, &BTreeMap::new());
            assert_eq!(plan.apply, [1]);
            assert_eq!(reasons(&plan), [(0, BEHIND), (2, BEHIND)]);
            assert!(!plan.advanced.contains_key(&ANN));
        }
    }

    #[test]
    fn poison_is_parked_and_the_rest_goes_on() {
        let events = [event(0, ANN, 1), event(1, ANN, 2), event(2, BEN, 1), event(3, ANN, 3)];
        let poisoned = BTreeMap::from([(1, "unknown_purpose")]);
        let plan = plan(&events, &[], TRACKED, Facts::default(), &poisoned);
        assert_eq!(plan.apply, [0, 2]);
        assert_eq!(reasons(&plan), [(1, "unknown_purpose"), (3, BEHIND)]);
        assert_eq!(plan.advanced[&ANN], 1);
    }

    #[test]
    fn garbage_without_a_key_blocks_nobody() {
        let events = [event(1, ANN, 1), event(3, ANN, 2)];
        let malformed = [garbage(0, None), garbage(2, None), garbage(4, None)];
        let plan = plan(&events, &malformed, TRACKED, Facts::default(), &BTreeMap::new());
        assert_eq!(plan.apply, [0, 1]);
        assert_eq!(plan.park.len(), 3);
        assert!(plan.park.iter().all(|parking| parking.key.is_nil()));
    }

    #[test]
    fn garbage_with_a_key_stops_that_key() {
        let events = [event(1, ANN, 1), event(2, BEN, 1)];
        let malformed = [garbage(0, Some(ANN))];
        let plan = plan(&events, &malformed, Sequencing::None, Facts::default(), &BTreeMap::new());
        assert_eq!(plan.apply, [1]);
        assert_eq!(reasons(&plan), [(0, MALFORMED_ENVELOPE), (1, BEHIND)]);
    }

    #[test]
    fn an_event_without_a_sequence_is_no_event_where_sequences_are_watched() {
        let events = [event(0, ANN, 0)];
        for (sequencing, applied) in
            [(Sequencing::Tracked, 0), (Sequencing::Own, 0), (Sequencing::None, 1)]
        {
            let plan = plan(&events, &[], sequencing, Facts::default(), &BTreeMap::new());
            assert_eq!(plan.apply.len(), applied);
        }
    }
}
