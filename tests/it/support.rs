//! Answering people on the command line, against a running Assent: who waits, reading on record, a reply
//! through the gate, a note, and what a key without the right is refused.

use serde_json::{Value, json};

use assent_tests::cluster::person::Person;
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, Wishes};

#[tokio::test(flavor = "multi_thread")]
async fn a_colleague_reads_on_record_and_answers_through_the_gate() {
    let cluster = Cluster::with(Wishes {
        only: vec!["gateway", "consent", "vault", "messaging"],
        callers: vec![
            ("lea", &["conversations:read", "conversations:open", "conversations:write"]),
            ("max", &["conversations:read"]),
        ],
        ..Wishes::default()
    })
    .await;
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
    assert_eq!(cluster.hears(&person, "where is my parcel?").await, 200);
    let waiting = || cluster.assent_as("max", &["conversation", "list", "--state", "waiting"]);
    until("she waits", async || waiting().json[0]["subject_id"] == json!(subject)).await;
    let listed = waiting();
    assert!(!listed.text.contains("parcel"), "{}", listed.text);
    let id = listed.json[0]["conversation_id"].as_str().unwrap().to_owned();

    let why = ["--reason", "answering"];
    let read =
        |who: &str| cluster.assent_as(who, &[&["conversation", "read", &id][..], &why].concat());
    let refused = read("max");
    assert_eq!(refused.status, 2, "{}", refused.text);
    assert!(refused.text.contains("conversations:open"), "{}", refused.text);
    let opened = read("lea");
    assert_eq!(opened.json[0]["text"], "where is my parcel?", "{}", opened.text);
    // Twice on record: here who read it, and at the vault whose key was given for that reason.
    let pool = cluster.pool("messaging").await;
    let reader: String = sqlx::query_scalar(
        "SELECT data::jsonb->>'reader' FROM eventstore.events
         WHERE event_type = 'assent.messaging.conversation_read.v1'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(reader, "lea");
    let (_, records) =
        cluster.get("vault", &format!("/v1/access-records?subject_id={subject}")).await;
    let on_record = |it: &Value| it["reason"] == "answering" && it["field"] == "key";
    assert!(records["items"].as_array().unwrap().iter().any(on_record), "{records}");

    let replied = cluster.assent_as("lea", &["conversation", "reply", &id, "On its way."]);
    assert_eq!(replied.status, 0, "{}", replied.text);
    let view = cluster.settled(replied.json["message_id"].as_str().unwrap()).await;
    assert_eq!((&view["state"], &view["purpose"]), (&json!("accepted"), &json!("service")));
    let noted = cluster.assent_as("lea", &["conversation", "note", &id, "promised Monday"]);
    assert_eq!(noted.status, 0, "{}", noted.text);
    let taken = cluster.assent(&["conversation", "assign", &id]);
    assert_eq!(taken.status, 1, "{}", taken.text);
    let told = read("lea");
    let said: Vec<(&str, &str)> = told
        .json
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["by"].as_str().unwrap(), it["text"].as_str().unwrap()))
        .collect();
    let expected =
        [("person", "where is my parcel?"), ("human", "On its way."), ("note", "promised Monday")];
    assert_eq!(said, expected);

    // She withdraws: the next answer is refused, and shown as that.
    let withdrawn =
        cluster.assent(&[&["consent", "withdraw", &person.phone][..], &consent].concat());
    assert_eq!(withdrawn.status, 0, "{}", withdrawn.text);
    let replied = cluster.assent_as("lea", &["conversation", "reply", &id, "One more thing."]);
    let view = cluster.settled(replied.json["message_id"].as_str().unwrap()).await;
    assert_eq!(view["reasons"], json!(["consent_withdrawn"]));

    for (act, status) in [("close", 0), ("close", 1)] {
        let ended = cluster.assent_as("lea", &["conversation", act, &id]);
        assert_eq!(ended.status, status, "{}", ended.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_bot_are_checked_offline() {
    let binary = std::env::var("ASSENT_TEST_BIN_DIR").unwrap();
    let check = |dir: &str| {
        let output = std::process::Command::new(format!("{binary}/assent"))
            .args(["bot", "check", dir])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/bot");
    assert_eq!(check(example), (Some(0), "4 steps in en, fr, ru\n".to_owned()));
    let dir = std::env::temp_dir().join(assent_tests::harness::unique("bot"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("bot.toml"), "languages = [\"en\"]\nnotice = \"https://a.example\"")
        .unwrap();
    std::fs::write(
        dir.join("a.toml"),
        "[[step]]\nname = \"a\"\ntriggers.en = [\"stop\"]\nreply.en = \"b\"",
    )
    .unwrap();
    let told = "a.toml: step \"a\": the trigger \"stop\" is a stop, an opt-in or a code: those are never the bot's\n";
    assert_eq!(check(dir.to_str().unwrap()), (Some(1), told.to_owned()));
    std::fs::remove_dir_all(dir).unwrap();
}
