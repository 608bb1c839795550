//! A position that the log can't have halts the process instead of being guessed away.

use assent_bus::Sequencing;
use assent_bus::topics::extents;
use sqlx::AssertSqlSafe;

use super::recorder::{BOUND, Recorder, Stage, TOPIC, keys, made};

/// Starts a consumer over changed positions; it must halt and leave them alone.
async fn halts_after(change: &'static str) {
    let stage = Stage::new().await;
    let key = keys(1)[0];
    stage.publish(&[made(key, 1)]).await;
    let member = stage.start(&Recorder::new(Sequencing::Tracked));
    stage.until_applied(1).await;
    assert!(member.stop().await);
    sqlx::query(AssertSqlSafe(format!("UPDATE eventstore.consumer_offsets SET {change}")))
        .execute(&stage.pool)
        .await
        .unwrap();
    let before = stage.behind_it().await;
    stage.publish(&[made(key, 2)]).await;
    let member = stage.start(&Recorder::new(Sequencing::Tracked));
    tokio::time::timeout(BOUND, member.life.stopping().cancelled())
        .await
        .expect("a halted consumer stops the process");
    assert!(!member.stop().await, "and the process says that it failed");
    assert_eq!(stage.behind_it().await, before, "the position was guessed");
    assert_eq!(stage.applied(key).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_beyond_the_end_of_the_log_halts() {
    halts_after("next_offset = next_offset + 100").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_halts() {
    halts_after("topic_id = 'AAAAAAAAAAAAAAAAAAAAAA'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_an_id_of_its_own() {
    let [one, other] = [Stage::new().await, Stage::new().await];
    let one = extents(&one.config, &[TOPIC]).await.unwrap();
    let other = extents(&other.config, &[TOPIC]).await.unwrap();
    assert!(one.iter().all(|extent| extent.topic_id == one[0].topic_id));
    assert_ne!(one[0].topic_id, other[0].topic_id);
}
