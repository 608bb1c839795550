//! What the platform says of people's names, brought to the vault: number, user id, and the one that linked
//! portfolios share. It guarantees that what is told again costs one look-up and no call, that a
//! name waits sealed until the vault has heard it, and that a doubt about who somebody is
//! stops what rests on her consent; what is told is the vault's to judge.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{
    IdentitiesRequest, IdentitiesResponse, IdentityOutcome, ToldIdentity, Who,
};
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{ClientError, Code};
use assent_runtime::ops::Watchdog;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
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
    /// When it was said, by the provider's clock.
    pub said_at: Timestamp,
    /// When it came in: no later than that the person may be fenced and all that names her be waited for.
    #[serde(skip)]
    pub heard_at: Timestamp,
}

impl Told {
    /// What an address tells; none where it has one name only.
    #[must_use]
    pub fn by(address: &Address, (said_at, heard_at): (Timestamp, Timestamp)) -> Option<Self> {
        (address.names() > 1).then(|| Self {
            answers: None,
            address: address.clone(),
            said_at,
            heard_at,
        })
    }

    /// What is told of somebody whose names these are, or who got the message that she answers.
    #[must_use]
    pub fn answering(
        address: &Address,
        subject: SubjectId,
        (said_at, heard_at): (Timestamp, Timestamp),
    ) -> Self {
        Self { answers: Some(subject), address: address.clone(), said_at, heard_at }
    }

    fn hashes(&self, messaging: &Messaging) -> Vec<Vec<u8>> {
        let Address { phone, user_id, parent_user_id } = &self.address;
        let names = [phone, user_id, parent_user_id].map(|it| it.as_deref().unwrap_or_default());
        let answers = self.answers.unwrap_or_default();
        messaging.keyed_hashes(&format!("identity {answers} {}", names.join(" ")))
    }
}

/// Names that are new, sealed.
pub struct News {
    id: Uuid,
    hash: Vec<u8>,
    user_token: Option<Vec<u8>>,
    sealed: crate::hour_keys::Sealed,
    told_at: Timestamp,
}

/// Those that were not told before, sealed.
///
/// # Errors
/// When the database or the key store fails.
pub async fn news(messaging: &Messaging, told: Vec<Told>) -> Result<Vec<News>, Failure> {
    const KNOWN: &str = "SELECT hash FROM told_identities WHERE hash = ANY($1)";
    // By all their hashes: what was told under an earlier key is not told again.
    let mut by_hash: HashMap<Vec<Vec<u8>>, Told> = HashMap::new();
    for it in told {
        let first = by_hash.entry(it.hashes(messaging)).or_insert_with(|| it.clone());
        first.heard_at = first.heard_at.min(it.heard_at);
        first.said_at = first.said_at.max(it.said_at);
    }
    if by_hash.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<&[u8]> = by_hash.keys().flatten().map(Vec::as_slice).collect();
    let known: Vec<Vec<u8>> =
        sqlx::query_scalar(KNOWN).bind(hashes).fetch_all(messaging.pool()).await?;
    by_hash.retain(|hashes, _| !hashes.iter().any(|hash| known.contains(hash)));
    let mut news = Vec::with_capacity(by_hash.len());
    for (hashes, told) in by_hash {
        let Some(hash) = hashes.into_iter().next() else { continue };
        let id = messaging.ids.v7();
        let text = serde_json::to_vec(&told).unwrap_or_default();
        let sealed = messaging.hour_keys.seal(id, NAMES, &text).await?;
        let user_id = told.address.user_id.as_deref();
        let user_token = user_id.and_then(|it| user_tokens(messaging, it).into_iter().next());
        news.push(News { id, hash, user_token, sealed, told_at: told.heard_at });
    }
    // One order for everybody, so that two transactions never wait for each other.
    news.sort_unstable_by(|a, b| a.hash.cmp(&b.hash));
    Ok(news)
}

