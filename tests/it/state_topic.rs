//! The compacted topic of consents as another team uses it: start from zero, follow, ask nobody.
//! The reader is a stock Kafka client that knows the guide and nothing of Assent's code.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assent_tests::cluster::{Cluster, until};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::{Value, json};
use uuid::Uuid;

const STATE: &str = "consent.state.v1";
const EVENTS: &str = "consent.events.v1";
const PARTITIONS: i32 = 6;

/// What a reader knows of a person: the last event sequence and the state of her consents.
type Known = (i64, BTreeMap<(String, String), String>);

/// A reader by the guide.
struct Follower {
    consumer: BaseConsumer,
    people: BTreeMap<Uuid, Known>,
    /// Events that came before the state they go on from.
    held: BTreeMap<(Uuid, i64), (String, Value)>,
    /// How often each of the rules was of use.
    states: usize,
    events: usize,
    tombstones: usize,
    told_later: usize,
}

impl Follower {
    /// The state topic from its beginning, the event topic from where it ends at this moment.
    fn start(cluster: &Cluster) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &cluster.bus.brokers)
            .set("group.id", "none")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let prefix = &cluster.bus.topic_prefix;
            let events = format!("{prefix}{EVENTS}");
            let (_, end) =
                consumer.fetch_watermarks(&events, partition, Duration::from_secs(10)).unwrap();
            list.add_partition_offset(&events, partition, Offset::Offset(end)).unwrap();
            let state = format!("{prefix}{STATE}");
            list.add_partition_offset(&state, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (people, held) = (BTreeMap::new(), BTreeMap::new());
        Self { consumer, people, held, states: 0, events: 0, tombstones: 0, told_later: 0 }
    }

    /// Reads what is there now.
    fn read(&mut self) {
        while let Some(message) = self.consumer.poll(Duration::from_millis(50)) {
            let message = message.unwrap();
            let key =
                Uuid::try_parse(std::str::from_utf8(message.key().unwrap()).unwrap()).unwrap();
            let data = message.payload().map(|data| serde_json::from_slice(data).unwrap());
            if message.topic().ends_with(STATE) {
                let sequence = number(&message, "ce_eventsequence");
                drop(message);
                self.state(key, sequence, data);
            } else {
                let sequence = number(&message, "ce_sequence");
                let kind = text(&message, "ce_type").to_owned();
                drop(message);
                self.held.insert((key, sequence), (kind, data.unwrap()));
                self.go_on(key);
            }
        }
    }

    /// A state older than what is known is ignored; none at all means that she is gone.
    fn state(&mut self, key: Uuid, sequence: i64, data: Option<Value>) {
        if self.people.get(&key).is_some_and(|(known, _)| *known > sequence) {
            return;
        }
        self.states += 1;
        let mut consents = BTreeMap::new();
        match data {
            None => self.tombstones += 1,
            Some(data) => {
                for line in data["consents"].as_array().unwrap() {
                    let text = |name: &str| line[name].as_str().unwrap().to_owned();
                    consents.insert((text("purpose"), text("channel")), text("state"));
                }
            }
        }
        self.people.insert(key, (sequence, consents));
        self.go_on(key);
    }

    /// Applies the events that follow what is known; older ones are dropped, later ones kept.
    fn go_on(&mut self, key: Uuid) {
        loop {
            let known = self.people.get(&key).map_or(0, |(sequence, _)| *sequence);
            self.held.retain(|(of, sequence), _| *of != key || *sequence > known);
            let Some((kind, data)) = self.held.get(&(key, known + 1)).cloned() else { return };
            if !data["acted_at"].is_null() {
                // Told later than it happened: the state that was written with it says what holds.
                self.told_later += 1;
                return;
            }
            self.held.remove(&(key, known + 1));
            self.events += 1;
            let (sequence, consents) = self.people.entry(key).or_default();
            *sequence += 1;
            let scope = ["purpose", "channel"].map(|name| data[name].as_str().map(str::to_owned));
            match (&*kind, scope) {
                ("assent.consent.erased.v1", _) => consents.clear(),
                (kind, [Some(purpose), Some(channel)]) => {
                    let state = match kind {
                        "assent.consent.granted.v1" => "given",
                        "assent.consent.withdrawn.v1" => "withdrawn",
                        other => panic!("the test makes no {other}"),
                    };
                    if purpose == "*" {
                        consents.values_mut().for_each(|line| *line = state.to_owned());
                    }
                    consents.insert((purpose, channel), state.to_owned());
                }
                // A purpose is no person.
                _ => {}
            }
        }
    }
}

