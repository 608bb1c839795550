//! The service as a process runs it: configuration, migrations, start. It guarantees that nothing
//! is served before the store answered once and the deployment's own participants are registered;
//! listeners, signals and the operations port are the binary's.

use std::sync::Arc;

use assent_bus::{Access, BusConfig, Producer, reach};
use assent_contracts::topics::{ERASURE_EVENTS, Topic};
use assent_eventstore::relay::{self, RelayConfig};
use assent_eventstore::{EventStore, StoreError, connect, schema};
use assent_http::{Allowed, Keys, Limits, Outbound, ServiceClient, router_layers};
use assent_participant::Arrival;
use assent_runtime::{
    Clock, Health, Ids, LeaseTerms, Lifecycle, ServiceConfig, Settings, SystemClock, SystemIds,
};
use jiff::SignedDuration;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::archivist::{Archivist, Holders};
use crate::come_back::ComeBack;
use crate::domain::{Participant, Registry};
use crate::driver::{Driver, Pace};
use crate::http::{App, router};
use crate::store::Sagas;
use crate::tracking::Tracking;
use crate::turns::BULK_WINDOW_MAX;
use crate::webhooks::secret::Secrets;
use crate::webhooks::{CALL_TIMEOUT, Messenger};
use crate::{barrier, bulk, due};
use assent_signing::{Issuer, KeyError};

/// The services of a deployment that hold data of people; the vault keeps their keys.
const PARTICIPANTS: &str = "consent,messaging,projector,vault:keys";

/// For how many days an archive waits to be collected, unless it is said.
const ARCHIVE_DAYS: u16 = 14;

/// For how many days recipients outside are waited for, unless it is said.
const INQUIRY_DAYS: u16 = 10;

/// What it compares its store with.
const OWN_LOG: Topic = ERASURE_EVENTS;

/// What the service must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens, its database, its token.
    pub service: ServiceConfig,
    /// Keys the hashes of idempotency keys, and the secrets that requests are tracked by.
    pub idempotency_secret: SecretString,
    /// Kafka.
    pub bus: BusConfig,
    /// Who may call.
    pub keys: Arc<Keys>,
    /// Signs certificates.
    pub issuer: Issuer,
    /// What people are given to look at their requests; its key follows from the signing key.
    pub tracking: Tracking,
    /// The legal entity that certificates name.
    pub controller: String,
    /// The deployment's own participants, registered at start.
    pub participants: Registry,
    /// How long backups of the key store are kept; certificates state it.
    pub key_backup_kept: Option<SignedDuration>,
    /// How patient the saga is.
    pub pace: Pace,
    /// The consent service, which is told to stop marketing.
    pub consent_url: String,
    /// The other services that are asked what they hold on a person.
    pub holder_urls: HolderUrls,
    /// How long her key may be held.
    pub lease: LeaseTerms,
    /// How long an archive waits to be collected.
    pub archive_kept: SignedDuration,
    /// For how long recipients outside are waited for.
    pub inquiry_time: SignedDuration,
    /// Participants that are called.
    pub webhooks: Webhooks,
}

/// How participants are called.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Whom calls may go to.
    pub allowed: Allowed,
    /// What they are signed with; its key follows from the signing key.
    pub secrets: Secrets,
}

/// Where the services are that hold data of people, beside consent.
#[derive(Debug, Clone)]
pub struct HolderUrls {
    /// The vault, which also lends keys.
    pub vault: String,
    /// Messaging.
    pub messaging: String,
    /// The projector.
    pub projector: String,
}

