//! Rebuilding beside the live model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assent_bus::parked::{Id, ParkedMessages};
use assent_contracts::erasure::Step;
use assent_projector::{Follower, Projection};

use super::stage::{Stage, eventually, granted, keys};

/// G7: a fold from zero, with the same discards and fences, gives the same bytes, also when it is
/// interrupted and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_equals_the_live_model_and_goes_on_after_an_interruption() {
    let stage = Stage::new().await;
    let life = stage.follow();
    let everyone = keys(9_000);
    let events: Vec<_> = everyone.iter().map(|key| granted(*key, 1, "news")).collect();
    stage.publish(&events).await;
    let again: Vec<_> = everyone[..3_000].iter().map(|key| granted(*key, 2, "marketing")).collect();
    stage.publish(&again).await;

    // One is given up on record, one is still parked, one is erased.
    let (discarded, parked, erased) = (everyone[0], everyone[1], everyone[2]);
    let mut bad = [granted(discarded, 3, "x"), granted(parked, 3, "x")];
    bad.iter_mut().for_each(|event| "1".clone_into(&mut event.data));
    stage.publish(&bad).await;
    stage.publish(&[granted(discarded, 4, "later"), granted(parked, 4, "later")]).await;
    stage.drained().await;
    assert_eq!(stage.number("SELECT count(*) FROM eventstore.parked").await, 4);
    let messages = ParkedMessages::new(stage.pool.clone(), stage.config.clone())
        .with(Arc::new(Follower(Projection::Consents)));
    let list = messages.list(None, None, 10).await.unwrap();
    let first = list.iter().find(|m| m.key == discarded && m.sequence == Some(3)).unwrap();
    messages.discard(&Id::of(first), "test", "test").await.unwrap();
    let behind = list.iter().find(|m| m.key == discarded && m.sequence == Some(4)).unwrap();
    messages.replay(&Id::of(behind)).await.unwrap();
    stage.erase(erased, Step::Fence).await;
    stage.erase(erased, Step::Delete).await;

    let before = stage.rows().await;
    assert!(stage.ask_for_rebuild(false).await);
    assert!(!stage.ask_for_rebuild(false).await, "one at a time");
    let rebuilder = stage.rebuilder();
    // It can't end: its last look takes the positions of the live consumer.
    let held = stage.lock("eventstore.consumer_offsets", "EXCLUSIVE").await;
    let interrupted = tokio::spawn(async move { rebuilder.work().await });
    eventually("a part is read", async || stage.progress().await.events > 0).await;
    interrupted.abort();
    let _ = interrupted.await;
    held.rollback().await.unwrap();
    let progress = stage.progress().await;
    assert_eq!(progress.state, "running", "the fault must have happened: it was interrupted");

    // The lock of the interrupted one goes with its connection.
    eventually("the rebuild ends", async || {
        stage.rebuilder().work().await.unwrap();
        stage.progress().await.state != "running"
    })
    .await;
    let progress = stage.progress().await;
    assert_eq!((&*progress.state, progress.differences), ("done", Some(0)));
    assert_eq!(progress.events, 12_004, "nothing was read twice");
    assert_eq!(
        stage
            .number("SELECT generation::bigint FROM generations WHERE projection = 'consents'")
            .await,
        2
    );
    assert_eq!(stage.rows().await, before);
    // What is parked can still be replayed on the new tables, and they are followed on.
    stage.publish(&[granted(discarded, 5, "after")]).await;
    stage.drained().await;
    assert_eq!(stage.number("SELECT count(*) FROM live.consents WHERE sequence = 5").await, 1);
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}

/// What is appended while tables are swapped is folded in once, on one side or the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_during_the_swap_lands_once() {
    let stage = Arc::new(Stage::new().await);
    let life = stage.follow();
    let everyone = keys(200);
    let stop = Arc::new(AtomicBool::new(false));
    let appending = tokio::spawn({
        let (stage, everyone, stop) = (Arc::clone(&stage), everyone.clone(), Arc::clone(&stop));
        async move {
            let mut sequence = 0;
            while !stop.load(Ordering::Acquire) {
                sequence += 1;
                let purpose = format!("p{}", sequence % 5);
                let events: Vec<_> =
                    everyone.iter().map(|key| granted(*key, sequence, &purpose)).collect();
                stage.publish(&events).await;
                // Without a pause the log grows faster than it is read.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sequence
        }
    });
    eventually("the first rows are there", async || stage.behind_it().await > 0).await;
    let mut appended_during = 0;
    for _ in 0..3 {
        let before = stage.behind_it().await;
        let progress = stage.rebuild().await;
        assert_eq!((&*progress.state, progress.differences), ("done", Some(0)));
        eventually("following goes on", async || stage.behind_it().await > before).await;
        appended_during += stage.behind_it().await - before;
    }
    assert!(appended_during > 0);
    stop.store(true, Ordering::Release);
    let last: i64 = appending.await.unwrap();
    stage.drained().await;
    assert_eq!(stage.number("SELECT count(*) FROM eventstore.parked").await, 0);
    let up_to_date = format!("SELECT count(*) FROM live.consents WHERE sequence = {last}");
    assert_eq!(stage.number(&up_to_date).await, 200);
    assert_eq!(stage.rebuild().await.differences, Some(0));
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}

/// A live model that is not the fold of its log is found out, and stays until someone decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_differs_is_not_swapped_in_by_itself() {
    let stage = Stage::new().await;
    let life = stage.follow();
    let everyone = keys(10);
    let events: Vec<_> = everyone.iter().map(|key| granted(*key, 1, "news")).collect();
    stage.publish(&events).await;
    stage.drained().await;
    let truth = stage.rows().await;
    sqlx::query("UPDATE live.consents SET consents = '[]' WHERE subject_id = $1")
        .bind(everyone[3])
        .execute(&stage.pool)
        .await
        .unwrap();
    let tampered = stage.rows().await;
    let progress = stage.rebuild().await;
    assert_eq!((&*progress.state, progress.differences), ("different", Some(2)));
    assert_eq!(stage.rows().await, tampered);

    assert!(stage.ask_for_rebuild(true).await);
    stage.rebuilder().work().await.unwrap();
    assert_eq!(stage.progress().await.state, "done");
    assert_eq!(stage.rows().await, truth);
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}
