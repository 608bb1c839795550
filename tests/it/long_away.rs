//! Another team that was away for longer than tombstones live: compaction has dropped the one that would have told it,
//! and by each of the roads in `docs/guides/consuming.md` and `participants.md` it still learns whom to forget.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assent_bus::end_offsets;
use assent_client::contracts::SubjectId;
use assent_client::contracts::consent::ERASED;
use assent_client::contracts::erasure::{Command, Evidence, Positions, Step};
use assent_client::contracts::topics::{CONSENT_EVENTS, CONSENT_STATE};
use assent_client::{Client, Follower, Holder, Participant, Progress};
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use assent_tests::cluster::{Cluster, until};
use assent_tests::topics::everything;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::json;

/// The state topic with tombstones that live for a tenth of a second instead of a day, and segments so short that
/// compaction comes to them.
const FORGETFUL: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("delete.retention.ms", "100"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("segment.ms", "100"),
];

/// The other team's database: what it read of whom, and what it was asked for.
#[derive(Default)]
struct Crm {
    people: BTreeSet<SubjectId>,
    steps: Vec<Step>,
}

impl Holder for Crm {
    type Error = Infallible;

    fn forget(&mut self, subject_id: SubjectId) -> Result<(), Infallible> {
        self.people.remove(&subject_id);
        Ok(())
    }

    fn carry_out(&mut self, command: &Command) -> Result<Evidence, Infallible> {
        self.steps.push(command.step);
        let held = self.people.contains(&command.subject_id);
        let left = held.then(|| command.subject_id.to_string()).into_iter().collect();
        Ok(Evidence::of(&BTreeMap::from([("people", left)]), Positions::new()))
    }
}

fn kafka(cluster: &Cluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cluster.bus.brokers);
    config
}

