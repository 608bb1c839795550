//! Stands where a deployment has its collector of traces: takes what the processes export by
//! OTLP/HTTP, and shows it decoded and as it came.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tokio::net::TcpListener;

/// A collector, until the test's runtime ends.
#[derive(Clone)]
pub struct Collector {
    /// Its address, for `[telemetry] otlp_endpoint`.
    pub url: String,
    exports: Arc<Mutex<Vec<Bytes>>>,
}

/// A span as it was exported. Ids in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The service that made it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The trace it belongs to.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The span it is a part of; empty at the root.
    pub parent: String,
    /// The traces it is linked to.
    pub links: Vec<String>,
}

impl Span {
    /// Whether it is part of a trace, or of several things at once of which one is that trace.
    pub fn belongs_to(&self, trace: &str) -> bool {
        self.trace == trace || self.links.iter().any(|link| link == trace)
    }
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { url, exports: Arc::default() };
        let router = Router::new()
            .route("/v1/traces", post(export))
            .layer(DefaultBodyLimit::disable())
            .with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    /// Takes an export.
    pub fn take(&self, body: Bytes) {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    }

    /// The bodies of all exports, one after the other.
    pub fn raw(&self) -> Vec<u8> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }

    /// All spans; what is no export of spans is passed over.
    pub fn spans(&self) -> Vec<Span> {
        let exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        exports.iter().filter_map(|export| decode(export)).flatten().collect()
    }
}

// An empty answer is a whole success.
async fn export(State(collector): State<Collector>, body: Bytes) {
    collector.take(body);
}

/// The spans of an export; none when it isn't one.
fn decode(export: &[u8]) -> Option<Vec<Span>> {
    let request = ExportTraceServiceRequest::decode(export).ok()?;
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes
            .into_iter()
            .find(|attribute| attribute.key == "service.name")
            .and_then(|attribute| attribute.value?.value)
            .and_then(|value| match value {
                Value::StringValue(name) => Some(name),
                _ => None,
            })
            .unwrap_or_default();
        let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(all.map(|span| Span {
            service: service.clone(),
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        }));
    }
    Some(spans)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
