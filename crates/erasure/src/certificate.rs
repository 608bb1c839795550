//! The certificate of a complete erasure: what it says, as a compact JWS. How it is signed and
//! checked is `assent_signing`'s.

use std::collections::BTreeMap;

use assent_contracts::erasure::{Evidence, Step};
use assent_signing::canonical::{self, CanonicalError};
use assent_signing::{Invalid, Issuer, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

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
    /// When the request was received.
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

/// A signed certificate with the hash that its event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The compact JWS.
    pub jws: String,
    /// SHA-256 of the canonical payload, hex.
    pub payload_sha256: String,
}

/// Signs.
///
/// # Errors
/// When the payload has no canonical form.
pub fn sign(issuer: &Issuer, payload: &Payload) -> Result<Signed, CanonicalError> {
    Ok(Signed {
        jws: issuer.sign(TYPE, payload)?,
        payload_sha256: hex(&Sha256::digest(canonical::to_vec(payload)?)),
    })
}

/// Verifies a certificate offline and gives what it certifies. `key` comes from whoever verifies.
///
/// # Errors
/// [`Invalid`]; a file that isn't byte for byte as it was issued is refused, also where the
/// difference would mean nothing.
pub fn verify(file: &[u8], key: &VerifyingKey) -> Result<Payload, Invalid> {
    let document = assent_signing::verify(file, TYPE, key)?;
    serde_json::from_value(document).map_err(|_| Invalid::Payload)
}

/// The payload for an erasure that is proved, as of `completed_at`; its request came at `received_at`.
#[must_use]
pub fn payload(
    request: &Request,
    received_at: Timestamp,
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
        requested_at: received_at,
        completed_at,
        steps,
        keys_destroyed_at,
        last_key_backup_expires_at: keys_destroyed_at
            .zip(key_backup_kept)
            .and_then(|(destroyed, kept)| destroyed.checked_add(kept).ok()),
        log_proof: None,
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
