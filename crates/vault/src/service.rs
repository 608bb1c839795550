//! The service as a process runs it: configuration, migrations, start. It guarantees that nothing
//! is served before both databases answered once; listeners, signals and the operations port are
//! the binary's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::parked::ParkedMessages;
use assent_bus::{Access, BusConfig, Producer, reach};
use assent_contracts::topics::{Topic, VAULT_EVENTS};
use assent_eventstore::relay::{self, RelayConfig};
use assent_eventstore::{EventStore, connect, connect_options, schema};
use assent_http::{Keys, Limits, ServiceClient, router_layers};
use assent_participant::{Arrival, ArrivalError, Keeping, Participant, reader};
use assent_runtime::{
    Clock, Health, Ids, LeaseTerms, Lifecycle, ServiceConfig, Settings, SystemClock, SystemIds,
};
use assent_sealing::{
    IndexKeys, IndexKeysError, KekConfig, KekError, KeyFileError, KeyStore, KeyStoreError,
    index_keys,
};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;

use crate::app::App;
use crate::erasure::ComeBack;
use crate::renew::{self, TurnedTooEarly};
use crate::retention;
use crate::router::router;

/// Room for 2,000 rows with a name and an e-mail address each.
const BODY_BYTES_MAX: usize = 4 << 20;
/// A list of some millions, and not every number that there is.
const SCREENING_ROWS_PER_HOUR: i64 = 5_000_000;
/// As long as France has proofs kept and Russia records of destruction: three years.
const ACCESS_RECORD_DAYS: u32 = 1095;
/// India wants logs for a year (DPDP Rules; `in.toml`, `dpdp-logs`).
const ACCESS_RECORD_DAYS_MIN: u32 = 365;
/// Longer than the settlement of the most that one request suppresses.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What it compares its store with.
const OWN_LOG: Topic = VAULT_EVENTS;

/// What the service must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens, its database, its token.
    pub service: ServiceConfig,
    /// The database of people's keys, which is never part of a data backup.
    pub keys_database_url: SecretString,
    /// The key-encryption key above them.
    pub kek: KekConfig,
    /// The keys of the address index and of the suppression fingerprints.
    pub index_keys_file: PathBuf,
    /// Kafka.
    pub bus: BusConfig,
    /// Who may call.
    pub keys: Arc<Keys>,
    /// How many rows one caller may screen in an hour.
    pub screening_rows_per_hour: i64,
    /// How long access records are kept, in days.
    pub access_record_days: u32,
    /// How long what keeps people out is kept.
    pub keeping: Keeping,
    /// The lease.
    pub terms: LeaseTerms,
    /// The consent service.
    pub consent_url: String,
    /// The erasure service.
    pub erasure_url: String,
}

impl Config {
    /// Reads `[vault]` and what it shares with others; what is wrong is recorded in the settings,
    /// and then the answer is `None`.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Self> {
        let vault = settings.section("vault");
        let services = settings.section("services");
        let service = ServiceConfig::read(settings, "vault", 10);
        let keys_database_url = vault.secret("keys_database_url");
        let kek = KekConfig::read(&vault);
        let index_keys_file = vault.required("index_keys_file");
        let bus = BusConfig::read(settings);
        let keys = Keys::read(settings);
        let terms = LeaseTerms::read(settings);
        let screening_rows_per_hour =
            vault.default("screening_rows_per_hour", SCREENING_ROWS_PER_HOUR);
        let access_record_days = vault.default("access_record_days", ACCESS_RECORD_DAYS);
        if access_record_days < ACCESS_RECORD_DAYS_MIN {
            vault
                .invalid("access_record_days", "must be at least 365: laws ask for a year of logs");
        }
        let keeping = Keeping::read(settings);
        let consent_url = services.required("consent_url");
        let erasure_url = services.required("erasure_url");
        Some(Self {
            service: service?,
            keys_database_url: keys_database_url?,
            kek: kek?,
            index_keys_file: index_keys_file?,
            bus: bus?,
            keys: keys?,
            screening_rows_per_hour,
            access_record_days,
            keeping,
            terms,
            consent_url: consent_url?,
            erasure_url: erasure_url?,
        })
    }
}

