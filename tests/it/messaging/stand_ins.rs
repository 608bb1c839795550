//! A messaging service in this process, and stand-ins for the consent service, the vault and the
//! provider that record what they are asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_bus::BusConfig;
use assent_contracts::SubjectId;
use assent_http::Keys;
use assent_http::auth::key_entry;
use assent_messaging::config::{Campaigns, Config, Conversations, Limits, Sending, WhatsApp};
use assent_messaging::domain::stop::Words;
use assent_messaging::{Messaging, build, create_topics, migrate, run, serve};
use assent_runtime::{
    Clock as _, Health, Ids as _, LeaseTerms, Lifecycle, ServiceConfig, SystemClock, SystemIds,
};
use assent_sealing::{AddressIndex, FileKek, IndexKeys};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use uuid::Uuid;

use assent_tests::harness;

const TOKEN: &str = "messaging-test-token";
const SECOND_TOKEN: &str = "messaging-test-token-of-somebody-else";
const SECRET: &str = "app secret";
/// The token of a colleague, who may not open what was written.
const COLLEAGUE: &str = "messaging-colleague-token";

/// The phone number of the `n`th person.
pub fn phone(n: usize) -> String {
    format!("+336123{n:05}")
}

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
    leases: Mutex<Vec<Value>>,
    gives_keys: AtomicBool,
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
            leases: Mutex::default(),
            gives_keys: AtomicBool::new(true),
        });
        let router = Router::new()
            .route("/v1/addresses/resolve", post(resolve))
            .route("/v1/keys/lease", post(lease))
            .route("/v1/subjects/lookup", post(lookup))
            .route("/v1/subjects/import", post(import))
            .route("/v1/permits", post(permits))
            .route("/v1/verdicts", post(verdicts))
            .route("/v1/audience", get(audience))
            .route("/v1/verdict", post(verdict))
            .route("/v1/gate/stops", post(stops))
            .route("/v1/gate/codes", post(codes))
            .route("/v1/consents/grant", post(grant))
            .route("/v1/requests/{id}/acks", post(ack))
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

    /// From now on a dry run hears this reason about her, and a permit for her is denied for it.
    pub fn exclude(&self, subject: SubjectId, reason: &str) {
        self.state.excluded.lock().unwrap().insert(subject, reason.to_owned());
    }

    /// The stops that arrived.
    pub fn stops(&self) -> Vec<Value> {
        self.state.stops.lock().unwrap().clone()
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

    /// How many permits were asked for.
    pub fn asks(&self) -> usize {
        *self.state.asks.lock().unwrap()
    }
}

type Shared = State<Arc<NeighboursState>>;

fn list<'a>(body: &'a Value, key: &str) -> &'a [Value] {
    body[key].as_array().map_or(&[], Vec::as_slice)
}

fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

