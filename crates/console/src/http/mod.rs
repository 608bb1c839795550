//! The routes: one file per kind of page. It guarantees that no page is kept by anybody on the way,
//! names where its visitor came from, or loads anything from elsewhere.

use std::ops::Deref;
use std::sync::Arc;

use assent_contracts::consent::PurposeDefined;
use assent_http::{ClientError, Listing, ServiceClient};
use assent_runtime::{Clock, Ids};
use assent_sealing::LinkKey;
use axum::Router;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::request::Parts as RequestParts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::language::Language;
use crate::pages::{Message, Page, PurposeView, answer};
use crate::words::{Words, words};

mod confirm;
mod join;
mod preferences;
mod requests;
mod rights;
mod settings;

/// What the pages work with. Cheap to clone.
#[derive(Clone)]
pub struct Console(Arc<Parts>);

/// The parts of [`Console`].
pub struct Parts {
    /// The consent service.
    pub consent: ServiceClient,
    /// The messaging service.
    pub messaging: ServiceClient,
    /// The erasure service, which has people's requests.
    pub erasure: ServiceClient,
    /// Opens links.
    pub links: Arc<LinkKey>,
    /// In whose name.
    pub controller: String,
    /// The pages' address as people see it.
    pub public_url: String,
    /// Whether browsers reach the pages over TLS: then cookies travel over nothing else.
    pub secure: bool,
    /// The business number, digits only.
    pub whatsapp_number: String,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
}

impl From<Parts> for Console {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Console {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Every page.
pub fn router(console: Console) -> Router {
    Router::new()
        .route("/join", get(join::list))
        .route("/join/{purpose}", get(join::one))
        .route("/confirm/{link}", get(confirm::ask).post(confirm::confirm))
        .route("/p/{link}", get(preferences::show))
        .route("/p/{link}/stop", post(preferences::stop))
        .route("/p/{link}/code", post(preferences::code))
        .route("/p/{link}/open", post(preferences::open))
        .route("/requests", get(requests::ask).post(requests::show))
        .route("/requests/archive", post(requests::collect))
        .route("/requests/certificate", post(requests::certificate))
        .route("/settings", get(settings::show).post(settings::change))
        .route("/settings/end", post(settings::end))
        .route("/settings/requests", get(rights::show).post(rights::ask))
        .route("/settings/receipts/{event}/{file}", get(settings::receipt))
        .fallback(async |State(console): State<Console>, reader: Reader| {
            let text = reader.words.not_found;
            console.trouble(reader, StatusCode::NOT_FOUND, text)
        })
        .method_not_allowed_fallback(async |State(console): State<Console>, reader: Reader| {
            let text = reader.words.not_found;
            console.trouble(reader, StatusCode::METHOD_NOT_ALLOWED, text)
        })
        .with_state(console)
        .layer(from_fn(private))
        .route("/assets/style.css", get(style))
}

/// The style, the only thing that a page loads.
async fn style() -> impl IntoResponse {
    const STYLE: &str = include_str!("../../assets/style.css");
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, STYLE)
}

/// Headers of every page.
async fn private(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; style-src 'self' 'unsafe-inline'; form-action 'self'; \
                  base-uri 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Who reads: in which language.
#[derive(Clone, Copy)]
struct Reader {
    language: Language,
    words: &'static Words,
    /// Whether the page can be asked for again, in another language.
    looks: bool,
}

#[derive(Deserialize)]
struct Chosen {
    lang: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut RequestParts, _: &S) -> Result<Self, Self::Rejection> {
        let chosen = Query::<Chosen>::try_from_uri(&parts.uri).ok().and_then(|it| it.0.lang);
        let accepted = parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok());
        let language = Language::choose(chosen.as_deref(), accepted);
        Ok(Self { language, words: words(language), looks: parts.method == Method::GET })
    }
}

impl Console {
    fn page(&self, reader: Reader, title: impl Into<String>) -> Page<'_> {
        Page {
            title: title.into(),
            language: reader.language,
            words: reader.words,
            switchable: reader.looks,
            controller: &self.controller,
            number: &self.whatsapp_number,
        }
    }

    /// A page with one thing to say.
    fn say(&self, reader: Reader, status: StatusCode, title: &str, text: &str) -> Response {
        answer(status, &Message { page: self.page(reader, title), text })
    }

    /// A page that says what is in the way.
    fn trouble(&self, reader: Reader, status: StatusCode, text: &str) -> Response {
        self.say(reader, status, reader.words.trouble_title, text)
    }

    /// A service didn't answer, or answered something that shouldn't be: it is in the log.
    fn unavailable(&self, reader: Reader, error: &ClientError) -> Response {
        tracing::warn!(%error, "a page can't be shown");
        self.trouble(reader, StatusCode::SERVICE_UNAVAILABLE, reader.words.unavailable)
    }

    /// The purposes that people may be asked about, as they read them.
    async fn purposes(&self, reader: Reader) -> Result<Vec<PurposeView>, ClientError> {
        let defined: Listing<PurposeDefined> = self.consent.get("/v1/purposes").await?;
        let view = |it: &PurposeDefined| PurposeView::new(it, reader.language, reader.words);
        Ok(defined.items.iter().map(view).collect())
    }
}
