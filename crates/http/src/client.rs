//! The only HTTP client. It guarantees that no request is ever repeated by itself, that every
//! call ends in time and that the trace goes along; whether to try again is the caller's decision.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use assent_runtime::telemetry;

use crate::extract::IDEMPOTENCY_KEY;
use crate::page::Listing;
use crate::problem::{Code, Problem};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that neither repeats nor redirects, for whoever speaks HTTP to others than services.
///
/// # Errors
/// When TLS can't be set up.
pub fn http_client(
    connect_timeout: Duration,
    call_timeout: Duration,
) -> Result<reqwest::Client, ClientError> {
    builder(connect_timeout, call_timeout).build().map_err(|e| ClientError::Setup(e.to_string()))
}

/// The builder behind [`http_client`], for settings of one's own (a pool, a root certificate).
pub fn builder(connect_timeout: Duration, call_timeout: Duration) -> reqwest::ClientBuilder {
    #[expect(clippy::disallowed_methods, reason = "the one place where clients are made")]
    reqwest::Client::builder()
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect_timeout)
        .timeout(call_timeout)
        .pool_idle_timeout(Duration::from_secs(15))
        .tcp_nodelay(true)
        .user_agent(concat!("assent/", env!("CARGO_PKG_VERSION")))
}

/// Why a call gave no answer of the expected kind.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: the request was not sent.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time: it may have been done.
    #[error("no answer in time")]
    Timeout,
    /// The service refused.
    #[error("refused with {status}: {}", .code.as_deref().unwrap_or("no code"))]
    Problem {
        /// The HTTP status.
        status: StatusCode,
        /// The problem's code ([`Code::name`]), if it sent one.
        code: Option<String>,
        /// The problem's detail.
        detail: Option<String>,
        /// The whole document; null when it was no JSON.
        body: Value,
    },
    /// The connection broke, or the answer has another shape: it may have been done.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// The client could not be made.
    #[error("client: {0}")]
    Setup(String),
}

impl ClientError {
    /// The code of the refusal, if it was one that we know.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Problem { code: Some(code), .. } => Code::by_name(code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: the other side was absent, late or overloaded.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout | Self::Protocol(_) => true,
            Self::Problem { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Setup(_) => false,
        }
    }

    pub(crate) fn sending(error: &reqwest::Error) -> Self {
        if error.is_connect() {
            Self::Unreachable(chain(error))
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Protocol(chain(error))
        }
    }
}

// The URL is left out: it may have been given by someone.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { "the request could not be sent".to_owned() } else { text }
}

/// A call of ours failed while we served someone: what she is told.
impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem { status, .. } if status.is_client_error() => {
                Problem::internal(error)
            }
            ClientError::Timeout => Problem::new(Code::Timeout),
            other => Problem::unavailable("another service", other),
        }
    }
}

/// Another service of the deployment. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct ServiceClient {
    http: reqwest::Client,
    base: String,
    bearer: HeaderValue,
}

impl std::fmt::Debug for ServiceClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceClient").field("base", &self.base).finish_non_exhaustive()
    }
}

impl ServiceClient {
    /// A client for the service at `base`, such as `http://127.0.0.1:7101`, with the usual time
    /// limits (connect 2 s, whole call 10 s).
    ///
    /// # Errors
    /// [`ClientError::Setup`] when the address or the token can't be used.
    pub fn new(base: &str, token: &SecretString) -> Result<Self, ClientError> {
        Self::with_timeout(base, token, CALL_TIMEOUT)
    }

