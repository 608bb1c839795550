//! Ciphertext under a person's key, as it travels in events and requests.

use serde::{Deserialize, Serialize};

/// Ciphertext (AES-256-GCM) under the key of the person it speaks of, base64 without padding.
/// Once that key is destroyed it is noise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Sealed(pub String);
