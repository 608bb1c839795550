//! What operators count: replies that could not be taken, time-outs, completions, requests that wait.

use std::sync::LazyLock;

use jiff::Timestamp;
use opentelemetry::metrics::{Counter, Gauge};
use opentelemetry::{KeyValue, global};

use crate::domain::Refusal;
use crate::due::Due;

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

static CERTIFICATE_FAILURES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.erasure.certificate_failures")
        .with_description("Erasures that are proved and whose certificate could not be made or kept; each is tried again.")
        .build()
});

/// A certificate could not be made or kept.
pub fn certificate_failed() {
    CERTIFICATE_FAILURES.add(1, &[]);
}

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

static CALLED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.erasure.webhooks")
        .with_description("Calls to participants that have a webhook, by what came of them.")
        .build()
});

/// What came of a call to a participant.
pub fn called(outcome: &'static str) {
    CALLED.add(1, &[KeyValue::new("outcome", outcome)]);
}

static OPEN: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.requests.open")
        .with_description("Requests of people that are not over, by kind.")
        .build()
});

static DUE_SOON: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.requests.due_soon")
        .with_description("Requests whose term ends within a week, by kind.")
        .build()
});

static REQUESTS_OVERDUE: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.requests.overdue")
        .with_description(
            "Requests whose term is over and that are not, by kind; without those on hold.",
        )
        .build()
});

static UNACKNOWLEDGED: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.requests.unacknowledged")
        .with_description("Requests that had to be acknowledged by now and were not, by kind.")
        .build()
});

static HELD: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.requests.held")
        .with_description("Erasures that a legal hold keeps waiting, by kind of request.")
        .build()
});

static UNREVIEWED: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.holds.unreviewed")
        .with_description("Legal holds whose day of review has passed.")
        .build()
});

static COUNTED: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.requests.counted")
        .with_description("When the requests that wait were last counted, in seconds since 1970.")
        .build()
});

/// What waits, as it was counted at this moment. Gauges that nobody refreshes go on saying what was once
/// true, so they come with their time.
pub fn waiting(due: &Due, now: Timestamp) {
    for (kind, waiting) in &due.requests {
        let kind = [KeyValue::new("kind", *kind)];
        OPEN.record(waiting.open, &kind);
        DUE_SOON.record(waiting.due_soon, &kind);
        REQUESTS_OVERDUE.record(waiting.overdue, &kind);
        HELD.record(waiting.held, &kind);
        UNACKNOWLEDGED.record(waiting.unacknowledged, &kind);
    }
    UNREVIEWED.record(due.holds_unreviewed, &[]);
    COUNTED.record(u64::try_from(now.as_second()).unwrap_or_default(), &[]);
}
