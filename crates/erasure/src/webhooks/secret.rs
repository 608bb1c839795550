//! What calls to participants are signed with, as Standard Webhooks says (webhook-id, webhook-timestamp,
//! webhook-signature). It guarantees that a secret stands in no database: it follows from a key of the service and an
//! id; and that each secret that stands has its own signature, so that a rotation interrupts nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

/// What a secret begins with where it is shown.
const SHOWN: &str = "whsec_";

/// Where secrets come from.
#[derive(Clone)]
pub struct Secrets(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// Secrets under a key that follows from a private key of the service, for this use alone.
    #[must_use]
    pub fn of_key(private_key: &[u8]) -> Self {
        Self(Zeroizing::new(mac(private_key, &[b"assent participant webhook secrets"]).to_vec()))
    }

    /// A participant's secret of this id.
    #[must_use]
    pub fn secret(&self, participant: &str, id: Uuid) -> Secret {
        Secret(Zeroizing::new(mac(&self.0, &[id.as_bytes(), participant.as_bytes()])))
    }
}

/// What one participant and this service share.
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// A secret of these bytes.
    #[must_use]
    pub fn of(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// As it is shown, once: `whsec_` and 32 bytes in base64.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{SHOWN}{}", STANDARD.encode(&self.0[..]))
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        format!("v1,{}", STANDARD.encode(mac(&self.0[..], &parts)))
    }
}

/// The headers that sign a call. `at`: seconds since 1970. A signature for each secret, spaces between.
#[must_use]
pub fn headers(id: Uuid, at: i64, body: &[u8], secrets: &[Secret]) -> [(&'static str, String); 3] {
    let (id, at) = (id.to_string(), at.to_string());
    let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(&id, &at, body)).collect();
    [("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signatures.join(" "))]
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks' own libraries, whose key has 24 bytes.
    #[test]
    fn the_signature_is_the_one_of_the_specification() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let parts: [&[u8]; 5] = [b"msg_p5jXN8AQM9LWM0D4loKWxJek", b".", b"1614265330", b".", body];
        let signature = STANDARD.encode(mac(&key, &parts));
        assert_eq!(signature, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_of_one_participant_one_id_and_one_key() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let secrets = Secrets::of_key(b"key");
        let shown = secrets.secret("crm", one).shown();
        assert_eq!(shown, secrets.secret("crm", one).shown());
        assert!(shown.starts_with("whsec_") && shown.len() == 6 + 44, "{shown}");
        let others = [
            secrets.secret("crm", two),
            secrets.secret("shop", one),
            Secrets::of_key(b"other").secret("crm", one),
        ];
        assert!(others.iter().all(|other| other.shown() != shown));
        let both =
            headers(one, 7, b"{}", &[secrets.secret("crm", one), secrets.secret("crm", two)]);
        assert_eq!(both[2].1.split(' ').count(), 2, "{both:?}");
        assert!(both[2].1.split(' ').all(|signature| signature.starts_with("v1,")));
    }
}
