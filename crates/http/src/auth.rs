//! Static bearer keys with scopes. It guarantees that nothing behind [`protected`] answers
//! without a known key and that keys are held as SHA-256 only; which scope an endpoint needs is
//! said by its handler ([`Caller::require`]).

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::future::Either;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tower::{Layer, Service};

use assent_runtime::Settings;

use crate::problem::{Code, Problem};

/// Every scope there is. A key file that names another is refused: a misspelt scope would be a
/// lock without a key.
pub const SCOPES: [&str; 33] = [
    "campaigns:approve",
    "claims:review",
    "consent:read",
    "consent:write",
    "conversations:open",
    "conversations:read",
    "conversations:write",
    "erasure:ack",
    "erasure:decide",
    "erasure:intake",
    "erasure:read",
    "erasure:retention",
    "erasure:track",
    "erasure:write",
    "gate:write",
    "holds:write",
    "keys:lease",
    "messages:read",
    "messages:write",
    "operations",
    "permits:write",
    "policy:write",
    "query:read",
    "restricted:read",
    "restrictions:write",
    "screening:run",
    "seal:write",
    "subjects:export",
    "subjects:read",
    "subjects:resolve",
    "subjects:write",
    "suppression:read",
    "suppression:write",
];

/// The keys that open a deployment.
#[derive(Debug, Default)]
pub struct Keys(HashMap<[u8; 32], Arc<Identity>>);

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    name: String,
    key: String,
    scopes: BTreeSet<String>,
}

/// The key file is not usable. Names keys, never their hashes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeysError {
    /// Not the TOML that was expected.
    #[error("no valid key file: {0}")]
    Malformed(String),
    /// Not 64 hex digits.
    #[error("key {0:?}: sha256 must be 64 hex digits")]
    Hash(String),
    /// A scope that does not exist.
    #[error("key {0:?}: unknown scope {1:?}")]
    Scope(String, String),
    /// Two keys with one hash.
    #[error("key {0:?} has the same sha256 as another")]
    Twice(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    key: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    sha256: String,
    scopes: Vec<String>,
}

impl Keys {
    /// Reads `[auth] keys_file`; errors are recorded in the settings.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Arc<Self>> {
        let section = settings.section("auth");
        let text = section.file("keys_file")?;
        Self::parse(&text)
            .map(Arc::new)
            .map_err(|error| section.invalid("keys_file", error.to_string()))
            .ok()
    }

    /// Reads a key file: `[[key]]` entries with `name`, `sha256` (hex, of the token) and `scopes`.
    ///
    /// # Errors
    /// [`KeysError`] for the first entry that is wrong.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let file: KeyFile = toml::from_str(text)
            .map_err(|error| KeysError::Malformed(error.message().to_owned()))?;
        let mut keys = HashMap::with_capacity(file.key.len());
        for KeyEntry { name, sha256, scopes } in file.key {
            let hash = decode_hash(&sha256).ok_or_else(|| KeysError::Hash(name.clone()))?;
            if let Some(unknown) = scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
                return Err(KeysError::Scope(name, unknown.clone()));
            }
            let key = key_id(&hash);
            let scopes = scopes.into_iter().collect();
            let identity = Identity { name: name.clone(), key, scopes };
            if keys.insert(hash, Arc::new(identity)).is_some() {
                return Err(KeysError::Twice(name));
            }
        }
        Ok(Self(keys))
    }

    /// Whether there is a key of this name that has this scope.
    #[must_use]
    pub fn has(&self, name: &str, scope: &str) -> bool {
        self.0.values().any(|key| key.name == name && key.scopes.contains(scope))
    }

    /// Who holds this token. Looked up by its hash, so timing says nothing about other tokens.
    #[must_use]
    pub fn caller(&self, token: &str) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.0.get(&hash).map(|identity| Caller(Arc::clone(identity)))
    }
}

