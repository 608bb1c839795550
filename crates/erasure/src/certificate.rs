//! The certificate of a complete erasure: what it says, as a compact JWS. It guarantees that it names the request
//! and never the person, that what is said follows from her events alone, and that whoever holds the request's
//! secret can show that it is hers. How it is signed and checked is `assent_signing`'s; how it reads, `page`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Write as _};

use assent_contracts::erasure::{Evidence, Kept, Step};
use assent_contracts::rights::ExtensionReason;
use assent_signing::canonical::{self, CanonicalError};
use assent_signing::{Invalid, Issuer, VerifyingKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::domain::{Person, Request, STEPS};
use crate::tracking;

pub use page::page;

mod page;
mod words;

/// The media type that the header names.
const TYPE: &str = "assent-erasure-certificate+jws";

/// How long after its destruction the bytes of a wrapped key may still stand in the write-ahead log of the key
/// store's server: see `assent_sealing::wal`. The certificate's second date is not earlier.
pub const KEY_BYTES_GONE_WITHIN: SignedDuration =
    SignedDuration::from_secs(assent_sealing::wal::GONE_WITHIN.as_secs() as i64);

/// What is certified. It names the request, never the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// The request.
    pub request_id: Uuid,
    /// The one purpose whose data were erased; none: all data of the person. Whoever doesn't know this member refuses the
    /// certificate, and doesn't take it for that of a whole person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
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
    /// By when it had to be done, by law, an extension included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// When she was told that the request had arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<Timestamp>,
    /// Why the term was extended; empty: it wasn't.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_for: Vec<ExtensionReason>,
    /// What stays, with whom, why, and until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<CertifiedKept>,
    /// What didn't go as it should.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// SHA-256, hex, of the secret that was given with each request that this erasure answers. Whoever shows a
    /// secret of which this is the hash shows that the certificate is hers; the hash itself tells nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets_sha256: Vec<String>,
}

impl Payload {
    /// Whether the certificate is of a request that was given this secret.
    #[must_use]
    pub fn is_of(&self, secret: &str) -> bool {
        self.secrets_sha256.contains(&hex(&tracking::hash(secret)))
    }

    /// As certificates were before they said what stays.
    fn of_before(&self) -> Self {
        Self {
            due: None,
            acknowledged_at: None,
            extended_for: Vec::new(),
            kept: Vec::new(),
            exceptions: Vec::new(),
            secrets_sha256: Vec::new(),
            ..self.clone()
        }
    }
}

/// Something that stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedKept {
    /// Who keeps it.
    pub participant: String,
    /// What, as a code.
    pub what: String,
    /// Why, as a code.
    pub ground: String,
    /// When it is destroyed; none: it has no end.
    pub until: Option<Timestamp>,
}

