//! People whose names change, or who have no number: consent moves to no new name, opt-outs follow, and whoever is
//! known by a user id alone is written to, stopped and erased; with faults in between.

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, TEMPLATE, until};
use serde_json::{Value, json};

use super::world::{self, calls, ends_well};

pub(super) async fn moves(cluster: &Cluster, person: &Person, to: &Person) {
    let what = json!({"from": person.phone, "to": to.phone});
    let (status, answer) = cluster.post("whatsapp-sim", "/_sim/change_number", &what, None).await;
    assert_eq!(status, 200, "{answer}");
    world::processed(cluster).await;
}

pub(super) fn refused_for(cluster: &Cluster, person: &Person, reason: &str) {
    let sent = cluster.send(person);
    assert_eq!(sent.json["state"], "refused", "{}", sent.text);
    let reasons = sent.json["reasons"].as_array().cloned().unwrap_or_default();
    assert!(reasons.contains(&json!(reason)), "{reason}: {}", sent.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_number_takes_no_consent_along_and_every_opt_out() {
    let cluster = Cluster::with(world::wishes()).await;
    let (agreed, _) = cluster.willing().await;
    let (stopped, _) = cluster.willing().await;
    let (other, _) = cluster.willing().await;
    world::play(&cluster, include_str!("names.toml"), &[&agreed, &stopped, &other]).await;
    for person in [&agreed, &stopped, &other] {
        cluster.send(person);
        until("it went out", async || calls(&cluster, person, "template").await.0 == 1).await;
    }
    assert_eq!(cluster.hears(&stopped, "STOP").await, 200);
    cluster.declared().await;
    // Before the number is another's.
    until("it is confirmed", async || calls(&cluster, &stopped, "text").await.0 == 1).await;

    let (agreeds, stoppeds) = (Person::somebody(), Person::somebody());
    moves(&cluster, &agreed, &agreeds).await;
    moves(&cluster, &stopped, &stoppeds).await;
    cluster.declared().await;
    // Nothing more goes to the old numbers: somebody else may have them by now.
    refused_for(&cluster, &agreed, "identity_changed");
    assert_eq!(cluster.send(&stopped).json["state"], "refused");
    let tasks = cluster.get("messaging", "/v1/tasks").await.1;
    let moved = |task: &&Value| task["reason"] == "moved";
    assert_eq!(tasks["items"].as_array().unwrap().iter().filter(moved).count(), 2, "{tasks}");
    // The new ones are nobody's who agreed; whoever stopped has stopped there too, whoever imports her.
    for (person, reason) in [(&agreeds, "no_consent"), (&stoppeds, "stopped")] {
        cluster.import(person).await;
        until(reason, async || {
            let reasons = cluster.explain(person).json["reasons"].clone();
            reasons.as_array().is_some_and(|it| it.contains(&json!(reason)))
        })
        .await;
        assert_eq!(cluster.send(person).json["state"], "refused");
        assert_eq!(calls(&cluster, person, "template").await, (0, 0));
    }
    assert_eq!(cluster.send(&other).json["state"], "accepted", "others notice nothing");
    ends_well(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_number_here_is_written_to_stops_and_is_erased() {
    let cluster = Cluster::with(world::wishes()).await;
    let names: Vec<String> = (0..3).map(|n| format!("FR.7000000000000000000{n}")).collect();
    let nameds: Vec<Person> = names.iter().map(|it| Person { phone: it.clone() }).collect();
    let all: Vec<&Person> = nameds.iter().collect();
    world::play(&cluster, include_str!("names.toml"), &all).await;
    let says = async |name: &str, text: &str| {
        let what = json!({"user_id": name, "text": text});
        let (status, answer) = cluster.post("whatsapp-sim", "/_sim/inbound", &what, None).await;
        assert_eq!(status, 200, "{answer}");
    };
    let verdict = async |name: &str, reason: &str| {
        until(reason, async || {
            let told = cluster.assent(&["explain", name, "--purpose", "marketing"]);
            told.json["reasons"].as_array().is_some_and(|it| it.contains(&json!(reason)))
        })
        .await;
    };
    let send = |name: &str| {
        cluster.assent(&["send", name, "--purpose", "marketing", "--template", TEMPLATE])
    };
    for name in &names {
        says(name, "START").await;
        verdict(name, "consent_given").await;
        send(name);
        until("it went out", async || {
            let (_, answer) = cluster.get("whatsapp-sim", "/_sim/messages").await;
            let calls = answer["messages"].as_array().cloned().unwrap_or_default();
            let went = |it: &&Value| {
                it["user_id"] == json!(name)
                    && it["template"] == TEMPLATE
                    && it["outcome"] == "accepted"
            };
            calls.iter().filter(went).count() == 1
        })
        .await;
    }
    for name in &names {
        says(name, "Arrêt").await;
    }
    cluster.declared().await;
    for name in &names {
        verdict(name, "stopped").await;
        assert_eq!(send(name).json["state"], "refused");
    }
    let erased = cluster.assent(&["erase", &names[0], "--checked", "test", "--wait"]);
    assert_eq!(
        (erased.status, &erased.json["status"]),
        (0, &json!("completed")),
        "{}",
        erased.text
    );
    assert_eq!(send(&names[0]).json["state"], "refused");
    ends_well(&cluster).await;
}
