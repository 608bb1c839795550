//! Trap 15: a legal hold keeps data from destruction, and never a stop of sending.

use std::time::Duration;

use assent_contracts::erasure::{STEP_STARTED, Step};
use assent_contracts::rights::{HOLD_PLACED, HOLD_REFUSED, HOLD_RELEASED};
use jiff::{SignedDuration, ToSpan as _};
use reqwest::StatusCode;
use serde_json::{Value, json};

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::until;

use super::world::{World, evidence, pace};

impl World {
    async fn place(&self, more: Value) -> (StatusCode, Value) {
        let review_on = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date() + 180.days();
        let mut body =
            json!({"subject_id": self.subject, "reason": "litigation", "review_on": review_on});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("counsel", "/v1/holds", &body, None).await
    }

    async fn release(&self, hold: &Value) -> (StatusCode, Value) {
        let path = format!("/v1/holds/{}/release", hold["hold_id"].as_str().unwrap());
        self.post("counsel", &path, &json!({"reason": "settled"}), None).await
    }
}

#[tokio::test]
async fn trap_15_a_hold_keeps_an_erasure_waiting_and_marketing_stops_all_the_same() {
    let world = World::new("vault", pace()).await;
    let (status, hold) = world.place(json!({"purpose": "orders"})).await;
    assert_eq!((status, &hold["placed_by"]), (StatusCode::CREATED, &json!("counsel")));
    let (_, request) = world.request("key").await;
    assert_eq!(world.stops().len(), 1, "the stop asks no hold");
    let view = world.until(request, "on_hold").await;
    assert_eq!(view["held"], true);
    let (_, listed) = world.get("/v1/requests").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["items"][0]["status"], "on_hold", "the list says what the request says");
    assert!(!world.is_looked_at(request).await, "no replica, of before too, finds it due");
    let far = SystemClock.now() + SignedDuration::from_hours(24 * 365);
    let counted = world.due_at(far).await.requests["erasure"];
    assert_eq!((counted.open, counted.held, counted.overdue), (1, 1, 0), "it waits for the hold");
    // Another person's erasure, asked for later, has passed by: the driver has been at work.
    let other = json!({"subject_id": uuid::Uuid::from_u128(9), "actor": "operator",
        "identity": {"method": "operator", "reason": "test"}});
    world.post("operator", "/v1/requests", &other, None).await;
    until("the other one is fenced", async || world.events(STEP_STARTED).await == 1).await;
    let view = world.view(request).await;
    assert_eq!(
        (&view["status"], &view["participants"][0]["missing"]),
        (&json!("on_hold"), &json!([]))
    );

    let (status, released) = world.release(&hold).await;
    assert_eq!((status, released["released_at"].is_string()), (StatusCode::OK, true));
    assert_eq!(world.release(&hold).await.0, StatusCode::OK, "a repeat changes nothing");
    world.until(request, "fencing").await;
    assert_eq!(world.events(HOLD_PLACED).await, 1);
    assert_eq!(world.events(HOLD_RELEASED).await, 1);
    world.stop().await;
}

#[tokio::test]
async fn trap_15_nobody_outside_is_told_to_forget_somebody_on_hold() {
    let world = World::new("vault", pace()).await;
    world.post("operator", "/v1/participants", &json!({"name": "crm"}), None).await;
    let (_, hold) = world.place(json!({})).await;
    let (_, request) = world.request("key").await;
    world.until(request, "on_hold").await;
    let her = world.subject.to_string();
    // A newcomer, or who restored a backup, forgets whoever is listed.
    let (status, outside) = world.get_as("crm", "/v1/erased").await;
    assert_eq!(status, StatusCode::OK);
    assert!(!outside.contains(&her), "{outside}");
    let (_, own) = world.get_as("vault", "/v1/erased").await;
    assert!(own.contains(&her), "{own}");
    world.release(&hold).await;
    world.hears(Step::Fence, "crm").await;
    let (_, outside) = world.get_as("crm", "/v1/erased").await;
    assert!(outside.contains(&her), "it has begun: {outside}");
    world.stop().await;
}

