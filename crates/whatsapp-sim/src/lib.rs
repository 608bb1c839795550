//! A stand-in for the WhatsApp Cloud API: what a client calls and the signed webhooks that it hears,
//! with Meta's shapes, codes and limits; a person's phone, an inspection API, faults on purpose. It
//! shares no types with Assent, so an error about Meta's shapes can't hide by being made twice; it
//! is for development and tests only, and sends nothing to anybody.

mod acts;
mod admission;
mod blocks;
mod bubble;
mod callbacks;
mod clock;
mod codes;
mod content;
mod fates;
mod graph;
mod graph_error;
mod inspect;
mod interactive;
mod limits;
mod marks;
mod media;
mod message;
mod nodes;
mod numbers;
mod people;
mod phone;
mod profile;
mod random;
mod review;
mod scenario;
mod send;
mod stamped;
mod template;
mod templates;
mod uploads;
mod violations;
mod wamid;
mod webhook;
mod world;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::Redirect;
use axum::routing::{get, post, put};
use tokio::net::TcpListener;

pub use crate::clock::boottime_ns;
pub use crate::limits::Limits;
pub use crate::scenario::Scenario;
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
    /// The id of the app that the webhook belongs to.
    pub app_id: String,
    /// Which limits are enforced.
    pub limits: Limits,
    /// What goes wrong from the start.
    pub scenario: Option<Scenario>,
    /// Where chance begins; none: anywhere.
    pub seed: Option<u64>,
    /// The address that the simulator gives in links; none: the listener's.
    pub public_url: Option<String>,
    /// Whether to do the webhook handshake at start.
    pub verify_on_start: bool,
}

/// Between two looks at what the time has brought.
const TICK: Duration = Duration::from_millis(500);

/// Serves until the task is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, options: Options) -> io::Result<()> {
    let url = match &options.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", listener.local_addr()?),
    };
    let world = World::new(options, url);
    if world.options.verify_on_start {
        tokio::spawn(verify_until_it_works(Arc::clone(&world)));
    }
    let app = router(Arc::clone(&world)).into_make_service_with_connect_info::<LastRead>();
    let served = axum::serve(StampedListener(listener), app).into_future();
    tokio::select! {
        served = served => served,
        () = tick(&world) => Ok(()),
    }
}

/// Lets happen what becomes due by itself.
async fn tick(world: &Arc<World>) {
    loop {
        tokio::time::sleep(TICK).await;
        review::due(world);
    }
}

fn router(world: Arc<World>) -> Router {
    graph_routes()
        .merge(inspection_routes())
        .route("/", get(async || Redirect::to("/phone")))
        .route("/phone", get(phone::page))
        .route("/phone/chat", get(phone::chat))
        .route("/phone/act", post(phone::act))
        .layer(DefaultBodyLimit::max(4 << 20))
        .with_state(world)
}

/// What exists at Meta.
fn graph_routes() -> Router<Arc<World>> {
    // An example may be a video.
    let node = get(nodes::read)
        .post(nodes::update)
        .delete(nodes::delete)
        .layer(DefaultBodyLimit::max(media::UPLOAD_BYTES_MAX));
    Router::new()
        .route("/{version}/{id}/messages", post(send::send))
        .route("/{version}/{id}/media", post(media::upload))
        .route("/whatsapp_business/attachments/", get(media::download))
        .route(
            "/{version}/{id}/message_templates",
            get(templates::list).post(templates::create).delete(templates::delete),
        )
        .route("/{version}/{id}/whatsapp_business_profile", get(profile::get).post(profile::update))
        .route("/{version}/{id}/phone_numbers", get(numbers::list))
        .route("/{version}/{id}/register", post(numbers::register))
        .route("/{version}/{id}/deregister", post(numbers::deregister))
        .route("/{version}/{id}/request_code", post(numbers::request_code))
        .route("/{version}/{id}/verify_code", post(numbers::verify_code))
        .route(
            "/{version}/{id}/block_users",
            get(blocks::list).post(blocks::block).delete(blocks::unblock),
        )
        .route(
            "/{version}/{id}/subscribed_apps",
            get(callbacks::subscribed_apps)
                .post(callbacks::subscribe)
                .delete(callbacks::unsubscribe),
        )
        .route("/{version}/{id}/uploads", post(uploads::begin))
        .route("/{version}/{id}/subscriptions", post(callbacks::subscribe_app))
        .route("/{version}/oauth/access_token", get(callbacks::app_token))
        .route("/{version}/{id}", node.clone())
        .route("/{version}/{id}/", node)
}

/// What doesn't.
fn inspection_routes() -> Router<Arc<World>> {
    Router::new()
        .route("/_sim/messages", get(inspect::messages))
        .route("/_sim/violations", get(violations::violations).delete(violations::forget))
        .route("/_sim/inbound", post(acts::inbound))
        .route("/_sim/preferences", post(acts::preferences))
        .route("/_sim/block", post(acts::block))
        .route("/_sim/change_number", post(acts::change_number))
        .route("/_sim/recycle", post(fates::recycle))
        .route("/_sim/reinstall", post(fates::reinstall))
        .route("/_sim/phone", post(fates::phone))
        .route("/_sim/status", post(inspect::status))
        .route("/_sim/statuses", post(inspect::plan))
        .route("/_sim/webhook", post(inspect::webhook))
        .route("/_sim/verify", post(inspect::verify))
        .route("/_sim/templates", get(review::get).put(review::put))
        .route("/_sim/templates/{template}", post(review::change))
        .route("/_sim/review", put(review::review))
        .route("/_sim/number", post(numbers::change))
        .route("/_sim/limits", get(numbers::limits).put(numbers::put_limits))
        .route("/_sim/clock", get(inspect::clock).post(inspect::drive))
        .route("/_sim/scenario", post(inspect::scenario))
        .route(
            "/_sim/faults",
            get(inspect::faults).post(inspect::add_fault).delete(inspect::clear_faults),
        )
        .route("/_sim/reset", post(inspect::reset))
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
