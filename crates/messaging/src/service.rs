//! The service as a process runs it: migrations, start. It guarantees that nothing is served before the
//! stores answered once; listeners, signals and the operations port are the binary's.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::parked::{self, ParkedMessages};
use assent_bus::{Access, Producer, consumer, reach};
use assent_contracts::topics::{MESSAGING_EVENTS, Topic};
use assent_eventstore::batcher::{Batcher, BatcherConfig};
use assent_eventstore::relay::{self, RelayConfig};
use assent_eventstore::{EventStore, connect, schema};
use assent_http::{Limits, ServiceClient, router_layers};
use assent_participant::{Arrival, Follows, Participant, reader};
use assent_runtime::{Clock, Health, Ids, Lifecycle, SystemClock, SystemIds};
use assent_sealing::{
    IndexKeys, IndexKeysError, KekError, KeyFileError, KeyStore, KeyStoreError, index_keys,
};
use axum::Router;
use secrecy::ExposeSecret as _;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::api::{FILE_BYTES_MAX, router};
use crate::bot::engine::Engine;
use crate::come_back::ComeBack;
use crate::config::Config;
use crate::hour_keys::HourKeys;
use crate::intake::Intake;
use crate::person_keys::PersonKeys;
use crate::questions::Questions;
use crate::state::{Messaging, Parts};
use crate::whatsapp::client::{Provider, ProviderError};
use crate::{
    bot, campaigns, dispatcher, forwarder, housekeeping, identities, outcomes, processor,
    questions, requests, templates,
};

/// What it compares its store with.
const OWN_LOG: Topic = MESSAGING_EVENTS;
/// A loop that reports nothing for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(120);
/// Connections to the hourly keys.
const KEYS_CONNECTIONS: u32 = 4;

