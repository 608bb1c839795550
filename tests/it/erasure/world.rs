//! An erasure service with a database and topics of its own, a consent service that only listens,
//! and an ear on the command topic.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_bus::BusConfig;
use assent_contracts::erasure::{Ack, Command, Evidence, Step};
use assent_contracts::purposes::PurposeCommand;
use assent_contracts::rights::{Inquiry, Task};
use assent_contracts::topics;
use assent_contracts::topics::{ERASURE_COMMANDS, Topic};
use assent_erasure::tracking::Tracking;
use assent_erasure::webhooks::secret::Secrets;
use assent_erasure::{Config, HolderUrls, Pace, Webhooks};
use assent_eventstore::schema;
use assent_http::auth::key_entry;
use assent_http::client::http_client;
use assent_http::{Allowed, Keys, Problem};
use assent_rules::{Ask, RuleSet, Where};
use assent_runtime::{Clock, Health, LeaseTerms, Lifecycle, ServiceConfig, Settings, SystemClock};
use assent_signing::Issuer;
use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use jiff::{SignedDuration, Timestamp};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use assent_tests::harness;

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pace of tests.
pub fn pace() -> Pace {
    Pace {
        step_timeout: Duration::from_secs(60),
        retry: Duration::from_millis(150),
        retry_max: Duration::from_millis(300),
        poll: Duration::from_millis(50),
        bulk_window: 4,
    }
}

/// What a participant that did its work says.
pub fn evidence(step: Step) -> Evidence {
    let count = if step == Step::Sweep { 0 } else { 2 };
    Evidence {
        counts: BTreeMap::from([("rows".to_owned(), count)]),
        digest: "0".repeat(64),
        positions: BTreeMap::new(),
        kept: Vec::new(),
    }
}

pub struct World {
    pub subject: Uuid,
    config: Config,
    pub pool: PgPool,
    http: reqwest::Client,
    replicas: Vec<(Lifecycle, String)>,
    stops: Arc<Mutex<Vec<Value>>>,
    down: Arc<AtomicBool>,
    age: Arc<AtomicI64>,
    refused: Arc<AtomicI64>,
    commands: Arc<Mutex<Vec<Command>>>,
    inquiries: Arc<Mutex<Vec<Inquiry>>>,
    for_purposes: Arc<Mutex<Vec<PurposeCommand>>>,
    deaf: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
    pub holders: Arc<Holders>,
}

/// The services that hold data of people: all four in one.
#[derive(Default)]
pub struct Holders {
    /// They take their time to tell.
    pub hesitate: AtomicBool,
    /// What the vault was told to put right.
    pub rectified: Mutex<Vec<Value>>,
    /// The vault says no: somebody else has the number.
    pub taken: AtomicBool,
    /// How often they were asked what they hold.
    pub asked: AtomicI64,
}

impl Drop for World {
    fn drop(&mut self) {
        self.deaf.store(true, Ordering::Release);
    }
}

impl World {
    /// A running service with these participants.
    pub async fn new(participants: &str, pace: Pace) -> Self {
        Self::by(Arc::new(SystemClock), participants, pace).await
    }

    /// As [`Self::new`], by a clock of the test's own.
    pub async fn by(clock: Arc<dyn Clock>, participants: &str, pace: Pace) -> Self {
        let database_url = harness::database_url("erasure").await;
        let pool = PgPool::connect(&database_url).await.unwrap();
        schema::migrate(&pool, assent_erasure::migrators()).await.unwrap();
        let (consent_url, stops, down, age, refused) = consent().await;
        let (holders_url, holders) = holders().await;
        let config = configure(&database_url, &consent_url, &holders_url, participants, pace);
        assent_bus::ensure_topics(&config.bus, &topics::ALL).await.unwrap();
        let commands = Arc::default();
        let deaf = Arc::new(AtomicBool::new(false));
        let inquiries = Arc::default();
        let for_purposes = Arc::default();
        let heard = (Arc::clone(&commands), Arc::clone(&inquiries), Arc::clone(&for_purposes));
        listen(&config.bus, heard, Arc::clone(&deaf));
        let mut world = Self {
            subject: subject(),
            config,
            pool,
            http: http_client(Duration::from_secs(2), Duration::from_secs(15)).unwrap(),
            replicas: Vec::new(),
            stops,
            down,
            age,
            refused,
            commands,
            inquiries,
            for_purposes,
            deaf,
            clock,
            holders,
        };
        world.start().await;
        world
    }

