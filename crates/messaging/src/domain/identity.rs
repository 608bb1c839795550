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

/// What a message of hers puts in doubt. Webhooks come late and in any order: an earlier message says nothing.
#[must_use]
pub fn doubt(
    before: &Before,
    said_at: Timestamp,
    hash: Option<&[u8]>,
    silence: SignedDuration,
) -> Option<Doubt> {
    if before.heard_at.is_some_and(|heard_at| said_at < heard_at) {
        return None;
    }
    let changed = before.hash.as_deref().zip(hash).is_some_and(|(before, now)| before != now);
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
        let doubt = |before: &Before, day, hash| doubt(before, days(day), hash, silence);
        assert_eq!(doubt(&Before::default(), 900, Some(b"a")), None, "nothing was known");
        assert_eq!(doubt(&before(Some(b"a")), 101, Some(b"a")), None);
        assert_eq!(doubt(&before(Some(b"a")), 101, None), None);
        assert_eq!(doubt(&before(None), 101, Some(b"a")), None);
        assert_eq!(doubt(&before(Some(b"a")), 101, Some(b"b")), Some(Doubt::HashChanged));
        assert_eq!(doubt(&before(Some(b"a")), 99, Some(b"b")), None, "it came late");
        assert_eq!(doubt(&before(None), 280, None), None);
        assert_eq!(doubt(&before(None), 281, None), Some(Doubt::Silent));
    }
}
