//! The HTTP APIs, behind one address. It guarantees that no request is repeated or redirected by itself and that
//! every call ends in time; whether to try again is the caller's decision, under the same idempotency key.

use std::time::Duration;

use assent_contracts::api::consent::{
    ConsentAnswer, GrantRequest, PermitsRequest, PermitsResponse, Verdict, VerdictRequest,
    WithdrawRequest,
};
use assent_contracts::api::messaging::{MessageQueued, MessageView};
use assent_contracts::api::vault::{LookupRequest, LookupResponse};
use assent_contracts::erasure::{Ack, Erased};
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// No connection after this: nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than the slowest answer: a withdrawal waits until it is settled, a message up to 20 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);
/// The longest wait that a message's state can be asked with.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Why a call has no answer of the kind that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client could not be made.
    #[error("the client can't be made: {0}")]
    Setup(String),
    /// No connection: the request was not sent.
    #[error("unreachable")]
    Unreachable,
    /// No answer in time: it may have been done.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke, or the answer has another form: it may have been done.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
    /// It was refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
}

/// A refusal: its problem document (RFC 9457). There are pages on all codes in `docs/errors`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("refused with {status}: {code}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The stable code: match on this. Empty when the answer was no problem document.
    pub code: String,
    /// What is wrong, for people.
    pub detail: Option<String>,
    /// When to come again, where that is told.
    pub retry_after: Option<Duration>,
    /// The whole document, with members such as `reason`; null where there is none.
    pub problem: Value,
}

impl Error {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }

    /// Whether the same call, under the same idempotency key, may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable | Self::Timeout | Self::Unexpected(_) => true,
            Self::Refused(refusal) => refusal.status == 429 || refusal.status >= 500,
            Self::Setup(_) => false,
        }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        if error.is_connect() {
            Self::Unreachable
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Unexpected("the connection broke")
        }
    }
}

/// Assent, as one caller sees it. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    bearer: HeaderValue,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl Client {
    /// A caller of the gateway, or an ingress with the same paths, at `base`.
    ///
    /// # Errors
    /// [`Error::Setup`] when the address or the token can't be used.
    pub fn new(base: &str, token: &str) -> Result<Self, Error> {
        let setup = |what: &str| Error::Setup(what.to_owned());
        let usable = reqwest::Url::parse(base)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !usable {
            return Err(setup("no http(s) address"));
        }
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut bearer = bearer.map_err(|_| setup("the token is no header value"))?;
        bearer.set_sensitive(true);
        #[expect(clippy::disallowed_methods, reason = "others' services have none of ours")]
        let http = reqwest::Client::builder()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .user_agent(concat!("assent-client/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| setup("TLS"))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), bearer })
    }

    /// Who has this number or user id? Scope `subjects:read`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn lookup(&self, who: &LookupRequest) -> Result<LookupResponse, Error> {
        self.post("/vault/v1/subjects/lookup", who, None).await
    }

    /// Records a yes. `key`: your own id of the act; a repeat gets the first answer. Scope `consent:write`.
    ///
    /// # Errors
    /// [`Error`]; `consent_not_allowed` where only the person may lift what stands against it.
    pub async fn grant(&self, yes: &GrantRequest, key: &str) -> Result<ConsentAnswer, Error> {
        self.post("/consent/v1/consents/grant", yes, Some(key)).await
    }

    /// Records a no to a question.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn refuse(&self, no: &WithdrawRequest, key: &str) -> Result<ConsentAnswer, Error> {
        self.post("/consent/v1/consents/refuse", no, Some(key)).await
    }

    /// Records a withdrawal. It answers when it is settled: nothing that rests on what was withdrawn is sent after.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn withdraw(&self, no: &WithdrawRequest, key: &str) -> Result<ConsentAnswer, Error> {
        self.post("/consent/v1/consents/withdraw", no, Some(key)).await
    }

    /// What the gate would say now. For looking: nothing may be sent on it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn verdict(&self, ask: &VerdictRequest) -> Result<Verdict, Error> {
        self.post("/consent/v1/verdict", ask, None).await
    }

    /// Asks for permits, each worth one send that starts within one lease counted from before this call. An error is
    /// no permit. Scope `permits:write`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn permits(&self, asks: &PermitsRequest) -> Result<PermitsResponse, Error> {
        self.post("/consent/v1/permits", asks, None).await
    }

    /// Queues a message, of the form that `POST /v1/messages` has in messaging's OpenAPI document. The gate is asked
    /// when it goes out. Scope `messages:write`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn send<M: Serialize + ?Sized>(
        &self,
        message: &M,
        key: &str,
    ) -> Result<MessageQueued, Error> {
        self.post("/messaging/v1/messages", message, Some(key)).await
    }

    /// What became of a message; waits up to 20 s until it is settled. Scope `messages:read`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn message(&self, message: Uuid, wait: Duration) -> Result<MessageView, Error> {
        let wait_ms = wait.min(WAIT_MAX).as_millis();
        self.get(&format!("/messaging/v1/messages/{message}?wait_ms={wait_ms}")).await
    }

    /// Everybody whose erasure was requested, with what this participant has answered. Scope `erasure:ack`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn erased(&self) -> Result<Vec<Erased>, Error> {
        self.all("/erasure/v1/erased").await
    }

    /// Answers a command of the erasure saga. [`Participant`](crate::Participant) does it for you.
    ///
    /// # Errors
    /// [`Error`]; `ack_mismatch` has a `reason` in its document.
    pub async fn acknowledge(&self, request: Uuid, ack: &Ack) -> Result<(), Error> {
        let path = format!("/erasure/v1/requests/{request}/acks");
        self.post::<_, Value>(&path, ack, None).await.map(drop)
    }

    /// Every page of a listing, for what has no method here.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn all<R: DeserializeOwned>(&self, path: &str) -> Result<Vec<R>, Error> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        let more = if path.contains('?') { '&' } else { '?' };
        loop {
            let page: Page<R> = self.get(&format!("{path}{more}limit=500{cursor}")).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    /// GET, for what has no method here: `/projector/v1/contacts`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, Error> {
        answer(self.request(Method::GET, path)).await
    }

    /// POST, for what has no method here.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn post<B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        key: Option<&str>,
    ) -> Result<R, Error> {
        let mut request = self.request(Method::POST, path).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        answer(request).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.http.request(method, url).header(AUTHORIZATION, self.bearer.clone())
    }
}

async fn answer<R: DeserializeOwned>(request: RequestBuilder) -> Result<R, Error> {
    let answer = request.send().await?;
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
    let body = answer.bytes().await?;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|_| Error::Unexpected("another form"));
    }
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    Err(Error::Refused(Box::new(Refusal {
        status: status.as_u16(),
        code: text("code").unwrap_or_default(),
        detail: text("detail"),
        retry_after: after.map(Duration::from_secs),
        problem,
    })))
}