fn text<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> &'a str {
    let headers = message.headers().expect("headers");
    let header = headers.iter().find(|header| header.key == name);
    std::str::from_utf8(header.and_then(|header| header.value).unwrap_or_default()).unwrap()
}

fn number(message: &BorrowedMessage<'_>, name: &str) -> i64 {
    text(message, name).parse().unwrap_or_else(|_| panic!("{name} is a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_from_zero_on_the_state_topic_and_follows_the_events_misses_nothing() {
    let cluster = Cluster::start().await;
    let (gone, gone_id) = cluster.willing().await;
    let subjects: Vec<Uuid> = (1..=30).map(Uuid::from_u128).collect();
    let stopping = AtomicBool::new(false);
    // After the notice was there, before anything was said.
    let long_ago = cluster.get("consent", "/v1/purposes/marketing/versions").await.1["items"][0]
        ["recorded_at"]
        .clone();
    // Three voices go on all the time, each about people of its own; a withdrawal waits its lease.
    let voice = async |own: &[Uuid]| {
        let mut said = 0_usize;
        while !stopping.load(Ordering::SeqCst) {
            let word = if said % 11 == 10 { "withdraw" } else { "grant" };
            let body = json!({"subject_id": own[said % own.len()], "purpose": "marketing",
                              "channel": "whatsapp", "actor": "subject", "method": "api",
                              "evidence": "bm9pc2U"});
            let mut body = body;
            if said % 7 == 3 {
                // A word of before all the others, told in between.
                body["acted_at"] = json!(long_ago);
            }
            let path = format!("/v1/consents/{word}");
            let (status, answer) = cluster.post("consent", &path, &body, None).await;
            assert!(status == 200 || status == 201, "{word}: {answer}");
            said += 1;
        }
    };
    let follow = async {
        let backlog = async |cluster: &Cluster| -> i64 {
            let events = "SELECT count(*) FROM eventstore.events";
            sqlx::query_scalar(events).fetch_one(&cluster.pool("consent").await).await.unwrap()
        };
        until("much has been said before", async || backlog(&cluster).await > 60).await;
        let mut follower = Follower::start(&cluster);
        until(
            "both topics were of use, and something was told later than it happened",
            async || {
                tokio::task::block_in_place(|| follower.read());
                follower.states > 30 && follower.events > 0 && follower.told_later > 0
            },
        )
        .await;
        let erased = cluster.assent(&["erase", &gone.phone, "--checked", "called_back", "--wait"]);
        assert_eq!(erased.json["status"], "completed", "{}", erased.text);
        stopping.store(true, Ordering::SeqCst);
        follower
    };
    let (mut follower, ..) = tokio::join!(
        follow,
        voice(&subjects[..10]),
        voice(&subjects[10..20]),
        voice(&subjects[20..])
    );

    let pool = cluster.pool("consent").await;
    let versions: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT stream, max(version) FROM eventstore.events
         WHERE stream IN (SELECT subject_id FROM consent_lines) GROUP BY stream",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(versions.len(), subjects.len());
    until("the reader has come to where the ledgers are", async || {
        tokio::task::block_in_place(|| follower.read());
        versions.iter().all(|(subject, version)| {
            follower.people.get(subject).is_some_and(|(known, _)| known == version)
        })
    })
    .await;
    let lines: Vec<(Uuid, String, String, String)> =
        sqlx::query_as("SELECT subject_id, purpose, channel, state FROM consent_lines")
            .fetch_all(&pool)
            .await
            .unwrap();
    let mut truth: BTreeMap<Uuid, BTreeMap<(String, String), String>> = BTreeMap::new();
    for (subject, purpose, channel, state) in lines {
        truth.entry(subject).or_default().insert((purpose, channel), state);
    }
    let gone_id = Uuid::try_parse(&gone_id).unwrap();
    until("the reader has heard that she is gone", async || {
        tokio::task::block_in_place(|| follower.read());
        follower.tombstones > 0
    })
    .await;
    let seen: BTreeMap<_, _> = follower
        .people
        .iter()
        .filter(|(_, (_, consents))| !consents.is_empty())
        .map(|(subject, (_, consents))| (*subject, consents.clone()))
        .collect();
    assert_eq!(seen, truth, "she who was erased is in neither");
    assert!(!truth.contains_key(&gone_id));
    let waiting: Vec<_> = follower.held.keys().filter(|(key, _)| truth.contains_key(key)).collect();
    assert!(waiting.is_empty(), "no gap is left: {waiting:?}");
}