#[tokio::test]
async fn an_erasure_on_hold_is_refused_and_never_begins() {
    let world = World::new("vault", pace()).await;
    let (_, hold) = world.place(json!({})).await;
    let (_, request) = world.request("key").await;
    world.until(request, "on_hold").await;
    let refusal = format!("/v1/requests/{request}/refusal");
    let ground = json!({"ground": "legal_claims"});
    let (status, view) = world.post("operator", &refusal, &ground, None).await;
    assert_eq!((status, &view["status"]), (StatusCode::OK, &json!("refused")));
    world.release(&hold).await;
    // Another erasure of hers goes its way: what was refused is not in it.
    let (_, again) = world.request("again").await;
    assert_ne!(again, request);
    let fence = world.hears(Step::Fence, "vault").await;
    assert_eq!(fence.request_id, again);
    assert_eq!(world.view(request).await["status"], "refused");
    assert_eq!(world.events(STEP_STARTED).await, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_hold_whose_day_of_review_has_passed_is_counted_until_it_is_released() {
    let world = World::new("vault", pace()).await;
    let (_, hold) = world.place(json!({})).await;
    assert_eq!(world.due().await.holds_unreviewed, 0);
    world.reviews_are_late().await;
    assert_eq!(world.due().await.holds_unreviewed, 1);
    world.release(&hold).await;
    assert_eq!(world.due().await.holds_unreviewed, 0);
    world.stop().await;
}

#[tokio::test]
async fn trap_15_a_hold_past_the_fence_is_refused_and_on_record() {
    let world = World::new("vault", pace()).await;
    let (_, request) = world.request("key").await;
    world.hears(Step::Fence, "vault").await;
    let (status, problem) = world.place(json!({})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("hold_too_late")));
    assert_eq!(world.events(HOLD_REFUSED).await, 1);
    assert_eq!(world.events(HOLD_PLACED).await, 0);
    for step in [Step::Fence, Step::Delete, Step::Sweep] {
        let command = world.hears(step, "vault").await;
        world.ack(&command, "vault", evidence(step)).await;
    }
    world.until(request, "completed").await;
    world.stop().await;
}

#[tokio::test]
async fn a_hold_that_ends_by_itself_lets_the_erasure_go_on_after_a_restart_too() {
    let mut world = World::new("vault", pace()).await;
    let ends_at = SystemClock.now() + SignedDuration::from_secs(6);
    let (status, _) = world.place(json!({"ends_at": ends_at})).await;
    assert_eq!(status, StatusCode::CREATED);
    let (_, request) = world.request("key").await;
    world.kill().await;
    world.start().await;
    let fence = world.hears(Step::Fence, "vault").await;
    assert!(fence.at >= ends_at, "not before its end");
    world.until(request, "fencing").await;
    world.stop().await;
}

#[tokio::test]
async fn holds_need_a_scope_of_their_own_and_are_listed_by_their_day_of_review() {
    let world = World::new("vault", pace()).await;
    let today = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let [soon_on, late_on, later_on] = [60, 90, 120].map(|days: i64| today + days.days());
    let body = json!({"subject_id": world.subject, "reason": "litigation", "review_on": late_on});
    let (status, _) = world.post("operator", "/v1/holds", &body, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (_, late) = world.place(json!({"review_on": late_on})).await;
    let (_, soon) = world.place(json!({"review_on": soon_on, "reason": "audit"})).await;
    for never in ["2020-01-01", "9999-12-31"] {
        let (status, _) = world.place(json!({"review_on": never})).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{never}");
    }
    let ids = async || {
        let (_, text) = world.get("/v1/holds").await;
        let listed: Value = serde_json::from_str(&text).unwrap();
        listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["hold_id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids().await, [soon["hold_id"].clone(), late["hold_id"].clone()]);
    let path = format!("/v1/holds/{}/review", soon["hold_id"].as_str().unwrap());
    let (status, _) = world.post("counsel", &path, &json!({"review_on": later_on}), None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(ids().await, [late["hold_id"].clone(), soon["hold_id"].clone()]);
    world.release(&soon).await;
    let (status, problem) =
        world.post("counsel", &path, &json!({"review_on": later_on}), None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("hold_over")));
    assert_eq!(ids().await, [late["hold_id"].clone()]);
    let unknown = "/v1/holds/00000000-0000-0000-0000-000000000001/release";
    let (status, problem) = world.post("counsel", unknown, &json!({"reason": "x"}), None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("hold_unknown")));
    world.stop().await;
}

#[tokio::test]
async fn two_replicas_never_begin_an_erasure_that_is_on_hold() {
    let mut world =
        World::new("vault", assent_erasure::Pace { poll: Duration::from_millis(10), ..pace() })
            .await;
    world.start().await;
    // Hold and request race; whichever is first, the outcome is one of two, and says which.
    let (placed, (_, request)) = tokio::join!(world.place(json!({})), world.request("key"));
    match placed.0 {
        StatusCode::CREATED => {
            world.until(request, "on_hold").await;
            assert_eq!(world.events(STEP_STARTED).await, 0);
            world.release(&placed.1).await;
            world.until(request, "fencing").await;
        }
        StatusCode::CONFLICT => {
            world.until(request, "fencing").await;
            assert_eq!(world.events(HOLD_REFUSED).await, 1);
        }
        other => panic!("{other}: {}", placed.1),
    }
    assert_eq!(world.events(STEP_STARTED).await, 1);
    world.stop().await;
}
