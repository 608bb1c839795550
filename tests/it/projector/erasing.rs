//! The projector as a participant in erasures.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_bus::producer::Record;
use assent_contracts::erasure::{Ack, COMMAND, Command, Step};
use assent_contracts::topics::{CONSENT_EVENTS, ERASURE_COMMANDS};
use assent_http::auth::key_entry;
use assent_http::{Keys, ServiceClient};
use assent_projector::Config;
use assent_runtime::{Clock, Health, Ids, Lifecycle, ServiceConfig, SystemClock, SystemIds};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio::net::TcpListener;

use super::stage::{Stage, TERMS, command, eventually, granted, keys};

/// G6: neither a late event nor a rebuild brings her back.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_subject_is_not_brought_back_by_a_late_event() {
    let stage = Stage::new().await;
    let life = stage.follow();
    let people = keys(3);
    let events: Vec<_> = people.iter().map(|key| granted(*key, 1, "news")).collect();
    stage.publish(&events).await;
    stage.drained().await;
    let her = people[1];
    assert!(stage.erase(her, Step::Sweep).await.counts["consents"] > 0, "the sweep can fail");

    stage.erase(her, Step::Fence).await;
    stage.publish(&[granted(her, 2, "between")]).await;
    stage.drained().await;
    let deleted = stage.erase(her, Step::Delete).await;
    assert_eq!(deleted.counts["consents"], 1);
    stage.publish(&[granted(her, 3, "late"), granted(people[0], 2, "other")]).await;
    stage.drained().await;
    let swept = stage.erase(her, Step::Sweep).await;
    assert!(swept.counts.values().all(|count| *count == 0), "{swept:?}");

    let progress = stage.rebuild().await;
    assert_eq!((&*progress.state, progress.differences), ("done", Some(0)));
    let swept = stage.erase(her, Step::Sweep).await;
    assert!(swept.counts.values().all(|count| *count == 0), "{swept:?}");
    assert_eq!(stage.number("SELECT count(*) FROM live.consents").await, 2);
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}

/// A consumer that had read what is parked of her before she was deleted parks one more behind it: the sweep takes
/// that out, or it would find it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_while_she_is_deleted_is_gone_after_the_sweep() {
    // What the consumer commits, with a position that is of no matter here.
    const BEHIND: &str = "
        INSERT INTO eventstore.parked
            (consumer, topic, partition, message_offset, key, sequence, event_type, reason, parked_at)
        VALUES ('projector.consents', 'consent.events.v1', 0, 7, $1, 2, 'late', 'behind', now())";
    let stage = Stage::new().await;
    let life = stage.follow();
    let (her, other) = (keys(1)[0], keys(1)[0]);
    stage.publish(&[granted(her, 1, "news")]).await;
    stage.drained().await;
    stage.erase(her, Step::Fence).await;
    stage.erase(her, Step::Delete).await;
    for (key, offset) in [(her, 7), (other, 8)] {
        let behind = BEHIND.replace("0, 7", &format!("0, {offset}"));
        sqlx::query(AssertSqlSafe(behind)).bind(key).execute(&stage.pool).await.unwrap();
    }
    let swept = stage.erase(her, Step::Sweep).await;
    assert!(swept.counts.values().all(|count| *count == 0), "{swept:?}");
    let left = "SELECT count(*) FROM eventstore.parked";
    assert_eq!(stage.number(left).await, 1, "the other's waits on");
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}

/// An erasure that comes while a rebuild is half done reaches the unfinished tables too.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_the_tables_of_a_rebuild() {
    let stage = Stage::new().await;
    let life = stage.follow();
    let everyone = keys(9_000);
    let events: Vec<_> = everyone.iter().map(|key| granted(*key, 1, "news")).collect();
    stage.publish(&events).await;
    stage.drained().await;
    assert!(stage.ask_for_rebuild(false).await);
    let rebuilder = stage.rebuilder();
    // It can't end: its last look takes the positions of the live consumer.
    let held = stage.lock("eventstore.consumer_offsets", "EXCLUSIVE").await;
    let interrupted = tokio::spawn(async move { rebuilder.work().await });
    eventually("a part is built", async || stage.progress().await.events > 0).await;
    interrupted.abort();
    let _ = interrupted.await;
    held.rollback().await.unwrap();
    let her = sqlx::query_scalar("SELECT subject_id FROM next.consents LIMIT 1")
        .fetch_one(&stage.pool)
        .await
        .unwrap();
    let deleted = stage.erase(her, Step::Delete).await;
    assert_eq!(deleted.counts["consents"], 2, "the live row and the unfinished one");
    assert!(stage.erase(her, Step::Sweep).await.counts.values().all(|count| *count == 0));
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}

