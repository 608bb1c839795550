//! The vault against real Postgres (and, for its place in the saga, real Kafka).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_bus::parked::ParkedMessages;
use assent_bus::{BusConfig, Producer, ensure_topics};
use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{
    ImportOutcome, ImportRequest, ImportResponse, ImportRow, KeyLeaseRequest, KeyLeaseResponse,
    LookupRequest, LookupResponse, OpenRequest, OpenResponse, ResolveRequest, ResolveResponse,
    SealRequest, SealResponse, SuppressRequest, SuppressResponse, SuppressRow,
};
use assent_contracts::erasure::{Ack, COMMAND, Command, Step};
use assent_contracts::sealed::Sealed;
use assent_contracts::topics::{ERASURE_COMMANDS, VAULT_EVENTS};
use assent_contracts::vault::Origin;
use assent_eventstore::EventStore;
use assent_http::auth::key_entry;
use assent_http::{ClientError, Code, Keys, Limits, ServiceClient, router_layers};
use assent_participant::{Open, Participant, Steps as _, hear};
use assent_runtime::{
    Clock, Health, Ids, LeaseTerms, Lifecycle, ServiceConfig, SystemClock, SystemIds,
};
use assent_sealing::{Aad, DataKey, FileKek, IndexKeys, KeyState, KeyStore, from_text, open};
use assent_vault::App;
use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Row};
use uuid::Uuid;

use assent_tests::cluster::until;
use assent_tests::harness;

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

