//! Logs as JSON lines on stderr, traces over OTLP where an endpoint is set, metrics in a
//! Prometheus registry. It guarantees that trace context can be taken from a span and given to
//! one; what is worth a span or a metric is left to the services.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus::TextEncoder;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::Settings;

/// Most traces that a span is linked to: OpenTelemetry's own default, beyond which links are dropped.
pub const LINKS_MAX: usize = 128;

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The metrics pipeline.
    #[error("metrics: {0}")]
    Metrics(String),
    /// The OTLP exporter.
    #[error("OTLP: {0}")]
    Otlp(String),
    /// Someone has already installed a log subscriber.
    #[error("logs: {0}")]
    Logs(String),
}

/// What `[telemetry]` says.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// Base address of an OTLP/HTTP collector, such as `http://127.0.0.1:4318`; none: no traces.
    pub otlp_endpoint: Option<String>,
    /// Which share of new traces is recorded, 0 to 1. Traces begun elsewhere follow their parent.
    pub sample_ratio: f64,
    /// Log filter, in the syntax of `RUST_LOG`.
    pub log: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 1.0, log: "info".to_owned() }
    }
}

impl TelemetryConfig {
    /// Reads `[telemetry] otlp_endpoint, sample_ratio, log`; the standard variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` counts where the endpoint is not set.
    #[must_use]
    pub fn read(settings: &Settings) -> Self {
        let section = settings.section("telemetry");
        let default = Self::default();
        let sample_ratio = section.default("sample_ratio", default.sample_ratio);
        if !(0.0..=1.0).contains(&sample_ratio) {
            section.invalid("sample_ratio", "must be between 0 and 1");
        }
        let log = section.default("log", default.log);
        if EnvFilter::try_new(&log).is_err() {
            section.invalid("log", "is no log filter, such as `info,assent_bus=debug`");
        }
        let otlp_endpoint = section
            .optional("otlp_endpoint")
            .or_else(|| std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok())
            .filter(|endpoint| !endpoint.is_empty());
        Self { otlp_endpoint, sample_ratio, log }
    }
}

/// The telemetry of a process: a handle, cheap to clone. Instruments come from
/// `opentelemetry::global::meter`.
#[derive(Debug, Clone)]
pub struct Telemetry {
    registry: prometheus::Registry,
    traces: Option<SdkTracerProvider>,
    // Held: the registry reads through it.
    _metrics: SdkMeterProvider,
}

/// Sets up logs, traces and metrics for the whole process. Call it once, before anything logs.
///
/// # Errors
/// When an exporter can't be built or a subscriber is there already.
pub fn init(service: &str, config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    let telemetry = Telemetry::build(service, Some(config), resource)?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_meter_provider(telemetry._metrics.clone());

    let filter =
        EnvFilter::try_new(&config.log).map_err(|error| TelemetryError::Logs(error.to_string()))?;
    let logs = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(std::io::stderr)
        .with_filter(filter);
    let traces = telemetry.traces.as_ref().map(|provider| {
        // The exporter's own HTTP calls must not make spans.
        let filter = EnvFilter::new("info,hyper=off,reqwest=off,h2=off,opentelemetry=off");
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("assent"))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter)
    });
    Registry::default()
        .with(traces)
        .with(logs)
        .try_init()
        .map_err(|error| TelemetryError::Logs(error.to_string()))?;
    Ok(telemetry)
}

impl Telemetry {
    /// Telemetry that touches nothing global: for tests and tools.
    ///
    /// # Errors
    /// When the metrics pipeline can't be built.
    pub fn detached(service: &str) -> Result<Self, TelemetryError> {
        let resource = Resource::builder().with_service_name(service.to_owned()).build();
        Self::build(service, None, resource)
    }

    fn build(
        service: &str,
        config: Option<&TelemetryConfig>,
        resource: Resource,
    ) -> Result<Self, TelemetryError> {
        let labels = HashMap::from([("service".to_owned(), service.to_owned())]);
        let registry = prometheus::Registry::new_custom(None, Some(labels))
            .map_err(|error| TelemetryError::Metrics(error.to_string()))?;
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .map_err(|error| TelemetryError::Metrics(error.to_string()))?;
        let metrics =
            SdkMeterProvider::builder().with_reader(reader).with_resource(resource.clone()).build();
        let traces = match config.and_then(|c| Some((c.otlp_endpoint.as_ref()?, c.sample_ratio))) {
            None => None,
            Some((endpoint, ratio)) => {
                let exporter = opentelemetry_otlp::SpanExporter::builder()
                    .with_http()
                    .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
                    .with_timeout(Duration::from_secs(5))
                    .build()
                    .map_err(|error| TelemetryError::Otlp(error.to_string()))?;
                let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
                Some(
                    SdkTracerProvider::builder()
                        .with_batch_exporter(exporter)
                        .with_sampler(sampler)
                        .with_resource(resource)
                        .build(),
                )
            }
        };
        Ok(Self { registry, traces, _metrics: metrics })
    }

