//! What the platform says of people's names, brought to the vault: number, user id, and the one that linked
//! portfolios share. It guarantees that what is told again costs one look-up and no call, that a
//! name waits sealed until the vault has heard it, and that a doubt about who somebody is
//! stops what rests on her consent; what is told is the vault's to judge.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{
    IdentitiesRequest, IdentitiesResponse, IdentityOutcome, ToldIdentity,
};
use assent_eventstore::{StoreError, to_the_end};
use assent_http::ClientError;
use assent_runtime::ops::Watchdog;
use jiff_sqlx::ToSqlx as _;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::identity::Doubt;
use crate::hour_keys::HourKeyError;
use crate::moves::{self, Follows};
use crate::state::{Messaging, fenced};
use crate::whatsapp::updates::Address;
use crate::{declarations, tasks};

/// The field that names are sealed as.
const NAMES: &str = "identity.names";
/// Most that the vault takes at once.
const TAKE: i64 = 100;
/// How long what was taken is held. Longer than the calls (10 s each) can take.
const HOLD: Duration = Duration::from_secs(60);
/// How often they are looked for when nothing announces them.
const POLL: Duration = Duration::from_millis(500);

/// The names of one person, as they were told in one breath.
#[derive(Clone, Serialize, Deserialize)]
pub struct Told {
    /// Whose names these are, or who got the message that she answers, where no number says so.
    pub answers: Option<SubjectId>,
    /// Her address.
    pub address: Address,
}

impl Told {
    /// What an address tells; none where it has one name only.
    #[must_use]
    pub fn by(address: &Address) -> Option<Self> {
        (address.names() > 1).then(|| Self { answers: None, address: address.clone() })
    }

    /// What is told of somebody without a number, whose names these are, or who got the message that she
    /// answers.
    #[must_use]
    pub fn answering(address: &Address, subject: SubjectId) -> Self {
        Self { answers: Some(subject), address: address.clone() }
    }

    fn hash(&self, messaging: &Messaging) -> Vec<u8> {
        let Address { phone, user_id, parent_user_id } = &self.address;
        let names = [phone, user_id, parent_user_id].map(|it| it.as_deref().unwrap_or_default());
        let answers = self.answers.unwrap_or_default();
        messaging.keyed_hash(&format!("identity {answers} {}", names.join(" ")))
    }
}

/// Names that are new, sealed.
pub struct News {
    id: Uuid,
    hash: Vec<u8>,
    user_token: Option<Vec<u8>>,
    sealed: crate::hour_keys::Sealed,
}

/// Those that were not told before, sealed.
///
/// # Errors
/// When the database or the key store fails.
pub async fn news(messaging: &Messaging, told: Vec<Told>) -> Result<Vec<News>, Failure> {
    const KNOWN: &str = "SELECT hash FROM told_identities WHERE hash = ANY($1)";
    let mut by_hash: HashMap<Vec<u8>, Told> =
        told.into_iter().map(|it| (it.hash(messaging), it)).collect();
    if by_hash.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<&[u8]> = by_hash.keys().map(Vec::as_slice).collect();
    let known: Vec<Vec<u8>> =
        sqlx::query_scalar(KNOWN).bind(hashes).fetch_all(messaging.pool()).await?;
    for hash in known {
        by_hash.remove(&hash);
    }
    let mut news = Vec::with_capacity(by_hash.len());
    for (hash, told) in by_hash {
        let id = messaging.ids.v7();
        let text = serde_json::to_vec(&told).unwrap_or_default();
        let sealed = messaging.hour_keys.seal(id, NAMES, &text).await?;
        let user_id = told.address.user_id.as_deref();
        let user_token = user_id.and_then(|user_id| user_token(messaging, user_id));
        news.push(News { id, hash, user_token, sealed });
    }
    // One order for everybody, so that two transactions never wait for each other.
    news.sort_unstable_by(|a, b| a.hash.cmp(&b.hash));
    Ok(news)
}

fn user_token(messaging: &Messaging, user_id: &str) -> Option<Vec<u8>> {
    messaging.index.tokens(user_id).first().map(|token| token.to_bytes().to_vec())
}