/// The whole service: a command is answered once everything up to its barrier is folded in, and
/// what is queried is gone afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_answered_after_its_barrier() {
    let stage = Stage::new().await;
    let acks: Arc<Mutex<Vec<Ack>>> = Arc::default();
    let saga = Router::new().route(
        "/v1/requests/{id}/acks",
        post({
            let acks = Arc::clone(&acks);
            async move |Json(ack): Json<Ack>| {
                acks.lock().unwrap().push(ack);
                Json(Value::Null)
            }
        }),
    );
    let erasure_url = serve(saga).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let keys_file = key_entry("test", "secret", &["query:read", "operations"]);
    let config = Config {
        service: ServiceConfig {
            listen,
            ops_listen: listen,
            database_url: stage.url.clone().into(),
            database_connections: 12,
            requests_max: 4096,
            token: "secret".into(),
        },
        bus: stage.config.clone(),
        keys: Arc::new(Keys::parse(&keys_file).unwrap()),
        terms: TERMS,
        erasure_url,
    };
    let life = Lifecycle::new();
    assent_projector::serve(config, listener, Health::new(), life.clone()).await.unwrap();
    let client = ServiceClient::new(&format!("http://{listen}"), &"secret".into()).unwrap();

    let people = keys(5);
    let events: Vec<_> = people.iter().map(|key| granted(*key, 1, "news")).collect();
    stage.publish(&events).await;
    stage.drained().await;
    assert_eq!(pages(&client).await, 5);
    let status: Value = client.get("/v1/projections").await.unwrap();
    assert_eq!(status["items"][1]["lag"], 0);

    let her = people[2];
    // The barrier lies one event ahead, in every partition: it is reached partition by partition.
    let ends = assent_bus::end_offsets(&stage.config, CONSENT_EVENTS).await.unwrap();
    let topic = stage.config.topic_name(&CONSENT_EVENTS);
    let barrier = [(topic, ends.iter().map(|(p, end)| (*p, end + 1)).collect())].into();
    let fence = Command { barrier, ..command(her, Step::Fence) };
    send(&stage, &fence).await;
    eventually("the command was taken over", async || {
        stage.number("SELECT count(*) FROM participant.commands").await == 1
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(acks.lock().unwrap().is_empty(), "answered before its barrier");

    let late = keys(200);
    stage.publish(&late.iter().map(|key| granted(*key, 1, "x")).collect::<Vec<_>>()).await;
    eventually("the fence is answered", async || acks.lock().unwrap().len() == 1).await;
    for step in [Step::Delete, Step::Sweep] {
        send(&stage, &command(her, step)).await;
        let done = acks.lock().unwrap().len();
        eventually("a step is answered", async || acks.lock().unwrap().len() > done.min(1)).await;
    }
    eventually("all steps are answered", async || acks.lock().unwrap().len() >= 3).await;
    let acks = acks.lock().unwrap().clone();
    assert_eq!(acks[0].command_id, fence.command_id);
    let delete = acks.iter().find(|ack| ack.step == Step::Delete).unwrap();
    assert_eq!(delete.evidence.counts["consents"], 1);
    assert!(!delete.evidence.positions.is_empty());
    let gone: Value = client.get(&format!("/v1/consents?subject_id={her}")).await.unwrap();
    assert_eq!(gone["items"].as_array().unwrap().len(), 0);
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}

/// The saga repeats a command before the participant knows that its answer was heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_heard_again_while_its_answer_is_on_its_way_is_answered_again() {
    let stage = Arc::new(Stage::new().await);
    let fence = command(keys(1)[0], Step::Fence);
    let acks: Arc<Mutex<Vec<Ack>>> = Arc::default();
    let saga = Router::new().route(
        "/v1/requests/{id}/acks",
        post({
            let (stage, fence, acks) = (Arc::clone(&stage), fence.clone(), Arc::clone(&acks));
            async move |Json(ack): Json<Ack>| {
                let before = acks.lock().unwrap().len();
                if before == 0 {
                    stage.hear(&fence).await;
                }
                acks.lock().unwrap().push(ack);
                Json(Value::Null)
            }
        }),
    );
    let participant = stage.participant(&serve(saga).await);
    stage.hear(&fence).await;
    let life = Lifecycle::new();
    life.spawn("participant", participant.run(life.stopping()));
    eventually("the repeat is answered", async || acks.lock().unwrap().len() >= 2).await;
    eventually("nothing is open", async || {
        let open = "SELECT count(*) FROM participant.commands WHERE answered_at IS NULL";
        stage.number(open).await == 0
    })
    .await;
    let acks = acks.lock().unwrap().clone();
    assert_eq!(acks[1].evidence.digest, acks[0].evidence.digest, "a repeat is answered alike");
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}

/// Serves a stand-in for the saga; its address.
async fn serve(saga: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, saga).await });
    url
}

async fn send(stage: &Stage, command: &Command) {
    let data = serde_json::to_vec(command).unwrap();
    let record = Record {
        topic: ERASURE_COMMANDS.suffix,
        key: command.subject_id,
        sequence: None,
        event_sequence: None,
        id: SystemIds.v7(),
        event_type: COMMAND,
        time: SystemClock.now(),
        traceparent: None,
        payload: Some(&data),
    };
    for answer in stage.producer.send(&[record]).await {
        answer.expect("Kafka takes the command");
    }
}

/// Walks all pages, two at a time, and counts distinct people.
async fn pages(client: &ServiceClient) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    let mut path = "/v1/consents?limit=2".to_owned();
    loop {
        let page: Value = client.get(&path).await.unwrap();
        for item in page["items"].as_array().unwrap() {
            assert!(seen.insert(item["subject_id"].as_str().unwrap().to_owned()), "shown twice");
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/consents?limit=2&cursor={next}"),
            None => return seen.len(),
        }
    }
}
