//! Rows and position commit together, whoever fails, joins or comes back from the dead.

use std::collections::BTreeMap;
use std::sync::Arc;

use assent_bus::envelope::Delivery;
use assent_bus::{Sequencing, replay};
use sqlx::Row as _;
use tokio::sync::Notify;

use super::recorder::{BOUND, Recorder, Stage, TOPIC, Trouble, eventually, keys, made};

const TRACKED: Sequencing = Sequencing::Tracked;

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_position_commit_together() {
    let stage = Stage::new().await;
    let events: Vec<_> = keys(40).into_iter().map(|key| made(key, 1)).collect();
    let recorder = Recorder::new(TRACKED);
    for event in &events {
        recorder.trouble(event.id, Trouble::Transient);
    }
    stage.publish(&events).await;
    let member = stage.start(&recorder);
    eventually("a batch was tried twice", async || {
        events.iter().any(|event| recorder.attempts(event.id) >= 2)
    })
    .await;
    assert_eq!(stage.applied_count().await, 0, "rows stayed without their position");
    assert_eq!(stage.behind_it().await, 0, "the position moved without its rows");
    recorder.heal();
    // One snapshot sees both or neither.
    eventually("everything is applied", async || {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM applied),
                    (SELECT sum(next_offset)::bigint FROM eventstore.consumer_offsets)",
        )
        .fetch_one(&stage.pool)
        .await
        .unwrap();
        let (rows, position) = (row.get::<i64, _>(0), row.get::<i64, _>(1));
        assert_eq!(rows, position);
        rows == 40
    })
    .await;
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partitions_failure_never_advances_past_it_and_stops_no_other() {
    let stage = Stage::new().await;
    let keys = keys(24);
    let first: Vec<_> = keys.iter().map(|key| made(*key, 1)).collect();
    let second: Vec<_> = keys.iter().map(|key| made(*key, 2)).collect();
    let recorder = Recorder::new(TRACKED);
    stage.publish(&first).await;
    let member = stage.start(&recorder);
    stage.until_applied(24).await;
    let failing: i32 = sqlx::query_scalar("SELECT partition FROM applied WHERE key = $1")
        .bind(keys[0])
        .fetch_one(&stage.pool)
        .await
        .unwrap();
    let others: i64 = sqlx::query_scalar("SELECT count(*) FROM applied WHERE partition <> $1")
        .bind(failing)
        .fetch_one(&stage.pool)
        .await
        .unwrap();
    let stands = stage.behind_it().await;
    recorder.trouble(second[0].id, Trouble::Transient);
    stage.publish(&second).await;
    stage.until_applied(24 + others).await;
    eventually("the failing batch was tried again", async || recorder.attempts(second[0].id) >= 3)
        .await;
    assert_eq!(stage.applied(keys[0]).await, [1]);
    assert!(stage.behind_it().await < stands + 24, "the failing partition advanced");
    recorder.heal();
    stage.until_applied(48).await;
    for key in keys {
        assert_eq!(stage.applied(key).await, [1, 2]);
    }
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_behind_a_failing_partition_stays_bounded_and_is_applied_in_the_end() {
    let mut stage = Stage::new().await;
    stage.config.batch_max = 10;
    let keys = keys(12);
    let events: Vec<_> = (1..=40).flat_map(|n| keys.iter().map(move |key| made(*key, n))).collect();
    let recorder = Recorder::new(TRACKED);
    recorder.trouble(events[0].id, Trouble::Transient);
    stage.publish(&events).await;
    let member = stage.start(&recorder);
    eventually("the other partitions are read to the end", async || {
        let ends = assent_bus::end_offsets(&stage.config, TOPIC).await.unwrap();
        let positions = member.handle.positions().await.unwrap();
        let open = ends.iter().filter(|(partition, end)| {
            let place = (TOPIC.suffix.to_owned(), **partition);
            positions.get(&place) != Some(*end)
        });
        open.count() == 1
    })
    .await;
    assert!(stage.applied(keys[0]).await.is_empty());
    recorder.heal();
    stage.drained().await;
    for key in keys {
        assert_eq!(stage.applied(key).await, (1..=40).collect::<Vec<i64>>());
    }
    assert!(member.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_in_mid_batch_applies_everything_once() {
    let stage = Stage::new().await;
    let keys = keys(30);
    let events: Vec<_> = keys.iter().map(|key| made(*key, 1)).collect();
    let slow = Recorder::new(TRACKED);
    let go_on = Arc::new(Notify::new());
    for event in &events {
        slow.trouble(event.id, Trouble::Hold(Arc::clone(&go_on)));
    }
    stage.publish(&events).await;
    let first = stage.start(&slow);
    eventually("the first member is in mid-batch", async || {
        events.iter().any(|event| slow.attempts(event.id) == 1)
    })
    .await;
    let second = stage.start(&Recorder::new(TRACKED));
    // The newcomer waits for the row of a partition that the first member still has in its hands.
    eventually("the second member meets the first", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&stage.pool)
        .await
        .unwrap();
        waiting > 0
    })
    .await;
    slow.heal();
    go_on.notify_waiters();
    eventually("the held batches go on", async || {
        go_on.notify_waiters();
        stage.applied_count().await >= 30
    })
    .await;
    let more: Vec<_> = keys.iter().map(|key| made(*key, 2)).collect();
    stage.publish(&more).await;
    stage.drained().await;
    for key in keys {
        assert_eq!(stage.applied(key).await, [1, 2]);
    }
    assert!(stage.parked().await.is_empty());
    assert!(first.stop().await);
    assert!(second.stop().await);
}

/// What a member is that was frozen while others went on: its transaction fails, and it learns
/// where they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_members_transaction_fails_where_somebody_else_has_committed() {
    let stage = Stage::new().await;
    let key = keys(1)[0];
    let recorder = Recorder::new(TRACKED);
    let events = [made(key, 1), made(key, 2), made(key, 3)];
    stage.publish(&events[..1]).await;
    let member = stage.start(&recorder);
    stage.until_applied(1).await;
    // Somebody else applies the second event, its row and its position.
    let mut tx = stage.pool.begin().await.unwrap();
    for statement in [
        "UPDATE eventstore.consumer_offsets SET next_offset = 2 WHERE next_offset = 1",
        "UPDATE eventstore.consumer_keys SET sequence = 2",
        "INSERT INTO applied (key, sequence) SELECT key, 2 FROM applied",
    ] {
        assert_eq!(sqlx::query(statement).execute(&mut *tx).await.unwrap().rows_affected(), 1);
    }
    tx.commit().await.unwrap();
    stage.publish(&events[1..]).await;
    stage.drained().await;
    assert_eq!(stage.applied(key).await, [1, 2, 3]);
    assert_eq!(recorder.attempts(events[1].id), 0, "the fenced member applied what others had");
    assert!(member.stop().await);
}

