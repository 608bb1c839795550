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

impl std::fmt::Debug for Tracking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracking").finish_non_exhaustive()
    }
}

impl Tracking {
    /// Secrets under a key that follows from a private key of the service, for this use alone. No token
    /// will do: whoever shows it elsewhere could make every secret.
    #[must_use]
    pub fn of_key(private_key: &[u8]) -> Self {
        Self(mac(private_key, b"assent request tracking key").to_vec())
    }

    /// The secret of a request: 130 bits.
    #[must_use]
    pub fn secret(&self, request_id: Uuid) -> String {
        digits(&mac(&self.0, request_id.as_bytes()), 26)
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Whether a secret is the one of which this was kept. It takes as long for any, also where nothing
/// was kept.
#[must_use]
pub fn opens(secret: &str, kept: Option<&[u8]>) -> bool {
    const NOTHING: [u8; 32] = [0; 32];
    let shown = hash(secret);
    let against = kept.filter(|kept| kept.len() == shown.len());
    let differs = shown
        .iter()
        .zip(against.unwrap_or(&NOTHING))
        .fold(0, |differs, (shown, kept)| differs | (shown ^ kept));
    std::hint::black_box(differs) == 0 && against.is_some()
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
        let tracking = Tracking::of_key(b"key");
        assert_eq!(tracking.secret(one).len(), 26);
        assert_eq!(tracking.secret(one), tracking.secret(one));
        assert_ne!(tracking.secret(one), tracking.secret(two));
        assert_ne!(tracking.secret(one), Tracking::of_key(b"other").secret(one));
        assert_eq!(hash("abc "), hash("ABC"), "typed in any way");
        let kept = hash(&tracking.secret(one));
        assert!(opens(&tracking.secret(one).to_lowercase(), Some(&kept)));
        for kept in [None, Some(&kept[..31]), Some(&hash(&tracking.secret(two))[..])] {
            assert!(!opens(&tracking.secret(one), kept));
        }
        assert_ne!(reference(one), reference(two));
        assert_eq!(reference(Uuid::from_u128(31)).len(), 11);
    }
}
