//! What others may rely on: topic names, the envelope, the published event types of version 1
//! and the HTTP types that services exchange. It guarantees that a shape changes only additively
//! within a version; how a service represents the same facts inside is left to that service.
//!
//! Published events carry no plaintext personal data: a person is a random [`SubjectId`], an
//! address is a keyed [`Token`](address::AddressToken), free text is ciphertext.

pub mod address;
pub mod api;
pub mod campaigns;
pub mod code;
pub mod consent;
pub mod conversation;
pub mod envelope;
pub mod erasure;
pub mod messaging;
pub mod moment;
pub mod policy;
pub mod published;
pub mod purposes;
pub mod rights;
pub mod rules;
pub mod sealed;
pub mod topics;
pub mod upcast;
pub mod vault;
pub mod wire;

/// The random identifier of a person. It says nothing about her and is the Kafka key of every
/// event that concerns her.
pub type SubjectId = uuid::Uuid;
