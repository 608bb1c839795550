//! What a person is given when her request is taken in: a reference to quote, and a secret with which
//! she can look. It guarantees that both can be said again to whoever asked, and that neither tells
//! anything; only the secret's hash is kept.

use assent_contracts::code::Code;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

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

    /// The secret of a request: two codes, 100 bits.
    #[must_use]
    pub fn secret(&self, request_id: Uuid) -> String {
        let first = mac(&self.0, request_id.as_bytes());
        let second = mac(&self.0, &first);
        format!("{}-{}", Code::from_hash(&first), Code::from_hash(&second))
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
    let mut bits = [0; 32];
    for (bit, random) in bits.iter_mut().zip(&request_id.as_bytes()[9..]) {
        *bit = *random;
    }
    Code::from_hash(&bits).to_string()
}

/// The reference that somebody typed, as it is kept; none: it can be none.
#[must_use]
pub fn typed_reference(text: &str) -> Option<String> {
    Some(text.trim().parse::<Code>().ok()?.to_string())
}

/// What is kept of a secret, also of one that is typed in another case, or with an O for a zero.
#[must_use]
pub fn hash(secret: &str) -> Vec<u8> {
    let typed = secret.trim();
    let codes = typed.get(..11).zip(typed.get(12..));
    let read = codes.and_then(|(first, second)| {
        Some(format!("{}-{}", first.parse::<Code>().ok()?, second.parse::<Code>().ok()?))
    });
    Sha256::digest(read.as_deref().unwrap_or(typed)).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_each_time_and_another_for_each_request_and_key() {
        let (one, two) = (Uuid::from_u128(1 << 32), Uuid::from_u128(2 << 32));
        let tracking = Tracking::of_key(b"key");
        assert_eq!(tracking.secret(one).len(), 23);
        assert_eq!(tracking.secret(one), tracking.secret(one));
        assert_ne!(tracking.secret(one), tracking.secret(two));
        assert_ne!(tracking.secret(one), Tracking::of_key(b"other").secret(one));
        let typed = " 0o1il-00000-abcde-fghjk ";
        assert_eq!(hash(typed), hash("00111-00000-ABCDE-FGHJK"), "typed in any way");
        let kept = hash(&tracking.secret(one));
        assert!(opens(&tracking.secret(one).to_lowercase(), Some(&kept)));
        for kept in [None, Some(&kept[..31]), Some(&hash(&tracking.secret(two))[..])] {
            assert!(!opens(&tracking.secret(one), kept));
        }
        assert_ne!(reference(one), reference(two));
        assert_eq!(reference(Uuid::from_u128(31)).len(), 11);
        assert_eq!(typed_reference(" oi234-56789").as_deref(), Some("01234-56789"));
        assert_eq!(typed_reference("33639980001"), None);
    }
}
