//! The simulator's randomness: SplitMix64 from a seed, so that a run with the same seed and the
//! same order of calls takes the same turns. Without a seed it begins anywhere.

use std::sync::{Mutex, PoisonError};

use crate::clock;

/// A seeded source.
#[derive(Debug)]
pub struct Random(Mutex<u64>);

impl Random {
    /// One that begins at `seed`; without one, anywhere.
    pub fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(seed.unwrap_or_else(|| clock::random().as_u64_pair().0)))
    }

    /// The next 64 bits.
    pub fn bits(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 32 hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:016x}{:016x}", self.bits(), self.bits())
    }

    /// An id as the Graph API gives its objects: sixteen digits.
    pub fn object_id(&self) -> String {
        (1_000_000_000_000_000 + self.bits() % 9_000_000_000_000_000).to_string()
    }

    /// Whether something that happens in this `share` of cases (0 to 1) happens now.
    pub fn happens(&self, share: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let drawn = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < share
    }

    /// Another order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let at = usize::try_from(self.bits() % (last as u64 + 1)).unwrap_or(0);
            items.swap(at, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_takes_the_same_turns() {
        let turns = |seed| {
            let random = Random::new(Some(seed));
            let mut order: Vec<u8> = (0..20).collect();
            random.shuffle(&mut order);
            let draws: Vec<bool> = (0..64).map(|_| random.happens(0.5)).collect();
            (random.hex(), order, draws)
        };
        assert_eq!(turns(7), turns(7));
        assert_ne!(turns(7), turns(8));
        let sure = Random::new(Some(1));
        assert!((0..100).all(|_| sure.happens(1.0) && !sure.happens(0.0)));
    }
}
