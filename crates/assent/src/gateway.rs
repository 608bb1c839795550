//! The gateway: one address for operators, with the same paths that an ingress would use
//! (`/{service}/v1/…`, and `/webhooks/whatsapp` for messaging). It streams both ways, repeats
//! nothing and adds nothing; who may do what is decided by the services behind it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use assent_http::{ClientError, Code, Limits, Problem, client, router_layers};
use assent_runtime::{Lifecycle, Settings, telemetry};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

/// The services that it forwards to.
pub const UPSTREAMS: [&str; 5] = ["consent", "vault", "messaging", "erasure", "projector"];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than the services' own time limits, so that theirs speak.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Nothing larger passes.
const BODY_BYTES_MAX: usize = 101 << 20;

/// What the gateway must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the operations port listens.
    pub ops_listen: SocketAddr,
    /// The services' addresses by name, without a trailing slash.
    pub upstreams: BTreeMap<&'static str, String>,
}

impl Config {
    /// Reads `[gateway]` and `[services]`; what is wrong is recorded in the settings, and then the
    /// answer is `None`.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Self> {
        let own = settings.section("gateway");
        let services = settings.section("services");
        let listen = own.required("listen");
        let ops_listen = own.required("ops_listen");
        let urls: Vec<Option<String>> =
            UPSTREAMS.iter().map(|name| services.required(&format!("{name}_url"))).collect();
        let upstreams = UPSTREAMS.into_iter().zip(urls);
        let upstreams = upstreams
            .map(|(name, url)| Some((name, url?.trim_end_matches('/').to_owned())))
            .collect::<Option<_>>();
        Some(Self { listen: listen?, ops_listen: ops_listen?, upstreams: upstreams? })
    }
}

struct Gateway {
    client: reqwest::Client,
    upstreams: BTreeMap<&'static str, String>,
}

/// Serves until the soft stop. It is ready as soon as it listens: a service that is away answers
/// for itself, and the others go on.
///
/// # Errors
/// When the HTTP client can't be made.
pub fn serve(
    config: Config,
    listener: TcpListener,
    lifecycle: &Lifecycle,
) -> Result<(), ClientError> {
    let router = router(config.upstreams)?;
    lifecycle.spawn("gateway.http", assent_http::serve(listener, router, lifecycle.clone()));
    Ok(())
}

fn router(upstreams: BTreeMap<&'static str, String>) -> Result<Router, ClientError> {
    let client = client::builder(CONNECT_TIMEOUT, CALL_TIMEOUT)
        .build()
        .map_err(|error| ClientError::Setup(error.to_string()))?;
    let gateway = Arc::new(Gateway { client, upstreams });
    let router = Router::new().route("/{*path}", axum::routing::any(forward)).with_state(gateway);
    // Services say how much they take; the largest is a file on its way to WhatsApp.
    let limits =
        Limits { timeout: CALL_TIMEOUT, body_bytes_max: BODY_BYTES_MAX, ..Limits::default() };
    Ok(router_layers(router, limits))
}

async fn forward(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let Some((service, target)) = target(&gateway.upstreams, request.uri()) else {
        return Problem::new(Code::NotFound).into_response();
    };
    let (parts, body) = request.into_parts();
    let mut headers = end_to_end(&parts.headers);
    headers.remove(header::HOST);
    if let Some(parent) = telemetry::traceparent().and_then(|it| HeaderValue::try_from(it).ok()) {
        headers.insert("traceparent", parent);
    }
    let mut outgoing = gateway.client.request(parts.method, target).headers(headers);
    // A body that isn't there must not turn into an empty chunked one.
    if !http_body::Body::is_end_stream(&body) {
        outgoing = outgoing.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    match outgoing.send().await {
        Ok(answer) => {
            let status = answer.status();
            let headers = end_to_end(answer.headers());
            let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(error) if error.is_timeout() && !error.is_connect() => {
            Problem::new(Code::Timeout).detail(service).into_response()
        }
        Err(error) => Problem::unavailable(service, error.without_url()).into_response(),
    }
}

/// Which service a path belongs to, and its address there.
fn target(upstreams: &BTreeMap<&'static str, String>, uri: &Uri) -> Option<(&'static str, String)> {
    let path = uri.path();
    let (name, rest) = match path.strip_prefix('/')?.split_once('/') {
        Some(("webhooks", "whatsapp")) => ("messaging", path),
        Some((name, rest)) if rest.starts_with("v1/") => (name, &path[name.len() + 1..]),
        _ => return None,
    };
    let (service, base) = upstreams.get_key_value(name)?;
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    Some((service, format!("{base}{rest}{query}")))
}

/// The headers without those that speak of one connection only (RFC 9110, 7.6.1).
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    const HOP_BY_HOP: [HeaderName; 8] = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(name))
        .filter(|(name, _)| !named.iter().any(|it| it == name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::{get, post};

    use super::*;

    async fn listen(router: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        base
    }

    async fn gateway() -> String {
        let upstream = Router::new()
            .route(
                "/v1/echo",
                post(async |headers: HeaderMap, body: String| {
                    let kept = headers.contains_key("idempotency-key");
                    let dropped = headers.contains_key("x-hop") || headers.contains_key("te");
                    ([("x-seen", format!("{kept} {dropped}"))], body)
                }),
            )
            .route("/v1/query", get(async |uri: Uri| uri.query().unwrap_or_default().to_owned()))
            .route("/webhooks/whatsapp", get(async || "hook"));
        let base = listen(upstream).await;
        let gone = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", free.local_addr().unwrap())
        };
        let upstreams =
            BTreeMap::from([("vault", base.clone()), ("messaging", base), ("consent", gone)]);
        listen(router(upstreams).unwrap()).await
    }

    fn client() -> reqwest::Client {
        client::http_client(CONNECT_TIMEOUT, CALL_TIMEOUT).unwrap()
    }

    #[tokio::test]
    async fn bodies_and_headers_pass_but_those_of_the_hop() {
        let base = gateway().await;
        let answer = client()
            .post(format!("{base}/vault/v1/echo"))
            .header("idempotency-key", "k")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("te", "trailers")
            .body("x".repeat(300_000))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["x-seen"], "true false");
        assert_eq!(answer.text().await.unwrap().len(), 300_000);
        let answer = client().get(format!("{base}/vault/v1/query?a=1&b=%2F")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "a=1&b=%2F");
    }

    #[tokio::test]
    async fn paths_outside_of_the_services_are_problems() {
        let base = gateway().await;
        for path in ["/", "/vault", "/vault/metrics", "/nobody/v1/echo", "/webhooks/other"] {
            let answer = client().get(format!("{base}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
        }
        let answer = client().get(format!("{base}/webhooks/whatsapp")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hook");
    }

    #[tokio::test]
    async fn a_service_that_is_away_is_a_problem() {
        let base = gateway().await;
        let answer = client().get(format!("{base}/consent/v1/purposes")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.text().await.unwrap().contains("dependency_unavailable"));
    }
}
