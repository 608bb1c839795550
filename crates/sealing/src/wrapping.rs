//! Which wrapping keys are still needed. It guarantees that a service doesn't begin to serve while a live key can't be
//! opened, and that whoever changes the wrapping key can see how far that is; wrapping again is the key store's.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use opentelemetry::global;
use opentelemetry::metrics::Gauge;

use crate::keystore::{KeyStore, KeyStoreError};

/// How often it is counted.
const EVERY: Duration = Duration::from_secs(60);

static WRAPPED_BY_OTHERS: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.keys.wrapped_by_others")
        .with_description("Keys that another wrapping key wraps than the one in use.")
        .build()
});

impl KeyStore {
    /// The ids of the configured wrapping keys; the first is of the one that wraps.
    #[must_use]
    pub fn configured(&self) -> Vec<String> {
        self.keks().ids()
    }

    /// How many live keys each wrapping key wraps, by its id.
    ///
    /// # Errors
    /// [`KeyStoreError`].
    pub async fn wrapped_by(&self) -> Result<BTreeMap<String, u64>, KeyStoreError> {
        let mut found = BTreeMap::new();
        for id in self.kek_ids().await? {
            let count = self.count_wrapped_by(&id).await?;
            found.insert(id, count);
        }
        Ok(found)
    }

    /// How many live keys another key wraps than the one that wraps now.
    ///
    /// # Errors
    /// [`KeyStoreError`].
    pub async fn wrapped_by_others(&self) -> Result<u64, KeyStoreError> {
        let mut all = 0;
        for id in self.kek_ids().await?.iter().filter(|id| *id != self.keks().current.id()) {
            all += self.count_wrapped_by(id).await?;
        }
        Ok(all)
    }

    /// Whether every live key can be opened with a wrapping key that is configured. Ask it before anything is
    /// served.
    ///
    /// # Errors
    /// [`KeyStoreError::Missing`] when not.
    pub async fn check_wrapping_keys(&self) -> Result<(), KeyStoreError> {
        const MADE: &str = "SELECT to_regclass('keys') IS NOT NULL";
        // Before the first migration there is no key, and the service isn't ready.
        if !sqlx::query_scalar::<_, bool>(MADE).fetch_one(self.pool()).await? {
            return Ok(());
        }
        for kek_id in self.kek_ids().await? {
            if self.keks().of(&kek_id).is_none() {
                let keys = self.count_wrapped_by(&kek_id).await?;
                return Err(KeyStoreError::Missing { kek_id, keys });
            }
        }
        Ok(())
    }

    /// What wraps live keys: from one to the next in the index, so it takes no longer with more keys.
    async fn kek_ids(&self) -> Result<Vec<String>, KeyStoreError> {
        const IDS: &str = "
            WITH RECURSIVE kek (id) AS (
                (SELECT kek_id FROM keys WHERE wrapped IS NOT NULL ORDER BY kek_id LIMIT 1)
                UNION ALL
                SELECT (SELECT kek_id FROM keys WHERE wrapped IS NOT NULL AND kek_id > kek.id
                        ORDER BY kek_id LIMIT 1)
                FROM kek WHERE kek.id IS NOT NULL
            )
            SELECT id FROM kek WHERE id IS NOT NULL";
        Ok(sqlx::query_scalar(IDS).fetch_all(self.pool()).await?)
    }

    async fn count_wrapped_by(&self, kek_id: &str) -> Result<u64, KeyStoreError> {
        const COUNT: &str = "SELECT count(*) FROM keys WHERE kek_id = $1 AND wrapped IS NOT NULL";
        let count: i64 = sqlx::query_scalar(COUNT).bind(kek_id).fetch_one(self.pool()).await?;
        Ok(count.unsigned_abs())
    }

    /// Counts for ever how many are left, for whoever watches.
    pub async fn count_wrapped(&self) {
        loop {
            match self.wrapped_by_others().await {
                Ok(left) => WRAPPED_BY_OTHERS.record(left, &[]),
                Err(error) => tracing::warn!(%error, "keys to wrap again can't be counted"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}
