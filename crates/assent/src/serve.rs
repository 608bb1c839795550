//! `assent serve`: the composition root, the only place that sees all services. It guarantees that
//! every configuration error is reported before anything starts and that a process stops as a
//! whole; what a service does is the service's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assent_bus::BusConfig;
use assent_runtime::telemetry::{self, Telemetry, TelemetryConfig};
use assent_runtime::{ConfigErrors, Health, Lifecycle, Settings, ops};
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::gateway;
use crate::outcome::{Failure, Status};

/// How long a soft stop may take; Kubernetes kills after 30 s unless told otherwise.
const GRACE: Duration = Duration::from_secs(20);

/// What can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// Purposes, the ledger, the gate.
    Consent,
    /// People and their identifiers.
    Vault,
    /// Messages and the webhook.
    Messaging,
    /// The erasure saga.
    Erasure,
    /// Read models.
    Projector,
    /// The pages for people.
    Console,
    /// One address in front of all.
    Gateway,
}

impl Service {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Consent,
        Self::Vault,
        Self::Messaging,
        Self::Erasure,
        Self::Projector,
        Self::Console,
        Self::Gateway,
    ];

    /// Its name, which is also its section's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Vault => "vault",
            Self::Messaging => "messaging",
            Self::Erasure => "erasure",
            Self::Projector => "projector",
            Self::Console => "console",
            Self::Gateway => "gateway",
        }
    }
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// Configuration file (TOML). Environment variables ASSENT_SECTION_KEY win over it.
    #[arg(long = "config", env = "ASSENT_CONFIG", value_name = "FILE")]
    path: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// When the file can't be read or is no TOML.
    pub fn load(&self) -> Result<Settings, Failure> {
        Settings::load(self.path.as_deref()).map_err(wrong_configuration)
    }

    /// Reads only what the names of topics and groups begin with; the rest may be missing.
    ///
    /// # Errors
    /// When the file can't be read or is no TOML, or the beginning is none that Kafka takes.
    pub fn topic_prefix(&self) -> Result<String, Failure> {
        let settings = self.load()?;
        let prefix = BusConfig::read_prefix(&settings);
        let mut errors = settings.finish().err().map(|errors| errors.0).unwrap_or_default();
        errors.retain(|error| error.place == "kafka.topic_prefix");
        if errors.is_empty() { Ok(prefix) } else { Err(wrong_configuration(ConfigErrors(errors))) }
    }
}

/// Configuration errors as a failure of the command.
pub fn wrong_configuration(errors: ConfigErrors) -> Failure {
    Failure::wrong_use(errors.to_string())
}

/// Arguments of `assent serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent serve consent --config /etc/assent/assent.toml
  assent serve vault messaging
  assent serve --all

Each service shows its own token to the others: [consent] token, [vault] token, …, else [services]
token. Erasures are answered by name, so services that share a process need tokens of their own.
All configuration errors are reported at once. Exit status: 0 stopped softly, 1 stopped by a failure,
2 wrong configuration, 3 a store couldn't be reached.")]
pub struct Serve {
    /// Which services.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    services: Vec<Service>,
    /// All services and the gateway, in one process.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Serve {
    /// Runs until it is stopped.
    ///
    /// # Errors
    /// When the configuration is wrong or something can't start.
    pub fn run(&self) -> Result<ExitCode, Failure> {
        let settings = self.config.load()?;
        let services = if self.all { Service::ALL.to_vec() } else { self.services.clone() };
        let telemetry_config = read_shared(&settings);
        let plans: Vec<Option<Plan>> =
            services.iter().map(|service| Plan::read(*service, &settings)).collect();
        settings.finish().map_err(wrong_configuration)?;
        let Some(plans) = plans.into_iter().collect::<Option<Vec<_>>>() else {
            return Err(Failure::wrong_use("the configuration is incomplete"));
        };

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::wrong_use(error.to_string()))?;
        runtime.block_on(async {
            let name = match services.as_slice() {
                [service] => service.name(),
                _ => "assent",
            };
            let telemetry = telemetry::init(name, &telemetry_config)
                .map_err(|error| Failure::wrong_use(error.to_string()))?;
            let ended = live(plans, &telemetry).await;
            telemetry.shutdown().await;
            ended
        })
    }
}

/// Reads what every process reads, whichever services it serves. Keys of shared sections that only
/// others need are no mistakes.
pub fn read_shared(settings: &Settings) -> TelemetryConfig {
    let services = settings.section("services");
    for name in gateway::UPSTREAMS {
        let _ = services.optional::<String>(&format!("{name}_url"));
    }
    let _ = services.optional::<String>("public_url");
    let _ = services.optional_secret("token");
    let controller = settings.section("controller");
    for key in ["name", "country"] {
        let _ = controller.optional::<String>(key);
    }
    TelemetryConfig::read(settings)
}

