//! What people ask for about their data by a message: handed over once, however long that takes, shown by their number
//! alone, and nobody's where it is in doubt who asks.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::stand_ins::{Home, Neighbours, Provider, Replica, Setup, phone, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

const OPEN: &str = "SELECT count(*) FROM asked_requests WHERE settled_at IS NULL";

/// All that was asked for has arrived where it counts.
async fn handed_over(replica: &Replica) {
    replica.processed().await;
    until("handed over", async || replica.count(OPEN).await == 0).await;
}

async fn tasks(replica: &Replica) -> Vec<Value> {
    replica.get("/v1/tasks").await["items"].as_array().cloned().unwrap()
}

/// A jest, or somebody with her telephone in hand for a moment, stops messages and destroys nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_by_message_stops_at_once_and_begins_only_when_she_says_that_she_is_sure() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    assert_eq!(replica.hears(1, "Supprimez mes données !").await, 200);
    handed_over(&replica).await;
    let asked = neighbours.requests();
    let [(request, body)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((&body["subject_id"], &body["kind"]), (&json!(subject), &json!("erasure")));
    assert_eq!((&body["origin"], &body["actor"]), (&json!("whatsapp_message"), &json!("subject")));
    assert!(body["received_at"].is_string() && body["identity"].is_null(), "{body}");
    until("the stop arrives", async || neighbours.stops().len() == 1).await;
    until("she is told", async || provider.bodies().len() == 1).await;
    let told = provider.bodies()[0]["text"]["body"].as_str().unwrap().to_owned();
    assert!(told.starts_with("Vous ne recevrez plus"), "in her language: {told}");
    assert!(told.ends_with("OUI, SUPPRIMEZ MES DONNÉES"), "what shows that she means it: {told}");

    // Said again it is the same request, and still not meant for certain.
    assert_eq!(replica.hears(1, "effacez mes données").await, 200);
    handed_over(&replica).await;
    assert_eq!((neighbours.requests().len(), neighbours.confirmed().len()), (1, 0));

    // Somebody else's yes is nobody's for her.
    neighbours.person(2);
    assert_eq!(replica.hears(2, "oui, supprimez mes données").await, 200);
    handed_over(&replica).await;
    assert!(neighbours.confirmed().is_empty());
    assert_eq!(neighbours.requests().len(), 2, "it asks for herself, for the first time");

    assert_eq!(replica.hears(1, "Oui supprimez mes données").await, 200);
    handed_over(&replica).await;
    let confirmed = neighbours.confirmed();
    let [(of, check)] = &confirmed[..] else { panic!("{confirmed:?}") };
    assert_eq!((of, &check["method"]), (request, &json!("number_reply")));
    assert_eq!(neighbours.requests().len(), 2);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_she_asks_for_by_message_arrives_once_whatever_is_lost_or_comes_again() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    neighbours.lose_requests(3);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let asks = json!({"messages": [{"from": phone(1).trim_start_matches('+'), "id": "wamid.ask",
        "type": "text", "text": {"body": "What do you know about me?"}}]});
    for _ in 0..3 {
        assert_eq!(replica.webhook(asks.clone()).await, 200);
    }
    handed_over(&replica).await;
    assert_eq!(neighbours.losing(), 0, "its answer was lost, and it was brought again");
    let asked = neighbours.requests();
    let [(_, body)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((&body["subject_id"], &body["kind"]), (&json!(subject), &json!("access")));
    assert_eq!(body["identity"]["method"], "number_reply", "her number shows it");
    assert!(neighbours.stops().is_empty(), "it is no stop");
    // No bot takes it for a question: a human tells her how it goes on.
    let listed = replica.get("/v1/conversations").await;
    let hers = &listed["items"][0];
    assert_eq!((&hers["state"], &hers["reason"]), (&json!("waiting"), &json!("request")));

    // Asked in other words on the same day it is the same request.
    assert_eq!(replica.hears(1, "Show me my data!").await, 200);
    handed_over(&replica).await;
    assert_eq!(neighbours.requests().len(), 1);
    // A sentence that holds the words asks for nothing.
    assert_eq!(replica.hears(1, "I said: what do you know about me, please").await, 200);
    handed_over(&replica).await;
    assert_eq!(neighbours.requests().len(), 1);
    replica.stop().await;
}

/// Trap 19: whoever has her number or name by now gets nothing of hers, and destroys nothing.
#[tokio::test(flavor = "multi_thread")]
async fn trap_19_where_it_is_in_doubt_who_asks_nothing_is_asked_in_her_name() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    // By what was told here, by the vault's word, after a long silence.
    let moved = neighbours.person(1);
    let news = json!({"messages": [{"from": phone(1).trim_start_matches('+'), "type": "system",
        "id": "wamid.moved", "system": {"type": "user_changed_number",
        "wa_id": phone(11).trim_start_matches('+')}}]});
    assert_eq!(replica.webhook(news).await, 200);
    replica.processed().await;
    let doubted = neighbours.person(2);
    neighbours.doubt(doubted);
    let silent = neighbours.person(3);
    neighbours.since(silent, "2020-01-01T00:00:00Z".parse().unwrap());
    for n in 1..=3 {
        for body in ["show me my data", "delete my data", "yes, delete my data"] {
            assert_eq!(replica.hears(n, body).await, 200);
        }
    }
    handed_over(&replica).await;
    assert!(neighbours.requests().is_empty() && neighbours.confirmed().is_empty());
    let tasks = tasks(&replica).await;
    for subject in [moved, doubted, silent] {
        let hers = tasks.iter().filter(|it| it["kind"] == "request_in_doubt");
        let hers = hers.filter(|it| it["subject_id"] == json!(subject));
        let mut reasons: Vec<&str> = hers.map(|it| it["reason"].as_str().unwrap()).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["asks_access", "asks_erasure"], "{tasks:?}");
    }
    // Whoever asked to be erased has said stop, whoever that is.
    until("the stops arrive", async || neighbours.stops().len() >= 3).await;

    // A human has looked, and closes it; somebody verified the number, so that now she may ask.
    let asked = |it: &&Value| it["kind"] == "request_in_doubt" && it["subject_id"] == json!(silent);
    let task = tasks.iter().find(asked).unwrap();
    let close = format!("/v1/tasks/{}/close", task["task_id"].as_str().unwrap());
    assert_eq!(replica.post(&close, json!({})).await.0, 200);
    let trusted = json!({"subject_id": silent, "reason": "rang_her"});
    assert_eq!(replica.post("/v1/sender/trust", trusted).await.1["lifted"], true);
    assert_eq!(replica.hears(3, "show me my data").await, 200);
    handed_over(&replica).await;
    let asked = neighbours.requests();
    let [(_, body)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(body["subject_id"], json!(silent));
    replica.stop().await;
}

