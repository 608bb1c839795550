//! `POST /v1/addresses/resolve` and `POST /v1/keys/lease`: what leaves the vault.
//! It guarantees that an access record is committed before anything is decrypted or handed out,
//! and that nobody who is being erased is served; whoever is served holds it for one lease.

use std::collections::HashMap;
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{
    KeyLeaseRequest, KeyLeaseResponse, ResolveRequest, ResolveResponse, ResolvedAddress,
};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Problem};
use assent_sealing::{SealError, StoredKey, open};
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::access::{self, Access, check_reason};
use crate::app::{App, PARENT_USER_ID, PHONE, USER_ID, binding};
use crate::error::VaultError;
use crate::identities;
use crate::people::{self, SealedPerson};

/// Most people of one request.
const SUBJECTS_MAX: usize = 100;

/// Decrypt the numbers and user ids of people, in order to send to them.
///
/// Needs `subjects:resolve`. Each person is put on record, with the reason, before her number is
/// decrypted. Start the lease before asking.
#[utoipa::path(
    post, path = "/v1/addresses/resolve", tag = "access", security(("bearer" = [])),
    request_body = ResolveRequest,
    responses((status = 200, body = ResolveResponse), (status = 422, description = "validation_failed"))
)]
pub(crate) async fn resolve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<ResolveRequest>,
) -> Result<Json<ResolveResponse>, Problem> {
    caller.require("subjects:resolve")?;
    check(&request.reason, &request.subjects)?;
    let addresses = to_the_end(async move {
        let access = Access { caller: caller.name(), reason: &request.reason, field: PHONE };
        let people = recorded(&app, access, &[USER_ID], &request.subjects).await?;
        let linked = linked_to(&app, &people).await?;
        open_addresses(&app, &people, &linked)
    })
    .await?;
    Ok(Json(ResolveResponse { addresses }))
}

/// Lease keys of people, derived for the caller.
///
/// Needs `keys:lease`. A key may be held for one lease, counted from before the ask.
#[utoipa::path(
    post, path = "/v1/keys/lease", tag = "access", security(("bearer" = [])),
    request_body = KeyLeaseRequest,
    responses((status = 200, body = KeyLeaseResponse), (status = 422, description = "validation_failed"))
)]
pub(crate) async fn lease(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<KeyLeaseRequest>,
) -> Result<Json<KeyLeaseResponse>, Problem> {
    caller.require("keys:lease")?;
    check(&request.reason, &request.subjects)?;
    let keys = to_the_end(async move {
        let access = Access { caller: caller.name(), reason: &request.reason, field: "key" };
        let people = recorded(&app, access, &[], &request.subjects).await?;
        let label = format!("lease:{}", caller.name());
        let text = |(_, key): (SealedPerson, StoredKey)| {
            STANDARD_NO_PAD.encode(key.key.derive(&label).expose())
        };
        Ok::<_, VaultError>(people.into_iter().map(|person| person.map(text)).collect())
    })
    .await?;
    Ok(Json(KeyLeaseResponse { keys }))
}

fn check(reason: &str, subjects: &[SubjectId]) -> Result<(), Problem> {
    check_reason(reason)?;
    if subjects.len() > SUBJECTS_MAX {
        return Err(Problem::new(Code::ValidationFailed)
            .detail(format!("at most {SUBJECTS_MAX} subjects at once")));
    }
    Ok(())
}

