//! What a person asks for by a road of her own, against real Postgres and Kafka: her page and her messages bring it with
//! the proof of that road, and with no other right.

use assent_contracts::erasure::{REQUESTED, Step};
use assent_contracts::rights::{IDENTITY_CONFIRMED, REQUEST_OPENED};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{World, pace};

/// What a page or a message brings.
fn own(world: &World, kind: &str, origin: &str) -> Value {
    json!({"subject_id": world.subject, "kind": kind, "actor": "subject", "origin": origin})
}

fn shown(mut request: Value, method: &str) -> Value {
    request["identity"] = json!({"method": method, "reason": "own_road"});
    request
}

#[tokio::test]
async fn a_page_opens_a_request_with_its_signed_link_once_however_often_it_is_pressed() {
    let world = World::new("vault", pace()).await;
    let body = shown(own(&world, "erasure", "page"), "signed_link");
    let first = world.post("page", "/v1/requests", &body, Some("visit-1")).await;
    assert_eq!((first.0, &first.1["status"]), (StatusCode::CREATED, &json!("open")), "{}", first.1);
    assert_eq!(world.stops().len(), 1, "marketing stops before anything else");
    assert_eq!(world.post("page", "/v1/requests", &body, Some("visit-1")).await, first);
    assert_eq!(world.events(REQUEST_OPENED).await, 1);
    assert_eq!(world.data_of(REQUEST_OPENED).await["origin"], "page");
    let confirmed = world.data_of(IDENTITY_CONFIRMED).await;
    assert_eq!(confirmed["method"], "signed_link");
    assert!(confirmed["key"].is_string(), "who says so is on record");
    let fence = world.hears(Step::Fence, "vault").await;
    assert_eq!(json!(fence.request_id), first.1["request_id"]);
    world.stop().await;
}

#[tokio::test]
async fn a_key_of_hers_brings_her_own_requests_by_their_own_proof_and_may_do_nothing_else() {
    let world = World::new("vault", pace()).await;
    // No key brings what the other road shows, what nobody asked for, or what is about nobody.
    let mut unasked = own(&world, "erasure", "page");
    unasked["actor"] = json!("operator");
    let mut nobody = own(&world, "access", "page");
    nobody.as_object_mut().unwrap().remove("subject_id");
    for wrong in [
        shown(own(&world, "erasure", "page"), "number_reply"),
        shown(own(&world, "erasure", "page"), "operator"),
        shown(own(&world, "erasure", "whatsapp_message"), "signed_link"),
        unasked,
        nobody,
    ] {
        let (status, problem) = world.post("page", "/v1/requests", &wrong, None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}: {problem}");
    }
    // Nor does it bring what others bring, and what others may bring isn't hers.
    let mut brought = own(&world, "access", "page");
    brought.as_object_mut().unwrap().remove("origin");
    assert_eq!(world.post("page", "/v1/requests", &brought, None).await.0, StatusCode::FORBIDDEN);
    let page = own(&world, "access", "page");
    assert_eq!(world.post("operator", "/v1/requests", &page, None).await.0, StatusCode::FORBIDDEN);
    assert_eq!((world.events(REQUEST_OPENED).await, world.stops().len()), (0, 0));

    // A request that an operator took in is none of theirs to vouch for, and to decide on least of all.
    let (_, operators) = world.open("erasure", json!({})).await;
    let confirm = async |token: &str, request: &Value, method: &str| {
        let path = format!("/v1/requests/{}/identity", request["request_id"].as_str().unwrap());
        let check = json!({"method": method, "reason": "own_road"});
        world.post(token, &path, &check, None).await.0
    };
    for method in ["number_reply", "signed_link", "operator"] {
        assert_eq!(confirm("messages", &operators, method).await, StatusCode::FORBIDDEN);
    }
    // By a message she asks first, and says it again: only that shows it, and only by her number.
    let asked = own(&world, "erasure", "whatsapp_message");
    let (status, hers) = world.post("messages", "/v1/requests", &asked, None).await;
    assert_eq!((status, &hers["status"]), (StatusCode::CREATED, &json!("identity_pending")));
    for method in ["signed_link", "operator"] {
        assert_eq!(confirm("messages", &hers, method).await, StatusCode::FORBIDDEN);
    }
    let path = format!("/v1/requests/{}", hers["request_id"].as_str().unwrap());
    for what in ["refusal", "answer"] {
        let body = json!({"ground": "excessive"});
        let (status, _) = world.post("messages", &format!("{path}/{what}"), &body, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{what}");
    }
    assert_eq!(world.events(REQUESTED).await, 0, "nobody is erased yet");
    assert_eq!(confirm("messages", &hers, "number_reply").await, StatusCode::OK);
    assert_eq!(confirm("messages", &hers, "number_reply").await, StatusCode::OK, "said twice");
    assert_eq!(world.events(IDENTITY_CONFIRMED).await, 1);
    world.hears(Step::Fence, "vault").await;
    world.stop().await;
}

#[tokio::test]
async fn her_page_shows_the_secrets_of_what_she_asked_for_herself_and_of_nothing_else() {
    let world = World::new("consent", pace()).await;
    let (_, forged) = world.open("access", json!({})).await;
    let message = shown(own(&world, "access", "whatsapp_message"), "number_reply");
    let (_, hers) = world.post("messages", "/v1/requests", &message, Some("one")).await;
    let path = format!("/v1/subjects/{}/requests", world.subject);
    for token in ["messages", "intake"] {
        assert_eq!(world.get_as(token, &path).await.0, StatusCode::FORBIDDEN, "{token}");
    }
    let (status, text) = world.get_as("page", &path).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let listed: Value = serde_json::from_str(&text).unwrap();
    let [only] = &listed["items"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&only["secret"], &only["reference"]), (&hers["secret"], &hers["reference"]));
    assert_eq!((&only["origin"], &only["kind"]), (&json!("whatsapp_message"), &json!("access")));
    assert!(!text.contains(forged["secret"].as_str().unwrap()));
    // What she reads there opens her request.
    assert_eq!(world.tracks(&only["reference"], &only["secret"]).await.0, StatusCode::OK);
    world.stop().await;
}
