//! Templates created, edited and deleted at the provider: once each, whatever gets lost, and no more calls in an
//! hour than the account has.

use std::sync::Arc;
use std::time::Duration;

use assent_http::client::http_client;
use assent_tests::cluster::{Cluster, Wishes, until};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::stand_ins::{self, Home, Manner, Neighbours, Provider, Replica, Setup};

const ACCOUNT: &str = "102290129340398";

fn draft(name: &str, text: &str) -> Value {
    json!({"name": name, "language": "fr", "category": "MARKETING", "body": {"text": text},
        "buttons": [{"type": "quick_reply", "text": "Stop promotions"}]})
}

async fn change(cluster: &Cluster, what: &str, body: &Value) -> (u16, Value) {
    cluster.post("messaging", &format!("/v1/templates/{what}"), body, None).await
}

async fn status(cluster: &Cluster, name: &str) -> Value {
    let (_, listed) = cluster.get("messaging", "/v1/templates").await;
    let all = listed["templates"].as_array().unwrap();
    all.iter().find(|it| it["name"] == name).map_or(Value::Null, |it| it["status"].clone())
}

/// What the simulator has under this name.
async fn theirs(cluster: &Cluster, name: &str) -> Vec<Value> {
    let (_, all) = cluster.get("whatsapp-sim", "/_sim/templates").await;
    let all = all.as_array().or_else(|| all["templates"].as_array()).cloned().unwrap_or_default();
    all.into_iter().filter(|it| it["name"] == name).collect()
}

/// From now on reviewers decide when the test says so.
async fn hold_reviews(cluster: &Cluster) {
    let client = http_client(Duration::from_secs(2), Duration::from_secs(30)).unwrap();
    let url = format!("{}/_sim/review", cluster.url("whatsapp-sim"));
    let held = client.put(url).json(&json!({"hold": true})).send().await.unwrap();
    assert_eq!(held.status(), 204);
}

