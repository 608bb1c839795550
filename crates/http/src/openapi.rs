//! What every OpenAPI document of Assent has in common: the bearer scheme and the problem shape.

use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

/// The shape of a refusal in OpenAPI documents; [`crate::Problem`] is what is sent.
#[derive(Debug, serde::Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// `urn:assent:problem:<code>`
    pub r#type: String,
    /// One line for people.
    pub title: String,
    /// The HTTP status once more.
    pub status: u16,
    /// Stable code, documented under `docs/errors/`.
    pub code: String,
    /// What is wrong with this request.
    pub detail: Option<String>,
}

/// Adds the bearer scheme (`bearer`) to a document.
pub fn add_bearer(document: &mut OpenApi) {
    document
        .components
        .get_or_insert_with(Default::default)
        .add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
}
