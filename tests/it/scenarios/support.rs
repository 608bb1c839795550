//! Support answers within the window, once, whatever is lost; and not outside of it.

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Ended, Wishes, until};
use serde_json::json;

use super::world::{self, acts, calls, ends_well};

/// Somebody who may be answered.
pub(super) async fn customer(cluster: &Cluster) -> (Person, String) {
    let person = Person::somebody();
    let subject = cluster.import(&person).await;
    let consent = ["--purpose", "service", "--channel", "whatsapp", "--evidence", "form 12"];
    let granted = cluster.assent(&[&["consent", "grant", &person.phone][..], &consent].concat());
    assert_eq!(granted.status, 0, "{}", granted.text);
    until("the gate knows her number", async || {
        let explained = cluster.assent(&["explain", &person.phone, "--purpose", "service"]);
        explained.json["verdict"] == "allow"
    })
    .await;
    (person, subject)
}

/// The conversation with her, once she waits.
pub(super) async fn conversation(cluster: &Cluster, subject: &str) -> String {
    let mut id = String::new();
    until("she waits", async || {
        let listed = cluster.assent(&["conversation", "list", "--state", "waiting"]);
        let all = listed.json.as_array().cloned().unwrap_or_default();
        let hers = all.iter().find(|it| it["subject_id"] == json!(subject));
        id = hers.and_then(|it| it["conversation_id"].as_str()).unwrap_or_default().to_owned();
        !id.is_empty()
    })
    .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn support_answers_within_the_window_once_and_not_outside_of_it() {
    let cluster = Cluster::with(Wishes {
        only: vec!["gateway", "consent", "vault", "messaging"],
        ..world::wishes()
    })
    .await;
    let (ada, ada_id) = customer(&cluster).await;
    let (late, late_id) = customer(&cluster).await;
    world::play(&cluster, include_str!("support.toml"), &[&ada]).await;
    // WhatsApp tells the same message twice.
    let question = json!({"text": "where is my parcel?", "id": "wamid.scenario-question"});
    acts(&cluster, &ada, question.clone()).await;
    acts(&cluster, &ada, question).await;
    let reply =
        |id: &str, text: &str| -> Ended { cluster.assent(&["conversation", "reply", id, text]) };
    let hers = conversation(&cluster, &ada_id).await;
    for text in ["On its way.", "It comes on Monday."] {
        let replied = reply(&hers, text);
        assert_eq!(replied.status, 0, "{}", replied.text);
        let message = replied.json["message_id"].as_str().unwrap().to_owned();
        until("it is accepted", async || cluster.settled(&message).await["state"] == "accepted")
            .await;
    }
    let read = cluster.assent(&["conversation", "read", &hers, "--reason", "answering"]);
    let said = read.json.as_array().cloned().unwrap_or_default();
    let said: Vec<&str> = said.iter().filter_map(|it| it["text"].as_str()).collect();
    assert_eq!(said, ["where is my parcel?", "On its way.", "It comes on Monday."]);

    // She wrote more than a day ago, as far as WhatsApp is concerned.
    let before = SystemClock.now() - jiff::SignedDuration::from_hours(25);
    acts(&cluster, &late, json!({"text": "hello?", "at": before.to_string()})).await;
    let hers = conversation(&cluster, &late_id).await;
    let replied = reply(&hers, "We are here.");
    assert_eq!(replied.status, 1, "{}", replied.text);
    assert!(replied.text.contains("window_closed"), "{}", replied.text);

    ends_well(&cluster).await;
    assert_eq!(calls(&cluster, &ada, "text").await, (2, 1), "once each; one was asked to wait");
    assert_eq!(calls(&cluster, &late, "text").await, (0, 0));
}
