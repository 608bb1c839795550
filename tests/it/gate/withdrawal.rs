//! G1 at the gate: withdrawals against permits that are out or being asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_contracts::api::consent::{GrantRequest, PermitAsk};
use assent_runtime::{Clock, ManualClock, SystemClock};
use assent_tests::cluster::until;
use jiff::Timestamp;

use super::world::{LEASE, allowed, code, tick, transactions, world, world_at};

/// Trap 1, with two dispatchers that never pause. Exactly: let `ack` be the moment the withdrawer
/// reads the answer. Then no permit asked for after `ack` allows, and no permit that allows has a
/// lease (counted from before its ask) that lives at `ack`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trap_1_no_lease_outlives_an_acknowledged_withdrawal() {
    // Time goes on with the asks, so that there are many in each lease however slow the machine is.
    let clock = Arc::new(ManualClock::at("2026-11-26T12:00:00Z".parse().unwrap()));
    let world = Arc::new(world_at(clock.clone()).await);
    let mut crowd = Vec::new();
    for address in 0..20 {
        crowd.push((world.consenting(address).await, address));
    }
    let (target, address) = crowd[7];
    let done = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requester = |world: Arc<super::world::World>| {
        let (done, crowd) = (Arc::clone(&done), crowd.clone());
        let (clock, seen) = (Arc::clone(&clock), Arc::clone(&seen));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                clock.advance(Duration::from_millis(5));
                let asks: Vec<PermitAsk> = crowd
                    .iter()
                    .map(|(subject, address)| world.ask(*subject, &[*address]))
                    .collect();
                let lease_start = clock.boottime();
                let permits = world.permits(asks).await;
                seen.lock().unwrap().push((lease_start, allowed(&permits[7])));
                assert!(allowed(&permits[6]), "who did not withdraw may still be written to");
            }
        })
    };
    let requesters = [requester(Arc::clone(&world)), requester(Arc::clone(&world))];
    let any = |holds: &dyn Fn(Duration, bool) -> bool| {
        seen.lock().unwrap().iter().any(|(start, allowed)| holds(*start, *allowed))
    };
    until("it is allowed", async || any(&|_, allowed| allowed)).await;

    let asked = clock.boottime();
    world.withdraw(target, None).await.unwrap();
    let acknowledged = clock.boottime();
    assert!(acknowledged - asked >= LEASE, "the answer waits one lease");

    until("it is asked again", async || any(&|start, _| start > acknowledged)).await;
    done.store(true, Ordering::Relaxed);
    for requester in requesters {
        requester.await.unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    let leases_at_ack =
        seen.iter().filter(|(start, allowed)| *allowed && *start + LEASE > acknowledged).count();
    assert_eq!(leases_at_ack, 0, "a lease outlives the acknowledgement");
    assert!(seen.iter().any(|(start, allowed)| *allowed && *start < asked), "it raced: before");
    assert!(
        seen.iter().any(|(start, _)| *start > asked && *start < acknowledged),
        "it raced: meanwhile"
    );
    assert_eq!(world.reasons(target, &[address]).await, ["consent_withdrawn"]);
}

/// The first answer is lost (client, process or network died after the commit). The repeat may be
/// the first that anyone hears, while a permit from just before the commit is still out.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_withdrawal_waits_again_and_gives_the_first_answer() {
    // No answer comes while it stands still.
    let clock = Arc::new(ManualClock::at("2026-11-26T12:00:00Z".parse().unwrap()));
    let world = Arc::new(world_at(clock.clone()).await);
    let subject = world.consenting(1).await;
    assert!(allowed(&world.permits(vec![world.ask(subject, &[1])]).await[0]), "a permit is out");
    let lost = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.withdraw(subject, Some("w-1")).await }
    });
    while world.reasons(subject, &[1]).await != ["consent_withdrawn"] {
        assert!(!lost.is_finished(), "the answer came before the commit was visible");
    }
    lost.abort();
    tick(&clock);

    let asked = SystemClock.boottime();
    let first = world.withdraw(subject, Some("w-1")).await.unwrap();
    assert!(SystemClock.boottime() - asked >= LEASE, "the repeat waits");
    assert_eq!((first.events.len(), first.version), (1, 2));

    let asked = SystemClock.boottime();
    let again = world.withdraw(subject, Some("w-1")).await.unwrap();
    assert!(SystemClock.boottime() - asked >= LEASE, "every repeat waits");
    assert_eq!(again, first);

    let other = assent_contracts::api::consent::WithdrawRequest {
        channel: "*".to_owned(),
        ..world.withdrawal(subject)
    };
    let reused: Result<serde_json::Value, _> =
        world.client.post("/v1/consents/withdraw", &other, Some("w-1")).await;
    assert_eq!(code(&reused.unwrap_err()), "idempotency_key_reused");
}

