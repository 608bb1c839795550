//! Templates: what the provider tells of them counts at once, and what they take is checked first.

use assent_runtime::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::stand_ins::{Home, Neighbours, Provider, Replica, Setup, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

async fn tells(replica: &Replica, field: &str, at: i64, more: Value) {
    let mut value = json!({"message_template_id": 1, "message_template_name": "receipt",
        "message_template_language": "en"});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body =
        json!({"entry": [{"id": "1", "time": at, "changes": [{"field": field, "value": value}]}]});
    assert_eq!(replica.raw_webhook(&body.to_string(), "app secret").await, 200);
    replica.processed().await;
}

async fn known(replica: &Replica, name: &str) -> Value {
    let listed = replica.get("/v1/templates").await;
    let mut all = listed["templates"].as_array().unwrap().iter();
    all.find(|it| it["name"] == name).cloned().unwrap_or_default()
}

async fn asks(replica: &Replica, subject: uuid::Uuid, more: Value) -> (u16, Value) {
    let mut body = json!({"subject_id": subject, "purpose": "service", "channel": "whatsapp"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    replica.post("/v1/messages", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_paused_or_rejected_refuses_at_once_and_older_news_changes_nothing() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let template = json!({"name": "receipt", "language": "en", "category": "UTILITY"});
    assert_eq!(replica.post("/v1/templates", template).await.0, 201);
    let now = SystemClock.now().as_second();
    let status = "message_template_status_update";
    // Queued before, and not sent yet.
    replica.hold_number().await;
    let queued = replica.send_template(subject, "service", "receipt").await;
    assert_eq!(replica.waits(queued).await, ["number_held_back"]);
    for (at, event, reason) in [
        (now + 1, "PAUSED", Some("template_paused")),
        // It happened before the pause, and comes after it.
        (now - 60, "APPROVED", Some("template_paused")),
        (now + 2, "REJECTED", Some("template_rejected")),
        (now + 3, "DISABLED", Some("template_disabled")),
        (now + 4, "SOMETHING_NEW", Some("template_not_approved")),
    ] {
        // The news of a future second counts as of now: clocks differ.
        tells(&replica, status, at.min(SystemClock.now().as_second()), json!({"event": event}))
            .await;
        let (code, problem) = asks(&replica, subject, json!({"template": "receipt"})).await;
        assert_eq!((code, problem["code"].as_str()), (409, Some("template_unavailable")));
        assert_eq!(problem["reason"].as_str(), reason, "{event}");
    }
    replica.let_go().await;
    let view = replica.settled(queued).await;
    assert_eq!(
        (&view["state"], &view["reasons"]),
        (&json!("refused"), &json!(["template_not_approved"]))
    );
    assert!(provider.bodies().is_empty());
    tells(&replica, status, SystemClock.now().as_second(), json!({"event": "APPROVED"})).await;
    let message = replica.send_template(subject, "service", "receipt").await;
    assert_eq!(replica.settled(message).await["state"], "accepted");
    tells(&replica, "message_template_quality_update", now, json!({"new_quality_score": "RED"}))
        .await;
    assert_eq!(known(&replica, "receipt").await["quality"], "RED");
    replica.stop().await;
}

/// Marketing by the provider's word needs her consent to marketing, from the moment that it is heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_becomes_marketing_needs_the_consent_to_marketing() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    neighbours.deny_purpose("marketing", "no_consent");
    let template = json!({"name": "receipt", "language": "en", "category": "UTILITY"});
    replica.post("/v1/templates", template).await;
    let message = replica.send_template(subject, "service", "receipt").await;
    assert_eq!(replica.settled(message).await["state"], "accepted");
    let now = SystemClock.now().as_second();
    let update = "template_category_update";
    // Announced for tomorrow: today it is what it was.
    let announced = json!({"new_category": "UTILITY", "correct_category": "MARKETING",
        "category_update_timestamp": now + 86_400});
    tells(&replica, update, now, announced).await;
    assert_eq!(known(&replica, "receipt").await["next_category"], "MARKETING");
    let message = replica.send_template(subject, "service", "receipt").await;
    assert_eq!(replica.settled(message).await["state"], "accepted");
    let refused = json!(["no_consent", "template_is_marketing"]);
    // Tomorrow has come, without another word.
    replica.sql("UPDATE templates SET next_category_at = now() WHERE name = 'receipt'").await;
    let message = replica.send_template(subject, "service", "receipt").await;
    assert_eq!(replica.settled(message).await["reasons"], refused);
    replica.sql("UPDATE templates SET next_category_at = NULL, next_category = NULL").await;

    let changed = json!({"previous_category": "UTILITY", "new_category": "MARKETING"});
    tells(&replica, update, SystemClock.now().as_second(), changed).await;
    assert_eq!(known(&replica, "receipt").await["category"], "MARKETING");
    let message = replica.send_template(subject, "service", "receipt").await;
    let view = replica.settled(message).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &refused));
    assert_eq!(provider.bodies().len(), 2);
    // An hour at which she is left alone is waited for, whichever purpose it is about.
    neighbours.deny_purpose("marketing", "address_unlinked");
    let message = replica.send_template(subject, "service", "receipt").await;
    assert_eq!(replica.waits(message).await, ["address_unlinked"]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_teaches_shapes_and_what_does_not_stand_in_it_is_missing() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let subject = neighbours.person(1);
    let order = |status: &str, category: &str| {
        json!({"id": "1", "name": "order", "language": "en", "status": status, "category": category,
            "quality_score": {"score": "GREEN"}, "components": [
                {"type": "HEADER", "format": "IMAGE"},
                {"type": "BODY", "text": "Order {{1}} of {{2}}"},
                {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "See", "url": "https://a.example/{{1}}"}]}]})
    };
    let other = |name: &str| {
        json!({"name": name, "language": "en_US", "status": "APPROVED", "category": "UTILITY",
            "components": [{"type": "BODY", "text": "Hi"}]})
    };
    provider.lists(
        json!([order("APPROVED", "UTILITY"), other("a"), {"name": "half"}, other("b"), other("c")]),
    );
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.business_account_id = Some("102290129340398");
    let replica = home.start(&setup).await;
    until("listed", async || known(&replica, "c").await["status"] == "APPROVED").await;
    assert_eq!(provider.requests().len(), 3, "a page for each two");
    assert!(provider.requests()[0].starts_with("get /v26.0/102290129340398/message_templates?"));
    assert_eq!(known(&replica, "hello").await["status"], "APPROVED", "half may have been it");

    let whole = json!({"template": "order", "parameters": ["12", "Ada"],
        "header": {"type": "image", "id": "7"}, "buttons": [{"index": 0, "url_suffix": "12"}]});
    for (key, value, detail) in [
        ("parameters", json!(["12"]), "the body takes 2 parameters, 1 are given"),
        ("header", json!(null), "the header's value: the template takes an image"),
        ("buttons", json!([]), "button 0 takes a value"),
    ] {
        let mut values = whole.clone();
        values[key] = value;
        let (status, problem) = asks(&replica, subject, values).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("template_mismatch")));
        assert_eq!(problem["detail"], detail);
    }
    assert_eq!(replica.count("SELECT count(*) FROM intents").await, 0, "nothing was queued");
    let (status, queued) = asks(&replica, subject, whole).await;
    assert_eq!(status, 202, "{queued}");
    let message = queued["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(message).await["state"], "accepted");
    let sent = provider.bodies()[0]["template"]["components"].clone();
    assert_eq!(
        sent[0],
        json!({"type": "header", "parameters": [{"type": "image", "image": {"id": "7"}}]})
    );
    assert_eq!(sent[2]["parameters"][0]["text"], "12");

    // The next reading, due at once: paused, marketing, and one is gone.
    provider.lists(json!([order("PAUSED", "MARKETING"), other("a"), other("b")]));
    replica.sql("UPDATE template_lists SET due_at = now()").await;
    until("read again", async || known(&replica, "order").await["status"] == "PAUSED").await;
    assert_eq!(known(&replica, "order").await["category"], "MARKETING");
    for gone in ["c", "hello"] {
        assert_eq!(known(&replica, gone).await["status"], "MISSING", "nobody there knows it");
    }
    // The app may hear of other accounts: entry 1 is none of ours.
    let now = SystemClock.now().as_second();
    let change = json!({"field": "message_template_status_update", "value": {"event": "DISABLED",
        "message_template_name": "a", "message_template_language": "en_US"}});
    for (account, status) in [("1", "APPROVED"), ("102290129340398", "DISABLED")] {
        let entry = json!([{"id": account, "time": now, "changes": [change.clone()]}]);
        let body = json!({"entry": entry}).to_string();
        assert_eq!(replica.raw_webhook(&body, "app secret").await, 200);
        replica.processed().await;
        assert_eq!(known(&replica, "a").await["status"], status);
    }
    // A webhook has it read again soon, a minute after the last time at the earliest.
    let due = "SELECT extract(epoch FROM due_at - now())::bigint FROM template_lists";
    let edited = json!({"field": "message_template_components_update", "value":
        {"message_template_name": "a", "message_template_language": "en_US"}});
    replica.sql("UPDATE template_lists SET due_at = now() + interval '1 hour'").await;
    let body = json!({"entry": [{"id": "102290129340398", "time": now, "changes": [edited]}]});
    assert_eq!(replica.raw_webhook(&body.to_string(), "app secret").await, 200);
    replica.processed().await;
    assert!((0..=60).contains(&replica.count(due).await));
    replica.stop().await;
}

/// A repeat gives the first answer, also where the request would be refused by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_what_was_queued_is_answered_as_before_whatever_became_of_the_template() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let body = json!({"subject_id": neighbours.person(1), "purpose": "marketing",
        "channel": "whatsapp", "template": "hello"});
    let (status, first) = replica.post_once("/v1/messages", &body, "key-1").await;
    assert_eq!(status, 202);
    replica.sql("UPDATE templates SET status = 'PAUSED'").await;
    let (status, repeat) = replica.post_once("/v1/messages", &body, "key-1").await;
    assert_eq!((status, &repeat["message_id"]), (202, &first["message_id"]));
    assert_eq!(replica.post_once("/v1/messages", &body, "key-2").await.0, 409);
    replica.stop().await;
}
