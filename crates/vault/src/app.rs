//! What every endpoint of the vault works with. It holds no state of its own: two replicas are as
//! good as one.

use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::SameAddress;
use assent_eventstore::EventStore;
use assent_http::ServiceClient;
use assent_participant::Keeping;
use assent_runtime::{Clock, Ids, LeaseTerms};
use assent_sealing::{Aad, AddressIndex, FingerprintIndex, KeyStore};
use sqlx::PgPool;
use uuid::Uuid;

/// The fields that the vault holds of a person.
pub(crate) const PHONE: &str = "phone";
pub(crate) const USER_ID: &str = "user_id";
pub(crate) const PARENT_USER_ID: &str = "parent_user_id";
pub(crate) const NAME: &str = "name";
pub(crate) const EMAIL: &str = "email";

/// The vault's dependencies.
#[derive(Clone)]
pub struct App {
    /// Events and everything else in the vault's database.
    pub store: EventStore,
    /// The keys, in a database of their own.
    pub keys: KeyStore,
    /// Makes address tokens.
    pub addresses: AddressIndex,
    /// Makes suppression fingerprints.
    pub fingerprints: FingerprintIndex,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn Ids>,
    /// How many rows one caller may screen in an hour.
    pub screening_rows_per_hour: i64,
    /// How long access records are kept, in days.
    pub access_record_days: u32,
    /// How long what keeps people out is kept.
    pub keeping: Keeping,
    /// What holders of leased keys and addresses agreed on.
    pub lease: LeaseTerms,
    /// The consent service, whose gate learns of suppressed and erased addresses.
    pub consent: ServiceClient,
    /// The erasure service, which gets the answers to its commands.
    pub erasure: ServiceClient,
}

impl App {
    pub(crate) fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    /// By which tokens that nobody gets any more the gate may know a name; none where each key is in use.
    pub(crate) fn former(&self, name: &str) -> Option<SameAddress> {
        let known = self.addresses.former(name);
        (!known.is_empty()).then(|| SameAddress { known, more: self.addresses.tokens(name) })
    }
}

/// What a field of a person is bound to: the record is the person's own row.
pub(crate) fn binding(subject: Uuid, field: &'static str, version: i32) -> Aad<'static> {
    Aad { subject, record: subject, field, version }
}

/// The id under which something that has no id of its own is known: derived from the first token of an address under
/// the oldest key, the same whichever spelling came in, and whichever key was added since.
pub(crate) fn derived_id(purpose: &str, tokens: &[AddressToken]) -> Uuid {
    const NAMESPACE: Uuid = Uuid::from_u128(0x9b1f_9d0e_6c52_4d7c_8f0a_3b6c_2f5e_71a4);
    let mut name = purpose.as_bytes().to_vec();
    name.push(0);
    let oldest = tokens.iter().map(|token| token.key_id).min();
    if let Some(token) = tokens.iter().find(|token| Some(token.key_id) == oldest) {
        name.extend_from_slice(&token.to_bytes());
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_stays_when_a_key_is_added_or_becomes_the_first() {
        let token = |key_id, byte| AddressToken { key_id, mac: [byte; 32] };
        let before = [token(1, 9), token(1, 3)];
        let id = derived_id("stop", &before);
        let [first, second] = before;
        assert_eq!(derived_id("stop", &[first, second, token(2, 1), token(2, 2)]), id);
        assert_eq!(derived_id("stop", &[token(2, 1), token(2, 2), first, second]), id);
        assert_ne!(derived_id("stop", &[second, first]), id, "the control");
    }
}
