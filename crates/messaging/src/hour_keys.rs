//! Hourly keys for raw webhook bodies, which hold many people. It guarantees that a key ends once its
//! bodies are processed, 24 hours after its hour at the latest; processing them in time is left to
//! the processor.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assent_runtime::{Clock, Ids};
use assent_sealing::{Aad, DataKey, KeyStore, KeyStoreError, open, seal};
use jiff::Timestamp;
use sqlx::PgPool;
use uuid::Uuid;
use zeroize::Zeroizing;

/// How long a body may wait to be processed before its key ends.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

const SECONDS_PER_HOUR: i64 = 3600;
/// Key ids of hours: `hour key` in ASCII in front, the hour since 1970 behind (a UUID of version 8).
const ID_PREFIX: u64 = 0x686f_7572_206b_8579;

/// The keys.
#[derive(Clone)]
pub struct HourKeys {
    store: KeyStore,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    // The current hour's key is used for every webhook; it is no person's key, and no older one is kept.
    current: Arc<Mutex<Option<CurrentKey>>>,
}

/// The key of the current hour, with its id.
type CurrentKey = (Uuid, Arc<DataKey>);

/// Something sealed under an hour's key.
pub struct Sealed {
    /// The key's id.
    pub hour_key: Uuid,
    /// The ciphertext.
    pub bytes: Vec<u8>,
}

/// It can't be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum HourKeyError {
    /// The key store failed: try again.
    #[error(transparent)]
    Store(#[from] KeyStoreError),
    /// The hour's key has ended, or the value was sealed for another record.
    #[error("the value doesn't open, or its hour's key has ended")]
    Ended,
}

impl HourKeys {
    /// Keys in `store`.
    #[must_use]
    pub fn new(store: KeyStore, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { store, clock, ids, current: Arc::default() }
    }

    /// Seals something that belongs to `record` under the current hour's key.
    ///
    /// # Errors
    /// When the key store fails.
    pub async fn seal(
        &self,
        record: Uuid,
        field: &str,
        plaintext: &[u8],
    ) -> Result<Sealed, HourKeyError> {
        let (hour_key, key) = self.current().await?;
        let bytes = seal(&key, &*self.ids, aad(record, field), plaintext);
        Ok(Sealed { hour_key, bytes })
    }

    /// The live keys among these, for what was sealed under them.
    ///
    /// # Errors
    /// When the key store fails.
    pub async fn earlier(&self, hour_keys: &[Uuid]) -> Result<EarlierKeys, HourKeyError> {
        let mut wanted = hour_keys.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let states = self.store.get(&wanted).await?;
        let live = wanted.into_iter().zip(states);
        let keys = live.filter_map(|(id, state)| Some((id, state.live()?.key))).collect();
        Ok(EarlierKeys { keys, ids: Arc::clone(&self.ids) })
    }

    /// Makes the keys of this hour and the next, so that no webhook waits for one.
    ///
    /// # Errors
    /// When the key store fails.
    pub async fn prepare(&self) -> Result<(), HourKeyError> {
        let now = self.clock.now();
        self.store.mint(&[id_of(now, 0), id_of(now, 1)]).await?;
        Ok(())
    }

    /// Live keys whose hour ended before `moment`.
    ///
    /// # Errors
    /// When the key store fails.
    pub async fn ended_before(&self, moment: Timestamp) -> Result<Vec<Uuid>, HourKeyError> {
        let live = self.store.live_made_before(moment).await?;
        let hour = moment.as_second().div_euclid(SECONDS_PER_HOUR);
        Ok(live.into_iter().filter(|id| hour_of(*id).is_some_and(|it| it < hour)).collect())
    }

    /// Destroys keys.
    ///
    /// # Errors
    /// When the key store fails; repeat it.
    pub async fn destroy(&self, ids: &[Uuid]) -> Result<(), HourKeyError> {
        self.store.destroy(ids).await?;
        Ok(())
    }

    /// Sees to it, for ever, that ended keys leave the log of the key store's server too.
    pub async fn keep_out_of_wal(&self) {
        self.store.keep_out_of_wal().await;
    }

    /// Whether every key that lives can be opened with a wrapping key that is configured.
    ///
    /// # Errors
    /// When not, or the key store fails.
    pub async fn check(&self) -> Result<(), KeyStoreError> {
        self.store.check_wrapping_keys().await
    }

    /// Counts for ever how many are wrapped by another key than the one in use.
    pub async fn count_wrapped(&self) {
        self.store.count_wrapped().await;
    }

    /// The database of the key store.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    async fn current(&self) -> Result<CurrentKey, HourKeyError> {
        let id = id_of(self.clock.now(), 0);
        let held = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((held, key)) = held.filter(|(held, _)| *held == id) {
            return Ok((held, key));
        }
        let state = self.store.mint(&[id]).await?.into_iter().next();
        let key = state.and_then(assent_sealing::KeyState::live).ok_or(HourKeyError::Ended)?;
        let held = (id, Arc::new(key.key));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
        Ok(held)
    }
}

/// Keys of hours that may be over. Nobody keeps them: a key that ends is gone with the next look.
pub struct EarlierKeys {
    keys: HashMap<Uuid, DataKey>,
    ids: Arc<dyn Ids>,
}

impl EarlierKeys {
    /// Opens what [`HourKeys::seal`] sealed.
    ///
    /// # Errors
    /// When the key has ended.
    pub fn open(
        &self,
        record: Uuid,
        field: &str,
        hour_key: Uuid,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, HourKeyError> {
        open(self.key(hour_key)?, aad(record, field), sealed).map_err(|_| HourKeyError::Ended)
    }

    /// Seals something under the key of an earlier hour: it lives no longer for being written anew.
    ///
    /// # Errors
    /// When the key has ended.
    pub fn seal_again(
        &self,
        record: Uuid,
        field: &str,
        hour_key: Uuid,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, HourKeyError> {
        Ok(seal(self.key(hour_key)?, &*self.ids, aad(record, field), plaintext))
    }

    fn key(&self, hour_key: Uuid) -> Result<&DataKey, HourKeyError> {
        self.keys.get(&hour_key).ok_or(HourKeyError::Ended)
    }
}

fn aad(record: Uuid, field: &str) -> Aad<'_> {
    // It holds many people, or one who is not known yet.
    Aad { subject: Uuid::nil(), record, field, version: 1 }
}

fn id_of(now: Timestamp, ahead: i64) -> Uuid {
    let hour = now.as_second().div_euclid(SECONDS_PER_HOUR) + ahead;
    Uuid::from_u64_pair(ID_PREFIX, (1 << 63) | hour.unsigned_abs())
}

fn hour_of(id: Uuid) -> Option<i64> {
    let (prefix, hour) = id.as_u64_pair();
    (prefix == ID_PREFIX).then_some((hour & !(1 << 63)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hour_has_a_key_id_of_its_own_that_tells_it() {
        let now: Timestamp = "2026-11-24T10:59:59Z".parse().unwrap();
        let next: Timestamp = "2026-11-24T11:00:00Z".parse().unwrap();
        assert_eq!(id_of(now, 1), id_of(next, 0));
        assert_ne!(id_of(now, 0), id_of(next, 0));
        assert_eq!(hour_of(id_of(next, 0)), Some(next.as_second() / 3600));
        assert_eq!(hour_of(Uuid::nil()), None);
        assert_eq!(id_of(now, 0).get_version_num(), 8);
    }
}
