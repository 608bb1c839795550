//! The call to the provider. It guarantees that one call is at most one message: nothing here
//! retries, follows redirects, uses a proxy or a pooled connection, and what is said of a lost call
//! ("certainly not sent" or "may have been sent") is never too hopeful.

use std::error::Error as _;
use std::time::Duration;

use assent_runtime::{Lease, telemetry};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::answer::{self, Answer};
use super::last_look::LastLook;
use super::listing;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The Cloud API for one phone number.
#[derive(Clone)]
pub struct Provider {
    pub(super) http: reqwest::Client,
    pub(super) base: String,
    /// The number's address.
    pub(super) number: String,
    pub(super) authorization: HeaderValue,
}

/// How a call ended.
pub enum Outcome {
    /// The provider answered.
    Answered(Answer),
    /// Certainly not sent: the lease had run out at the last look.
    Withheld,
    /// Certainly not sent: the connection failed before the body began.
    Unreachable,
    /// The body had begun and no answer came. It may have been sent.
    Lost(&'static str),
}

/// A finished call.
pub struct Call {
    /// How it ended.
    pub outcome: Outcome,
    /// By how much the body's last byte was written after the end of the lease: an incident.
    pub overrun: Option<Duration>,
}

/// The provider's address or token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The HTTP client can't be built.
    #[error("the provider's client: {0}")]
    Client(#[from] reqwest::Error),
    /// The access token holds characters that no header may.
    #[error("the provider's access token is no header value")]
    Token,
}

impl Provider {
    /// A client for `{base}/{version}`, which writes to `{phone_number_id}/messages` there.
    ///
    /// # Errors
    /// When the client can't be built or the token is no header value.
    pub fn new(
        base: &str,
        version: &str,
        phone_number_id: &str,
        token: &SecretString,
        timeout: Duration,
    ) -> Result<Self, ProviderError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this path needs stricter settings than other clients: no pool, HTTP/1 only"
        )]
        let http = reqwest::Client::builder()
            .retry(reqwest::retry::never())
            // A pooled connection that the provider has just closed takes the body and loses it:
            // each call has a connection of its own. HTTP/2 would share one again.
            .pool_max_idle_per_host(0)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(timeout)
            .timeout(timeout)
            .user_agent(concat!("assent/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| ProviderError::Token)?;
        authorization.set_sensitive(true);
        let base = format!("{}/{version}", base.trim_end_matches('/'));
        let number = format!("{base}/{phone_number_id}");
        Ok(Self { http, base, number, authorization })
    }

    /// Sends one body, a message or a mark, under `lease`. When this future is dropped the outcome is
    /// unknown.
    pub async fn send(&self, body: Vec<u8>, lease: Lease) -> Call {
        let (body, written) = LastLook::new(body, lease);
        let mut request = self
            .http
            .post(format!("{}/messages", self.number))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(reqwest::Body::wrap(body));
        if let Some(traceparent) = telemetry::traceparent() {
            request = request.header("traceparent", traceparent);
        }
        let outcome = match request.send().await {
            Ok(response) => Outcome::Answered(read(response).await),
            Err(_) if written.withheld() => Outcome::Withheld,
            Err(_) if !written.began() => Outcome::Unreachable,
            Err(error) => Outcome::Lost(reason(&error)),
        };
        Call { outcome, overrun: written.overrun() }
    }
}

/// The list of templates can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No answer, or one that is no list.
    #[error("no list of templates: {0}")]
    Call(#[from] reqwest::Error),
    /// The configured address is none.
    #[error("the provider's address is no address")]
    Address,
    /// A refusal.
    #[error("the provider refuses the list of templates: HTTP {http_status}, code {code:?}")]
    Refused {
        /// HTTP status.
        http_status: u16,
        /// The provider's code.
        code: Option<i64>,
    },
}

impl Provider {
    /// A page of the account's templates, after a cursor; where a name is given, of those whose names hold it.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn templates(
        &self,
        business_account_id: &str,
        name: Option<&str>,
        after: Option<&str>,
    ) -> Result<listing::Page, ListError> {
        let url = format!("{}/{business_account_id}/message_templates", self.base);
        let mut url = reqwest::Url::parse(&url).map_err(|_| ListError::Address)?;
        url.query_pairs_mut().extend_pairs([("fields", listing::FIELDS), ("limit", "200")]);
        url.query_pairs_mut().extend_pairs(name.map(|name| ("name", name)));
        url.query_pairs_mut().extend_pairs(after.map(|after| ("after", after)));
        let request = self.http.get(url).header(AUTHORIZATION, self.authorization.clone());
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(response.json().await?);
        }
        match read(response).await {
            Answer::Refused { http_status, code } => Err(ListError::Refused { http_status, code }),
            _ => Err(ListError::Refused { http_status: 0, code: None }),
        }
    }
}

/// Status and body; an answer that breaks off is judged by its status.
async fn read(mut response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    answer::read(status, &body)
}

/// A stable code. The error's own text holds the address that was called, not the person's, but
/// codes are what others can count.
fn reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "provider_timeout"
    } else if error.source().is_some() {
        "provider_connection_lost"
    } else {
        "provider_no_answer"
    }
}