fn user_tokens(messaging: &Messaging, user_id: &str) -> Vec<Vec<u8>> {
    messaging.keyed_hashes(user_id)
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
        SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::bytea[], $4::bytea[], $5::uuid[],
                             $6::timestamptz[])
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
        .bind(news.iter().map(|it| it.told_at.to_sqlx()).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    messaging.identities.notify_one();
    Ok(())
}

/// Whether it is known, and not in doubt, whose this user id is.
///
/// # Errors
/// When the database fails.
pub async fn is_known(messaging: &Messaging, user_id: &str) -> Result<bool, sqlx::Error> {
    const KNOWN: &str = "
        SELECT EXISTS (SELECT FROM told_identities
                       WHERE user_token = ANY($1) AND subjects <> '{}' AND NOT doubted)";
    let tokens = user_tokens(messaging, user_id);
    sqlx::query_scalar(KNOWN).bind(tokens).fetch_one(messaging.pool()).await
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
                          WHERE subjects @> ARRAY[it] AND user_token IS NOT NULL AND NOT doubted)";
    let found: Vec<SubjectId> = sqlx::query_scalar(WITHOUT).bind(subjects).fetch_all(conn).await?;
    Ok(found.into_iter().collect())
}

/// Her number was verified to be hers: what was told of her is told anew, but nothing that was said before.
///
/// # Errors
/// When the database fails.
pub async fn verified(
    conn: &mut PgConnection,
    subject: SubjectId,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const VERIFIED: &str = "
        INSERT INTO identities AS held (subject_id, heard_at, verified_at) VALUES ($1, $2, $2)
        ON CONFLICT (subject_id) DO UPDATE
            SET moved_at = NULL, identity_hash = NULL, verified_at = excluded.verified_at,
                heard_at = greatest(held.heard_at, excluded.heard_at)";
    sqlx::query("DELETE FROM told_identities WHERE subjects @> ARRAY[$1]")
        .bind(subject)
        .execute(&mut *conn)
        .await?;
    sqlx::query(VERIFIED).bind(subject).bind(now.to_sqlx()).execute(conn).await.map(|_| ())
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

impl Failure {
    /// Whether some of the names may be to blame, and not that somebody is away.
    fn is_of_the_names(&self) -> bool {
        match self {
            Self::Call(error) => error
                .code()
                .is_some_and(|it| !matches!(it, Code::DependencyUnavailable | Code::Overloaded)),
            Self::Store(_) | Self::Database(_) | Self::Keys(_) | Self::Mismatch => false,
        }
    }

    /// Whether what is to blame stays so.
    fn is_for_good(&self) -> bool {
        let of = |error: &ClientError| error.code();
        matches!(self, Self::Call(error) if matches!(
            of(error),
            Some(Code::ValidationFailed | Code::MalformedBody | Code::BodyTooLarge)
        ))
    }
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
    tell_apart(messaging, &taken).await?;
    Ok(taken.len())
}

/// Tells them together; where the vault refuses or fails at that, halves on their own, until what is to blame
/// stands alone. That is told later again, or dropped when it will never be taken.
async fn tell_apart(messaging: &Messaging, taken: &[Taken]) -> Result<(), Failure> {
    const DROP: &str = "DELETE FROM told_identities WHERE hash = $1";
    let Err(failure) = tell(messaging, taken).await else { return Ok(()) };
    if !failure.is_of_the_names() {
        put_back(messaging, taken).await?;
        return Err(failure);
    }
    match taken {
        [] => Ok(()),
        [one] if failure.is_for_good() => {
            tracing::error!(error = %failure, "the vault takes no such names: they are dropped");
            sqlx::query(DROP).bind(&one.hash).execute(messaging.pool()).await?;
            Ok(())
        }
        [_] => {
            tracing::warn!(error = %failure, "one person's names wait");
            Ok(put_back(messaging, taken).await?)
        }
        many => {
            let (first, second) = many.split_at(many.len() / 2);
            Box::pin(tell_apart(messaging, first)).await?;
            Box::pin(tell_apart(messaging, second)).await
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
    let asked = taken.iter().map(|it| messaging.asked(&it.told.address, it.told.answers));
    let who = messaging.who(asked.collect()).await?;
    let everybody: Vec<SubjectId> = who.iter().flat_map(Who::everybody).collect();
    let (doubted, verified) = {
        let mut conn = messaging.pool().acquire().await?;
        let doubted = tasks::in_doubt(&mut conn, &everybody).await?;
        (doubted, verified_at(&mut conn, &everybody).await?)
    };
    let mut settled = Vec::with_capacity(taken.len());
    let mut rest = Vec::with_capacity(taken.len());
    for (it, who) in taken.iter().zip(&who) {
        let in_doubt: Vec<SubjectId> =
            who.everybody().filter(|subject| doubted.contains(subject)).collect();
        let is_late =
            |subject: SubjectId| verified.get(&subject).is_some_and(|at| it.told.said_at < *at);
        if who.everybody().any(is_late) {
            // She may have had it once; what she has now is told again.
            settled.push(Settled::nobody(it));
        } else if in_doubt.is_empty() {
            rest.push(it);
        } else {
            // Nothing becomes hers as long as it is in doubt who she is.
            let follows = moves::doubted(messaging, &in_doubt, &it.told.address).await?;
            let hash = it.hash.clone();
            let follows = Some(follows);
            settled.push(Settled {
                hash,
                subjects: in_doubt,
                doubted: true,
                is_new: false,
                follows,
            });
        }
    }
    settled.extend(told(messaging, &rest).await?);
    let service = messaging.clone();
    Ok(to_the_end(async move { settle(&service, &settled).await }).await?)
}

/// When the numbers of these people were verified.
async fn verified_at(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<HashMap<SubjectId, Timestamp>, sqlx::Error> {
    const VERIFIED: &str = "
        SELECT subject_id, verified_at FROM identities
        WHERE subject_id = ANY($1) AND verified_at IS NOT NULL";
    let rows = sqlx::query(VERIFIED).bind(subjects).fetch_all(conn).await?;
    let read = |row: &PgRow| Ok((row.try_get(0)?, row.try_get::<SqlTimestamp, _>(1)?.to_jiff()));
    rows.iter().map(read).collect()
}

/// Tells the vault. Gives what it made of it.
async fn told(messaging: &Messaging, taken: &[&Taken]) -> Result<Vec<Settled>, Failure> {
    let told = |it: &&Taken| {
        let Address { phone, user_id, parent_user_id } = it.told.address.clone();
        ToldIdentity { answers: it.told.answers, phone, user_id, parent_user_id }
    };
    if taken.is_empty() {
        return Ok(Vec::new());
    }
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
        let hash = it.hash.clone();
        settled.push(Settled { hash, subjects, doubted, is_new: doubted, follows });
    }
    Ok(settled)
}

/// What the vault made of one person's names.
struct Settled {
    hash: Vec<u8>,
    subjects: Vec<SubjectId>,
    doubted: bool,
    /// The doubt is new: a human is to look.
    is_new: bool,
    /// Of a doubt: the opt-out that follows.
    follows: Option<Follows>,
}

impl Settled {
    /// It is nobody's, and is told again when it is said again.
    fn nobody(taken: &Taken) -> Self {
        let hash = taken.hash.clone();
        Self { hash, subjects: Vec::new(), doubted: false, is_new: false, follows: None }
    }
}

async fn settle(messaging: &Messaging, settled: &[Settled]) -> Result<(), StoreError> {
    const KEEP: &str = "
        UPDATE told_identities SET subjects = $2, doubted = $3, sealed = NULL, hour_key = NULL
        WHERE hash = $1";
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
            let keep = sqlx::query(KEEP).bind(&it.hash).bind(&subjects).bind(it.doubted);
            keep.execute(session.conn()).await?;
        }
        if it.is_new {
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
