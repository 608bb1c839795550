//! The simulator against itself: a webhook receiver on port 0, the simulator on port 0.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

mod fates;
mod going_wrong;
mod limits;
mod management;
mod media;
mod phone;
mod templates;

/// A webhook receiver that checks signatures, and the simulator that posts to it.
struct Rig {
    sim: String,
    client: reqwest::Client,
    heard: Heard,
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<HeardState>>);

#[derive(Default)]
struct HeardState {
    bodies: Vec<Value>,
    bad_signatures: usize,
    refuse_next: usize,
}

async fn hear(State(heard): State<Heard>, headers: HeaderMap, body: String) -> StatusCode {
    let mut heard = heard.0.lock().unwrap();
    if headers["x-hub-signature-256"] != signature("secret", body.as_bytes()) {
        heard.bad_signatures += 1;
    }
    if heard.refuse_next > 0 {
        heard.refuse_next -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    heard.bodies.push(serde_json::from_str(&body).unwrap());
    StatusCode::OK
}

async fn challenge(Query(query): Query<std::collections::HashMap<String, String>>) -> String {
    assert_eq!(query["hub.mode"], "subscribe");
    assert_eq!(query["hub.verify_token"], "verify");
    query["hub.challenge"].clone()
}

async fn rig() -> Rig {
    rig_with(|_| {}).await
}

/// A rig whose simulator is started with other options.
async fn rig_with(change: impl FnOnce(&mut Options)) -> Rig {
    let heard = Heard::default();
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook_url = format!("http://{}/hook", receiver.local_addr().unwrap());
    let app = Router::new().route("/hook", get(challenge).post(hear)).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(receiver, app).await });

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sim = format!("http://{}", listener.local_addr().unwrap());
    let mut options = Options {
        webhook_url: Some(webhook_url),
        app_secret: "secret".into(),
        access_token: "token".into(),
        verify_token: "verify".into(),
        phone_number_id: "1065".into(),
        display_phone_number: "33900000001".into(),
        business_account_id: "1022".into(),
        country_code: "33".into(),
        plan: StatusPlan {
            statuses: vec!["sent".into(), "delivered".into(), "read".into()],
            delay_ms: 5,
        },
        app_id: "6708".into(),
        limits: Limits::default(),
        scenario: None,
        seed: Some(1),
        public_url: None,
        verify_on_start: false,
    };
    change(&mut options);
    tokio::spawn(serve(listener, options));
    #[expect(clippy::disallowed_methods, reason = "a test's own client")]
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().unwrap();
    Rig { sim, client, heard }
}

fn template() -> Value {
    json!({"messaging_product": "whatsapp", "recipient_type": "individual", "to": "+33612345678", "type": "template",
        "biz_opaque_callback_data": "intent-1", "template": {"name": "news", "language": {"code": "fr"}}})
}

