//! Templates over the Graph API, and what Meta does with them.

use super::*;

fn news() -> Value {
    json!({"name": "news", "language": "fr", "category": "UTILITY", "components": [
        {"type": "BODY", "text": "Hello {{1}}, we are open.", "example": {"body_text": [["Ana"]]}},
        {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Stop promotions"}]}]})
}

fn sending(parameters: &[&str]) -> Value {
    let parameters: Vec<Value> =
        parameters.iter().map(|text| json!({"type": "text", "text": text})).collect();
    let mut message = template();
    message["template"]["components"] = json!([{"type": "body", "parameters": parameters}]);
    message
}

impl Rig {
    /// Creates the template and waits for its approval; its id.
    async fn approved(&self) -> String {
        let (status, created) = self.graph("POST", "/1022/message_templates", Some(news())).await;
        assert_eq!((status, &created["status"]), (200, &json!("PENDING")), "{created}");
        self.hears(|body| {
            change(body)["field"] == "message_template_status_update"
                && value(body)["event"] == "APPROVED"
        })
        .await;
        created["id"].as_str().unwrap().to_owned()
    }

    async fn refused(&self, message: &Value) -> i64 {
        let (_, answer) = self.send(message).await.unwrap();
        answer["error"]["code"].as_i64().unwrap_or_default()
    }

    async fn happens(&self, change: Value) {
        assert_eq!(self.post("/_sim/templates/news", &change).await.0, 200);
    }
}

#[tokio::test]
async fn a_template_is_created_reviewed_read_edited_and_deleted() {
    let rig = rig().await;
    let id = rig.approved().await;
    let (_, again) = rig.graph("POST", "/1022/message_templates", Some(news())).await;
    assert_eq!(again["error"]["error_subcode"], 2_388_024);

    let (_, page) =
        rig.graph("GET", "/1022/message_templates?name=new&summary=total_count", None).await;
    assert_eq!((&page["data"][0]["id"], &page["summary"]["total_count"]), (&json!(id), &json!(1)));
    let (_, none) = rig.graph("GET", "/1022/message_templates?status=REJECTED", None).await;
    assert_eq!(none["data"], json!([]));
    let (_, node) = rig.graph("GET", &format!("/{id}?fields=quality_score"), None).await;
    assert_eq!((&node["quality_score"]["score"], node.get("name")), (&json!("UNKNOWN"), None));

    let components = json!([{"type": "BODY", "text": "Closed."}]);
    let edit = json!({"components": components});
    let (status, _) = rig.graph("POST", &format!("/{id}"), Some(edit.clone())).await;
    assert_eq!(status, 200);
    rig.until(|| rig.heard_of("message_template_status_update").len() == 2).await;
    let (status, _) = rig.graph("POST", &format!("/{id}"), Some(edit)).await;
    assert_eq!(status, 400, "an approved template is edited once in 24 hours");
    let (_, node) = rig.graph("GET", &format!("/{id}"), None).await;
    assert_eq!((&node["components"], &node["status"]), (&components, &json!("APPROVED")));

    let path = format!("/1022/message_templates?name=news&hsm_id={id}");
    assert_eq!(rig.graph("DELETE", &path, None).await.1, json!({"success": true}));
    let (_, reused) = rig.graph("POST", "/1022/message_templates", Some(news())).await;
    assert_eq!(reused["error"]["error_subcode"], 2_388_023);
}

#[tokio::test]
async fn pages_are_followed_by_their_cursors() {
    let rig = rig().await;
    let all: Vec<Value> =
        (0..5).map(|at| json!({"name": format!("t{at}"), "language": "fr"})).collect();
    rig.client.put(format!("{}/_sim/templates", rig.sim)).json(&all).send().await.unwrap();
    let mut path = "/1022/message_templates?fields=name&limit=2".to_owned();
    let mut names = Vec::new();
    loop {
        let (_, page) = rig.graph("GET", &path, None).await;
        names.extend(page["data"].as_array().unwrap().iter().map(|it| it["name"].clone()));
        let Some(next) = page["paging"]["next"].as_str() else { break };
        path = next.strip_prefix(&format!("{}/v26", rig.sim)).unwrap().to_owned();
    }
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
}

#[tokio::test]
async fn a_send_needs_a_template_that_exists_is_approved_and_has_its_parameters() {
    let rig = rig().await;
    // Nobody made a template yet: the account takes up what is sent.
    assert_eq!(rig.send(&sending(&["Ana", "extra"])).await.unwrap().0, 200);
    rig.approved().await;
    assert_eq!(rig.send(&sending(&["Ana"])).await.unwrap().0, 200);
    assert_eq!(rig.refused(&sending(&["Ana", "extra"])).await, 132_000);
    assert_eq!(rig.refused(&sending(&[])).await, 132_000);
    let mut other = sending(&["Ana"]);
    other["template"]["language"]["code"] = json!("de");
    assert_eq!(rig.refused(&other).await, 132_001);

    for (status, code) in [("PAUSED", 132_015), ("DISABLED", 132_016), ("REJECTED", 132_001)] {
        rig.happens(json!({"change": "status", "to": status})).await;
        assert_eq!(rig.refused(&sending(&["Ana"])).await, code, "{status}");
    }
    let broken = rig.violations().await;
    assert_eq!(
        broken,
        json!({"template_held": 2, "template_parameters": 2, "template_unknown": 2})
    );
}

#[tokio::test]
async fn red_quality_pauses_for_three_hours_then_six_then_for_good() {
    let rig = rig().await;
    rig.approved().await;
    let message = sending(&["Ana"]);
    for (hours, title) in [(3, "FIRST_PAUSE"), (6, "SECOND_PAUSE")] {
        rig.happens(json!({"change": "quality", "to": "RED"})).await;
        rig.hears(|body| value(body)["other_info"]["title"] == title).await;
        rig.post("/_sim/clock", &json!({"advance_s": hours * 3600 - 60})).await;
        assert_eq!(rig.refused(&message).await, 132_015);
        rig.post("/_sim/clock", &json!({"advance_s": 60})).await;
        assert_eq!(rig.send(&message).await.unwrap().0, 200, "after {hours} hours");
    }
    rig.happens(json!({"change": "quality", "to": "RED"})).await;
    assert_eq!(rig.refused(&message).await, 132_016);
    let quality = rig.heard_of("message_template_quality_update");
    assert_eq!(value(&quality[0])["previous_quality_score"], "UNKNOWN");
    assert_eq!(value(&quality[0])["message_template_name"], "news");
}

#[tokio::test]
async fn a_category_changes_when_it_was_announced_to() {
    let rig = rig().await;
    let id = rig.approved().await;
    rig.happens(json!({"change": "category", "to": "MARKETING", "in_s": 86_400})).await;
    let announced = rig.hears(|body| value(body).get("correct_category").is_some()).await;
    assert_eq!(value(&announced)["new_category"], "UTILITY");
    let (_, node) = rig.graph("GET", &format!("/{id}"), None).await;
    assert_eq!(node["category"], "UTILITY");
    rig.post("/_sim/clock", &json!({"advance_s": 86_400})).await;
    let done = rig.hears(|body| value(body).get("previous_category").is_some()).await;
    assert_eq!(value(&done)["new_category"], "MARKETING");
    let fields = "fields=category,previous_category";
    let (_, node) = rig.graph("GET", &format!("/{id}?{fields}"), None).await;
    assert_eq!(node, json!({"id": id, "category": "MARKETING", "previous_category": "UTILITY"}));
}

#[tokio::test]
async fn paced_messages_are_held_and_released_or_dropped_by_the_quality() {
    let rig = rig().await;
    rig.approved().await;
    for (quality, fate) in [("GREEN", "read"), ("RED", "failed")] {
        assert_eq!(
            rig.post("/_sim/templates/news", &json!({"change": "pacing", "after": 1})).await.0,
            204
        );
        let (_, first) = rig.send(&sending(&["Ana"])).await.unwrap();
        assert_eq!(first["messages"][0]["message_status"], "accepted");
        let (_, held) = rig.send(&sending(&["Ana"])).await.unwrap();
        assert_eq!(held["messages"][0]["message_status"], "held_for_quality_assessment");
        let id = &held["messages"][0]["id"];
        let status = |body: &Value| value(body)["statuses"][0]["id"] == *id;
        assert!(!rig.heard.0.lock().unwrap().bodies.iter().any(status));
        rig.happens(json!({"change": "quality", "to": quality})).await;
        let heard = rig.hears(|body| status(body) && is_status(body, fate)).await;
        if fate == "failed" {
            assert_eq!(value(&heard)["statuses"][0]["errors"][0]["code"], 132_015);
        }
    }
}

#[tokio::test]
async fn a_template_of_codes_is_given_without_words_and_shown_in_metas() {
    let rig = rig().await;
    let create = async |category: &str, button: Value| {
        let template = json!({"name": format!("login_{}", category.to_lowercase()), "language": "en", "category": category, "components": [
            {"type": "BODY", "add_security_recommendation": true},
            {"type": "FOOTER", "code_expiration_minutes": 5},
            {"type": "BUTTONS", "buttons": [button]}]});
        let path = "/1022/message_templates";
        rig.graph("POST", path, Some(template)).await
    };
    let copy = json!({"type": "OTP", "otp_type": "COPY_CODE"});
    assert_eq!(create("UTILITY", copy.clone()).await.0, 400);
    assert_eq!(create("AUTHENTICATION", json!({"type": "QUICK_REPLY", "text": "a"})).await.0, 400);
    let tap = json!({"type": "OTP", "otp_type": "ZERO_TAP", "supported_apps": [{"package_name": "com.example", "signature_hash": "K8a/AINcGX7"}]});
    assert_eq!(create("AUTHENTICATION", tap).await.0, 400, "the terms are not accepted");
    let (status, created) = create("AUTHENTICATION", copy).await;
    assert_eq!(status, 200, "{created}");
    let path = format!("/{}", created["id"].as_str().unwrap());
    let (_, shown) = rig.graph("GET", &path, None).await;
    let parts = &shown["components"];
    assert_eq!(
        parts[0]["text"],
        "*{{1}}* is your verification code. For your security, do not share this code."
    );
    assert_eq!(parts[1]["text"], "This code expires in 5 minutes.");
    assert!(
        parts[2]["buttons"][0]["url"]
            .as_str()
            .unwrap()
            .ends_with("otp_type=COPY_CODE&code=otp{{1}}")
    );
}
