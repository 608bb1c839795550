//! What the stories have in common: a scenario file is played, and in the end each of its faults has
//! happened and WhatsApp has counted nothing against us.

use std::time::Duration;

use assent_http::client::http_client;
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use serde_json::{Value, json};

/// One person is enough for what the stories tell of campaigns.
pub fn wishes() -> Wishes {
    Wishes { settings: vec![("messaging", "approval_above = 100")], ..Wishes::default() }
}

/// Plays a scenario file in which `PERSON_n` stands for the number of the nth.
pub async fn play(cluster: &Cluster, scenario: &str, people: &[&Person]) {
    let named = |text: String, (n, person): (usize, &&Person)| {
        text.replace(&format!("PERSON_{n}"), &person.phone)
    };
    let scenario = people.iter().enumerate().fold(scenario.to_owned(), named);
    assert!(!scenario.contains("PERSON_"), "everybody in it is there");
    let client = http_client(Duration::from_secs(2), Duration::from_secs(30)).unwrap();
    let url = format!("{}/_sim/scenario", cluster.url("whatsapp-sim"));
    let played = client.post(url).body(scenario).send().await.unwrap();
    assert_eq!(played.status(), 204, "{}", played.text().await.unwrap_or_default());
    assert_ne!(faults_to_come(cluster).await, json!([]));
}

async fn faults_to_come(cluster: &Cluster) -> Value {
    cluster.get("whatsapp-sim", "/_sim/faults").await.1["faults"].clone()
}

/// The end of each story: every fault of its file has struck, and no rule of WhatsApp's was broken.
pub async fn ends_well(cluster: &Cluster) {
    // Each strikes once, and then it is gone.
    until("every fault has happened", async || faults_to_come(cluster).await == json!([])).await;
    let (_, violations) = cluster.get("whatsapp-sim", "/_sim/violations").await;
    assert_eq!(violations["total"], 0, "{violations}");
}

/// The calls for her of this type (`template`, `text`), by what became of them at WhatsApp: how many it took,
/// and how many it refused.
pub async fn calls(cluster: &Cluster, person: &Person, kind: &str) -> (usize, usize) {
    let (_, answer) = cluster.get("whatsapp-sim", "/_sim/messages").await;
    let calls = answer["messages"].as_array().cloned().unwrap_or_default();
    let hers: Vec<&Value> =
        calls.iter().filter(|it| it["party"] == person.digits() && it["type"] == kind).collect();
    let count = |outcome: &str| hers.iter().filter(|it| it["outcome"] == outcome).count();
    (count("accepted"), count("refused"))
}

/// She does something on her phone; the webhook's status.
pub async fn acts(cluster: &Cluster, person: &Person, what: Value) {
    let mut body = json!({"from": person.phone});
    body.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
    let (status, answer) = cluster.post("whatsapp-sim", "/_sim/inbound", &body, None).await;
    assert_eq!(status, 200, "{answer}");
}

/// Waits until everything that came by webhook is worked through.
pub async fn processed(cluster: &Cluster) {
    let pool = cluster.pool("messaging").await;
    let open = "SELECT count(*) FROM webhook_bodies WHERE parked IS NULL";
    until("webhooks are worked through", async || {
        sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
}
