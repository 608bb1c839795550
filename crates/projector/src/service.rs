//! The service as a process runs it: configuration, migrations, start. It guarantees that nothing
//! is served before the database answered once; listeners, signals and the operations port are
//! the binary's.

use std::sync::Arc;

use assent_bus::parked::ParkedMessages;
use assent_bus::{Access, BusConfig, Reader, consumer, reach};
use assent_eventstore::{EventStore, connect, schema};
use assent_http::{Keys, Limits, ServiceClient, router_layers};
use assent_participant::{Arrival, Follows, Participant, reader};
use assent_runtime::{Clock, Health, LeaseTerms, Lifecycle, ServiceConfig, Settings, SystemClock};
use secrecy::ExposeSecret as _;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::api::{self, App};
use crate::erasure::Eraser;
use crate::model::Projection;
use crate::rebuild::Rebuilder;
use crate::subscriber::Follower;

/// What the service must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens, its database, its token.
    pub service: ServiceConfig,
    /// Kafka.
    pub bus: BusConfig,
    /// Who may call.
    pub keys: Arc<Keys>,
    /// The lease.
    pub terms: LeaseTerms,
    /// The erasure service.
    pub erasure_url: String,
}

impl Config {
    /// Reads `[projector]` and what it shares with others; what is wrong is recorded in the
    /// settings, and then the answer is `None`.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Self> {
        let services = settings.section("services");
        let service = ServiceConfig::read(settings, "projector", 12);
        let bus = BusConfig::read(settings);
        let keys = Keys::read(settings);
        let terms = LeaseTerms::read(settings);
        let erasure_url = services.required("erasure_url");
        Some(Self { service: service?, bus: bus?, keys: keys?, terms, erasure_url: erasure_url? })
    }
}

/// The service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the database of the projector: {0}")]
    Database(#[from] sqlx::Error),
    /// Migrations.
    #[error("migrations of the projector: {0}")]
    Migrations(#[from] sqlx::migrate::MigrateError),
    /// The client of another service.
    #[error("the address of a service: {0}")]
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

/// What the service does with Kafka.
#[must_use]
pub fn access() -> Access {
    let follower = |projection: Projection| Reader {
        consumer: projection.consumer(),
        topic: projection.topic(),
    };
    let mut readers: Vec<Reader> = Projection::ALL.into_iter().map(follower).collect();
    readers.push(reader::<Eraser>());
    Access { readers, ..Access::default() }
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
    let pool =
        connect(config.service.database_url.expose_secret(), config.service.database_connections)
            .await?;
    schema::ready_check(&health, "database", &pool, migrators());
    reach::watch(&config.bus, &lifecycle).gate(&health);

    let followers = Projection::ALL.map(|projection| Arc::new(Follower(projection)));
    let follows: Vec<_> = followers.iter().map(|follower| Follows::of(&**follower)).collect();
    let participant = Participant {
        steps: Eraser { clock: Arc::clone(&clock) },
        // It appends nothing: there are no first answers whose keys a secret would protect.
        store: EventStore::new(pool.clone(), b""),
        clock: Arc::clone(&clock),
        terms: config.terms,
        saga: ServiceClient::new(&config.erasure_url, &config.service.token)?,
        bus: config.bus.clone(),
        follows: follows.clone(),
        heard: Arc::default(),
    };
    let arrival = Arrival::at("projector", &pool, &config.bus, &lifecycle).await?;
    arrival.erasures(&participant).await?;

    let mut parked = ParkedMessages::new(pool.clone(), config.bus.clone());
    for follower in &followers {
        parked = parked.with(Arc::clone(follower));
        consumer::spawn(&lifecycle, config.bus.clone(), pool.clone(), Arc::clone(follower))
            .watch(&health);
    }

    parked = parked.with(participant.start(&health, &lifecycle));
    arrival.caught_up(&follows, &*clock).await?;

    let asked = Arc::new(Notify::new());
    let rebuilder = Rebuilder {
        pool: pool.clone(),
        bus: config.bus.clone(),
        clock: Arc::clone(&clock),
        asked: Arc::clone(&asked),
    };
    lifecycle.spawn("projector.rebuilder", rebuilder.run(lifecycle.stopping()));

    let app = Arc::new(App { pool, bus: config.bus, clock, asked });
    let limits = Limits { concurrency_max: config.service.requests_max, ..Limits::default() };
    let router = router_layers(api::router(app, parked, config.keys), limits);
    lifecycle.spawn("projector.http", assent_http::serve(listener, router, lifecycle.clone()));
    Ok(())
}
