//! The HTTP API: messages, conversations, templates, the webhook. It guarantees the shapes; what they do is left to
//! the modules around it.

pub mod campaigns;
pub mod conversations;
pub mod holdings;
pub mod inbound;
pub mod media;
pub mod messages;
pub mod retention;
pub mod sender;
pub mod stops;
pub mod tasks;
pub mod template_changes;
pub mod templates;
pub mod webhook;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use utoipa::OpenApi;

use assent_http::{auth, openapi};

use crate::state::Messaging;

/// The provider sends up to 3 MB in one webhook.
pub const WEBHOOK_BYTES_MAX: usize = 4 << 20;

/// The largest file, with some room around it.
pub const FILE_BYTES_MAX: usize = 101 << 20;

/// Every route; the webhook authenticates by its signature, everything else, `operations` included,
/// by a bearer key.
pub fn router(messaging: Messaging, operations: Router) -> Router {
    let keys = messaging.config.keys.clone();
    let closed = Router::new()
        .route("/v1/messages", post(messages::request))
        .route("/v1/stops", post(stops::take))
        .route("/v1/subjects/{subject_id}/holdings", get(holdings::holdings))
        .route("/v1/messages/{message_id}", get(messages::show))
        .route("/v1/inbound/{message_id}/read", post(inbound::read))
        .route("/v1/inbound/{message_id}/media", post(media::fetch))
        .route("/v1/media", post(media::upload))
        .route("/v1/media/{media_id}", delete(media::delete))
        .route("/v1/conversations", get(conversations::list::list))
        .route("/v1/conversations/{conversation_id}", get(conversations::list::show))
        .route("/v1/conversations/{conversation_id}/read", post(conversations::read::read))
        .route("/v1/conversations/{conversation_id}/assign", post(conversations::acts::assign))
        .route("/v1/conversations/{conversation_id}/handover", post(conversations::acts::hand_over))
        .route("/v1/conversations/{conversation_id}/close", post(conversations::acts::close))
        .route("/v1/conversations/{conversation_id}/notes", post(conversations::notes::note))
        .route("/v1/conversations/{conversation_id}/reply", post(conversations::reply::reply))
        .route("/v1/retention", get(retention::retention))
        .route("/v1/sender", get(sender::show))
        .route("/v1/sender/lift", post(sender::lift))
        .route("/v1/sender/trust", post(sender::trust))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{task_id}/close", post(tasks::close))
        .route("/v1/campaigns", get(campaigns::read::list).post(campaigns::draft::draft))
        .route("/v1/campaigns/{campaign_id}", get(campaigns::read::show))
        .route("/v1/campaigns/{campaign_id}/dry-run", post(campaigns::acts::try_dry))
        .route("/v1/campaigns/{campaign_id}/approve", post(campaigns::acts::approve))
        .route("/v1/campaigns/{campaign_id}/start", post(campaigns::acts::start))
        .route("/v1/campaigns/{campaign_id}/pause", post(campaigns::acts::pause))
        .route("/v1/campaigns/{campaign_id}/resume", post(campaigns::acts::resume))
        .route("/v1/campaigns/{campaign_id}/cancel", post(campaigns::acts::cancel))
        .route("/v1/campaigns/{campaign_id}/members", get(campaigns::read::members))
        .route("/v1/campaigns/{campaign_id}/report", get(campaigns::read::report))
        .route("/v1/templates", get(templates::list).post(templates::put))
        .route("/v1/templates/examples", post(media::example))
        .route("/v1/templates/create", post(template_changes::create))
        .route("/v1/templates/edit", post(template_changes::edit))
        .route("/v1/templates/delete", post(template_changes::delete));
    let webhook = Router::new()
        .route("/webhooks/whatsapp", get(webhook::verify).post(webhook::receive))
        .layer(DefaultBodyLimit::max(WEBHOOK_BYTES_MAX));
    let closed = closed.with_state(messaging.clone()).merge(operations);
    // Files pass through in pieces; what is read as a whole is bounded here.
    let closed = closed.layer(DefaultBodyLimit::max(WEBHOOK_BYTES_MAX));
    auth::protected(closed, keys).merge(webhook.with_state(messaging))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Assent messaging",
        description = "Messages through the gate; conversations; the WhatsApp webhook."
    ),
    paths(
        campaigns::read::list,
        campaigns::draft::draft,
        campaigns::read::show,
        campaigns::acts::try_dry,
        campaigns::acts::approve,
        campaigns::acts::start,
        campaigns::acts::pause,
        campaigns::acts::resume,
        campaigns::acts::cancel,
        campaigns::read::members,
        campaigns::read::report,
        conversations::list::list,
        conversations::list::show,
        conversations::read::read,
        conversations::acts::assign,
        conversations::acts::hand_over,
        conversations::acts::close,
        conversations::notes::note,
        conversations::reply::reply,
        holdings::holdings,
        inbound::read,
        media::upload,
        media::delete,
        media::fetch,
        media::example,
        messages::request,
        messages::show,
        retention::retention,
        sender::show,
        sender::lift,
        sender::trust,
        stops::take,
        tasks::list,
        tasks::close,
        template_changes::create,
        template_changes::edit,
        template_changes::delete,
        templates::list,
        templates::put,
        webhook::verify,
        webhook::receive
    )
)]
struct Document;

/// The OpenAPI document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.merge(assent_bus::parked::openapi());
    openapi::complete(&mut document);
    document
}