/// The service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A database.
    #[error("a database of the vault: {0}")]
    Database(#[from] sqlx::Error),
    /// Migrations.
    #[error("migrations of the vault: {0}")]
    Migrations(#[from] sqlx::migrate::MigrateError),
    /// A key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The key-encryption key.
    #[error("the vault's wrapping key: {0}")]
    Kek(#[from] KekError),
    /// The key store, or a wrapping key that its keys still need.
    #[error("the vault's {0}")]
    Keys(#[from] KeyStoreError),
    /// An index key is missing, or another one.
    #[error("the vault's {0}")]
    IndexKeys(#[from] IndexKeysError),
    /// An index key looks only before its time.
    #[error(transparent)]
    Turned(#[from] TurnedTooEarly),
    /// The index keys are those of messaging.
    #[error("the index keys file has no [[fingerprint]] key")]
    NoFingerprintKey,
    /// Kafka's client.
    #[error("kafka: {0}")]
    Kafka(String),
    /// The client of another service.
    #[error("the address of a service: {0}")]
    Client(#[from] assent_http::ClientError),
    /// Its database was restored, and can't be brought up to what was acknowledged since.
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
}

/// A pool on one of the vault's databases. Every statement of the vault looks rows up by key, in
/// batches: the plans are pinned to the indexes, since a plan that Postgres made for an empty table
/// would read a full one from end to end.
///
/// # Errors
/// When `url` is not a Postgres address or nothing answers there.
pub async fn pool(url: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    let pool = connect(url, connections).await?;
    pool.set_connect_options(
        connect_options(url)?
            .options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")]),
    );
    // The connection that has just been tried out has the old options.
    let first = pool.acquire().await?.detach();
    sqlx::Connection::close(first).await?;
    Ok(pool)
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

/// What the service does with Kafka.
#[must_use]
pub fn access() -> Access {
    Access { readers: vec![reader::<App>()], replayed: vec![OWN_LOG], ..Access::default() }
}

/// Serves until the soft stop. Both databases must be [migrated](migrators).
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
    let database =
        pool(config.service.database_url.expose_secret(), config.service.database_connections)
            .await?;
    let keys_pool =
        pool(config.keys_database_url.expose_secret(), config.service.database_connections).await?;
    let keks = config.kek.open(&ids)?;
    let hashing = IndexKeys::load(&config.index_keys_file)?;
    index_keys::check(&database, &hashing.names(), clock.now()).await?;
    renew::check(&database, &hashing.addresses()).await?;
    schema::ready_check(&health, "database", &database, migrators());
    schema::ready_check(&health, "key_store", &keys_pool, [KeyStore::migrator()]);

    // The vault's commands are idempotent by nature: no idempotency key is ever kept, so there is
    // nothing for a secret to protect.
    let store = EventStore::new(database.clone(), b"");
    let keys = KeyStore::new(keys_pool, keks, Arc::clone(&clock), Arc::clone(&ids));
    keys.check_wrapping_keys().await?;
    let looked_at = keys.clone();
    health.ready_check("wrapping_key", move || {
        let keys = looked_at.clone();
        async move { keys.look_at_kek().await.map_err(|error| error.to_string()) }
    });
    let (log_of, stopping) = (keys.clone(), lifecycle.stopping());
    lifecycle.spawn("vault.keys-log", async move {
        stopping.run_until_cancelled(log_of.keep_out_of_wal()).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let (counted, stopping) = (keys.clone(), lifecycle.stopping());
    lifecycle.spawn("vault.keys-wrapped", async move {
        stopping.run_until_cancelled(counted.count_wrapped()).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let app = Arc::new(App {
        store: store.clone(),
        keys,
        addresses: hashing.addresses(),
        fingerprints: hashing.fingerprints().ok_or(StartError::NoFingerprintKey)?,
        clock: Arc::clone(&clock),
        ids,
        screening_rows_per_hour: config.screening_rows_per_hour,
        access_record_days: config.access_record_days,
        keeping: config.keeping,
        lease: config.terms,
        consent: ServiceClient::new(&config.consent_url, &config.service.token)?,
        erasure: ServiceClient::new(&config.erasure_url, &config.service.token)?,
    });

    let participant = Participant {
        steps: App::clone(&app),
        store: store.clone(),
        clock: Arc::clone(&clock),
        terms: config.terms,
        saga: app.erasure.clone(),
        bus: config.bus.clone(),
        follows: Vec::new(),
        heard: Arc::default(),
    };
    let arrival = Arrival::at("vault", &database, &config.bus, &lifecycle).await?;
    arrival.own_log(&store, OWN_LOG, ComeBack, "vault.own-log").await?;
    arrival.erasures(&participant).await?;

    reach::watch(&config.bus, &lifecycle);
    let producer =
        Producer::new(&config.bus).map_err(|error| StartError::Kafka(error.to_string()))?;
    lifecycle.spawn(
        "vault.relay",
        relay::run(store.clone(), producer, RelayConfig::default(), lifecycle.stopping()),
    );

    let commands = participant.start(&health, &lifecycle);
    arrival.caught_up(&[], &*clock).await?;

    let keeping = retention::run(Arc::clone(&app), lifecycle.stopping());
    lifecycle.spawn("vault.retention", keeping);
    let parked = ParkedMessages::new(database, config.bus).with(commands);
    let limits = Limits {
        body_bytes_max: BODY_BYTES_MAX,
        timeout: TIMEOUT,
        concurrency_max: config.service.requests_max,
    };
    let router = router_layers(router(app, parked, config.keys), limits);
    lifecycle.spawn("vault.http", assent_http::serve(listener, router, lifecycle.clone()));
    Ok(())
}
