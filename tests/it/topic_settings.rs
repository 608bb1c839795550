//! Topics as code against a real broker: what differs is told, changed where it may be, and refused where
//! keys would move. And the rights that are told, against who really reads what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;
use std::time::Duration;

use assent_bus::{BusConfig, Change, TopicError, apply_topics, plan_topics};
use assent_contracts::topics::{CONSENT_EVENTS, CONSENT_STATE, VAULT_EVENTS};
use assent_tests::cluster::{Cluster, until};
use assent_tests::harness::{self, unique};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;

use crate::cli::assent;

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", harness::kafka()).create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))
}

async fn create(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    let admin = admin();
    for made in admin.create_topics([&new], &options()).await.unwrap() {
        made.unwrap();
    }
    // A broker tells of what it has made a moment later.
    until("the topic is known with its partitions and settings", async || {
        let metadata = admin.inner().fetch_metadata(Some(name), Duration::from_secs(20)).unwrap();
        let topic = &metadata.topics()[0];
        let known = topic.error().is_none()
            && i32::try_from(topic.partitions().len()) == Ok(partitions)
            && topic.partitions().iter().all(|partition| partition.error().is_none());
        if !known {
            return false;
        }
        let topic = ResourceSpecifier::Topic(name);
        let mut described = admin.describe_configs([&topic], &options()).await.unwrap();
        let Some(Ok(described)) = described.pop() else { return false };
        settings.iter().all(|(key, value)| {
            let mut told = described.entries.iter();
            told.any(|entry| entry.name == *key && entry.value.as_deref() == Some(*value))
        })
    })
    .await;
}

async fn settings(name: &str) -> HashMap<String, String> {
    let topic = ResourceSpecifier::Topic(name);
    let mut described = admin().describe_configs([&topic], &options()).await.unwrap();
    let entries = described.pop().unwrap().unwrap().entries;
    entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

/// `assent topics …` for this deployment: its exit status, and what it says.
fn topics(bus: &BusConfig, command: &str) -> (Option<i32>, String) {
    let config = std::env::temp_dir().join(unique("topics"));
    let section =
        format!("[kafka]\nbrokers = {:?}\ntopic_prefix = {:?}\n", bus.brokers, bus.topic_prefix);
    std::fs::write(&config, section).unwrap();
    let mut assent = Command::new(assent());
    let done = assent.args(["topics", command, "--config"]).arg(&config).output().unwrap();
    std::fs::remove_file(config).unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn topics_become_what_the_contracts_say_and_keep_what_is_the_deployments_own() {
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    let (state, events) = (bus.topic_name(&CONSENT_STATE), bus.topic_name(&CONSENT_EVENTS));
    // A topic as somebody made it by hand: it would forget events after a week.
    let by_hand = [("retention.ms", "604800000"), ("min.insync.replicas", "1")];
    create(&events, 6, &by_hand).await;
    let two = [CONSENT_STATE, CONSENT_EVENTS];
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
    assert_eq!(plan_topics(&bus, &two).await.unwrap(), expected);
    assert_eq!(settings(&events).await["retention.ms"], "604800000", "a plan changes nothing");

    assert_eq!(apply_topics(&bus, &two).await.unwrap(), expected);
    let after = settings(&events).await;
    assert_eq!((&*after["retention.ms"], &*after["min.insync.replicas"]), ("-1", "1"));
    let after = settings(&state).await;
    assert_eq!(
        (&*after["cleanup.policy"], &*after["delete.retention.ms"]),
        ("compact", "86400000")
    );
    let (status, said) = topics(&bus, "plan");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("vault.events.v1 with 6 partitions") && !said.contains("set "), "{said}");
    assert_eq!(topics(&bus, "apply").0, Some(0));
    let (_, said) = topics(&bus, "plan");
    assert_eq!(said, "6 topics are as the contracts say\n");
    let nothing = vec![(CONSENT_STATE, vec![]), (CONSENT_EVENTS, vec![])];
    assert_eq!(plan_topics(&bus, &two).await.unwrap(), nothing);
}

#[tokio::test]
async fn another_partition_count_is_refused_and_then_nothing_is_changed() {
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    let (vault, events) = (bus.topic_name(&VAULT_EVENTS), bus.topic_name(&CONSENT_EVENTS));
    create(&vault, 12, &[]).await;
    create(&events, 6, &[("retention.ms", "604800000")]).await;
    let two = [CONSENT_EVENTS, VAULT_EVENTS];
    let plan = plan_topics(&bus, &two).await.unwrap();
    assert_eq!(plan[1].1[0], Change::Partitions { found: 12, wanted: 6 });
    let refused = apply_topics(&bus, &two).await.unwrap_err();
    assert!(matches!(refused, TopicError::Partitions { found: 12, wanted: 6, .. }), "{refused}");
    let (status, said) = topics(&bus, "plan");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("12 partitions instead of 6") && said.contains("next version"), "{said}");
    let (status, said) = topics(&bus, "apply");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("keys would move") && said.contains("next version"), "{said}");
    assert_eq!(settings(&events).await["retention.ms"], "604800000", "not half of the plan either");
}

/// What the members of each group of this deployment have of which of these topics, as the broker tells it.
fn members(bus: &BusConfig, topics: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let list = admin().inner().fetch_group_list(None, Duration::from_secs(20)).unwrap();
    let ours = list.groups().iter().filter(|it| it.name().starts_with(&bus.topic_prefix));
    let reads = |assignment: &[u8], topic: &str| {
        // Topics stand in it by name, each after its length.
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        let wanted = [&length[..], topic.as_bytes()].concat();
        assignment.windows(wanted.len()).any(|window| window == wanted)
    };
    let of_group = |group: &rdkafka::groups::GroupInfo| -> BTreeSet<String> {
        let assignments = group.members().iter().filter_map(|member| member.assignment());
        let read = |assignment| topics.iter().filter(move |topic| reads(assignment, topic));
        assignments.flat_map(read).cloned().collect()
    };
    ours.map(|group| (group.name().to_owned(), of_group(group))).collect()
}

/// Rights are made of what services declare; a consumer that none declares would be let in nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn every_consumer_that_runs_is_declared_with_its_topic_and_no_other() {
    let cluster = Cluster::start().await;
    let told = cluster.assent(&["topics", "rights"]);
    assert_eq!(told.status, 0, "{}", told.text);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let groups = told.json["groups"].as_array().unwrap();
    let declared: BTreeMap<String, BTreeSet<String>> = groups
        .iter()
        .map(|group| (text(&group["group"]), BTreeSet::from([text(&group["topic"])])))
        .collect();
    assert!(declared.len() > 8, "{}", told.text);
    let topics: BTreeSet<String> =
        assent_contracts::topics::ALL.map(|topic| cluster.bus.topic_name(&topic)).into();
    until("the groups of the broker are those that are declared", async || {
        members(&cluster.bus, &topics) == declared
    })
    .await;
}
