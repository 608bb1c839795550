//! Following a topic.

use std::time::Duration;

use super::stage::{Stage, eventually, granted, keys};

/// Cuts the followers' transactions that have already written: the fault is in their middle. Chosen
/// first, cut then: conditions of one WHERE have no order, and the server is shared with other tests.
const CUT: &str = "
WITH writing AS MATERIALIZED (
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xid IS NOT NULL
      AND pid <> pg_backend_pid() AND query LIKE '%live.consents%'
)
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM writing";

/// Rows and position are one fact: in every snapshot there are as many rows as events read, also
/// while connections are cut in the middle of transactions.
#[tokio::test(flavor = "multi_thread")]
async fn rows_and_position_commit_together() {
    let stage = Stage::new().await;
    let life = stage.follow();
    let everyone = keys(6_000);
    for (n, chunk) in everyone.chunks(500).enumerate() {
        let events: Vec<_> = chunk.iter().map(|key| granted(*key, 1, "news")).collect();
        if n == 0 {
            // From here on the follower has its partitions.
            stage.publish(&events).await;
            stage.drained().await;
            continue;
        }
        // A transaction moves its position, and then it waits here with its rows.
        let held = stage.lock("live.consents", "SHARE").await;
        stage.publish(&events).await;
        eventually("a transaction is cut", async || stage.number(CUT).await > 0).await;
        held.rollback().await.unwrap();
        for _ in 0..20 {
            let difference = stage
                .number(
                    "SELECT (SELECT count(*) FROM live.consents)
                          - (SELECT coalesce(sum(next_offset), 0)::bigint
                             FROM eventstore.consumer_offsets
                             WHERE consumer = 'projector.consents')",
                )
                .await;
            assert_eq!(difference, 0, "rows without a position, or a position without rows");
        }
    }
    stage.drained().await;
    assert_eq!(stage.number("SELECT count(*) FROM live.consents").await, 6_000);
    assert_eq!(stage.number("SELECT count(*) FROM eventstore.parked").await, 0);
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}

/// A gap stops its key alone; what was given up on record advances it.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_parks_its_key_and_a_duplicate_changes_nothing() {
    let stage = Stage::new().await;
    let life = stage.follow();
    let people = keys(2);
    let first = granted(people[0], 1, "news");
    stage
        .publish(&[
            first.clone(),
            first,
            granted(people[0], 3, "gap"),
            granted(people[1], 1, "news"),
        ])
        .await;
    stage.drained().await;
    assert_eq!(stage.number("SELECT count(*) FROM live.consents WHERE sequence = 1").await, 2);
    assert_eq!(stage.number("SELECT count(*) FROM eventstore.parked").await, 1);
    assert!(life.stop_and_wait(Duration::from_secs(10)).await);
}