impl Config {
    /// Reads `[erasure]` and what it shares with others; what is wrong is recorded in the settings,
    /// and then the answer is `None`.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Self> {
        let erasure = settings.section("erasure");
        let services = settings.section("services");
        let service = ServiceConfig::read(settings, "erasure", 8);
        let idempotency_secret = erasure.optional_secret("idempotency_secret");
        let signing = erasure.file("signing_key_file");
        let tracking = signing.as_ref().map(|pem| Tracking::of_key(pem.as_bytes()));
        let secrets = signing.as_ref().map(|pem| Secrets::of_key(pem.as_bytes()));
        let hosts = erasure.optional::<String>("webhook_hosts").unwrap_or_default();
        let allowed = Allowed::parse(&hosts, erasure.default("webhook_private", false));
        if allowed.is_none() {
            erasure.invalid(
                "webhook_hosts",
                "must be names or IP addresses without a port, commas between",
            );
        }
        let issuer = signing.and_then(|pem| {
            Issuer::from_pem(&pem)
                .map_err(|error| erasure.invalid("signing_key_file", error.to_string()))
                .ok()
        });
        let participants = Self::read_participants(settings);
        let key_backup_kept = erasure
            .optional::<u16>("key_backup_days")
            .map(|days| SignedDuration::from_hours(24 * i64::from(days)));
        let default = Pace::default();
        let pace = Pace {
            step_timeout: erasure.millis("step_timeout_ms", default.step_timeout),
            retry: erasure.millis("retry_ms", default.retry),
            retry_max: erasure.millis("retry_max_ms", default.retry_max),
            poll: erasure.millis("poll_ms", default.poll),
            bulk_window: erasure.default("bulk_window", default.bulk_window),
        };
        if !(1..=BULK_WINDOW_MAX).contains(&pace.bulk_window) {
            erasure.invalid("bulk_window", format!("must be 1 to {BULK_WINDOW_MAX}"));
        }
        let bus = BusConfig::read(settings);
        let keys = Keys::read(settings);
        let controller = settings.section("controller").required("name");
        let consent_url = services.required("consent_url");
        let holder_urls = [
            services.required("vault_url"),
            services.required("messaging_url"),
            services.required("projector_url"),
        ];
        let lease = LeaseTerms::read(settings);
        let archive_days = erasure.default("archive_days", ARCHIVE_DAYS);
        if archive_days == 0 {
            erasure.invalid("archive_days", "must be above 0");
        }
        let inquiry_days = erasure.default("inquiry_days", INQUIRY_DAYS);
        if inquiry_days == 0 {
            erasure.invalid("inquiry_days", "must be above 0");
        }
        let [Some(vault), Some(messaging), Some(projector)] = holder_urls else { return None };
        let service = service?;
        Some(Self {
            // The token is as secret and as stable; losing it only forgets first answers.
            idempotency_secret: idempotency_secret.unwrap_or_else(|| service.token.clone()),
            bus: bus?,
            keys: keys?,
            issuer: issuer?,
            tracking: tracking?,
            controller: controller?,
            participants: participants?,
            key_backup_kept,
            pace,
            consent_url: consent_url?,
            holder_urls: HolderUrls { vault, messaging, projector },
            lease,
            archive_kept: SignedDuration::from_hours(24 * i64::from(archive_days)),
            inquiry_time: SignedDuration::from_hours(24 * i64::from(inquiry_days)),
            webhooks: Webhooks { allowed: allowed?, secrets: secrets? },
            service,
        })
    }

    /// Reads `[erasure] participants`: names with commas between, `:keys` behind those that keep
    /// keys; what is wrong is recorded in the settings.
    #[must_use]
    pub fn read_participants(settings: &Settings) -> Option<Registry> {
        let erasure = settings.section("erasure");
        let participants =
            parse_participants(&erasure.default("participants", PARTICIPANTS.to_owned()));
        if participants.is_none() {
            erasure.invalid(
                "participants",
                "must be names with commas between, `:keys` behind those that keep keys",
            );
        }
        participants
    }
}

/// `name` or `name:keys`, separated by commas.
fn parse_participants(text: &str) -> Option<Registry> {
    text.split(',')
        .map(|entry| {
            let entry = entry.trim();
            let (name, keeps_keys) = match entry.split_once(':') {
                None => (entry, false),
                Some((name, "keys")) => (name, true),
                Some(_) => return None,
            };
            crate::http::is_participant_name(name)
                .then(|| (name.to_owned(), Participant { keeps_keys }))
        })
        .collect()
}

