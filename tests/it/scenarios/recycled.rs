//! Numbers that somebody else may have by now: each sign that WhatsApp gives of it holds marketing and asks a human,
//! whoever has the number inherits no consent, and whoever had said stop stays stopped, under the new account too;
//! with faults in between.

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, until};
use serde_json::{Value, json};

use super::names::{moves, refused_for};
use super::world::{self, acts, calls, ends_well};

/// Something happens to her number that no webhook tells.
async fn fate(cluster: &Cluster, path: &str, person: &Person, more: Value) {
    let mut body = json!({"from": person.phone});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = cluster.post("whatsapp-sim", path, &body, None).await;
    assert_eq!(status, 204, "{answer}");
}

/// Why somebody is to look at who she is, as far as that is open.
async fn doubts(cluster: &Cluster, subject: &str) -> Vec<String> {
    let tasks = cluster.get("messaging", "/v1/tasks").await.1;
    let hers =
        |task: &&Value| task["kind"] == "identity_in_doubt" && task["subject_id"] == json!(subject);
    let reasons = tasks["items"].as_array().unwrap().iter().filter(hers);
    reasons.map(|task| task["reason"].as_str().unwrap().to_owned()).collect()
}

async fn in_doubt(cluster: &Cluster, subject: &str, why: &[&str]) {
    until(&format!("in doubt: {why:?}"), async || doubts(cluster, subject).await == why).await;
}

/// Waits until the vault has heard what WhatsApp told of people's names.
async fn names_told(cluster: &Cluster) {
    world::processed(cluster).await;
    let pool = cluster.pool("messaging").await;
    let open = "SELECT count(*) FROM told_identities WHERE sealed IS NOT NULL";
    until("the vault knows the names", async || {
        sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recycled_number_inherits_no_consent_and_every_opt_out() {
    let cluster = Cluster::with(world::wishes()).await;
    let (silent, silent_id) = cluster.willing().await;
    let (anew, anew_id) = cluster.willing().await;
    let (moved, moved_id) = cluster.willing().await;
    let (given_up, given_up_id) = cluster.willing().await;
    let (stopped, stopped_id) = cluster.willing().await;
    let all = [&silent, &anew, &moved, &given_up, &stopped];
    world::play(&cluster, include_str!("recycled.toml"), &all).await;
    let checks = json!({"checks_identity": true});
    assert_eq!(cluster.post("whatsapp-sim", "/_sim/number", &checks, None).await.0, 204);

    // Before: each gets a message, and most write. The phone of one is off.
    fate(&cluster, "/_sim/phone", &moved, json!({"off": true})).await;
    for person in all {
        cluster.send(person);
        until("it went out", async || calls(&cluster, person, "template").await.0 == 1).await;
    }
    let long_ago = SystemClock.now() - jiff::SignedDuration::from_hours(24 * 200);
    acts(&cluster, &silent, json!({"text": "hello", "at": long_ago.to_string()})).await;
    for person in [&anew, &given_up, &stopped] {
        acts(&cluster, person, json!({"text": "hello"})).await;
    }
    names_told(&cluster).await;
    assert_eq!(cluster.hears(&stopped, "STOP").await, 200);
    cluster.declared().await;
    until("she is told", async || calls(&cluster, &stopped, "text").await.0 == 1).await;
    for subject in [&silent_id, &anew_id, &moved_id, &given_up_id, &stopped_id] {
        assert!(doubts(&cluster, subject).await.is_empty(), "nobody is in doubt yet");
    }

    // Somebody writes after 200 days.
    acts(&cluster, &silent, json!({"text": "hello"})).await;
    in_doubt(&cluster, &silent_id, &["long_silence"]).await;
    refused_for(&cluster, &silent, "long_silence");
    // Somebody writes with another identity hash.
    fate(&cluster, "/_sim/reinstall", &anew, json!({})).await;
    acts(&cluster, &anew, json!({"text": "hello"})).await;
    in_doubt(&cluster, &anew_id, &["identity_hash_changed"]).await;
    refused_for(&cluster, &anew, "identity_changed");
    // She moves, and what waited for her phone reaches whoever has her number next.
    moves(&cluster, &moved, &Person::somebody()).await;
    in_doubt(&cluster, &moved_id, &["moved"]).await;
    let minute = json!({"advance_s": 60});
    assert_eq!(cluster.post("whatsapp-sim", "/_sim/clock", &minute, None).await.0, 200);
    fate(&cluster, "/_sim/recycle", &moved, json!({})).await;
    in_doubt(&cluster, &moved_id, &["moved", "delivered_after_move"]).await;
    refused_for(&cluster, &moved, "identity_changed");
    // Somebody writes from another account; that it agrees counts for nobody.
    fate(&cluster, "/_sim/recycle", &given_up, json!({"name": "Bob"})).await;
    acts(&cluster, &given_up, json!({"text": "hello"})).await;
    in_doubt(&cluster, &given_up_id, &["another_account"]).await;
    assert_eq!(cluster.hears(&given_up, "START").await, 200);
    cluster.declared().await;
    refused_for(&cluster, &given_up, "identity_changed");
    // So does the next owner of a number that was stopped: the account is stopped too.
    let pool = cluster.pool("messaging").await;
    let followed = "SELECT count(*) FROM declarations WHERE form = 'moved' AND will = 'stop'";
    let stops = async || sqlx::query_scalar::<_, i64>(followed).fetch_one(&pool).await.unwrap();
    assert_eq!(stops().await, 0, "nobody else had said no");
    fate(&cluster, "/_sim/recycle", &stopped, json!({})).await;
    acts(&cluster, &stopped, json!({"text": "hello"})).await;
    in_doubt(&cluster, &stopped_id, &["another_account"]).await;
    until("her stop follows", async || stops().await == 1).await;
    cluster.declared().await;
    assert_eq!(cluster.send(&stopped).json["state"], "refused");
    let reasons = cluster.explain(&stopped).json["reasons"].clone();
    assert!(reasons.as_array().unwrap().contains(&json!("stopped")), "{reasons}");

    // Once somebody has verified that a number is still hers, she may be written to again; the others wait.
    let trusted = json!({"subject_id": anew_id, "reason": "rang_her"});
    let (status, lifted) = cluster.post("messaging", "/v1/sender/trust", &trusted, None).await;
    assert_eq!((status, &lifted["lifted"]), (200, &json!(true)), "{lifted}");
    assert!(doubts(&cluster, &anew_id).await.is_empty());
    assert_eq!(cluster.send(&anew).json["state"], "accepted");
    refused_for(&cluster, &moved, "identity_changed");
    ends_well(&cluster).await;
    for person in [&silent, &moved, &given_up, &stopped] {
        assert_eq!(calls(&cluster, person, "template").await.0, 1, "nothing after the sign");
    }
}
