//! What stands against addresses of nobody ends by its last reason, and nothing of somebody who is here.

use std::sync::Arc;
use std::time::Duration;

use assent_bus::Subscriber as _;
use assent_consent::links::{Links, retell};
use assent_consent::suppression::forget;
use assent_contracts::api::consent::{SameAddress, Stop, StopKind, StopsRequest};
use assent_tests::cluster::until;
use serde_json::Value;
use uuid::Uuid;

use super::world::{World, ticking, tokens, world_at};

const DAY: Duration = Duration::from_secs(86_400);

impl World {
    async fn forgets(&self, days: u32) -> u64 {
        forget(&self.pool, days, self.clock.now()).await.unwrap()
    }

    /// A list says it, always under the same id; gives how many stops were new.
    async fn lists(&self, stop_id: Uuid, addresses: &[u16]) -> u64 {
        let stop = Stop {
            stop_id,
            addresses: tokens(addresses),
            kind: StopKind::Suppressed,
            method: None,
            heard_at: self.clock.now(),
        };
        self.stops(&StopsRequest { stops: vec![stop] }).await.recorded
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_against_a_number_ends_with_its_last_reason_and_never_of_somebody_here() {
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    let present = world.person(&[1]).await;
    world.stop(&[1], StopKind::Stopped).await;
    world.stop(&[2], StopKind::Stopped).await;
    world.stop(&[3], StopKind::Suppressed).await;
    world.stop(&[4], StopKind::Erased).await;
    clock.advance(DAY * 1_000);
    // It stands already; said again it is kept from now on.
    world.stop(&[3], StopKind::Suppressed).await;
    clock.advance(DAY * 96);
    let look = async |days: u32| {
        let path = format!("/v1/retention?suppression_days={days}");
        let seen: Value = world.operator.get(&path).await.unwrap();
        let count = |name: &str| seen[name].as_i64().unwrap();
        (count("suppressions_kept"), count("suppressions_due"))
    };
    assert_eq!(look(1_095).await, (3, 2), "hers isn't counted");
    assert_eq!(look(1_095).await, (3, 2), "looking changes nothing");
    assert_eq!((look(1_097).await, world.forgets(1_097).await), ((3, 0), 0), "not yet");
    assert_eq!((world.forgets(1_095).await, world.forgets(1_095).await), (2, 0), "each once");
    assert_eq!(look(1_095).await, (1, 0));

    assert_eq!(world.reasons(present, &[1]).await, ["consent_withdrawn", "stopped"]);
    let [two, three, four] =
        [world.person(&[2]).await, world.person(&[3]).await, world.person(&[4]).await];
    assert_eq!(world.reasons(three, &[3]).await, ["no_consent", "suppressed"]);
    // Whoever comes in with a number that was forgotten has agreed to nothing.
    assert_eq!(world.reasons(two, &[2]).await, ["no_consent"]);
    assert_eq!(world.reasons(four, &[4]).await, ["no_consent"]);
    clock.advance(DAY * 10_000);
    assert_eq!(world.forgets(1_095).await, 0, "however old it is");
    assert_eq!(world.reasons(present, &[1]).await, ["consent_withdrawn", "stopped"]);
    assert_eq!(world.reasons(three, &[3]).await, ["no_consent", "suppressed"]);
}

/// An opt-out list has no ids of its own: what it says again after its end must count.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_said_again_after_its_end_is_new_and_after_it_was_lifted_it_is_not() {
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    let stop_id = world.ids.v4();
    let say = async || world.lists(stop_id, &[1, 2]).await;
    assert_eq!((say().await, say().await), (1, 0));
    clock.advance(DAY * 1_096);
    assert_eq!(world.forgets(1_095).await, 2, "one address, both spellings");
    assert_eq!((say().await, say().await), (1, 0));
    let subject = world.person(&[1, 2]).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["no_consent", "suppressed"]);
    world.opt_in(subject, &[1, 2]).await.unwrap();
    assert_eq!(say().await, 0);
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
}

/// A list that is handed in each year counts each year, though its entries have the ids of before.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_list_says_again_is_kept_since_then_and_an_erasure_counts_once() {
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    let stop_id = world.ids.v4();
    assert_eq!(world.lists(stop_id, &[1]).await, 1);
    let erased = Stop {
        stop_id: world.ids.v4(),
        addresses: tokens(&[2]),
        kind: StopKind::Erased,
        method: None,
        heard_at: world.clock.now(),
    };
    let mut request = StopsRequest { stops: vec![erased] };
    assert_eq!(world.stops(&request).await.recorded, 1);
    clock.advance(DAY * 1_000);
    request.stops[0].heard_at = world.clock.now();
    assert_eq!(world.stops(&request).await.recorded, 0);
    assert_eq!(world.lists(stop_id, &[1]).await, 0);
    clock.advance(DAY * 96);
    assert_eq!(world.forgets(1_095).await, 1, "the erasure's");
    clock.advance(DAY * 1_000);
    assert_eq!(world.forgets(1_095).await, 1);
}

/// The index key changes: what moves to new tokens is no older than it was, and what was lifted isn't said anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_moves_to_new_tokens_keeps_its_age_and_that_it_was_lifted() {
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    let moves = async |known: u16, more: u16| {
        let same = SameAddress { known: tokens(&[known]), more: tokens(&[more]) };
        retell(&world.pool, &[same], true).await.unwrap()
    };
    let stop_id = world.ids.v4();
    let subject = world.person(&[1]).await;
    assert_eq!(world.lists(stop_id, &[1]).await, 1);
    world.opt_in(subject, &[1]).await.unwrap();
    assert_eq!(moves(1, 11).await.barred, 0, "it was lifted");
    assert_eq!(world.lists(stop_id, &[11]).await, 0);
    assert_eq!(world.reasons(subject, &[11]).await, ["consent_given"]);

    world.stop(&[2], StopKind::Stopped).await;
    clock.advance(DAY * 1_000);
    world.stop(&[2], StopKind::Stopped).await;
    assert_eq!(moves(2, 12).await.barred, 1);
    clock.advance(DAY * 96);
    assert_eq!(world.forgets(1_095).await, 0, "it was said again");
    clock.advance(DAY * 1_000);
    assert_eq!(world.forgets(1_095).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_against_a_number_that_is_being_linked_stays() {
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    world.stop(&[1], StopKind::Stopped).await;
    clock.advance(DAY * 1_096);
    let subject = world.ids.v4();
    let mut transaction = world.pool.begin().await.unwrap();
    let links = Links { clock: Arc::clone(&world.clock) };
    let registered = world.registered(subject, &[1]);
    links.apply(&mut transaction, &[registered]).await.expect("the vault's event applies");
    let (pool, now) = (world.pool.clone(), world.clock.now());
    let forgetting = tokio::spawn(async move { forget(&pool, 1_095, now).await });
    until("it waits for the link", async || {
        const WAITING: &str = "
            SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database =
                (SELECT oid FROM pg_database WHERE datname = current_database())";
        let waiting: i64 = sqlx::query_scalar(WAITING).fetch_one(&world.pool).await.unwrap();
        waiting == 1
    })
    .await;
    transaction.commit().await.unwrap();
    assert_eq!(forgetting.await.unwrap().unwrap(), 0);
    assert_eq!(world.reasons(subject, &[1]).await, ["no_consent", "stopped"]);
}