#[tokio::test]
async fn withdrawing_what_is_withdrawn_is_on_record_too_and_waits() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let first = world.withdraw(subject, None).await.unwrap();
    let asked = SystemClock.boottime();
    let second = world.withdraw(subject, None).await.unwrap();
    assert!(SystemClock.boottime() - asked >= LEASE);
    assert_eq!((second.events.len(), second.version), (1, first.version + 1));
}

/// Trap 6: what was sent before the withdrawal and arrives once more after it grants nothing.
#[tokio::test]
async fn trap_6_a_grant_that_is_repeated_after_a_withdrawal_grants_nothing() {
    let world = world().await;
    let subject = world.person(&[1]).await;
    let request = world.grant_request(subject);
    let first = world.post_grant(&request, Some("g-1")).await.unwrap();
    world.withdraw(subject, None).await.unwrap();
    assert_eq!(world.post_grant(&request, Some("g-1")).await.unwrap(), first);
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_withdrawn"]);
    assert_eq!(code(&world.grant(subject).await.unwrap_err()), "consent_not_allowed");
    world.prove(subject).await.unwrap();
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
}

/// Trap 5: expired is no consent, from the very moment, whether or not an event says so yet.
#[tokio::test(flavor = "multi_thread")]
async fn trap_5_an_expired_consent_denies_before_and_after_it_is_written_down() {
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let clock = Arc::new(ManualClock::at(start));
    let world = world_at(clock.clone()).await;
    world.a_day_long("news").await;
    let subject = world.person(&[1]).await;
    let request = GrantRequest { purpose: "news".to_owned(), ..world.grant_request(subject) };
    world.post_grant(&request, None).await.unwrap();
    let ask = || PermitAsk { purpose: "news".to_owned(), ..world.ask(subject, &[1]) };
    assert!(allowed(&world.permits(vec![ask()]).await[0]));

    clock.advance(Duration::from_secs(24 * 60 * 60));
    let denied = world.permits(vec![ask()]).await.remove(0);
    assert_eq!(denied.verdict.reasons, ["consent_expired"]);
    let expired = assent_consent::expiry::round(&world.pool, world.app.batcher(), &*world.clock);
    assert_eq!(expired.await, Ok(1));
    let denied = world.permits(vec![ask()]).await.remove(0);
    assert_eq!(denied.verdict.reasons, ["consent_expired"]);
    let events = world.store.load(subject, 0, 10).await.unwrap();
    assert_eq!(events.last().unwrap().event_type, "assent.consent.expired.v1");
}

/// Trap 4: the page and the gate give one answer, because it is one.
#[tokio::test]
async fn trap_4_the_page_says_what_the_gate_says() {
    let world = world().await;
    let subject = world.person(&[1]).await;
    for step in 0..3 {
        match step {
            0 => {}
            1 => drop(world.grant(subject).await.unwrap()),
            _ => drop(world.withdraw(subject, None).await.unwrap()),
        }
        let permit = world.permits(vec![world.ask(subject, &[1])]).await.remove(0).verdict;
        let page = world.verdict(subject).await;
        assert_eq!(
            (page.verdict, &page.reasons, &page.evidence, &page.notice_hash),
            (permit.verdict, &permit.reasons, &permit.evidence, &permit.notice_hash)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_that_arrive_together_share_a_commit_and_not_a_fate() {
    let world = Arc::new(world().await);
    let mut commands = Vec::new();
    for n in 0..120_u16 {
        let world = Arc::clone(&world);
        commands.push(tokio::spawn(async move {
            let subject = world.ids.v4();
            let purpose = if n % 10 == 0 { "unknown_purpose" } else { "marketing" };
            let request =
                GrantRequest { purpose: purpose.to_owned(), ..world.grant_request(subject) };
            (n, world.post_grant(&request, Some(&format!("k{n}"))).await)
        }));
    }
    for command in commands {
        let (n, outcome) = command.await.unwrap();
        match outcome {
            Ok(answer) => assert_eq!((n % 10 != 0, answer.version), (true, 1)),
            Err(error) => assert_eq!((n % 10, code(&error)), (0, "purpose_unknown".to_owned())),
        }
    }
    let transactions = transactions(&world.pool).await;
    assert!(transactions < 108, "{transactions} transactions for 108 grants");
}