    /// Starts one more replica.
    pub async fn start(&mut self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let lifecycle = Lifecycle::new();
        let (config, health) = (self.config.clone(), Health::new());
        let clock = Arc::clone(&self.clock);
        assent_erasure::serve_by(clock, config, listener, health, lifecycle.clone()).await.unwrap();
        self.replicas.push((lifecycle, base));
    }

    /// Drops every replica's tasks where they stand.
    pub async fn kill(&mut self) {
        for (lifecycle, _) in self.replicas.drain(..) {
            lifecycle.stop_and_wait(Duration::ZERO).await;
        }
    }

    /// Stops every replica; each must end well.
    pub async fn stop(mut self) {
        for (lifecycle, _) in self.replicas.drain(..) {
            assert!(lifecycle.stop_and_wait(Duration::from_secs(10)).await);
        }
    }

    pub fn consent_is_down(&self, down: bool) {
        self.down.store(down, Ordering::Release);
    }

    /// Requests that come from now on are due in thirty days less so many.
    pub fn came_days_ago(&self, days: i64) {
        self.age.store(days, Ordering::Release);
    }

    /// What waits, as alerts are told it.
    pub async fn due(&self) -> assent_erasure::due::Due {
        self.due_at(SystemClock.now()).await
    }

    /// What will wait at a moment if nothing happens.
    pub async fn due_at(&self, at: Timestamp) -> assent_erasure::due::Due {
        assent_erasure::due::count(&self.pool, at).await.unwrap()
    }

    /// Terms are refused with this status; 0: they are told.
    pub fn terms_are_refused(&self, status: i64) {
        self.refused.store(status, Ordering::Release);
    }

    /// Every row of this service in the clear, and every event, as text.
    pub async fn all_that_is_kept(&self) -> String {
        let mut all = String::new();
        for table in [
            "subject_requests",
            "requests",
            "holds",
            "archives",
            "disclosures",
            "eventstore.events",
        ] {
            let rows = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t");
            let rows: String =
                sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_one(&self.pool).await.unwrap();
            all.push_str(&rows);
        }
        all
    }