    /// The registry that `/metrics` shows.
    #[must_use]
    pub fn registry(&self) -> &prometheus::Registry {
        &self.registry
    }

    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics can't be shown");
            String::new()
        })
    }

    /// Sends what is not yet sent. The last thing a process does.
    pub async fn shutdown(self) {
        let Some(traces) = self.traces else { return };
        // The exporter's client blocks: never on an async thread.
        let flushed = tokio::task::spawn_blocking(move || traces.shutdown()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// The W3C `traceparent` of the current span; none when it is not being traced.
#[must_use]
pub fn traceparent() -> Option<String> {
    of_span(&Span::current())
}

/// The W3C `traceparent` of a span; none when it is not being traced.
#[must_use]
pub fn of_span(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8())
    })
}

/// Makes the span a child of the one that a W3C `traceparent` names; anything else is ignored.
/// Call it before the span is entered.
pub fn set_parent(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    if let Some(context) = parse(traceparent) {
        // Fails only without a tracing layer: then there is no trace to continue.
        let _ = span.set_parent(context);
    }
}

/// What the span of a batch follows from, one W3C `traceparent` for each thing in it, where it has one: what is alone
/// is a part of its cause's trace, several are [linked](links). Call it before the span is entered.
pub fn follows<'a>(span: &Span, causes: impl ExactSizeIterator<Item = Option<&'a str>>) {
    let alone = causes.len() == 1;
    let mut causes = causes.flatten();
    if !alone {
        links(span, causes);
    } else if let Some(cause) = causes.next() {
        set_parent(span, cause);
    }
}

/// Links the span to the traces that W3C `traceparent`s name, to each once and to [`LINKS_MAX`] at most: for batches,
/// which have many causes.
pub fn links<'a>(span: &Span, causes: impl Iterator<Item = &'a str>) {
    if span.is_disabled() {
        return;
    }
    let mut traces = HashSet::new();
    for context in causes.filter_map(parse) {
        let cause = context.span().span_context().clone();
        if traces.insert(cause.trace_id()) {
            span.add_link(cause);
        }
        if traces.len() == LINKS_MAX {
            break;
        }
    }
}

/// Sets an attribute on the span's trace, for names that `tracing` can't spell.
pub fn attribute(span: &Span, key: &'static str, value: impl Into<opentelemetry::Value>) {
    let KeyValue { key, value, .. } = KeyValue::new(key, value);
    span.set_attribute(key, value);
}

fn parse(traceparent: &str) -> Option<Context> {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    context.span().span_context().is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SpanData, SpanProcessor};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_goes_in_and_out_of_a_span() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            let span = tracing::info_span!("work");
            set_parent(&span, PARENT);
            let inside = span.in_scope(traceparent).unwrap();
            assert_eq!(inside[..36], PARENT[..36], "same trace");
            assert_ne!(inside, PARENT, "another span");

            let other = tracing::info_span!("other");
            set_parent(&other, "00-00000000000000000000000000000000-b7ad6b7169203331-01");
            assert_ne!(of_span(&other).unwrap()[3..35], PARENT[3..35]);
        });
        assert_eq!(traceparent(), None, "without a tracer there is nothing to tell");
    }

    /// Keeps what ended.
    #[derive(Debug, Clone, Default)]
    struct Ended(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Ended {
        fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[test]
    fn a_batch_is_linked_to_each_trace_once_and_to_so_many_at_most() {
        let ended = Ended::default();
        let provider = SdkTracerProvider::builder().with_span_processor(ended.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let of = |n: usize| format!("00-{:032x}-b7ad6b7169203331-01", n + 1);
        let many: Vec<String> = (0..LINKS_MAX + 9).map(of).collect();
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            for (name, causes) in [
                ("nothing", vec![]),
                ("one", vec![Some(PARENT)]),
                ("one of unknown cause", vec![None]),
                ("the same again", vec![Some(PARENT), None, Some("no cause"), Some(PARENT)]),
                ("many", many.iter().map(|it| Some(it.as_str())).collect()),
            ] {
                let span = tracing::info_span!("batch", otel.name = name);
                follows(&span, causes.into_iter());
                span.in_scope(|| {});
            }
        });
        let trace = &PARENT[3..35];
        let links_of = |name: &str| {
            let spans = ended.0.lock().unwrap();
            let span = spans.iter().find(|span| span.name == name).unwrap();
            let links = span.links.iter().map(|link| link.span_context.trace_id().to_string());
            let is_part = span.span_context.trace_id().to_string() == trace;
            (is_part, links.collect::<Vec<_>>())
        };
        assert_eq!(links_of("nothing"), (false, vec![]));
        assert_eq!(links_of("one"), (true, vec![]));
        assert_eq!(links_of("one of unknown cause"), (false, vec![]));
        assert_eq!(links_of("the same again"), (false, vec![trace.to_owned()]));
        let (_, links) = links_of("many");
        let first: Vec<&str> = many.iter().take(LINKS_MAX).map(|it| &it[3..35]).collect();
        assert_eq!(links, first);
    }

    #[test]
    fn metrics_are_shown_in_the_text_format() {
        use opentelemetry::metrics::MeterProvider;
        let telemetry = Telemetry::detached("test").unwrap();
        let meter = telemetry._metrics.meter("test");
        meter.u64_counter("assent.things").build().add(2, &[KeyValue::new("kind", "good")]);
        let text = telemetry.metrics_text();
        assert!(text.contains("assent_things_total{"), "{text}");
        assert!(text.contains("service=\"test\""), "{text}");
    }
}