/// The service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A database.
    #[error("the messaging databases: {0}")]
    Database(#[from] sqlx::Error),
    /// Its migrations.
    #[error("the messaging databases' migrations: {0}")]
    Migrations(#[from] sqlx::migrate::MigrateError),
    /// A key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The key-encryption key.
    #[error("messaging's wrapping key: {0}")]
    Kek(#[from] KekError),
    /// The key store, or a wrapping key that its keys still need.
    #[error("messaging's {0}")]
    Keys(#[from] KeyStoreError),
    /// An index key is missing, or another one.
    #[error("messaging's {0}")]
    IndexKeys(#[from] IndexKeysError),
    /// Kafka's client.
    #[error("kafka: {0}")]
    Kafka(String),
    /// The client of another service.
    #[error("another service's address: {0}")]
    Client(#[from] assent_http::ClientError),
    /// The provider's client.
    #[error(transparent)]
    Provider(#[from] ProviderError),
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

/// Builds the service without starting anything.
///
/// # Errors
/// [`StartError`].
pub async fn build(
    config: Config,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
) -> Result<Messaging, StartError> {
    let pool =
        connect(config.service.database_url.expose_secret(), config.service.database_connections)
            .await?;
    let keys = connect(config.keys_database_url.expose_secret(), KEYS_CONNECTIONS).await?;
    let key_store =
        KeyStore::new(keys, config.kek.open(&ids)?, Arc::clone(&clock), Arc::clone(&ids));
    let index = IndexKeys::load(&config.index_keys_file)?.addresses();
    let vault = ServiceClient::new(&config.vault_url, &config.service.token)?;
    let whatsapp = &config.whatsapp;
    let provider = Provider::new(
        &whatsapp.base_url,
        &whatsapp.version,
        &whatsapp.phone_number_id,
        &whatsapp.access_token,
        whatsapp.timeout,
    )?;
    let store = EventStore::new(pool, config.idempotency_secret.expose_secret().as_bytes());
    Ok(Messaging::from(Parts {
        intake: Batcher::start(store.clone(), Intake, BatcherConfig::default()),
        store,
        index,
        hour_keys: HourKeys::new(key_store, Arc::clone(&clock), Arc::clone(&ids)),
        person_keys: PersonKeys::new(
            vault.clone(),
            Arc::clone(&clock),
            Arc::clone(&ids),
            config.terms,
        ),
        consent: ServiceClient::new(&config.consent_url, &config.service.token)?,
        vault,
        erasure: ServiceClient::new(&config.erasure_url, &config.service.token)?,
        projector: ServiceClient::new(&config.projector_url, &config.service.token)?,
        provider,
        clock,
        ids,
        queued: Notify::new(),
        moved: Notify::new(),
        received: Notify::new(),
        declared: Notify::new(),
        asked: Notify::new(),
        identities: Notify::new(),
        campaigns: Notify::new(),
        turns: Notify::new(),
        engine: config.conversations.engine.as_ref().map(Engine::new).transpose()?,
        config,
    }))
}

/// What the service does with Kafka.
#[must_use]
pub fn access() -> Access {
    Access {
        readers: vec![questions::READER, reader::<Messaging>()],
        replayed: vec![OWN_LOG],
        ..Access::default()
    }
}

/// Serves until the soft stop. The databases must be [migrated](migrators).
///
/// # Errors
/// [`StartError`] when it can't start; later failures stop the lifecycle.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    health: Health,
    lifecycle: Lifecycle,
) -> Result<(), StartError> {
    let messaging = build(config, Arc::new(SystemClock), Arc::new(SystemIds)).await?;
    messaging.hour_keys.check().await?;
    let hashing = IndexKeys::load(&messaging.config.index_keys_file)?;
    // It hashes under no others, also where its file holds them: that file may be the vault's.
    let names: Vec<_> = hashing.names().into_iter().filter(|key| key.kind == "address").collect();
    index_keys::check(messaging.pool(), &names, messaging.clock.now()).await?;
    checks(&messaging, &health);
    let bus = messaging.config.bus.clone();
    let arrival = Arrival::at("messaging", messaging.pool(), &bus, &lifecycle).await?;
    arrival.own_log(&messaging.store, OWN_LOG, ComeBack, "messaging.own-log").await?;
    // Nobody is forgotten while what came in before waits to be read, so reading goes on meanwhile.
    read_on(&messaging, &health, &lifecycle);
    let questions = Arc::new(Questions(messaging.clone()));
    let follows = vec![Follows::of(&*questions)];
    let participant = Participant {
        steps: messaging.clone(),
        store: messaging.store.clone(),
        clock: Arc::clone(&messaging.clock),
        terms: messaging.config.terms,
        saga: messaging.erasure.clone(),
        bus: bus.clone(),
        follows: follows.clone(),
        heard: Arc::default(),
    };
    arrival.erasures(&participant).await?;
    reach::watch(&bus, &lifecycle);
    let producer = Producer::new(&messaging.config.bus)
        .map_err(|error| StartError::Kafka(error.to_string()))?;
    lifecycle.spawn(
        "messaging.relay",
        relay::run(messaging.store.clone(), producer, RelayConfig::default(), lifecycle.stopping()),
    );
    consumer::spawn(&lifecycle, bus.clone(), messaging.pool().clone(), Arc::clone(&questions))
        .watch(&health);
    let commands = participant.start(&health, &lifecycle);
    arrival.caught_up(&follows, &*messaging.clock).await?;
    let parked = ParkedMessages::new(messaging.pool().clone(), bus).with(commands).with(questions);
    serve_and_send(&messaging, parked::router(parked), listener, &health, &lifecycle);
    Ok(())
}

/// Starts everything that needs no Kafka: the API, `operations` with it, and the loops behind it.
pub fn run(
    messaging: &Messaging,
    operations: Router,
    listener: TcpListener,
    health: &Health,
    lifecycle: &Lifecycle,
) {
    checks(messaging, health);
    read_on(messaging, health, lifecycle);
    serve_and_send(messaging, operations, listener, health, lifecycle);
}

/// What came in is read, and what it says is told.
fn read_on(messaging: &Messaging, health: &Health, lifecycle: &Lifecycle) {
    let stopping = lifecycle.stopping();
    lifecycle.spawn(
        "messaging.forwarder",
        forwarder::run(messaging.clone(), stopping.clone(), health.watchdog("forwarder", PATIENCE)),
    );
    lifecycle.spawn(
        "messaging.requests",
        requests::run(messaging.clone(), stopping.clone(), health.watchdog("requests", PATIENCE)),
    );
    lifecycle.spawn(
        "messaging.processor",
        processor::run(messaging.clone(), stopping.clone(), health.watchdog("processor", PATIENCE)),
    );
    lifecycle.spawn(
        "messaging.identities",
        identities::run(messaging.clone(), stopping, health.watchdog("identities", PATIENCE)),
    );
}

fn serve_and_send(
    messaging: &Messaging,
    operations: Router,
    listener: TcpListener,
    health: &Health,
    lifecycle: &Lifecycle,
) {
    let stopping = lifecycle.stopping();
    lifecycle.spawn(
        "messaging.dispatcher",
        dispatcher::run(
            messaging.clone(),
            lifecycle.clone(),
            health.watchdog("dispatcher", PATIENCE),
        ),
    );
    lifecycle.spawn("messaging.reaper", dispatcher::reap(messaging.clone(), lifecycle.clone()));
    lifecycle.spawn("messaging.outcomes", outcomes::run(messaging.clone(), stopping.clone()));
    campaigns::run::spawn(messaging, health, lifecycle);
    lifecycle.spawn(
        "messaging.bot",
        bot::run(messaging.clone(), stopping.clone(), health.watchdog("bot", PATIENCE)),
    );
    lifecycle.spawn("messaging.templates", templates::follow(messaging.clone(), stopping.clone()));
    lifecycle
        .spawn("messaging.housekeeping", housekeeping::run(messaging.clone(), stopping.clone()));
    let (keys_of, until) = (messaging.clone(), stopping.clone());
    lifecycle.spawn("messaging.keys-log", async move {
        until.run_until_cancelled(keys_of.hour_keys.keep_out_of_wal()).await;
        Ok::<_, Infallible>(())
    });
    let (counted, until) = (messaging.clone(), stopping.clone());
    lifecycle.spawn("messaging.keys-wrapped", async move {
        until.run_until_cancelled(counted.hour_keys.count_wrapped()).await;
        Ok::<_, Infallible>(())
    });
    let (store, clock) = (messaging.store.clone(), Arc::clone(&messaging.clock));
    lifecycle.spawn("messaging.cleaning", async move {
        store.keep_clean(clock, stopping).await;
        Ok::<_, Infallible>(())
    });
    let limits = Limits {
        body_bytes_max: FILE_BYTES_MAX,
        concurrency_max: messaging.config.service.requests_max,
        ..Limits::default()
    };
    let router = router_layers(router(messaging.clone(), operations), limits);
    lifecycle.spawn("messaging.http", assent_http::serve(listener, router, lifecycle.clone()));
}

fn checks(messaging: &Messaging, health: &Health) {
    schema::ready_check(health, "database", messaging.pool(), migrators());
    let keys = messaging.hour_keys.pool();
    schema::ready_check(health, "key_store", keys, [KeyStore::migrator()]);
}