    /// Whether a driver, also one of the version before, finds the erasure by itself some day.
    pub async fn is_looked_at(&self, request: Uuid) -> bool {
        sqlx::query_scalar("SELECT look_at IS NOT NULL FROM requests WHERE request_id = $1")
            .bind(request)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Completes an erasure as a replica of the version before would: in its own table alone.
    pub async fn complete_as_before(&self, request: Uuid) {
        let sql = "UPDATE requests SET status = 'completed', completed_at = now(), look_at = NULL
                   WHERE request_id = $1";
        sqlx::query(sql).bind(request).execute(&self.pool).await.unwrap();
    }

    /// Moves every hold's day of review into the past.
    pub async fn reviews_are_late(&self) {
        sqlx::query("UPDATE holds SET review_on = review_on - 3650")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// The withdrawals, and stops of numbers, that the consent service heard.
    pub fn stops(&self) -> Vec<Value> {
        self.stops.lock().unwrap().clone()
    }

    /// How many events of a type are stored.
    pub async fn events(&self, event_type: &str) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM eventstore.events WHERE event_type = $1")
            .bind(event_type)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// The data of the one event of a type.
    pub async fn data_of(&self, event_type: &str) -> Value {
        let sql = "SELECT data::text FROM eventstore.events WHERE event_type = $1";
        let data: String =
            sqlx::query_scalar(sql).bind(event_type).fetch_one(&self.pool).await.unwrap();
        serde_json::from_str(&data).unwrap()
    }

    pub fn topic(&self, topic: Topic) -> String {
        self.config.bus.topic_name(&topic)
    }

    /// Writes a record of the subject to a topic; where it landed.
    pub async fn publish(&self, topic: Topic) -> (i32, i64) {
        let producer: FutureProducer =
            client(&self.config.bus).set("partitioner", "murmur2_random").create().unwrap();
        let (topic, key) = (self.topic(topic), self.subject.to_string());
        let record = FutureRecord::to(&topic).key(&key).payload("{}");
        let landed = producer.send(record, PATIENCE).await.unwrap();
        (landed.partition, landed.offset)
    }

    async fn call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        idempotency: Option<&str>,
    ) -> (StatusCode, String) {
        let base = &self.replicas.last().expect("a replica runs").1;
        let mut call = self.http.request(method, format!("{base}{path}")).bearer_auth(token);
        if let Some(body) = body {
            call = call.json(body);
        }
        if let Some(key) = idempotency {
            call = call.header("idempotency-key", key);
        }
        let answer = call.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        self.call("operator", Method::GET, path, None, None).await
    }

    pub async fn get_as(&self, token: &str, path: &str) -> (StatusCode, String) {
        self.call(token, Method::GET, path, None, None).await
    }

    pub async fn post(
        &self,
        token: &str,
        path: &str,
        body: &Value,
        idempotency: Option<&str>,
    ) -> (StatusCode, Value) {
        let (status, text) = self.call(token, Method::POST, path, Some(body), idempotency).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Takes what a request is answered with: a zip whose files are not compressed, so that it can be looked through.
    pub async fn collects(&self, opened: &Value) -> (StatusCode, String) {
        let guess = json!({"reference": opened["reference"], "secret": opened["secret"]});
        let base = &self.replicas.last().expect("a replica runs").1;
        let call = self.http.post(format!("{base}/v1/tracking/archive")).bearer_auth("operator");
        let answer = call.json(&guess).send().await.unwrap();
        let status = answer.status();
        (status, String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned())
    }

    pub async fn delete(&self, path: &str) -> StatusCode {
        self.call("operator", Method::DELETE, path, None, None).await.0
    }

    pub async fn leave(&self, name: &str) -> StatusCode {
        let path = format!("/v1/participants/{name}");
        self.call("operator", Method::DELETE, &path, None, None).await.0
    }

    /// Asks to erase the subject.
    pub async fn request(&self, key: &str) -> (StatusCode, Uuid) {
        let identity = json!({"method": "number_reply", "reason": "code_repeated"});
        let body = json!({"subject_id": self.subject, "actor": "subject", "identity": identity});
        let (status, answer) = self.post("operator", "/v1/requests", &body, Some(key)).await;
        (status, serde_json::from_value(answer["request_id"].clone()).unwrap())
    }

    pub async fn view(&self, request: Uuid) -> Value {
        let (status, text) = self.get(&format!("/v1/requests/{request}")).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until the request has this status.
    pub async fn until(&self, request: Uuid, status: &str) -> Value {
        for _ in 0..PATIENCE.as_millis() / 50 {
            let view = self.view(request).await;
            if view["status"] == status {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {status}: {}", self.view(request).await);
    }

    /// Waits for a command of this step that asks this participant.
    pub async fn hears(&self, step: Step, name: &str) -> Command {
        for _ in 0..PATIENCE.as_millis() / 20 {
            let heard = self.commands.lock().unwrap().iter().find_map(|command| {
                let asks = command.step == step && command.participants.iter().any(|n| n == name);
                asks.then(|| command.clone())
            });
            if let Some(command) = heard {
                return command;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} never heard of {step:?}: {:?}", self.commands.lock().unwrap());
    }

    /// Waits for a command of this step about one purpose's data that asks this participant.
    pub async fn hears_for_purpose(&self, step: Step, name: &str) -> PurposeCommand {
        for _ in 0..PATIENCE.as_millis() / 20 {
            let heard = self.for_purposes.lock().unwrap().iter().find_map(|command| {
                let asks =
                    command.purpose_step == step && command.participants.iter().any(|n| n == name);
                asks.then(|| command.clone())
            });
            if let Some(command) = heard {
                return command;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} never heard of {step:?} for a purpose");
    }

    /// Answers a command about one purpose's data.
    pub async fn ack_for_purpose(
        &self,
        command: &PurposeCommand,
        name: &str,
        evidence: Evidence,
    ) -> (StatusCode, Value) {
        let ack = Ack {
            command_id: command.command_id,
            step: command.purpose_step,
            participant: name.to_owned(),
            evidence,
        };
        let path = format!("/v1/requests/{}/acks", command.request_id);
        self.post(name, &path, &serde_json::to_value(ack).unwrap(), None).await
    }

    /// The commands that were heard.
    pub fn heard(&self) -> Vec<Command> {
        self.commands.lock().unwrap().clone()
    }

    /// Waits for an inquiry of this task.
    pub async fn hears_inquiry(&self, task: Task) -> Inquiry {
        for _ in 0..PATIENCE.as_millis() / 20 {
            let asked = self.inquiries.lock().unwrap().iter().find(|it| it.task == task).cloned();
            if let Some(inquiry) = asked {
                return inquiry;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody was asked to {task:?}");
    }

    /// Waits until a command was heard so many times.
    pub async fn hears_again(&self, command_id: Uuid, times: usize) {
        for _ in 0..PATIENCE.as_millis() / 20 {
            let heard = {
                let commands = self.commands.lock().unwrap();
                commands.iter().filter(|command| command.command_id == command_id).count()
            };
            if heard >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the command was not sent {times} times");
    }

    /// Lets everyone whom a step asks answer it.
    pub async fn answer_all(&self, step: Step) {
        let command = self.hears(step, "vault").await;
        for name in &command.participants {
            let (status, answer) = self.ack(&command, name, evidence(step)).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
    }

    /// Answers a command with the participant's own key.
    pub async fn ack(&self, command: &Command, name: &str, proof: Evidence) -> (StatusCode, Value) {
        self.ack_as(name, command, name, proof).await
    }

    /// Answers a command with the key `token`.
    pub async fn ack_as(
        &self,
        token: &str,
        command: &Command,
        name: &str,
        evidence: Evidence,
    ) -> (StatusCode, Value) {
        let ack = Ack {
            command_id: command.command_id,
            step: command.step,
            participant: name.to_owned(),
            evidence,
        };
        let path = format!("/v1/requests/{}/acks", command.request_id);
        self.post(token, &path, &serde_json::to_value(ack).unwrap(), None).await
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own subject may be random")]
fn subject() -> Uuid {
    Uuid::new_v4()
}

fn configure(
    database_url: &str,
    consent_url: &str,
    holders_url: &str,
    participants: &str,
    pace: Pace,
) -> Config {
    let everything =
        ["erasure:decide", "erasure:read", "erasure:track", "erasure:write", "operations"];
    let keys: String = ["consent", "vault", "crm", "stranger"]
        .iter()
        .map(|name| key_entry(name, name, &["erasure:ack"]))
        .chain([key_entry("operator", "operator", &everything)])
        .chain([key_entry("intake", "intake", &["erasure:write"])])
        .chain([key_entry("page", "page", &["erasure:intake", "erasure:track"])])
        .chain([key_entry("messages", "messages", &["erasure:intake"])])
        .chain([key_entry("ledger", "ledger", &["erasure:retention"])])
        .chain([key_entry("counsel", "counsel", &["erasure:read", "holds:write"])])
        .collect();
    let pem = SigningKey::from_bytes(&[7; 32]).to_pkcs8_pem(LineEnding::LF).unwrap();
    // Participants are read as a deployment writes them; the rest is given.
    Config {
        service: ServiceConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            ops_listen: "127.0.0.1:0".parse().unwrap(),
            database_url: database_url.into(),
            database_connections: 8,
            requests_max: 4096,
            token: "erasure".into(),
        },
        idempotency_secret: "secret".into(),
        bus: BusConfig::new(harness::kafka(), harness::topic_prefix()),
        keys: Arc::new(Keys::parse(&keys).unwrap()),
        issuer: Issuer::from_pem(&pem).unwrap(),
        tracking: Tracking::of_key(pem.as_bytes()),
        controller: "Boulangerie Exemple SARL".to_owned(),
        participants: Config::read_participants(
            &Settings::from_parts(&format!("[erasure]\nparticipants = {participants:?}"), [])
                .unwrap(),
        )
        .unwrap(),
        key_backup_kept: None,
        pace,
        consent_url: consent_url.to_owned(),
        holder_urls: HolderUrls {
            vault: holders_url.to_owned(),
            messaging: holders_url.to_owned(),
            projector: holders_url.to_owned(),
        },
        lease: LeaseTerms::default(),
        archive_kept: SignedDuration::from_hours(24),
        inquiry_time: SignedDuration::from_hours(48),
        webhooks: Webhooks {
            allowed: Allowed::parse("127.0.0.1, crm.example.org, 10.0.0.7", false).unwrap(),
            secrets: Secrets::of_key(pem.as_bytes()),
        },
    }
}

type Consent = (String, Arc<Mutex<Vec<Value>>>, Arc<AtomicBool>, Arc<AtomicI64>, Arc<AtomicI64>);

/// A consent service in France that notes withdrawals and tells terms, or is down.
async fn consent() -> Consent {
    let (stops, down) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicBool>::default());
    let (noted, is_down) = (Arc::clone(&stops), Arc::clone(&down));
    let heard = Arc::clone(&stops);
    let withdraw = post(move |axum::Json(body): axum::Json<Value>| async move {
        if is_down.load(Ordering::Acquire) {
            return Err(Problem::unavailable("database", "down"));
        }
        let answer = json!({"subject_id": body["subject_id"], "events": [], "version": 1});
        noted.lock().unwrap().push(body);
        Ok(axum::Json(answer))
    });
    let age = Arc::<AtomicI64>::default();
    let refused = Arc::<AtomicI64>::default();
    let (days, is_down, refuses) = (Arc::clone(&age), Arc::clone(&down), Arc::clone(&refused));
    let terms = post(move |axum::Json(body): axum::Json<Value>| async move {
        if is_down.load(Ordering::Acquire) {
            return Err(Problem::unavailable("database", "down"));
        }
        match refuses.load(Ordering::Acquire) {
            403 => return Err(assent_http::Code::Forbidden.into()),
            404 => return Err(assent_http::Code::NotFound.into()),
            _ => {}
        }
        Ok(axum::Json(terms(&body, days.load(Ordering::Acquire))))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = post(move |axum::Json(body): axum::Json<Value>| async move {
        heard.lock().unwrap().push(body);
        axum::Json(json!({"recorded": 1, "subjects": [[]]}))
    });
    let noting = |what: &'static str| {
        let noted = Arc::clone(&stops);
        let is_down = Arc::clone(&down);
        post(move |axum::Json(body): axum::Json<Value>| async move {
            if is_down.load(Ordering::Acquire) {
                return Err(Problem::unavailable("database", "down"));
            }
            let answer = json!({"subject_id": body["subject_id"], "events": [], "version": 1});
            noted.lock().unwrap().push(json!({"what": what, "of": body["request_id"]}));
            Ok(axum::Json(answer))
        })
    };
    let (restrict, lift) = (noting("restrict"), noting("lift"));
    let nothing = get(async || axum::Json(json!({"items": []})));
    let router = Router::new()
        .route("/v1/subjects/{subject_id}/holdings", nothing)
        .route("/v1/consents/withdraw", withdraw)
        .route("/v1/gate/stops", stop)
        .route("/v1/restrictions", restrict)
        .route("/v1/restrictions/lift", lift)
        .route("/v1/rules/terms", terms);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, stops, down, age, refused)
}

/// What vault, messaging and projector hold: the same, each.
async fn holders() -> (String, Arc<Holders>) {
    let holders = Arc::<Holders>::default();
    let telling = Arc::clone(&holders);
    let holdings = get(move |Path(_): Path<Uuid>| async move {
        telling.asked.fetch_add(1, Ordering::AcqRel);
        while telling.hesitate.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        axum::Json(json!({"items": [
            {"kind": "contact", "provenance": "provided",
             "data": {"phone": "+33612345678", "name": "Canary Ada", "email": "ada@example.org"}},
            {"kind": "note", "provenance": "recorded", "data": {"text": "asks for +33698765432"}},
            {"kind": "claim", "provenance": "recorded", "data": {}, "evidence": "sealed"},
        ]}))
    });
    let putting = Arc::clone(&holders);
    let rectify = post(move |axum::Json(body): axum::Json<Value>| async move {
        if putting.taken.load(Ordering::Acquire) {
            return Err(Problem::new(assent_http::Code::RequestStateConflict)
                .detail("somebody else is known by this number")
                .with("reason", "number_taken"));
        }
        let asked = ["phone", "name", "email"].into_iter().filter(|it| !body[*it].is_null());
        // A name that is right already.
        let asked = asked.filter(|it| body[*it] != "Canary Ada");
        let fields: Vec<&str> = asked.collect();
        putting.rectified.lock().unwrap().push(body.clone());
        Ok(axum::Json(json!({"fields": fields})))
    });
    let key = post(async || axum::Json(json!({"keys": [STANDARD_NO_PAD.encode([9; 32])]})));
    let opened = post(async || axum::Json(json!({"text": "form 12, seen by bob@example.org"})));
    let router = Router::new()
        .route("/v1/subjects/{subject_id}/holdings", holdings)
        .route("/v1/subjects/{subject_id}/rectify", rectify)
        .route("/v1/keys/lease", key)
        .route("/v1/open", opened);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, holders)
}

/// The terms of the rules that come with Assent; with `days`, thirty days less so many.
fn terms(question: &Value, days: i64) -> Value {
    let ask: Ask = serde_json::from_value(question["kind"].clone()).unwrap();
    let received: Timestamp = serde_json::from_value(question["received_at"].clone()).unwrap();
    let place = |name: &str| question[name].as_str().map(|place| place.parse().unwrap());
    let (stated, number) = (place("person"), place("number"));
    let at = Where { seat: Some("FR".parse().unwrap()), stated, number };
    let rules = RuleSet::shipped().unwrap();
    let mut terms = rules.terms(ask, received, &at).unwrap();
    if days != 0 {
        terms.answer.end.over_at = received + SignedDuration::from_hours(24 * (30 - days));
    }
    let term = |term: &assent_rules::Term| {
        json!({
            "jurisdiction": term.jurisdiction, "rule": term.rule, "article": term.article,
            "period": term.period.to_string(), "last_day": term.end.on, "over_at": term.end.over_at,
        })
    };
    let authority = |it: &assent_rules::Authority| json!({"name": it.name, "address": it.address});
    json!({
        "rules": rules.hash(),
        "acknowledge": terms.acknowledge.as_ref().map(term),
        "answer": term(&terms.answer),
        "extended": terms.extended.as_ref().map(term),
        "identity": terms.identity,
        "authorities": terms.authorities.iter().map(authority).collect::<Vec<_>>(),
    })
}

fn client(bus: &BusConfig) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &bus.brokers);
    config
}

/// What is heard: commands, inquiries, and commands about one purpose's data.
type Heard = (Arc<Mutex<Vec<Command>>>, Arc<Mutex<Vec<Inquiry>>>, Arc<Mutex<Vec<PurposeCommand>>>);

/// Collects the commands, from the first on, until `deaf`.
fn listen(bus: &BusConfig, (commands, inquiries, for_purposes): Heard, deaf: Arc<AtomicBool>) {
    let consumer: BaseConsumer =
        client(bus).set("group.id", "unused").set("enable.auto.commit", "false").create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..ERASURE_COMMANDS.partitions {
        all.add_partition_offset(&bus.topic_name(&ERASURE_COMMANDS), partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&all).unwrap();
    std::thread::spawn(move || {
        while !deaf.load(Ordering::Acquire) {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let payload = message.payload().unwrap();
                match serde_json::from_slice(payload) {
                    Ok(command) => commands.lock().unwrap().push(command),
                    // As participants do: by its type. Here its shape tells as much.
                    Err(_) => match serde_json::from_slice(payload) {
                        Ok(command) => for_purposes.lock().unwrap().push(command),
                        Err(_) => inquiries
                            .lock()
                            .unwrap()
                            .push(serde_json::from_slice(payload).expect("an inquiry")),
                    },
                }
            }
        }
    });
}
