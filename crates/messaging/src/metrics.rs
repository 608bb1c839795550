//! What operators count.

use std::sync::LazyLock;

use assent_contracts::campaigns::PauseReason;
use opentelemetry::metrics::{Counter, Gauge};
use opentelemetry::{KeyValue, global};

use crate::whatsapp::reaction::{Meaning, Reach};

static REFUSALS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.messaging.provider_errors")
        .with_description(
            "Errors of the provider, by code; those that the table doesn't have are `unknown`.",
        )
        .build()
});

static HALTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.messaging.halts")
        .with_description("Halts of the sender by the provider, by reach. Someone must look.")
        .build()
});

static UPDATES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.messaging.updates")
        .with_description(
            "Updates that webhooks told, by kind; `unknown`, `unreadable` and `not_applicable` ones are parked.",
        )
        .build()
});

static LISTENS_FIRST: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.messaging.listens_first")
        .with_description(
            "Looks at the queue that took answers only, since webhooks waited to be processed for too long.",
        )
        .build()
});

/// Nothing but answers is sent while webhooks wait.
pub fn listens_first() {
    LISTENS_FIRST.add(1, &[]);
}

/// A webhook told something of this kind.
pub fn update(kind: &'static str) {
    UPDATES.add(1, &[KeyValue::new("kind", kind)]);
}

/// An error of the provider, and what was thought of it.
pub fn provider_error(code: Option<i64>, meaning: Meaning) {
    let label = match code {
        Some(code) if meaning.known => code.to_string(),
        _ => {
            tracing::warn!(code, "an error of the provider that the table doesn't have");
            "unknown".to_owned()
        }
    };
    REFUSALS.add(1, &[KeyValue::new("code", label), KeyValue::new("reason", meaning.reason)]);
}

static CAMPAIGN_PAUSES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.messaging.campaign_pauses")
        .with_description("Campaigns that paused by themselves, by reason. Someone must look.")
        .build()
});

/// A campaign paused by itself.
pub fn campaign_paused(reason: PauseReason) {
    CAMPAIGN_PAUSES.add(1, &[KeyValue::new("reason", reason.as_str())]);
}

/// The sender was halted.
pub fn halted(reach: Reach) {
    HALTS.add(1, &[KeyValue::new("reach", reach.as_str())]);
}

static UNCERTAIN: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.messaging.uncertain")
        .with_description("Messages of which it isn't known whether they went out.")
        .build()
});

static UNCERTAIN_OLDEST: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.messaging.uncertain_oldest")
        .with_description("Since how many seconds the oldest of them is; 0 when there is none.")
        .build()
});

static UNCERTAIN_OVERDUE: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.messaging.uncertain_overdue")
        .with_description("Those for longer than outcome_patience_ms. Someone must find out.")
        .build()
});

/// Messages of which it isn't known whether they went out.
#[derive(Debug, Clone, Copy)]
pub struct Uncertain {
    /// How many.
    pub messages: u64,
    /// The age of the oldest.
    pub oldest_seconds: u64,
    /// How many are so for longer than the bound.
    pub overdue: u64,
}

/// They were counted.
pub fn uncertain(it: &Uncertain) {
    UNCERTAIN.record(it.messages, &[]);
    UNCERTAIN_OLDEST.record(it.oldest_seconds, &[]);
    UNCERTAIN_OVERDUE.record(it.overdue, &[]);
}

static RETENTION_RAN: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.retention.ran")
        .with_description("When what is kept no longer was last looked for, in seconds since 1970.")
        .build()
});

static RETENTION_OVERDUE: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.retention.overdue")
        .with_description("What is kept for more than a day longer than it may be.")
        .build()
});

/// Texts that are kept no longer were looked for.
pub fn retention_ran(now: jiff::Timestamp) {
    RETENTION_RAN.record(u64::try_from(now.as_second()).unwrap_or_default(), &[]);
}

/// So many texts are kept for too long.
pub fn retention_overdue(late: u64) {
    RETENTION_OVERDUE.record(late, &[]);
}

#[cfg(test)]
mod tests {
    use assent_runtime::telemetry::{self, TelemetryConfig};

    use super::*;
    use crate::whatsapp::reaction;

    #[test]
    fn what_somebody_must_look_at_is_counted() {
        let telemetry = telemetry::init("test", &TelemetryConfig::default()).unwrap();
        for code in [Some(131_049), Some(131_999), Some(7_000_001), None] {
            provider_error(code, reaction::to(Some(400), code));
        }
        let text = telemetry.metrics_text();
        let count = |code: &str| {
            let line = text.lines().find(|line| {
                line.starts_with("assent_messaging_provider_errors_total{")
                    && line.contains(&format!("code=\"{code}\""))
            });
            line.unwrap_or_else(|| panic!("{text}")).rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(count("unknown"), "3");
        assert_eq!(count("131049"), "1");

        uncertain(&Uncertain { messages: 3, oldest_seconds: 4_000, overdue: 1 });
        let text = telemetry.metrics_text();
        for (name, value) in [("", "3"), ("_oldest", "4000"), ("_overdue", "1")] {
            let name = format!("assent_messaging_uncertain{name}");
            let is_it = |line: &&str| {
                line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            let line = text.lines().find(is_it);
            let line = line.unwrap_or_else(|| panic!("{text}"));
            assert_eq!(line.rsplit(' ').next(), Some(value), "{line}");
        }
    }
}