/// The line of a key file for a token: what tools that make keys write.
#[must_use]
pub fn key_entry(name: &str, token: &str, scopes: &[&str]) -> String {
    use std::fmt::Write;
    let hash = Sha256::digest(token.as_bytes());
    let mut hex = String::with_capacity(64);
    for byte in hash {
        let _ = write!(hex, "{byte:02x}");
    }
    format!("[[key]]\nname = {name:?}\nsha256 = {hex:?}\nscopes = {scopes:?}\n")
}

fn key_id(hash: &[u8; 32]) -> String {
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn decode_hash(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(hash)
}

/// Who asks: an extractor for handlers behind [`protected`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Arc<Identity>);

impl Caller {
    /// A caller of this name and these scopes: for tests of handlers.
    #[must_use]
    pub fn new(name: &str, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let key = key_id(&Sha256::digest(name.as_bytes()).into());
        Self(Arc::new(Identity { name: name.to_owned(), key, scopes }))
    }

    /// The name in the key file: what access records say.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Which key it is, for records that outlive names: the first 16 hex digits of its `sha256` in the key
    /// file. It opens nothing.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// Whether the key has this scope.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        debug_assert!(SCOPES.contains(&scope), "{scope} is not in SCOPES");
        self.0.scopes.contains(scope)
    }

    /// # Errors
    /// `forbidden` when the key lacks this scope.
    pub fn require(&self, scope: &str) -> Result<(), Problem> {
        if self.has(scope) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden).detail(format!("the key needs the scope {scope}")))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Absent only when the route was not mounted behind `protected`: still closed.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Code::Unauthenticated.into())
    }
}

/// Puts every route of the router behind a bearer key. Routes that authenticate otherwise (a
/// webhook's signature) are merged afterwards.
pub fn protected<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    keys: Arc<Keys>,
) -> Router<S> {
    router.route_layer(RequireKey { keys })
}

#[derive(Clone)]
struct RequireKey {
    keys: Arc<Keys>,
}

impl<S> Layer<S> for RequireKey {
    type Service = KeyRequired<S>;

    fn layer(&self, inner: S) -> KeyRequired<S> {
        KeyRequired { inner, keys: Arc::clone(&self.keys) }
    }
}

#[derive(Clone)]
struct KeyRequired<S> {
    inner: S,
    keys: Arc<Keys>,
}

impl<S> Service<Request> for KeyRequired<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, std::future::Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let caller = bearer(&request).and_then(|token| self.keys.caller(token));
        match caller {
            Some(caller) => {
                tracing::Span::current().record("caller", caller.name());
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            None => {
                let refusal = Problem::new(Code::Unauthenticated).into_response();
                Either::Right(std::future::ready(Ok(refusal)))
            }
        }
    }
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    fn keys() -> Arc<Keys> {
        Arc::new(Keys::parse(&key_entry("cli", "t0ken", &["consent:read"])).unwrap())
    }

    async fn status(authorization: Option<&str>) -> StatusCode {
        let router = Router::new().route(
            "/",
            get(|caller: Caller| async move { caller.require("consent:read").map(|()| "ok") }),
        );
        let mut request = Request::builder().uri("/");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Body::empty()).unwrap();
        protected(router, keys()).oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn nothing_answers_without_a_known_key() {
        assert_eq!(status(None).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(Some("Bearer other")).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(Some("Basic t0ken")).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(Some("Bearer t0ken")).await, StatusCode::OK);
    }

    #[test]
    fn a_scope_is_needed_and_unknown_scopes_are_refused() {
        let caller = keys().caller("t0ken").unwrap();
        assert_eq!(caller.name(), "cli");
        let line = key_entry("cli", "t0ken", &["consent:read"]);
        assert!(line.contains(&format!("sha256 = \"{}", caller.key())), "{line}");
        assert_eq!(caller.key().len(), 16);
        assert_eq!(caller.require("operations").unwrap_err().code, Code::Forbidden);
        let misspelt = key_entry("cli", "t", &["consent:raed"]);
        assert_eq!(
            Keys::parse(&misspelt).unwrap_err(),
            KeysError::Scope("cli".into(), "consent:raed".into())
        );
    }
}
