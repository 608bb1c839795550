//! Sealing and opening of single values with AES-256-GCM. A value opens only for the person,
//! record, field and key version it was sealed for; nothing is said about why it doesn't.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use assent_contracts::SubjectId;
use assent_contracts::sealed::Sealed;
use assent_runtime::Ids;
use assent_runtime::broken::{self, Guarantee};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::DataKey;

/// Layout of what [`seal`] gives: this byte, the 96-bit nonce, ciphertext and 128-bit tag.
const FORMAT: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;

/// By how many bytes ciphertext is longer than its plaintext.
pub const OVERHEAD: usize = 1 + NONCE + TAG;

/// What a ciphertext is bound to. Moved elsewhere it doesn't open.
#[derive(Clone, Copy)]
pub struct Aad<'a> {
    /// Whose value it is.
    pub subject: SubjectId,
    /// The record that holds it.
    pub record: Uuid,
    /// The field within the record, such as `phone` or `consent.evidence`.
    pub field: &'a str,
    /// The version of the person's key.
    pub version: i32,
}

impl Aad<'_> {
    /// Fixed-width parts first, so that no two bindings have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(36 + self.field.len());
        bytes.extend_from_slice(self.subject.as_bytes());
        bytes.extend_from_slice(self.record.as_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(self.field.as_bytes());
        bytes
    }
}

/// It doesn't open: another key, another binding, or damaged bytes. Which of them is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value doesn't open")]
pub struct SealError;

/// Seals `plaintext`. Nonces are random: a key may seal 2^32 values at most (NIST SP 800-38D
/// §8.3), far beyond what one person's key ever does.
#[must_use]
pub fn seal(key: &DataKey, ids: &dyn Ids, aad: Aad<'_>, plaintext: &[u8]) -> Vec<u8> {
    seal_bytes(key, ids, &aad.bytes(), plaintext)
}

/// Opens what [`seal`] sealed.
///
/// # Errors
/// [`SealError`] when it doesn't open.
pub fn open(key: &DataKey, aad: Aad<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    open_bytes(key, &aad.bytes(), sealed)
}

pub(crate) fn seal_bytes(key: &DataKey, ids: &dyn Ids, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE];
    ids.fill(&mut nonce);
    seal_with(key, nonce, aad, plaintext)
}

/// The caller answers for the nonce: two plaintexts never share one.
pub(crate) fn seal_with(
    key: &DataKey,
    nonce: [u8; NONCE],
    aad: &[u8],
    plaintext: &[u8],
) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
    sealed.push(FORMAT);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    if broken::is(Guarantee::G5) {
        sealed.extend_from_slice(&[0; TAG]);
        return sealed;
    }
    let tag = cipher(key)
        .encrypt_inout_detached(
            &Nonce::from(nonce),
            aad,
            aes_gcm::aead::inout::InOutBuf::from(&mut sealed[1 + NONCE..]),
        )
        .expect("plaintext is far below the 64 GiB that GCM allows");
    sealed.extend_from_slice(&tag);
    sealed
}

pub(crate) fn open_bytes(
    key: &DataKey,
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let body = sealed.strip_prefix(&[FORMAT]).ok_or(SealError)?;
    let (nonce, body) = body.split_first_chunk::<NONCE>().ok_or(SealError)?;
    let (ciphertext, tag) = body.split_last_chunk::<TAG>().ok_or(SealError)?;
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    if broken::is(Guarantee::G5) {
        return Ok(plaintext);
    }
    cipher(key)
        .decrypt_inout_detached(
            &Nonce::from(*nonce),
            aad,
            aes_gcm::aead::inout::InOutBuf::from(plaintext.as_mut_slice()),
            &aes_gcm::Tag::from(*tag),
        )
        .map_err(|_| SealError)?;
    Ok(plaintext)
}

fn cipher(key: &DataKey) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

/// Ciphertext in the form in which it travels in events and requests.
#[must_use]
pub fn to_text(sealed: &[u8]) -> Sealed {
    Sealed(STANDARD_NO_PAD.encode(sealed))
}

/// The bytes of ciphertext that travelled as text.
///
/// # Errors
/// [`SealError`] when it is no base64.
pub fn from_text(sealed: &Sealed) -> Result<Vec<u8>, SealError> {
    STANDARD_NO_PAD.decode(&sealed.0).map_err(|_| SealError)
}

#[cfg(test)]
mod tests {
    use assent_runtime::SystemIds;

    use super::*;

    const AAD: Aad<'static> =
        Aad { subject: Uuid::from_u128(1), record: Uuid::from_u128(2), field: "phone", version: 3 };

    fn key() -> DataKey {
        DataKey::from_bytes([9; 32])
    }

    #[test]
    fn what_was_sealed_opens() {
        for text in ["", "+33612345678", "Zoë Ω 王"] {
            let sealed = seal(&key(), &SystemIds, AAD, text.as_bytes());
            assert_eq!(sealed.len(), text.len() + OVERHEAD);
            assert_eq!(open(&key(), AAD, &sealed).unwrap().as_slice(), text.as_bytes());
            assert_eq!(from_text(&to_text(&sealed)).unwrap(), sealed);
        }
    }

    #[test]
    fn another_binding_does_not_open() {
        let sealed = seal(&key(), &SystemIds, AAD, b"+33612345678");
        for aad in [
            Aad { subject: Uuid::from_u128(9), ..AAD },
            Aad { record: Uuid::from_u128(9), ..AAD },
            Aad { field: "name", ..AAD },
            Aad { version: 4, ..AAD },
        ] {
            assert_eq!(open(&key(), aad, &sealed).err(), Some(SealError));
        }
        assert_eq!(open(&DataKey::from_bytes([8; 32]), AAD, &sealed).err(), Some(SealError));
    }

    #[test]
    fn damaged_bytes_do_not_open() {
        let sealed = seal(&key(), &SystemIds, AAD, b"+33612345678");
        for position in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[position] ^= 1;
            assert!(open(&key(), AAD, &damaged).is_err());
            assert!(open(&key(), AAD, &sealed[..position]).is_err());
        }
    }

    #[test]
    fn no_two_values_share_a_nonce() {
        let first = seal(&key(), &SystemIds, AAD, b"same");
        assert_ne!(first, seal(&key(), &SystemIds, AAD, b"same"));
    }
}