/// Something that didn't go as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Exception {
    /// The time of a step had run out before these answered.
    Late {
        /// The step.
        step: Step,
        /// Who was missing then.
        participants: Vec<String>,
    },
    /// A legal hold stood between the request and the first step.
    Held {
        /// Since when.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// It was completed after the day by which the law wants it.
    AfterDue,
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

/// The certificate can't be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// What was kept is none.
    #[error("the certificate that was kept is none")]
    Kept,
    /// The zip.
    #[error("the certificate can't be packed: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// A file of it.
    #[error("a file of the certificate can't be packed: {0}")]
    Write(#[from] std::io::Error),
    /// A page.
    #[error("the certificate's page can't be written: {0}")]
    Page(#[from] askama::Error),
}

/// A certificate of this service's own for the person: itself, and how it reads in each language. Times of files are
/// left out: the same certificate gives the same bytes.
///
/// # Errors
/// [`PackError`].
pub fn pack(jws: &str) -> Result<Vec<u8>, PackError> {
    let certificate = read(jws).ok_or(PackError::Kept)?;
    let mut files = vec![("certificate.jws".to_owned(), jws.to_owned())];
    for language in languages() {
        let Some(page) = page(&certificate, language) else { continue };
        files.push((format!("{language}.html"), page?));
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .unix_permissions(0o600);
        zip.start_file(name, options)?;
        zip.write_all(content.as_bytes())?;
    }
    Ok(zip.finish()?.into_inner())
}

/// The languages of the page.
pub fn languages() -> impl Iterator<Item = &'static str> {
    words::ALL.into_iter().map(|words| words.tag)
}

/// What a certificate says that this service has signed and kept.
fn read(jws: &str) -> Option<Payload> {
    let payload = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// Signs what was signed before: byte for byte the same, or nothing.
#[must_use]
pub fn sign_again(issuer: &Issuer, payload: &Payload, sha256: &str) -> Option<Signed> {
    [payload, &payload.of_before()]
        .into_iter()
        .filter_map(|payload| sign(issuer, payload).ok())
        .find(|signed| signed.payload_sha256 == sha256)
}

/// What the legal entity says of itself on each certificate.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Its name.
    pub controller: &'a str,
    /// How long backups of keys are kept, where that is stated.
    pub key_backup_kept: Option<SignedDuration>,
}

/// The requests that the erasure of this person answers.
#[must_use]
pub fn answers(person: &Person) -> Vec<Uuid> {
    person.requests.iter().filter(|request| request.erases()).map(|request| request.id).collect()
}

/// The payload for the erasure of a person that is proved, as of `completed_at`, by what was on record before that.
/// `secrets` are the kept hashes of the secrets of those [requests](answers). None: nobody asked to erase her.
#[must_use]
pub fn payload(
    person: &Person,
    secrets: &[Vec<u8>],
    terms: Terms<'_>,
    completed_at: Timestamp,
) -> Option<Payload> {
    Some(payload_of(person, person.saga.request.as_ref()?, None, secrets, terms, completed_at))
}

/// As [`payload`], for the erasure of one purpose's data that this request asks for.
#[must_use]
pub fn payload_of_purpose(
    person: &Person,
    request_id: Uuid,
    secrets: &[Vec<u8>],
    terms: Terms<'_>,
    completed_at: Timestamp,
) -> Option<Payload> {
    let erasure = person.purposes.get(request_id)?;
    let purpose = Some(erasure.purpose.as_str());
    Some(payload_of(person, erasure.request()?, purpose, secrets, terms, completed_at))
}

fn payload_of(
    person: &Person,
    erasure: &Request,
    purpose: Option<&str>,
    secrets: &[Vec<u8>],
    terms: Terms<'_>,
    completed_at: Timestamp,
) -> Payload {
    let asked = person.requests.get(erasure.id);
    let steps = STEPS
        .into_iter()
        .map(|step| CertifiedStep {
            step,
            participants: (erasure.commands.iter())
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
        .collect::<Vec<_>>();
    let destroyed = steps.iter().filter(|step| step.step == Step::DestroyKeys);
    let keys_destroyed_at = destroyed
        .flat_map(|step| step.participants.values().map(|answer| answer.acknowledged_at))
        .max();
    let due = asked.map_or(erasure.due, |asked| asked.due);
    let mut secrets: Vec<String> = secrets.iter().map(|hash| hex(hash)).collect();
    secrets.sort_unstable();
    Payload {
        request_id: erasure.id,
        purpose: purpose.map(str::to_owned),
        controller: terms.controller.to_owned(),
        requested_at: asked.map_or(erasure.requested_at, |asked| asked.received_at),
        completed_at,
        kept: kept(&steps),
        exceptions: exceptions(person, erasure, purpose, due, completed_at),
        steps,
        keys_destroyed_at,
        last_key_backup_expires_at: keys_destroyed_at.zip(terms.key_backup_kept).and_then(
            |(destroyed, kept)| destroyed.checked_add(kept.max(KEY_BYTES_GONE_WITHIN)).ok(),
        ),
        log_proof: None,
        due: Some(due),
        acknowledged_at: asked.and_then(|asked| asked.acknowledged_at),
        extended_for: asked
            .and_then(|asked| asked.extended.as_ref())
            .map_or_else(Vec::new, |extended| extended.reasons.clone()),
        secrets_sha256: secrets,
    }
}

/// What everybody said that it keeps, and this service's own record of the request.
fn kept(steps: &[CertifiedStep]) -> Vec<CertifiedKept> {
    let said = steps.iter().flat_map(|step| &step.participants).flat_map(|(name, answer)| {
        answer.evidence.kept.iter().map(|Kept { what, ground, until }| CertifiedKept {
            participant: name.clone(),
            what: what.clone(),
            ground: ground.clone(),
            until: *until,
        })
    });
    let own = CertifiedKept {
        participant: "erasure".to_owned(),
        what: "request".to_owned(),
        ground: "accountability".to_owned(),
        until: None,
    };
    said.chain([own]).collect::<BTreeSet<_>>().into_iter().collect()
}

fn exceptions(
    person: &Person,
    erasure: &Request,
    purpose: Option<&str>,
    due: Timestamp,
    completed_at: Timestamp,
) -> Vec<Exception> {
    let late = erasure.commands.iter().filter(|command| !command.overdue.is_empty());
    let began = erasure.commands.first().map_or(completed_at, |first| first.at);
    let held = person.holds.delayed(erasure.requested_at, began, purpose);
    late.map(|command| Exception::Late {
        step: command.step,
        participants: command.overdue.iter().cloned().collect(),
    })
    .chain(held.map(|(from, until)| Exception::Held { from, until }))
    .chain((completed_at >= due).then_some(Exception::AfterDue))
    .collect()
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
