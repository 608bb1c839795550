//! The service as a process runs it. It is ready as soon as it listens: when the others are away it
//! still takes opt-outs, or says how else to opt out.

use std::sync::Arc;
use std::time::Duration;

use assent_http::{ClientError, Limits, ServiceClient, edge_layers};
use assent_runtime::{Lifecycle, SystemClock, SystemIds};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::http::{Console, Parts, router};

/// How long a call may take: longer than a lease, shorter than people wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client of another service.
    #[error("another service's address: {0}")]
    Client(#[from] ClientError),
}

/// Serves until the soft stop.
///
/// # Errors
/// [`StartError`] when it can't start; later failures stop the lifecycle.
pub fn serve(
    config: Config,
    listener: TcpListener,
    lifecycle: &Lifecycle,
) -> Result<(), StartError> {
    let client = |url: &str| ServiceClient::with_timeout(url, &config.token, CALL_TIMEOUT);
    let console = Console::from(Parts {
        consent: client(&config.consent_url)?,
        messaging: client(&config.messaging_url)?,
        erasure: client(&config.erasure_url)?,
        links: config.links,
        controller: config.controller,
        secure: config.public_url.starts_with("https://"),
        public_url: config.public_url,
        whatsapp_number: config.whatsapp_number.trim_start_matches('+').to_owned(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
    });
    let limits = Limits { body_bytes_max: 16 << 10, ..Limits::default() };
    let router = edge_layers(router(console), limits);
    lifecycle.spawn("console.http", assent_http::serve(listener, router, lifecycle.clone()));
    Ok(())
}
