//! `POST /v1/index/renew`: people are hashed under an index key that was added, and lose the hashes of one that looks
//! only. It guarantees that at every moment each of them is found by all keys that are looked for, and that what stands
//! against her at the gate stands by a new token before anybody can find her by it. Each reading of her names is on
//! record. Who isn't here any more (the erased, numbers on a list of opt-outs, strangers who said stop) can't be hashed
//! again: for them the key of before stays, and looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{SameAddress, TokensRequest, TokensResponse};
use assent_contracts::api::vault::{RenewRequest, RenewResponse};
use assent_eventstore::{Session, to_the_end};
use assent_http::{Caller, Json, Problem};
use assent_sealing::AddressIndex;
use axum::extract::State;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgPool;
use uuid::Uuid;

use crate::access::Access;
use crate::app::{App, PARENT_USER_ID, PHONE, USER_ID};
use crate::domain::Command;
use crate::error::VaultError;
use crate::identities::{append, linked};
use crate::people::{self, Additions};
use crate::resolve::{open_names, recorded};

/// People who are looked at in one request.
const TOGETHER: i64 = 100;
/// Most addresses that the gate takes at once; nobody has more than three.
const ADDRESSES_MAX: usize = 500;
/// How often it is tried while others write about the same people.
const ATTEMPTS: usize = 8;

/// Hash the next people by every index key in use, and by no other.
///
/// Needs `subjects:resolve`, `subjects:write` and `gate:write`. Go on behind `last` until there is none. Repeating it is
/// harmless, and finds who was left out.
#[utoipa::path(
    post, path = "/v1/index/renew", tag = "access", security(("bearer" = [])),
    request_body = RenewRequest,
    responses((status = 200, body = RenewResponse), (status = 503, description = "dependency_unavailable: repeat"))
)]
pub(crate) async fn renew(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<RenewRequest>,
) -> Result<Json<RenewResponse>, Problem> {
    caller.require("subjects:resolve")?;
    caller.require("subjects:write")?;
    caller.require("gate:write")?;
    let after = request.after.unwrap_or_default();
    let renewed = to_the_end(async move { next(&app, caller.name(), after).await }).await?;
    Ok(Json(renewed))
}

async fn next(app: &App, caller: &str, after: Uuid) -> Result<RenewResponse, VaultError> {
    const NEXT: &str = "
        SELECT subject_id, tokens FROM people p
        WHERE subject_id > $1
          AND NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.subject_id = p.subject_id)
        ORDER BY subject_id LIMIT $2";
    let rows: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as(NEXT).bind(after).bind(TOGETHER).fetch_all(app.pool()).await?;
    let (used, former) = app.addresses.key_ids();
    // Each key makes as many of a name. One that has fewer lacks a name: a replica that didn't know the key added it.
    let is_due = |tokens: &[u8]| {
        let made = |key: &u8| tokens.chunks(33).filter(|token| token.first() == Some(key)).count();
        let most = used.iter().chain(&former).map(made).max().unwrap_or_default();
        used.iter().any(|key| made(key) < most) || former.iter().any(|key| made(key) > 0)
    };
    let due = rows.iter().filter(|(_, tokens)| is_due(tokens));
    let due: Vec<Uuid> = due.map(|(subject, _)| *subject).collect();
    let renewed = if due.is_empty() { 0 } else { hash(app, caller, &due).await? };
    if rows.is_empty() {
        note_complete(app, &used).await?;
    }
    Ok(RenewResponse {
        last: rows.last().map(|(subject, _)| *subject),
        looked_at: rows.len() as u64,
        renewed,
    })
}

async fn hash(app: &App, caller: &str, subjects: &[Uuid]) -> Result<u64, VaultError> {
    for _ in 0..ATTEMPTS {
        if let Some(renewed) = try_hash(app, caller, subjects).await? {
            return Ok(renewed);
        }
    }
    Err(VaultError::Contended)
}

/// Whoever was passed over is counted: a key is complete when everybody is hashed under it.
async fn note_complete(app: &App, used: &[u8]) -> Result<(), VaultError> {
    const NOTE: &str = "
        UPDATE index_keys k SET complete_at = $2
        WHERE kind = 'address' AND key_id = ANY($1) AND complete_at IS NULL
          AND NOT EXISTS (
              SELECT 1 FROM people p
              WHERE (SELECT count(*) FROM generate_series(0, octet_length(p.tokens) / 33 - 1) AS n
                     WHERE get_byte(p.tokens, n * 33) = k.key_id)
                    < (SELECT coalesce(max(made), 0)
                       FROM (SELECT count(*) AS made
                             FROM generate_series(0, octet_length(p.tokens) / 33 - 1) AS n
                             GROUP BY get_byte(p.tokens, n * 33)) AS by_key)
                AND NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.subject_id = p.subject_id))";
    let used: Vec<i16> = used.iter().copied().map(i16::from).collect();
    let now = app.clock.now().to_sqlx();
    sqlx::query(NOTE).bind(used).bind(now).execute(app.pool()).await?;
    Ok(())
}

/// An index key looks only, and not everybody is hashed under those in use.
#[derive(Debug, thiserror::Error)]
pub enum TurnedTooEarly {
    /// The database.
    #[error("the vault's index keys: {0}")]
    Database(#[from] sqlx::Error),
    /// Not everybody is hashed under this key.
    #[error(
        "an [[address]] key of index_keys_file looks only, and nobody has seen yet that everybody is hashed under key \
         {0}: bring back the file of before, and run `assent keys reindex`"
    )]
    Incomplete(i16),
}

