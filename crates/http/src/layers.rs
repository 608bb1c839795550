//! What stands around every router: one span per request that continues the caller's trace, a
//! bound on bodies, time and requests at once, and panics turned into problems. It guarantees
//! that every refusal is a problem; authentication is a layer of its own ([`crate::protected`]).

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use tokio::sync::Semaphore;
use tower::{Layer, Service};
use tracing::{Instrument, Span, field};

use assent_runtime::{Clock, SystemClock, telemetry};

use crate::problem::{Code, Problem};

/// The bounds of a service's edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Longest time from the request's head to the answer's.
    pub timeout: Duration,
    /// Most requests under way at once; more are shed at once, with `overloaded`.
    pub concurrency_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 1 << 20, timeout: Duration::from_secs(30), concurrency_max: 4096 }
    }
}

static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    global::meter("assent")
        .f64_histogram("http.server.request.duration")
        .with_unit("s")
        .with_description("Time from a request's head to its answer's, by route and status.")
        .with_boundaries(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0])
        .build()
});

/// Puts the edge around a finished router (call it last): unknown paths and methods are problems,
/// and [`Limits`] hold.
pub fn router_layers(router: Router, limits: Limits) -> Router {
    let router = router
        .fallback(async || Problem::new(Code::NotFound))
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed));
    edge_layers(router, limits)
}

/// As [`router_layers`], for a router that has fallbacks of its own.
pub fn edge_layers(router: Router, limits: Limits) -> Router {
    let edge = Edge { limits, slots: Arc::new(Semaphore::new(limits.concurrency_max)) };
    router.layer(DefaultBodyLimit::max(limits.body_bytes_max)).layer(edge)
}

#[derive(Clone)]
struct Edge {
    limits: Limits,
    slots: Arc<Semaphore>,
}

impl<S> Layer<S> for Edge {
    type Service = Edged<S>;

    fn layer(&self, inner: S) -> Edged<S> {
        Edged { inner, edge: self.clone() }
    }
}

#[derive(Clone)]
struct Edged<S> {
    inner: S,
    edge: Edge,
}

impl<S> Service<Request> for Edged<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Limits { body_bytes_max, timeout, .. } = self.edge.limits;
        let started = SystemClock.boottime();
        let method = method_name(&request);
        let route = request.extensions().get::<MatchedPath>().cloned();
        let refuse = |refusal: Problem| -> Self::Future {
            let refusal = refusal.into_response();
            count(&refusal, method, route.as_ref(), started);
            Box::pin(std::future::ready(Ok(refusal)))
        };
        let Ok(slot) = Arc::clone(&self.edge.slots).try_acquire_owned() else {
            return refuse(Problem::new(Code::Overloaded).retry_after(1));
        };
        if declared_length(&request).is_some_and(|length| length > body_bytes_max as u64) {
            return refuse(Problem::new(Code::BodyTooLarge));
        }
        let span = request_span(&request, method, route.as_ref());
        // `call` runs the synchronous part of the inner services: inside the span too.
        let inner = span.in_scope(|| self.inner.call(request));
        let answered = tokio::time::timeout(timeout, AssertUnwindSafe(inner).catch_unwind());
        let record = span.clone();
        Box::pin(
            async move {
                let response = match answered.await {
                    Ok(Ok(Ok(response))) => response,
                    Ok(Ok(Err(never))) => match never {},
                    Ok(Err(panic)) => Problem::internal(panic_message(&*panic)).into_response(),
                    Err(_) => Problem::new(Code::Timeout).into_response(),
                };
                drop(slot);
                observe(&record, &response, method, route.as_ref(), started);
                Ok(response)
            }
            .instrument(span),
        )
    }
}

fn observe(
    span: &Span,
    response: &Response,
    method: &'static str,
    route: Option<&MatchedPath>,
    started: Duration,
) {
    let status = response.status();
    span.record("status", status.as_u16());
    if let Some(code) = response.extensions().get::<Code>() {
        span.record("code", code.name());
    }
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    count(response, method, route, started);
}

/// Every answer is counted, also to who was turned away at once: what is refused is a part of how it goes.
fn count(
    response: &Response,
    method: &'static str,
    route: Option<&MatchedPath>,
    started: Duration,
) {
    let status = response.status();
    let seconds = SystemClock.boottime().saturating_sub(started).as_secs_f64();
    DURATION.record(
        seconds,
        &[
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.map_or_else(String::new, |r| r.as_str().to_owned())),
            KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        ],
    );
}

/// The span of a request. The route's pattern is its name: a path could hold an identifier.
fn request_span(request: &Request, method: &'static str, route: Option<&MatchedPath>) -> Span {
    let route = route.map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        otel.name = field::Empty,
        otel.kind = "server",
        otel.status_code = field::Empty,
        method,
        route,
        caller = field::Empty,
        status = field::Empty,
        code = field::Empty,
    );
    if let Some(parent) = request.headers().get("traceparent").and_then(|v| v.to_str().ok()) {
        telemetry::set_parent(&span, parent);
    }
    if !span.is_disabled() {
        span.record("otel.name", format_args!("{method} {route}"));
    }
    span
}

// Methods come from the client: only known ones become metric labels.
fn method_name(request: &Request) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

fn declared_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a handler panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use tower::ServiceExt;

    use super::*;
    use crate::extract::Json;

    fn router(limits: Limits) -> Router {
        let router = Router::new()
            .route("/echo", post(async |Json(value): Json<serde_json::Value>| Json(value)))
            .route("/panics", get(|| async { panic_now() }))
            .route("/hangs", get(std::future::pending::<&'static str>));
        router_layers(router, limits)
    }

    #[expect(clippy::panic, reason = "what the layer is for")]
    fn panic_now() -> &'static str {
        panic!("broken")
    }

    async fn ask(limits: Limits, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = router(limits).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn every_refusal_is_a_problem() {
        let limits = Limits { body_bytes_max: 16, ..Limits::default() };
        for (method, path, body, code) in [
            ("GET", "/nowhere", "", Code::NotFound),
            ("GET", "/echo", "", Code::MethodNotAllowed),
            ("GET", "/panics", "", Code::Internal),
            ("GET", "/hangs", "", Code::Timeout),
            ("POST", "/echo", "\"0123456789012345\"", Code::BodyTooLarge),
        ] {
            let (status, body) = ask(limits, method, path, body).await;
            assert_eq!(status, code.status(), "{path}");
            assert!(body.contains(&format!("\"code\":\"{code}\"")), "{path}: {body}");
        }
        assert_eq!(ask(limits, "POST", "/echo", "1").await, (StatusCode::OK, "1".into()));
    }

    #[tokio::test]
    async fn what_is_too_much_at_once_is_shed() {
        let limits = Limits { concurrency_max: 0, ..Limits::default() };
        let (status, _) = ask(limits, "POST", "/echo", "1").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