    /// As [`Self::new`] with a time limit of the caller's own for the whole call.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_timeout(
        base: &str,
        token: &SecretString,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let base = base.trim_end_matches('/').to_owned();
        let usable = reqwest::Url::parse(&base)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !usable {
            return Err(ClientError::Setup(format!("{base:?} is no http(s) address")));
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| ClientError::Setup("the token is no header value".to_owned()))?;
        bearer.set_sensitive(true);
        Ok(Self { http: http_client(CONNECT_TIMEOUT, timeout)?, base, bearer })
    }

    /// The address it calls, without a trailing slash.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET a JSON answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, ClientError> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// GET every page of the list at `path`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn all<R: DeserializeOwned>(&self, path: &str) -> Result<Vec<R>, ClientError> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        let more = if path.contains('?') { '&' } else { '?' };
        loop {
            let page: Listing<R> = self.get(&format!("{path}{more}limit=500{cursor}")).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    /// POST a JSON body for a JSON answer, with an idempotency key where one is given.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        idempotency: Option<&str>,
    ) -> Result<R, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Protocol(e.to_string()))?;
        let mut request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        if let Some(key) = idempotency {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        self.answer(request).await
    }

    /// POST a file of this type for a JSON answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_file<R: DeserializeOwned>(
        &self,
        path: &str,
        media_type: &'static str,
        file: Vec<u8>,
    ) -> Result<R, ClientError> {
        let request = self.request(Method::POST, path);
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static(media_type));
        self.answer(request.body(file)).await
    }

    /// POST a JSON body for an answer that is no JSON, such as an archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_for_bytes<B: Serialize + ?Sized>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Bytes, ClientError> {
        Self::body(self.request(Method::POST, path).json(body)).await
    }

    /// GET a text, such as a certificate.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = Self::body(self.request(Method::GET, path)).await?;
        String::from_utf8(bytes.into()).map_err(|_| ClientError::Protocol("no text".to_owned()))
    }

    /// DELETE `path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        Self::body(self.request(Method::DELETE, path)).await.map(|_| ())
    }

    /// A request with bearer and trace context, for what the other methods don't cover.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(AUTHORIZATION, self.bearer.clone());
        if let Some(parent) = telemetry::traceparent().and_then(|p| HeaderValue::try_from(p).ok()) {
            headers.insert("traceparent", parent);
        }
        self.http.request(method, format!("{}{path}", self.base)).headers(headers)
    }

    async fn answer<R: DeserializeOwned>(&self, request: RequestBuilder) -> Result<R, ClientError> {
        let bytes = Self::body(request).await?;
        // 204 has no body: `()` reads from null.
        let bytes = if bytes.is_empty() { &b"null"[..] } else { &bytes[..] };
        serde_json::from_slice(bytes)
            .map_err(|error| ClientError::Protocol(format!("{:?}", error.classify())))
    }

    /// The body of an answer that is no refusal.
    async fn body(request: RequestBuilder) -> Result<Bytes, ClientError> {
        let response = request.send().await.map_err(|e| ClientError::sending(&e))?;
        let status = response.status();
        // A refusal's body that breaks off is still a refusal.
        let bytes = response.bytes().await.map_err(|e| ClientError::sending(&e));
        if status.is_success() {
            return bytes;
        }
        let body: Value =
            bytes.ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        let member = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        Err(ClientError::Problem { status, code: member("code"), detail: member("detail"), body })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::routing::{get, post};

    use super::*;

    /// Serves the routes; its address.
    async fn serve(router: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        base
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_code_and_no_call_is_repeated() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let router = Router::new()
            .route(
                "/refuses",
                post(move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    async { Problem::new(Code::Overloaded).detail("later") }
                }),
            )
            .route("/hangs", get(std::future::pending::<()>));
        let base = serve(router).await;
        let client = ServiceClient::new(&base, &"t".into()).unwrap();
        let error = client.post::<_, ()>("/refuses", &1, Some("k")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Overloaded));
        assert!(error.is_transient());
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let hasty = Duration::from_millis(300);
        let client = ServiceClient::with_timeout(&base, &"t".into(), hasty).unwrap();
        let error = client.get::<()>("/hangs").await.unwrap_err();
        assert!(matches!(error, ClientError::Timeout), "{error}");
    }

    #[tokio::test]
    async fn an_absent_service_is_unreachable() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let client = ServiceClient::new(&base, &"t".into()).unwrap();
        let error = client.get::<()>("/").await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
        assert!(ServiceClient::new("localhost:1", &"t".into()).is_err());
    }
}
