//! What operators count: replies that could not be taken, time-outs, completions.

use std::sync::LazyLock;

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

use crate::domain::Refusal;

static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.erasure.refusals")
        .with_description("Replies and time-outs that could not move a saga, by reason.")
        .build()
});

static OVERDUE: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.erasure.overdue")
        .with_description("Commands whose time ran out with answers missing.")
        .build()
});

static COMPLETED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.erasure.completed")
        .with_description("Erasures that were completed.")
        .build()
});

/// A reply or a time-out that could not move the saga.
pub fn refused(refusal: Refusal) {
    REFUSED.add(1, &[KeyValue::new("reason", refusal.name())]);
}

/// A command's time ran out.
pub fn overdue() {
    OVERDUE.add(1, &[]);
}

/// An erasure was completed.
pub fn completed() {
    COMPLETED.add(1, &[]);
}
