//! The service itself: its databases and keys, its configuration, a replica that runs.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::BusConfig;
use assent_contracts::{SubjectId, topics};
use assent_eventstore::{connect, schema};
use assent_http::Keys;
use assent_http::auth::key_entry;
use assent_messaging::config::{Campaigns, Config, Conversations, Limits, Sending, WhatsApp};
use assent_messaging::domain::confirmation::Confirmations;
use assent_messaging::domain::stop::Words;
use assent_messaging::{Messaging, build, migrators, run, serve};
use assent_runtime::{
    Clock as _, Health, Ids as _, LeaseTerms, Lifecycle, ServiceConfig, SystemClock, SystemIds,
};
use assent_sealing::{AddressIndex, FileKek, IndexKeys, KeyStore};
use assent_tests::{harness, whatsapp};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{id, phone, until};

const TOKEN: &str = "messaging-test-token";
const SECOND_TOKEN: &str = "messaging-test-token-of-somebody-else";
const SECRET: &str = "app secret";
/// The token of a colleague, who may not open what was written.
const COLLEAGUE: &str = "messaging-colleague-token";

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
    /// Calls of the management API in an hour.
    pub management_per_hour: u32,
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
            management_per_hour: 200,
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
        let database_url = harness::database_url("messaging").await;
        let keys_database_url = harness::database_url("messaging_keys").await;
        let databases = [
            (&database_url, Vec::from(migrators())),
            (&keys_database_url, vec![KeyStore::migrator()]),
        ];
        for (url, migrators) in databases {
            let pool = connect(url, 1).await.unwrap();
            schema::migrate(&pool, migrators).await.unwrap();
            pool.close().await;
        }
        Self { database_url, keys_database_url, folder, index: keys.addresses() }
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
                &[
                    "messages:read",
                    "messages:write",
                    "campaigns:approve",
                    "conversations:open",
                    "restricted:read",
                ],
            ),
            key_entry("colleague", COLLEAGUE, &["conversations:read", "conversations:write"]),
        ];
        Config {
            service: ServiceConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                ops_listen: "127.0.0.1:0".parse().unwrap(),
                database_url: self.database_url.clone().into(),
                database_connections: 8,
                requests_max: 4096,
                token: "services".into(),
            },
            keys_database_url: self.keys_database_url.clone().into(),
            kek: assent_sealing::KekConfig::file(self.folder.join("kek")),
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
                number: Some("33900000001".to_owned()),
                access_token: "access".into(),
                app_secret: SECRET.into(),
                previous_app_secret: setup.previous_app_secret.map(Into::into),
                app_id: Some("670843887433847".to_owned()),
                business_account_id: setup.business_account_id.map(str::to_owned),
                management_per_hour: setup.management_per_hour,
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
            stop_confirmation: Confirmations::of("Boulangerie Exemple SARL"),
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
        let messaging =
            build(config.clone(), Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let lifecycle = Lifecycle::new();
        match &setup.bus {
            None => run(&messaging, axum::Router::new(), listener, &Health::new(), &lifecycle),
            Some(bus) => {
                assent_bus::ensure_topics(bus, &topics::ALL).await.unwrap();
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

    /// Gives the API a file and gives status and body.
    pub async fn post_bytes(&self, path: &str, kind: &str, body: &[u8]) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(TOKEN);
        let request = request.header("content-type", kind).body(body.to_vec());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Asks the API for a file.
    pub async fn fetch(
        &self,
        path: &str,
        body: &Value,
    ) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(TOKEN);
        let response = request.json(body).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.bytes().await.unwrap().to_vec())
    }

    /// Ends something and gives the status.
    pub async fn delete(&self, path: &str) -> u16 {
        let request = self.http.delete(format!("{}{path}", self.base)).bearer_auth(TOKEN);
        request.send().await.unwrap().status().as_u16()
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
        whatsapp::rest(self.messaging.store.pool()).await;
    }

    /// What was held back, and was seen to be, is due at once.
    pub async fn let_go(&self) {
        whatsapp::go_on(self.messaging.store.pool()).await;
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
        let request = self
            .http
            .post(format!("{}/webhooks/whatsapp", self.base))
            .header("x-hub-signature-256", whatsapp::signature(secret.as_bytes(), body.as_bytes()))
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
