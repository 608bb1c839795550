//! G9: with the consent service down nothing is sent, and STOP is still taken, and holds from then
//! on.

use serde_json::json;

use super::SENDING;
use assent_tests::cluster::person::Person;
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, Wishes};

#[tokio::test(flavor = "multi_thread")]
async fn g9_with_consent_down_nothing_is_sent_and_stop_is_taken() {
    let mut cluster = Cluster::with(Wishes { only: SENDING.to_vec(), ..Wishes::default() }).await;
    let (person, subject) = cluster.willing().await;
    let stranger = Person::somebody();
    cluster.kill("consent");

    // Closed for sending: the message waits, and says for what.
    let message = cluster.queue(&subject).await;
    until("the gate is missed", async || {
        let (_, view) = cluster.get("messaging", &format!("/v1/messages/{message}")).await;
        view["reasons"] == json!(["consent_unreachable"])
    })
    .await;
    assert!(cluster.delivered_to(&person).await.is_empty());
    assert_eq!(cluster.send(&Person::somebody()).status, 3, "no gate, no answer");

    // Open for opting out, also for a number that nobody knows yet.
    assert_eq!(cluster.hears(&person, "STOP").await, 200);
    assert_eq!(cluster.hears(&stranger, "Arrêt").await, 200);

    // Back again, it holds: for the message that waited and for every later one.
    cluster.restart("consent").await;
    let view = cluster.settled(&message).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &json!(["stopped"])));
    assert_eq!(cluster.send(&person).json["state"], "refused");
    until("the gate itself says stopped", async || {
        let reasons = cluster.explain(&person).json["reasons"].clone();
        reasons.as_array().is_some_and(|reasons| reasons.contains(&json!("stopped")))
    })
    .await;
    assert!(cluster.delivered_to(&person).await.is_empty());

    // The stranger turns up in a contact file: stopped before she was known.
    cluster.import(&stranger).await;
    until("her stop is hers", async || {
        let reasons = cluster.explain(&stranger).json["reasons"].clone();
        reasons.as_array().is_some_and(|reasons| reasons.contains(&json!("stopped")))
    })
    .await;
    assert_eq!(cluster.send(&stranger).json["state"], "refused");
    assert!(cluster.delivered_to(&stranger).await.is_empty());
}
