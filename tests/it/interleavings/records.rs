//! What stands in stores and topics: a log with its outbox, the read models with their positions. Transactions are
//! whole because nobody else moves meanwhile.

use std::collections::VecDeque;

use assent_bus::Received;
use assent_contracts::topics::Topic;
use assent_projector::model::consents::{self, Consents};
use assent_projector::model::contacts::{self, Contacts};
use assent_projector::model::{Model, Stop, step};
use jiff::Timestamp;
use uuid::Uuid;

/// Who is erased.
pub const SUBJECT: Uuid = Uuid::from_u128(0x5eed);

/// A topic, with what its service has stored and not yet published.
#[derive(Debug)]
pub struct Log {
    pub topic: Topic,
    pub records: Vec<Received>,
    outbox: VecDeque<Received>,
    sequence: i64,
}

impl Log {
    pub fn of(topic: Topic) -> Self {
        Self { topic, records: Vec::new(), outbox: VecDeque::new(), sequence: 0 }
    }

    /// Stores an event of hers for publication, and says its place.
    pub fn append(&mut self, id: Uuid, event_type: &str, time: Timestamp, data: String) -> i64 {
        self.sequence += 1;
        self.outbox.push_back(Received {
            topic: self.topic,
            partition: 0,
            offset: 0,
            key: SUBJECT,
            sequence: self.sequence,
            event_sequence: None,
            id,
            event_type: event_type.to_owned(),
            time,
            traceparent: None,
            data: data.into_bytes(),
        });
        self.sequence
    }

    /// Publishes the first that waits. A deposed leader may publish the last one again.
    pub fn relay(&mut self, again: bool) {
        let again = if again { self.records.last().cloned() } else { None };
        for record in again.into_iter().chain(self.outbox.pop_front()) {
            self.records.push(record);
        }
    }

    pub fn is_published(&self) -> bool {
        self.outbox.is_empty()
    }

    pub fn end(&self) -> usize {
        self.records.len()
    }
}

/// The rows about her in one schema, and how far each topic is read into them.
#[derive(Debug, Default)]
pub struct Tables {
    contacts: Option<contacts::Row>,
    consents: Option<consents::Row>,
    pub read: [usize; 2],
}

impl Tables {
    /// Folds a record of the vault's topic (0) or of the ledger's (1) in.
    pub fn take(&mut self, which: usize, record: &Received) -> Result<bool, Stop> {
        match which {
            0 => fold::<Contacts>(&mut self.contacts, record),
            _ => fold::<Consents>(&mut self.consents, record),
        }
    }

    pub fn rows(&self) -> usize {
        usize::from(self.contacts.is_some()) + usize::from(self.consents.is_some())
    }

    pub fn delete(&mut self) {
        (self.contacts, self.consents) = (None, None);
    }
}

fn fold<M: Model<Row: Clone>>(row: &mut Option<M::Row>, record: &Received) -> Result<bool, Stop> {
    let mut next = row.clone().unwrap_or_else(|| M::empty(record.key));
    let changed = step::<M>(&mut next, record, false)?;
    if changed {
        *row = Some(next);
    }
    Ok(changed)
}
