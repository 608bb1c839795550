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

use crate::archivist::Archivist;
use crate::domain::Registry;
use crate::service::Webhooks;
use crate::store::Sagas;

mod acknowledge;
mod archive;
mod bulk;
mod certificate;
mod decisions;
mod erased;
mod erased_purposes;
mod holds;
mod own;
mod participants;
mod rectification;
mod replies;
mod request;
mod requests;
mod restriction;
mod tracking;

pub use participants::is_participant_name;
pub(crate) use request::{NewRequest, stop_marketing, terms};

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The sagas.
    pub sagas: Sagas,
    /// Wakes the driver.
    pub wake: Arc<Notify>,
    /// Puts together what people ask to see.
    pub archivist: Archivist,
    /// The consent service.
    pub consent: ServiceClient,
    /// The public key of certificates, PEM.
    pub public_key: Arc<str>,
    /// Who may be called, and what calls are signed with.
    pub webhooks: Arc<Webhooks>,
    /// The deployment's own participants; all others are outside.
    pub own: Arc<Registry>,
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
        .routes(routes!(rectification::rectify))
        .routes(routes!(restriction::restrict))
        .routes(routes!(restriction::tell_end))
        .routes(routes!(restriction::release))
        .routes(routes!(bulk::open))
        .routes(routes!(bulk::show))
        .routes(routes!(bulk::add))
        .routes(routes!(bulk::submit))
        .routes(routes!(replies::reply))
        .routes(routes!(own::list))
        .routes(routes!(tracking::track))
        .routes(routes!(archive::prepare))
        .routes(routes!(archive::collect))
        .routes(routes!(holds::place, holds::list))
        .routes(routes!(holds::review))
        .routes(routes!(holds::release))
        .routes(routes!(acknowledge::acknowledge))
        .routes(routes!(acknowledge::acknowledge_many))
        .routes(routes!(certificate::certificate))
        .routes(routes!(certificate::collect))
        .routes(routes!(certificate::public_key))
        .routes(routes!(participants::register, participants::list))
        .routes(routes!(participants::leave))
        .routes(routes!(participants::suspend))
        .routes(routes!(participants::resume))
        .routes(routes!(participants::rotate, participants::end_rotation))
        .routes(routes!(erased::erased))
        .routes(routes!(erased_purposes::erased_purposes))
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
    if is_code(text) {
        return Ok(());
    }
    Err(Problem::new(Code::ValidationFailed).detail(format!(
        "{field}: 1 to 64 of a-z, 0-9 and _ with a letter first and at most four digits, no free text"
    )))
}

/// A letter first and few digits: no number of a telephone or a document is a code.
fn is_code(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && digits <= 4
}

/// What a failure of the store means to the caller.
pub(crate) fn store_problem(error: StoreError) -> Problem {
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
    fn no_number_passes_as_a_code() {
        for good in ["a", "known_customer", "art_17_1", "form_2026"] {
            assert!(is_code(good), "{good}");
        }
        let wrong =
            ["", "33639980001", "a33639980001", "n_33_63_99_80", "_a", "1a", "Ana", "a b", "é"];
        for wrong in wrong {
            assert!(!is_code(wrong), "{wrong}");
        }
        assert!(!is_code(&"a".repeat(65)));
    }

    #[test]
    fn every_operation_is_documented_behind_a_key() {
        let document = serde_json::to_value(openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 35, "{:?}", paths.keys());
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                assert_eq!(operation["security"][0]["bearer"], serde_json::json!([]), "{path}");
                assert!(operation["summary"].is_string(), "{method} {path} says what it does");
            }
        }
    }
}
