//! A command that is repeated with its key gets the first answer, for [`RETENTION`]. What is kept
//! are hashes under the service's secret, because clients put phone numbers into keys and bodies;
//! rendering the answer again from the stored events is left to the service.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

/// How long a first answer is kept.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A client's idempotency key with the body that came with it, hashed under the service's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Idempotency {
    /// Identifies caller and key.
    pub key_hash: [u8; 32],
    /// Identifies the body.
    pub body_hash: [u8; 32],
}

impl Idempotency {
    pub(crate) fn new(secret: &[u8], scope: &str, key: &str, body: &[u8]) -> Self {
        Self {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            key_hash: hash(
                secret,
                &[b"key", &(scope.len() as u64).to_be_bytes(), scope.as_bytes(), key.as_bytes()],
            ),
            body_hash: hash(secret, &[b"body", body]),
        }
    }
}

fn hash(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes secrets of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// What the first command with an idempotency key did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstAnswer {
    /// The stream that it wrote to.
    pub stream: Uuid,
    /// The stream's version after it.
    pub version: i64,
    /// The events that it appended.
    pub event_ids: Vec<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of the test";

    #[test]
    fn the_same_key_and_body_of_one_caller_hash_alike() {
        let first = Idempotency::new(SECRET, "crm", "k1", b"{}");
        assert_eq!(first, Idempotency::new(SECRET, "crm", "k1", b"{}"));
    }

    #[test]
    fn callers_and_keys_do_not_run_into_each_other() {
        let one = Idempotency::new(SECRET, "ab", "c", b"{}");
        let other = Idempotency::new(SECRET, "a", "bc", b"{}");
        assert_ne!(one.key_hash, other.key_hash);
    }

    #[test]
    fn another_secret_gives_other_hashes_so_numbers_cannot_be_guessed_from_them() {
        let one = Idempotency::new(SECRET, "crm", "+33612345678", b"+33612345678");
        let other = Idempotency::new(b"another", "crm", "+33612345678", b"+33612345678");
        assert_ne!(one.key_hash, other.key_hash);
        assert_ne!(one.body_hash, other.body_hash);
        assert_ne!(one.key_hash, one.body_hash);
    }
}
