//! G2: what was acknowledged is in its topic exactly once, and a topic holds what its store holds, in order.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::consent::{GRANTED, WITHDRAWN};
use assent_contracts::topics::{
    CONSENT_EVENTS, ERASURE_EVENTS, MESSAGING_EVENTS, Topic, VAULT_EVENTS,
};
use assent_tests::cluster::Cluster;
use assent_tests::topics::{everything, followed};
use serde_json::Value;
use uuid::Uuid;

use super::Found;
use crate::history::{History, What};

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
pub struct Topics(BTreeMap<&'static str, Vec<Event>>);

impl Topics {
    /// Reads them from zero.
    ///
    /// # Panics
    /// When a sequence is missing or out of order, or a repeat is another event.
    pub async fn read(cluster: &Cluster) -> Self {
        let mut topics = BTreeMap::new();
        for (_, topic) in STORES {
            let all = everything(cluster, topic).await;
            followed(&all);
            let mut seen = BTreeSet::new();
            let first = all.into_iter().filter(|event| seen.insert(event.id));
            let events = first.map(|event| Event {
                key: event.key,
                id: event.id,
                event_type: event.event_type,
                data: serde_json::from_slice(&event.data).unwrap_or_default(),
            });
            topics.insert(topic.suffix, events.collect());
        }
        Self(topics)
    }

    /// The events of one.
    pub fn of(&self, topic: Topic) -> impl Iterator<Item = &Event> {
        self.0[topic.suffix].iter()
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
