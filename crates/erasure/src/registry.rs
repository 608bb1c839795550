//! Who takes part in erasures, and what is shown by name. It guarantees that whoever decides with the
//! registry sees one that nobody changes meanwhile; what follows from it is the domain's.

use std::collections::{BTreeMap, BTreeSet};

use assent_eventstore::StoreError;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::{Participant, Registry};
use crate::store::{Held, Sagas};

/// Advisory lock over the registry: shared by whoever decides with it, exclusive to whoever
/// changes it. A newcomer is thus seen by a completion, or comes after it.
const REGISTRY_LOCK: i64 = 0x4153_5345_4e54_0001;

const OWNERS: &str = "SELECT name, owner FROM participants WHERE owner IS NOT NULL";
const CALLERS: &str = "SELECT key, name FROM callers";

/// What is shown by name, and stands in events by another.
#[derive(Debug, Default)]
pub struct Names {
    /// The teams to turn to, by participant, where they are known.
    pub owners: BTreeMap<String, String>,
    /// Callers, by their keys.
    callers: BTreeMap<String, String>,
}

impl Names {
    /// Who has, or had, this key; the key itself where nobody knows.
    #[must_use]
    pub fn caller(&self, key: &str) -> String {
        self.callers.get(key).map_or(key, String::as_str).to_owned()
    }
}

/// How a participant registers; what isn't named stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Registration<'a> {
    /// The key that answers for it. That of a new one has its name.
    pub key_name: Option<&'a str>,
    /// The team to turn to.
    pub owner: Option<&'a str>,
    /// Where it is called.
    pub webhook: Option<&'a str>,
    /// It is called no more, and reads Kafka: its address and secrets go, and so do calls that wait.
    pub no_webhook: bool,
}

/// What came of a registration.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// Nobody had this name.
    pub new: bool,
    /// The id of the secret that its calls are signed with, where it has just got its first.
    pub secret: Option<Uuid>,
}

impl Sagas {
    /// Registers a participant, or changes how it is registered: one that left takes part again, and a
    /// suspension stays. Every open saga is looked at again, since it must now be asked too.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn register(
        &self,
        name: &str,
        registration: Registration<'_>,
        participant: Participant,
    ) -> Result<Registered, StoreError> {
        const REGISTER: &str = "
            INSERT INTO participants
                (name, key_name, keeps_keys, registered_at, owner, webhook_url, webhook_secret)
            VALUES ($1, coalesce($2, $1), $3, $4, $5, $6, $7)
            ON CONFLICT (name) DO UPDATE
            SET key_name = coalesce($2, participants.key_name), left_at = NULL,
                owner = coalesce(excluded.owner, participants.owner),
                webhook_url = CASE WHEN $8 THEN NULL
                    ELSE coalesce(excluded.webhook_url, participants.webhook_url) END,
                webhook_secret = CASE WHEN $8 THEN NULL
                    ELSE coalesce(participants.webhook_secret, excluded.webhook_secret) END,
                webhook_secret_before = CASE WHEN $8 THEN NULL
                    ELSE participants.webhook_secret_before END,
                -- Keys that it kept once may still be there.
                keeps_keys = participants.keeps_keys OR excluded.keeps_keys
            RETURNING (xmax = 0) AS new, webhook_secret";
        // No saga queues calls meanwhile: it holds the registry.
        const DROP: &str = "DELETE FROM webhooks WHERE participant = $1";
        let Registration { key_name, owner, webhook, no_webhook } = registration;
        let secret = webhook.map(|_| self.ids.v4());
        let now = self.clock.now().to_sqlx();
        let mut transaction = self.store.pool().begin().await?;
        lock_registry(&mut transaction).await?;
        let (new, stands): (bool, Option<Uuid>) = sqlx::query_as(REGISTER)
            .bind(name)
            .bind(key_name)
            .bind(participant.keeps_keys)
            .bind(now)
            .bind(owner)
            .bind(webhook)
            .bind(secret)
            .bind(no_webhook)
            .fetch_one(&mut *transaction)
            .await?;
        if no_webhook {
            sqlx::query(DROP).bind(name).execute(&mut *transaction).await?;
        }
        // One that is on hold is asked nothing; a replica of before would take it for due.
        const LOOK: &str =
            "UPDATE requests SET look_at = $1 WHERE look_at > $1 AND status <> 'on_hold'";
        const LOOK_AT_PURPOSES: &str =
            "UPDATE purpose_erasures SET look_at = $1 WHERE look_at > $1 AND status <> 'on_hold'";
        sqlx::query(LOOK).bind(now).execute(&mut *transaction).await?;
        sqlx::query(LOOK_AT_PURPOSES).bind(now).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Registered { new, secret: secret.filter(|made| stands == Some(*made)) })
    }

    /// Registers a participant unless it is registered already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn register_once(
        &self,
        name: &str,
        participant: Participant,
    ) -> Result<(), StoreError> {
        let known: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM participants WHERE name = $1)")
                .bind(name)
                .fetch_one(self.store.pool())
                .await?;
        if !known {
            self.register(name, Registration::default(), participant).await?;
        }
        Ok(())
    }

    /// Takes no answers of a participant until it [resumes](Self::resume): once this returns, none is
    /// recorded. Tells whether it was registered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn suspend(&self, name: &str) -> Result<bool, StoreError> {
        const SUSPEND: &str =
            "UPDATE participants SET suspended_at = coalesce(suspended_at, $2) WHERE name = $1";
        let mut transaction = self.store.pool().begin().await?;
        lock_registry(&mut transaction).await?;
        let suspended = sqlx::query(SUSPEND)
            .bind(name)
            .bind(self.clock.now().to_sqlx())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(suspended.rows_affected() == 1)
    }

    /// Takes a participant's answers again. Tells whether it was registered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resume(&self, name: &str) -> Result<bool, StoreError> {
        const RESUME: &str = "UPDATE participants SET suspended_at = NULL WHERE name = $1";
        let resumed = sqlx::query(RESUME).bind(name).execute(self.store.pool()).await?;
        Ok(resumed.rows_affected() == 1)
    }

    /// The participants that answer with this key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn names_of(&self, key_name: &str) -> Result<BTreeSet<String>, StoreError> {
        const NAMES: &str = "SELECT name FROM participants WHERE key_name = $1";
        let names: Vec<String> =
            sqlx::query_scalar(NAMES).bind(key_name).fetch_all(self.store.pool()).await?;
        Ok(names.into_iter().collect())
    }

    /// Whether a key answers for a participant that is suspended.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_suspended(&self, key_name: &str) -> Result<bool, StoreError> {
        const SUSPENDED: &str = "
            SELECT EXISTS (SELECT FROM participants
                           WHERE key_name = $1 AND suspended_at IS NOT NULL)";
        Ok(sqlx::query_scalar(SUSPENDED).bind(key_name).fetch_one(self.store.pool()).await?)
    }

    /// What views name: owners of participants, and callers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn names(&self) -> Result<Names, StoreError> {
        let pool = self.store.pool();
        let owners: Vec<(String, String)> = sqlx::query_as(OWNERS).fetch_all(pool).await?;
        let callers: Vec<(String, String)> = sqlx::query_as(CALLERS).fetch_all(pool).await?;
        let (owners, callers) = (owners.into_iter().collect(), callers.into_iter().collect());
        Ok(Names { owners, callers })
    }

    /// Records that a participant left. It must still answer. Tells whether it was registered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave(&self, name: &str) -> Result<bool, StoreError> {
        const LEAVE: &str =
            "UPDATE participants SET left_at = coalesce(left_at, $2) WHERE name = $1";
        let left = sqlx::query(LEAVE)
            .bind(name)
            .bind(self.clock.now().to_sqlx())
            .execute(self.store.pool())
            .await?;
        Ok(left.rows_affected() == 1)
    }
}

