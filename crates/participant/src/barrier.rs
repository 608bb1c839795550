//! What a service has consumed, against what a command's barrier names. It guarantees that a
//! barrier counts for every topic that the service follows, and for no other: what it doesn't
//! read it can't be behind of.

use assent_bus::{BusConfig, Subscriber, consumer};
use assent_contracts::erasure::Positions;
use assent_contracts::topics::Topic;
use sqlx::PgPool;

/// A consumer of the service.
#[derive(Debug, Clone)]
pub struct Follows {
    consumer: &'static str,
    topics: Vec<Topic>,
}

impl Follows {
    /// The consumer that runs this subscriber.
    pub fn of(subscriber: &impl Subscriber) -> Self {
        Self { consumer: subscriber.name(), topics: subscriber.topics() }
    }

    /// What it reads.
    pub(crate) fn topics(&self) -> &[Topic] {
        &self.topics
    }
}

/// What the service has consumed at a moment, by consumer with the full names of its topics.
pub(crate) struct Consumed(Vec<(Vec<String>, Positions)>);

impl Consumed {
    /// Reads it, once for any number of barriers.
    pub(crate) async fn read(
        pool: &PgPool,
        bus: &BusConfig,
        follows: &[Follows],
    ) -> Result<Self, sqlx::Error> {
        let mut all = Vec::with_capacity(follows.len());
        for Follows { consumer, topics } in follows {
            let mut read = Positions::new();
            for ((topic, partition), next) in consumer::positions(pool, consumer).await? {
                let topic = format!("{}{topic}", bus.topic_prefix);
                read.entry(topic).or_default().insert(partition, next);
            }
            all.push((topics.iter().map(|topic| bus.topic_name(topic)).collect(), read));
        }
        Ok(Self(all))
    }

    /// Whether that is all that the barrier names.
    pub(crate) fn is_at(&self, barrier: &Positions) -> bool {
        let of_consumer = |(topics, read): &(Vec<String>, Positions)| {
            topics.iter().all(|topic| reaches(read, barrier, topic))
        };
        self.0.iter().all(of_consumer)
    }

    /// All of it.
    pub(crate) fn positions(self) -> Positions {
        self.0.into_iter().flat_map(|(_, read)| read).collect()
    }
}

/// What these consumers have read; `None` when that is not all that the `barrier` names.
pub(crate) async fn reached(
    pool: &PgPool,
    bus: &BusConfig,
    follows: &[Follows],
    barrier: &Positions,
) -> Result<Option<Positions>, sqlx::Error> {
    let consumed = Consumed::read(pool, bus, follows).await?;
    Ok(consumed.is_at(barrier).then(|| consumed.positions()))
}

/// Whether what was `read` of a topic is all that the `barrier` names of it. Pure.
#[must_use]
pub fn reaches(read: &Positions, barrier: &Positions, topic: &str) -> bool {
    let reached = |partition| read.get(topic)?.get(partition).copied();
    let mut named = barrier.get(topic).into_iter().flatten();
    named.all(|(partition, next)| reached(partition).unwrap_or(0) >= *next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_is_reached_when_every_partition_it_names_has_been_consumed() {
        let at = |topic: &str, partition, next| {
            Positions::from([(topic.to_owned(), [(partition, next)].into())])
        };
        let reaches = |read, barrier| super::reaches(&read, &barrier, "vault");
        assert!(reaches(at("vault", 0, 5), at("vault", 0, 5)));
        assert!(!reaches(at("vault", 0, 4), at("vault", 0, 5)));
        assert!(!reaches(at("vault", 0, 5), at("vault", 3, 1)));
        assert!(!reaches(Positions::new(), at("vault", 0, 1)), "nothing consumed yet");
        assert!(reaches(at("vault", 0, 4), at("other", 0, 9)), "another topic");
    }
}
