//! G4 and G6: an erasure is whole or visibly not done, through a participant that doesn't answer and
//! a saga killed at its steps; and nothing that is read again brings the person back.

use assent_contracts::erasure::Step;
use serde_json::{Value, json};

use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, Wishes};

async fn request(cluster: &Cluster, subject: &str) -> String {
    let body = json!({"subject_id": subject, "actor": "operator"});
    let (status, answer) = cluster.post("erasure", "/v1/requests", &body, Some(subject)).await;
    assert!(matches!(status, 200..=202), "{status}: {answer}");
    answer["request_id"].as_str().unwrap().to_owned()
}

async fn look(cluster: &Cluster, request: &str) -> Value {
    cluster.get("erasure", &format!("/v1/requests/{request}")).await.1
}

async fn completed(cluster: &Cluster, request: &str) -> Value {
    let mut view = Value::Null;
    until("the erasure is complete", async || {
        view = look(cluster, request).await;
        view["status"] == "completed"
    })
    .await;
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_an_erasure_with_a_silent_participant_is_visibly_incomplete_until_it_answers() {
    let mut cluster = Cluster::with(Wishes {
        settings: vec![("erasure", "step_timeout_ms = 1500"), ("erasure", "retry_ms = 500")],
        ..Wishes::default()
    })
    .await;
    let (person, subject) = cluster.willing().await;
    cluster.kill("projector");
    let request = request(&cluster, &subject).await;
    until("it shows as incomplete, and who is missing", async || {
        let view = look(&cluster, &request).await;
        view["status"] == "incomplete" && view["missing"] == json!(["projector"])
    })
    .await;
    let (status, _) = cluster.get("erasure", &format!("/v1/requests/{request}/certificate")).await;
    assert_ne!(status, 200, "no certificate for a part");
    // Stopped at once all the same.
    assert_eq!(cluster.send(&person).status, 1);

    cluster.restart("projector").await;
    let view = completed(&cluster, &request).await;
    assert_eq!(view["missing"], json!([]));
    let (status, _) = cluster.get("projector", &format!("/v1/contacts/{subject}")).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_saga_killed_at_its_steps_goes_on_to_a_whole_erasure() {
    let mut cluster = Cluster::with(Wishes {
        settings: vec![("erasure", "retry_ms = 500")],
        ..Wishes::default()
    })
    .await;
    let failpoints = cluster.failpoints("erasure");
    for point in ["erasure.step_started", "erasure.ack_recorded", "erasure.before_certificate"] {
        let (_, subject) = cluster.willing().await;
        failpoints.set(&format!("{point}=kill"));
        // The kill may take the answer with it.
        let body = json!({"subject_id": subject, "actor": "operator"});
        let asked = cluster.try_post("erasure", "/v1/requests", &body, Some(&subject)).await;
        cluster.process("erasure").died_of_sigkill().await;
        assert_eq!(failpoints.struck(point).len(), 1, "{point}");
        failpoints.clear();
        cluster.restart("erasure").await;
        let request = request(&cluster, &subject).await;
        if let Ok((_, answer)) = asked {
            assert_eq!(answer["request_id"], request.as_str(), "a repeat gives the first answer");
        }
        let view = completed(&cluster, &request).await;
        for participant in view["participants"].as_array().unwrap() {
            let answered = participant["acknowledged"].as_array().unwrap();
            let swept = answered.iter().any(|progress| progress["step"] == json!(Step::Sweep));
            assert!(swept && participant["missing"] == json!([]), "{point}: {participant}");
        }
    }
}

/// Every topic from zero into fresh read models, beside the live ones.
#[tokio::test(flavor = "multi_thread")]
async fn g6_g7_a_replay_of_every_topic_after_an_erasure_brings_nobody_back() {
    let cluster = Cluster::start().await;
    let (kept, kept_subject) = cluster.willing().await;
    let (person, subject) = cluster.willing().await;
    for person in [&kept, &person] {
        assert_eq!(cluster.send(person).status, 0);
        assert_eq!(cluster.hears(person, "when do you open?").await, 200);
    }
    until("her messages are in the read model", async || {
        let messages =
            cluster.get("projector", &format!("/v1/messages?subject_id={subject}")).await;
        messages.1["items"].as_array().is_some_and(|items| items.len() == 2)
    })
    .await;
    let erased = cluster.assent(&["erase", &person.phone, "--wait"]);
    assert_eq!(erased.json["status"], "completed", "{}", erased.text);

    for projection in ["contacts", "consents", "messages"] {
        cluster.rebuilt_the_same(projection);
        let held = async |subject: &str| {
            let path = format!("/v1/{projection}?subject_id={subject}");
            let (status, answer) = cluster.get("projector", &path).await;
            assert_eq!(status, 200, "{answer}");
            answer["items"].as_array().unwrap().len()
        };
        assert_eq!(held(&subject).await, 0, "{projection}");
        assert!(held(&kept_subject).await > 0, "{projection}: others are still there");
    }
    assert_eq!(cluster.subject(&person).await, None);
    assert!(cluster.subject(&kept).await.is_some());
}
