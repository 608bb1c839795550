//! The policy as files, through the command line: what a plan says happens when it is applied, and
//! nothing else does.

use std::path::{Path, PathBuf};

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, until};
use serde_json::{Value, json};

fn edit(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has {from}: {text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

fn policy(cluster: &Cluster, what: &[&str]) -> (i32, Value) {
    let ended = cluster.assent(&[&["policy"], what].concat());
    (ended.status, ended.json)
}

fn exported(cluster: &Cluster, name: &str) -> PathBuf {
    let dir = cluster.dir.join(name);
    let (status, answer) = policy(cluster, &["export", dir.to_str().unwrap()]);
    assert_eq!(status, 0, "{answer}");
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_exported_planned_and_applied_and_people_are_asked_again_only_when_that_is_meant()
 {
    let cluster = Cluster::start().await;
    let (person, subject) = cluster.willing().await;
    let dir = exported(&cluster, "policy");
    let at = dir.to_str().unwrap();
    let (status, plan) = policy(&cluster, &["plan", at]);
    assert_eq!((status, &plan["changes"]), (0, &json!([])));
    let missing = plan["missing"].as_array().unwrap();
    let complaint =
        json!({"at": "notices/marketing/en", "item": "complaint", "rule": "GDPR 13(2)(d)"});
    assert!(missing.contains(&complaint), "{plan}");

    // In France a consent without an end outlasts the silence that the CNIL allows.
    let against = &plan["against"][0];
    assert_eq!(
        (&against["at"], &against["rule"]),
        (&json!("purposes/marketing"), &json!("cnil-silence"))
    );

    // Another text is another notice: whoever agreed has to be asked again.
    edit(&dir, "notices/marketing/en.toml", "news and offers", "news, offers and surveys");
    let (status, plan) = policy(&cluster, &["plan", at]);
    assert_eq!(status, 0, "{plan}");
    assert_eq!(plan["changes"][0]["what"], "purposes/marketing");
    assert_eq!(plan["changes"][0]["fields"][0]["field"], "notices.en.text");
    assert_eq!(plan["changes"][0]["asked_again"], 1);
    let (status, answer) = policy(&cluster, &["apply", at]);
    assert_eq!((status, &answer["status"]), (1, &json!("refused")), "{answer}");
    assert_eq!(cluster.explain(&person).json["verdict"], "allow", "nothing happened");

    let (status, answer) = policy(&cluster, &["apply", at, "--ask-again"]);
    assert_eq!((status, &answer["status"], &answer["version"]), (0, &json!("applied"), &json!(2)));
    assert_eq!(cluster.explain(&person).json["reasons"], json!(["notice_changed"]));
    let (status, answer) = policy(&cluster, &["apply", at]);
    assert_eq!((status, &answer["status"]), (0, &json!("unchanged")), "{answer}");
    assert_eq!(cluster.grant(&person).status, 0);
    assert_eq!(cluster.explain(&person).json["verdict"], "allow");

    // A spelling fix asks nobody, and another language is one more notice.
    edit(&dir, "notices/marketing/en.toml", "would like", "would love");
    edit(&dir, "purposes/marketing.toml", "change = \"material\"", "change = \"editorial\"");
    std::fs::write(dir.join("notices/marketing/fr.toml"), "text = \"Pouvons-nous ?\"\n").unwrap();
    edit(&dir, "controller.toml", "\"en\"", "\"en\",\n    \"fr\"");
    let (status, answer) = policy(&cluster, &["apply", at]);
    assert_eq!((status, &answer["status"]), (0, &json!("applied")), "{answer}");
    assert_eq!(cluster.explain(&person).json["verdict"], "allow");
    let language = ["--evidence", "form 13", "--language", "fr"];
    let what = ["--purpose", "marketing", "--channel", "whatsapp"];
    let french = [&["consent", "grant", &person.phone][..], &what, &language].concat();
    assert_eq!(cluster.assent(&french).status, 0);
    let english = cluster.get("consent", "/v1/purposes").await.1;
    let shown = cluster.explain(&person).json["notice_hash"].clone();
    assert_eq!(shown, english["items"][0]["notices"]["fr"]["hash"], "the hash of what was shown");

    // What is in use stays; what isn't can go.
    std::fs::remove_file(dir.join("purposes/marketing.toml")).unwrap();
    std::fs::remove_dir_all(dir.join("notices/marketing")).unwrap();
    let (status, plan) = policy(&cluster, &["plan", at]);
    assert_eq!(status, 1, "{plan}");
    assert_eq!(plan["refused"][0]["at"], "purposes/marketing");
    let (status, answer) = policy(&cluster, &["apply", at]);
    assert_eq!((status, &answer["status"]), (1, &json!("refused")), "{answer}");
    let dir = exported(&cluster, "again");
    std::fs::remove_file(dir.join("purposes/service.toml")).unwrap();
    std::fs::remove_dir_all(dir.join("notices/service")).unwrap();
    let (status, answer) = policy(&cluster, &["apply", dir.to_str().unwrap()]);
    assert_eq!((status, &answer["status"]), (0, &json!("applied")), "{answer}");
    let body = json!({"subject_id": subject, "purpose": "service", "channel": "whatsapp"});
    let (_, verdict) = cluster.post("consent", "/v1/verdict", &body, None).await;
    assert!(
        verdict["reasons"].as_array().unwrap().contains(&json!("purpose_unknown")),
        "{verdict}"
    );

    // A refusal is kept as what it is.
    let refusal = [&["consent", "refuse", &person.phone][..], &what].concat();
    assert_eq!(cluster.assent(&refusal).status, 0);
    assert_eq!(cluster.explain(&person).json["reasons"], json!(["consent_refused"]));

    // A mistake is told with its line.
    std::fs::write(dir.join("controller.toml"), "name = \"Acme\"\nlangages = []\n").unwrap();
    let ended = cluster.assent(&["policy", "plan", dir.to_str().unwrap()]);
    assert_eq!(ended.status, 2);
    assert!(ended.text.contains("controller.toml: line 2"), "{}", ended.text);
}

/// Trap 16: only what she does herself counts. A message that was delivered and read extends nothing;
/// the validity runs from her last act.
#[tokio::test(flavor = "multi_thread")]
async fn trap_16_a_read_receipt_extends_no_consent() {
    let cluster = Cluster::start().await;
    let dir = exported(&cluster, "policy");
    edit(&dir, "purposes/marketing.toml", "change =", "validity_days = 1095\nchange =");
    let (status, answer) = policy(&cluster, &["apply", dir.to_str().unwrap()]);
    assert_eq!((status, &answer["status"]), (0, &json!("applied")), "{answer}");
    let (person, subject) = cluster.willing().await;
    let path = format!("/v1/subjects/{subject}/consents");
    let before = cluster.get("consent", &path).await.1;
    assert!(before["consents"][0]["valid_until"].is_string(), "{before}");

    let plan = json!({"statuses": ["sent", "delivered", "read"], "delay_ms": 10});
    assert_eq!(cluster.post("whatsapp-sim", "/_sim/statuses", &plan, None).await.0, 204);
    let sent = cluster.send(&person);
    assert_eq!(sent.status, 0, "{}", sent.text);
    let message = format!("/v1/messages/{}", sent.json["message_id"].as_str().unwrap());
    until("she has read it", async || {
        cluster.get("projector", &message).await.1["status"] == "read"
    })
    .await;
    assert_eq!(cluster.get("consent", &path).await.1, before);

    // Her own act does.
    assert_eq!(cluster.hears(&person, "START").await, 200);
    until("her word is recorded", async || {
        cluster.get("consent", &path).await.1["consents"][0]["valid_until"]
            != before["consents"][0]["valid_until"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_kept_no_longer_is_erased_like_anybody_who_asked() {
    let mut cluster = Cluster::start().await;
    let silent = Person::somebody();
    let subject = cluster.import(&silent).await;
    let (willing, _) = cluster.willing().await;
    let consents = cluster.pool("consent").await;
    // As if both had been imported forty days ago.
    until("both are linked", async || {
        let linked = sqlx::query("UPDATE gate_links SET linked_at = now() - interval '40 days'")
            .execute(&consents)
            .await
            .unwrap();
        linked.rows_affected() == 2
    })
    .await;
    let dir = exported(&cluster, "kept");
    let at = dir.to_str().unwrap();
    std::fs::write(dir.join("retention.toml"), "idle_days = 30\n").unwrap();
    let (status, plan) = policy(&cluster, &["plan", at]);
    assert_eq!((status, &plan["changes"][0]["what"]), (0, &json!("retention")), "{plan}");
    assert_eq!(plan["changes"][0]["erased"], 1, "who agreed is kept");
    let (status, answer) = policy(&cluster, &["apply", at]);
    assert_eq!((status, &answer["status"]), (1, &json!("refused")), "{answer}");
    let (status, answer) = policy(&cluster, &["apply", at, "--erase"]);
    assert_eq!((status, &answer["status"]), (0, &json!("applied")), "{answer}");
    // It looks once an hour, and when it starts.
    cluster.restart("consent").await;
    until("she is erased", async || {
        let (_, requests) = cluster.get("erasure", "/v1/requests").await;
        requests["items"][0]["status"] == "completed"
    })
    .await;
    let fenced: Vec<String> = sqlx::query_scalar("SELECT subject_id::text FROM fences")
        .fetch_all(&cluster.pool("consent").await)
        .await
        .unwrap();
    assert_eq!(fenced, [subject]);
    assert_eq!(cluster.subject(&silent).await, None);
    assert_eq!(cluster.explain(&willing).json["verdict"], "allow");
}