/// A service with its configuration, ready to start.
pub(crate) enum Plan {
    Consent(Box<assent_consent::Config>),
    Vault(Box<assent_vault::Config>),
    Messaging(Box<assent_messaging::Config>),
    Erasure(Box<assent_erasure::Config>),
    Projector(Box<assent_projector::Config>),
    Console(Box<assent_console::Config>),
    Gateway(Box<gateway::Config>),
}

impl Plan {
    /// Reads a service's configuration; what is wrong is recorded in the settings, and then the answer
    /// is `None`.
    pub(crate) fn read(service: Service, settings: &Settings) -> Option<Self> {
        macro_rules! plan {
            ($variant:ident, $config:ty) => {
                Self::$variant(Box::new(<$config>::read(settings)?))
            };
        }
        Some(match service {
            Service::Consent => plan!(Consent, assent_consent::Config),
            Service::Vault => plan!(Vault, assent_vault::Config),
            Service::Messaging => plan!(Messaging, assent_messaging::Config),
            Service::Erasure => plan!(Erasure, assent_erasure::Config),
            Service::Projector => plan!(Projector, assent_projector::Config),
            Service::Console => plan!(Console, assent_console::Config),
            Service::Gateway => plan!(Gateway, gateway::Config),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Consent(_) => "consent",
            Self::Vault(_) => "vault",
            Self::Messaging(_) => "messaging",
            Self::Erasure(_) => "erasure",
            Self::Projector(_) => "projector",
            Self::Console(_) => "console",
            Self::Gateway(_) => "gateway",
        }
    }

    /// Where it listens: the API and the operations port.
    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        match self {
            Self::Consent(config) => (config.service.listen, config.service.ops_listen),
            Self::Vault(config) => (config.service.listen, config.service.ops_listen),
            Self::Messaging(config) => (config.service.listen, config.service.ops_listen),
            Self::Erasure(config) => (config.service.listen, config.service.ops_listen),
            Self::Projector(config) => (config.service.listen, config.service.ops_listen),
            Self::Console(config) => (config.listen, config.ops_listen),
            Self::Gateway(config) => (config.listen, config.ops_listen),
        }
    }

    async fn start(
        self,
        listener: TcpListener,
        health: Health,
        life: Lifecycle,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Consent(config) => assent_consent::serve(*config, listener, health, life).await?,
            Self::Vault(config) => assent_vault::serve(*config, listener, health, life).await?,
            Self::Messaging(config) => {
                assent_messaging::serve(*config, listener, health, life).await?
            }
            Self::Erasure(config) => assent_erasure::serve(*config, listener, health, life).await?,
            Self::Projector(config) => {
                assent_projector::serve(*config, listener, health, life).await?
            }
            Self::Console(config) => assent_console::serve(*config, listener, &life)?,
            Self::Gateway(config) => gateway::serve(*config, listener, &life)?,
        }
        Ok(())
    }
}

/// Binds everything, starts everything, lives until stopped.
async fn live(plans: Vec<Plan>, telemetry: &Telemetry) -> Result<ExitCode, Failure> {
    let mut bound = Vec::new();
    let mut taken = Vec::new();
    for plan in plans {
        let (api, ops) = plan.addresses();
        match (TcpListener::bind(api).await, TcpListener::bind(ops).await) {
            (Ok(api), Ok(ops)) => bound.push((plan, api, ops)),
            (api_bound, ops_bound) => {
                let failed = [(api, api_bound.err()), (ops, ops_bound.err())];
                for (address, error) in failed {
                    if let Some(error) = error {
                        taken.push(format!("{} can't listen on {address}: {error}", plan.name()));
                    }
                }
            }
        }
    }
    if !taken.is_empty() {
        return Err(Failure::wrong_use(taken.join("; ")));
    }
    let lifecycle = Lifecycle::new();
    // Beside each other: a service on a restored database waits for the others.
    let mut starting = JoinSet::new();
    for (plan, api, ops_listener) in bound {
        let (health, has_started) = (Health::new(), Arc::new(AtomicBool::new(false)));
        let started = Arc::clone(&has_started);
        health.ready_check("start", move || {
            let started = started.load(Ordering::Acquire);
            std::future::ready(if started { Ok(()) } else { Err("not yet".to_owned()) })
        });
        let ops = ops::serve(ops_listener, health.clone(), telemetry.clone(), lifecycle.clone());
        lifecycle.spawn("ops", ops);
        let life = lifecycle.clone();
        starting.spawn(async move {
            let name = plan.name();
            plan.start(api, health, life).await.map_err(|error| Failure {
                status: Status::Unreachable,
                code: "start_failed".to_owned(),
                message: format!("{name} can't start: {error}"),
            })?;
            has_started.store(true, Ordering::Release);
            tracing::info!(service = name, "started");
            Ok(())
        });
    }
    let mut living = pin!(lifecycle.clone().run_until_stopped(GRACE));
    while !starting.is_empty() {
        tokio::select! {
            code = &mut living => return Ok(code),
            Some(started) = starting.join_next() => match started {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    lifecycle.stop_and_wait(Duration::from_secs(1)).await;
                    return Err(failure);
                }
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
        }
    }
    Ok(living.await)
}

#[cfg(test)]
mod tests;
