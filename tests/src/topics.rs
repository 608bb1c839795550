//! What stands in a topic, read from zero.

use std::collections::BTreeMap;
use std::convert::Infallible;

use assent_bus::envelope::Delivery;
use assent_bus::{Received, end_offsets, replay};
use assent_contracts::topics::Topic;
use uuid::Uuid;

use crate::cluster::Cluster;

/// Everything in a topic, in order per partition.
pub async fn everything(cluster: &Cluster, topic: Topic) -> Vec<Received> {
    let ends = end_offsets(&cluster.bus, topic).await.unwrap();
    let from = ends.keys().map(|partition| (*partition, 0)).collect();
    let mut all = Vec::new();
    replay::read(&cluster.bus, topic, &from, &ends, |batch| {
        for delivery in batch.messages {
            match delivery {
                Delivery::Event(event) => all.push(event),
                Delivery::Malformed(message) => panic!("malformed: {message:?}"),
            }
        }
        std::future::ready(Ok::<_, Infallible>(()))
    })
    .await
    .unwrap();
    all
}

/// The events of each key as whoever follows the topic applies them: the next one only, what came
/// before dropped.
///
/// # Panics
/// When a sequence is missing or out of order, or a repeat is another event.
pub fn followed(events: &[Received]) -> BTreeMap<Uuid, Vec<Uuid>> {
    let mut followed: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    for event in events {
        let applied = followed.entry(event.key).or_default();
        let last = applied.len() as i64;
        assert!(event.sequence <= last + 1, "{}: a gap before {}", event.key, event.sequence);
        match usize::try_from(event.sequence - 1).ok().and_then(|place| applied.get(place)) {
            Some(first) => assert_eq!(*first, event.id, "a repeat is the same event"),
            None => applied.push(event.id),
        }
    }
    followed
}
