//! A consent service of a test's own, reached over HTTP like in production; vault events are
//! handed to its subscriber directly.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::{Received, Subscriber};
use assent_consent::http::{App, Papers, router};
use assent_consent::links::Links;
use assent_consent::policy::{Policies, in_force};
use assent_consent::service::{PERMIT_CONNECTIONS, migrators};
use assent_consent::views;
use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{
    ConsentAnswer, Decision, GrantRequest, Permit, PermitAsk, PermitsRequest, PermitsResponse,
    Stop, StopKind, StopsRequest, StopsResponse, Verdict, VerdictRequest, WithdrawRequest,
};
use assent_contracts::consent::{Actor, Method};
use assent_contracts::policy::{Policy, PolicyInForce, Purpose};
use assent_contracts::sealed::Sealed;
use assent_contracts::topics::VAULT_EVENTS;
use assent_contracts::vault::{Origin, SUBJECT_REGISTERED, SubjectRegistered};
use assent_eventstore::batcher::BatcherConfig;
use assent_eventstore::{EventStore, connect, schema};
use assent_http::auth::key_entry;
use assent_http::{ClientError, Keys, ServiceClient};
use assent_participant::Keeping;
use assent_rules::RuleSet;
use assent_runtime::{Clock, Ids, LeaseTerms, Lifecycle, ManualClock, SystemClock, SystemIds};
use assent_sealing::{DataKey, LinkKey};
use assent_signing::Issuer;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use assent_tests::harness;

/// Short, so that tests are; long against what a request takes.
pub const LEASE: Duration = Duration::from_millis(400);

pub struct World {
    pub client: ServiceClient,
    pub operator: ServiceClient,
    pub app: App,
    pub store: EventStore,
    pub pool: PgPool,
    pub terms: LeaseTerms,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub policies: Policies,
}

pub async fn world() -> World {
    world_at(Arc::new(SystemClock)).await
}

/// A clock that goes from `start` on.
pub fn ticking(start: &str) -> Arc<ManualClock> {
    let clock = Arc::new(ManualClock::at(start.parse().unwrap()));
    tick(&clock);
    clock
}

/// From now on it goes, never faster than time.
pub fn tick(clock: &Arc<ManualClock>) {
    let clock = Arc::clone(clock);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            clock.advance(Duration::from_millis(10));
        }
    });
}