async fn resolve(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    let people = state.people.lock().unwrap();
    let unusual = state.unusual.lock().unwrap();
    let address = |subject: &Value| {
        if let Some(address) = unusual.get(&id(subject)) {
            return Some(address.clone());
        }
        people
            .get(&id(subject))
            .map(|phone| json!({"phone": phone, "tokens": state.index.tokens(phone)}))
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

async fn lookup(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    let people = state.people.lock().unwrap();
    let found = people.iter().find(|(_, phone)| {
        let tokens = json!(state.index.tokens(phone));
        list(&body, "addresses").iter().any(|token| tokens.as_array().unwrap().contains(token))
    });
    axum::Json(json!({"subject_id": found.map(|(subject, _)| subject)}))
}

async fn import(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    assert_eq!(body["origin"], "subject");
    let mut people = state.people.lock().unwrap();
    let phone = body["rows"][0]["phone"].as_str().unwrap();
    let known = people.iter().find(|(_, known)| *known == phone).map(|(subject, _)| *subject);
    let outcome = match known {
        Some(subject) => json!({"outcome": "existing", "subject_id": subject}),
        None => {
            let subject = SystemIds.v4();
            people.insert(subject, phone.to_owned());
            json!({"outcome": "created", "subject_id": subject})
        }
    };
    axum::Json(json!({"outcomes": [outcome]}))
}

async fn permits(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
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

async fn verdicts(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
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
    axum::Json(json!({"verdicts": verdicts}))
}

/// Everybody who is known, two on a page.
async fn audience(
    State(state): Shared,
    axum::extract::Query(query): axum::extract::Query<HashMap<String, String>>,
) -> axum::Json<Value> {
    let mut people: Vec<SubjectId> = state.people.lock().unwrap().keys().copied().collect();
    people.sort_unstable();
    let from: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let page: Vec<Value> =
        people.iter().skip(from).take(2).map(|it| json!({"subject_id": it})).collect();
    let next = (people.len() > from + 2).then(|| (from + 2).to_string());
    axum::Json(json!({"items": page, "next": next}))
}

async fn verdict(State(state): Shared, body: axum::Json<Value>) -> axum::Json<Value> {
    let denied = state.denied_purposes.lock().unwrap();
    let (verdict, reasons) = match denied.get(body["purpose"].as_str().unwrap()) {
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
    let people = state.people.lock().unwrap();
    let stops = list(&body, "stops");
    let subjects = |stop: &Value| -> Vec<SubjectId> {
        let has = |phone: &String| {
            let tokens = json!(state.index.tokens(phone));
            list(stop, "addresses").iter().any(|token| tokens.as_array().unwrap().contains(token))
        };
        people.iter().filter(|(_, phone)| has(phone)).map(|(subject, _)| *subject).collect()
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

/// What the provider does with a call whose body has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Accepts it.
    Accepts,
    /// Drops the connection without an answer.
    HangsUp,
    /// Refuses it with this code.
    Refuses(i64),
    /// Refuses one with this code, and accepts what comes after.
    RefusesOnce(i64),
}

/// The provider, down to the bytes: one connection per call, as messaging makes them.
#[derive(Clone)]
pub struct Provider {
    state: Arc<ProviderState>,
    /// Where it listens.
    pub address: SocketAddr,
}

struct ProviderState {
    manner: Mutex<Manner>,
    bodies: Mutex<Vec<Value>>,
    requests: Mutex<Vec<String>>,
    templates: Mutex<Vec<Value>>,
    empty: Mutex<usize>,
}

impl Provider {
    /// A provider that accepts connections at once.
    pub async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener)
    }

    /// A provider to which nobody can connect before the returned connections are dropped and it
    /// begins: its queue of unaccepted connections is full, so SYNs are dropped.
    pub async fn unreachable() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fillers = Vec::new();
        // The queue holds backlog + 1; the connection after that hangs.
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            fillers.push(stream);
        }
        (listener, fillers)
    }

    /// A provider on this listener.
    pub fn on(listener: TcpListener) -> Self {
        let state = Arc::new(ProviderState {
            manner: Mutex::new(Manner::Accepts),
            bodies: Mutex::default(),
            requests: Mutex::default(),
            templates: Mutex::default(),
            empty: Mutex::default(),
        });
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(Arc::clone(&shared), stream));
            }
        });
        Self { state, address }
    }

    /// Changes its manner.
    pub fn manner(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// The bodies that arrived whole.
    pub fn bodies(&self) -> Vec<Value> {
        self.state.bodies.lock().unwrap().clone()
    }

    /// The request lines that arrived, in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The templates that it lists from now on, two on a page.
    pub fn lists(&self, templates: Value) {
        *self.state.templates.lock().unwrap() = list(&json!({"all": templates}), "all").to_vec();
    }

    /// How many connections ended without a byte of a body.
    pub fn without_body(&self) -> usize {
        *self.state.empty.lock().unwrap()
    }
}

async fn answer(state: Arc<ProviderState>, mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..read]);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        match end {
            Some(end) => {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap_or("0\r\n");
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if head.starts_with("get ") {
                    return templates(&state, stream, &head).await;
                }
                if bytes.len() >= end + length {
                    break (end, length);
                }
                if read == 0 {
                    assert_eq!(bytes.len(), end, "a body never stops in the middle");
                }
            }
            None if read == 0 => {}
            None => continue,
        }
        if read == 0 {
            *state.empty.lock().unwrap() += 1;
            return;
        }
    };
    let body: Value = serde_json::from_slice(&bytes[head..head + length]).unwrap();
    let request = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    state.requests.lock().unwrap().push(request.lines().next().unwrap().to_owned());
    let is_mark = body["status"] == "read";
    let wamid = format!("wamid.{}", body["biz_opaque_callback_data"].as_str().unwrap_or("mark"));
    state.bodies.lock().unwrap().push(body);
    let manner = {
        let mut manner = state.manner.lock().unwrap();
        let now = *manner;
        if matches!(now, Manner::RefusesOnce(_)) {
            *manner = Manner::Accepts;
        }
        now
    };
    let (status, answer) = match manner {
        Manner::Accepts if is_mark => ("200 OK", json!({"success": true})),
        Manner::Accepts => ("200 OK", json!({"messages": [{"id": wamid}]})),
        Manner::Refuses(code) | Manner::RefusesOnce(code) => {
            ("400 Bad Request", json!({"error": {"code": code}}))
        }
        Manner::HangsUp => return,
    };
    respond(stream, status, &answer).await;
}

