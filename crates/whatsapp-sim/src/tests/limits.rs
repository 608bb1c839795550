//! Windows, stops, caps, tiers, rates, and the count of who broke them.

use super::*;

fn text() -> Value {
    json!({"messaging_product": "whatsapp", "to": "+33612345678", "type": "text", "text": {"body": "hello"}})
}

fn to(number: &str) -> Value {
    let mut message = template();
    message["to"] = json!(number);
    message
}

impl Rig {
    /// Sends, and gives what became of it: the last of its statuses and the error's code.
    async fn fate(&self, message: &Value) -> (String, i64) {
        let (status, sent) = self.send(message).await.unwrap();
        assert_eq!(status, 200, "{sent}");
        let id = &sent["messages"][0]["id"];
        let last = self
            .hears(|body| {
                value(body)["statuses"][0]["id"] == *id
                    && (is_status(body, "read") || is_status(body, "failed"))
            })
            .await;
        let status = &value(&last)["statuses"][0];
        let code = status["errors"][0]["code"].as_i64().unwrap_or(0);
        (status["status"].as_str().unwrap().to_owned(), code)
    }

    async fn hours_pass(&self, hours: i64) {
        self.post("/_sim/clock", &json!({"advance_s": hours * 3600})).await;
    }
}

fn read() -> (String, i64) {
    ("read".to_owned(), 0)
}

fn failed(code: i64) -> (String, i64) {
    ("failed".to_owned(), code)
}

#[tokio::test]
async fn the_window_closes_24_hours_after_her_last_message() {
    let rig = rig().await;
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "hi"})).await;
    rig.hours_pass(23).await;
    assert_eq!(rig.fate(&text()).await, read());
    rig.hours_pass(1).await;
    assert_eq!(rig.fate(&text()).await, failed(131_047));
    assert_eq!(rig.fate(&template()).await, read());
    assert_eq!(rig.violations().await, json!({"outside_window": 1}));
}

#[tokio::test]
async fn after_a_stop_marketing_fails_until_she_resumes_and_counts_as_broken() {
    let rig = rig().await;
    let prefers = async |value: &str| {
        rig.post("/_sim/preferences", &json!({"from": "33612345678", "value": value})).await;
    };
    prefers("stop").await;
    assert_eq!(rig.fate(&template()).await, failed(131_050));
    prefers("resume").await;
    assert_eq!(rig.fate(&template()).await, read());
    assert_eq!(rig.violations().await, json!({"after_stop": 1}));
    // A plain word stops nothing at Meta, but whoever sends on has broken its policy.
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": " Stop! "})).await;
    assert_eq!(rig.fate(&template()).await, read());
    assert_eq!(rig.violations().await, json!({"after_stop": 2}));
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "please don't stop"})).await;
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "start"})).await;
    assert_eq!(rig.fate(&template()).await, read());
    assert_eq!(rig.violations().await, json!({"after_stop": 2}));
}

#[tokio::test]
async fn the_cap_per_person_holds_marketing_back_and_hasty_retries_count() {
    let rig = rig_with(|options| options.limits.marketing_per_day = Some(1)).await;
    assert_eq!(rig.fate(&template()).await, read());
    rig.hours_pass(1).await;
    assert_eq!(rig.fate(&template()).await, failed(131_049));
    assert_eq!(rig.violations().await, json!({}));
    rig.hours_pass(22).await;
    assert_eq!(rig.fate(&template()).await, failed(131_049));
    assert_eq!(rig.violations().await, json!({"again_after_cap": 1}));
    rig.hours_pass(24).await;
    assert_eq!(rig.fate(&template()).await, read());
    // Inside the window nothing counts against the cap.
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "hi"})).await;
    assert_eq!(rig.fate(&template()).await, read());
}

#[tokio::test]
async fn the_tier_counts_people_outside_their_window_in_24_hours() {
    let rig = rig_with(|options| options.limits.people_per_day = Some(2)).await;
    rig.post("/_sim/inbound", &json!({"from": "33699999990", "text": "hi"})).await;
    for number in ["+33699999990", "+33699999991", "+33699999992", "+33699999992"] {
        assert_eq!(rig.fate(&to(number)).await, read(), "{number}");
    }
    assert_eq!(rig.fate(&to("+33699999993")).await, failed(131_048));
    assert_eq!(rig.violations().await, json!({"daily_people": 1}));
    rig.hours_pass(24).await;
    assert_eq!(rig.fate(&to("+33699999993")).await, read());
}

#[tokio::test]
async fn rates_are_counted_always_and_enforced_where_configured() {
    let rig = rig().await;
    rig.post("/_sim/clock", &json!({"stopped": true})).await;
    for _ in 0..46 {
        assert_eq!(rig.send(&template()).await.unwrap().0, 200);
    }
    assert_eq!(rig.violations().await, json!({"pair_rate": 1}));
    let limits = json!({"per_pair": true, "per_second": 80});
    rig.client.put(format!("{}/_sim/limits", rig.sim)).json(&limits).send().await.unwrap();
    assert_eq!(rig.send(&template()).await.unwrap().1["error"]["code"], 131_056);
    for at in 0..34 {
        rig.send(&to(&format!("+336999999{at:02}"))).await.unwrap();
    }
    assert_eq!(rig.send(&to("+33688888888")).await.unwrap().1["error"]["code"], 130_429);
    assert_eq!(rig.violations().await, json!({"pair_rate": 2, "number_rate": 1}));
    rig.post("/_sim/clock", &json!({"advance_s": 6})).await;
    assert_eq!(rig.send(&template()).await.unwrap().0, 200);
    rig.client.delete(format!("{}/_sim/violations", rig.sim)).send().await.unwrap();
    assert_eq!(rig.violations().await, json!({}));
}

#[tokio::test]
async fn to_somebody_who_blocked_the_business_nothing_is_ever_delivered() {
    let rig = rig().await;
    rig.post("/_sim/block", &json!({"from": "+33612345678", "blocked": true})).await;
    let (_, sent) = rig.send(&template()).await.unwrap();
    let id = &sent["messages"][0]["id"];
    rig.hears(|body| is_status(body, "sent") && value(body)["statuses"][0]["id"] == *id).await;
    // The statuses of a message that is sent later have all come: hers would have come before.
    assert_eq!(rig.fate(&to("+33699999999")).await, read());
    assert_eq!(rig.messages().await["messages"][0]["statuses"], json!(["sent"]));
}

#[tokio::test]
async fn a_new_number_takes_her_choices_along() {
    let rig = rig().await;
    rig.post("/_sim/preferences", &json!({"from": "33612345678", "value": "stop"})).await;
    let moved = json!({"from": "+33612345678", "to": "+33687654321"});
    assert_eq!(rig.post("/_sim/change_number", &moved).await.0, 200);
    let told = rig.hears(|body| value(body)["messages"][0]["type"] == "system").await;
    let message = &value(&told)["messages"][0];
    assert_eq!(
        (&message["from"], &message["system"]["wa_id"]),
        (&json!("33612345678"), &json!("33687654321"))
    );
    assert_eq!(rig.fate(&to("+33687654321")).await, failed(131_050));
}
