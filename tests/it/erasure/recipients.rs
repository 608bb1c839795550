//! What recipients outside are asked for the sake of a request (GDPR Articles 15, 16 and 19), and what is put right:
//! against real Postgres and Kafka.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use assent_contracts::rights::{
    ARCHIVE_PREPARED, RECIPIENT_ANSWERED, RECIPIENTS_ASKED, REQUEST_ANSWERED, REQUEST_RECTIFIED,
    Task,
};
use assent_runtime::{Clock as _, ManualClock, SystemClock};
use assent_tests::cluster::until;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{World, pace};

fn checked() -> Value {
    json!({"identity": {"method": "operator", "reason": "known_customer"}})
}

fn id(opened: &Value) -> Uuid {
    opened["request_id"].as_str().unwrap().parse().unwrap()
}

impl World {
    async fn outside(&self, name: &str) {
        let new = json!({"name": name, "owner": format!("{name}-team")});
        let (status, _) = self.post("operator", "/v1/participants", &new, None).await;
        assert_eq!(status, StatusCode::CREATED);
    }

    async fn replies(&self, token: &str, opened: &Value, reply: Value) -> (StatusCode, Value) {
        let path = format!("/v1/requests/{}/replies", id(opened));
        self.post(token, &path, &reply, None).await
    }
}

#[tokio::test]
async fn what_was_wrong_is_put_right_once_recipients_are_told_and_she_is_answered() {
    let world = World::new("vault:keys", pace()).await;
    world.outside("crm").await;
    let (_, opened) = world.open("rectification", json!({})).await;
    let right =
        json!({"phone": "+33 6 12 34 56 79", "name": "Canary Ada", "email": "new@example.org"});
    let (status, problem) = world.does(&opened, "rectification", right.clone()).await;
    let why = (StatusCode::CONFLICT, &json!("identity_pending"));
    assert_eq!((status, &problem["reason"]), why, "trap 19: nobody changes another's data");
    assert!(world.holders.rectified.lock().unwrap().is_empty(), "the vault wasn't even asked");

    let check = json!({"method": "operator", "reason": "known_customer"});
    world.does(&opened, "identity", check).await;
    world.holders.taken.store(true, Ordering::Release);
    let (status, problem) = world.does(&opened, "rectification", right.clone()).await;
    let why = (StatusCode::CONFLICT, &json!("number_taken"));
    assert_eq!((status, &problem["reason"]), why, "{problem}");
    world.holders.taken.store(false, Ordering::Release);
    let only_right = json!({"name": "Canary Ada"});
    let (status, problem) = world.does(&opened, "rectification", only_right).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("accurate_already")));

    for _ in 0..2 {
        let (status, view) = world.does(&opened, "rectification", right.clone()).await;
        assert_eq!((status, &view["status"]), (StatusCode::OK, &json!("answered")), "{view}");
        assert_eq!(view["rectification"]["fields"], json!(["phone", "email"]));
        let crm = json!([{"name": "crm", "owner": "crm-team"}]);
        assert_eq!(view["inquiries"][0]["recipients"], crm, "told, and waited for");
    }
    assert_eq!(
        (world.events(REQUEST_RECTIFIED).await, world.events(RECIPIENTS_ASKED).await),
        (1, 1)
    );
    assert_eq!(world.events(REQUEST_ANSWERED).await, 1);
    let inquiry = world.hears_inquiry(Task::Rectify).await;
    assert_eq!((inquiry.subject_id, inquiry.request_id), (world.subject, id(&opened)));
    assert_eq!(
        (&inquiry.fields[..], &inquiry.participants[..]),
        (&["phone".to_owned(), "email".to_owned()][..], &["crm".to_owned()][..])
    );
    let (_, tracked) = world.tracks(&opened["reference"], &opened["secret"]).await;
    let letter = tracked["rectification"]["letter"]["en"].as_str().unwrap();
    assert!(letter.contains("your telephone number, your e-mail address"), "{letter}");
    let kept = world.all_that_is_kept().await;
    assert!(!kept.contains("new@example.org") && !kept.contains("12345679"), "G5");

    let done = json!({"inquiry_id": inquiry.inquiry_id, "participant": "crm"});
    let (status, _) = world.replies("stranger", &opened, done.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "another key");
    let other = json!({"inquiry_id": inquiry.inquiry_id, "participant": "vault"});
    let (status, problem) = world.replies("vault", &opened, other).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("not_asked")));
    for _ in 0..2 {
        assert_eq!(world.replies("crm", &opened, done.clone()).await.0, StatusCode::OK);
    }
    assert_eq!(world.events(RECIPIENT_ANSWERED).await, 1);
    let view = world.view(id(&opened)).await;
    assert!(view["inquiries"][0]["recipients"][0]["answered_at"].is_string(), "{view}");
    world.stop().await;
}

