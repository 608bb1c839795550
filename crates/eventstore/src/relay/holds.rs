//! Keys that a failed delivery holds back. It guarantees that nothing of a held key is sent or
//! deleted before the row that failed has gone through; how often that one is tried is left to the
//! caller's clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::OutboxRecord;

#[derive(Debug)]
struct Hold {
    /// The row that failed: the lowest of its key.
    id: i64,
    retry_at: Duration,
    /// The last pass that met the row.
    met_in_pass: u64,
    /// The row has gone through. Its key stays shut until the next pass, since this one has already
    /// left rows of it out.
    freed: bool,
}

/// The held keys. Times are counted from any fixed moment.
#[derive(Debug, Default)]
pub(super) struct Holds {
    by_key: HashMap<(Arc<str>, Uuid), Hold>,
}

/// What is to become of a row that the broker has answered for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Delivered: delete it.
    Delete,
    /// To be sent again, by a later pass.
    Keep,
}

impl Holds {
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// To be called before each pass.
    pub(super) fn begin_pass(&mut self) {
        self.by_key.retain(|_, hold| !hold.freed);
    }

    /// Whether `record`, met in `pass`, may be sent.
    pub(super) fn lets_pass(&mut self, record: &OutboxRecord, pass: u64, now: Duration) -> bool {
        let key = (Arc::clone(&record.topic), record.key);
        let Some(hold) = self.by_key.get_mut(&key) else { return true };
        if hold.freed {
            return false;
        }
        if record.id == hold.id {
            hold.met_in_pass = pass;
            return now >= hold.retry_at;
        }
        if hold.met_in_pass == pass {
            return false;
        }
        // A pass meets the rows of a key in order, so the failed row is gone: somebody removed it.
        self.by_key.remove(&key);
        true
    }

    /// Takes the outcome of one row. Outcomes come in the order of sending.
    pub(super) fn settle(
        &mut self,
        record: &OutboxRecord,
        delivered: bool,
        pass: u64,
        retry_at: Duration,
    ) -> Fate {
        let key = (Arc::clone(&record.topic), record.key);
        match self.by_key.get_mut(&key) {
            Some(hold) if hold.id == record.id => {
                if delivered {
                    hold.freed = true;
                    return Fate::Delete;
                }
                hold.retry_at = retry_at;
                Fate::Keep
            }
            // It went out behind the failed one, which was under way. It goes out again after it.
            Some(_) => Fate::Keep,
            None if delivered => Fate::Delete,
            None => {
                let hold = Hold { id: record.id, retry_at, met_in_pass: pass, freed: false };
                self.by_key.insert(key, hold);
                Fate::Keep
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(1);

    fn record(id: i64, key: u128) -> OutboxRecord {
        OutboxRecord {
            id,
            topic: Arc::from("consent.events.v1"),
            key: Uuid::from_u128(key),
            sequence: Some(id),
            event_sequence: None,
            event_id: Uuid::from_u128(u128::from(id.unsigned_abs())),
            event_type: Arc::from("assent.consent.granted.v1"),
            recorded_at: jiff::Timestamp::UNIX_EPOCH,
            traceparent: None,
            payload: None,
        }
    }

    #[test]
    fn a_failed_row_holds_its_key_and_no_other() {
        let mut holds = Holds::default();
        assert_eq!(holds.settle(&record(1, 7), false, 1, RETRY), Fate::Keep);
        assert!(!holds.lets_pass(&record(1, 7), 2, Duration::ZERO));
        assert!(!holds.lets_pass(&record(2, 7), 2, Duration::ZERO));
        assert!(holds.lets_pass(&record(3, 8), 2, Duration::ZERO));
    }

    #[test]
    fn a_row_delivered_behind_a_failed_one_is_kept_to_go_out_after_it() {
        let mut holds = Holds::default();
        holds.settle(&record(1, 7), false, 1, RETRY);
        assert_eq!(holds.settle(&record(2, 7), true, 1, RETRY), Fate::Keep);
    }

    #[test]
    fn after_its_rest_the_failed_row_goes_alone_and_its_delivery_frees_the_key() {
        let mut holds = Holds::default();
        holds.settle(&record(1, 7), false, 1, RETRY);
        assert!(holds.lets_pass(&record(1, 7), 2, RETRY));
        assert!(!holds.lets_pass(&record(2, 7), 2, RETRY));
        assert_eq!(holds.settle(&record(1, 7), true, 2, RETRY), Fate::Delete);
        // Row 2 was left out of this pass, so row 3 must be too.
        assert!(!holds.lets_pass(&record(3, 7), 2, RETRY));
        holds.begin_pass();
        assert!(holds.lets_pass(&record(2, 7), 3, RETRY));
        assert!(holds.is_empty());
    }

    #[test]
    fn a_row_that_was_removed_by_hand_does_not_hold_its_key_for_ever() {
        let mut holds = Holds::default();
        holds.settle(&record(1, 7), false, 1, RETRY);
        assert!(holds.lets_pass(&record(2, 7), 2, Duration::ZERO));
    }
}
