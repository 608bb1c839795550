//! The vault against real Postgres (and, for its place in the saga, real Kafka).

mod erasing;
mod identities;
pub mod keys;
mod people;
mod rectifying;
mod retention;
mod rotating;
mod wal;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_bus::BusConfig;
use assent_bus::parked::ParkedMessages;
use assent_contracts::api::vault::{
    ImportOutcome, ImportRequest, ImportResponse, ImportRow, KeyLeaseRequest, KeyLeaseResponse,
    LookupRequest, LookupResponse, ResolveRequest, ResolveResponse, SealRequest, SealResponse,
    SuppressRequest, SuppressResponse, SuppressRow,
};
use assent_contracts::erasure::{Command, Step};
use assent_contracts::vault::Origin;
use assent_eventstore::{EventStore, schema};
use assent_http::auth::key_entry;
use assent_http::{ClientError, Code, Keys, Limits, ServiceClient, router_layers};
use assent_participant::{Keeping, Participant, Steps as _, hear};
use assent_runtime::{Clock, Ids, LeaseTerms, SystemClock, SystemIds};
use assent_sealing::{DataKey, FileKek, IndexKeys, KeyStore};
use assent_tests::harness;
use assent_vault::App;
use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Row};
use uuid::Uuid;

const TERMS: LeaseTerms =
    LeaseTerms { length: Duration::from_millis(60), drift: Duration::from_millis(10) };

/// Everything that a caller could have: the token `all`. The token `plain` may not tell who is
/// suppressed.
const SCOPES: [&str; 8] = [
    "subjects:read",
    "subjects:write",
    "subjects:resolve",
    "keys:lease",
    "seal:write",
    "gate:write",
    "suppression:read",
    "suppression:write",
];

/// A vault with databases of its own, between a consent service and an erasure service that only
/// listen.
struct Vault {
    app: Arc<App>,
    data: PgPool,
    keys: PgPool,
    all: ServiceClient,
    plain: ServiceClient,
    stops: Arc<Mutex<Vec<Value>>>,
    links: Arc<Mutex<Vec<Value>>>,
    retold: Arc<Mutex<Vec<Value>>>,
    consent_is_down: Arc<AtomicBool>,
}

fn api_keys() -> Arc<Keys> {
    let text = key_entry("all", "all", &SCOPES)
        + &key_entry("plain", "plain", &["subjects:read", "subjects:write"]);
    Arc::new(Keys::parse(&text).unwrap())
}

