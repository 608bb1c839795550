//! Published vault events. Key: the `subject_id`; for suppressions an id derived from the token.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::AddressToken;

/// `assent.vault.subject_registered.v1`
pub const SUBJECT_REGISTERED: &str = "assent.vault.subject_registered.v1";
/// `assent.vault.address_suppressed.v1`
pub const ADDRESS_SUPPRESSED: &str = "assent.vault.address_suppressed.v1";
/// `assent.vault.subject_erased.v1`
pub const SUBJECT_ERASED: &str = "assent.vault.subject_erased.v1";

/// By which road a person came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A contact file.
    Import,
    /// An operator or a system over the API.
    Operator,
    /// The person's own act (she wrote to us).
    Subject,
}

/// A person is known: her identifiers are sealed in the vault, her addresses are linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubjectRegistered {
    /// Tokens of her addresses, each spelling of a number having its own.
    pub addresses: Vec<AddressToken>,
    /// ISO 3166-1 alpha-2 region of her number, where known. Drives the applicable law.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Which fields are held (`phone`, `name`, `email`), never their content.
    pub fields: Vec<String>,
    /// By which road.
    pub origin: Origin,
    /// When it was recorded.
    pub at: Timestamp,
}

/// An address may not be used, whoever it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AddressSuppressed {
    /// Tokens of all spellings of the address.
    pub addresses: Vec<AddressToken>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Everything that the vault held of a person is gone and her key is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubjectErased {
    /// The erasure request.
    pub request_id: Uuid,
    /// When it was recorded.
    pub at: Timestamp,
}
