//! The barrier of a deletion: how far the event topics reach for one person once everyone has
//! fenced her. It guarantees a bound that every later record of hers would lie beyond; waiting
//! for it is the participants' part.

use std::collections::BTreeMap;

use assent_bus::{BusConfig, TopicError, end_offsets};
use assent_contracts::SubjectId;
use assent_contracts::erasure::Positions;
use assent_contracts::topics::{CONSENT_EVENTS, MESSAGING_EVENTS, Topic, VAULT_EVENTS};

/// The topics on which events about people travel.
pub const TOPICS: [Topic; 3] = [CONSENT_EVENTS, VAULT_EVENTS, MESSAGING_EVENTS];

/// How far the event topics reach, read once for any number of people.
pub struct Ends(Vec<(String, Topic, BTreeMap<i32, i64>)>);

impl Ends {
    /// Reads it.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub async fn read(bus: &BusConfig) -> Result<Self, TopicError> {
        let mut ends = Vec::with_capacity(TOPICS.len());
        for topic in TOPICS {
            ends.push((bus.topic_name(&topic), topic, end_offsets(bus, topic).await?));
        }
        Ok(Self(ends))
    }

    /// The ends of the partitions that hold `subject`.
    #[must_use]
    pub fn of(&self, subject: SubjectId) -> Positions {
        let end = |(name, topic, ends): &(String, Topic, BTreeMap<i32, i64>)| {
            let partition = partition(subject, topic.partitions);
            let end = ends.get(&partition).copied().unwrap_or(0);
            (name.clone(), BTreeMap::from([(partition, end)]))
        };
        self.0.iter().map(end).collect()
    }
}

/// The partition of a key, as the default partitioner of Kafka's clients places it.
fn partition(subject: SubjectId, partitions: i32) -> i32 {
    let mut buffer = uuid::Uuid::encode_buffer();
    let key = subject.hyphenated().encode_lower(&mut buffer);
    let positive = murmur2(key.as_bytes()) & 0x7fff_ffff;
    i32::try_from(positive % partitions.unsigned_abs().max(1)).unwrap_or(0)
}

/// Kafka's hash of keys (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (index, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_kafkas_own_tests() {
        // UtilsTest.testMurmur2 of Apache Kafka.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }
}
