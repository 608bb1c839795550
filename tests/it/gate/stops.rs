//! Stops at the gate: unknown addresses, repeats, the one confirmation, and who may lift what.

use assent_contracts::api::consent::{Decision, PermitAsk, Stop, StopKind, StopsRequest};
use assent_contracts::consent::Method;
use assent_runtime::{Clock, ManualClock, SystemClock};

use super::world::{LEASE, code, tick, tokens, world, world_at};

/// Trap 8: a number that said stop before anybody knew it stays out when a file brings it in.
#[tokio::test]
async fn trap_8_a_stop_from_an_unknown_number_holds_for_whoever_is_imported_with_it() {
    let world = world().await;
    let response = world.stop(&[1, 2], StopKind::Stopped).await;
    assert_eq!((response.recorded, response.subjects), (1, vec![vec![]]));
    let subject = world.person(&[2]).await;
    assert_eq!(world.reasons(subject, &[2]).await, ["no_consent", "stopped"]);
    assert_eq!(code(&world.grant(subject).await.unwrap_err()), "consent_not_allowed");
}

#[tokio::test]
async fn a_stop_withdraws_everything_and_a_repeat_waits_and_changes_nothing() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let stop = Stop {
        stop_id: world.ids.v7(),
        addresses: tokens(&[1]),
        kind: StopKind::Stopped,
        method: Some(Method::PreferencePage),
        heard_at: world.clock.now(),
    };
    let request = StopsRequest { stops: vec![stop] };
    for recorded in [1, 0] {
        let asked = SystemClock.boottime();
        let response = world.stops(&request).await;
        assert!(SystemClock.boottime() - asked >= LEASE);
        assert_eq!((response.recorded, response.subjects), (recorded, vec![vec![subject]]));
        assert_eq!(world.reasons(subject, &[1]).await, ["consent_withdrawn", "stopped"]);
    }
    let events = world.store.load(subject, 0, 10).await.unwrap();
    assert_eq!(events.len(), 2);
    let withdrawn: serde_json::Value = serde_json::from_str(&events[1].data).unwrap();
    assert_eq!(withdrawn["method"], "preference_page", "the event names the road it came by");

    // Lifted by her own act, the old stop stays lifted when it is told once more.
    world.opt_in(subject, &[1]).await.unwrap();
    world.stops(&request).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_confirmation_is_permitted_once_however_many_ask() {
    let world = std::sync::Arc::new(world().await);
    let subject = world.consenting(1).await;
    assert_eq!(world.confirm(subject, &[1]).await.reasons, ["stop_missing"]);
    world.stop(&[1], StopKind::Stopped).await;
    let asks: Vec<_> = (0..8)
        .map(|_| {
            let world = std::sync::Arc::clone(&world);
            tokio::spawn(async move { world.confirm(subject, &[1]).await })
        })
        .collect();
    let mut allowed = 0;
    for ask in asks {
        let verdict = ask.await.unwrap();
        if verdict.verdict == Decision::Allow {
            allowed += 1;
            assert_eq!(verdict.reasons, ["stop_confirmation"]);
        } else {
            assert_eq!(verdict.reasons, ["confirmation_spent"]);
        }
    }
    assert_eq!(allowed, 1);
    // She says it again: she was answered already.
    world.stop(&[1], StopKind::Stopped).await;
    assert_eq!(world.confirm(subject, &[1]).await.reasons, ["confirmation_spent"]);
}

/// WhatsApp may refuse a confirmation for now, or its lease run out: it is tried again, and asks again.
#[tokio::test]
async fn the_message_that_confirms_may_ask_again_and_no_other() {
    let world = world().await;
    let subject = world.consenting(1).await;
    world.stop(&[1], StopKind::Stopped).await;
    let of = |message_id, address| PermitAsk {
        message_id,
        purpose: "stop_confirmation".to_owned(),
        ..world.ask(subject, &[address])
    };
    let message = world.ids.v7();
    for _ in 0..2 {
        let permit = world.permits(vec![of(message, 1)]).await.remove(0);
        assert_eq!(permit.verdict.reasons, ["stop_confirmation"]);
    }
    assert_eq!(world.confirm(subject, &[1]).await.reasons, ["confirmation_spent"]);
    // In one request too: the first of two messages.
    world.stop(&[2], StopKind::Stopped).await;
    let both = world.permits(vec![of(world.ids.v7(), 2), of(world.ids.v7(), 2)]).await;
    assert_eq!(both[0].verdict.reasons, ["stop_confirmation"]);
    assert_eq!(both[1].verdict.reasons, ["confirmation_spent"]);
}

#[tokio::test]
async fn a_confirmation_waits_until_its_stop_has_settled() {
    // Nothing settles while it stands still.
    let clock = std::sync::Arc::new(ManualClock::at("2026-11-26T12:00:00Z".parse().unwrap()));
    let world = std::sync::Arc::new(world_at(clock.clone()).await);
    let subject = world.consenting(1).await;
    let stopping = tokio::spawn({
        let world = std::sync::Arc::clone(&world);
        async move { world.stop(&[1], StopKind::Stopped).await }
    });
    let early = loop {
        let verdict = world.confirm(subject, &[1]).await;
        if verdict.reasons != ["stop_missing"] {
            break verdict;
        }
    };
    assert!(!stopping.is_finished());
    assert_eq!((early.verdict, early.reasons), (Decision::Deny, vec!["stop_unsettled".to_owned()]));
    tick(&clock);
    stopping.await.unwrap();
    assert_eq!(world.confirm(subject, &[1]).await.verdict, Decision::Allow);
}

#[tokio::test]
async fn an_operator_lifts_a_stop_with_evidence_and_never_a_suppression() {
    let world = world().await;
    let stopped = world.consenting(1).await;
    world.stop(&[1], StopKind::Stopped).await;
    assert_eq!(code(&world.grant(stopped).await.unwrap_err()), "consent_not_allowed");
    world.prove(stopped).await.unwrap();
    assert_eq!(world.reasons(stopped, &[1]).await, ["consent_given"]);

    let suppressed = world.person(&[2]).await;
    world.stop(&[2], StopKind::Suppressed).await;
    assert_eq!(code(&world.prove(suppressed).await.unwrap_err()), "consent_not_allowed");
    world.opt_in(suppressed, &[2]).await.unwrap();
    assert_eq!(world.reasons(suppressed, &[2]).await, ["consent_given"]);
}

#[tokio::test]
async fn an_operator_cannot_claim_to_be_the_person() {
    let world = world().await;
    let subject = world.person(&[1]).await;
    let request = assent_contracts::api::consent::GrantRequest {
        actor: assent_contracts::consent::Actor::Subject,
        addresses: tokens(&[1]),
        ..world.grant_request(subject)
    };
    let claimed: Result<serde_json::Value, _> =
        world.operator.post("/v1/consents/grant", &request, None).await;
    assert_eq!(code(&claimed.unwrap_err()), "forbidden");
}
