//! A stand-in for the WhatsApp Cloud API: sends, statuses, inbound messages and signed webhooks as
//! Meta makes them, an inspection API and injectable faults. It shares no types with Assent, so an
//! error about Meta's shapes can't hide by being made twice; it is for development and tests only.

mod clock;
mod graph_error;
mod inspect;
mod message;
mod phone;
mod rates;
mod send;
mod stamped;
mod wamid;
mod webhook;
mod world;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use tokio::net::TcpListener;

pub use crate::clock::boottime_ns;
pub use crate::rates::RateLimits;
use crate::stamped::{LastRead, StampedListener};
pub use crate::webhook::signature;
pub use crate::world::StatusPlan;
use crate::world::World;

/// How a simulator is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where webhooks go; none: nowhere.
    pub webhook_url: Option<String>,
    /// Signs webhooks.
    pub app_secret: String,
    /// The bearer token that callers must show.
    pub access_token: String,
    /// Shown in the webhook handshake.
    pub verify_token: String,
    /// The business number's id.
    pub phone_number_id: String,
    /// The business number, digits.
    pub display_phone_number: String,
    /// The WhatsApp business account's id.
    pub business_account_id: String,
    /// The business number's country code: put in front of a `to` without `+`.
    pub country_code: String,
    /// The statuses that follow an accepted message.
    pub plan: StatusPlan,
    /// Which rates are watched.
    pub rate_limits: RateLimits,
    /// Whether to do the webhook handshake at start.
    pub verify_on_start: bool,
}

/// Serves until the task is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, options: Options) -> io::Result<()> {
    let world = World::new(options);
    if world.options.verify_on_start {
        tokio::spawn(verify_until_it_works(Arc::clone(&world)));
    }
    let app = router(world).into_make_service_with_connect_info::<LastRead>();
    axum::serve(StampedListener(listener), app).await
}

fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/", get(phone::page))
        .route("/{version}/{phone_number_id}/messages", post(send::send))
        .route("/_sim/messages", get(inspect::messages))
        .route("/_sim/inbound", post(inspect::inbound))
        .route("/_sim/preferences", post(inspect::preferences))
        .route("/_sim/status", post(inspect::status))
        .route("/_sim/statuses", post(inspect::plan))
        .route("/_sim/webhook", post(inspect::webhook))
        .route("/_sim/verify", post(inspect::verify))
        .route("/_sim/templates", put(inspect::templates))
        .route(
            "/_sim/faults",
            get(inspect::faults).post(inspect::add_fault).delete(inspect::clear_faults),
        )
        .route("/_sim/reset", post(inspect::reset))
        .route("/_sim/phone", post(phone::write))
        .layer(DefaultBodyLimit::max(4 << 20))
        .with_state(world)
}

/// The webhook may start after the simulator.
async fn verify_until_it_works(world: Arc<World>) {
    for _ in 0..240 {
        match webhook::verify(&world).await {
            Ok(()) => {
                tracing::info!("webhook verified");
                return;
            }
            Err(what) => tracing::debug!(what, "webhook not verified yet"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tracing::warn!("webhook could not be verified");
}

#[cfg(test)]
mod tests;
