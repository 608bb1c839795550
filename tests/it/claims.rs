//! Consents that a list claims: they grant nothing until somebody else has looked at their evidence.

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use serde_json::{Value, json};

const MARKETER: &[&str] = &["subjects:write", "seal:write", "consent:write", "consent:read"];
const DPO: &[&str] = &["claims:review", "consent:read", "subjects:resolve"];

async fn cluster() -> Cluster {
    Cluster::with(Wishes {
        callers: vec![("marketer", MARKETER), ("dpo", DPO)],
        only: vec!["gateway", "consent", "vault"],
        ..Wishes::default()
    })
    .await
}

/// Imports a CRM export with evidence; gives the batch and the summary.
fn import(cluster: &Cluster, rows: &str) -> (String, Value) {
    let path = cluster.dir.join("crm.csv");
    std::fs::write(&path, format!("phone;proof;date\n{rows}")).unwrap();
    let file = path.to_str().unwrap();
    let evidence = ["--map", "evidence=proof", "--map", "agreed-at=date", "--purpose", "marketing"];
    let ended = cluster
        .assent_as("marketer", &[&["import", file, "--country", "FR"][..], &evidence].concat());
    let batch = ended.json["claims"]["batch_id"].as_str().unwrap_or_default().to_owned();
    assert!(!batch.is_empty(), "{}", ended.text);
    (batch, ended.json)
}

fn review(cluster: &Cluster, what: &[&str]) -> (i32, Value) {
    let ended = cluster.assent_as("dpo", &[&["review"], what].concat());
    (ended.status, ended.json)
}

async fn reasons(cluster: &Cluster, person: &Person) -> Value {
    cluster.explain(person).json["reasons"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_become_consents_once_somebody_else_has_looked_at_them() {
    let cluster = cluster().await;
    let people: Vec<Person> = (0..5).map(|_| Person::somebody()).collect();
    let [agreed, later_no, no_proof, no_date, suppressed] = &people[..] else { unreachable!() };
    let (batch, summary) = import(
        &cluster,
        &format!(
            "{};form 4711;2025-05-31\n{};form 4712;2025-05-31\n{};;\n{};form 4713;\n{};form 4714;31.05.2025\n",
            agreed.phone, later_no.phone, no_proof.phone, no_date.phone, suppressed.phone
        ),
    );
    assert_eq!((&summary["created"], &summary["claims"]["claims"]), (&json!(5), &json!(3)));
    let no_claim = &summary["no_claim"];
    assert_eq!(no_claim[0]["reason"], "agreed_at_missing", "{summary}");
    assert_eq!((&no_claim[0]["line"], no_claim.as_array().unwrap().len()), (&json!(5), 1));
    until("their numbers are known to the gate", async || {
        let mut known = true;
        for person in &people {
            known &= reasons(&cluster, person).await == json!(["no_consent"]);
        }
        known
    })
    .await;

    // Whoever looks at it sees the evidence; nobody decides on what they brought, or without the right.
    let (status, shown) = review(&cluster, &["show", &batch]);
    assert_eq!((status, &shown["state"]), (0, &json!("waiting")), "{shown}");
    let texts: Vec<&Value> =
        shown["sample"].as_array().unwrap().iter().map(|claim| &claim["text"]).collect();
    assert!(texts.contains(&&json!("form 4711")), "{shown}");
    let by_marketer =
        cluster.assent_as("marketer", &["review", "approve", &batch, "--reason", "checked"]);
    assert_eq!(by_marketer.status, 2, "{}", by_marketer.text);
    assert_eq!(reasons(&cluster, agreed).await, json!(["no_consent"]));

    // One of them says no before anybody has decided; one is on a list of opt-outs.
    assert_eq!(cluster.withdraw(later_no).status, 0);
    let list = cluster.dir.join("optouts.csv");
    std::fs::write(&list, format!("phone\n{}\n", suppressed.phone)).unwrap();
    assert_eq!(cluster.assent(&["suppress", list.to_str().unwrap(), "--country", "FR"]).status, 0);

    let (status, decided) = review(&cluster, &["approve", &batch, "--reason", "form_log_checked"]);
    assert_eq!((status, &decided["decided_by"]), (0, &json!("dpo")), "{decided}");
    until("the batch is carried out", async || {
        review(&cluster, &["show", &batch, "--sample", "0"]).1["state"] == "done"
    })
    .await;
    let (_, done) = review(&cluster, &["show", &batch]);
    assert_eq!(done["outcomes"], json!({"granted": 2, "own_act_needed": 1}), "{done}");
    assert!(done["sample"][0].get("evidence").is_none(), "it went with the consent");
    assert_eq!(reasons(&cluster, agreed).await, json!(["consent_given"]));
    // Her no is newer than what was claimed.
    assert_eq!(reasons(&cluster, later_no).await, json!(["consent_withdrawn"]));
    assert_eq!(reasons(&cluster, no_proof).await, json!(["no_consent"]));
    assert_eq!(reasons(&cluster, no_date).await, json!(["no_consent"]));
    let subject = cluster.subject(agreed).await.unwrap();
    let (_, history) = cluster.get("consent", &format!("/v1/subjects/{subject}/history")).await;
    let granted = &history["items"][0]["data"];
    assert_eq!(
        (&granted["method"], &granted["acted_at"]),
        (&json!("import"), &json!("2025-05-31T00:00:00Z")),
        "{history}"
    );
    assert!(granted["evidence"].is_string(), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_leaves_nothing_and_a_file_without_evidence_brings_no_batch() {
    let cluster = cluster().await;
    let person = Person::somebody();
    let (batch, _) = import(&cluster, &format!("{};a note;2025-05-31\n", person.phone));
    let (status, refused) = review(&cluster, &["refuse", &batch, "--reason", "no_proof"]);
    assert_eq!((status, &refused["state"]), (0, &json!("refused")), "{refused}");
    assert_eq!(refused["outcomes"], json!({"refused": 1}));
    let (status, again) = review(&cluster, &["approve", &batch, "--reason", "checked"]);
    assert_eq!(status, 1, "{again}");
    let (_, shown) = review(&cluster, &["show", &batch]);
    assert!(shown["sample"][0].get("evidence").is_none(), "{shown}");
    until("her number is known to the gate", async || {
        reasons(&cluster, &person).await == json!(["no_consent"])
    })
    .await;

    // Not even with the right to does anybody decide on what they brought.
    let path = cluster.dir.join("crm.csv");
    let file = path.to_str().unwrap();
    let evidence = ["--map", "evidence=proof", "--map", "agreed-at=date", "--purpose", "marketing"];
    let own = cluster.assent(&[&["import", file, "--country", "FR"][..], &evidence].concat());
    let own = own.json["claims"]["batch_id"].as_str().unwrap();
    let approved = cluster.assent(&["review", "approve", own, "--reason", "checked"]);
    assert_eq!(approved.status, 1, "{}", approved.text);
    assert!(approved.text.contains("doesn't decide on it"), "{}", approved.text);

    let without = cluster.assent_as("marketer", &["import", file, "--purpose", "marketing"]);
    assert_eq!(without.status, 2, "{}", without.text);
    let of_what = cluster.assent_as("marketer", &["import", file, "--map", "evidence=proof"]);
    assert_eq!(of_what.status, 2, "{}", of_what.text);
}
