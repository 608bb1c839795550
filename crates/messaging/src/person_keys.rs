//! Keys of people, asked of the vault for sealing and opening here. It guarantees that none is held
//! longer than one lease, counted from before the ask; destroying them is left to the vault.

use std::collections::HashMap;
use std::sync::Arc;

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
    /// Seals a field of a record of hers; none when she has no key or the lease has run out.
    #[must_use]
    pub fn seal(
        &self,
        subject: SubjectId,
        record: Uuid,
        field: &str,
        plaintext: &[u8],
    ) -> Option<Vec<u8>> {
        let key = self.keys.get(&subject).filter(|_| self.lease.is_live())?;
        Some(seal(key, &*self.ids, aad(subject, record, field), plaintext))
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
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = self.keys.get(&subject).filter(|_| self.lease.is_live()).ok_or(SealError)?;
        open(key, aad(subject, record, field), sealed)
    }

    /// Whether she has a key.
    #[must_use]
    pub fn has(&self, subject: SubjectId) -> bool {
        self.keys.contains_key(&subject)
    }
}

fn aad(subject: SubjectId, record: Uuid, field: &str) -> Aad<'_> {
    Aad { subject, record, field, version: 1 }
}
