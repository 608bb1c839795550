//! What a person is given when her request is taken in: a reference to quote, and a secret with which
//! she can look. It guarantees that both can be said again to whoever asked, and that neither tells
//! anything; only the secret's hash is kept.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Crockford's digits: none of them is taken for another.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Keys the secrets. Another key gives other secrets for requests from then on; those that were given
/// stay good.
#[derive(Clone)]
pub struct Tracking(Vec<u8>);

impl Tracking {
    /// Secrets under this key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(key.to_vec())
    }

    /// The secret of a request: 130 bits.
    #[must_use]
    pub fn secret(&self, request_id: Uuid) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(b"assent request tracking");
        mac.update(request_id.as_bytes());
        digits(&mac.finalize().into_bytes(), 26)
    }
}

/// The reference of a request: fifty of its id's random bits, `4K7QX-9B2MT`.
#[must_use]
pub fn reference(request_id: Uuid) -> String {
    let text = digits(&request_id.as_bytes()[9..], 10);
    format!("{}-{}", &text[..5], &text[5..])
}

/// What is kept of a secret.
#[must_use]
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.trim().to_ascii_uppercase().as_bytes()).to_vec()
}

/// The first so many groups of five bits.
fn digits(bytes: &[u8], count: usize) -> String {
    let bit = |at: usize| (bytes[at / 8] >> (7 - at % 8)) & 1;
    (0..count)
        .map(|digit| {
            let value = (0..5).fold(0, |value, at| value << 1 | bit(5 * digit + at));
            char::from(DIGITS[usize::from(value)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_each_time_and_another_for_each_request_and_key() {
        let (one, two) = (Uuid::from_u128(1 << 32), Uuid::from_u128(2 << 32));
        let tracking = Tracking::new(b"key");
        assert_eq!(tracking.secret(one).len(), 26);
        assert_eq!(tracking.secret(one), tracking.secret(one));
        assert_ne!(tracking.secret(one), tracking.secret(two));
        assert_ne!(tracking.secret(one), Tracking::new(b"other").secret(one));
        assert_eq!(hash("abc "), hash("ABC"), "typed in any way");
        assert_ne!(reference(one), reference(two));
        assert_eq!(reference(Uuid::from_u128(31)).len(), 11);
    }
}
