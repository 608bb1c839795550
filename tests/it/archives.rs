//! A person sees what is held on her (GDPR Article 15) and takes along what is hers (Article 20): through every service,
//! to the page where she takes it.

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, until};
use serde_json::{Value, json};

/// A request of hers, shown to be hers.
fn asks(cluster: &Cluster, person: &Person, kind: &str) -> Value {
    let what = ["--kind", kind, "--checked", "known_customer"];
    let opened = cluster.assent(&[&["request", "open", &person.phone][..], &what].concat());
    assert_eq!(opened.status, 0, "{}", opened.text);
    opened.json
}

async fn answered(cluster: &Cluster, opened: &Value) {
    let id = opened["request_id"].as_str().unwrap();
    until("it is answered", async || {
        cluster.assent(&["request", "show", id]).json["status"] == "answered"
    })
    .await;
}

/// Writes, and waits until it stands in her conversation; the conversation's id.
async fn says(cluster: &Cluster, person: &Person, subject: &str, text: &str) -> String {
    assert_eq!(cluster.hears(person, text).await, 200);
    let mut id = String::new();
    until("it stands in her conversation", async || {
        let (_, listed) =
            cluster.get("messaging", &format!("/v1/conversations?subject_id={subject}")).await;
        id = listed["items"][0]["conversation_id"].as_str().unwrap_or_default().to_owned();
        if id.is_empty() {
            return false;
        }
        let path = format!("/v1/conversations/{id}/read");
        let (_, read) = cluster.post("messaging", &path, &json!({"reason": "test"}), None).await;
        read.to_string().contains(text)
    })
    .await;
    id
}

/// Trap 19: an export that leaks others. Two people with one e-mail address, each named in what is written with the other.
#[tokio::test(flavor = "multi_thread")]
async fn trap_19_she_takes_what_is_held_on_her_and_nothing_of_anybody_else() {
    let cluster = Cluster::start().await;
    let (ada, bob) = (Person::somebody(), Person::somebody());
    let file = format!(
        "phone,name,email\n{},Ada Hers,shared@example.org\n{},Bob Others,shared@example.org\n",
        ada.phone, bob.phone
    );
    let imported = cluster.import_file(&file);
    assert_eq!(imported.json["created"], 2, "{}", imported.text);
    let her = cluster.subject(&ada).await.unwrap();
    let him = cluster.subject(&bob).await.unwrap();
    assert_eq!(cluster.grant(&ada).status, 0);
    assert_eq!(cluster.grant(&bob).status, 0);
    let sent = cluster.send(&ada);
    assert_eq!(sent.status, 0, "{}", sent.text);
    let said = format!("my friend is at {}", bob.phone);
    let conversation = says(&cluster, &ada, &her, &said).await;
    says(&cluster, &bob, &him, "what only Bob says").await;
    let note = json!({"text": format!("she came with {}, pays by card", bob.phone)});
    let notes = format!("/v1/conversations/{conversation}/notes");
    assert_eq!(cluster.post("messaging", &notes, &note, Some("note")).await.0, 201);

    let read_model = cluster.pool("projector").await;
    until("the read model knows her too", async || {
        let known = "SELECT EXISTS (SELECT FROM live.consents WHERE subject_id = $1::uuid)";
        sqlx::query_scalar::<_, bool>(known).bind(&her).fetch_one(&read_model).await.unwrap()
    })
    .await;
    let opened = asks(&cluster, &ada, "access");
    answered(&cluster, &opened).await;
    let [reference, secret] = ["reference", "secret"].map(|name| opened[name].as_str().unwrap());
    let mut browser = cluster.browser();
    browser.open("/requests").await.types("reference", reference).types("secret", "made up");
    assert_eq!(browser.press("Show my request").await.status, 404);
    for (language, show, take) in [
        ("fr", "Voir ma demande", "Emporter mes données"),
        ("ru", "Показать мою просьбу", "Забрать мои данные"),
        ("en", "Show my request", "Take my data"),
    ] {
        browser.open(&format!("/requests?lang={language}")).await;
        browser.types("reference", reference).types("secret", secret).press(show).await;
        assert!(browser.has_button(take), "{language}: {}", browser.page);
    }
    browser.press("Take my data").await;
    let archive = browser.page.clone();
    assert_eq!(browser.status, 200, "{archive}");
    for hers in [
        "Ada Hers",
        &*ada.phone,
        "my friend is at",
        "pays by card",
        "shared@example.org",
        "What we hold about you",
        "assent.consent.granted.v1",
        "form 12",
        "spring_offer",
        "subject_request",
        "dpv:ConsentGiven",
        "\"read_model\"",
        "BEGIN:VCARD",
    ] {
        assert!(archive.contains(hers), "{hers} is missing");
    }
    let others = [bob.digits(), "Bob Others", "what only Bob says", him.as_str(), "test-"];
    for other in others {
        assert!(!archive.contains(other), "{other} is in it");
    }
    // Once, by whatever road.
    browser.open("/requests").await;
    browser.types("reference", reference).types("secret", secret).press("Show my request").await;
    assert!(browser.page.contains("You took your data on"), "{}", browser.page);
    let guess = json!({"reference": reference, "secret": secret});
    let (status, again) = cluster.post("erasure", "/v1/tracking/archive", &guess, None).await;
    assert_eq!((status, &again["reason"]), (409, &json!("archive_gone")), "{again}");

    // What she takes along: hers, without what was written about her.
    let opened = asks(&cluster, &ada, "portability");
    answered(&cluster, &opened).await;
    let [reference, secret] = ["reference", "secret"].map(|name| opened[name].as_str().unwrap());
    browser.open("/requests").await;
    browser.types("reference", reference).types("secret", secret).press("Show my request").await;
    let archive = browser.press("Take my data").await.page.clone();
    for (text, is_in) in [("Ada Hers", true), ("my friend is at", true), ("pays by card", false)] {
        assert_eq!(archive.contains(text), is_in, "{text}");
    }

    // Her erasure leaves none of what waits.
    let opened = asks(&cluster, &ada, "access");
    answered(&cluster, &opened).await;
    let erased = cluster.assent(&["erase", &ada.phone, "--checked", "called_back", "--wait"]);
    assert_eq!(erased.json["status"], "completed", "{}", erased.text);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM archives")
        .fetch_one(&cluster.pool("erasure").await)
        .await
        .unwrap();
    assert_eq!(left, 0);
    let guess = json!({"reference": opened["reference"], "secret": opened["secret"]});
    let (status, gone) = cluster.post("erasure", "/v1/tracking/archive", &guess, None).await;
    assert_eq!((status, &gone["reason"]), (409, &json!("erased")), "{gone}");
}

