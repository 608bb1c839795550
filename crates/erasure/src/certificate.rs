//! The certificate of a complete erasure: a compact JWS (RFC 7515) with EdDSA (RFC 8037) over the
//! canonical bytes of its payload. It guarantees that a changed byte, another key or another form
//! of the same content is refused; which key to trust is said by whoever verifies, never by the
//! file.

use std::collections::BTreeMap;

use assent_contracts::erasure::{Evidence, Step};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::canonical;
use crate::domain::{Request, STEPS};

/// The media type that the header names.
const TYPE: &str = "assent-erasure-certificate+jws";

/// What is certified. It names the request, never the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// The request.
    pub request_id: Uuid,
    /// The legal entity that erased.
    pub controller: String,
    /// When the request was recorded.
    pub requested_at: Timestamp,
    /// When everyone had proved everything: live data is gone.
    pub completed_at: Timestamp,
    /// What was done, step by step.
    pub steps: Vec<CertifiedStep>,
    /// When the last key was destroyed; none: no participant keeps keys.
    pub keys_destroyed_at: Option<Timestamp>,
    /// When the last backup of the keys expires; none: nothing is stated about backups.
    pub last_key_backup_expires_at: Option<Timestamp>,
    /// Inclusion in the audit log; none while there is no such log.
    pub log_proof: Option<Value>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedStep {
    /// The step.
    pub step: Step,
    /// What each participant did, by name.
    pub participants: BTreeMap<String, CertifiedAnswer>,
}

/// What one participant did for one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedAnswer {
    /// The command it answered.
    pub command_id: Uuid,
    /// When its answer was recorded.
    pub acknowledged_at: Timestamp,
    /// Its evidence.
    pub evidence: Evidence,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// Why a certificate is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not three base64url parts with nothing around them.
    #[error("not a compact JWS, byte for byte as it was issued")]
    Form,
    /// The header is of another algorithm, type or form.
    #[error("the header is not that of an Assent erasure certificate signed with EdDSA")]
    Header,
    /// The payload is not in canonical form (RFC 8785), or not of the expected shape.
    #[error("the payload is not a certificate in canonical form")]
    Payload,
    /// It was signed with another key.
    #[error("it was signed with another key")]
    Key,
    /// The signature doesn't match.
    #[error("the signature does not match")]
    Signature,
}

/// The key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key in PEM: {0}")]
pub struct KeyError(String);

/// Signs certificates.
#[derive(Clone)]
pub struct Issuer {
    key: SigningKey,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

/// A signed certificate with the hash that its event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The compact JWS.
    pub jws: String,
    /// SHA-256 of the canonical payload, hex.
    pub payload_sha256: String,
}

impl Issuer {
    /// From a PKCS#8 private key in PEM.
    ///
    /// # Errors
    /// [`KeyError`], without the key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|error| KeyError(error.to_string()))?;
        Ok(Self { key })
    }

    /// The public key, as SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// Never for a key that was read.
    pub fn public_key_pem(&self) -> Result<String, KeyError> {
        self.key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| KeyError(error.to_string()))
    }

    fn kid(&self) -> String {
        thumbprint(&self.key.verifying_key())
    }

    /// Signs.
    ///
    /// # Errors
    /// When the payload has no canonical form.
    pub fn sign(&self, payload: &Payload) -> Result<Signed, canonical::CanonicalError> {
        let header = Header { alg: "EdDSA".to_owned(), kid: self.kid(), typ: TYPE.to_owned() };
        let payload = canonical::to_vec(payload)?;
        let input = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(canonical::to_vec(&header)?),
            URL_SAFE_NO_PAD.encode(&payload)
        );
        let signature = self.key.sign(input.as_bytes());
        Ok(Signed {
            jws: format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())),
            payload_sha256: hex(&Sha256::digest(&payload)),
        })
    }
}

/// Reads a public key (SubjectPublicKeyInfo in PEM).
///
/// # Errors
/// [`KeyError`].
pub fn public_key(pem: &str) -> Result<VerifyingKey, KeyError> {
    VerifyingKey::from_public_key_pem(pem).map_err(|error| KeyError(error.to_string()))
}

/// Verifies a certificate offline and gives what it certifies. `key` comes from whoever verifies.
///
/// # Errors
/// [`Invalid`]; a file that isn't byte for byte as it was issued is refused, also where the
/// difference would mean nothing.
pub fn verify(file: &[u8], key: &VerifyingKey) -> Result<Payload, Invalid> {
    let text = std::str::from_utf8(file).map_err(|_| Invalid::Form)?;
    let mut parts = text.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Invalid::Form);
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Form);

    let header_bytes = decode(header)?;
    let parsed: Header = serde_json::from_slice(&header_bytes).map_err(|_| Invalid::Header)?;
    let canonical = canonical::to_vec(&parsed).map_err(|_| Invalid::Header)?;
    if parsed.alg != "EdDSA" || parsed.typ != TYPE || canonical != header_bytes {
        return Err(Invalid::Header);
    }
    if parsed.kid != thumbprint(key) {
        return Err(Invalid::Key);
    }
    let signature: [u8; 64] = decode(signature)?.try_into().map_err(|_| Invalid::Form)?;
    let signed = &text.as_bytes()[..header.len() + 1 + payload.len()];
    key.verify_strict(signed, &Signature::from_bytes(&signature))
        .map_err(|_| Invalid::Signature)?;

    let payload_bytes = decode(payload)?;
    let document: Value = serde_json::from_slice(&payload_bytes).map_err(|_| Invalid::Payload)?;
    // Members that stand twice, other spellings, other orders: the canonical form has none.
    if canonical::to_vec(&document).ok().as_deref() != Some(payload_bytes.as_slice()) {
        return Err(Invalid::Payload);
    }
    serde_json::from_value(document).map_err(|_| Invalid::Payload)
}

/// The payload for a request that is proved, as of `completed_at`.
#[must_use]
pub fn payload(
    request: &Request,
    controller: &str,
    key_backup_kept: Option<jiff::SignedDuration>,
    completed_at: Timestamp,
) -> Payload {
    let steps = STEPS
        .into_iter()
        .map(|step| CertifiedStep {
            step,
            participants: request
                .commands
                .iter()
                .filter(|command| command.step == step)
                .flat_map(|command| {
                    command.answers.iter().map(|(name, (evidence, at))| {
                        let answer = CertifiedAnswer {
                            command_id: command.command_id,
                            acknowledged_at: *at,
                            evidence: evidence.clone(),
                        };
                        (name.clone(), answer)
                    })
                })
                .collect(),
        })
        .filter(|step: &CertifiedStep| !step.participants.is_empty())
        .collect();
    let keys_destroyed_at = request
        .commands
        .iter()
        .filter(|command| command.step == Step::DestroyKeys)
        .flat_map(|command| command.answers.values().map(|(_, at)| *at))
        .max();
    Payload {
        request_id: request.id,
        controller: controller.to_owned(),
        requested_at: request.requested_at,
        completed_at,
        steps,
        keys_destroyed_at,
        last_key_backup_expires_at: keys_destroyed_at
            .zip(key_backup_kept)
            .and_then(|(destroyed, kept)| destroyed.checked_add(kept).ok()),
        log_proof: None,
    }
}

/// The key's thumbprint (RFC 7638, RFC 8037 appendix A.3).
fn thumbprint(key: &VerifyingKey) -> String {
    let x = URL_SAFE_NO_PAD.encode(key.to_bytes());
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(jwk.as_bytes()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
