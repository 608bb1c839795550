//! The query API and its OpenAPI document, from one list of routes. Everything is behind a key,
//! and everything is as old as the projection's lag.

mod audience;
mod consents;
mod contacts;
mod holdings;
mod messages;
mod projections;

use std::sync::Arc;

use assent_bus::BusConfig;
use assent_bus::parked::{self, ParkedMessages};
use assent_http::{Keys, Limit, Page, protected};
use assent_runtime::Clock;
use axum::Router;
use serde::Deserialize;
use sqlx::PgPool;
use tokio::sync::Notify;
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// What handlers share.
pub(crate) struct App {
    pub(crate) pool: PgPool,
    pub(crate) bus: BusConfig,
    pub(crate) clock: Arc<dyn Clock>,
    /// Rings when a rebuild was asked for.
    pub(crate) asked: Arc<Notify>,
}

/// Which page of a listing, of everyone or of one person.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// Only this person.
    subject_id: Option<Uuid>,
    /// At most this many items; 50 when not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

impl Filter {
    fn page(self) -> Page {
        Page { limit: self.limit, cursor: self.cursor }
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Assent projector",
    description = "Read models: contacts, consents, messages. Slightly old by nature; whether something may be sent is decided by the consent service alone.",
))]
struct Document;

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(contacts::list))
        .routes(routes!(contacts::show))
        .routes(routes!(audience::list))
        .routes(routes!(consents::list))
        .routes(routes!(messages::list))
        .routes(routes!(messages::show))
        .routes(routes!(holdings::holdings))
        .routes(routes!(projections::list))
        .routes(routes!(projections::rebuild, projections::progress))
}

/// The API without its edge.
pub(crate) fn router(app: Arc<App>, parked: ParkedMessages, keys: Arc<Keys>) -> Router {
    let api = routes().split_for_parts().0.with_state(app);
    protected(api.merge(parked::router(parked)), keys)
}

/// The OpenAPI document of the API.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = routes().split_for_parts().1;
    document.merge(parked::openapi());
    assent_http::openapi::complete(&mut document);
    document
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_operation_wants_a_key() {
        let document = serde_json::to_value(super::openapi()).unwrap();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                assert!(operation["security"].is_array(), "{method} {path}");
            }
        }
    }
}