/// People and their keys, in the order of `subjects`, once the access is on record, for each of the other
/// fields `also` where she has that. Record and
/// look at the tombstones are one transaction: a primary that was deposed can't answer.
pub(crate) async fn recorded(
    app: &App,
    access: Access<'_>,
    also: &[&'static str],
    subjects: &[SubjectId],
) -> Result<Vec<Option<(SealedPerson, StoredKey)>>, VaultError> {
    let mut transaction = app.pool().begin().await?;
    access::record(&mut transaction, app.ids.as_ref(), app.clock.now(), access, subjects).await?;
    let mut people = people::reachable(&mut *transaction, subjects).await?;
    for field in also {
        let with = people.values().filter(|person| person.sealed(field).is_some());
        let with: Vec<SubjectId> = with.map(|person| person.subject).collect();
        let access = Access { field, ..access };
        access::record(&mut transaction, app.ids.as_ref(), app.clock.now(), access, &with).await?;
    }
    transaction.commit().await?;

    let mut wanted: Vec<SubjectId> = people.keys().copied().collect();
    wanted.sort_unstable();
    let keys = app.keys.get(&wanted).await?;
    let mut keys: std::collections::HashMap<_, _> = wanted.into_iter().zip(keys).collect();
    let served = |subject: &SubjectId| {
        let key = keys.remove(subject)?.live()?;
        Some((people.remove(subject)?, key))
    };
    Ok(subjects.iter().map(served).collect())
}

/// Who is one with each of these people, and by which tokens they are known.
async fn linked_to(
    app: &App,
    people: &[Option<(SealedPerson, StoredKey)>],
) -> Result<HashMap<SubjectId, Vec<(SubjectId, Vec<AddressToken>)>>, VaultError> {
    let subjects: Vec<SubjectId> =
        people.iter().flatten().map(|(person, _)| person.subject).collect();
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    let pairs = identities::linked(app.pool(), &subjects).await?;
    if pairs.is_empty() {
        return Ok(all);
    }
    let others: Vec<SubjectId> = pairs.iter().map(|(_, other)| *other).collect();
    // Fenced or not: what stands against somebody stands on while she is erased.
    let held = people::held(app.pool(), &others).await?;
    for (subject, other) in pairs {
        let tokens = held.get(&other).map(|person| person.tokens.clone()).unwrap_or_default();
        all.entry(subject).or_default().push((other, tokens));
    }
    Ok(all)
}

fn open_addresses(
    app: &App,
    people: &[Option<(SealedPerson, StoredKey)>],
    linked: &HashMap<SubjectId, Vec<(SubjectId, Vec<AddressToken>)>>,
) -> Result<Vec<Option<ResolvedAddress>>, VaultError> {
    let address = |(person, key): &(SealedPerson, StoredKey)| {
        let phone = open_phone(person, key)?;
        let user_id = open_field(person, key, USER_ID, person.user_id.as_deref())?;
        // Of those that are in the index: a newer index key makes more.
        let used = phone.as_ref().or(user_id.as_ref()).map(|used| app.addresses.all(used));
        let used = used.unwrap_or_default();
        let (tokens, others): (Vec<AddressToken>, Vec<AddressToken>) =
            person.tokens.iter().partition(|token| used.contains(token));
        let theirs = linked.get(&person.subject).map_or(&[][..], Vec::as_slice);
        let linked_addresses = theirs.iter().flat_map(|(_, tokens)| tokens).copied().collect();
        let linked = theirs.iter().map(|(other, _)| *other).collect();
        let text = |opened: Zeroizing<String>| opened.to_string();
        let phone = phone.map(text).unwrap_or_default();
        let user_id = user_id.map(text);
        Ok(ResolvedAddress { phone, user_id, tokens, others, linked_addresses, linked })
    };
    people.iter().map(|person| person.as_ref().map(address).transpose()).collect()
}

/// What a person is known by: number and user ids. The access must be on record.
pub(crate) fn open_names(
    person: &SealedPerson,
    key: &StoredKey,
) -> Result<Vec<Zeroizing<String>>, SealError> {
    let names = [
        (PHONE, &person.phone),
        (USER_ID, &person.user_id),
        (PARENT_USER_ID, &person.parent_user_id),
    ];
    let opened = names.into_iter().filter_map(|(field, sealed)| {
        open_field(person, key, field, sealed.as_deref()).transpose()
    });
    opened.collect()
}

/// A person's number, where she has one. The access must be on record.
pub(crate) fn open_phone(
    person: &SealedPerson,
    key: &StoredKey,
) -> Result<Option<Zeroizing<String>>, SealError> {
    open_field(person, key, PHONE, person.phone.as_deref())
}

/// What is held of a field of hers. The access must be on record.
pub(crate) fn open_field(
    person: &SealedPerson,
    key: &StoredKey,
    field: &'static str,
    sealed: Option<&[u8]>,
) -> Result<Option<Zeroizing<String>>, SealError> {
    let Some(sealed) = sealed else { return Ok(None) };
    let bytes = open(&key.key, binding(person.subject, field, person.key_version), sealed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| SealError)?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}