async fn review(cluster: &Cluster, name: &str, to: &str) {
    let path = format!("/_sim/templates/{name}");
    let body = json!({"change": "status", "to": to});
    assert_eq!(cluster.post("whatsapp-sim", &path, &body, None).await.0, 200);
    until("the review is known", async || status(cluster, name).await == to).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_created_reviewed_edited_and_deleted_at_the_simulator() {
    let cluster = Cluster::with(Wishes {
        only: vec!["messaging", "gateway"],
        settings: vec![("messaging", "business_account_id = \"102290129340398\"")],
        ..Wishes::default()
    })
    .await;
    // By the command line, from the file of the guide.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/templates/spring_offer.toml");
    let created = cluster.assent(&["template", "create", file]);
    assert_eq!(
        (created.status, &created.json["status"]),
        (0, &json!("PENDING")),
        "{}",
        created.text
    );
    until("it is approved", async || {
        let listed = cluster.assent(&["template", "list"]);
        let all = listed.json["templates"].as_array().cloned().unwrap_or_default();
        all.iter().any(|it| it["language"] == "fr" && it["status"] == "APPROVED")
    })
    .await;
    let found = theirs(&cluster, "spring_offer").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["components"][1]["example"], json!({"body_text": [["Ada", "21 mars"]]}));

    // The words of a code are WhatsApp's: what comes back is known again.
    let code = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/templates/login_code.toml");
    let created = cluster.assent(&["template", "create", code]);
    assert_eq!(created.status, 0, "{}", created.text);
    until("it is approved", async || status(&cluster, "login_code").await == "APPROVED").await;
    let again = cluster.assent(&["template", "create", code]);
    assert_eq!((again.status, &again.json["status"]), (0, &json!("APPROVED")), "{}", again.text);
    assert_eq!(theirs(&cluster, "login_code").await.len(), 1);

    hold_reviews(&cluster).await;
    let news = draft("news", "Good day.");
    let (status_code, first) = change(&cluster, "create", &news).await;
    assert_eq!((status_code, &first["status"]), (201, &json!("PENDING")), "{first}");
    // A repeat is the same template, also when the first answer was lost: another has made it meanwhile.
    assert_eq!(change(&cluster, "create", &news).await, (201, first));
    let (status_code, problem) = change(&cluster, "create", &draft("news", "Other words.")).await;
    assert_eq!((status_code, &problem["code"]), (409, &json!("template_exists")));
    let (status_code, problem) = change(&cluster, "create", &draft("other", "{{1}}")).await;
    assert_eq!((status_code, &problem["code"]), (422, &json!("validation_failed")));
    let lost = json!({"name": "lost", "language": "fr", "category": "MARKETING", "components": [
        {"type": "BODY", "text": "Good day."},
        {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Stop promotions"}]}]});
    let path = format!("/v26.0/{ACCOUNT}/message_templates");
    assert_eq!(cluster.post("whatsapp-sim", &path, &lost, None).await.0, 200);
    let (status_code, found) = change(&cluster, "create", &draft("lost", "Good day.")).await;
    assert_eq!((status_code, &found["status"]), (201, &json!("PENDING")), "{found}");
    let (status_code, problem) = change(&cluster, "create", &draft("lost", "Other words.")).await;
    assert_eq!((status_code, &problem["code"]), (409, &json!("template_exists")));
    assert_eq!(theirs(&cluster, "lost").await.len(), 1);

    review(&cluster, "news", "APPROVED").await;
    let (status_code, same) = change(&cluster, "edit", &news).await;
    assert_eq!((status_code, &same["status"]), (200, &json!("APPROVED")), "nothing to edit");
    let edited = draft("news", "Good evening.");
    let (status_code, pending) = change(&cluster, "edit", &edited).await;
    assert_eq!((status_code, &pending["status"]), (200, &json!("PENDING")), "{pending}");
    assert_eq!(theirs(&cluster, "news").await[0]["components"][0]["text"], "Good evening.");
    review(&cluster, "news", "APPROVED").await;
    // WhatsApp takes one edit a day.
    let (status_code, problem) = change(&cluster, "edit", &draft("news", "Good night.")).await;
    assert_eq!((status_code, &problem["code"]), (422, &json!("provider_refused")));
    assert_eq!(problem["provider_code"], 100);
    assert_eq!(status(&cluster, "news").await, "APPROVED", "a refusal changes nothing");

    let gone = cluster.assent(&["template", "delete", "news", "--language", "fr"]);
    assert_eq!(gone.status, 0, "{}", gone.text);
    assert_eq!(gone.json["templates"][0]["status"], "DELETED");
    assert!(theirs(&cluster, "news").await.is_empty());
    let again = cluster.assent(&["template", "delete", "news"]);
    assert_eq!(again.status, 0, "{}", again.text);
    let (status_code, problem) = change(&cluster, "delete", &json!({"name": "nobodys"})).await;
    assert_eq!((status_code, &problem["code"]), (404, &json!("template_unknown")));
    // Its name rests for 30 days.
    let (status_code, problem) = change(&cluster, "create", &news).await;
    assert_eq!((status_code, &problem["provider_subcode"]), (422, &json!(2_388_023)), "{problem}");
}

/// A service whose account may call so often in an hour; one call has gone for the list.
async fn limited(home: &Home, provider: &Provider, per_hour: u32) -> Replica {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let neighbours = Neighbours::serve(listener, home.index.clone());
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.business_account_id = Some(ACCOUNT);
    setup.management_per_hour = per_hour;
    let replica = home.start(&setup).await;
    let read = "SELECT count(*) FROM template_lists WHERE due_at > now() + interval '5 minutes'";
    stand_ins::until("the list is read", async || replica.count(read).await == 1).await;
    replica
}

fn created(provider: &Provider) -> usize {
    provider.requests().iter().filter(|it| it.starts_with("post ")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_together_call_no_more_often_in_an_hour_than_the_account_may() {
    let home = Home::new().await;
    let provider = Provider::serve().await;
    let one = limited(&home, &provider, 5).await;
    let two = limited(&home, &provider, 5).await;
    let drafts: Vec<_> = (0..12).map(|n| draft(&format!("news_{n}"), "Good day.")).collect();
    let (one, two) = (Arc::new(one), Arc::new(two));
    let mut asks = JoinSet::new();
    for (n, draft) in drafts.iter().cloned().enumerate() {
        let replica = Arc::clone(if n % 2 == 0 { &one } else { &two });
        asks.spawn(async move { replica.post("/v1/templates/create", draft).await });
    }
    let answers = asks.join_all().await;
    let refused = |(status, it): &&(u16, Value)| *status == 429 && it["code"] == "rate_limited";
    let refused = answers.iter().filter(refused).count();
    assert_eq!((created(&provider), refused), (4, 8), "the list was the fifth");
    // An hour later there is room again.
    one.sql("UPDATE management_calls SET called_at = called_at - interval '1 hour'").await;
    assert_ne!(one.post("/v1/templates/create", drafts[0].clone()).await.0, 429);
    assert_eq!(created(&provider), 5);
    // WhatsApp's own word counts more than ours.
    provider.manner(Manner::Refuses(80_007));
    for _ in 0..2 {
        let (status, problem) = two.post("/v1/templates/create", drafts[1].clone()).await;
        assert_eq!((status, &problem["code"]), (429, &json!("rate_limited")));
    }
    assert_eq!(created(&provider), 6, "the second was not asked");
    for replica in [one, two] {
        Arc::into_inner(replica).unwrap().stop().await;
    }
}