/// A service that lives by `clock`.
pub async fn world_at(clock: Arc<dyn Clock>) -> World {
    let url = harness::database_url("gate").await;
    let pool = connect(&url, 8).await.expect("the test database answers");
    schema::migrate(&pool, migrators()).await.expect("migrations run");
    let store = EventStore::new(pool.clone(), b"secret of the test");
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let policies =
        Policies { store: store.clone(), clock: Arc::clone(&clock), ids: Arc::clone(&ids) };
    policies.bootstrap("Acme", None).await.expect("the first policy");
    let terms = LeaseTerms { length: LEASE, drift: Duration::from_millis(20) };
    // As the service's own, with the patience of a busy machine.
    let permits = PgPoolOptions::new()
        .max_connections(PERMIT_CONNECTIONS)
        .acquire_timeout(Duration::from_secs(30))
        .test_before_acquire(false)
        .connect_with(views::options(&url).expect("an address of Postgres"))
        .await
        .expect("the test database answers");
    let app = App::new(
        store.clone(),
        permits,
        Arc::clone(&clock),
        Arc::clone(&ids),
        terms,
        BatcherConfig::default(),
        Papers {
            rules: Arc::new(RuleSet::shipped().expect("sound rules")),
            issuer: Arc::new(Issuer::from_seed(&[7; 32])),
            links: Arc::new(links()),
            page: Some("https://acme.example".to_owned()),
            keeping: Keeping::default(),
        },
    );

    let service = [
        "claims:review",
        "consent:read",
        "consent:write",
        "gate:write",
        "permits:write",
        "restrictions:write",
        "suppression:read",
    ]
    .as_slice();
    let keys = format!(
        "{}{}",
        key_entry("messaging", "service", service),
        key_entry("operator", "operator", &["consent:read", "consent:write", "policy:write"])
    );
    let keys = Arc::new(Keys::parse(&keys).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(assent_http::serve(
        listener,
        router(app.clone(), axum::Router::new(), keys),
        Lifecycle::new(),
    ));
    let client = ServiceClient::new(&base, &"service".into()).unwrap();
    let operator = ServiceClient::new(&base, &"operator".into()).unwrap();
    World { client, operator, app, store, pool, terms, clock, ids, policies }
}

/// The key of the service's links.
pub fn links() -> LinkKey {
    LinkKey::new(&DataKey::from_bytes([8; 32]))
}

pub fn token(n: u16) -> AddressToken {
    let mut mac = [0; 32];
    mac[..2].copy_from_slice(&n.to_be_bytes());
    AddressToken { key_id: 1, mac }
}

pub fn tokens(of: &[u16]) -> Vec<AddressToken> {
    of.iter().copied().map(token).collect()
}

impl World {
    /// Someone with these addresses, as the vault tells of her.
    pub async fn person(&self, addresses: &[u16]) -> SubjectId {
        let subject = self.ids.v4();
        self.link(subject, addresses).await;
        subject
    }

    /// Someone with this address who agreed to marketing.
    pub async fn consenting(&self, address: u16) -> SubjectId {
        let subject = self.person(&[address]).await;
        self.grant(subject).await.expect("a grant");
        subject
    }

    pub async fn link(&self, subject: SubjectId, addresses: &[u16]) {
        self.hear(&[self.registered(subject, addresses)]).await;
    }

    pub fn registered(&self, subject: SubjectId, addresses: &[u16]) -> Received {
        let data = SubjectRegistered {
            addresses: tokens(addresses),
            region: None,
            fields: vec!["phone".to_owned()],
            origin: Origin::Import,
            at: self.clock.now(),
        };
        self.vault_event(subject, SUBJECT_REGISTERED, &data)
    }

    pub fn vault_event<T: serde::Serialize>(
        &self,
        key: Uuid,
        event_type: &str,
        data: &T,
    ) -> Received {
        Received {
            topic: VAULT_EVENTS,
            partition: 0,
            offset: 0,
            key,
            sequence: 1,
            event_sequence: None,
            id: self.ids.v7(),
            event_type: event_type.to_owned(),
            time: self.clock.now(),
            traceparent: None,
            data: serde_json::to_vec(data).unwrap(),
        }
    }

    pub async fn hear(&self, events: &[Received]) {
        let mut transaction = self.pool.begin().await.unwrap();
        let links = Links { clock: Arc::clone(&self.clock) };
        links.apply(&mut transaction, events).await.expect("the vault's events apply");
        transaction.commit().await.unwrap();
    }

    pub fn grant_request(&self, subject_id: SubjectId) -> GrantRequest {
        GrantRequest {
            subject_id,
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
            actor: Actor::Operator,
            method: Method::Api,
            evidence: None,
            acted_at: None,
            locale: None,
            notice_hash: None,
            place: None,
            addresses: Vec::new(),
        }
    }

    pub async fn grant(&self, subject: SubjectId) -> Result<ConsentAnswer, ClientError> {
        self.post_grant(&self.grant_request(subject), None).await
    }

    pub async fn prove(&self, subject: SubjectId) -> Result<ConsentAnswer, ClientError> {
        let evidence = Some(Sealed("c2VhbGVk".to_owned()));
        self.post_grant(&GrantRequest { evidence, ..self.grant_request(subject) }, None).await
    }

    pub async fn opt_in(
        &self,
        subject: SubjectId,
        addresses: &[u16],
    ) -> Result<ConsentAnswer, ClientError> {
        let request = GrantRequest {
            actor: Actor::Subject,
            method: Method::WhatsappMessage,
            addresses: tokens(addresses),
            ..self.grant_request(subject)
        };
        self.post_grant(&request, None).await
    }

    pub async fn post_grant(
        &self,
        request: &GrantRequest,
        key: Option<&str>,
    ) -> Result<ConsentAnswer, ClientError> {
        self.client.post("/v1/consents/grant", request, key).await
    }

    pub fn withdrawal(&self, subject_id: SubjectId) -> WithdrawRequest {
        WithdrawRequest {
            subject_id,
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
            actor: Actor::Subject,
            method: Method::Api,
            evidence: None,
            acted_at: None,
            place: None,
        }
    }

    pub async fn withdraw(
        &self,
        subject: SubjectId,
        key: Option<&str>,
    ) -> Result<ConsentAnswer, ClientError> {
        self.client.post("/v1/consents/withdraw", &self.withdrawal(subject), key).await
    }

    pub fn ask(&self, subject_id: SubjectId, addresses: &[u16]) -> PermitAsk {
        PermitAsk {
            message_id: self.ids.v7(),
            subject_id,
            addresses: tokens(addresses),
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
            template: "hello".to_owned(),
        }
    }

    pub async fn permits(&self, asks: Vec<PermitAsk>) -> Vec<Permit> {
        let response: PermitsResponse = self
            .client
            .post("/v1/permits", &PermitsRequest { asks }, None)
            .await
            .expect("permits are answered");
        response.permits
    }

    /// The gate's reasons for one ask.
    pub async fn reasons(&self, subject: SubjectId, addresses: &[u16]) -> Vec<String> {
        self.permits(vec![self.ask(subject, addresses)]).await.remove(0).verdict.reasons
    }

    pub async fn confirm(&self, subject: SubjectId, addresses: &[u16]) -> Verdict {
        let ask =
            PermitAsk { purpose: "stop_confirmation".to_owned(), ..self.ask(subject, addresses) };
        self.permits(vec![ask]).await.remove(0).verdict
    }

    pub async fn verdict(&self, subject_id: SubjectId) -> Verdict {
        let request = VerdictRequest {
            subject_id,
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
        };
        self.client.post("/v1/verdict", &request, None).await.expect("a verdict")
    }

    pub async fn stop(&self, addresses: &[u16], kind: StopKind) -> StopsResponse {
        let stop = Stop {
            stop_id: self.ids.v7(),
            addresses: tokens(addresses),
            kind,
            method: None,
            heard_at: self.clock.now(),
        };
        self.stops(&StopsRequest { stops: vec![stop] }).await
    }

    pub async fn stops(&self, request: &StopsRequest) -> StopsResponse {
        self.client.post("/v1/gate/stops", request, None).await.expect("stops are taken")
    }

    /// Defines a purpose whose consents are valid for a day.
    pub async fn a_day_long(&self, purpose: &str) {
        self.change_policy(|policy| {
            let marketing = policy.purposes["marketing"].clone();
            let daily = Purpose { validity_days: Some(1), ..marketing };
            policy.purposes.insert(purpose.to_owned(), daily);
        })
        .await;
    }

    /// Applies the policy in force with a change.
    pub async fn change_policy(&self, change: impl FnOnce(&mut Policy)) -> PolicyInForce {
        let mut conn = self.pool.acquire().await.unwrap();
        let mut current = in_force(&mut conn).await.unwrap().expect("a policy");
        change(&mut current.policy);
        let applied = self.policies.apply(current.policy, current.version, "operator", None).await;
        applied.expect("the policy applies")
    }
}

pub fn allowed(permit: &Permit) -> bool {
    permit.verdict.verdict == Decision::Allow
}

pub fn code(error: &ClientError) -> String {
    error.code().map(|code| code.to_string()).unwrap_or_else(|| error.to_string())
}

/// Different transactions that wrote the ledger lines.
pub async fn transactions(pool: &PgPool) -> usize {
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT xmin::text FROM consent_lines").fetch_all(pool).await.unwrap();
    ids.into_iter().collect::<BTreeSet<_>>().len()
}
