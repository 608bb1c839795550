//! The service as a process runs it: configuration, migrations, start. It guarantees that nothing
//! is served before the stores answered once and there is a policy; listeners, signals and
//! the operations port are the binary's.

use std::path::PathBuf;
use std::sync::Arc;

use assent_bus::parked::{self, ParkedMessages};
use assent_bus::{Access, BusConfig, Producer, consumer, reach};
use assent_contracts::topics::{CONSENT_EVENTS, Topic};
use assent_eventstore::batcher::{Batcher, BatcherConfig};
use assent_eventstore::relay::{self, RelayConfig};
use assent_eventstore::{EventStore, connect, schema};
use assent_http::{Keys, Limits, ServiceClient, router_layers};
use assent_participant::{Arrival, Follows, Keeping, Participant, reader};
use assent_rules::{Place, RuleSet};
use assent_runtime::{
    Clock, Health, Ids, LeaseTerms, Lifecycle, ServiceConfig, Settings, SystemClock, SystemIds,
};
use assent_sealing::LinkKey;
use assent_signing::Issuer;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;

use crate::come_back::ComeBack;
use crate::commands::LedgerHandler;
use crate::contacts::Contacts;
use crate::erasure::Eraser;
use crate::http::{App, Papers, router};
use crate::links::Links;
use crate::policy::Policies;
use crate::retention::Keeper;
use crate::state_keeper::StateKeeper;
use crate::{asks, claims, contacts, expiry, links, standing, state_keeper, views};

/// What it compares its store with.
const OWN_LOG: Topic = CONSENT_EVENTS;

/// What the service must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens, its database, its token.
    pub service: ServiceConfig,
    /// Keys the hashes of idempotency keys.
    pub idempotency_secret: SecretString,
    /// Kafka.
    pub bus: BusConfig,
    /// Who may call.
    pub keys: Arc<Keys>,
    /// The lease.
    pub terms: LeaseTerms,
    /// The legal entity in whose name consent is asked.
    pub controller: String,
    /// Its seat, for the first policy.
    pub country: Option<Place>,
    /// The erasure service.
    pub erasure_url: String,
    /// The rules in force: those that come with Assent and the deployment's own.
    pub rules: Arc<RuleSet>,
    /// Signs receipts.
    pub issuer: Issuer,
    /// How long what keeps people out, and evidence, is kept.
    pub keeping: Keeping,
    /// Makes links and codes.
    pub links: Arc<LinkKey>,
    /// Where preference pages are.
    pub page: Option<String>,
}

/// Connections that only permits use: their plans are pinned, and nothing else can take them all.
pub const PERMIT_CONNECTIONS: u32 = 4;

impl Config {
    /// Reads `[consent]` and what it shares with others; what is wrong is recorded in the settings,
    /// and then the answer is `None`.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Self> {
        let consent = settings.section("consent");
        let services = settings.section("services");
        let service = ServiceConfig::read(settings, "consent", 10);
        let idempotency_secret = consent.optional_secret("idempotency_secret");
        let bus = BusConfig::read(settings);
        let keys = Keys::read(settings);
        let terms = LeaseTerms::read(settings);
        let legal_entity = settings.section("controller");
        let (controller, country) =
            (legal_entity.required("name"), legal_entity.optional("country"));
        let erasure_url = services.required("erasure_url");
        let rules_dir: Option<PathBuf> = consent.optional("rules_dir");
        let rules = RuleSet::with_own(rules_dir.as_deref())
            .map_err(|faults| {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                consent.invalid("rules_dir", faults.join("; "));
            })
            .ok();
        let issuer = consent.file("signing_key_file").and_then(|pem| {
            Issuer::from_pem(&pem)
                .map_err(|error| consent.invalid("signing_key_file", error.to_string()))
                .ok()
        });
        let links = consent.required::<PathBuf>("link_key_file").and_then(|path| {
            LinkKey::load(&path)
                .map_err(|error| consent.invalid("link_key_file", error.to_string()))
                .ok()
        });
        let page: Option<String> = services.optional("public_url");
        let keeping = Keeping::read(settings);
        let service = service?;
        Some(Self {
            // The token is as secret and as stable; losing it only forgets first answers.
            idempotency_secret: idempotency_secret.unwrap_or_else(|| service.token.clone()),
            bus: bus?,
            keys: keys?,
            terms,
            controller: controller?,
            country,
            erasure_url: erasure_url?,
            rules: Arc::new(rules?),
            issuer: issuer?,
            keeping,
            links: Arc::new(links?),
            page: page.map(|url| url.trim_end_matches('/').to_owned()),
            service,
        })
    }
}

