//! `POST /v1/suppressions`: a list of opt-outs taken over from elsewhere. It guarantees that an
//! answer means settled: the numbers may not come in, and the gate has closed for them one lease
//! ago. A repeat closes the gate again, so that an interrupted one is made whole.

use std::collections::HashMap;
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{Stop, StopKind, StopsRequest, StopsResponse};
use assent_contracts::api::vault::{SuppressRequest, SuppressResponse, SuppressRow};
use assent_contracts::topics::VAULT_EVENTS;
use assent_contracts::vault::ADDRESS_SUPPRESSED;
use assent_eventstore::{Append, Expected, NewEvent, to_the_end};
use assent_http::{Caller, Code, Json, Problem};
use assent_runtime::telemetry;
use assent_sealing::Fingerprint;
use axum::extract::State;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::{App, derived_id};
use crate::domain::{self, Command, Event, State as Standing};
use crate::error::VaultError;
use crate::people::{self, Barred};
use crate::{phone, user_id};

/// Most rows of one request.
const ROWS_MAX: usize = 2_000;
/// Most stops that the gate takes at once.
const STOPS_MAX: usize = 500;

/// Record opt-outs by phone number or user id.
///
/// Needs `suppression:write`. Answers when settled; repeating it is harmless.
#[utoipa::path(
    post, path = "/v1/suppressions", tag = "suppressions", security(("bearer" = [])),
    request_body = SuppressRequest,
    responses((status = 200, body = SuppressResponse), (status = 422, description = "validation_failed: more than 2,000 rows"),
        (status = 503, description = "dependency_unavailable: repeat"))
)]
pub(crate) async fn suppress(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<SuppressRequest>,
) -> Result<Json<SuppressResponse>, Problem> {
    caller.require("suppression:write")?;
    if request.rows.len() > ROWS_MAX {
        return Err(
            Problem::new(Code::ValidationFailed).detail(format!("at most {ROWS_MAX} rows at once"))
        );
    }
    let outcomes = to_the_end(async move { suppress_rows(&app, request).await }).await?;
    Ok(Json(SuppressResponse { outcomes }))
}

struct Address {
    tokens: Vec<AddressToken>,
    /// By all keys, so that its ids stay the same when one looks only.
    named_by: Vec<AddressToken>,
    fingerprints: Vec<Fingerprint>,
    /// The stream of its event, and whether that is there already.
    stream: Uuid,
}

async fn suppress_rows(app: &App, request: SuppressRequest) -> Result<Vec<String>, VaultError> {
    let mut addresses: Vec<Address> = Vec::with_capacity(request.rows.len());
    let mut seen: HashMap<Uuid, usize> = HashMap::new();
    let mut places = Vec::with_capacity(request.rows.len());
    for row in request.rows {
        places.push(match name(row) {
            Err(reason) => Err(reason),
            Ok(name) => {
                let tokens = app.addresses.tokens(&name);
                let named_by = app.addresses.all(&name);
                let stream = derived_id("suppression", &named_by);
                Ok(*seen.entry(stream).or_insert_with(|| {
                    let fingerprints = app.fingerprints.fingerprints(&name);
                    addresses.push(Address { tokens, named_by, fingerprints, stream });
                    addresses.len() - 1
                }))
            }
        });
    }
    let new = record(app, &addresses).await?;
    close_gate(app, &addresses).await?;

    let mut told = vec![false; addresses.len()];
    let outcome = |place: Result<usize, &'static str>| match place {
        Err(reason) => reason,
        Ok(index) if new[index] && !std::mem::replace(&mut told[index], true) => "suppressed",
        Ok(_) => "already_suppressed",
    };
    Ok(places.into_iter().map(outcome).map(str::to_owned).collect())
}

/// The number or the user id of a row.
fn name(row: SuppressRow) -> Result<Zeroizing<String>, &'static str> {
    let phone = Zeroizing::new(row.phone);
    match row.user_id {
        None => phone::parse(&phone, row.country.as_deref())
            .map(|phone| phone.e164)
            .map_err(phone::Invalid::reason),
        Some(text) if phone.is_empty() => user_id::parse(&Zeroizing::new(text))
            .map(|user_id| user_id.text)
            .ok_or(user_id::INVALID),
        Some(_) => Err(user_id::INVALID),
    }
}

/// Writes fingerprints and events, for each address whether it is new.
async fn record(app: &App, addresses: &[Address]) -> Result<Vec<bool>, VaultError> {
    let streams: Vec<Uuid> = addresses.iter().map(|address| address.stream).collect();
    if streams.is_empty() {
        return Ok(Vec::new());
    }
    let now = app.clock.now();
    let traceparent = telemetry::traceparent();
    let mut session = app.store.begin().await?;
    let versions = session.lock_versions(&streams).await?;
    let mut new = Vec::with_capacity(addresses.len());
    let mut appends = Vec::new();
    for address in addresses {
        let version = versions.get(&address.stream).copied().unwrap_or_default();
        let standing = if version == 0 { Standing::Unknown } else { Standing::Suppressed };
        let command = Command::Suppress { addresses: address.tokens.clone() };
        let Ok(Some(Event::Suppressed(suppressed))) = domain::decide(standing, command, now) else {
            new.push(false);
            continue;
        };
        let event = NewEvent::new(app.ids.v7(), ADDRESS_SUPPRESSED, &suppressed)
            .map_err(|_| VaultError::Corrupt("event"))?;
        let append =
            Append::new(address.stream, Expected::Exact(0), VAULT_EVENTS, vec![event], now);
        appends.push(Append { traceparent: traceparent.clone(), ..append });
        new.push(true);
    }
    let fingerprints: Vec<Fingerprint> =
        addresses.iter().flat_map(|address| address.fingerprints.iter().copied()).collect();
    people::bar(session.conn(), &fingerprints, Barred::Suppressed, now).await?;
    session.append(appends).await?;
    session.commit().await?;
    Ok(new)
}

/// Tells the gate that addresses may not be used; returns when it has settled. The id of a stop is
/// derived from its occasion and its address, so repeating it changes nothing.
async fn close_gate(app: &App, addresses: &[Address]) -> Result<(), VaultError> {
    let heard_at = app.clock.now();
    let stop = |address: &Address| Stop {
        stop_id: derived_id("stop:suppressed", &address.named_by),
        addresses: address.tokens.clone(),
        kind: StopKind::Suppressed,
        method: None,
        heard_at,
    };
    post_stops(app, &addresses.iter().map(stop).collect::<Vec<_>>()).await
}

/// Brings stops to the gate, and waits for their settlement.
pub(crate) async fn post_stops(app: &App, stops: &[Stop]) -> Result<(), VaultError> {
    // Each waits for its settlement: side by side they wait together.
    let mut posts = tokio::task::JoinSet::new();
    for stops in stops.chunks(STOPS_MAX) {
        let (consent, request) = (app.consent.clone(), StopsRequest { stops: stops.to_vec() });
        posts.spawn(async move {
            consent.post::<_, StopsResponse>("/v1/gate/stops", &request, None).await
        });
    }
    while let Some(posted) = posts.join_next().await {
        match posted {
            Ok(answer) => {
                answer.map_err(|error| VaultError::Service("consent", error))?;
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(())
}
