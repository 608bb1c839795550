//! What every OpenAPI document of Assent has in common: the bearer scheme, the problem shape, and
//! what the edge answers before a handler is reached. Handlers describe only what is theirs.

use axum::http::StatusCode;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Response, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::extract::IDEMPOTENCY_KEY;
use crate::problem::Code;

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

/// Completes a document: the bearer scheme (`bearer`), and in each operation an id of its own and
/// every problem that stands before its handler.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_with(Default::default);
    components
        .add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.schemas.insert("Problem".to_owned(), ProblemBody::schema());
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            name(operation);
            operation.parameters.iter_mut().flatten().for_each(parameter);
            for code in before_the_handler(operation) {
                declare(operation, code);
            }
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response {
                    finish(status, response);
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Handlers in different files may have one name: with their tag they differ.
fn name(operation: &mut Operation) {
    let tag = operation.tags.as_ref().and_then(|tags| tags.first());
    if let (Some(tag), Some(id)) = (tag, &mut operation.operation_id) {
        *id = format!("{tag}_{id}");
    }
}

/// A parameter that may be absent is never null; an idempotency key has its bounds.
fn parameter(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(Parameter { name, schema: Some(RefOr::T(Schema::Object(schema))), .. }) =
        parameter
    else {
        return;
    };
    if let SchemaType::Array(types) = &schema.schema_type
        && let [only, Type::Null] = &types[..]
    {
        schema.schema_type = SchemaType::Type(only.clone());
    }
    if name.eq_ignore_ascii_case(IDEMPOTENCY_KEY) {
        schema.pattern = Some("^[!-~]{1,255}$".to_owned());
    }
}

/// The problems of the layers and extractors, by what the operation takes.
fn before_the_handler(operation: &Operation) -> Vec<Code> {
    let mut codes = vec![Code::Internal, Code::Timeout];
    codes.extend([Code::Overloaded, Code::NotReady, Code::DependencyUnavailable]);
    for parameter in operation.parameters.iter().flatten() {
        let RefOr::T(Parameter { name, parameter_in, .. }) = parameter else { continue };
        match parameter_in {
            ParameterIn::Path => codes.push(Code::NotFound),
            ParameterIn::Query if name == "cursor" => codes.push(Code::CursorInvalid),
            ParameterIn::Query => codes.push(Code::MalformedParameter),
            ParameterIn::Header if name.eq_ignore_ascii_case(IDEMPOTENCY_KEY) => {
                codes.extend([Code::IdempotencyKeyInvalid, Code::IdempotencyKeyReused]);
            }
            _ => {}
        }
    }
    // Whoever comes without a key proves itself by its body, which is then read by its handler.
    if operation.security.is_some() {
        codes.extend([Code::Unauthenticated, Code::Forbidden]);
        if operation.request_body.is_some() {
            codes.extend([Code::MalformedBody, Code::BodyTooLarge, Code::UnsupportedMediaType]);
        }
    }
    codes
}

/// Adds a code to the response of its status.
fn declare(operation: &mut Operation, code: Code) {
    let status = code.status().as_str().to_owned();
    let response =
        operation.responses.responses.entry(status).or_insert_with(|| Response::new("").into());
    let RefOr::T(Response { description, .. }) = response else { return };
    if description.is_empty() {
        code.name().clone_into(description);
    } else if !description
        .split(|c: char| c != '_' && !c.is_ascii_lowercase())
        .any(|it| it == code.name())
    {
        // A list of codes goes on; what explains one is over first.
        let separator = if description.contains(": ") { ";" } else { "," };
        *description = format!("{description}{separator} {code}");
    }
}

/// Every response has a description, and from 400 on it is a problem.
fn finish(status: &str, response: &mut Response) {
    let status = status.parse::<StatusCode>().unwrap_or_default();
    if response.description.is_empty() {
        response.description = status.canonical_reason().unwrap_or_default().to_owned();
    }
    if status.is_client_error() || status.is_server_error() {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        response.content.clear();
        response.content.insert("application/problem+json".to_owned(), problem.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use utoipa::OpenApi as _;

    use super::*;

    #[utoipa::path(
        post, path = "/v1/things/{name}", tag = "things", security(("bearer" = [])),
        params(
            ("name" = String, Path), ("cursor" = Option<String>, Query),
            ("Idempotency-Key" = Option<String>, Header)
        ),
        request_body = String,
        responses((status = 204), (status = 404, description = "purpose_unknown"),
            (status = 422, description = "phone_invalid: it is none"))
    )]
    #[expect(dead_code, reason = "only what it says of itself matters")]
    fn change() {}

    #[utoipa::path(get, path = "/open", tag = "hook", responses((status = 200, body = String)))]
    #[expect(dead_code, reason = "only what it says of itself matters")]
    fn open() {}

    #[derive(utoipa::OpenApi)]
    #[openapi(paths(change, open))]
    struct Document;

    fn told(operation: &Value) -> Vec<(&str, &str)> {
        let responses = operation["responses"].as_object().unwrap();
        responses
            .iter()
            .map(|(status, response)| (&**status, response["description"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn an_operation_tells_what_stands_before_its_handler() {
        let mut document = Document::openapi();
        complete(&mut document);
        let document = serde_json::to_value(document).unwrap();
        let change = &document["paths"]["/v1/things/{name}"]["post"];
        assert_eq!(change["operationId"], "things_change");
        assert_eq!(
            told(change),
            [
                ("204", "No Content"),
                ("400", "cursor_invalid, idempotency_key_invalid, malformed_body"),
                ("401", "unauthenticated"),
                ("403", "forbidden"),
                ("404", "purpose_unknown, not_found"),
                ("413", "body_too_large"),
                ("415", "unsupported_media_type"),
                ("422", "phone_invalid: it is none; idempotency_key_reused"),
                ("500", "internal"),
                ("503", "overloaded, not_ready, dependency_unavailable"),
                ("504", "timeout"),
            ]
        );
        let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
        assert_eq!(change["responses"]["404"]["content"], problem);
        assert_eq!(change["parameters"][1]["schema"], json!({"type": "string"}));
        let statuses: Vec<&str> = told(&document["paths"]["/open"]["get"])
            .into_iter()
            .map(|(status, _)| status)
            .collect();
        assert_eq!(statuses, ["200", "500", "503", "504"]);
    }
}