/// Her user id alone is no number: what she asks for is taken in, and an operator finds out who asks.
#[tokio::test(flavor = "multi_thread")]
async fn without_her_number_a_request_is_taken_in_and_shown_by_nothing() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person_by_user_id("FR.7");
    for (n, text) in ["delete my data", "yes, delete my data", "show me my data"].iter().enumerate()
    {
        let message = json!({"from_user_id": "FR.7", "id": format!("wamid.{n}"), "type": "text",
            "text": {"body": text}});
        assert_eq!(replica.webhook(json!({"messages": [message]})).await, 200);
    }
    handed_over(&replica).await;
    let asked = neighbours.requests();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for (_, body) in &asked {
        assert_eq!(body["subject_id"], json!(subject));
        assert!(body["identity"].is_null(), "{body}");
    }
    assert!(neighbours.confirmed().is_empty());
    replica.stop().await;
}

/// Asked again from her number it is shown by that, also where it came from a user id alone before; an erasure isn't.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_again_from_her_number_is_shown_by_it() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    assert_eq!(replica.hears(1, "show me my data").await, 200);
    handed_over(&replica).await;
    let asked = neighbours.requests();
    let [(request, _)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(replica.hears(1, "show me my data").await, 200);
    handed_over(&replica).await;
    let confirmed = neighbours.confirmed();
    let [(of, check)] = &confirmed[..] else { panic!("{confirmed:?}") };
    assert_eq!((of, &check["reason"]), (request, &json!("message_from_number")));
    assert_eq!(neighbours.requests().len(), 1);
    replica.stop().await;
}

/// Where a hold lapsed two replicas bring the same message: that is nobody who says it twice.
#[tokio::test(flavor = "multi_thread")]
async fn one_message_that_is_brought_twice_confirms_no_erasure() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    assert_eq!(replica.hears(1, "yes, delete my data").await, 200);
    handed_over(&replica).await;
    replica.sql("UPDATE asked_requests SET settled_at = NULL, not_before = now()").await;
    handed_over(&replica).await;
    assert_eq!((neighbours.requests().len(), neighbours.confirmed().len()), (1, 0));
    let noted = "SELECT count(*) FROM asked_requests WHERE request_id IS NOT NULL";
    assert_eq!(replica.count(noted).await, 1);
    replica.stop().await;
}