/// A consent service that notes stops.
async fn consent() -> (String, Arc<Mutex<Vec<Value>>>, Arc<AtomicBool>) {
    let stops = Arc::new(Mutex::new(Vec::new()));
    let down = Arc::new(AtomicBool::new(false));
    let (noted, is_down) = (Arc::clone(&stops), Arc::clone(&down));
    let router = Router::new().route(
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
    (listen(router).await, stops, down)
}

async fn vault() -> Vault {
    let pool = async |area| assent_vault::pool(&harness::database_url(area).await, 10).await;
    let data = pool("vault").await.unwrap();
    let keys = pool("vault_keys").await.unwrap();
    assent_vault::migrate_pool(&data).await.unwrap();
    KeyStore::migrate(&keys).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let kek = FileKek::new(DataKey::generate(&SystemIds), Arc::clone(&ids));
    let index_keys = IndexKeys::generate(&SystemIds);
    let (consent_url, stops, consent_is_down) = consent().await;
    let client =
        |base: &str, token: &str| ServiceClient::new(base, &token.to_owned().into()).unwrap();
    let app = Arc::new(App {
        store: EventStore::new(data.clone(), b""),
        keys: KeyStore::new(keys.clone(), Arc::new(kek), Arc::clone(&clock), Arc::clone(&ids)),
        addresses: index_keys.addresses(),
        fingerprints: index_keys.fingerprints().unwrap(),
        clock,
        ids,
        screening_rows_per_hour: 5_000_000,
        lease: TERMS,
        consent: client(&consent_url, "t"),
        erasure: client("http://127.0.0.1:1", "t"),
    });
    let parked = ParkedMessages::new(data.clone(), BusConfig::new("127.0.0.1:1", "t."));
    let router = assent_vault::router(Arc::clone(&app), parked, api_keys());
    let limits = Limits { body_bytes_max: 4 << 20, ..Limits::default() };
    let base = listen(router_layers(router, limits)).await;
    let (all, plain) = (client(&base, "all"), client(&base, "plain"));
    Vault { app, data, keys, all, plain, stops, consent_is_down }
}

fn row(phone: &str) -> ImportRow {
    ImportRow { phone: phone.to_owned(), country: Some("FR".to_owned()), name: None, email: None }
}

fn number(n: usize) -> String {
    format!("+336{n:08}")
}

impl Vault {
    async fn import(&self, origin: Origin, rows: Vec<ImportRow>) -> Vec<ImportOutcome> {
        let request = ImportRequest { origin, rows };
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
        let row = |phone: &&str| SuppressRow { phone: (*phone).to_owned(), country: None };
        let request = SuppressRequest { rows: phones.iter().map(row).collect() };
        let answer: SuppressResponse = self.all.post("/v1/suppressions", &request, None).await?;
        Ok(answer.outcomes)
    }

    async fn lookup(&self, phone: &str) -> LookupResponse {
        let request =
            LookupRequest { phone: Some(phone.to_owned()), country: None, addresses: vec![] };
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

#[tokio::test]
async fn a_number_is_one_person_in_any_spelling() {
    let vault = vault().await;
    let first = vault.register("06 12 34 56 78").await;
    let rows = vec![row("+33612345678"), row("+5511987654321"), row("+55 11 8765-4321"), row("x")];
    let outcomes = vault.import(Origin::Import, rows).await;
    assert_eq!(outcomes[0], ImportOutcome::Existing { subject_id: first });
    let ImportOutcome::Created { subject_id: second } = outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[2], ImportOutcome::Existing { subject_id: second });
    assert_eq!(
        outcomes[3],
        ImportOutcome::Rejected { reason: "phone_invalid".into(), field: "phone".into() }
    );
    assert_eq!(vault.lookup("551187654321").await.subject_id, Some(second));
    assert_eq!(vault.resolve(second).await.as_deref(), Some("+5511987654321"));
    let events = vault.app.store.load(second, 0, 10).await.unwrap();
    assert_eq!(events.len(), 1, "one event per person");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_imports_of_the_same_numbers_make_one_person_each() {
    let vault = Arc::new(vault().await);
    let imports = (0..12_usize).map(|import| {
        let vault = Arc::clone(&vault);
        tokio::spawn(async move {
            // Each in another order.
            let rows = (0..120).map(|n| row(&number((n * 7 + import * 13) % 120))).collect();
            vault.import(Origin::Import, rows).await
        })
    });
    let (mut created, mut subjects) = (0, BTreeMap::new());
    for (import, outcomes) in imports.collect::<Vec<_>>().into_iter().enumerate() {
        for (n, outcome) in outcomes.await.unwrap().into_iter().enumerate() {
            let subject = match outcome {
                ImportOutcome::Created { subject_id } => {
                    created += 1;
                    subject_id
                }
                ImportOutcome::Existing { subject_id } => subject_id,
                other => panic!("{other:?}"),
            };
            let number = (n * 7 + import * 13) % 120;
            assert_eq!(*subjects.entry(number).or_insert(subject), subject, "one person each");
        }
    }
    assert_eq!((created, subjects.len()), (120, 120));
    assert_eq!(vault.count(&vault.data, "people").await, 120);
    assert_eq!(vault.count(&vault.keys, "keys").await, 120, "losers' keys were taken back");
}

/// Trap 9: all numbers there are fit into a dictionary, so a hash without a key is no protection.
#[tokio::test]
async fn trap_9_no_dictionary_of_numbers_cracks_a_suppression() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::{Digest as _, Sha256, Sha512};

    let vault = vault().await;
    vault.suppress(&["+33600000001"]).await.unwrap();
    let stored: Vec<Vec<u8>> = sqlx::query_scalar("SELECT fingerprint FROM suppressions")
        .fetch_all(&vault.data)
        .await
        .unwrap();
    let held = |hash: &[u8]| stored.iter().any(|it| it.windows(hash.len()).any(|it| it == hash));
    let own = vault.app.fingerprints.fingerprints("+33600000001");
    assert!(own.iter().any(|it| held(&it.0)), "the comparison finds what is there");

    let mut dictionary = Vec::new();
    for spelling in ["+33600000001", "33600000001", "0033600000001", "0600000001", "600000001"] {
        for text in [spelling.to_owned(), format!("tel:{spelling}"), format!("{spelling}\n")] {
            let plain = Sha256::digest(&text).to_vec();
            dictionary.push(Sha256::digest(&plain).to_vec());
            dictionary.push(plain);
            dictionary.push(Sha512::digest(&text)[..32].to_vec());
            let keys: [&[u8]; 6] = [b"", b"assent", b"suppression", b"fingerprint", &[0; 32], &[1]];
            for key in keys {
                let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
                dictionary.push(mac.chain_update(&text).finalize().into_bytes().to_vec());
            }
        }
    }
    assert!(dictionary.iter().all(|hash| !held(hash)), "an unkeyed hash of the number is stored");
    // Under another deployment's key the same number is another fingerprint.
    let other = IndexKeys::generate(&SystemIds).fingerprints().unwrap();
    assert!(other.fingerprints("+33600000001").iter().all(|it| !held(&it.0[1..])));
}

#[tokio::test]
async fn the_suppressed_and_the_erased_stay_out_and_only_some_may_know_why() {
    let vault = vault().await;
    assert_eq!(
        vault.suppress(&["+33600000001", "x"]).await.unwrap(),
        ["suppressed", "phone_invalid"]
    );
    assert_eq!(vault.suppress(&["+33600000001"]).await.unwrap(), ["already_suppressed"]);
    let erased = vault.register("+33600000002").await;
    vault.erase(erased).await;

    let rows = || vec![row("+33600000001"), row("+33600000002")];
    let refused = |reason: &str| ImportOutcome::Refused { reason: reason.to_owned() };
    let told = vault.import(Origin::Operator, rows()).await;
    assert_eq!(told, [refused("suppressed"), refused("erased")]);
    let request = ImportRequest { origin: Origin::Import, rows: rows() };
    let untold: ImportResponse =
        vault.plain.post("/v1/subjects/import", &request, None).await.unwrap();
    assert_eq!(untold.outcomes, [refused("refused"), refused("refused")]);

    // Her own act makes a new person; whoever merely says so may not.
    let request = ImportRequest { origin: Origin::Subject, rows: rows() };
    let lie = vault.plain.post::<_, ImportResponse>("/v1/subjects/import", &request, None).await;
    assert_eq!(code(lie), Some(Code::Forbidden));
    let own = vault.import(Origin::Subject, rows()).await;
    let ImportOutcome::Created { subject_id } = own[1] else { panic!("{own:?}") };
    assert_ne!(subject_id, erased, "nothing is carried over");
}

#[tokio::test]
async fn a_suppression_is_answered_when_the_gate_has_closed_and_can_be_repeated() {
    let vault = vault().await;
    vault.consent_is_down.store(true, Ordering::SeqCst);
    assert_eq!(code(vault.suppress(&["+33600000001"]).await), Some(Code::DependencyUnavailable));
    assert!(vault.stops.lock().unwrap().is_empty());
    vault.consent_is_down.store(false, Ordering::SeqCst);
    assert_eq!(vault.suppress(&["+33600000001"]).await.unwrap(), ["already_suppressed"]);
    vault
        .suppress(&["06 00 00 00 01".replace(' ', "").replacen('0', "+33", 1).as_str()])
        .await
        .unwrap();
    let stops = vault.stops.lock().unwrap().clone();
    assert_eq!(stops.len(), 2);
    assert_eq!(stops[0]["stop_id"], stops[1]["stop_id"], "a repeat changes nothing");
    assert_eq!(stops[0]["kind"], "suppressed");
    let tokens = vault.app.addresses.tokens("+33600000001");
    assert_eq!(stops[0]["addresses"], json!(tokens));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_races_an_erasure_leaves_no_surviving_key() {
    let vault = Arc::new(vault().await);
    for round in 0..5 {
        let subject = vault.register(&number(round)).await;
        let over = Arc::new(AtomicBool::new(false));
        let racers: Vec<_> = (0..6)
            .map(|racer| {
                let (vault, over) = (Arc::clone(&vault), Arc::clone(&over));
                tokio::spawn(async move {
                    let mut served = 0;
                    while !over.load(Ordering::SeqCst) {
                        let got = match racer % 3 {
                            0 => vault.lease(subject).await.is_some(),
                            1 => vault.resolve(subject).await.is_some(),
                            // The lowest way in: a key is asked for as if it had never been.
                            _ => {
                                let state = vault.app.keys.mint(&[subject]).await.unwrap().pop();
                                state.and_then(KeyState::live).is_some()
                            }
                        };
                        served += usize::from(got);
                    }
                    served
                })
            })
            .collect();
        vault.erase(subject).await;
        over.store(true, Ordering::SeqCst);
        let mut served = 0;
        for racer in racers {
            served += racer.await.unwrap();
        }
        assert!(served > 0, "the race took place");
        assert_eq!(vault.app.keys.count_live(&[subject]).await.unwrap(), 0);
        assert_eq!(vault.lease(subject).await, None);
        assert_eq!(vault.resolve(subject).await, None);
        assert_eq!(code(vault.seal(subject, "late").await), Some(Code::SubjectErased));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_at_the_same_command_do_it_once_and_tell_the_same() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    for (step, kind) in
        [(Step::Fence, "tombstones"), (Step::Delete, "people"), (Step::DestroyKeys, "keys")]
    {
        let command = vault.heard(subject, step).await;
        let mut replicas = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (replica, command) = (vault.replica(), command.clone());
            replicas.spawn(async move { replica.carry_out(&command).await });
        }
        let mut told = Vec::new();
        for answer in replicas.join_all().await {
            match answer {
                Ok(evidence) => told.push(evidence),
                // It will look again.
                Err(Open::Elsewhere) => {}
                Err(error) => panic!("{step:?}: {error}"),
            }
        }
        told.push(vault.replica().carry_out(&command).await.unwrap());
        assert!(told.len() > 1, "one at least was told by who did it");
        assert_eq!(told[0].counts[kind], 1, "{step:?}");
        assert!(told.iter().all(|evidence| *evidence == told[0]), "{told:?}");
    }
    let events = vault.app.store.load(subject, 0, 10).await.unwrap();
    assert_eq!(events.len(), 2, "registered and erased, each once");
}

#[tokio::test]
async fn fences_refuse_keys_and_addresses_before_anything_is_deleted() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    vault.step(subject, Step::Fence).await;
    assert_eq!(vault.lease(subject).await, None);
    assert_eq!(vault.resolve(subject).await, None);
    assert_eq!(code(vault.seal(subject, "late").await), Some(Code::SubjectErased));
    let again = vault.import(Origin::Import, vec![row("+33600000001")]).await;
    assert_eq!(again, [ImportOutcome::Refused { reason: "erased".into() }]);
}

#[tokio::test]
async fn a_shredder_that_does_nothing_is_found_by_the_sweep() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    let left = vault.step(subject, Step::Sweep).await;
    for kind in ["people", "addresses", "keys", "unfenced"] {
        assert_eq!(left[kind], 1, "{kind}");
    }
    vault.step(subject, Step::Fence).await;
    assert_eq!(vault.step(subject, Step::Sweep).await["people"], 1);
    vault.step(subject, Step::Delete).await;
    let left = vault.step(subject, Step::Sweep).await;
    assert_eq!((left["people"], left["addresses"], left["keys"]), (0, 0, 1));
    vault.step(subject, Step::DestroyKeys).await;
    assert!(vault.step(subject, Step::Sweep).await.values().all(|count| *count == 0));
    let stops = vault.stops.lock().unwrap().clone();
    assert_eq!(stops.last().unwrap()["kind"], "erased");
    let events = vault.app.store.load(subject, 0, 10).await.unwrap();
    assert_eq!(events.last().unwrap().event_type, assent_contracts::vault::SUBJECT_ERASED);
    // Repeating the whole changes nothing.
    vault.erase(subject).await;
    assert_eq!(vault.app.store.load(subject, 0, 10).await.unwrap().len(), events.len());
}

#[tokio::test]
async fn access_is_on_record_before_anything_is_decrypted() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    assert_eq!(vault.resolve(subject).await.as_deref(), Some("+33600000001"));
    let page: Value =
        vault.all.get(&format!("/v1/access-records?subject_id={subject}")).await.unwrap();
    let record = &page["items"][0];
    assert_eq!(record["caller"], "all");
    assert_eq!(record["reason"], "send");
    assert_eq!(record["field"], "phone");

    sqlx::query("ALTER TABLE access_records ADD CONSTRAINT broken CHECK (false) NOT VALID")
        .execute(&vault.data)
        .await
        .unwrap();
    let request = ResolveRequest { reason: "send".to_owned(), subjects: vec![subject] };
    let refused =
        vault.all.post::<_, ResolveResponse>("/v1/addresses/resolve", &request, None).await;
    assert_eq!(code(refused), Some(Code::Internal));
    let request = KeyLeaseRequest { reason: "seal".to_owned(), subjects: vec![subject] };
    let refused = vault.all.post::<_, KeyLeaseResponse>("/v1/keys/lease", &request, None).await;
    assert_eq!(code(refused), Some(Code::Internal));
    let count: i64 = vault.count(&vault.data, "access_records").await;
    assert_eq!(count, 1, "a reason that is no code isn't even recorded");
    let request = ResolveRequest { reason: "+33600000001".to_owned(), subjects: vec![subject] };
    let refused =
        vault.all.post::<_, ResolveResponse>("/v1/addresses/resolve", &request, None).await;
    assert_eq!(code(refused), Some(Code::ValidationFailed));
}