#[tokio::test]
async fn an_archive_has_what_recipients_tell_and_waits_for_them() {
    let world = World::new("vault:keys", pace()).await;
    world.outside("crm").await;
    let (_, opened) = world.open("access", checked()).await;
    let inquiry = world.hears_inquiry(Task::Disclose).await;
    assert_eq!(world.events(ARCHIVE_PREPARED).await, 0, "it waits");
    let told = json!([{"kind": "order", "provenance": "provided", "data": {"text": "Canary cake"}},
        {"kind": "contact", "provenance": "provided", "data": {"phone": "+33698765432"}}]);
    let reply = json!({"inquiry_id": inquiry.inquiry_id, "participant": "crm", "holdings": told});
    assert_eq!(world.replies("stranger", &opened, reply.clone()).await.0, StatusCode::FORBIDDEN);
    let mut wrong = reply.clone();
    wrong["holdings"][0]["kind"] = json!("Order 12");
    let (status, _) = world.replies("crm", &opened, wrong).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(world.replies("crm", &opened, reply).await.0, StatusCode::OK);
    world.until(id(&opened), "answered").await;
    let kept = world.all_that_is_kept().await;
    assert!(!kept.contains("Canary cake"), "G5: sealed");
    let (status, archive) = world.collects(&opened).await;
    assert_eq!(status, StatusCode::OK);
    assert!(archive.contains("Canary cake") && archive.contains("crm: order"), "{archive}");
    assert!(archive.contains("what they hold is in this archive"));
    // What others call hers doesn't keep a stranger's number in what we wrote (trap 19).
    assert!(archive.contains("asks for ▇▇▇"), "{archive}");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM disclosures")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(left, 0, "it goes with the archive");
    world.stop().await;
}

#[tokio::test]
async fn who_does_not_answer_is_named_and_the_request_is_not_silently_whole() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let world = World::by(clock.clone(), "vault:keys", pace()).await;
    world.outside("crm").await;
    let (_, opened) = world.open("access", checked()).await;
    let inquiry = world.hears_inquiry(Task::Disclose).await;
    clock.advance(Duration::from_secs(48 * 3600 + 1));
    until("the archive is there", async || world.events(ARCHIVE_PREPARED).await == 1).await;
    let view = world.view(id(&opened)).await;
    assert_eq!(view["status"], "open", "a part answers nothing: {view}");
    assert!(view["inquiries"][0]["recipients"][0].get("answered_at").is_none(), "{view}");
    let (status, archive) = world.collects(&opened).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        archive.contains("crm-team") && archive.contains("is not in this archive"),
        "{archive}"
    );

    // It answers late: the whole archive is made, and that answers her.
    let nothing = json!({"inquiry_id": inquiry.inquiry_id, "participant": "crm"});
    assert_eq!(world.replies("crm", &opened, nothing).await.0, StatusCode::OK);
    world.until(id(&opened), "answered").await;
    let (status, archive) = world.collects(&opened).await;
    assert_eq!(status, StatusCode::OK);
    assert!(archive.contains("they hold nothing about you"), "{archive}");
    world.stop().await;
}