/// The service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the erasure database: {0}")]
    Database(#[from] sqlx::Error),
    /// Its migrations.
    #[error("the erasure database's migrations: {0}")]
    Migrations(#[from] sqlx::migrate::MigrateError),
    /// The participants.
    #[error("the participants can't be registered: {0}")]
    Participants(#[from] StoreError),
    /// Kafka's client.
    #[error("kafka: {0}")]
    Kafka(String),
    /// The client of another service, or of participants.
    #[error("calls to others: {0}")]
    Client(#[from] assent_http::ClientError),
    /// The signing key.
    #[error("the signing key: {0}")]
    Key(#[from] KeyError),
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
pub fn migrators() -> [Migrator; 2] {
    [assent_eventstore::migrator(), sqlx::migrate!()]
}

/// What the service does with Kafka.
#[must_use]
pub fn access() -> Access {
    Access { replayed: vec![OWN_LOG], measured: barrier::TOPICS.to_vec(), ..Access::default() }
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
    serve_by(Arc::new(SystemClock), config, listener, health, lifecycle).await
}

/// As [`serve`], by another clock.
///
/// # Errors
/// As [`serve`].
pub async fn serve_by(
    clock: Arc<dyn Clock>,
    config: Config,
    listener: TcpListener,
    health: Health,
    lifecycle: Lifecycle,
) -> Result<(), StartError> {
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let pool =
        connect(config.service.database_url.expose_secret(), config.service.database_connections)
            .await?;
    let counted = pool.clone();
    schema::ready_check(&health, "database", &pool, migrators());
    let store = EventStore::new(pool.clone(), config.idempotency_secret.expose_secret().as_bytes());
    let (issuer, controller) = (Arc::new(config.issuer), Arc::<str>::from(config.controller));
    let fold = ComeBack {
        clock: Arc::clone(&clock),
        tracking: config.tracking.clone(),
        issuer: Arc::clone(&issuer),
        controller: Arc::clone(&controller),
        key_backup_kept: config.key_backup_kept,
    };
    let arrival = Arrival::at("erasure", &pool, &config.bus, &lifecycle).await?;
    arrival.own_log(&store, OWN_LOG, fold, "erasure.own-log").await?;
    arrival.caught_up(&[], &*clock).await?;
    let sagas =
        Sagas { store: store.clone(), clock: Arc::clone(&clock), ids, tracking: config.tracking };
    for (name, participant) in &config.participants {
        sagas.register_once(name, *participant).await?;
    }

    reach::watch(&config.bus, &lifecycle);
    let producer =
        Producer::new(&config.bus).map_err(|error| StartError::Kafka(error.to_string()))?;
    lifecycle.spawn(
        "erasure.relay",
        relay::run(store.clone(), producer, RelayConfig::default(), lifecycle.stopping()),
    );
    let wake = Arc::new(Notify::new());
    let public_key = issuer.public_key_pem()?;
    let driver = Driver {
        sagas: sagas.clone(),
        bus: config.bus,
        issuer,
        controller: Arc::clone(&controller),
        key_backup_kept: config.key_backup_kept,
        pace: config.pace,
        wake: Arc::clone(&wake),
    };
    lifecycle.spawn("erasure.driver", driver.run(lifecycle.stopping()));
    let messenger = Messenger {
        sagas: sagas.clone(),
        outbound: Outbound::new(config.webhooks.allowed.clone(), CALL_TIMEOUT)?,
        secrets: config.webhooks.secrets.clone(),
        pace: config.pace,
    };
    lifecycle.spawn("erasure.webhooks", messenger.run(lifecycle.stopping()));
    let webhooks = Arc::new(config.webhooks);
    let counting = due::report(counted, Arc::clone(&clock), lifecycle.stopping());
    lifecycle.spawn("erasure.due", counting);
    let stopping = lifecycle.stopping();
    lifecycle.spawn("erasure.cleaning", async move {
        store.keep_clean(clock, stopping).await;
        Ok::<_, std::convert::Infallible>(())
    });

    let client = |url: &str| ServiceClient::new(url, &config.service.token);
    let consent = client(&config.consent_url)?;
    let vault = client(&config.holder_urls.vault)?;
    let services = vec![
        ("vault", vault.clone()),
        ("consent", consent.clone()),
        ("messaging", client(&config.holder_urls.messaging)?),
        ("projector", client(&config.holder_urls.projector)?),
    ];
    let archivist = Archivist {
        sagas: sagas.clone(),
        holders: Holders { services, vault },
        lease: config.lease,
        kept: config.archive_kept,
        inquiry_time: config.inquiry_time,
        controller,
        pace: config.pace,
    };
    lifecycle.spawn("erasure.archivist", archivist.clone().run(lifecycle.stopping()));
    let (public_key, own) = (public_key.into(), Arc::new(config.participants));
    let app = App { sagas, wake, archivist, consent, public_key, webhooks, own };
    let bulks = bulk::run(app.clone(), lifecycle.stopping());
    lifecycle.spawn("erasure.bulks", bulks);
    let limits = Limits { concurrency_max: config.service.requests_max, ..Limits::default() };
    let router = router_layers(router(app, config.keys), limits);
    lifecycle.spawn("erasure.http", assent_http::serve(listener, router, lifecycle.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn participants_are_names_and_a_mark_for_keys() {
        let parsed = parse_participants(PARTICIPANTS).unwrap();
        let keepers: Vec<_> = parsed.iter().filter(|(_, p)| p.keeps_keys).collect();
        assert_eq!((parsed.len(), keepers.len()), (4, 1));
        for wrong in ["", "a,,b", "vault:key", "Vault", "a b"] {
            assert_eq!(parse_participants(wrong), None, "{wrong}");
        }
    }
}
