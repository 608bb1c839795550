//! Each form of a stop, some of them told twice, with faults on the way of their confirmations: nothing more goes
//! to any of them, and each is confirmed once where that is allowed.

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, TEMPLATE, until};
use serde_json::json;

use super::world::{self, acts, calls, ends_well};

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_stop_ends_marketing_and_is_confirmed_once() {
    let cluster = Cluster::with(world::wishes()).await;
    let mut people = Vec::new();
    for _ in 0..6 {
        people.push(cluster.willing().await.0);
    }
    let all: Vec<&Person> = people.iter().collect();
    world::play(&cluster, include_str!("stops.toml"), &all).await;
    // The last one is told to us by a failure only.
    let failed = cluster.send(&people[5]);
    assert_eq!(failed.json["state"], "accepted", "{}", failed.text);

    let word = json!({"text": "STOP", "id": "wamid.scenario-stop"});
    acts(&cluster, &people[0], word.clone()).await;
    acts(&cluster, &people[0], word).await;
    acts(&cluster, &people[1], json!({"text": "  Arrêt! "})).await;
    let button = json!({"button": {"payload": "x", "text": "Stop promotions"}});
    acts(&cluster, &people[2], button).await;
    acts(&cluster, &people[3], json!({"interactive": {"id": "y", "title": "Stop"}})).await;
    let preference = json!({"from": people[4].phone, "value": "stop"});
    let (status, answer) =
        cluster.post("whatsapp-sim", "/_sim/preferences", &preference, None).await;
    assert_eq!(status, 200, "{answer}");

    for (n, person) in people.iter().enumerate() {
        until(&format!("the gate knows of {n}"), async || {
            cluster.explain(person).json["verdict"] == "deny"
        })
        .await;
        let refused = cluster.send(person);
        assert_eq!(refused.json["state"], "refused", "{n}: {}", refused.text);
    }
    world::processed(&cluster).await;
    // The ones with words are confirmed: once, although an answer was lost, WhatsApp refused one for a while, and
    // statuses came twice and in disorder.
    for (n, person) in people[..4].iter().enumerate() {
        until(&format!("{n} is confirmed"), async || calls(&cluster, person, "text").await.0 == 1)
            .await;
    }
    let pool = cluster.pool("messaging").await;
    let open = "SELECT count(*) FROM intents WHERE state IN ('queued', 'claimed', 'calling')";
    until("nothing is on its way", async || {
        sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() == 0
    })
    .await;

    ends_well(&cluster).await;
    for (n, person) in people.iter().enumerate() {
        let confirmed = (usize::from(n < 4), usize::from(n == 3));
        assert_eq!(calls(&cluster, person, "text").await, confirmed, "confirmations of {n}");
        let sent = cluster.delivered_to(person).await.len();
        assert_eq!(sent, usize::from(n == 5), "{TEMPLATE} to {n}");
    }
}
