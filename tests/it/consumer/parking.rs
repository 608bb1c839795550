//! What can't be applied is parked, with everything later of its key behind it and nothing else.

use std::sync::Arc;

use assent_bus::Sequencing;
use assent_bus::parked::{
    BEHIND, HANDLER_CRASHED, Id, MALFORMED_ENVELOPE, ParkedError, ParkedMessages, SEQUENCE_GAP,
};
use assent_eventstore::parked::Parked;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use uuid::Uuid;

use super::recorder::{BOUND, NAME, Recorder, Stage, TOPIC, Trouble, eventually, keys, made};

const TRACKED: Sequencing = Sequencing::Tracked;

fn reasons(parked: &[Parked]) -> Vec<(i64, &str)> {
    parked.iter().map(|parked| (parked.sequence.unwrap_or(0), parked.reason.as_str())).collect()
}

fn parked_messages(stage: &Stage, recorder: &Arc<Recorder>) -> ParkedMessages {
    ParkedMessages::new(stage.pool.clone(), stage.config.clone()).with(Arc::clone(recorder))
}

#[tokio::test(flavor = "multi_thread")]
async fn later_events_of_a_parked_key_wait_and_a_replay_keeps_their_order() {
    let stage = Stage::new().await;
    let [ann, ben] = keys(2)[..] else { unreachable!() };
    let recorder = Recorder::new(TRACKED);
    let parked = parked_messages(&stage, &recorder);
    let events: Vec<_> = (1..=4).flat_map(|n| [made(ann, n), made(ben, n)]).collect();
    let poison = events[2];
    recorder.trouble(poison.id, Trouble::Poison);
    stage.publish(&events).await;
    let member = stage.start(&recorder);
    stage.drained().await;
    assert_eq!(stage.applied(ann).await, [1]);
    assert_eq!(stage.applied(ben).await, [1, 2, 3, 4]);
    let waiting = stage.parked().await;
    assert_eq!(reasons(&waiting), [(2, "test_poison"), (3, BEHIND), (4, BEHIND)]);

    let shown = parked.show(&Id::of(&waiting[0])).await.unwrap();
    assert!(shown.message.is_some(), "Kafka has it still");
    let refused = parked.replay(&Id::of(&waiting[0])).await.unwrap_err();
    assert!(matches!(refused, ParkedError::Refused { applied: 0, .. }), "{refused}");
    assert_eq!(stage.applied(ann).await, [1], "a refused replay left rows");

    recorder.heal();
    // Asked by the last of the key, the whole key is replayed from its first.
    assert_eq!(parked.replay(&Id::of(&waiting[2])).await.unwrap(), 3);
    assert_eq!(stage.applied(ann).await, [1, 2, 3, 4]);
    stage.publish(&[made(ann, 5)]).await;
    stage.drained().await;
    assert_eq!(stage.applied(ann).await, [1, 2, 3, 4, 5]);
    assert!(stage.parked().await.is_empty());
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_stops_its_key_until_the_missing_one_came() {
    let stage = Stage::new().await;
    let key = keys(1)[0];
    let recorder = Recorder::new(TRACKED);
    let member = stage.start(&recorder);
    stage.publish(&[made(key, 1), made(key, 3), made(key, 4), made(key, 2)]).await;
    let waiting = stage.until_parked(3).await;
    assert_eq!(reasons(&waiting), [(3, SEQUENCE_GAP), (4, BEHIND), (2, BEHIND)]);
    assert_eq!(stage.applied(key).await, [1]);
    let parked = parked_messages(&stage, &recorder);
    assert_eq!(parked.replay(&Id::of(&waiting[0])).await.unwrap(), 3);
    assert_eq!(stage.applied(key).await, [1, 2, 3, 4]);
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashing_handler_parks_the_message_after_three_starts() {
    let stage = Stage::new().await;
    let keys = keys(20);
    let recorder = Recorder::new(TRACKED);
    let events: Vec<_> = (1..=2).flat_map(|n| keys.iter().map(move |key| made(*key, n))).collect();
    let deadly = events[7];
    recorder.trouble(deadly.id, Trouble::Panic);
    stage.publish(&events).await;
    let member = stage.start(&recorder);
    stage.drained().await;
    let waiting = stage.parked().await;
    assert_eq!(reasons(&waiting), [(1, HANDLER_CRASHED), (2, BEHIND)]);
    assert!(waiting.iter().all(|parked| parked.key == deadly.key));
    // In a batch with others, and then alone, as often as it may.
    assert!((3..=4).contains(&recorder.attempts(deadly.id)), "{}", recorder.attempts(deadly.id));
    for key in keys.into_iter().filter(|key| *key != deadly.key) {
        assert_eq!(stage.applied(key).await, [1, 2]);
    }
    assert!(member.stop().await);
}

/// A process that dies leaves nothing but the starts it recorded.
#[tokio::test(flavor = "multi_thread")]
async fn starts_survive_the_process() {
    let stage = Stage::new().await;
    let key = keys(1)[0];
    let events = [made(key, 1), made(key, 2)];
    let recorder = Recorder::new(TRACKED);
    stage.publish(&events[..1]).await;
    let member = stage.start(&recorder);
    stage.until_applied(1).await;
    assert!(member.stop().await);
    stage.publish(&events[1..]).await;
    sqlx::query("UPDATE eventstore.consumer_offsets SET starts = 3 WHERE next_offset = 1")
        .execute(&stage.pool)
        .await
        .unwrap();
    let member = stage.start(&recorder);
    let waiting = stage.until_parked(1).await;
    assert_eq!(reasons(&waiting), [(2, HANDLER_CRASHED)]);
    assert_eq!(recorder.attempts(events[1].id), 0);
    let starts: i32 = sqlx::query_scalar("SELECT max(starts) FROM eventstore.consumer_offsets")
        .fetch_one(&stage.pool)
        .await
        .unwrap();
    assert_eq!(starts, 0, "progress forgets the starts");
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_passes_counts_as_no_crash() {
    let stage = Stage::new().await;
    let key = keys(1)[0];
    let event = made(key, 1);
    let recorder = Recorder::new(TRACKED);
    recorder.trouble(event.id, Trouble::Transient);
    stage.publish(&[event]).await;
    let member = stage.start(&recorder);
    eventually("it was tried often", async || recorder.attempts(event.id) >= 6).await;
    assert!(stage.parked().await.is_empty());
    recorder.heal();
    stage.until_applied(1).await;
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_is_on_record_and_its_key_goes_on() {
    let stage = Stage::new().await;
    let key = keys(1)[0];
    let recorder = Recorder::new(TRACKED);
    let parked = parked_messages(&stage, &recorder);
    let events = [made(key, 1), made(key, 2)];
    recorder.trouble(events[0].id, Trouble::Poison);
    stage.publish(&events).await;
    let member = stage.start(&recorder);
    let waiting = stage.until_parked(2).await;
    let [first, second] = [Id::of(&waiting[0]), Id::of(&waiting[1])];
    let early = parked.discard(&second, "not_wanted", "cli").await.unwrap_err();
    assert!(matches!(early, ParkedError::NotFirst(id) if id == first));
    parked.discard(&first, "not_wanted", "cli").await.unwrap();
    assert!(matches!(parked.show(&first).await, Err(ParkedError::Unknown)));
    assert_eq!(parked.replay(&second).await.unwrap(), 1);
    stage.publish(&[made(key, 3)]).await;
    stage.drained().await;
    assert_eq!(stage.applied(key).await, [2, 3]);
    let mut connection = stage.pool.acquire().await.unwrap();
    let discarded = assent_eventstore::parked::discarded_offsets(
        &mut connection,
        NAME,
        TOPIC.suffix,
        first.partition,
        0,
    );
    assert!(discarded.await.unwrap().contains(&first.offset), "a rebuild must know");
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_clears_what_is_parked_and_the_key_goes_on() {
    let stage = Stage::new().await;
    let [ann, ben] = keys(2)[..] else { unreachable!() };
    let recorder = Recorder::new(TRACKED);
    let events = [made(ann, 1), made(ann, 2), made(ben, 1)];
    recorder.trouble(events[0].id, Trouble::Poison);
    recorder.trouble(events[2].id, Trouble::Poison);
    stage.publish(&events).await;
    let member = stage.start(&recorder);
    stage.until_parked(3).await;
    let mut connection = stage.pool.acquire().await.unwrap();
    let parked = parked_messages(&stage, &recorder);
    assert_eq!(parked.clear_subject(&mut connection, ann).await.unwrap(), 2);
    stage.publish(&[made(ann, 3)]).await;
    stage.drained().await;
    assert_eq!(stage.applied(ann).await, [3]);
    let kept = stage.parked().await;
    assert!(kept.len() == 1 && kept[0].key == ben, "somebody else's message was cleared");
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_parked_and_blocks_nobody() {
    let stage = Stage::new().await;
    let keys = keys(12);
    let events: Vec<_> = (1..=2).flat_map(|n| keys.iter().map(move |key| made(*key, n))).collect();
    let stranger: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &stage.config.brokers).create().unwrap();
    let topic = stage.config.topic_name(&TOPIC);
    stage.publish(&events[..12]).await;
    for partition in 0..TOPIC.partitions {
        let garbage = FutureRecord::to(&topic).partition(partition).key("?").payload("\u{0}{");
        stranger.send(garbage, BOUND).await.unwrap();
        let nothing: FutureRecord<'_, str, str> = FutureRecord::to(&topic).partition(partition);
        stranger.send(nothing, BOUND).await.unwrap();
    }
    stage.publish(&events[12..]).await;
    let recorder = Recorder::new(TRACKED);
    let member = stage.start(&recorder);
    stage.drained().await;
    for key in keys {
        assert_eq!(stage.applied(key).await, [1, 2]);
    }
    let waiting = stage.parked().await;
    assert_eq!(waiting.len(), 12);
    assert!(waiting.iter().all(|parked| parked.reason == MALFORMED_ENVELOPE));
    assert!(waiting.iter().all(|parked| parked.key == Uuid::nil()));
    let parked = parked_messages(&stage, &recorder);
    let refused = parked.replay(&Id::of(&waiting[0])).await.unwrap_err();
    assert!(matches!(refused, ParkedError::Malformed("key")), "{refused}");
    for garbage in &waiting {
        parked.discard(&Id::of(garbage), "garbage", "cli").await.unwrap();
    }
    assert!(stage.parked().await.is_empty());
    assert!(member.stop().await);
}
