//! The consent service, the vault, the read models and the saga, as far as messaging sees them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use assent_sealing::AddressIndex;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{id, list, phone};

/// The consent service and the vault, as far as messaging sees them.
#[derive(Clone)]
pub struct Neighbours {
    state: Arc<NeighboursState>,
    /// Where they listen.
    pub address: SocketAddr,
}

struct NeighboursState {
    index: AddressIndex,
    people: Mutex<HashMap<SubjectId, String>>,
    stops: Mutex<Vec<Value>>,
    grants: Mutex<Vec<Value>>,
    acks: Mutex<Vec<Value>>,
    requests: Mutex<Vec<(String, Value)>>,
    confirmed: Mutex<Vec<(String, Value)>>,
    loses: Mutex<usize>,
    asks: Mutex<usize>,
    key_asks: Mutex<usize>,
    keys: tokio::sync::Mutex<()>,
    refuses_stops: AtomicBool,
    denies: Mutex<Option<String>>,
    quiet_until: Mutex<Option<Timestamp>>,
    denied_purposes: Mutex<HashMap<String, String>>,
    unusual: Mutex<HashMap<SubjectId, Value>>,
    codes: Mutex<Vec<Value>>,
    meaning: Mutex<Value>,
    excluded: Mutex<HashMap<SubjectId, String>>,
    away: AtomicBool,
    turned_away: AtomicUsize,
    leases: Mutex<Vec<Value>>,
    gives_keys: AtomicBool,
    identities: Mutex<Vec<Value>>,
    outcomes: Mutex<HashMap<String, Value>>,
    forgotten: Mutex<Vec<Value>>,
    linked: Mutex<HashMap<SubjectId, SubjectId>>,
    doubted: Mutex<Vec<SubjectId>>,
    registered: Mutex<HashMap<SubjectId, Timestamp>>,
    says_not_who: AtomicBool,
    hears_no_names: AtomicBool,
    thinks: Mutex<Option<Thinks>>,
}

/// How long the gate thinks about its next answer.
type Thinks = Box<dyn FnMut() -> Duration + Send>;

/// With these names told, the vault refuses all that it was told with them.
pub const BAD_USER_ID: &str = "FR.bad";

impl NeighboursState {
    /// Who has one of these tokens.
    fn having(&self, tokens: &[Value]) -> Option<SubjectId> {
        let people: Vec<SubjectId> = self.people.lock().unwrap().keys().copied().collect();
        let has = |it: &SubjectId| {
            let hers = self.tokens_of(*it);
            tokens.iter().any(|token| hers.contains(token))
        };
        people.into_iter().find(has)
    }

    /// By which tokens she is known.
    fn tokens_of(&self, subject: SubjectId) -> Vec<Value> {
        if let Some(address) = self.unusual.lock().unwrap().get(&subject) {
            let of = |key: &str| address[key].as_array().cloned().unwrap_or_default();
            return [of("tokens"), of("others")].concat();
        }
        let people = self.people.lock().unwrap();
        let name = people.get(&subject);
        name.map(|name| json!(self.index.tokens(name)).as_array().unwrap().clone())
            .unwrap_or_default()
    }
}

