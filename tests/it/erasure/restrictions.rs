//! The use of her data is restricted for a request of hers, and released only after she was told (GDPR Article 18),
//! against real Postgres and Kafka.

use assent_contracts::rights::{
    REQUEST_ANSWERED, RESTRICTION_END_TOLD, RESTRICTION_PLACED, RESTRICTION_RELEASED, Task,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{World, pace};

impl World {
    /// What the gate was asked to restrict and to lift.
    fn at_the_gate(&self) -> Vec<Value> {
        self.stops().into_iter().filter_map(|it| it.get("what").cloned()).collect()
    }
}

#[tokio::test]
async fn what_is_restricted_is_so_at_the_gate_first_and_released_only_after_she_was_told() {
    let world = World::new("vault:keys", pace()).await;
    let crm = json!({"name": "crm", "owner": "crm-team"});
    assert_eq!(world.post("operator", "/v1/participants", &crm, None).await.0, StatusCode::CREATED);
    let (_, opened) = world.open("restriction", json!({})).await;
    let (status, problem) = world.does(&opened, "restriction", json!({})).await;
    let why = (StatusCode::CONFLICT, &json!("identity_pending"));
    assert_eq!((status, &problem["reason"]), why, "trap 19: nobody restricts another's data");
    world
        .does(&opened, "identity", json!({"method": "operator", "reason": "known_customer"}))
        .await;
    let (status, problem) = world.does(&opened, "answer", json!({})).await;
    let why = (StatusCode::CONFLICT, &json!("not_restricted"));
    assert_eq!((status, &problem["reason"]), why, "an answer alone restricts nothing");
    assert!(world.at_the_gate().is_empty());

    // The gate is away: nothing is on record that isn't so.
    world.consent_is_down(true);
    let (status, problem) = world.does(&opened, "restriction", json!({})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert_eq!(world.events(RESTRICTION_PLACED).await, 0);
    world.consent_is_down(false);
    for _ in 0..2 {
        let (status, view) = world.does(&opened, "restriction", json!({})).await;
        assert_eq!((status, &view["status"]), (StatusCode::OK, &json!("answered")), "{view}");
        assert_eq!(view["inquiries"][0]["task"], "restrict");
    }
    let once = (world.events(RESTRICTION_PLACED).await, world.events(REQUEST_ANSWERED).await);
    assert_eq!(once, (1, 1));
    let inquiry = world.hears_inquiry(Task::Restrict).await;
    assert_eq!(inquiry.participants, ["crm"], "Article 19");

    // 18(3): first she is told.
    let over = json!({"reason": "data_verified"});
    let (status, problem) = world.does(&opened, "restriction/release", over.clone()).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("not_told")));
    assert!(!world.at_the_gate().contains(&json!("lift")), "the gate wasn't even asked");
    let free_text = json!({"how": "we called +33 6 12 34 56 78"});
    let (status, _) = world.does(&opened, "restriction/notice", free_text).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "codes only");
    for _ in 0..2 {
        let (status, view) =
            world.does(&opened, "restriction/notice", json!({"how": "letter"})).await;
        assert_eq!((status, &view["restriction"]["told_how"]), (StatusCode::OK, &json!("letter")));
    }
    let (_, tracked) = world.tracks(&opened["reference"], &opened["secret"]).await;
    let letter = tracked["restriction"]["letter"]["fr"].as_str().unwrap();
    assert!(letter.contains("Nous allons lever la limitation"), "she reads it: {letter}");
    for _ in 0..2 {
        let (status, view) = world.does(&opened, "restriction/release", over.clone()).await;
        assert_eq!(status, StatusCode::OK, "{view}");
        assert_eq!(view["restriction"]["released_for"], "data_verified");
    }
    let once = (world.events(RESTRICTION_END_TOLD).await, world.events(RESTRICTION_RELEASED).await);
    assert_eq!(once, (1, 1));
    assert!(world.at_the_gate().contains(&json!("lift")));
    assert_eq!(world.hears_inquiry(Task::Release).await.participants, ["crm"]);
    // What was lifted isn't placed again by a late repeat.
    let (status, problem) = world.does(&opened, "restriction", json!({})).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("closed")));
    world.stop().await;
}