#[tokio::test]
async fn what_was_sealed_for_a_person_opens_with_her_key_only() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    let sealed = vault.seal(subject, "she said yes").await.unwrap().sealed;
    let key = vault.app.keys.get(&[subject]).await.unwrap().pop().unwrap().live().unwrap();
    let aad = Aad { subject, record: Uuid::nil(), field: "consent.evidence", version: key.version };
    // The record that it is bound to travels with it.
    let (record, text) = sealed.0.split_once('.').unwrap();
    assert_eq!(record, Uuid::nil().to_string());
    let bytes = from_text(&Sealed(text.to_owned())).unwrap();
    assert_eq!(open(&key.key, aad, &bytes).unwrap().as_slice(), b"she said yes");
    let leased = vault.lease(subject).await.unwrap();
    assert!(open(&decode(&leased), aad, &bytes).is_err(), "a lease is a key of its own");
    assert_eq!(code(vault.seal(Uuid::nil(), "x").await), Some(Code::SubjectUnknown));
}

#[tokio::test]
async fn sealed_evidence_opens_again_on_record_and_for_nobody_else() {
    let vault = vault().await;
    let (subject, other) =
        (vault.register("+33600000001").await, vault.register("+33600000002").await);
    let sealed = vault.seal(subject, "she said yes").await.unwrap().sealed;
    let opened = async |subject_id, sealed: &Sealed| -> Result<OpenResponse, ClientError> {
        let request = OpenRequest {
            reason: "dispute".to_owned(),
            subject_id,
            field: "consent.evidence".to_owned(),
            sealed: sealed.clone(),
        };
        vault.all.post("/v1/open", &request, None).await
    };
    assert_eq!(opened(subject, &sealed).await.map(|it| it.text).unwrap(), "she said yes");
    let records = "SELECT reason, field FROM access_records WHERE subject_id = $1";
    let record: (String, String) =
        sqlx::query_as(records).bind(subject).fetch_one(&vault.data).await.unwrap();
    assert_eq!(record, ("dispute".to_owned(), "consent.evidence".to_owned()));

    assert_eq!(code(opened(other, &sealed).await), Some(Code::ValidationFailed));
    let moved = Sealed(sealed.0.replace(&Uuid::nil().to_string(), &Uuid::max().to_string()));
    assert_eq!(code(opened(subject, &moved).await), Some(Code::ValidationFailed));
    assert_eq!(code(opened(Uuid::nil(), &sealed).await), Some(Code::SubjectUnknown));
}