/// What the state topic holds under a key, from these offsets on: whether each is a tombstone.
fn records(cluster: &Cluster, key: SubjectId, from: &BTreeMap<i32, i64>) -> Vec<bool> {
    tokio::task::block_in_place(|| {
        let mut config = kafka(cluster);
        config.set("group.id", "none").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.set("enable.partition.eof", "true").create().unwrap();
        let (topic, mut list) = (cluster.bus.topic_name(&CONSENT_STATE), TopicPartitionList::new());
        for (partition, offset) in from {
            list.add_partition_offset(&topic, *partition, Offset::Offset(*offset)).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (key, mut found, mut ended) = (key.to_string(), Vec::new(), BTreeSet::new());
        while ended.len() < from.len() {
            match consumer.poll(Duration::from_secs(20)).expect("the broker answers") {
                Ok(record) if record.key() == Some(key.as_bytes()) => {
                    found.push(record.payload().is_none());
                }
                Ok(_) => {}
                Err(KafkaError::PartitionEOF(partition)) => {
                    ended.insert(partition);
                }
                Err(error) => panic!("{error}"),
            }
        }
        found
    })
}

/// Whom a reader knows that begins with an empty picture, once it has heard that these agreed.
async fn picture(cluster: &Cluster, agreed: &[SubjectId]) -> BTreeSet<SubjectId> {
    let mut follower = Follower::start(&kafka(cluster), &cluster.bus.topic_prefix).unwrap();
    until("the state topic was read", async || {
        tokio::task::block_in_place(|| follower.poll(Duration::from_millis(50)).unwrap());
        let (picture, now) = (follower.picture(), SystemClock.now());
        agreed.iter().all(|id| picture.agreed(*id, "marketing", "whatsapp", now))
    })
    .await;
    follower.picture().people().collect()
}

/// Other people say something, so that the topic goes on.
async fn others_agree(cluster: &Cluster) {
    for _ in 0..6 {
        let body = json!({"subject_id": SystemIds.v4(), "purpose": "marketing",
                          "channel": "whatsapp", "actor": "subject", "method": "api",
                          "evidence": "bm9pc2U"});
        let (status, answer) = cluster.post("consent", "/v1/consents/grant", &body, None).await;
        assert!(status == 200 || status == 201, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_away_until_the_tombstone_was_gone_still_learns_whom_to_forget() {
    let cluster = Cluster::start().await;
    let (gone, gone_id) = cluster.willing().await;
    let (_, stays_id) = cluster.willing().await;
    let (she, stays): (SubjectId, SubjectId) =
        (gone_id.parse().unwrap(), stays_id.parse().unwrap());
    let begin = ["participant", "register", "crm", "--owner", "crm-team", "--key", "test"];
    let registered = cluster.assent(&begin);
    assert_eq!(registered.status, 0, "{}", registered.text);

    // The team reads both of them, stores what it read and where it was, and is away.
    let crm = Crm { people: picture(&cluster, &[she, stays]).await, ..Crm::default() };
    assert_eq!(crm.people, BTreeSet::from([she, stays]));
    let was_at = end_offsets(&cluster.bus, CONSENT_STATE).await.unwrap();

    // Meanwhile she is erased as far as it goes without the team: her tombstone was there, and is gone.
    let erased = cluster.assent(&["erase", &gone.phone, "--checked", "called_back"]);
    assert_eq!(erased.status, 0, "{}", erased.text);
    let request = format!("/v1/requests/{}", erased.json["request"].as_str().unwrap());
    until("the team alone is missing", async || {
        cluster.get("erasure", &request).await.1["missing"] == json!(["crm"])
    })
    .await;
    until("her tombstone is there", async || records(&cluster, she, &was_at).last() == Some(&true))
        .await;
    forget_soon(&cluster).await;
    let zero: BTreeMap<i32, i64> = was_at.keys().map(|partition| (*partition, 0)).collect();
    until("compaction has dropped her tombstone, and all before it", async || {
        others_agree(&cluster).await;
        records(&cluster, she, &zero).is_empty()
    })
    .await;
    let told = records(&cluster, she, &was_at);
    assert!(told.is_empty(), "who goes on where she was hears nothing: {told:?}");
    assert!(!records(&cluster, stays, &zero).is_empty(), "nothing else is lost");
    assert!(crm.people.contains(&she), "and so her copy would stay");
    let (_, view) = cluster.get("erasure", &request).await;
    assert_ne!(view["status"], "completed", "nor is it called complete without the team: {view}");

    // A reader that begins anew with an empty picture, as the guide says, has nothing of her.
    let anew = picture(&cluster, &[stays]).await;
    assert!(anew.contains(&stays) && !anew.contains(&she));

    // The team comes back: before it reads anything else it hears of everybody who is erased.
    let over = Arc::new(AtomicBool::new(false));
    let team = {
        let (kafka, over) = (kafka(&cluster), Arc::clone(&over));
        let prefix = cluster.bus.topic_prefix.clone();
        let assent = Client::new(&cluster.url("gateway"), cluster.token()).unwrap();
        std::thread::spawn(move || {
            let mut crm = Participant::start(&kafka, &prefix, assent, "crm", crm).unwrap();
            assert!(crm.holder().steps.is_empty(), "it was asked for nothing yet");
            assert_eq!(crm.holder().people, BTreeSet::from([stays]), "and her copy was destroyed");
            while !over.load(Ordering::SeqCst) {
                let progress = crm.poll(Duration::from_millis(100)).unwrap();
                assert!(!matches!(progress, Progress::Refused(..)), "{progress:?}");
            }
            std::mem::take(&mut crm.holder().steps)
        })
    };
    until("the erasure is complete", async || {
        assert!(!team.is_finished(), "the team's thread ended");
        cluster.get("erasure", &request).await.1["status"] == "completed"
    })
    .await;
    over.store(true, Ordering::SeqCst);
    let mut steps = team.join().unwrap();
    steps.dedup();
    assert_eq!(steps, [Step::Fence, Step::Delete, Step::Sweep], "it proved it as all others");

    // Who follows the events has it there for good.
    let events = everything(&cluster, CONSENT_EVENTS).await;
    let last = events.iter().rfind(|event| event.key == she).expect("events of hers");
    assert_eq!(last.event_type, ERASED);
}

async fn forget_soon(cluster: &Cluster) {
    let admin: AdminClient<DefaultClientContext> = kafka(cluster).create().unwrap();
    let topic = cluster.bus.topic_name(&CONSENT_STATE);
    let alter = AlterConfig::new(ResourceSpecifier::Topic(&topic));
    let alter = FORGETFUL.iter().fold(alter, |alter, (name, value)| alter.set(name, value));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    for altered in admin.alter_configs([&alter], &options).await.unwrap() {
        altered.unwrap();
    }
}
