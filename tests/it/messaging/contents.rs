//! What messages may hold: templates with all their places, free-form content while the window is open, marks.

use assent_runtime::{Clock as _, SystemClock};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::stand_ins::{Home, Neighbours, Provider, Replica, Setup, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

async fn asks(replica: &Replica, subject: Uuid, more: Value) -> (u16, Value) {
    let mut body = json!({"subject_id": subject, "purpose": "service", "channel": "whatsapp"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    replica.post("/v1/messages", body).await
}

async fn writes(replica: &Replica, n: usize) -> Uuid {
    replica.hears(n, "when do you open?").await;
    replica.processed().await;
    sqlx::query_scalar("SELECT id FROM inbound_messages ORDER BY received_at DESC LIMIT 1")
        .fetch_one(replica.messaging.store.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_content_goes_out_while_the_window_is_open_and_none_afterwards() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let text = json!({"content": {"type": "text", "body": "We open at nine."}});
    let (status, problem) = asks(&replica, subject, text.clone()).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("window_closed")));

    let hers = writes(&replica, 1).await;
    let kinds = [
        (json!({"type": "text", "body": "We open at nine."}), "text"),
        (json!({"type": "image", "link": "https://shop.example/a.png", "caption": "c"}), "image"),
        (json!({"type": "document", "id": "7", "filename": "a.pdf"}), "document"),
        (json!({"type": "location", "latitude": 45.7, "longitude": 4.8}), "location"),
        (
            json!({"type": "buttons", "body": "b", "buttons": [{"id": "y", "title": "Yes"}]}),
            "interactive",
        ),
        (
            json!({"type": "list", "body": "b", "button": "c", "sections": [{"rows": [{"id": "r", "title": "t"}]}]}),
            "interactive",
        ),
        (json!({"type": "reaction", "message_id": hers, "emoji": "👍"}), "reaction"),
    ];
    for (at, (content, wire)) in kinds.iter().enumerate() {
        let (status, queued) = asks(&replica, subject, json!({"content": content})).await;
        assert_eq!(status, 202, "{queued}");
        let message = queued["message_id"].as_str().unwrap().parse().unwrap();
        let view = replica.settled(message).await;
        assert_eq!((&view["state"], &view["kind"]), (&json!("accepted"), &content["type"]));
        let body = provider.bodies()[at].clone();
        assert_eq!((&body["type"], &body["to"]), (&json!(wire), &json!("+33612300001")));
    }
    // Her message's id at the provider, which is stored sealed only.
    let reaction = provider.bodies()[6]["reaction"].clone();
    assert!(reaction["message_id"].as_str().unwrap().starts_with("wamid."));
    // Somebody else's message is none to react to.
    let other = neighbours.person(2);
    let theirs = json!({"content": {"type": "reaction", "message_id": hers, "emoji": "👍"}});
    let (status, problem) = asks(&replica, other, theirs).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("message_unknown")));

    // The window closes between the asking and the sending.
    replica.hold_number().await;
    let (_, queued) = asks(&replica, subject, text.clone()).await;
    let message = queued["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.waits(message).await, ["number_held_back"]);
    replica.sql("UPDATE inbound_messages SET said_at = now() - interval '25 hours'").await;
    replica.let_go().await;
    let view = replica.settled(message).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &json!(["window_closed"])));
    assert_eq!(asks(&replica, subject, text).await.0, 409);
    assert_eq!(provider.bodies().len(), kinds.len());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_by_an_advertisement_is_answered_by_the_first_message_that_is_taken() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let comes = async |wamid: &str, source: &str| {
        let message = json!({"from": "33612300001", "id": wamid, "type": "text",
            "text": {"body": "hello"}, "referral": {"source_type": source}});
        assert_eq!(replica.webhook(json!({"messages": [message]})).await, 200);
        replica.processed().await;
    };
    comes("wamid.A", "post").await;
    assert_eq!(replica.count("SELECT count(*) FROM free_entries").await, 0);
    comes("wamid.B", "ad").await;
    let free_until = async || {
        let list = replica.get(&format!("/v1/conversations?subject_id={subject}")).await;
        let id = list["items"][0]["conversation_id"].as_str().unwrap();
        let shown = replica.get(&format!("/v1/conversations/{id}")).await;
        assert_eq!(shown["free_until"], list["items"][0]["free_until"]);
        let moment = |key: &str| shown[key].as_str().map(|at| at.parse::<Timestamp>().unwrap());
        (moment("free_until"), moment("window_until").unwrap())
    };
    assert_eq!(free_until().await.0, None, "nobody has answered her");
    let before = SystemClock.now();
    let open = "SELECT count(*) FROM free_entries WHERE answered_at IS NULL";
    assert_eq!(replica.count(open).await, 1);
    let text = json!({"content": {"type": "text", "body": "Good day."}});
    let (_, queued) = asks(&replica, subject, text).await;
    let message = queued["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(message).await["state"], "accepted");
    assert_eq!(replica.count(open).await, 0);
    let (free, window) = free_until().await;
    let free = free.unwrap();
    let length = SignedDuration::from_hours(72);
    assert!(before + length <= free && free <= SystemClock.now() + length, "{free}");
    assert!(window < free, "what may be sent is another matter");
    // While messages are free, coming again changes nothing.
    comes("wamid.C", "ad").await;
    assert_eq!(replica.count(open).await, 0);
    assert_eq!(free_until().await.0, Some(free));
    replica.sql("UPDATE free_entries SET answered_at = answered_at - interval '72 hours'").await;
    assert_eq!(free_until().await.0, None, "it is over");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_would_not_take_is_not_queued() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    writes(&replica, 1).await;
    for (more, detail) in [
        (json!({}), "a message has either a template or content"),
        (
            json!({"template": "hello", "content": {"type": "text", "body": "b"}}),
            "a message has either",
        ),
        (
            json!({"content": {"type": "text", "body": "b"}, "parameters": ["Ada"]}),
            "content has no template's values",
        ),
        (json!({"content": {"type": "text", "body": ""}}), "content.body must have 1 to 4096"),
        (json!({"template": "hello", "parameters": ["a\nb"]}), "parameters must hold something"),
        (
            json!({"content": {"type": "image", "link": "http://a.example/b"}}),
            "content.link must begin",
        ),
    ] {
        let (status, problem) = asks(&replica, subject, more).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("validation_failed")));
        assert!(problem["detail"].as_str().unwrap().starts_with(detail), "{problem}");
    }
    assert_eq!(replica.count("SELECT count(*) FROM intents").await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_version_and_the_one_before_get_the_same_bodies_and_a_user_id_is_a_recipient() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let (by_phone, by_id) = (neighbours.person(1), neighbours.person_by_user_id("FR.1a2b"));
    for version in ["v26.0", "v25.0"] {
        let mut setup = Setup::new(neighbours.address, provider.address);
        setup.version = version;
        let replica = home.start(&setup).await;
        for subject in [by_phone, by_id] {
            let message = replica.send(subject).await;
            assert_eq!(replica.settled(message).await["state"], "accepted");
        }
        replica.stop().await;
    }
    let lines: Vec<String> = provider.requests();
    for (at, version) in ["v26.0", "v26.0", "v25.0", "v25.0"].into_iter().enumerate() {
        assert_eq!(lines[at], format!("post /{version}/106540352242922/messages http/1.1"));
    }
    let bodies: Vec<Value> = provider
        .bodies()
        .into_iter()
        .map(|mut body| {
            body.as_object_mut().unwrap().remove("biz_opaque_callback_data");
            body
        })
        .collect();
    assert_eq!((&bodies[0], &bodies[1]), (&bodies[2], &bodies[3]));
    assert_eq!((&bodies[0]["to"], bodies[0].get("recipient")), (&json!("+33612300001"), None));
    assert_eq!((bodies[1].get("to"), &bodies[1]["recipient"]), (None, &json!("FR.1a2b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn she_sees_that_her_message_was_read_and_whoever_is_fenced_does_not() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let hers = writes(&replica, 1).await;
    let path = format!("/v1/inbound/{hers}/read");
    assert_eq!(replica.post(&path, json!({"typing": true})).await.0, 200);
    let mark = provider.bodies()[0].clone();
    assert_eq!(
        (&mark["status"], &mark["typing_indicator"]["type"]),
        (&json!("read"), &json!("text"))
    );
    assert!(mark["message_id"].as_str().unwrap().starts_with("wamid."));
    let called = "UPDATE send_rates SET called_until = clock_timestamp() + interval '1 minute'";
    sqlx::query(called).execute(replica.messaging.store.pool()).await.unwrap();
    let (status, problem) = replica.post(&path, json!({})).await;
    assert_eq!((status, &problem["code"]), (429, &json!("rate_limited")), "what is called counts");
    let nobody = format!("/v1/inbound/{}/read", Uuid::from_u128(7));
    assert_eq!(replica.post(&nobody, json!({})).await.0, 404);
    sqlx::query("INSERT INTO fences VALUES ($1, $1, now())")
        .bind(subject)
        .execute(replica.messaging.store.pool())
        .await
        .unwrap();
    assert_eq!(replica.post(&path, json!({})).await.0, 410);
    assert_eq!(provider.bodies().len(), 1);
    until("nothing waits", async || replica.count("SELECT count(*) FROM intents").await == 0).await;
    replica.stop().await;
}
