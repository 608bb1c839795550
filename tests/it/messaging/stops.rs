//! Stops: heard at the door whatever is down, held until the consent service holds them.

use assent_runtime::{Clock as _, SystemClock};
use jiff::Timestamp;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use uuid::Uuid;

use super::stand_ins::{Home, Manner, Neighbours, Provider, Setup, phone, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

const PENDING: &str = "SELECT count(*) FROM declarations WHERE settled_at IS NULL";

#[tokio::test(flavor = "multi_thread")]
async fn g9_a_stop_is_taken_with_consent_and_vault_down_and_arrives_when_they_are_back() {
    let home = Home::new().await;
    let provider = Provider::serve().await;
    // Bound and not listening: whoever connects is refused, and nobody else gets the port.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = reserved.local_addr().unwrap();
    let replica = home.start(&Setup::new(address, provider.address)).await;
    assert_eq!(replica.hears(1, "STOP").await, 200);
    assert_eq!(replica.count(PENDING).await, 1);
    assert_eq!(replica.count("SELECT count(*) FROM webhook_bodies").await, 1);
    // A stranger's stop, known by user id only, holds too.
    let stop = json!({"from_user_id": "FR.abc", "id": "wamid.s", "type": "button",
        "button": {"payload": "x", "text": "Stop promotions"}});
    assert_eq!(replica.webhook(json!({"messages": [stop]})).await, 200);
    assert_eq!(replica.count(PENDING).await, 2);

    let neighbours = Neighbours::serve(reserved.listen(1_024).unwrap(), home.index.clone());
    until("both stops arrive", async || neighbours.stops().len() == 2).await;
    until("settled", async || replica.count(PENDING).await == 0).await;
    let tokens: Vec<_> = neighbours.stops().iter().map(|stop| stop["addresses"].clone()).collect();
    assert!(tokens.contains(&json!(home.index.tokens(&phone(1)))));
    assert!(tokens.contains(&json!(home.index.tokens("FR.abc"))));
    let heard = "SELECT count(*) FROM eventstore.events
        WHERE event_type = 'assent.messaging.stop_heard.v1'";
    assert_eq!(replica.count(heard).await, 2);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_an_unforwarded_stop_blocks_although_the_gate_still_allows() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    neighbours.refuse_stops(true);
    assert_eq!(replica.hears(1, "Arrêt !").await, 200);
    let message = replica.send(subject).await;
    let view = replica.settled(message).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &json!(["stopped"])));
    assert!(provider.bodies().is_empty());

    // Back again: it is settled, and the one confirmation goes out.
    neighbours.refuse_stops(false);
    until("the confirmation", async || provider.bodies().len() == 1).await;
    let text = provider.bodies()[0]["text"]["body"].as_str().unwrap().to_owned();
    assert!(text.starts_with("Vous ne recevrez plus"), "in the language of her word: {text}");
    assert_eq!(replica.count(PENDING).await, 0);
    assert_eq!(replica.hears(1, "stop").await, 200);
    until("the second stop", async || neighbours.stops().len() == 2).await;
    until("settled", async || replica.count(PENDING).await == 0).await;
    let confirmations = "SELECT count(*) FROM intents WHERE purpose = 'stop_confirmation'";
    assert_eq!(replica.count(confirmations).await, 1, "one confirmation a day");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_webhook_declares_nothing_anew() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    let stop = json!({"messages": [{"from": "33612300001", "id": "wamid.same", "type": "text",
        "text": {"body": "stop"}}]});
    for _ in 0..3 {
        assert_eq!(replica.webhook(stop.clone()).await, 200);
    }
    assert_eq!(replica.count("SELECT count(*) FROM declarations").await, 1);
    until("processed", async || replica.count("SELECT count(*) FROM webhook_bodies").await == 0)
        .await;
    assert_eq!(replica.count("SELECT count(*) FROM inbound_messages").await, 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_opt_out_error_is_a_stop() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    provider.manner(Manner::Refuses(131_050));
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let message = replica.send(neighbours.person(1)).await;
    let view = replica.settled(message).await;
    assert_eq!((&view["state"], &view["provider_code"]), (&json!("failed"), &json!(131_050)));
    until("the stop arrives", async || neighbours.stops().len() == 1).await;
    assert_eq!(neighbours.stops()[0]["addresses"], json!(home.index.tokens(&phone(1))));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_by_a_stranger_makes_her_known_and_grants() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    assert_eq!(replica.hears(5, "START").await, 200);
    until("the grant", async || neighbours.grants().len() == 1).await;
    let grant = &neighbours.grants()[0];
    assert_eq!(
        (&grant["actor"], &grant["method"]),
        (&json!("subject"), &json!("whatsapp_message"))
    );
    assert_eq!(grant["addresses"], json!(home.index.tokens(&phone(5))));
    until("settled, its number gone", async || {
        replica
            .count(
                "SELECT count(*) FROM declarations WHERE settled_at IS NULL OR phone IS NOT NULL",
            )
            .await
            == 0
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_never_lifts_a_stop_that_was_heard_after_it() {
    let home = Home::new().await;
    let provider = Provider::serve().await;
    // Bound and not listening: whoever connects is refused, and nobody else gets the port.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = reserved.local_addr().unwrap();
    let replica = home.start(&Setup::new(address, provider.address)).await;
    // Nothing can be forwarded yet: start, then stop.
    assert_eq!(replica.hears(1, "start").await, 200);
    assert_eq!(replica.hears(1, "stop").await, 200);
    // An attempt that began before the stop was heard fails; the next one sees it.
    until("the start is overruled", async || replica.count(PENDING).await == 1).await;
    let neighbours = Neighbours::serve(reserved.listen(1_024).unwrap(), home.index.clone());
    until("settled", async || replica.count(PENDING).await == 0).await;
    assert_eq!(neighbours.stops().len(), 1);
    assert!(neighbours.grants().is_empty());
    replica.stop().await;
}

/// Trap 6: a webhook is repeated for up to seven days. What comes late counts from when it was said,
/// so it can't beat what she said elsewhere since.
#[tokio::test(flavor = "multi_thread")]
async fn trap_6_a_start_that_comes_late_is_granted_as_of_when_it_was_said() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let said = SystemClock.now().as_second() - 3 * 86_400;
    let inbound = json!({"from": "33612300005", "id": "wamid.LATE", "type": "text",
        "timestamp": said.to_string(), "text": {"body": "START"}});
    replica.webhook(json!({"messages": [inbound]})).await;
    until("the grant", async || neighbours.grants().len() == 1).await;
    let acted_at = neighbours.grants()[0]["acted_at"].as_str().unwrap().to_owned();
    assert_eq!(acted_at.parse::<Timestamp>().unwrap().as_second(), said);
    // What comes at once counts from when it was heard: the provider's times are whole seconds.
    let before = SystemClock.now();
    assert_eq!(replica.hears(6, "START").await, 200);
    let after = SystemClock.now();
    until("the grant", async || neighbours.grants().len() == 2).await;
    let acted_at = neighbours.grants()[1]["acted_at"].as_str().unwrap().to_owned();
    assert!((before..=after).contains(&acted_at.parse::<Timestamp>().unwrap()), "{acted_at}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_webhook_leaves_no_trace_and_a_broken_one_is_kept() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    assert_eq!(replica.raw_webhook("{\"entry\":[]}", "another secret").await, 401);
    assert_eq!(replica.count("SELECT count(*) FROM webhook_bodies").await, 0);
    assert_eq!(replica.raw_webhook("no json", "app secret").await, 200);
    until("parked", async || {
        replica.count("SELECT count(*) FROM webhook_bodies WHERE parked IS NOT NULL").await == 1
    })
    .await;
    replica.stop().await;
}

/// What is at rest: no column of any table holds a number, a word or a provider's id in plain.
#[tokio::test(flavor = "multi_thread")]
async fn g5_nothing_that_identifies_is_stored_in_plain() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    // Long enough that no ciphertext has it by chance.
    let body = json!({"subject_id": neighbours.person(1), "purpose": "marketing",
        "channel": "whatsapp", "template": "hello", "parameters": ["Adalbertine Kanarienvogel"]});
    let (status, queued) = replica.post("/v1/messages", body).await;
    assert_eq!(status, 202, "{queued}");
    let message = queued["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(message).await["state"], "accepted");
    let inbound = json!({"from": "33612300001", "id": "wamid.HBgLMzM2MTIzMDAwMDE", "type": "text",
        "text": {"body": "canary words"}});
    replica.webhook(json!({"messages": [inbound]})).await;
    until("processed", async || replica.count("SELECT count(*) FROM inbound_messages").await == 1)
        .await;
    replica.hears(1, "START").await;
    until("granted", async || neighbours.grants().len() == 1).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
         WHERE schemaname IN ('public', 'eventstore')",
    )
    .fetch_all(replica.messaging.store.pool())
    .await
    .unwrap();
    for table in tables {
        for canary in ["33612300001", "canary words", "Adalbertine", "HBgLMzM2MTIzMDAwMDE"] {
            let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
            let query = format!(
                "SELECT count(*) FROM {table} AS t WHERE position($1 in t::text) + position($2 in t::text) > 0"
            );
            let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .bind(canary)
                .bind(hex)
                .fetch_one(replica.messaging.store.pool())
                .await
                .unwrap();
            assert_eq!(found, 0, "{canary} in {table}");
        }
    }
    replica.stop().await;
}

/// What a code means is the consent service's to say; a code of somebody else's number does nothing, and
/// one that a stop came after is never brought there.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_heard_and_does_what_the_consent_service_says() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let settled = async || {
        until("settled", async || replica.count(PENDING).await == 0).await;
    };
    assert_eq!(replica.hears(1, "I agree. 7f3k2-9qmxa").await, 200);
    until("the code arrives", async || neighbours.codes().len() == 1).await;
    settled().await;
    let heard = neighbours.codes().remove(0);
    assert_eq!((&heard["code"], &heard["sentence"]), (&json!("7F3K2-9QMXA"), &json!("agree")));
    assert_eq!(heard["addresses"], json!(home.index.tokens(&phone(1))));
    assert!(neighbours.grants().is_empty(), "it meant nothing");

    neighbours.codes_mean(json!({"meaning": "join", "purpose": "news", "channel": "whatsapp",
        "notice_hash": "ab"}));
    assert_eq!(replica.hears(1, "7F3K2-9QMXA").await, 200);
    until("the grant", async || neighbours.grants().len() == 1).await;
    let granted = neighbours.grants().remove(0);
    let said = (&granted["purpose"], &granted["method"], &granted["notice_hash"]);
    assert_eq!(said, (&json!("news"), &json!("click_to_chat"), &json!("ab")));
    settled().await;
    let phones = "SELECT count(*) FROM declarations WHERE phone IS NOT NULL";
    assert_eq!(replica.count(phones).await, 0, "the number goes as soon as it is not needed");

    // That the number is hers may not be known yet; after some tries it is taken for somebody else's.
    neighbours.codes_mean(json!({"meaning": "not_hers"}));
    let before = neighbours.codes().len();
    assert_eq!(replica.hears(2, "7F3K2-9QMXA").await, 200);
    settled().await;
    assert_eq!(neighbours.codes().len() - before, 10);
    assert_eq!(neighbours.grants().len(), 1);

    // The stop is heard, and said, after the code: the code is worth nothing any more.
    let (before, grants) = (neighbours.codes().len(), neighbours.grants().len());
    let both = json!({"messages": [
        {"from": "33612300003", "id": "wamid.c", "type": "text", "text": {"body": "7F3K2-9QMXA"}},
        {"from": "33612300003", "id": "wamid.s", "type": "text", "text": {"body": "stop"}}]});
    assert_eq!(replica.webhook(both).await, 200);
    until("the stop arrives", async || neighbours.stops().len() == 1).await;
    settled().await;
    assert_eq!((neighbours.codes().len(), neighbours.grants().len()), (before, grants));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_may_be_a_stop_hold_marketing_until_a_human_has_read_them() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let open = async || replica.get("/v1/tasks").await["items"].as_array().cloned().unwrap();
    assert_eq!(replica.hears(1, "Please stop writing to me").await, 200);
    replica.processed().await;
    let tasks = open().await;
    let [task] = &tasks[..] else { panic!("{tasks:?}") };
    assert_eq!((&task["kind"], &task["subject_id"]), (&json!("stop_unclear"), &json!(subject)));
    let listed = replica.get("/v1/conversations").await;
    let hers = &listed["items"][0];
    assert_eq!((&hers["state"], &hers["reason"]), (&json!("waiting"), &json!("stop_unclear")));

    let message = replica.send(subject).await;
    assert_eq!(replica.waits(message).await, ["stop_unclear"]);
    let answer = json!({"subject_id": subject, "purpose": "service", "channel": "whatsapp",
        "content": {"type": "text", "body": "Do you mean all messages?"}});
    let (status, answer) = replica.post("/v1/messages", answer).await;
    assert_eq!(status, 202, "{answer}");
    let answered: Uuid = answer["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(answered).await["state"], "accepted", "she can be answered");
    assert_eq!(replica.look(message, 0).await["state"], "queued");

    // It was none.
    let close = format!("/v1/tasks/{}/close", task["task_id"].as_str().unwrap());
    assert_eq!(replica.post(&close, json!({})).await.0, 200);
    assert_eq!(replica.settled(message).await["state"], "accepted");
    assert!(neighbours.stops().is_empty());

    // It was one.
    assert_eq!(replica.hears(1, "Laissez-moi tranquille !").await, 200);
    replica.processed().await;
    let close = format!("/v1/tasks/{}/close", open().await[0]["task_id"].as_str().unwrap());
    let other = neighbours.person(2);
    assert_eq!(replica.post(&close, json!({"subject_id": other})).await.0, 422);
    assert_eq!(replica.post(&close, json!({"subject_id": subject})).await.0, 200);
    until("it is her stop", async || neighbours.stops().len() == 1).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_clearly_what_she_wants_is_not_waited_for() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    let open = "SELECT count(*) FROM tasks WHERE closed_at IS NULL";
    for word in ["START", "STOP"] {
        assert_eq!(replica.hears(1, "no more ads").await, 200);
        replica.processed().await;
        assert_eq!(replica.count(open).await, 1);
        assert_eq!(replica.hears(1, word).await, 200);
        until(&format!("{word} answers it"), async || replica.count(open).await == 0).await;
    }
    replica.stop().await;
}
