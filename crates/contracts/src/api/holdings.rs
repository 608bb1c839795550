//! `GET /v1/subjects/{subject_id}/holdings`: what a service holds on a person, in her words or about her, for
//! her to have (GDPR Articles 15 and 20). Each service that holds data of people answers it; whoever asks
//! knows nothing of what they hold.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::sealed::Sealed;

/// One thing that is held. No `Debug`: it holds plaintext.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Holding {
    /// What it is: a stable code such as `contact`, `message`, `consent`.
    #[schema(pattern = "^[a-z_]{1,64}$")]
    pub kind: String,
    /// Its id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// When it was said, done or recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What is held: names of fields and their content. Nobody else is named in it, and no colleague.
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
    /// More of it, sealed by the vault as `consent.evidence`: whoever puts the answer together has it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
}

/// Where something that is held comes from: it decides what a person can take along (GDPR Article 20(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// She gave it.
    Provided,
    /// It was observed of what she does.
    Observed,
    /// Whoever holds it wrote it: a message to her, a note, a verdict, a record of an access.
    Recorded,
    /// It was worked out of the rest.
    Derived,
}

impl Provenance {
    /// Whether she can take it along: what she provided, knowingly or by what she did (WP 242 rev.01, page 10).
    #[must_use]
    pub const fn is_portable(self) -> bool {
        matches!(self, Self::Provided | Self::Observed)
    }
}

impl Holding {
    /// Something that is held, with these fields; those without a value are left out.
    #[must_use]
    pub fn new(kind: &str, provenance: Provenance, data: Value) -> Self {
        let fields = match data {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let data = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
        Self { kind: kind.to_owned(), id: None, at: None, provenance, data, evidence: None }
    }
}