/// Stores them, for the vault to hear.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    messaging: &Messaging,
    conn: &mut PgConnection,
    news: &[News],
) -> Result<(), sqlx::Error> {
    const INSERT: &str = "
        INSERT INTO told_identities (hash, id, user_token, sealed, hour_key, told_at)
        SELECT t.*, $6 FROM unnest($1::bytea[], $2::uuid[], $3::bytea[], $4::bytea[], $5::uuid[]) AS t
        ON CONFLICT DO NOTHING";
    if news.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&News) -> Option<&[u8]>| news.iter().map(of).collect::<Vec<_>>();
    sqlx::query(INSERT)
        .bind(column(|it| Some(&it.hash)))
        .bind(news.iter().map(|it| it.id).collect::<Vec<_>>())
        .bind(column(|it| it.user_token.as_deref()))
        .bind(column(|it| Some(&it.sealed.bytes)))
        .bind(news.iter().map(|it| it.sealed.hour_key).collect::<Vec<_>>())
        .bind(messaging.clock.now().to_sqlx())
        .execute(conn)
        .await?;
    messaging.identities.notify_one();
    Ok(())
}

/// Whether it is known whose this user id is.
///
/// # Errors
/// When the database fails.
pub async fn is_known(messaging: &Messaging, user_id: &str) -> Result<bool, sqlx::Error> {
    const KNOWN: &str =
        "SELECT EXISTS (SELECT FROM told_identities WHERE user_token = $1 AND subjects <> '{}')";
    sqlx::query_scalar(KNOWN).bind(user_token(messaging, user_id)).fetch_one(messaging.pool()).await
}