impl Held {
    /// The key that answers for a participant, and whether it is suspended; unchanged until the end of
    /// the transaction. None: nobody has this name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answerer(&mut self, name: &str) -> Result<Option<(String, bool)>, StoreError> {
        const ANSWERER: &str =
            "SELECT key_name, suspended_at IS NOT NULL FROM participants WHERE name = $1";
        Ok(sqlx::query_as(ANSWERER).bind(name).fetch_optional(self.session.conn()).await?)
    }

    /// What views name, as [`Sagas::names`] tells it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn names(&mut self) -> Result<Names, StoreError> {
        let owners = self.owners().await?;
        let callers: Vec<(String, String)> =
            sqlx::query_as(CALLERS).fetch_all(self.session.conn()).await?;
        Ok(Names { owners, callers: callers.into_iter().collect() })
    }

    /// The teams to turn to, by participant, where they are named.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owners(&mut self) -> Result<BTreeMap<String, String>, StoreError> {
        let owners: Vec<(String, String)> =
            sqlx::query_as(OWNERS).fetch_all(self.session.conn()).await?;
        Ok(owners.into_iter().collect())
    }
}

async fn lock_registry(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(REGISTRY_LOCK).execute(conn).await?;
    Ok(())
}

/// The registry, which nobody changes until the end of the transaction, and who of it is called.
///
/// # Errors
/// When the database fails.
pub async fn read_locked(
    conn: &mut PgConnection,
) -> Result<(Registry, BTreeSet<String>), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1)")
        .bind(REGISTRY_LOCK)
        .execute(&mut *conn)
        .await?;
    let rows = sqlx::query("SELECT name, keeps_keys, webhook_url IS NOT NULL FROM participants")
        .fetch_all(conn)
        .await?;
    let (mut registry, mut called) = (Registry::new(), BTreeSet::new());
    for row in &rows {
        let name: String = row.try_get(0)?;
        let is_called: bool = row.try_get(2)?;
        if is_called {
            called.insert(name.clone());
        }
        registry.insert(name, Participant { keeps_keys: row.try_get(1)? });
    }
    Ok((registry, called))
}
