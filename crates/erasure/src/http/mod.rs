//! The HTTP API: one file per endpoint or pair of them, with types, handlers and refusals
//! together. It guarantees a key with the right scope before anything is read; the edge (limits,
//! spans) is `assent_http`'s.

use std::sync::Arc;

use assent_eventstore::StoreError;
use assent_http::{Code, Keys, Problem, ServiceClient, protected};
use axum::Router;
use tokio::sync::Notify;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::store::Sagas;

mod acknowledge;
mod certificate;
mod decisions;
mod erased;
mod holds;
mod participants;
mod request;
mod requests;
mod tracking;

pub use participants::is_participant_name;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The sagas.
    pub sagas: Sagas,
    /// Wakes the driver.
    pub wake: Arc<Notify>,
    /// The consent service.
    pub consent: ServiceClient,
    /// The public key of certificates, PEM.
    pub public_key: Arc<str>,
}

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Assent erasure",
    description = "Requests of people about their data, by when they are answered, erasures and their progress, legal holds, certificates, participants.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Document;

fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(request::request, requests::list))
        .routes(routes!(requests::show))
        .routes(routes!(decisions::acknowledge))
        .routes(routes!(decisions::identity))
        .routes(routes!(decisions::extend))
        .routes(routes!(decisions::refuse))
        .routes(routes!(decisions::answer))
        .routes(routes!(tracking::track))
        .routes(routes!(holds::place, holds::list))
        .routes(routes!(holds::review))
        .routes(routes!(holds::release))
        .routes(routes!(acknowledge::acknowledge))
        .routes(routes!(certificate::certificate))
        .routes(routes!(certificate::public_key))
        .routes(routes!(participants::register, participants::list))
        .routes(routes!(participants::leave))
        .routes(routes!(erased::erased))
}

/// The service's routes, all behind a key.
pub fn router(app: App, keys: Arc<Keys>) -> Router {
    let (router, _) = api().split_for_parts();
    protected(router, keys).with_state(app)
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = api().into_openapi();
    assent_http::openapi::complete(&mut document);
    document
}

/// Reasons are codes: what a person told an operator has no place in an event.
fn code(field: &str, text: &str) -> Result<(), Problem> {
    let is_code = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if is_code {
        return Ok(());
    }
    Err(Problem::new(Code::ValidationFailed)
        .detail(format!("{field}: 1 to 64 of a-z, 0-9 and _, no free text")))
}

/// What a failure of the store means to the caller.
fn store_problem(error: StoreError) -> Problem {
    match error {
        StoreError::KeyReused => Code::IdempotencyKeyReused.into(),
        error if error.is_transient() => Problem::unavailable("database", error),
        StoreError::Database(error) => Problem::unavailable("database", error),
        error => Problem::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_documented_behind_a_key() {
        let document = serde_json::to_value(openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 17, "{:?}", paths.keys());
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                assert_eq!(operation["security"][0]["bearer"], serde_json::json!([]), "{path}");
                assert!(operation["summary"].is_string(), "{method} {path} says what it does");
            }
        }
    }
}
