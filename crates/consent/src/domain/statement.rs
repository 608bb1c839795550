//! What the controller signs about a verdict of the past. It guarantees that the same question gives the
//! same statement for ever, and that nobody can leave out, add or change an event or a version of the
//! purpose without its telling so.

use assent_contracts::api::consent::{AsOfRequest, AsOfVerdict};
use assent_signing::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::purpose::hex;

/// The media type that its signature names.
pub const TYPE: &str = "assent-verdict+jws";

/// The statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// What was asked; with the position that was known.
    pub question: AsOfRequest,
    /// The answer.
    pub verdict: AsOfVerdict,
    /// All that was known: SHA-256, hex, of her events up to that position, as her history has them, in
    /// canonical form (RFC 8785).
    pub events: String,
    /// The same of the versions of the purpose that were recorded by the moment that is asked about.
    pub versions: String,
}

impl Statement {
    /// Makes it.
    ///
    /// # Errors
    /// When something has no canonical form.
    pub fn new(
        question: AsOfRequest,
        verdict: AsOfVerdict,
        events: &[impl Serialize],
        versions: &[impl Serialize],
    ) -> Result<Self, CanonicalError> {
        let (events, versions) = (digest(events)?, digest(versions)?);
        Ok(Self { question, verdict, events, versions })
    }
}

fn digest(items: &[impl Serialize]) -> Result<String, CanonicalError> {
    Ok(hex(&Sha256::digest(canonical::to_vec(&items)?)))
}