/// A page of the list of templates: two of them.
async fn templates(state: &ProviderState, stream: TcpStream, head: &str) {
    let line = head.lines().next().unwrap().to_owned();
    let from: usize = line
        .split("after=")
        .nth(1)
        .map_or(0, |after| after.split([' ', '&']).next().unwrap().parse().unwrap());
    state.requests.lock().unwrap().push(line);
    let all = state.templates.lock().unwrap().clone();
    let page: Vec<Value> = all.iter().skip(from).take(2).cloned().collect();
    let mut answer =
        json!({"data": page, "paging": {"cursors": {"after": (from + 2).to_string()}}});
    if all.len() > from + 2 {
        answer["paging"]["next"] = json!("https://provider.example/next");
    }
    respond(stream, "200 OK", &answer).await;
}

async fn respond(mut stream: TcpStream, status: &str, answer: &Value) {
    let answer = answer.to_string();
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    let _ = stream.write_all(response.as_bytes()).await;
}

/// What a test may change of the configuration.
pub struct Setup {
    /// Where consent and vault listen.
    pub neighbours: SocketAddr,
    /// Where the provider listens.
    pub provider: SocketAddr,
    /// The lease.
    pub lease: Duration,
    /// How long the gate is waited for.
    pub patience: Duration,
    /// How long a claim lasts.
    pub claim: Duration,
    /// Kafka, for tests that need it.
    pub bus: Option<BusConfig>,
    /// The app secret that is being replaced.
    pub previous_app_secret: Option<&'static str>,
    /// The provider's version.
    pub version: &'static str,
    /// The account whose templates are listed.
    pub business_account_id: Option<&'static str>,
    /// How many messages may go out.
    pub limits: Limits,
    /// How campaigns run.
    pub campaigns: Campaigns,
    /// Messages per second.
    pub per_second: u32,
    /// The bot, and how long texts are kept.
    pub conversations: Conversations,
}

impl Setup {
    /// A lease that outlives every pause of a busy machine, short patience.
    pub fn new(neighbours: SocketAddr, provider: SocketAddr) -> Self {
        Self {
            neighbours,
            provider,
            lease: Duration::from_secs(10),
            patience: Duration::from_secs(20),
            claim: Duration::from_secs(20),
            bus: None,
            previous_app_secret: None,
            version: "v26.0",
            business_account_id: None,
            limits: Limits::default(),
            campaigns: Campaigns::default(),
            per_second: 2_000,
            conversations: Conversations::default(),
        }
    }
}

/// Databases and keys of one messaging service; several replicas may run on them.
pub struct Home {
    database_url: String,
    keys_database_url: String,
    folder: std::path::PathBuf,
    /// The address index, as the vault has it too.
    pub index: AddressIndex,
}

