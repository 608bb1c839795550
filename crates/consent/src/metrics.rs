//! What operators count here: when it was last looked for people who are kept no longer, and who is late.

use std::sync::LazyLock;

use jiff::Timestamp;
use opentelemetry::global;
use opentelemetry::metrics::Gauge;

static RAN: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.retention.ran")
        .with_description(
            "When people who are kept no longer were last looked for, in seconds since 1970.",
        )
        .build()
});

static OVERDUE: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.retention.overdue")
        .with_description("People who are kept no longer, found more than a day ago, and whose erasure isn't asked for.")
        .build()
});

/// It was looked.
pub fn retention_ran(now: Timestamp) {
    RAN.record(u64::try_from(now.as_second()).unwrap_or_default(), &[]);
}

/// So many are late.
pub fn retention_overdue(late: u64) {
    OVERDUE.record(late, &[]);
}
