//! Publication of the schemas to a schema registry, against a stand-in that speaks its REST protocol and refuses what
//! a real one refuses, in its words: a wrong content type, a missing login, a schema that may not follow.

mod stand_in;

use std::process::Output;

use assent_contracts::published::ALL;
use serde_json::{Value, json};

use crate::cli::command;
use stand_in::{PASSWORD, Registry};

const GRANTED: &str = "assent.consent.granted.v1";

/// `assent --json schemas publish` with these arguments, as the user that the registry knows.
async fn publish(url: &str, arguments: &[&str]) -> Output {
    let mut command = command("http://127.0.0.1:1");
    command.args(["--json", "schemas", "publish", "--registry", url, "--user", "assent"]);
    command.env("ASSENT_REGISTRY_PASSWORD", PASSWORD).args(arguments);
    let ended = tokio::task::spawn_blocking(move || command.output()).await.expect("joined");
    ended.expect("the binary starts")
}

fn published(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Its exit status, code and message.
fn failed(output: &Output) -> (Option<i32>, String, String) {
    let said: Value = serde_json::from_slice(&output.stderr).unwrap();
    let text = |key: &str| said[key].as_str().unwrap().to_owned();
    (output.status.code(), text("error"), text("message"))
}

/// What stands in the registry for a type, as this build publishes it.
async fn todays(name: &str) -> Value {
    let registry = Registry::start().await;
    published(&publish(&registry.url, &[]).await);
    registry.versions(name).pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_schema_is_published_once_however_often_it_is_asked() {
    let registry = Registry::start().await;
    let first = published(&publish(&registry.url, &[]).await);
    assert_eq!(first.len(), ALL.len());
    assert!(first.iter().all(|it| it["change"] == "new"), "{first:?}");
    let again = published(&publish(&registry.url, &[]).await);
    assert!(again.iter().all(|it| it["change"] == "unchanged"), "{again:?}");
    let ids = |list: &[Value]| list.iter().map(|it| it["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&again));
    for event in ALL {
        let versions = registry.versions(event.name);
        assert_eq!(versions.len(), 1, "{}", event.name);
        // What Confluent's serializers call a record by.
        assert_eq!(versions[0]["title"], event.name);
        assert_eq!(registry.level(event.name), "FORWARD_TRANSITIVE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_may_be_called_by_topic_and_type() {
    let registry = Registry::start().await;
    let all = published(&publish(&registry.url, &["--subjects", "topic-record"]).await);
    let named = |subject: &str| all.iter().any(|it| it["subject"] == subject);
    assert!(named("assent.consent.events.v1-assent.consent.granted.v1"), "{all:?}");
    assert!(named("assent.consent.state.v1-assent.consent.state.v1"), "{all:?}");
}

/// A member that is new is the growth that the contracts allow. By its default a registry refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_version_of_a_schema_follows_the_one_before() {
    let today = todays(GRANTED).await;
    let mut before = today.clone();
    assert!(before["properties"].as_object_mut().unwrap().remove("place").is_some());
    let registry = Registry::start().await;
    registry.seed(GRANTED, &before);
    let refused = stand_in::conflict("BACKWARD", &before, &today).unwrap();
    assert_eq!(refused, "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL");

    let all = published(&publish(&registry.url, &[]).await);
    let granted = all.iter().find(|it| it["subject"] == GRANTED).unwrap();
    assert_eq!(granted["change"], "new");
    assert_eq!(registry.versions(GRANTED), [before, today]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_may_not_follow_is_refused_by_name_and_nothing_is_overwritten() {
    let mut other = todays(GRANTED).await;
    other["properties"]["purpose"]["type"] = json!("integer");
    let registry = Registry::start().await;
    registry.seed(GRANTED, &other);
    let (status, code, said) = failed(&publish(&registry.url, &[]).await);
    assert_eq!((status, code.as_str()), (Some(1), "schema_incompatible"), "{said}");
    assert!(said.starts_with(GRANTED) && said.contains("TYPE_CHANGED"), "{said}");
    assert_eq!(registry.versions(GRANTED), [other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_login_is_named_and_not_told() {
    let registry = Registry::start().await;
    let output = publish(&registry.url, &["--password", "wrong-4713"]).await;
    let (status, code, said) = failed(&output);
    assert_eq!((status, code.as_str()), (Some(2), "registry_login_refused"), "{said}");
    let file = std::env::temp_dir().join(assent_tests::harness::unique("registry"));
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let mut command = command("http://127.0.0.1:1");
    command.args(["--json", "schemas", "publish", "--registry", &registry.url, "--user", "assent"]);
    command.env("ASSENT_REGISTRY_PASSWORD_FILE", &file);
    let by_file = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    std::fs::remove_file(file).unwrap();
    assert_eq!(published(&by_file).len(), ALL.len());
    for user in ["http://assent:wrong-4713@127.0.0.1:1", "ftp://wrong-4713"] {
        let output = publish(user, &[]).await;
        let (status, _, said) = failed(&output);
        assert_eq!(status, Some(2), "{said}");
        assert!(!said.contains("wrong-4713"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registry_and_who_is_silent_are_told_apart() {
    let page = crate::cli::stub::Stub::start(|_, _| (200, "<html>hello</html>".to_owned())).await;
    let (status, code, said) = failed(&publish(&page.url, &[]).await);
    assert_eq!((status, code.as_str()), (Some(2), "not_a_registry"), "{said}");
    let page = crate::cli::stub::Stub::start(|_, _| (404, "nothing here".to_owned())).await;
    let (status, code, said) = failed(&publish(&page.url, &[]).await);
    assert_eq!((status, code.as_str()), (Some(2), "not_a_registry"), "{said}");
    let ill = json!({"error_code": 50003, "message": "Error while forwarding the request to the primary"});
    let ill = crate::cli::stub::Stub::start(move |_, _| (500, ill.to_string())).await;
    let (status, code, said) = failed(&publish(&ill.url, &[]).await);
    assert_eq!((status, code.as_str()), (Some(3), "registry_unavailable"), "{said}");
    assert!(said.contains("50003") && said.contains("forwarding"), "{said}");
    let (status, code, said) = failed(&publish("http://127.0.0.1:1", &[]).await);
    assert_eq!((status, code.as_str()), (Some(3), "unreachable"), "{said}");
}
