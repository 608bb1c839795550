//! Evidence ends when a dispute is no longer possible, and not of who may need it herself.

use std::time::Duration;

use assent_consent::claims::round;
use assent_consent::proofs::forget;
use serde_json::Value;

use super::world::{ticking, world_at};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_and_claims_end_by_age_told_first_and_never_of_who_is_restricted() {
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    let (subject, restricted) = (world.consenting(1).await, world.consenting(2).await);
    for (person, address) in [(subject, 1), (restricted, 2)] {
        world.permits(vec![world.ask(person, &[address])]).await;
    }
    let (decided, waiting) = (world.ids.v7(), world.ids.v7());
    for batch in [decided, waiting] {
        world.bring(batch, &[subject, restricted]).await.unwrap();
        world.submit(batch).await.unwrap();
    }
    world.approve(decided).await.unwrap();
    clock.advance(DAY * 1_096);
    sqlx::query("INSERT INTO restrictions (subject_id, event_id, since) VALUES ($1, $1, now())")
        .bind(restricted)
        .execute(&world.pool)
        .await
        .unwrap();
    let look = async |days: u32| {
        let path = format!("/v1/retention?evidence_days={days}");
        let seen: Value = world.operator.get(&path).await.unwrap();
        let count = |name: &str| seen[name].as_i64().unwrap();
        (count("verdicts_due"), count("claims_due"))
    };
    assert_eq!(look(1_095).await, (1, 1), "what is being carried out is under way");
    assert_eq!(round(&world.store, world.app.batcher()).await, Ok(2));
    assert_eq!(look(1_095).await, (1, 2), "looking changed nothing");
    assert_eq!(look(1_097).await, (0, 0));
    // A verdict of today.
    world.permits(vec![world.ask(subject, &[1])]).await;
    let forgets = async |days| forget(&world.pool, days, world.clock.now()).await.unwrap();
    assert_eq!(forgets(1_097).await, 0, "not yet");
    assert_eq!((forgets(1_095).await, forgets(1_095).await), (3, 0), "each once");
    let left = async || -> (i64, i64) {
        const LEFT: &str =
            "SELECT (SELECT count(*) FROM permit_batches), (SELECT count(*) FROM claims)";
        sqlx::query_as(LEFT).fetch_one(&world.pool).await.unwrap()
    };
    assert_eq!(left().await, (2, 2), "hers, and what is younger");
    sqlx::query("DELETE FROM restrictions").execute(&world.pool).await.unwrap();
    assert_eq!(forgets(1_095).await, 3);
    assert_eq!(left().await, (1, 0));
    // Her word is her ledger's: it goes with her.
    assert!(!world.store.load(subject, 0, 10).await.unwrap().is_empty());
}