/// Whether no key looks only before everybody is hashed under those in use. Ask it before anything is served.
///
/// # Errors
/// [`TurnedTooEarly`] when one does.
pub(crate) async fn check(pool: &PgPool, addresses: &AddressIndex) -> Result<(), TurnedTooEarly> {
    const INCOMPLETE: &str = "
        SELECT key_id FROM index_keys
        WHERE kind = 'address' AND key_id = ANY($1) AND complete_at IS NULL ORDER BY key_id LIMIT 1";
    let (used, former) = addresses.key_ids();
    if former.is_empty() {
        return Ok(());
    }
    let used: Vec<i16> = used.into_iter().map(i16::from).collect();
    match sqlx::query_scalar(INCOMPLETE).bind(used).fetch_optional(pool).await? {
        None => Ok(()),
        Some(key) => Err(TurnedTooEarly::Incomplete(key)),
    }
}

/// Tells the gate which tokens are of one address; `instead`: nobody gets the known ones any more.
pub(crate) async fn tell_gate(
    app: &App,
    addresses: Vec<SameAddress>,
    instead: bool,
) -> Result<(), VaultError> {
    for addresses in addresses.chunks(ADDRESSES_MAX) {
        let request = TokensRequest { addresses: addresses.to_vec(), instead };
        let told: Result<TokensResponse, _> =
            app.consent.post("/v1/gate/tokens", &request, None).await;
        told.map_err(|error| VaultError::Service("consent", error))?;
    }
    Ok(())
}

/// Somebody's tokens as they were seen, those that are missing, and those that nobody gets any more.
struct Due {
    seen: Vec<AddressToken>,
    new: Vec<AddressToken>,
    gone: Vec<AddressToken>,
}

/// One try, all or nothing. None: others wrote about one of them meanwhile.
async fn try_hash(app: &App, caller: &str, subjects: &[Uuid]) -> Result<Option<u64>, VaultError> {
    let access = Access { caller, reason: "index_renewed", field: PHONE };
    let people = recorded(app, access, &[USER_ID, PARENT_USER_ID], subjects).await?;
    let mut due: BTreeMap<Uuid, Due> = BTreeMap::new();
    let (mut same, mut former) = (Vec::new(), Vec::new());
    for (person, key) in people.into_iter().flatten() {
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        let is_hers = |token: &AddressToken| person.tokens.contains(token);
        for name in open_names(&person, &key)? {
            let known: Vec<AddressToken> =
                app.addresses.all(&name).into_iter().filter(is_hers).collect();
            let more = app.addresses.tokens(&name).into_iter().filter(|token| !is_hers(token));
            let more: Vec<AddressToken> = more.collect();
            new.extend(&more);
            if !known.is_empty() && !more.is_empty() {
                same.push(SameAddress { known, more });
            }
            gone.extend(app.addresses.former(&name).into_iter().filter(is_hers));
            former.extend(app.former(&name));
        }
        if !new.is_empty() || !gone.is_empty() {
            due.insert(person.subject, Due { seen: person.tokens, new, gone });
        }
    }
    // The gate first: nobody is found by a token by which she would be free.
    tell_gate(app, same, false).await?;
    tell_gate(app, former, true).await?;

    let hers: Vec<Uuid> = due.keys().copied().collect();
    let links = linked(app.pool(), &hers).await?;
    let others: BTreeSet<Uuid> = links.iter().map(|(_, other)| *other).collect();
    let all: BTreeSet<Uuid> = hers.iter().chain(&others).copied().collect();
    let all: Vec<Uuid> = all.into_iter().collect();
    let mut session = app.store.begin().await?;
    session.lock_versions(&all).await?;
    let held = people::reachable(&mut *session.conn(), &all).await?;
    let is_as_seen = due
        .iter()
        .all(|(subject, it)| held.get(subject).is_none_or(|person| person.tokens == it.seen));
    if !is_as_seen || linked(&mut *session.conn(), &hers).await? != links {
        session.rollback().await?;
        return Ok(None);
    }
    let mut renewed = 0;
    for (subject, it) in due {
        // Whose erasure has begun since is left to it.
        if !held.contains_key(&subject) {
            continue;
        }
        let others = links.iter().filter(|(one, _)| *one == subject).map(|(_, other)| *other);
        let others: Vec<Uuid> = others.filter(|other| held.contains_key(other)).collect();
        if !write(app, &mut session, subject, it, &others).await? {
            session.rollback().await?;
            return Ok(None);
        }
        renewed += 1;
    }
    session.commit().await?;
    Ok(Some(renewed))
}

/// Writes what is new and what goes, and publishes it; who is one with her is so by her new tokens too. False: one of
/// them is somebody else's, and only a rollback is left.
async fn write(
    app: &App,
    session: &mut Session,
    subject: Uuid,
    Due { seen, new, gone }: Due,
    others: &[Uuid],
) -> Result<bool, VaultError> {
    if !new.is_empty() {
        let additions = Additions { tokens: new.clone(), ..Additions::default() };
        if !people::add(session.conn(), subject, &additions).await? {
            return Ok(false);
        }
        let (region, fields) = (None, Vec::new());
        let identify = Command::Identify { addresses: new.clone(), region, fields };
        append(app, session, subject, identify).await?;
        for other in others {
            let link = Command::Link { others: vec![subject], addresses: new.clone() };
            append(app, session, *other, link).await?;
        }
    }
    if !gone.is_empty() {
        let kept = seen.iter().chain(&new).filter(|token| !gone.contains(token)).copied();
        let kept: Vec<AddressToken> = kept.collect();
        people::leave_tokens(session.conn(), subject, &kept, &gone).await?;
        let (fields, unlinked) = (Vec::new(), Vec::new());
        append(app, session, subject, Command::Forget { addresses: gone, fields, unlinked })
            .await?;
    }
    Ok(true)
}
