//! G2: what was acknowledged is in its topic exactly once, and a topic holds what its store holds, in order.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Cluster;
use crate::topics::everything;
use assent_bus::Received;
use assent_contracts::consent::{GRANTED, WITHDRAWN};
use assent_contracts::topics::{
    CONSENT_EVENTS, ERASURE_EVENTS, MESSAGING_EVENTS, Topic, VAULT_EVENTS,
};
use serde_json::Value;
use uuid::Uuid;

use super::Found;
use crate::soak::history::{History, What};

const STORES: [(&str, Topic); 4] = [
    ("consent", CONSENT_EVENTS),
    ("vault", VAULT_EVENTS),
    ("messaging", MESSAGING_EVENTS),
    ("erasure", ERASURE_EVENTS),
];

/// An event as whoever follows its topic sees it.
pub struct Event {
    /// Its key.
    pub key: Uuid,
    /// Its id.
    pub id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its data.
    pub data: Value,
}

/// Every event of every topic, repeats left out, in order per key.
#[derive(Default)]
pub struct Topics {
    events: BTreeMap<&'static str, Vec<Event>>,
    /// What whoever follows them would have stopped at.
    wrong: Vec<String>,
}

impl Topics {
    /// Reads them from zero.
    pub async fn read(cluster: &Cluster) -> Self {
        let mut topics = Self::default();
        for (_, topic) in STORES {
            topics.add(topic, everything(cluster, topic).await);
        }
        topics
    }

    /// Adds what stands in a topic, in its order.
    pub fn add(&mut self, topic: Topic, all: Vec<Received>) {
        let mut followed: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        let mut events = Vec::new();
        for event in all {
            let known = followed.entry(event.key).or_default();
            let place = usize::try_from(event.sequence - 1).unwrap_or(usize::MAX);
            match known.get(place) {
                Some(first) if *first == event.id => continue,
                Some(_) => self.wrong.push(format!(
                    "{}: {} has another event at {}",
                    topic.suffix, event.key, event.sequence
                )),
                None if place == known.len() => {}
                None => self.wrong.push(format!(
                    "{}: {} has a gap before {}",
                    topic.suffix, event.key, event.sequence
                )),
            }
            known.push(event.id);
            events.push(Event {
                key: event.key,
                id: event.id,
                event_type: event.event_type,
                data: serde_json::from_slice(&event.data).unwrap_or_default(),
            });
        }
        self.events.insert(topic.suffix, events);
    }

    /// Whether each is in order, without a gap.
    #[must_use]
    pub fn whole(&self) -> Found {
        let looked_at = self.events.values().map(Vec::len).sum();
        Found { looked_at, violations: self.wrong.clone(), ..Found::default() }
    }

    /// The events of one.
    pub fn of(&self, topic: Topic) -> impl Iterator<Item = &Event> {
        self.events.get(topic.suffix).into_iter().flatten()
    }
}

/// Every event that an answer named is there, and no grant or withdrawal of an operator that none did.
pub fn acknowledged(history: &History, topics: &Topics) -> Found {
    let mut published: BTreeMap<Uuid, BTreeSet<String>> = BTreeMap::new();
    for event in topics.of(CONSENT_EVENTS) {
        let by_operator = event.data["actor"] == "operator" && event.data["method"] == "api";
        if by_operator && [GRANTED, WITHDRAWN].contains(&event.event_type.as_str()) {
            published.entry(event.key).or_default().insert(event.id.to_string());
        }
    }
    let mut found = Found::default();
    for person in &history.people {
        let named: BTreeSet<String> = person
            .acts
            .iter()
            .flat_map(|act| match &act.what {
                What::Grant(events) | What::Withdraw(events) => events.clone(),
                _ => Vec::new(),
            })
            .collect();
        let key: Uuid = person.subject.parse().expect("an id");
        let there = published.remove(&key).unwrap_or_default();
        for lost in named.difference(&there) {
            found.violations.push(format!("{key}: {lost} was acknowledged and isn't there"));
        }
        // An erasure withdraws too, as the operator who asked for it.
        let more = there.difference(&named).count();
        let allowed = usize::from(person.erased().is_some());
        found.look(more <= allowed, || format!("{key}: {more} events that no answer named"));
        found.looked_at += named.len();
    }
    found
}

/// What is stored stands in the topic, at the place that its version says.
pub async fn published(cluster: &Cluster, topics: &Topics) -> Found {
    let mut found = Found::default();
    for (database, topic) in STORES {
        let mut places: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for event in topics.of(topic) {
            places.entry(event.key).or_default().push(event.id);
        }
        let stored: Vec<(Uuid, i64, Uuid)> =
            sqlx::query_as("SELECT stream, version, id FROM eventstore.events")
                .fetch_all(&cluster.pool(database).await)
                .await
                .expect("Postgres answers");
        for (stream, version, id) in stored {
            let place = usize::try_from(version - 1).expect("versions count from 1");
            let there = places.get(&stream).and_then(|events| events.get(place));
            found.look(there == Some(&id), || {
                format!("{database}: {stream} {version} is {id}, published: {there:?}")
            });
        }
    }
    found
}
