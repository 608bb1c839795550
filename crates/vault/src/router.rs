//! The routes of the vault and their OpenAPI document, from one list. Everything is behind a key.

use std::sync::Arc;

use assent_bus::parked::{self, ParkedMessages};
use assent_http::{Keys, protected};
use axum::Router;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::{
    access, forget, holdings, identities, import, lookup, rectify, renew, resolve, retention,
    screen, suppress, texts, who,
};

#[derive(OpenApi)]
#[openapi(info(
    title = "Assent vault",
    description = "People and their identifiers, sealed under a key each. Identifiers travel in bodies only, never in URLs.",
))]
struct Document;

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(import::import))
        .routes(routes!(identities::tell))
        .routes(routes!(forget::forget))
        .routes(routes!(rectify::rectify))
        .routes(routes!(who::who))
        .routes(routes!(lookup::lookup))
        .routes(routes!(lookup::show))
        .routes(routes!(holdings::holdings))
        .routes(routes!(resolve::resolve))
        .routes(routes!(resolve::lease))
        .routes(routes!(texts::seal_text))
        .routes(routes!(texts::seal_texts))
        .routes(routes!(texts::open_text))
        .routes(routes!(suppress::suppress))
        .routes(routes!(screen::list, screen::screen))
        .routes(routes!(access::list))
        .routes(routes!(retention::retention))
        .routes(routes!(renew::renew))
}

/// The API without its edge.
pub fn router(app: Arc<App>, parked: ParkedMessages, keys: Arc<Keys>) -> Router {
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