/// A publisher that dies between Kafka's acknowledgement and its own bookkeeping publishes again;
/// so does one whose acknowledgement is lost, much later.
#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_is_applied_once_however_late_it_comes() {
    let stage = Stage::new().await;
    let keys = keys(10);
    let events: Vec<_> =
        (1..=5).flat_map(|sequence| keys.iter().map(move |key| made(*key, sequence))).collect();
    stage.publish(&events).await;
    stage.publish(&events).await;
    let first = stage.start(&Recorder::new(TRACKED));
    stage.drained().await;
    assert!(first.stop().await);
    stage.publish(&events[..20]).await;
    let next: Vec<_> = keys.iter().map(|key| made(*key, 6)).collect();
    stage.publish(&next).await;
    stage.publish(&events).await;
    let second = stage.start(&Recorder::new(TRACKED));
    stage.drained().await;
    for key in keys {
        assert_eq!(stage.applied(key).await, [1, 2, 3, 4, 5, 6]);
    }
    assert!(stage.parked().await.is_empty());
    assert!(second.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_gives_its_partitions_back_and_another_member_goes_on_there() {
    let mut stage = Stage::new().await;
    // Nobody waits as long as this for the session of who left without a word.
    stage.config.session_timeout = BOUND * 4;
    let key = keys(1)[0];
    let first = stage.start(&Recorder::new(TRACKED));
    stage.publish(&[made(key, 1)]).await;
    stage.until_applied(1).await;
    assert!(first.stop().await);
    let second = stage.start(&Recorder::new(TRACKED));
    stage.publish(&[made(key, 2)]).await;
    stage.until_applied(2).await;
    assert_eq!(stage.applied(key).await, [1, 2]);
    assert!(second.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_reads_each_range_whole_and_in_order() {
    let stage = Stage::new().await;
    let keys = keys(12);
    for sequence in 1..=3 {
        let events: Vec<_> = keys.iter().map(|key| made(*key, sequence)).collect();
        stage.publish(&events).await;
    }
    let to = assent_bus::end_offsets(&stage.config, TOPIC).await.unwrap();
    let from = to.keys().map(|partition| (*partition, 0)).collect();
    stage.publish(&[made(keys[0], 4)]).await;
    let mut read: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    let mut reached = BTreeMap::new();
    replay::read(&stage.config, TOPIC, &from, &to, |batch| {
        reached.insert(batch.partition, batch.next_offset);
        for message in batch.messages {
            let Delivery::Event(event) = message else { panic!("an event became garbage") };
            read.entry(event.key).or_default().push(event.sequence);
        }
        std::future::ready(Ok::<_, std::convert::Infallible>(()))
    })
    .await
    .unwrap();
    assert_eq!(reached, to.into_iter().filter(|(_, end)| *end > 0).collect());
    for key in keys {
        assert_eq!(read[&key], [1, 2, 3]);
    }
}
