//! What the bus counts. It guarantees labels that say nothing about people: consumers, topics,
//! reasons, never keys.

use std::sync::LazyLock;

use opentelemetry::metrics::{Counter, Gauge, Histogram};
use opentelemetry::{KeyValue, global};

pub(crate) struct Metrics {
    pub published: Counter<u64>,
    pub publish_failures: Counter<u64>,
    pub refusals: Counter<u64>,
    pub batches: Counter<u64>,
    pub batch_seconds: Histogram<f64>,
    pub events: Counter<u64>,
    pub duplicates: Counter<u64>,
    pub parked: Counter<u64>,
    pub retries: Counter<u64>,
    pub lag: Gauge<i64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = global::meter("assent.bus");
    Metrics {
        published: meter.u64_counter("assent.bus.published").build(),
        publish_failures: meter.u64_counter("assent.bus.publish_failures").build(),
        refusals: meter
            .u64_counter("assent.bus.refusals")
            .with_description("Times that Kafka refused a process that it never let in.")
            .build(),
        batches: meter.u64_counter("assent.consumer.batches").build(),
        batch_seconds: meter.f64_histogram("assent.consumer.batch_duration").with_unit("s").build(),
        events: meter.u64_counter("assent.consumer.events").build(),
        duplicates: meter.u64_counter("assent.consumer.duplicates").build(),
        parked: meter.u64_counter("assent.consumer.parked").build(),
        retries: meter.u64_counter("assent.consumer.retries").build(),
        lag: meter
            .i64_gauge("assent.consumer.lag")
            .with_description("messages between the position and the end of the partition")
            .build(),
    }
});

pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

pub(crate) fn of_consumer(consumer: &'static str) -> [KeyValue; 1] {
    [KeyValue::new("consumer", consumer)]
}