impl Home {
    /// Empty databases, fresh keys.
    pub async fn new() -> Self {
        let folder = std::env::temp_dir().join(harness::unique("assent_messaging"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        FileKek::generate(&folder.join("kek"), &SystemIds).unwrap();
        let keys = IndexKeys::generate(&SystemIds);
        keys.write_address_only(&folder.join("index.toml")).unwrap();
        Self {
            database_url: harness::database_url("messaging").await,
            keys_database_url: harness::database_url("messaging_keys").await,
            folder,
            index: keys.addresses(),
        }
    }

    /// Its database.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    fn config(&self, setup: &Setup) -> Config {
        let neighbours = format!("http://{}", setup.neighbours);
        let scopes = [
            "messages:read",
            "messages:write",
            "query:read",
            "consent:read",
            "conversations:read",
            "conversations:write",
            "conversations:open",
        ];
        let callers = [
            key_entry("test", TOKEN, &scopes),
            key_entry(
                "second",
                SECOND_TOKEN,
                &["messages:read", "messages:write", "campaigns:approve"],
            ),
            key_entry("colleague", COLLEAGUE, &["conversations:read", "conversations:write"]),
        ];
        Config {
            service: ServiceConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                ops_listen: "127.0.0.1:0".parse().unwrap(),
                database_url: self.database_url.clone().into(),
                database_connections: 8,
                token: "services".into(),
            },
            keys_database_url: self.keys_database_url.clone().into(),
            kek_file: self.folder.join("kek"),
            index_keys_file: self.folder.join("index.toml"),
            idempotency_secret: "secret".into(),
            bus: setup.bus.clone().unwrap_or_else(|| BusConfig::new("127.0.0.1:1", "none.")),
            keys: Arc::new(Keys::parse(&callers.concat()).unwrap()),
            terms: LeaseTerms { length: setup.lease, ..LeaseTerms::default() },
            controller: "Boulangerie Exemple SARL".to_owned(),
            consent_url: neighbours.clone(),
            vault_url: neighbours.clone(),
            erasure_url: neighbours.clone(),
            projector_url: neighbours,
            whatsapp: WhatsApp {
                base_url: format!("http://{}", setup.provider),
                version: setup.version.to_owned(),
                phone_number_id: "106540352242922".to_owned(),
                access_token: "access".into(),
                app_secret: SECRET.into(),
                previous_app_secret: setup.previous_app_secret.map(Into::into),
                business_account_id: setup.business_account_id.map(str::to_owned),
                verify_token: "verify".into(),
                timeout: Duration::from_secs(5),
            },
            sending: Sending {
                per_second: setup.per_second,
                gate_patience: setup.patience,
                claim: setup.claim,
                ..Sending::default()
            },
            limits: setup.limits.clone(),
            campaigns: setup.campaigns.clone(),
            words: Words::standard(),
            start_purpose: "marketing".to_owned(),
            marketing_purposes: vec!["marketing".to_owned()],
            stop_confirmation: "You will get no more messages.".to_owned(),
            conversations: setup.conversations.clone(),
        }
    }

    /// Changes rows while no replica runs.
    pub async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(&mut self.connect().await).await.unwrap();
    }

    /// A connection of the test's own, without the limits of a service's: it may hold a lock for as long as
    /// the test takes.
    pub async fn connect(&self) -> sqlx::PgConnection {
        sqlx::PgConnection::connect(&self.database_url).await.unwrap()
    }

    /// A running replica.
    pub async fn start(&self, setup: &Setup) -> Replica {
        let config = self.config(setup);
        migrate(&config).await.unwrap();
        let messaging =
            build(config.clone(), Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let lifecycle = Lifecycle::new();
        match &setup.bus {
            None => run(&messaging, axum::Router::new(), listener, &Health::new(), &lifecycle),
            Some(bus) => {
                create_topics(bus).await.unwrap();
                serve(config, listener, Health::new(), lifecycle.clone()).await.unwrap();
            }
        }
        let http =
            assent_http::client::http_client(Duration::from_secs(1), Duration::from_secs(30))
                .unwrap();
        Replica { messaging, base, http, lifecycle }
    }
}

/// A running messaging service.
pub struct Replica {
    /// Its inside, for looking into the database.
    pub messaging: Messaging,
    base: String,
    http: reqwest::Client,
    lifecycle: Lifecycle,
}

impl Replica {
    /// Asks for the message `hello` to a person and gives its id.
    pub async fn send(&self, subject: SubjectId) -> Uuid {
        let response = self.request(subject).await;
        assert_eq!(response.status(), 202);
        id(&response.json::<Value>().await.unwrap()["message_id"])
    }

