//! The whole road on the command line, against a running Assent: from a contact file to a lawful
//! message to a complete erasure, and what must not lead back.

use serde_json::{Value, json};

use assent_tests::cluster::person::Person;
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, Wishes};

#[tokio::test(flavor = "multi_thread")]
async fn from_a_contact_file_to_a_lawful_message_to_a_complete_erasure() {
    let cluster = Cluster::start().await;
    walk(&cluster).await;
}

/// A small installation is one process.
#[tokio::test(flavor = "multi_thread")]
async fn serve_all_is_the_same_road_in_one_process() {
    let cluster = Cluster::with(Wishes { one_process: true, ..Wishes::default() }).await;
    let (person, _) = cluster.willing().await;
    let sent = cluster.send(&person);
    assert_eq!((sent.status, &sent.json["state"]), (0, &json!("accepted")), "{}", sent.text);
    assert_eq!(cluster.delivered_to(&person).await.len(), 1);
    erase(&cluster, &person);
}

async fn walk(cluster: &Cluster) {
    let person = Person::somebody();

    // A file brings her in; being in a file is no consent.
    let first = cluster.import(&person).await;
    until("the gate has heard of her number", async || {
        cluster.explain(&person).json["reasons"] == json!(["no_consent"])
    })
    .await;
    let explained = cluster.explain(&person);
    assert_eq!(explained.status, 0, "a deny is an answer: {}", explained.text);
    assert_eq!(explained.json["verdict"], "deny");
    assert_eq!(explained.json["reasons"], json!(["no_consent"]));
    refused(cluster, &person, "no_consent");

    // She consents; one message goes out, and its fate reaches the read model.
    let granted = cluster.grant(&person);
    assert_eq!((granted.status, &granted.json["status"]), (0, &json!("granted")));
    let sent = cluster.send(&person);
    assert_eq!((sent.status, &sent.json["state"]), (0, &json!("accepted")), "{}", sent.text);
    assert_eq!(cluster.delivered_to(&person).await.len(), 1);
    let explained = cluster.explain(&person);
    assert_eq!(explained.json["verdict"], "allow");
    assert_eq!(explained.json["evidence"], granted.json["events"]);
    let message = format!("/v1/messages/{}", sent.json["message_id"].as_str().unwrap());
    until("the read model says delivered", async || {
        cluster.get("projector", &message).await.1["status"] == "delivered"
    })
    .await;

    // STOP: from the 200 on the next one is refused.
    assert_eq!(cluster.hears(&person, "STOP").await, 200);
    refused(cluster, &person, "stopped");

    // Deletion, proved by a certificate that stands by itself.
    let certificate = erase(cluster, &person);
    let verify = |file: &std::path::Path| {
        let key = cluster.public_key();
        cluster.assent(&["verify", file.to_str().unwrap(), "--key", key.to_str().unwrap()])
    };
    let verified = verify(&certificate);
    assert_eq!((verified.status, &verified.json["valid"]), (0, &json!(true)), "{}", verified.text);
    let text = verified.json["certificate"].to_string();
    assert!(!text.contains(&first), "it names the request, never the subject");
    let bytes = std::fs::read(&certificate).unwrap();
    for place in [0, bytes.len() / 2, bytes.len() - 4] {
        let mut forged = bytes.clone();
        forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
        let file = cluster.dir.join("forged.jws");
        std::fs::write(&file, forged).unwrap();
        let verified = verify(&file);
        assert_eq!((verified.status, &verified.json["valid"]), (1, &json!(false)), "byte {place}");
    }

    // Nothing leads back by anybody else's hand.
    let again = cluster.import_file(&format!("phone\n{}\n", person.phone));
    assert_eq!(
        (again.status, &again.json["refused"]),
        (1, &json!({"erased": 1})),
        "{}",
        again.text
    );
    let granted = cluster.grant(&person);
    assert_eq!((granted.status, &granted.json["reasons"]), (1, &json!(["erased"])));
    refused(cluster, &person, "erased");
    let (status, _) = cluster.get("projector", &format!("/v1/contacts/{first}")).await;
    assert_eq!(status, 404, "the read model has forgotten her");

    // Her own act opens a new relation under a new id.
    assert_eq!(cluster.hears(&person, "START").await, 200);
    let mut second = None;
    until("she is somebody new", async || {
        second = cluster.subject(&person).await;
        second.is_some()
    })
    .await;
    assert_ne!(second.as_deref(), Some(first.as_str()));
    until("she may be messaged again", async || {
        cluster.explain(&person).json["verdict"] == "allow"
    })
    .await;
    assert_eq!(cluster.send(&person).status, 0);
    assert_eq!(cluster.delivered_to(&person).await.len(), 2);
}

fn refused(cluster: &Cluster, person: &Person, reason: &str) {
    let sent = cluster.send(person);
    assert_eq!((sent.status, &sent.json["state"]), (1, &json!("refused")), "{}", sent.text);
    let reasons = sent.json["reasons"].as_array().expect("reasons");
    assert!(reasons.contains(&Value::from(reason)), "{reason}: {}", sent.text);
}

fn erase(cluster: &Cluster, person: &Person) -> std::path::PathBuf {
    let certificate = cluster.dir.join("certificate.jws");
    let path = certificate.to_str().unwrap();
    let erased = cluster.assent(&[
        "erase",
        &person.phone,
        "--checked",
        "called_back",
        "--wait",
        "--certificate",
        path,
    ]);
    assert_eq!(
        (erased.status, &erased.json["status"]),
        (0, &json!("completed")),
        "{}",
        erased.text
    );
    certificate
}