/// The service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the consent database: {0}")]
    Database(#[from] sqlx::Error),
    /// Its migrations.
    #[error("the consent database's migrations: {0}")]
    Migrations(#[from] sqlx::migrate::MigrateError),
    /// The first policy.
    #[error("the first policy: {0}")]
    Policy(#[from] crate::policy::PolicyError),
    /// Kafka's client.
    #[error("kafka: {0}")]
    Kafka(String),
    /// The client of the erasure service.
    #[error("the erasure service's address: {0}")]
    Client(#[from] assent_http::ClientError),
    /// Its database was restored, and can't be brought up to what was acknowledged since.
    #[error(transparent)]
    Arrival(#[from] assent_participant::ArrivalError),
}

impl From<assent_participant::Stopped> for StartError {
    fn from(stopped: assent_participant::Stopped) -> Self {
        Self::Arrival(stopped.into())
    }
}

/// All migrations of its database, in their order.
#[must_use]
pub fn migrators() -> [Migrator; 3] {
    [assent_eventstore::migrator(), assent_participant::migrator(), sqlx::migrate!()]
}

async fn first_policy(store: &EventStore, config: &Config) -> Result<(), StartError> {
    let policies =
        Policies { store: store.clone(), clock: Arc::new(SystemClock), ids: Arc::new(SystemIds) };
    policies
        .bootstrap(&config.controller, config.country.as_ref().map(ToString::to_string).as_deref())
        .await?;
    Ok(policies.rules_loaded(&config.rules).await?)
}

/// What the service does with Kafka.
#[must_use]
pub fn access() -> Access {
    Access {
        readers: vec![contacts::READER, links::READER, state_keeper::READER, reader::<Eraser>()],
        replayed: vec![OWN_LOG],
        ..Access::default()
    }
}

/// Serves until the soft stop. The database must be [migrated](migrators).
///
/// # Errors
/// [`StartError`] when it can't start; later failures stop the lifecycle.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    health: Health,
    lifecycle: Lifecycle,
) -> Result<(), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let database_url = config.service.database_url.expose_secret();
    let pool = connect(database_url, config.service.database_connections).await?;
    let permit_pool = permit_pool(database_url).await?;
    let store = EventStore::new(pool.clone(), config.idempotency_secret.expose_secret().as_bytes());
    let saga = ServiceClient::new(&config.erasure_url, &config.service.token)?;
    schema::ready_check(&health, "database", &pool, migrators());
    let arrival = Arrival::at("consent", &pool, &config.bus, &lifecycle).await?;
    arrival.own_log(&store, OWN_LOG, ComeBack, "consent.own-log").await?;
    let participant = Participant {
        steps: Eraser { clock: Arc::clone(&clock), ids: Arc::clone(&ids), keeping: config.keeping },
        store: store.clone(),
        clock: Arc::clone(&clock),
        terms: config.terms,
        saga: saga.clone(),
        bus: config.bus.clone(),
        follows: Vec::new(),
        heard: Arc::default(),
    };
    arrival.erasures(&participant).await?;
    first_policy(&store, &config).await?;

    let app = App::new(
        store.clone(),
        permit_pool,
        Arc::clone(&clock),
        Arc::clone(&ids),
        config.terms,
        BatcherConfig::default(),
        Papers {
            rules: Arc::clone(&config.rules),
            issuer: Arc::new(config.issuer.clone()),
            links: Arc::clone(&config.links),
            page: config.page.clone(),
            keeping: config.keeping,
        },
    );
    lifecycle.spawn(
        "consent.expiry",
        expiry::run(pool.clone(), app.batcher().clone(), Arc::clone(&clock), lifecycle.stopping()),
    );
    lifecycle.spawn(
        "consent.renewals",
        asks::run(pool.clone(), app.batcher().clone(), Arc::clone(&clock), lifecycle.stopping()),
    );
    lifecycle.spawn(
        "consent.claims",
        claims::run(store.clone(), app.batcher().clone(), Arc::clone(&clock), lifecycle.stopping()),
    );
    lifecycle.spawn(
        "consent.standing",
        standing::run(store.clone(), Arc::clone(&clock), Arc::clone(&ids), lifecycle.stopping()),
    );
    reach::watch(&config.bus, &lifecycle);
    let producer =
        Producer::new(&config.bus).map_err(|error| StartError::Kafka(error.to_string()))?;
    lifecycle.spawn(
        "consent.relay",
        relay::run(store.clone(), producer, RelayConfig::default(), lifecycle.stopping()),
    );
    let batcher = app.batcher().clone();
    let (parked, follows) =
        follow(&config, &store, participant, &health, &lifecycle, (clock.clone(), ids, batcher));
    arrival.caught_up(&follows, &*clock).await?;
    // Not before it is known again whose address is which.
    let keeper = Keeper {
        pool: pool.clone(),
        erasure: saga.clone(),
        clock: Arc::clone(&clock),
        keeping: config.keeping,
    };
    lifecycle.spawn("consent.retention", keeper.run(lifecycle.stopping()));
    let cleaned = store.clone();
    let stopping = lifecycle.stopping();
    lifecycle.spawn("consent.cleaning", async move {
        cleaned.keep_clean(clock, stopping).await;
        Ok::<_, std::convert::Infallible>(())
    });

    let router = router(app, parked::router(parked), config.keys);
    let limits = Limits { concurrency_max: config.service.requests_max, ..Limits::default() };
    let router = router_layers(router, limits);
    lifecycle.spawn("consent.http", assent_http::serve(listener, router, lifecycle.clone()));
    Ok(())
}

/// Starts everything that reads from Kafka; what it can't apply is parked.
fn follow(
    config: &Config,
    store: &EventStore,
    mut participant: Participant<Eraser>,
    health: &Health,
    lifecycle: &Lifecycle,
    (clock, ids, batcher): (Arc<dyn Clock>, Arc<dyn Ids>, Batcher<LedgerHandler>),
) -> (ParkedMessages, Vec<Follows>) {
    let contacts = Arc::new(Contacts { batcher });
    let links = Arc::new(Links { clock: Arc::clone(&clock) });
    let keeper = Arc::new(StateKeeper { store: store.clone(), clock, ids });
    let (bus, pool) = (&config.bus, store.pool());
    consumer::spawn(lifecycle, bus.clone(), pool.clone(), Arc::clone(&links)).watch(health);
    consumer::spawn(lifecycle, bus.clone(), pool.clone(), Arc::clone(&keeper)).watch(health);
    consumer::spawn(lifecycle, bus.clone(), pool.clone(), Arc::clone(&contacts)).watch(health);
    let follows = vec![Follows::of(&*links), Follows::of(&*keeper), Follows::of(&*contacts)];
    participant.follows.clone_from(&follows);
    let commands = participant.start(health, lifecycle);
    let parked = ParkedMessages::new(pool.clone(), bus.clone())
        .with(links)
        .with(commands)
        .with(keeper)
        .with(contacts);
    (parked, follows)
}

/// The pool of permits.
///
/// # Errors
/// When nothing answers.
pub async fn permit_pool(database_url: &str) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new()
        .max_connections(PERMIT_CONNECTIONS)
        .acquire_timeout(std::time::Duration::from_secs(1))
        .test_before_acquire(false)
        .connect_with(views::options(database_url)?)
        .await
}
