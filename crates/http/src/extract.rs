//! Extractors whose refusals are problems: JSON bodies, queries, paths, idempotency keys. They
//! have the names of axum's, so that OpenAPI sees them; unknown fields are refused by the types
//! themselves (`deny_unknown_fields`).

use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::{Code, Problem};

/// A JSON body, in and out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

/// A JSON body with its bytes as they came: what an idempotency key is bound to.
#[derive(Debug, Clone)]
pub struct JsonBytes<T>(pub T, pub Bytes);

/// U+0000 as a URL has it.
const NUL: &str = "%00";

/// A query string.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

/// Path parameters. One that doesn't parse names nothing: `not_found`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = json_bytes(request, state).await?;
        decode(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBytes<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = json_bytes(request, state).await?;
        Ok(Self(decode(&bytes)?, bytes))
    }
}

async fn json_bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    if !is_json(request.headers()) {
        return Err(Code::UnsupportedMediaType.into());
    }
    Bytes::from_request(request, state).await.map_err(body_problem)
}

/// The problem behind a body that could not be read.
#[must_use]
pub fn body_problem(rejection: BytesRejection) -> Problem {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Code::BodyTooLarge.into()
        }
        _ => Problem::new(Code::MalformedBody).detail("the body ended early"),
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let malformed = |detail: &str| Problem::new(Code::MalformedBody).detail(detail);
    // serde would take the fields of an object in their order, without their names.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(malformed("the body must be an object"));
    }
    let value = serde_json::from_slice(bytes).map_err(|error| malformed(&describe(&error)))?;
    if holds_nul(bytes) {
        return Err(malformed("no text may hold U+0000"));
    }
    Ok(value)
}

/// Whether a text in this JSON holds U+0000, which it can as `\u0000` only. No database keeps it: it would
/// be refused there, as a fault of ours.
pub(crate) fn holds_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(escape) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[escape + 1..];
        if rest.starts_with(b"u0000") {
            return true;
        }
        // Whatever is escaped, a backslash too, begins no escape.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// What is wrong, without quoting values: a value may be a phone number. serde names fields and
/// types in backticks and values in quotes or after "invalid value".
fn describe(error: &serde_json::Error) -> String {
    let place = format!("at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    for known in ["missing field `", "unknown field `", "duplicate field `"] {
        if let Some(rest) = text.strip_prefix(known) {
            // An unknown field's name comes from the client: tell only what is expected.
            if known.starts_with("unknown") {
                let expected = rest.split_once("`, ").map_or("", |(_, expected)| expected);
                let expected = expected.split(" at line").next().unwrap_or_default();
                return format!("unknown field {place}: {expected}");
            }
            let field = rest.split('`').next().unwrap_or_default();
            return format!("{known}{field}` {place}");
        }
    }
    match error.classify() {
        serde_json::error::Category::Data => format!("a value of the wrong type or form {place}"),
        _ => format!("no valid JSON {place}"),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 5 && essence.to_ascii_lowercase().ends_with("+json"))
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                let json = HeaderValue::from_static("application/json");
                ([(header::CONTENT_TYPE, json)], body).into_response()
            }
            Err(error) => Problem::internal(error).into_response(),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        match query {
            Ok(query) if !parts.uri.query().is_some_and(|it| it.contains(NUL)) => Ok(Self(query.0)),
            _ => Err(Problem::new(Code::MalformedParameter)
                .detail("the query string has an unknown or malformed parameter")),
        }
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        match path {
            Ok(path) if !parts.uri.path().contains(NUL) => Ok(Self(path.0)),
            _ => Err(Code::NotFound.into()),
        }
    }
}

/// The `Idempotency-Key` header: at most 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdempotencyKey(pub Option<String>);

/// The header's name.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl IdempotencyKey {
    /// # Errors
    /// `idempotency_key_invalid` when the header was not sent.
    pub fn required(self) -> Result<String, Problem> {
        self.0.ok_or_else(|| {
            Problem::new(Code::IdempotencyKeyInvalid)
                .detail("the Idempotency-Key header is missing")
        })
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let valid = values.next().is_none()
            && (1..=255).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic);
        match value.to_str() {
            Ok(key) if valid => Ok(Self(Some(key.to_owned()))),
            _ => Err(Problem::new(Code::IdempotencyKeyInvalid)
                .detail("the key must be one header of 1 to 255 visible ASCII characters")),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body1 {
        #[expect(dead_code, reason = "only its presence matters")]
        phone: u64,
    }

    async fn refusal(content_type: &str, body: &str) -> Problem {
        let request = Request::builder()
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body.to_owned()))
            .unwrap();
        Json::<Body1>::from_request(request, &()).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_body_is_refused_with_its_place_and_without_its_content() {
        assert_eq!(refusal("text/plain", "{}").await.code, Code::UnsupportedMediaType);
        for body in [
            r#"{"phone":"+33612345678"}"#,
            r#"{"phone":1,"+33612345678":2}"#,
            r#"{"phone": +33612345678}"#,
            r#"{"other":"+33612345678"}"#,
        ] {
            let problem = refusal("application/json; charset=utf-8", body).await;
            assert_eq!(problem.code, Code::MalformedBody);
            let detail = problem.detail.unwrap();
            assert!(detail.contains("line 1"), "{detail}");
            assert!(!detail.contains("3361"), "{detail}");
        }
    }

    #[tokio::test]
    async fn an_object_is_not_read_from_a_list_of_its_values() {
        assert_eq!(refusal("application/json", " [1]").await.code, Code::MalformedBody);
    }

    #[tokio::test]
    async fn what_no_database_keeps_is_refused_at_the_edge() {
        type Texts = std::collections::BTreeMap<String, String>;
        let body = |json: &str| {
            let request = Request::builder().header(header::CONTENT_TYPE, "application/json");
            request.body(Body::from(json.to_owned())).unwrap()
        };
        for (json, good) in [
            (r#"{"a":"b\u0000"}"#, false),
            (r#"{"a\u0000":"b"}"#, false),
            (r#"{"a":"\\\u0000"}"#, false),
            (r#"{"a":"\\u0000"}"#, true),
        ] {
            let read = Json::<Texts>::from_request(body(json), &()).await;
            let refused = read.map_err(|problem| problem.code).err();
            assert_eq!(refused, (!good).then_some(Code::MalformedBody), "{json}");
        }
        for (uri, good) in [("/?a=1", true), ("/?a=%00", false), ("/?a=%2500", true)] {
            let (mut parts, ()) =
                axum::http::Request::builder().uri(uri).body(()).unwrap().into_parts();
            let read = Query::<Texts>::from_request_parts(&mut parts, &()).await;
            assert_eq!(read.is_ok(), good, "{uri}");
        }
    }

    #[tokio::test]
    async fn an_idempotency_key_is_short_and_visible() {
        let long = "k".repeat(256);
        for (value, good) in [("k-1", true), ("", false), ("a b", false), (long.as_str(), false)] {
            let (mut parts, ()) = axum::http::Request::builder()
                .header(IDEMPOTENCY_KEY, value)
                .body(())
                .unwrap()
                .into_parts();
            let key = IdempotencyKey::from_request_parts(&mut parts, &()).await;
            assert_eq!(key.is_ok(), good, "{value:?}");
        }
    }
}
