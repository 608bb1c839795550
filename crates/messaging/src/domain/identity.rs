//! Whether a number is still hers, as a pure decision. It guarantees that a sign of another person behind it is
//! never passed over; what it costs to be wrong is small: somebody looks.

use jiff::{SignedDuration, Timestamp};

/// Why it is in doubt who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The provider said that she has another number or user id.
    Moved,
    /// Her number came with another user id, or her user id with another number.
    AnotherAccount,
    /// The provider's hash of her identity changed.
    HashChanged,
    /// After she was said to have moved a message reached her old number.
    DeliveredAfterMove,
    /// She wrote after so long a silence that her number may be somebody else's by now.
    Silent,
}

impl Doubt {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::AnotherAccount => "another_account",
            Self::HashChanged => "identity_hash_changed",
            Self::DeliveredAfterMove => "delivered_after_move",
            Self::Silent => "long_silence",
        }
    }
}

/// What was known of her when she wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// When she wrote before.
    pub heard_at: Option<Timestamp>,
    /// Keyed hash of the provider's hash of her identity then.
    pub hash: Option<Vec<u8>>,
}

/// Whether a keyed hash from before is of another text than these are, one per key. One that was made with a key
/// that is no more can't be compared.
fn is_another(before: &[u8], now: &[Vec<u8>]) -> bool {
    let key = before.first();
    let mut comparable = now.iter().filter(|it| it.first() == key).peekable();
    comparable.peek().is_some() && comparable.all(|it| it != before)
}

/// What a message of hers puts in doubt. `hashes` are those of her identity, one per key. Webhooks come late and in any order: an earlier message says nothing.
#[must_use]
pub fn doubt(
    before: &Before,
    said_at: Timestamp,
    hashes: &[Vec<u8>],
    silence: SignedDuration,
) -> Option<Doubt> {
    if before.heard_at.is_some_and(|heard_at| said_at < heard_at) {
        return None;
    }
    let changed = before.hash.as_ref().is_some_and(|before| is_another(before, hashes));
    let silent = before.heard_at.is_some_and(|heard_at| said_at.duration_since(heard_at) > silence);
    if changed { Some(Doubt::HashChanged) } else { silent.then_some(Doubt::Silent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_hash_and_a_long_silence_put_her_in_doubt_and_what_came_late_does_not() {
        let days = |days: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
        let silence = SignedDuration::from_hours(24 * 180);
        let before = |hash: Option<&[u8]>| Before {
            heard_at: Some(days(100)),
            hash: hash.map(<[u8]>::to_vec),
        };
        let doubt = |before: &Before, day, hash: Option<&[u8]>| {
            let hashes: Vec<Vec<u8>> = hash.into_iter().map(<[u8]>::to_vec).collect();
            doubt(before, days(day), &hashes, silence)
        };
        assert_eq!(doubt(&Before::default(), 900, Some(b"1a")), None, "nothing was known");
        assert_eq!(doubt(&before(Some(b"1a")), 101, Some(b"1a")), None);
        assert_eq!(doubt(&before(Some(b"1a")), 101, None), None);
        assert_eq!(doubt(&before(None), 101, Some(b"1a")), None);
        assert_eq!(doubt(&before(Some(b"1a")), 101, Some(b"1b")), Some(Doubt::HashChanged));
        assert_eq!(doubt(&before(Some(b"1a")), 99, Some(b"1b")), None, "it came late");
        assert_eq!(doubt(&before(None), 280, None), None);
        assert_eq!(doubt(&before(None), 281, None), Some(Doubt::Silent));
    }

    /// The first byte says which key made a hash.
    #[test]
    fn another_key_is_no_other_person() {
        let hash = |text: &[u8]| text.to_vec();
        let both = [hash(b"2x"), hash(b"1a")];
        assert!(!is_another(b"1a", &both), "the old key is still there");
        assert!(is_another(b"1b", &both));
        assert!(!is_another(b"1a", &[hash(b"2x")]), "it is gone: nothing can be compared");
        assert!(!is_another(b"1a", &[]));
    }
}
