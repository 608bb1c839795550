//! Topics as code against a real broker: what differs is told, changed where it may be, and refused where
//! keys would move.

use std::collections::HashMap;
use std::time::Duration;

use assent_bus::{BusConfig, Change, TopicError, apply_topics, plan_topics};
use assent_contracts::topics::{CONSENT_EVENTS, CONSENT_STATE, VAULT_EVENTS};
use assent_tests::harness;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", harness::kafka()).create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))
}

async fn create(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    for made in admin().create_topics([&new], &options()).await.unwrap() {
        made.unwrap();
    }
}

async fn settings(name: &str) -> HashMap<String, String> {
    let topic = ResourceSpecifier::Topic(name);
    let mut described = admin().describe_configs([&topic], &options()).await.unwrap();
    let entries = described.pop().unwrap().unwrap().entries;
    entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

#[tokio::test]
async fn topics_become_what_the_contracts_say_and_keep_what_is_the_deployments_own() {
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    let (state, events) = (bus.topic_name(&CONSENT_STATE), bus.topic_name(&CONSENT_EVENTS));
    // A topic as somebody made it by hand: it would forget events after a week.
    let by_hand = [("retention.ms", "604800000"), ("min.insync.replicas", "1")];
    create(&events, 6, &by_hand).await;
    let topics = [CONSENT_STATE, CONSENT_EVENTS];
    let expected = vec![
        (CONSENT_STATE, vec![Change::Create]),
        (
            CONSENT_EVENTS,
            vec![Change::Set {
                setting: "retention.ms",
                from: Some("604800000".to_owned()),
                to: "-1",
            }],
        ),
    ];
    assert_eq!(plan_topics(&bus, &topics).await.unwrap(), expected);
    assert_eq!(settings(&events).await["retention.ms"], "604800000", "a plan changes nothing");

    assert_eq!(apply_topics(&bus, &topics).await.unwrap(), expected);
    let after = settings(&events).await;
    assert_eq!((&*after["retention.ms"], &*after["min.insync.replicas"]), ("-1", "1"));
    let after = settings(&state).await;
    assert_eq!(
        (&*after["cleanup.policy"], &*after["delete.retention.ms"]),
        ("compact", "86400000")
    );
    let nothing = vec![(CONSENT_STATE, vec![]), (CONSENT_EVENTS, vec![])];
    assert_eq!(plan_topics(&bus, &topics).await.unwrap(), nothing);
}

#[tokio::test]
async fn another_partition_count_is_refused_and_then_nothing_is_changed() {
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    let (vault, events) = (bus.topic_name(&VAULT_EVENTS), bus.topic_name(&CONSENT_EVENTS));
    create(&vault, 12, &[]).await;
    create(&events, 6, &[("retention.ms", "604800000")]).await;
    let topics = [CONSENT_EVENTS, VAULT_EVENTS];
    let plan = plan_topics(&bus, &topics).await.unwrap();
    assert_eq!(plan[1].1[0], Change::Partitions { found: 12, wanted: 6 });
    let refused = apply_topics(&bus, &topics).await.unwrap_err();
    assert!(matches!(refused, TopicError::Partitions { found: 12, wanted: 6, .. }), "{refused}");
    assert_eq!(settings(&events).await["retention.ms"], "604800000", "not half of the plan either");
}
