//! The doctor's look at Kafka: does it let us in, and are the topics of the named services as their
//! contracts say.

use assent_bus::reach::PATIENCE;
use assent_bus::{BusConfig, TopicError, Unreached, topics::examine};
use assent_contracts::topics::{self, Topic};
use assent_runtime::Settings;

use super::finding::Finding;
use crate::kafka_rights::topics_of;
use crate::serve::Service;

/// Looks at the brokers, then at each topic that one of these services writes, reads or asks for its
/// end: the user of a service may see no others.
pub async fn look(settings: &Settings, services: &[Service]) -> Vec<Finding> {
    let Some(bus) = BusConfig::read(settings) else {
        return vec![Finding::unknown("kafka", "[kafka] isn't whole")];
    };
    let wanted: Vec<Topic> = topics::ALL
        .into_iter()
        .filter(|topic| services.iter().any(|service| topics_of(*service).contains(topic)))
        .collect();
    let answers = match examine(&bus, &wanted, PATIENCE).await {
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
        TopicError::NotAllowed(_) => "let its user Describe it (docs/guides/kafka.md)",
        TopicError::Partitions { .. } => {
            "the count is for good: use a topic_prefix of your own, or make the topic anew while it is empty"
        }
        TopicError::Kafka(_)
        | TopicError::Unreached(_)
        | TopicError::NotCreated { .. }
        | TopicError::Settings { .. }
        | TopicError::Untold { .. }
        | TopicError::Unsettled(_)
        | TopicError::Interrupted => "look at the broker's log",
    };
    Finding::wrong("topics", error.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a service's user may see in production, and what is looked at, are the same topics.
    #[test]
    fn a_service_is_asked_for_the_topics_that_its_user_may_see() {
        const USERS: &str = include_str!("../../../../k8s/components/kafka-strimzi/kafkauser.yaml");
        for service in Service::ALL {
            let name = format!("  name: {}\n", service.name());
            let user = USERS.split("\n---\n").find(|user| user.contains(&name)).unwrap_or("");
            let named = user.split("type: topic, name: assent.").skip(1);
            let allowed: BTreeSet<&str> = named.filter_map(|it| it.split(',').next()).collect();
            let asked = topics_of(service).iter().map(|topic| topic.suffix).collect();
            assert_eq!(allowed, asked, "{}", service.name());
        }
    }
}
