//! What operators count here: what the gate answers, when it was last looked for what is kept no longer, and what is late.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use assent_contracts::api::consent::{Decision, Permit};
use jiff::Timestamp;
use opentelemetry::metrics::{Counter, Gauge};
use opentelemetry::{KeyValue, global};

static PERMITS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_counter("assent.gate.permits")
        .with_description(
            "What was answered to who was about to send, by verdict and the first of its reasons.",
        )
        .build()
});

/// These were answered.
pub fn answered(permits: &[Permit]) {
    let mut counts: BTreeMap<(&'static str, &str), u64> = BTreeMap::new();
    for Permit { verdict, .. } in permits {
        let decision = match verdict.verdict {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
        };
        let reason = verdict.reasons.first().map_or("", String::as_str);
        *counts.entry((decision, reason)).or_default() += 1;
    }
    for ((decision, reason), count) in counts {
        let labels =
            [KeyValue::new("verdict", decision), KeyValue::new("reason", reason.to_owned())];
        PERMITS.add(count, &labels);
    }
}

static RAN: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.retention.ran")
        .with_description("When what is kept no longer was last looked for, in seconds since 1970.")
        .build()
});

static OVERDUE: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    global::meter("assent")
        .u64_gauge("assent.retention.overdue")
        .with_description("People who are kept no longer, found more than a day ago, and whose erasure isn't asked for; and closed addresses and evidence that are there a day after their end.")
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

#[cfg(test)]
mod tests {
    use assent_contracts::api::consent::Verdict;
    use assent_runtime::telemetry::{self, TelemetryConfig};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn denials_are_counted_by_their_reason() {
        let telemetry = telemetry::init("test", &TelemetryConfig::default()).unwrap();
        let permit = |verdict, reasons: &[&str]| Permit {
            permit_id: Uuid::nil(),
            message_id: Uuid::nil(),
            verdict: Verdict {
                verdict,
                reasons: reasons.iter().map(ToString::to_string).collect(),
                evidence: Vec::new(),
                notice_hash: None,
                rules: "hours-2".to_owned(),
                rule_set: None,
                as_of: Timestamp::UNIX_EPOCH,
                settling_until: None,
                quiet_until: None,
            },
        };
        answered(&[
            permit(Decision::Allow, &["consent_given"]),
            permit(Decision::Deny, &["quiet_hours", "stopped"]),
            permit(Decision::Deny, &["quiet_hours"]),
        ]);
        let text = telemetry.metrics_text();
        for (verdict, reason, count) in
            [("allow", "consent_given", "1"), ("deny", "quiet_hours", "2")]
        {
            let labels = [format!("verdict=\"{verdict}\""), format!("reason=\"{reason}\"")];
            let line = text.lines().find(|line| {
                line.starts_with("assent_gate_permits_total{")
                    && labels.iter().all(|label| line.contains(label))
            });
            let line = line.unwrap_or_else(|| panic!("{text}"));
            assert_eq!(line.rsplit(' ').next(), Some(count), "{line}");
        }
        assert!(!text.contains("reason=\"stopped\""), "{text}");
    }
}