/// She has her number and her name corrected (GDPR Article 16), once it is shown who asks.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_wrong_is_put_right_and_messages_go_to_her_new_number() {
    let cluster = Cluster::start().await;
    let (ada, right) = (Person::somebody(), Person::somebody());
    let file = format!("phone,name\n{},Ada Wrong\n", ada.phone);
    assert_eq!(cluster.import_file(&file).json["created"], 1);
    let her = cluster.subject(&ada).await.unwrap();
    assert_eq!(cluster.grant(&ada).status, 0);
    let opened = asks(&cluster, &ada, "rectification");
    let id = opened["request_id"].as_str().unwrap();
    let to = ["--phone", &*right.phone, "--name", "Ada Right"];
    let done = cluster.assent(&[&["request", "rectify", id][..], &to].concat());
    assert_eq!((done.status, &done.json["status"]), (0, &json!("answered")), "{}", done.text);
    assert_eq!(done.json["rectification"]["fields"], json!(["name", "phone"]));
    assert_eq!(cluster.subject(&right).await, Some(her));
    assert_eq!(cluster.subject(&ada).await, None, "trap 10: whoever has it is somebody else");
    // The answer meant settled: the gate knows her new number, and her consent stays hers.
    let sent = cluster.send(&right);
    assert_eq!(sent.status, 0, "{}", sent.text);

    let mut browser = cluster.browser();
    let [reference, secret] = ["reference", "secret"].map(|name| opened[name].as_str().unwrap());
    browser.open("/requests").await;
    browser.types("reference", reference).types("secret", secret).press("Show my request").await;
    assert!(browser.page.contains("your telephone number"), "{}", browser.page);
    let seen = asks(&cluster, &right, "access");
    answered(&cluster, &seen).await;
    let [reference, secret] = ["reference", "secret"].map(|name| seen[name].as_str().unwrap());
    // As whoever comes in person takes it.
    let file = std::env::temp_dir().join(format!("{id}.zip"));
    let took = cluster
        .assent_with_input(&["request", "collect", reference, file.to_str().unwrap()], secret);
    assert_eq!(took.status, 0, "{}", took.text);
    let archive = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
    assert!(archive.contains("Ada Right") && !archive.contains("Ada Wrong"), "{archive}");
    // Once: and one that is there is not written over.
    let again = cluster
        .assent_with_input(&["request", "collect", reference, file.to_str().unwrap()], secret);
    assert_eq!(again.status, 2, "{}", again.text);
    std::fs::remove_file(&file).unwrap();
    let late = cluster
        .assent_with_input(&["request", "collect", reference, file.to_str().unwrap()], secret);
    assert_eq!(late.status, 1, "{}", late.text);
    assert!(!file.exists(), "nothing is left of a try");
}

/// GDPR Article 18: her data stay, and nothing is done with them, until she has heard that this ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_restricted_is_kept_shown_to_her_and_used_for_nothing() {
    let cluster = Cluster::start().await;
    let ada = Person::somebody();
    cluster.import(&ada).await;
    let opened = asks(&cluster, &ada, "restriction");
    let id = opened["request_id"].as_str().unwrap();
    // Her request has stopped marketing. What she agrees to since is no leave to use what is restricted.
    let placed = cluster.assent(&["request", "restrict", id]);
    assert_eq!((placed.status, &placed.json["status"]), (0, &json!("answered")), "{}", placed.text);
    assert_eq!(cluster.grant(&ada).status, 0);
    let everybody = "/v1/audience?purpose=marketing&channel=whatsapp&consents=any";
    let members = async || {
        let (status, page) = cluster.get("projector", everybody).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().unwrap().len()
    };
    // Kept: she is a contact; and in no audience.
    until("the read models know both", async || {
        let (_, contacts) = cluster.get("projector", "/v1/contacts").await;
        contacts["items"].as_array().unwrap().len() == 1 && members().await == 0
    })
    .await;
    let sent = cluster.send(&ada);
    assert_eq!((sent.status, &sent.json["reasons"]), (1, &json!(["restricted"])), "{}", sent.text);
    let seen = asks(&cluster, &ada, "access");
    answered(&cluster, &seen).await;

    let early = cluster.assent(&["request", "release", id, "--reason", "data_verified"]);
    assert_eq!(early.status, 1, "{}", early.text);
    let told = cluster.assent(&["request", "announce-release", id, "--how", "letter"]);
    assert_eq!(told.status, 0, "{}", told.text);
    let over = cluster.assent(&["request", "release", id, "--reason", "data_verified"]);
    assert_eq!(over.status, 0, "{}", over.text);
    let sent = cluster.send(&ada);
    assert_eq!(sent.status, 0, "{}", sent.text);
    until("she is in audiences again", async || members().await == 1).await;
}
