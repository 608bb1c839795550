//! The doctor's look at Kafka: does it let us in, and are the topics as their contracts say.

use assent_bus::reach::PATIENCE;
use assent_bus::{BusConfig, TopicError, Unreached, topics::examine};
use assent_contracts::topics;
use assent_runtime::Settings;

use super::finding::Finding;

/// Looks at the brokers, then at each topic.
pub async fn look(settings: &Settings) -> Vec<Finding> {
    let Some(bus) = BusConfig::read(settings) else {
        return vec![Finding::unknown("kafka", "[kafka] isn't whole")];
    };
    let answers = match examine(&bus, &topics::ALL, PATIENCE).await {
        Ok(answers) => answers,
        Err(unreached) => {
            let remedy = match &unreached {
                Unreached::Refused { cause, .. } => format!("correct {}", cause.settings()),
                Unreached::Silent(_) => "start Kafka, or correct [kafka] brokers".to_owned(),
            };
            return vec![
                Finding::wrong("kafka", unreached.to_string(), remedy),
                Finding::unknown("topics", "kafka isn't reached"),
            ];
        }
    };
    let mut findings = vec![Finding::ok("kafka", bus.brokers.clone())];
    let count = answers.len();
    let wrong: Vec<Finding> =
        answers.into_iter().filter_map(|(_, answer)| answer.err()).map(|it| topic(&it)).collect();
    if wrong.is_empty() {
        findings.push(Finding::ok("topics", format!("{count}, as their contracts say")));
    }
    findings.extend(wrong);
    findings
}

fn topic(error: &TopicError) -> Finding {
    let remedy = match error {
        TopicError::Missing(_) => {
            "run `assent migrate`, which makes it; or correct [kafka] topic_prefix"
        }
        TopicError::Partitions { .. } => {
            "the count is for good: use a topic_prefix of your own, or make the topic anew while it is empty"
        }
        TopicError::Kafka(_)
        | TopicError::Unreached(_)
        | TopicError::NotCreated { .. }
        | TopicError::Interrupted => "look at the broker's log",
    };
    Finding::wrong("topics", error.to_string(), remedy)
}