impl Rig {
    async fn send(&self, body: &Value) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}/v26/1065/messages", self.sim);
        let answer = self.client.post(url).bearer_auth("token").json(body).send().await?;
        Ok((answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null)))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer =
            self.client.post(format!("{}{path}", self.sim)).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    async fn messages(&self) -> Value {
        self.get("/_sim/messages").await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.sim)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// A call of the Graph API, with the token.
    async fn graph(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse::<reqwest::Method>().unwrap();
        let mut call =
            self.client.request(method, format!("{}/v26{path}", self.sim)).bearer_auth("token");
        if let Some(body) = body {
            call = call.json(&body);
        }
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    /// How often each broken rule was broken.
    async fn violations(&self) -> Value {
        let violations = self.get("/_sim/violations").await;
        let rules = violations["rules"].as_object().unwrap().iter();
        rules
            .filter(|(_, rule)| rule["count"] != 0)
            .map(|(name, rule)| (name.clone(), rule["count"].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// What the webhook heard of this field.
    fn heard_of(&self, field: &str) -> Vec<Value> {
        let heard = self.heard.0.lock().unwrap();
        heard.bodies.iter().filter(|it| change(it)["field"] == field).cloned().collect()
    }

    /// Waits until something is so.
    async fn until(&self, wanted: impl Fn() -> bool) {
        for _ in 0..500 {
            if wanted() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never was so: {:?}", self.heard.0.lock().unwrap().bodies);
    }

    /// Waits until the webhook heard something that `wanted` accepts.
    async fn hears(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let found =
                self.heard.0.lock().unwrap().bodies.iter().find(|body| wanted(body)).cloned();
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the webhook never heard it: {:?}", self.heard.0.lock().unwrap().bodies);
    }
}

fn change(body: &Value) -> &Value {
    &body["entry"][0]["changes"][0]
}

fn value(body: &Value) -> &Value {
    &change(body)["value"]
}

fn is_status(body: &Value, status: &str) -> bool {
    value(body)["statuses"][0]["status"] == status
}

#[tokio::test]
async fn an_accepted_message_is_answered_recorded_and_followed_by_signed_statuses() {
    let rig = rig().await;
    let before = boottime_ns();
    let (status, answer) = rig.send(&template()).await.unwrap();
    let after = boottime_ns();
    assert_eq!(status, 200);
    assert_eq!(answer["messages"][0]["message_status"], "accepted");
    assert_eq!(answer["contacts"][0], json!({"input": "+33612345678", "wa_id": "33612345678"}));

    let read = rig.hears(|body| is_status(body, "read")).await;
    assert_eq!(value(&read)["statuses"][0]["id"], answer["messages"][0]["id"]);
    assert_eq!(value(&read)["statuses"][0]["biz_opaque_callback_data"], "intent-1");
    assert_eq!(rig.heard.0.lock().unwrap().bad_signatures, 0);

    let call = &rig.messages().await["messages"][0];
    let (first, last) = (&call["first_byte_boottime_ns"], &call["last_byte_boottime_ns"]);
    assert!(before <= first.as_u64().unwrap() && first.as_u64() <= last.as_u64());
    assert!(last.as_u64().unwrap() <= after);
    assert_eq!(call["template"], "news");
    assert_eq!(call["statuses"], json!(["sent", "delivered", "read"]));
}

#[tokio::test]
async fn refusals_have_metas_shape_and_are_on_record() {
    let rig = rig().await;
    let url = format!("{}/v26/1065/messages", rig.sim);
    let answer = rig.client.post(&url).bearer_auth("wrong").json(&template()).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["code"], 190);
    assert_eq!(answer["error"]["type"], "OAuthException");

    let url = format!("{}/v26/999/messages", rig.sim);
    let answer = rig.client.post(&url).bearer_auth("token").json(&template()).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["error_subcode"], 33);

    let calls = rig.messages().await;
    assert_eq!(calls["messages"][0]["outcome"], "refused");
    assert_eq!(calls["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_call_without_a_body_is_counted_and_half_a_body_is_a_call() {
    let rig = rig().await;
    let address = rig.sim.strip_prefix("http://").unwrap();
    let head = "POST /v26/1065/messages HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer token\r\nContent-Length: 100\r\n\r\n";
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(head.as_bytes()).await.unwrap();
    drop(silent);
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(format!("{head}{{\"messaging").as_bytes()).await.unwrap();
    drop(half);
    for _ in 0..500 {
        let seen = rig.messages().await;
        if seen["calls_without_body"] == 1 && seen["messages"][0]["outcome"] == "aborted" {
            assert_eq!(seen["messages"][0]["last_byte_boottime_ns"], Value::Null);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", rig.messages().await);
}

#[tokio::test]
async fn the_first_byte_is_the_bodys_not_the_heads() {
    let rig = rig().await;
    let mut call = TcpStream::connect(rig.sim.strip_prefix("http://").unwrap()).await.unwrap();
    let body = template().to_string();
    let head = format!(
        "POST /v26/1065/messages HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer token\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    call.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // The fault: a body withheld for a while.
    let body_began = boottime_ns();
    call.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    call.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let first = rig.messages().await["messages"][0]["first_byte_boottime_ns"].as_u64().unwrap();
    assert!(first >= body_began);
}

#[tokio::test]
async fn faults_strike_as_often_as_asked_and_only_whom_they_name() {
    let rig = rig().await;
    rig.post(
        "/_sim/faults",
        &json!({"next": 1, "kind": "error", "code": 131_056, "for_to": "+33612345678"}),
    )
    .await;
    let mut other = template();
    other["to"] = json!("+33699999999");
    assert_eq!(rig.send(&other).await.unwrap().0, 200);
    let (status, answer) = rig.send(&template()).await.unwrap();
    assert_eq!((status, answer["error"]["code"].as_i64()), (400, Some(131_056)));
    assert_eq!(rig.send(&template()).await.unwrap().0, 200);

    rig.post("/_sim/faults", &json!({"kind": "http_status", "status": 502})).await;
    assert_eq!(rig.send(&template()).await.unwrap().0, 502);

    rig.post("/_sim/faults", &json!({"kind": "drop_connection"})).await;
    assert!(rig.send(&template()).await.is_err());
    let calls = rig.messages().await;
    let dropped = calls["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(dropped["outcome"], "accepted");
    let id = dropped["wamid"].clone();
    rig.hears(|body| is_status(body, "read") && value(body)["statuses"][0]["id"] == id).await;

    rig.post("/_sim/faults", &json!({"next": 3, "kind": "failed_status", "code": 131_050})).await;
    assert_eq!(rig.send(&template()).await.unwrap().0, 200);
    let failed = rig.hears(|body| is_status(body, "failed")).await;
    assert_eq!(value(&failed)["statuses"][0]["errors"][0]["code"], 131_050);
    rig.client.delete(format!("{}/_sim/faults", rig.sim)).send().await.unwrap();
    let faults: Value = rig
        .client
        .get(format!("{}/_sim/faults", rig.sim))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(faults["faults"], json!([]));
}

#[tokio::test]
async fn an_inbound_message_answers_with_the_webhooks_status_and_is_retried_until_200() {
    let rig = rig().await;
    rig.heard.0.lock().unwrap().refuse_next = 1;
    let (status, answer) =
        rig.post("/_sim/inbound", &json!({"from": "+33612345678", "text": "STOP"})).await;
    assert_eq!((status, answer["webhook_status"].as_u64()), (503, Some(503)));
    let heard = rig.hears(|body| value(body)["messages"][0]["text"]["body"] == "STOP").await;
    assert_eq!(value(&heard)["messages"][0]["from"], "33612345678");
    assert_eq!(value(&heard)["messages"][0]["id"], answer["id"]);

    let (status, _) = rig
        .post("/_sim/inbound", &json!({"user_id": "FR.abc123", "button": {"payload": "stop", "text": "Stop promotions"}}))
        .await;
    assert_eq!(status, 200);
    let heard = rig.hears(|body| value(body)["messages"][0]["type"] == "button").await;
    assert_eq!(value(&heard)["messages"][0]["from_user_id"], "FR.abc123");
    assert_eq!(value(&heard)["messages"][0].get("from"), None);

    let (status, _) =
        rig.post("/_sim/preferences", &json!({"from": "33612345678", "value": "stop"})).await;
    assert_eq!(status, 200);
    let heard = rig.hears(|body| value(body).get("user_preferences").is_some()).await;
    assert_eq!(value(&heard)["user_preferences"][0]["value"], "stop");
}

#[tokio::test]
async fn free_text_outside_the_window_is_accepted_and_then_fails_with_131047() {
    let rig = rig().await;
    let text = json!({"messaging_product": "whatsapp", "to": "+33612345678", "type": "text", "text": {"body": "hello"}});
    assert_eq!(rig.send(&text).await.unwrap().0, 200);
    let failed = rig.hears(|body| is_status(body, "failed")).await;
    assert_eq!(value(&failed)["statuses"][0]["errors"][0]["code"], 131_047);

    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "hi"})).await;
    let (_, answer) = rig.send(&text).await.unwrap();
    let id = answer["messages"][0]["id"].clone();
    rig.hears(|body| is_status(body, "read") && value(body)["statuses"][0]["id"] == id).await;
}

#[tokio::test]
async fn registered_templates_are_the_only_ones_and_marketing_ends_at_a_stop() {
    let rig = rig().await;
    let templates = json!([{"name": "news", "language": "fr", "category": "MARKETING"}]);
    rig.client.put(format!("{}/_sim/templates", rig.sim)).json(&templates).send().await.unwrap();
    let mut unknown = template();
    unknown["template"]["name"] = json!("olds");
    assert_eq!(rig.send(&unknown).await.unwrap().1["error"]["code"], 132_001);
    rig.post("/_sim/preferences", &json!({"from": "33612345678", "value": "stop"})).await;
    assert_eq!(rig.send(&template()).await.unwrap().0, 200);
    let failed = rig.hears(|body| is_status(body, "failed")).await;
    assert_eq!(value(&failed)["statuses"][0]["errors"][0]["code"], 131_050);
}

#[tokio::test]
async fn the_handshake_wants_its_challenge_back() {
    let rig = rig().await;
    assert_eq!(rig.post("/_sim/verify", &json!({})).await.0, 204);
}
