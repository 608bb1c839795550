//! Keys of people, asked of the vault for sealing and opening here. It guarantees that none is held
//! longer than one lease, counted from before the ask; destroying them is left to the vault.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{KeyLeaseRequest, KeyLeaseResponse};
use assent_http::{ClientError, ServiceClient};
use assent_runtime::{Clock, Ids, Lease, LeaseTerms};
use assent_sealing::{Aad, DataKey, SealError, open, seal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use uuid::Uuid;
use zeroize::{Zeroize as _, Zeroizing};

/// Most people in one ask.
const ASK_MAX: usize = 100;

/// Asks for keys.
#[derive(Clone)]
pub struct PersonKeys {
    vault: ServiceClient,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    terms: LeaseTerms,
}

/// Why a value can't be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// She has no key, or none any more: that lasts.
    #[error("the person has no key")]
    Gone,
    /// The lease has run out: whoever asks again may get another one.
    #[error("the lease of the keys has run out")]
    LeaseOver,
    /// The value was sealed for something else, or is none.
    #[error("not a sealed value of this record")]
    Foreign,
}

/// Keys under one lease. Dropped, they are wiped.
pub struct LeasedKeys {
    keys: HashMap<SubjectId, DataKey>,
    lease: Lease,
    ids: Arc<dyn Ids>,
}

impl PersonKeys {
    /// Keys from this vault.
    #[must_use]
    pub fn new(
        vault: ServiceClient,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        terms: LeaseTerms,
    ) -> Self {
        Self { vault, clock, ids, terms }
    }

    /// The keys of these people. Who has none (any more) is left out.
    ///
    /// # Errors
    /// When the vault doesn't answer.
    pub async fn lease(
        &self,
        reason: &str,
        subjects: &[SubjectId],
    ) -> Result<LeasedKeys, ClientError> {
        let lease = Lease::start(&self.clock, &self.terms);
        let mut keys = HashMap::new();
        for subjects in subjects.chunks(ASK_MAX) {
            let request =
                KeyLeaseRequest { reason: reason.to_owned(), subjects: subjects.to_vec() };
            let answer: KeyLeaseResponse =
                self.vault.post("/v1/keys/lease", &request, None).await?;
            for (subject, text) in subjects.iter().zip(answer.keys) {
                let Some(text) = text.map(Zeroizing::new) else { continue };
                keys.insert(*subject, key(&text)?);
            }
        }
        Ok(LeasedKeys { keys, lease, ids: Arc::clone(&self.ids) })
    }
}

fn key(text: &str) -> Result<DataKey, ClientError> {
    let malformed = || ClientError::Protocol("a key that is none".to_owned());
    let mut bytes = [0; 32];
    match STANDARD_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(32) => {}
        _ => return Err(malformed()),
    }
    let key = DataKey::from_bytes(bytes);
    bytes.zeroize();
    Ok(key)
}

impl LeasedKeys {
    /// Seals a field of a record of hers.
    ///
    /// # Errors
    /// When she has no key, or the lease has run out.
    pub fn seal(
        &self,
        subject: SubjectId,
        record: Uuid,
        field: &str,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        let key = self.key(subject)?;
        Ok(seal(key, &*self.ids, aad(subject, record, field), plaintext))
    }

    /// Opens what [`Self::seal`] sealed.
    ///
    /// # Errors
    /// When she has no key, the lease has run out, or the value was sealed for something else.
    pub fn open(
        &self,
        subject: SubjectId,
        record: Uuid,
        field: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        open(self.key(subject)?, aad(subject, record, field), sealed)
            .map_err(|SealError| KeyError::Foreign)
    }

    /// For how long they may still be used.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.lease.remaining()
    }

    fn key(&self, subject: SubjectId) -> Result<&DataKey, KeyError> {
        let key = self.keys.get(&subject).ok_or(KeyError::Gone)?;
        if self.lease.is_live() { Ok(key) } else { Err(KeyError::LeaseOver) }
    }
}

fn aad(subject: SubjectId, record: Uuid, field: &str) -> Aad<'_> {
    Aad { subject, record, field, version: 1 }
}