/// Who of these people was written to, and has a user id that nobody knows.
///
/// # Errors
/// When the database fails.
pub async fn without_account(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<HashSet<SubjectId>, sqlx::Error> {
    const WITHOUT: &str = "
        SELECT it FROM unnest($1::uuid[]) AS it
        WHERE EXISTS (SELECT FROM intents
                      WHERE subject_id = it AND state IN ('accepted', 'uncertain'))
          AND NOT EXISTS (SELECT FROM told_identities
                          WHERE subjects @> ARRAY[it] AND user_token IS NOT NULL)";
    let found: Vec<SubjectId> = sqlx::query_scalar(WITHOUT).bind(subjects).fetch_all(conn).await?;
    Ok(found.into_iter().collect())
}

/// Her number was verified to be hers: what was told of her is told anew.
///
/// # Errors
/// When the database fails.
pub async fn verified(conn: &mut PgConnection, subject: SubjectId) -> Result<(), sqlx::Error> {
    for statement in [
        "DELETE FROM told_identities WHERE subjects @> ARRAY[$1]",
        "UPDATE identities SET moved_at = NULL, identity_hash = NULL WHERE subject_id = $1",
    ] {
        sqlx::query(statement).bind(subject).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Why a name is still waiting.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A neighbour.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// An hourly key.
    #[error(transparent)]
    Keys(#[from] HourKeyError),
    /// The vault's answer.
    #[error("the answer does not fit the question")]
    Mismatch,
}

/// Tells the vault until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn run(
    messaging: Messaging,
    stopping: CancellationToken,
    watchdog: Watchdog,
) -> Result<(), std::convert::Infallible> {
    while !stopping.is_cancelled() {
        watchdog.progress();
        match pass(&messaging).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => tracing::warn!(%error, "what the platform says of people waits"),
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = messaging.identities.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}

/// Names in the hands of this replica.
struct Taken {
    hash: Vec<u8>,
    told: Told,
}

/// Takes what is due and tells it. Gives how many it took.
async fn pass(messaging: &Messaging) -> Result<usize, Failure> {
    let taken = take(messaging).await?;
    if taken.is_empty() {
        return Ok(0);
    }
    match tell(messaging, &taken).await {
        Ok(()) => Ok(taken.len()),
        Err(failure) => {
            put_back(messaging, &taken).await?;
            Err(failure)
        }
    }
}

async fn take(messaging: &Messaging) -> Result<Vec<Taken>, Failure> {
    const TAKE_SOME: &str = "
        UPDATE told_identities SET not_before = now() + make_interval(secs => $2),
               attempts = attempts + 1
        WHERE hash IN (SELECT hash FROM told_identities
                       WHERE sealed IS NOT NULL AND not_before <= now()
                       ORDER BY not_before, hash LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING hash, id, hour_key, sealed";
    const DROP: &str = "DELETE FROM told_identities WHERE hash = $1";
    let rows = sqlx::query(TAKE_SOME)
        .bind(TAKE)
        .bind(HOLD.as_secs_f64())
        .fetch_all(messaging.pool())
        .await?;
    let hours = rows.iter().map(|row| row.try_get(2)).collect::<Result<Vec<Uuid>, _>>()?;
    if hours.is_empty() {
        return Ok(Vec::new());
    }
    let keys = messaging.hour_keys.earlier(&hours).await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        let hash: Vec<u8> = row.try_get(0)?;
        let (id, hour_key, sealed) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let sealed: Vec<u8> = sealed;
        match keys.open(id, NAMES, hour_key, &sealed) {
            Ok(text) => {
                if let Ok(told) = serde_json::from_slice(&text) {
                    taken.push(Taken { hash, told });
                }
            }
            // It is told again.
            Err(HourKeyError::Ended) => {
                sqlx::query(DROP).bind(hash).execute(messaging.pool()).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}

async fn put_back(messaging: &Messaging, taken: &[Taken]) -> Result<(), sqlx::Error> {
    const PUT_BACK: &str = "
        UPDATE told_identities
        SET not_before = now() + make_interval(secs => least(0.1 * 2 ^ least(attempts, 8), 20))
        WHERE hash = ANY($1) AND sealed IS NOT NULL";
    let hashes: Vec<&[u8]> = taken.iter().map(|it| it.hash.as_slice()).collect();
    sqlx::query(PUT_BACK).bind(hashes).execute(messaging.pool()).await.map(|_| ())
}

async fn tell(messaging: &Messaging, taken: &[Taken]) -> Result<(), Failure> {
    let told = |it: &Taken| {
        let Address { phone, user_id, parent_user_id } = it.told.address.clone();
        ToldIdentity { answers: it.told.answers, phone, user_id, parent_user_id }
    };
    let request = IdentitiesRequest { told: taken.iter().map(told).collect() };
    // It answers when the gate knows, and has settled what that takes away.
    let answer: IdentitiesResponse = messaging.vault.post("/v1/identities", &request, None).await?;
    if answer.outcomes.len() != taken.len() {
        return Err(Failure::Mismatch);
    }
    let mut settled = Vec::with_capacity(taken.len());
    for (it, outcome) in taken.iter().zip(answer.outcomes) {
        let (subjects, doubted) = match outcome {
            IdentityOutcome::Nobody => (Vec::new(), false),
            IdentityOutcome::Rejected { reason } => {
                tracing::info!(reason, "the vault takes no such name");
                (Vec::new(), false)
            }
            IdentityOutcome::Known { subject_id } => (vec![subject_id], false),
            IdentityOutcome::Linked { subjects } => (subjects, false),
            IdentityOutcome::InDoubt { subjects } => (subjects, true),
        };
        let follows = match doubted {
            true => Some(moves::doubted(messaging, &subjects, &it.told.address).await?),
            false => None,
        };
        settled.push(Settled { hash: it.hash.clone(), subjects, doubted, follows });
    }
    let service = messaging.clone();
    Ok(to_the_end(async move { settle(&service, &settled).await }).await?)
}

/// What the vault made of one person's names.
struct Settled {
    hash: Vec<u8>,
    subjects: Vec<SubjectId>,
    doubted: bool,
    /// Of a doubt: the opt-out that follows.
    follows: Option<Follows>,
}

async fn settle(messaging: &Messaging, settled: &[Settled]) -> Result<(), StoreError> {
    const KEEP: &str = "
        UPDATE told_identities SET subjects = $2, sealed = NULL, hour_key = NULL WHERE hash = $1";
    const DROP: &str = "DELETE FROM told_identities WHERE hash = $1";
    let now = messaging.clock.now();
    let mut all: Vec<SubjectId> = settled.iter().flat_map(|it| it.subjects.clone()).collect();
    all.sort_unstable();
    all.dedup();
    let mut session = messaging.store.begin().await?;
    session.lock_versions(&all).await?;
    let gone = fenced(session.conn(), &all).await?;
    for it in settled {
        let subjects: Vec<SubjectId> =
            it.subjects.iter().copied().filter(|it| !gone.contains(it)).collect();
        if subjects.is_empty() {
            // She may become known: then it is told again.
            sqlx::query(DROP).bind(&it.hash).execute(session.conn()).await?;
        } else {
            sqlx::query(KEEP).bind(&it.hash).bind(&subjects).execute(session.conn()).await?;
        }
        if it.doubted {
            for subject in &subjects {
                tasks::doubt(messaging, session.conn(), *subject, Doubt::AnotherAccount, now)
                    .await?;
            }
        }
        if let Some(stop) = it.follows.as_ref().and_then(Follows::stop) {
            declarations::insert(session.conn(), std::slice::from_ref(stop)).await?;
            messaging.declared.notify_one();
        }
    }
    session.commit().await
}