impl Neighbours {
    /// Stand-ins on `listener`.
    pub fn serve(listener: TcpListener, index: AddressIndex) -> Self {
        let state = Arc::new(NeighboursState {
            index,
            people: Mutex::default(),
            stops: Mutex::default(),
            grants: Mutex::default(),
            acks: Mutex::default(),
            requests: Mutex::default(),
            confirmed: Mutex::default(),
            loses: Mutex::default(),
            asks: Mutex::default(),
            key_asks: Mutex::default(),
            keys: tokio::sync::Mutex::default(),
            refuses_stops: AtomicBool::new(false),
            denies: Mutex::default(),
            quiet_until: Mutex::default(),
            denied_purposes: Mutex::default(),
            unusual: Mutex::default(),
            codes: Mutex::default(),
            meaning: Mutex::new(json!({"meaning": "nothing"})),
            excluded: Mutex::default(),
            away: AtomicBool::new(false),
            turned_away: AtomicUsize::new(0),
            leases: Mutex::default(),
            gives_keys: AtomicBool::new(true),
            identities: Mutex::default(),
            outcomes: Mutex::default(),
            forgotten: Mutex::default(),
            linked: Mutex::default(),
            doubted: Mutex::default(),
            registered: Mutex::default(),
            says_not_who: AtomicBool::new(false),
            hears_no_names: AtomicBool::new(false),
            thinks: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/addresses/resolve", post(resolve))
            .route("/v1/keys/lease", post(lease))
            .route("/v1/identities/who", post(who))
            .route("/v1/subjects/import", post(import))
            .route("/v1/identities", post(identities))
            .route("/v1/identities/forget", post(forget))
            .route("/v1/permits", post(permits))
            .route("/v1/verdicts", post(verdicts))
            .route("/v1/audience", get(audience))
            .route("/v1/verdict", post(verdict))
            .route("/v1/gate/stops", post(stops))
            .route("/v1/gate/codes", post(codes))
            .route("/v1/consents/grant", post(grant))
            .route("/v1/requests/{id}/acks", post(ack))
            .route("/v1/requests", post(request))
            .route("/v1/requests/{id}/identity", post(identity))
            .with_state(Arc::clone(&state));
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { state, address }
    }

    /// Makes the `n`th person known.
    pub fn person(&self, n: usize) -> SubjectId {
        let subject = SystemIds.v4();
        self.state.people.lock().unwrap().insert(subject, phone(n));
        subject
    }

    /// From now on the consent service answers stops with an error.
    pub fn refuse_stops(&self, refuses: bool) {
        self.state.refuses_stops.store(refuses, Ordering::SeqCst);
    }

    /// From now on permits are denied for this reason.
    pub fn deny(&self, reason: Option<&str>) {
        *self.state.denies.lock().unwrap() = reason.map(str::to_owned);
    }

    /// From now on the gate thinks about each answer for as long as this says.
    pub fn think(&self, time: impl FnMut() -> Duration + Send + 'static) {
        *self.state.thinks.lock().unwrap() = Some(Box::new(time));
    }

    /// Up to this moment permits are denied because of the hour.
    pub fn quiet_until(&self, until: Timestamp) {
        *self.state.quiet_until.lock().unwrap() = Some(until);
    }

    /// From now on permits for this purpose are denied for this reason.
    pub fn deny_purpose(&self, purpose: &str, reason: &str) {
        self.state.denied_purposes.lock().unwrap().insert(purpose.to_owned(), reason.to_owned());
    }

    /// The vault gives no keys, and no other answer to who asks, until this is dropped.
    pub async fn hold_keys(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.state.keys.lock().await
    }

    /// How often keys were asked for.
    pub fn key_asks(&self) -> usize {
        *self.state.key_asks.lock().unwrap()
    }

    /// Makes somebody known by her user id only.
    pub fn person_by_user_id(&self, user_id: &str) -> SubjectId {
        let subject = SystemIds.v4();
        let address = json!({"phone": "", "user_id": user_id,
            "tokens": self.state.index.tokens(user_id)});
        self.state.people.lock().unwrap().insert(subject, user_id.to_owned());
        self.state.unusual.lock().unwrap().insert(subject, address);
        subject
    }

    /// Makes the `n`th person known, by this user id too.
    pub fn person_with(&self, n: usize, user_id: &str) -> SubjectId {
        let subject = self.person(n);
        let (tokens, others) =
            (self.state.index.tokens(&phone(n)), self.state.index.tokens(user_id));
        let address = json!({"phone": phone(n), "user_id": user_id, "tokens": tokens,
            "others": others});
        self.state.unusual.lock().unwrap().insert(subject, address);
        subject
    }

    /// From now on it is in doubt, by the vault's word, who she is.
    pub fn doubt(&self, subject: SubjectId) {
        self.state.doubted.lock().unwrap().push(subject);
    }

    /// She was made known at this moment.
    pub fn since(&self, subject: SubjectId, at: Timestamp) {
        self.state.registered.lock().unwrap().insert(subject, at);
    }

    /// From now on the vault doesn't say who somebody is, or does again.
    pub fn say_not_who(&self, not: bool) {
        self.state.says_not_who.store(not, Ordering::SeqCst);
    }

    /// From now on the vault is told of nobody's names, or is again.
    pub fn hear_no_names(&self, not: bool) {
        self.state.hears_no_names.store(not, Ordering::SeqCst);
    }

    /// What the vault was told of people's names.
    pub fn identities(&self) -> Vec<Value> {
        self.state.identities.lock().unwrap().clone()
    }

    /// From now on the vault answers so to this user id.
    pub fn identity_is(&self, user_id: &str, outcome: Value) {
        self.state.outcomes.lock().unwrap().insert(user_id.to_owned(), outcome);
    }

    /// Whose user ids were forgotten.
    pub fn forgotten(&self) -> Vec<Value> {
        self.state.forgotten.lock().unwrap().clone()
    }

    /// From now on the vault says that the two are one.
    pub fn link(&self, one: SubjectId, other: SubjectId) {
        self.state.linked.lock().unwrap().extend([(one, other), (other, one)]);
    }

    /// From now on a verdict on her and a dry run say this reason, and a permit for her is denied for it.
    pub fn exclude(&self, subject: SubjectId, reason: &str) {
        self.state.excluded.lock().unwrap().insert(subject, reason.to_owned());
    }

    /// From now on it is as if she had not been [excluded](Self::exclude).
    pub fn include(&self, subject: SubjectId) {
        self.state.excluded.lock().unwrap().remove(&subject);
    }

    /// The stops that arrived.
    pub fn stops(&self) -> Vec<Value> {
        self.state.stops.lock().unwrap().clone()
    }

    /// From now on neither the read models nor the gate's verdicts are there.
    pub fn go_away(&self, away: bool) {
        self.state.away.store(away, Ordering::SeqCst);
    }

    /// How often they were asked for in vain.
    pub fn turned_away(&self) -> usize {
        self.state.turned_away.load(Ordering::SeqCst)
    }

    /// From now on codes have this meaning.
    pub fn codes_mean(&self, meaning: Value) {
        *self.state.meaning.lock().unwrap() = meaning;
    }

    /// The codes that arrived.
    pub fn codes(&self) -> Vec<Value> {
        self.state.codes.lock().unwrap().clone()
    }

    /// The grants that arrived.
    pub fn grants(&self) -> Vec<Value> {
        self.state.grants.lock().unwrap().clone()
    }

    /// The reasons for which keys of this person were asked for.
    pub fn lease_reasons(&self, subject: SubjectId) -> Vec<String> {
        let leases = self.state.leases.lock().unwrap();
        let hers = leases.iter().filter(|it| list(it, "subjects").contains(&json!(subject)));
        hers.map(|it| it["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// From now on the vault answers asks for keys, or doesn't.
    pub fn give_keys(&self, gives: bool) {
        self.state.gives_keys.store(gives, Ordering::SeqCst);
    }

    /// The saga's acknowledgements that arrived for this step.
    pub fn acks(&self, step: &str) -> Vec<Value> {
        let acks = self.state.acks.lock().unwrap();
        acks.iter().filter(|ack| ack["step"] == step).cloned().collect()
    }

    /// So many answers of the erasure service are lost: it has taken the request.
    pub fn lose_requests(&self, times: usize) {
        *self.state.loses.lock().unwrap() = times;
    }

    /// How often an answer is still to be lost.
    pub fn losing(&self) -> usize {
        *self.state.loses.lock().unwrap()
    }

    /// The requests that were taken in, each once, by their ids.
    pub fn requests(&self) -> Vec<(String, Value)> {
        let keyed = self.state.requests.lock().unwrap();
        keyed.iter().map(|(key, body)| (request_id(key), body.clone())).collect()
    }

    /// Which requests were shown to be hers, and how.
    pub fn confirmed(&self) -> Vec<(String, Value)> {
        self.state.confirmed.lock().unwrap().clone()
    }

    /// How many permits were asked for.
    pub fn asks(&self) -> usize {
        *self.state.asks.lock().unwrap()
    }
}

type Shared = State<Arc<NeighboursState>>;

async fn resolve(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    let linked = state.linked.lock().unwrap();
    let people = state.people.lock().unwrap();
    let unusual = state.unusual.lock().unwrap();
    let hers = |subject: SubjectId| match unusual.get(&subject) {
        Some(address) => Some(address.clone()),
        None => people
            .get(&subject)
            .map(|phone| json!({"phone": phone, "tokens": state.index.tokens(phone)})),
    };
    let address = |subject: &Value| {
        let mut address = hers(id(subject))?;
        if let Some(other) = linked.get(&id(subject)) {
            address["linked"] = json!([other]);
            address["linked_addresses"] = hers(*other).unwrap()["tokens"].clone();
        }
        Some(address)
    };
    let addresses: Vec<_> = list(&body, "subjects").iter().map(address).collect();
    axum::Json(json!({"addresses": addresses}))
}

async fn lease(
    State(state): Shared,
    body: axum::Json<Value>,
) -> Result<axum::Json<Value>, StatusCode> {
    if !state.gives_keys.load(Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    state.leases.lock().unwrap().push(body.0.clone());
    *state.key_asks.lock().unwrap() += 1;
    drop(state.keys.lock().await);
    let people = state.people.lock().unwrap();
    let key = |subject: &Value| {
        let subject = id(subject);
        let mut bytes = [7; 32];
        bytes[..16].copy_from_slice(subject.as_bytes());
        people.contains_key(&subject).then(|| STANDARD_NO_PAD.encode(bytes))
    };
    let keys: Vec<_> = list(&body, "subjects").iter().map(key).collect();
    Ok(axum::Json(json!({"keys": keys})))
}

/// Who has the names; in doubt where the test says so of one of them.
async fn who(
    State(state): Shared,
    body: axum::Json<Value>,
) -> Result<axum::Json<Value>, StatusCode> {
    if state.says_not_who.load(Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let linked = state.linked.lock().unwrap();
    let doubted = state.doubted.lock().unwrap();
    let answer = |asked: &Value| {
        let names = ["user_ids", "phones", "parent_user_ids"].map(|kind| asked.get(kind));
        let names = names.into_iter().flatten().filter_map(Value::as_array);
        let answers = asked["answers"].as_str().map(|it| it.parse().unwrap());
        let found = names.filter_map(|tokens| state.having(tokens)).chain(answers);
        let mut named: Vec<SubjectId> = Vec::new();
        for subject in found {
            if !named.contains(&subject) {
                named.push(subject);
            }
        }
        let others = named.iter().filter_map(|it| linked.get(it));
        let others: Vec<SubjectId> = others.filter(|it| !named.contains(it)).copied().collect();
        let is_one = |it: &SubjectId| named[0] == *it || linked.get(&named[0]) == Some(it);
        let standing = if named.is_empty() {
            "nobody"
        } else if named.iter().any(|it| doubted.contains(it)) {
            "in_doubt"
        } else if named.iter().all(is_one) {
            "known"
        } else {
            "to_be_linked"
        };
        let hers: Vec<_> = named.iter().flat_map(|it| state.tokens_of(*it)).collect();
        let since = state.registered.lock().unwrap();
        let since = named.first().and_then(|it| since.get(it));
        json!({"standing": standing, "named": named, "linked": others, "hers": hers,
            "registered_at": since})
    };
    let answers: Vec<_> = list(&body, "asked").iter().map(answer).collect();
    Ok(axum::Json(json!({"answers": answers})))
}

/// What was told is known where one of the names is, unless the test says otherwise.
async fn identities(
    State(state): Shared,
    body: axum::Json<Value>,
) -> Result<axum::Json<Value>, (StatusCode, axum::Json<Value>)> {
    if list(&body, "told").iter().any(|told| told["user_id"] == BAD_USER_ID) {
        let problem = json!({"type": "about:blank", "title": "no", "status": 422,
            "code": "validation_failed"});
        return Err((StatusCode::UNPROCESSABLE_ENTITY, axum::Json(problem)));
    }
    if state.hears_no_names.load(Ordering::SeqCst) {
        return Err((StatusCode::SERVICE_UNAVAILABLE, axum::Json(Value::Null)));
    }
    let outcome = |told: &Value| {
        let scripted = state.outcomes.lock().unwrap();
        if let Some(outcome) = told["user_id"].as_str().and_then(|it| scripted.get(it)) {
            return outcome.clone();
        }
        let names = [&told["phone"], &told["user_id"]].into_iter().filter_map(Value::as_str);
        let known = names.filter_map(|name| {
            let tokens = json!(state.index.tokens(name));
            state.having(tokens.as_array().unwrap())
        });
        match known.chain(told["answers"].as_str().map(|it| it.parse().unwrap())).next() {
            Some(subject) => json!({"outcome": "known", "subject_id": subject}),
            None => json!({"outcome": "nobody"}),
        }
    };
    let outcomes: Vec<_> = list(&body, "told").iter().map(outcome).collect();
    state.identities.lock().unwrap().extend(list(&body, "told").iter().cloned());
    Ok(axum::Json(json!({"outcomes": outcomes})))
}

async fn forget(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    state.forgotten.lock().unwrap().push(body["subject_id"].clone());
    axum::Json(json!({"forgotten": true}))
}

async fn import(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    assert_eq!(body["origin"], "subject");
    let row = &body["rows"][0];
    let by_user_id = row["user_id"].as_str().filter(|_| row["phone"].is_null());
    let mut people = state.people.lock().unwrap();
    let phone = by_user_id.unwrap_or_else(|| row["phone"].as_str().unwrap());
    let known = people.iter().find(|(_, known)| *known == phone).map(|(subject, _)| *subject);
    let outcome = match known {
        Some(subject) => json!({"outcome": "existing", "subject_id": subject}),
        None => {
            let subject = SystemIds.v4();
            people.insert(subject, phone.to_owned());
            if let Some(user_id) = by_user_id {
                let tokens = state.index.tokens(user_id);
                let address = json!({"phone": "", "user_id": user_id, "tokens": tokens});
                state.unusual.lock().unwrap().insert(subject, address);
            }
            json!({"outcome": "created", "subject_id": subject})
        }
    };
    axum::Json(json!({"outcomes": [outcome]}))
}

async fn permits(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    let time = state.thinks.lock().unwrap().as_mut().map(|time| time());
    if let Some(time) = time {
        tokio::time::sleep(time).await;
    }
    let denies = state.denies.lock().unwrap().clone();
    let now = SystemClock.now();
    let quiet_until = state.quiet_until.lock().unwrap().filter(|until| *until > now);
    let purposes = state.denied_purposes.lock().unwrap().clone();
    let excluded = state.excluded.lock().unwrap().clone();
    let permit = |ask: &Value| {
        let of_hers = excluded.get(&id(&ask["subject_id"]));
        let of_purpose = purposes.get(ask["purpose"].as_str().unwrap());
        let (verdict, reasons) = match denies.as_ref().or(of_purpose).or(of_hers) {
            None if quiet_until.is_some() => ("deny", vec!["quiet_hours"]),
            None => ("allow", vec!["consent_given"]),
            Some(reason) => ("deny", vec![reason.as_str()]),
        };
        json!({"permit_id": SystemIds.v7(), "message_id": ask["message_id"], "verdict": verdict,
            "reasons": reasons, "evidence": [], "rules": "test-1", "as_of": now,
            "quiet_until": quiet_until})
    };
    *state.asks.lock().unwrap() += list(&body, "asks").len();
    let permits: Vec<_> = list(&body, "asks").iter().map(permit).collect();
    axum::Json(json!({"permits": permits}))
}

async fn verdicts(
    State(state): Shared,
    body: axum::Json<Value>,
) -> Result<axum::Json<Value>, StatusCode> {
    is_there(&state)?;
    let excluded = state.excluded.lock().unwrap();
    let verdict = |ask: &Value| {
        let (verdict, reason) = match excluded.get(&id(&ask["subject_id"])) {
            None => ("allow", "consent_given"),
            Some(reason) => ("deny", reason.as_str()),
        };
        json!({"verdict": verdict, "reasons": [reason], "evidence": [], "rules": "test-1",
            "as_of": SystemClock.now()})
    };
    let verdicts: Vec<_> = list(&body, "asks").iter().map(verdict).collect();
    Ok(axum::Json(json!({"verdicts": verdicts})))
}

fn is_there(state: &NeighboursState) -> Result<(), StatusCode> {
    if state.away.load(Ordering::SeqCst) {
        state.turned_away.fetch_add(1, Ordering::SeqCst);
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    Ok(())
}

/// Everybody who is known, two on a page.
async fn audience(
    State(state): Shared,
    axum::extract::Query(query): axum::extract::Query<HashMap<String, String>>,
) -> Result<axum::Json<Value>, StatusCode> {
    is_there(&state)?;
    let mut people: Vec<SubjectId> = state.people.lock().unwrap().keys().copied().collect();
    people.sort_unstable();
    let from: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let page: Vec<Value> =
        people.iter().skip(from).take(2).map(|it| json!({"subject_id": it})).collect();
    let next = (people.len() > from + 2).then(|| (from + 2).to_string());
    Ok(axum::Json(json!({"items": page, "next": next})))
}

async fn verdict(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    let denied = state.denied_purposes.lock().unwrap();
    let excluded = state.excluded.lock().unwrap();
    let of_hers = excluded.get(&id(&body["subject_id"]));
    let (verdict, reasons) = match of_hers.or(denied.get(body["purpose"].as_str().unwrap())) {
        Some(reason) => ("deny", vec![reason.as_str()]),
        None => ("allow", vec!["consent_given"]),
    };
    axum::Json(json!({"verdict": verdict, "reasons": reasons, "evidence": [], "rules": "test-1",
        "as_of": SystemClock.now()}))
}

async fn stops(
    State(state): Shared,
    body: axum::Json<Value>,
) -> Result<axum::Json<Value>, StatusCode> {
    if state.refuses_stops.load(Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let people: Vec<SubjectId> = state.people.lock().unwrap().keys().copied().collect();
    let stops = list(&body, "stops");
    // By whatever she is known: the gate has all her addresses.
    let subjects = |stop: &Value| -> Vec<SubjectId> {
        let has = |subject: &SubjectId| {
            let hers = state.tokens_of(*subject);
            list(stop, "addresses").iter().any(|token| hers.contains(token))
        };
        people.iter().copied().filter(has).collect()
    };
    let answer = json!({"recorded": stops.len(), "subjects": stops.iter().map(subjects).collect::<Vec<_>>()});
    state.stops.lock().unwrap().extend(stops.iter().cloned());
    Ok(axum::Json(answer))
}

async fn codes(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    state.codes.lock().unwrap().push(body.0);
    axum::Json(state.meaning.lock().unwrap().clone())
}

async fn grant(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    state.grants.lock().unwrap().push(body.0.clone());
    axum::Json(json!({"subject_id": body["subject_id"], "events": [], "version": 1}))
}

async fn ack(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    state.acks.lock().unwrap().push(body.0);
    axum::Json(json!({}))
}

/// The id of the request that came under an idempotency key.
fn request_id(key: &str) -> String {
    key.strip_prefix("message-").expect("a key made of the message's id").to_owned()
}

/// Takes a request in, once under each idempotency key.
async fn request(
    State(state): Shared,
    headers: axum::http::HeaderMap,
    body: axum::Json<Value>,
) -> Result<axum::Json<Value>, StatusCode> {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    {
        let mut requests = state.requests.lock().unwrap();
        let first = requests.iter().find(|it| it.0 == key).map(|it| it.1.clone());
        match first {
            Some(first) => assert_eq!(first, body.0, "a repeat says the same"),
            None => requests.push((key.clone(), body.0)),
        }
    }
    {
        let mut loses = state.loses.lock().unwrap();
        if *loses > 0 {
            *loses -= 1;
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
    }
    Ok(axum::Json(json!({"request_id": request_id(&key), "status": "open"})))
}

async fn identity(
    State(state): Shared,
    axum::extract::Path(request): axum::extract::Path<String>,
    body: axum::Json<Value>,
) -> axum::Json<Value> {
    state.confirmed.lock().unwrap().push((request, body.0));
    axum::Json(json!({}))
}