async fn listen(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A consent service that notes stops, links and further tokens.
struct Consent {
    url: String,
    stops: Arc<Mutex<Vec<Value>>>,
    links: Arc<Mutex<Vec<Value>>>,
    retold: Arc<Mutex<Vec<Value>>>,
    is_down: Arc<AtomicBool>,
}

async fn consent() -> Consent {
    let stops = Arc::new(Mutex::new(Vec::new()));
    let links = Arc::new(Mutex::new(Vec::new()));
    let retold = Arc::new(Mutex::new(Vec::new()));
    let down = Arc::new(AtomicBool::new(false));
    let (noted, is_down) = (Arc::clone(&stops), Arc::clone(&down));
    let (noted_links, links_down) = (Arc::clone(&links), Arc::clone(&down));
    let router = Router::new().route(
        "/v1/gate/links",
        post(move |axum::Json(body): axum::Json<Value>| async move {
            if links_down.load(Ordering::SeqCst) {
                return Err(axum::http::StatusCode::SERVICE_UNAVAILABLE);
            }
            noted_links.lock().unwrap().extend(body["links"].as_array().unwrap().clone());
            Ok(axum::Json(json!({"linked": 0})))
        }),
    );
    let (noted_tokens, tokens_down) = (Arc::clone(&retold), Arc::clone(&down));
    let router = router.route(
        "/v1/gate/tokens",
        post(move |axum::Json(body): axum::Json<Value>| async move {
            if tokens_down.load(Ordering::SeqCst) {
                return Err(axum::http::StatusCode::SERVICE_UNAVAILABLE);
            }
            noted_tokens.lock().unwrap().extend(body["addresses"].as_array().unwrap().clone());
            Ok(axum::Json(json!({"linked": 0, "barred": 0})))
        }),
    );
    let router = router.route(
        "/v1/gate/stops",
        post(move |axum::Json(body): axum::Json<Value>| async move {
            if is_down.load(Ordering::SeqCst) {
                return Err(axum::http::StatusCode::SERVICE_UNAVAILABLE);
            }
            let new = body["stops"].as_array().unwrap().clone();
            let answer = json!({"recorded": new.len(), "subjects": vec![json!([]); new.len()]});
            noted.lock().unwrap().extend(new);
            Ok(axum::Json(answer))
        }),
    );
    Consent { url: listen(router).await, stops, links, retold, is_down: down }
}

async fn vault() -> Vault {
    vault_with(&IndexKeys::generate(&SystemIds)).await
}

async fn vault_with(index_keys: &IndexKeys) -> Vault {
    let pool = async |area| assent_vault::pool(&harness::database_url(area).await, 10).await;
    let data = pool("vault").await.unwrap();
    let keys = pool("vault_keys").await.unwrap();
    schema::migrate(&data, assent_vault::migrators()).await.unwrap();
    schema::migrate(&keys, [KeyStore::migrator()]).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let kek = FileKek::new(DataKey::generate(&SystemIds), Arc::clone(&ids));
    let Consent { url, stops, links, retold, is_down: consent_is_down } = consent().await;
    let app = Arc::new(App {
        store: EventStore::new(data.clone(), b""),
        keys: KeyStore::new(keys.clone(), kek, Arc::clone(&clock), Arc::clone(&ids)),
        addresses: index_keys.addresses(),
        fingerprints: index_keys.fingerprints().unwrap(),
        clock,
        ids,
        screening_rows_per_hour: 5_000_000,
        access_record_days: 1095,
        keeping: Keeping::default(),
        lease: TERMS,
        consent: client(&url, "t"),
        erasure: client("http://127.0.0.1:1", "t"),
    });
    let (all, plain) = clients(&app).await;
    Vault { app, data, keys, all, plain, stops, links, retold, consent_is_down }
}

fn client(base: &str, token: &str) -> ServiceClient {
    ServiceClient::new(base, &token.to_owned().into()).unwrap()
}

/// Serves it; gives the clients with the tokens `all` and `plain`.
async fn clients(app: &Arc<App>) -> (ServiceClient, ServiceClient) {
    let data = app.store.pool().clone();
    let parked = ParkedMessages::new(data, BusConfig::new("127.0.0.1:1", "t."));
    let router = assent_vault::router(Arc::clone(app), parked, api_keys());
    let limits = Limits { body_bytes_max: 4 << 20, ..Limits::default() };
    let base = listen(router_layers(router, limits)).await;
    (client(&base, "all"), client(&base, "plain"))
}

fn row(phone: &str) -> ImportRow {
    ImportRow { phone: phone.to_owned(), country: Some("FR".to_owned()), ..ImportRow::default() }
}

fn number(n: usize) -> String {
    format!("+336{n:08}")
}

impl Vault {
    /// A replica of it, on the same databases, with other index keys.
    async fn replica_with(&self, index_keys: &IndexKeys) -> Self {
        let app = Arc::new(App {
            addresses: index_keys.addresses(),
            fingerprints: index_keys.fingerprints().unwrap(),
            ..App::clone(&self.app)
        });
        let (all, plain) = clients(&app).await;
        Self {
            app,
            data: self.data.clone(),
            keys: self.keys.clone(),
            all,
            plain,
            stops: Arc::clone(&self.stops),
            links: Arc::clone(&self.links),
            retold: Arc::clone(&self.retold),
            consent_is_down: Arc::clone(&self.consent_is_down),
        }
    }

    async fn import(&self, origin: Origin, rows: Vec<ImportRow>) -> Vec<ImportOutcome> {
        let request = ImportRequest { origin, acted_at: None, rows };
        let answer: ImportResponse =
            self.all.post("/v1/subjects/import", &request, None).await.unwrap();
        answer.outcomes
    }

    async fn register(&self, phone: &str) -> Uuid {
        match &self.import(Origin::Import, vec![row(phone)]).await[..] {
            [ImportOutcome::Created { subject_id }] => *subject_id,
            other => panic!("{other:?}"),
        }
    }

    async fn resolve(&self, subject: Uuid) -> Option<String> {
        let request = ResolveRequest { reason: "send".to_owned(), subjects: vec![subject] };
        let mut answer: ResolveResponse =
            self.all.post("/v1/addresses/resolve", &request, None).await.unwrap();
        answer.addresses.pop().unwrap().map(|address| address.phone)
    }

    async fn lease(&self, subject: Uuid) -> Option<String> {
        let request = KeyLeaseRequest { reason: "seal".to_owned(), subjects: vec![subject] };
        let mut answer: KeyLeaseResponse =
            self.all.post("/v1/keys/lease", &request, None).await.unwrap();
        answer.keys.pop().unwrap()
    }

    async fn seal(&self, subject: Uuid, text: &str) -> Result<SealResponse, ClientError> {
        let request = SealRequest {
            subject_id: subject,
            record: Uuid::nil(),
            field: "consent.evidence".to_owned(),
            text: text.to_owned(),
        };
        self.all.post("/v1/seal", &request, None).await
    }

    async fn suppress(&self, phones: &[&str]) -> Result<Vec<String>, ClientError> {
        let row =
            |phone: &&str| SuppressRow { phone: (*phone).to_owned(), ..SuppressRow::default() };
        let request = SuppressRequest { rows: phones.iter().map(row).collect() };
        let answer: SuppressResponse = self.all.post("/v1/suppressions", &request, None).await?;
        Ok(answer.outcomes)
    }

    async fn lookup(&self, phone: &str) -> LookupResponse {
        let request = LookupRequest { phone: Some(phone.to_owned()), ..LookupRequest::default() };
        self.all.post("/v1/subjects/lookup", &request, None).await.unwrap()
    }

    async fn step(&self, subject: Uuid, step: Step) -> BTreeMap<String, u64> {
        let command = self.heard(subject, step).await;
        self.replica().carry_out(&command).await.unwrap().counts
    }

    async fn heard(&self, subject: Uuid, step: Step) -> Command {
        let command = command(subject, step);
        let mut connection = self.data.acquire().await.unwrap();
        hear(&mut connection, &SystemClock, &command).await.unwrap();
        command
    }

    fn replica(&self) -> Participant<App> {
        Participant {
            steps: App::clone(&self.app),
            store: self.app.store.clone(),
            clock: Arc::clone(&self.app.clock),
            terms: TERMS,
            saga: self.app.erasure.clone(),
            bus: BusConfig::new("127.0.0.1:1", "t."),
            follows: Vec::new(),
            heard: Arc::default(),
        }
    }

    async fn erase(&self, subject: Uuid) {
        for step in [Step::Fence, Step::Delete, Step::DestroyKeys] {
            self.step(subject, step).await;
        }
        let left = self.step(subject, Step::Sweep).await;
        assert!(left.values().all(|count| *count == 0), "{left:?}");
    }

    async fn count(&self, pool: &PgPool, table: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
            .fetch_one(pool)
            .await
            .unwrap()
    }

    async fn wrapped(&self, key: Uuid) -> Option<Vec<u8>> {
        let row = sqlx::query("SELECT wrapped FROM keys WHERE id = $1").bind(key);
        row.fetch_one(&self.keys).await.unwrap().get(0)
    }
}

fn command(subject: Uuid, step: Step) -> Command {
    Command {
        command_id: SystemIds.v7(),
        request_id: Uuid::from_u128(1),
        subject_id: subject,
        step,
        participants: vec![App::PARTICIPANT.to_owned()],
        barrier: BTreeMap::new(),
        at: SystemClock.now(),
    }
}

fn code<T>(result: Result<T, ClientError>) -> Option<Code> {
    result.err().expect("refused").code()
}