fn decode(text: &str) -> DataKey {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).unwrap();
    DataKey::from_bytes(bytes.try_into().unwrap())
}

#[tokio::test]
async fn a_key_store_that_is_away_leaves_nothing_half_written() {
    let vault = vault().await;
    vault.keys.close().await;
    let request = ImportRequest { origin: Origin::Import, rows: vec![row("+33600000001")] };
    let refused = vault.all.post::<_, ImportResponse>("/v1/subjects/import", &request, None).await;
    assert_eq!(code(refused), Some(Code::DependencyUnavailable));
    for table in ["people", "addresses", "eventstore.events", "eventstore.outbox"] {
        assert_eq!(vault.count(&vault.data, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn nothing_identifying_reaches_a_table_file_in_plain() {
    let vault = vault().await;
    let person = ImportRow {
        phone: "+33 6 98 76 54 32".to_owned(),
        country: None,
        name: Some("Canarina Kestrel".to_owned()),
        email: Some("canarina@kestrel.example".to_owned()),
    };
    let outcomes = vault.import(Origin::Import, vec![person]).await;
    let ImportOutcome::Created { subject_id } = outcomes[0] else { panic!("{outcomes:?}") };
    vault.resolve(subject_id).await.unwrap();
    vault.seal(subject_id, "Canarina Kestrel").await.unwrap();
    vault.suppress(&["+33698765432"]).await.unwrap();
    vault.step(subject_id, Step::Fence).await;
    vault.step(subject_id, Step::Delete).await;

    let canaries: [&[u8]; 4] = [b"Canarina", b"Kestrel", b"kestrel.example", b"698765432"];
    for pool in [&vault.data, &vault.keys] {
        let files = table_files(pool).await;
        for canary in canaries {
            assert!(!contains(&files, canary), "{}", String::from_utf8_lossy(canary));
        }
        // The control: a scan that can't find anything proves nothing.
        sqlx::query("CREATE TABLE control AS SELECT 'Canarina 698765432' AS text")
            .execute(pool)
            .await
            .unwrap();
        assert!(contains(&table_files(pool).await, b"Canarina 698765432"));
    }
}

#[tokio::test]
async fn a_destroyed_key_leaves_the_files_of_the_key_store() {
    let vault = vault().await;
    let (gone, kept) = (Uuid::from_u128(11), Uuid::from_u128(12));
    vault.app.keys.mint(&[gone, kept]).await.unwrap();
    let (bytes, other) = (vault.wrapped(gone).await.unwrap(), vault.wrapped(kept).await.unwrap());
    let files = table_files(&vault.keys).await;
    assert!(contains(&files, &bytes) && contains(&files, &other), "the control");

    assert_eq!(vault.app.keys.destroy(&[gone]).await.unwrap(), 1);
    let files = table_files(&vault.keys).await;
    assert!(!contains(&files, &bytes), "neither in dead rows nor in free space");
    assert!(contains(&files, &other));

    // Destroyed, never made and alive stay apart, whatever is asked after.
    let never = Uuid::from_u128(13);
    let states = vault.app.keys.get(&[gone, kept, never]).await.unwrap();
    assert!(matches!(states[..], [KeyState::Destroyed, KeyState::Live(_), KeyState::Never]));
    assert!(matches!(vault.app.keys.mint(&[gone]).await.unwrap()[..], [KeyState::Destroyed]));
    vault.app.keys.destroy(&[never]).await.unwrap();
    assert!(matches!(vault.app.keys.mint(&[never]).await.unwrap()[..], [KeyState::Destroyed]));
}

#[tokio::test]
async fn a_key_is_destroyed_only_when_no_older_transaction_keeps_its_bytes() {
    for older in ["of another database", "of its own"] {
        let vault = vault().await;
        let gone = Uuid::from_u128(11);
        vault.app.keys.mint(&[gone]).await.unwrap();
        let bytes = vault.wrapped(gone).await.unwrap();
        let (pool, it) = match older {
            "of its own" => {
                (&vault.keys, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM keys")
            }
            _ => (&vault.data, "SELECT pg_current_xact_id()"),
        };
        let mut open = pool.begin().await.unwrap();
        sqlx::raw_sql(it).execute(&mut *open).await.unwrap();

        let keys = vault.app.keys.clone();
        let mut destroying = tokio::spawn(async move { keys.destroy(&[gone]).await });
        until("the key is destroyed", async || vault.wrapped(gone).await.is_none()).await;
        let early = tokio::time::timeout(Duration::from_millis(500), &mut destroying).await;
        assert!(early.is_err(), "{older}: it was not waited for");
        open.commit().await.unwrap();
        destroying.await.unwrap().unwrap();
        assert!(!contains(&table_files(&vault.keys).await, &bytes), "{older}");
    }
}

/// The bytes of all tables and indexes of a database, page by page as they go to disk. Read through
/// the server: a checkpoint that brings them there would wait for what all other tests write.
async fn table_files(pool: &PgPool) -> Vec<u8> {
    sqlx::query("CREATE EXTENSION IF NOT EXISTS pageinspect").execute(pool).await.unwrap();
    let pages: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT get_raw_page(c.oid::regclass::text, page::int) FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace,
              generate_series(0, pg_relation_size(c.oid) / 8192 - 1) AS page
         WHERE c.relkind IN ('r', 'i', 't') AND n.nspname <> 'pg_catalog'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    pages.concat()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vault_answers_the_sagas_commands_over_kafka_and_answers_a_repeat_alike() {
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    ensure_topics(&bus, &[VAULT_EVENTS, ERASURE_COMMANDS]).await.unwrap();
    let (consent_url, _, _) = consent().await;
    let acks: Arc<Mutex<Vec<Ack>>> = Arc::default();
    let noted = Arc::clone(&acks);
    let erasure_url = listen(Router::new().route(
        "/v1/requests/{id}/acks",
        post(move |axum::Json(ack): axum::Json<Ack>| async move {
            noted.lock().unwrap().push(ack);
            axum::http::StatusCode::NO_CONTENT
        }),
    ))
    .await;

    let folder = std::env::temp_dir().join(harness::unique("vault"));
    std::fs::create_dir(&folder).unwrap();
    FileKek::generate(&folder.join("kek"), &SystemIds).unwrap();
    IndexKeys::generate(&SystemIds).write(&folder.join("index.toml")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = assent_vault::Config {
        service: ServiceConfig {
            listen: address,
            ops_listen: address,
            database_url: harness::database_url("vault").await.into(),
            database_connections: 8,
            token: "t".to_owned().into(),
        },
        keys_database_url: harness::database_url("vault_keys").await.into(),
        kek_file: folder.join("kek"),
        index_keys_file: folder.join("index.toml"),
        bus: bus.clone(),
        keys: api_keys(),
        terms: TERMS,
        screening_rows_per_hour: 5_000_000,
        consent_url,
        erasure_url,
    };
    assent_vault::migrate(&config).await.unwrap();
    let (health, lifecycle) = (Health::new(), Lifecycle::new());
    assent_vault::serve(config, listener, health.clone(), lifecycle.clone()).await.unwrap();
    until("the vault is ready", async || health.unready().await.is_empty()).await;

    let client =
        ServiceClient::new(&format!("http://{address}"), &"all".to_owned().into()).unwrap();
    let request = ImportRequest { origin: Origin::Import, rows: vec![row("+33600000001")] };
    let answer: ImportResponse = client.post("/v1/subjects/import", &request, None).await.unwrap();
    let ImportOutcome::Created { subject_id } = answer.outcomes[0] else { panic!() };

    let producer = Producer::new(&bus).unwrap();
    let delete = command(subject_id, Step::Delete);
    for command in [
        command(subject_id, Step::Fence),
        delete.clone(),
        delete.clone(),
        command(subject_id, Step::DestroyKeys),
        command(subject_id, Step::Sweep),
    ] {
        let before = acks.lock().unwrap().len();
        let payload = serde_json::to_vec(&command).unwrap();
        let record = assent_bus::producer::Record {
            topic: ERASURE_COMMANDS.suffix,
            key: subject_id,
            sequence: None,
            event_sequence: None,
            id: SystemIds.v7(),
            event_type: COMMAND,
            time: SystemClock.now(),
            traceparent: None,
            payload: Some(&payload),
        };
        for sent in producer.send(&[record]).await {
            sent.unwrap();
        }
        until(&format!("{:?} is answered", command.step), async || {
            acks.lock().unwrap().len() > before
        })
        .await;
    }
    let acks = acks.lock().unwrap().clone();
    let steps: Vec<Step> = acks.iter().map(|ack| ack.step).collect();
    assert_eq!(steps, [Step::Fence, Step::Delete, Step::Delete, Step::DestroyKeys, Step::Sweep]);
    assert_eq!(acks[1].evidence.counts["people"], 1);
    assert_eq!(acks[1].evidence.counts, acks[2].evidence.counts, "a repeat answers alike");
    assert_eq!(acks[1].evidence.digest, acks[2].evidence.digest);
    assert!(acks[4].evidence.counts.values().all(|count| *count == 0));
    let topic = bus.topic_name(&ERASURE_COMMANDS);
    assert!(acks[4].evidence.positions[&topic].values().sum::<i64>() >= 4, "what it had consumed");
    lifecycle.stop_and_wait(Duration::from_secs(10)).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn tokens_in_lookups_are_of_all_spellings() {
    let index = IndexKeys::generate(&SystemIds).addresses();
    let tokens: Vec<AddressToken> = index.tokens("+5511987654321");
    assert_eq!(tokens.len(), 2);
}
