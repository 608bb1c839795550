//! Published vault events. Key: the `subject_id`; for suppressions an id derived from the token.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::AddressToken;

/// `assent.vault.subject_registered.v1`
pub const SUBJECT_REGISTERED: &str = "assent.vault.subject_registered.v1";
/// `assent.vault.identifiers_added.v1`
pub const IDENTIFIERS_ADDED: &str = "assent.vault.identifiers_added.v1";
/// `assent.vault.identifiers_removed.v1`
pub const IDENTIFIERS_REMOVED: &str = "assent.vault.identifiers_removed.v1";
/// `assent.vault.subject_linked.v1`
pub const SUBJECT_LINKED: &str = "assent.vault.subject_linked.v1";
/// `assent.vault.address_suppressed.v1`
pub const ADDRESS_SUPPRESSED: &str = "assent.vault.address_suppressed.v1";
/// `assent.vault.subject_rectified.v1`
pub const SUBJECT_RECTIFIED: &str = "assent.vault.subject_rectified.v1";
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
    /// Which fields are held (`phone`, `user_id`, `parent_user_id`, `name`, `email`), never their content.
    pub fields: Vec<String>,
    /// By which road.
    pub origin: Origin,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The platform named a known person by more identifiers. No consent comes with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IdentifiersAdded {
    /// Tokens of what is new.
    pub addresses: Vec<AddressToken>,
    /// ISO 3166-1 alpha-2 region of her number, where it became known by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Which fields are held since (`phone`, `user_id`, `parent_user_id`), never their content.
    pub fields: Vec<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Somebody verified a person's number: her user ids are forgotten, and so is who was one with her. What stands
/// against these addresses stands against her on; they are not hers any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IdentifiersRemoved {
    /// Tokens of what she is not known by any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressToken>,
    /// Which fields are held no more (`user_id`, `parent_user_id`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// With whom she is one no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlinked: Vec<Uuid>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// By the platform's word this person and others are one. They are not merged: the most restrictive answer
/// over all of them counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubjectLinked {
    /// The others.
    pub others: Vec<Uuid>,
    /// Tokens of their addresses.
    pub addresses: Vec<AddressToken>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// What was held of a person was wrong, or missing, and she had it put right (GDPR Article 16). Of a number that
/// was, `identifiers_removed.v1` and `identifiers_added.v1` tell the tokens, before this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubjectRectified {
    /// The request that asked for it.
    pub request_id: Uuid,
    /// Which fields have another content (`phone`, `name`, `email`), never their content.
    pub fields: Vec<String>,
    /// Which of them are held no more: what was there was wrong, and nothing came in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
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
