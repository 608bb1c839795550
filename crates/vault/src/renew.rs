//! `POST /v1/index/renew`: people are hashed under an index key that was added. It guarantees that at every moment each
//! of them is found by the tokens of before, and that what stands against her at the gate stands by the new ones before
//! anybody can find her by them. Each reading of her names is on record. Who isn't here any more (the erased, numbers on
//! a list of opt-outs, strangers who said stop) can't be hashed again: for them the key of before stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{SameAddress, TokensRequest, TokensResponse};
use assent_contracts::api::vault::{RenewRequest, RenewResponse};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Json, Problem};
use axum::extract::State;
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

/// Hash the next people by every index key.
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
    let keys = app.addresses.key_ids();
    let lacks_one = |tokens: &[u8]| {
        keys.iter().any(|key| tokens.chunks(33).all(|token| token.first() != Some(key)))
    };
    let lacking = rows.iter().filter(|(_, tokens)| lacks_one(tokens));
    let lacking: Vec<Uuid> = lacking.map(|(subject, _)| *subject).collect();
    let renewed = if lacking.is_empty() { 0 } else { hash(app, caller, &lacking).await? };
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

/// Somebody's tokens as they were seen, and those that are missing.
struct Missing {
    seen: Vec<AddressToken>,
    new: Vec<AddressToken>,
}

/// One try, all or nothing. None: others wrote about one of them meanwhile.
async fn try_hash(app: &App, caller: &str, subjects: &[Uuid]) -> Result<Option<u64>, VaultError> {
    let access = Access { caller, reason: "index_renewed", field: PHONE };
    let people = recorded(app, access, &[USER_ID, PARENT_USER_ID], subjects).await?;
    let mut missing: BTreeMap<Uuid, Missing> = BTreeMap::new();
    let mut same = Vec::new();
    for (person, key) in people.into_iter().flatten() {
        let mut new = Vec::new();
        for name in open_names(&person, &key)? {
            let tokens = app.addresses.tokens(&name);
            let (known, more): (Vec<AddressToken>, Vec<AddressToken>) =
                tokens.into_iter().partition(|token| person.tokens.contains(token));
            new.extend(&more);
            if !known.is_empty() && !more.is_empty() {
                same.push(SameAddress { known, more });
            }
        }
        if !new.is_empty() {
            missing.insert(person.subject, Missing { seen: person.tokens, new });
        }
    }
    // The gate first: nobody is found by a token by which she would be free.
    for addresses in same.chunks(ADDRESSES_MAX) {
        let request = TokensRequest { addresses: addresses.to_vec() };
        let told: Result<TokensResponse, _> =
            app.consent.post("/v1/gate/tokens", &request, None).await;
        told.map_err(|error| VaultError::Service("consent", error))?;
    }

    let hers: Vec<Uuid> = missing.keys().copied().collect();
    let links = linked(app.pool(), &hers).await?;
    let others: BTreeSet<Uuid> = links.iter().map(|(_, other)| *other).collect();
    let all: BTreeSet<Uuid> = hers.iter().chain(&others).copied().collect();
    let all: Vec<Uuid> = all.into_iter().collect();
    let mut session = app.store.begin().await?;
    session.lock_versions(&all).await?;
    let held = people::reachable(&mut *session.conn(), &all).await?;
    let is_as_seen = missing
        .iter()
        .all(|(subject, it)| held.get(subject).is_none_or(|person| person.tokens == it.seen));
    if !is_as_seen || linked(&mut *session.conn(), &hers).await? != links {
        session.rollback().await?;
        return Ok(None);
    }
    let mut renewed = 0;
    for (subject, it) in missing {
        // Whose erasure has begun since is left to it.
        if !held.contains_key(&subject) {
            continue;
        }
        let additions = Additions { tokens: it.new.clone(), ..Additions::default() };
        if !people::add(session.conn(), subject, &additions).await? {
            session.rollback().await?;
            return Ok(None);
        }
        let (region, fields) = (None, Vec::new());
        let identify = Command::Identify { addresses: it.new.clone(), region, fields };
        append(app, &mut session, subject, identify).await?;
        // Who is one with her is so by her new tokens too.
        for (_, other) in links.iter().filter(|(one, _)| *one == subject) {
            if held.contains_key(other) {
                let link = Command::Link { others: vec![subject], addresses: it.new.clone() };
                append(app, &mut session, *other, link).await?;
            }
        }
        renewed += 1;
    }
    session.commit().await?;
    Ok(Some(renewed))
}