    /// Asks for the message `hello` to a person.
    pub async fn request(&self, subject: SubjectId) -> reqwest::Response {
        let body = json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
            "template": "hello", "parameters": ["Ada"]});
        let request = self.http.post(format!("{}/v1/messages", self.base)).bearer_auth(TOKEN);
        request.json(&body).send().await.unwrap()
    }

    /// Asks for a message of this purpose with this template and gives its id.
    pub async fn send_template(&self, subject: SubjectId, purpose: &str, name: &str) -> Uuid {
        let body = json!({"subject_id": subject, "purpose": purpose, "channel": "whatsapp",
            "template": name});
        let (status, answer) = self.post("/v1/messages", body).await;
        assert_eq!(status, 202, "{answer}");
        id(&answer["message_id"])
    }

    /// Calls the API and gives status and body.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(TOKEN);
        let response = request.json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Calls the API in the name of a second person.
    pub async fn post_second(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(SECOND_TOKEN);
        let response = request.json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Calls the API under an idempotency key and gives status and body.
    pub async fn post_once(&self, path: &str, body: &Value, key: &str) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(TOKEN);
        let request = request.header("idempotency-key", key).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Calls the API as a colleague, who may not open what was written.
    pub async fn post_as_colleague(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(COLLEAGUE);
        let response = request.json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Asks the API.
    pub async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.base)).bearer_auth(TOKEN);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Reports by webhook that a message failed with this code, and waits until that is processed.
    pub async fn fails(&self, message: Uuid, code: i64) {
        let status = json!({"id": format!("wamid.{message}"), "status": "failed",
            "timestamp": SystemClock.now().as_second().to_string(), "errors": [{"code": code}]});
        assert_eq!(self.webhook(json!({"statuses": [status]})).await, 200);
        self.processed().await;
    }

    /// No message goes out until [`Self::let_go`].
    pub async fn hold_number(&self) {
        self.sql(
            "INSERT INTO send_rates VALUES ('106540352242922', now() + interval '1 hour')
             ON CONFLICT (phone_number_id) DO UPDATE SET next_at = EXCLUDED.next_at",
        )
        .await;
    }

    /// What was held back, and was seen to be, is due at once.
    pub async fn let_go(&self) {
        self.sql("UPDATE send_rates SET next_at = now()").await;
        self.sql("UPDATE intents SET not_before = now() WHERE state = 'queued'").await;
    }

    /// Waits until every webhook is processed or parked.
    pub async fn processed(&self) {
        let waiting = "SELECT count(*) FROM webhook_bodies WHERE parked IS NULL";
        until("processed", async || self.count(waiting).await == 0).await;
    }

    /// Changes rows behind the service's back.
    pub async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(self.messaging.store.pool()).await.unwrap();
    }

    /// The message once it waits, and why.
    pub async fn waits(&self, message: Uuid) -> Vec<String> {
        let mut reasons = Vec::new();
        until("it waits", async || {
            let view = self.look(message, 0).await;
            reasons = serde_json::from_value(view["reasons"].clone()).unwrap();
            view["state"] == "queued" && !reasons.is_empty()
        })
        .await;
        reasons
    }

    /// The message once it is settled, or after 20 seconds.
    pub async fn settled(&self, message: Uuid) -> Value {
        self.look(message, 20_000).await
    }

    /// The message, waiting at most so long.
    pub async fn look(&self, message: Uuid, wait_ms: u64) -> Value {
        let url = format!("{}/v1/messages/{message}?wait_ms={wait_ms}", self.base);
        self.http.get(url).bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap()
    }

    /// Delivers a webhook whose one value is this, signed, and gives the status.
    pub async fn webhook(&self, value: Value) -> u16 {
        let body = json!({"object": "whatsapp_business_account", "entry": [{"id": "1",
            "changes": [{"field": "messages", "value": value}]}]});
        self.raw_webhook(&body.to_string(), SECRET).await
    }

    /// Delivers these bytes, signed with this secret.
    pub async fn raw_webhook(&self, body: &str, secret: &str) -> u16 {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        let request = self
            .http
            .post(format!("{}/webhooks/whatsapp", self.base))
            .header("x-hub-signature-256", format!("sha256={hex}"))
            .body(body.to_owned());
        request.send().await.unwrap().status().as_u16()
    }

    /// A text message from the `n`th person.
    pub async fn hears(&self, n: usize, text: &str) -> u16 {
        let wamid = format!("wamid.{}", SystemIds.v4());
        let from = phone(n).trim_start_matches('+').to_owned();
        let message = json!({"from": from, "id": wamid, "type": "text", "text": {"body": text}});
        self.webhook(json!({"messages": [message]})).await
    }

    /// The one number that a query gives.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.messaging.store.pool()).await.unwrap()
    }

    /// Stops it softly.
    pub async fn stop(self) {
        assert!(self.lifecycle.stop_and_wait(Duration::from_secs(10)).await);
    }
}

/// Waits until a condition holds, at most a minute.
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(what, 60, holds).await;
}

/// Waits until a condition holds, at most so many seconds.
pub async fn until_within(what: &str, seconds: u64, mut holds: impl AsyncFnMut() -> bool) {
    let give_up = SystemClock.boottime() + Duration::from_secs(seconds);
    while !holds().await {
        assert!(SystemClock.boottime() < give_up, "{what}: not within {seconds} seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
