//! The pages for people: out at one click, in by an act from one's own number, and nothing more for whoever
//! got hold of a link.

use assent_contracts::code::Code;
use assent_tests::cluster::browser::Browser;
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use serde_json::{Value, json};

/// The address of her preference page.
fn link(cluster: &Cluster, person: &Person) -> String {
    let made = cluster.assent(&["preferences", "link", &person.phone]);
    assert_eq!(made.status, 0, "{}", made.text);
    made.json["url"].as_str().expect("an address").to_owned()
}

async fn becomes(cluster: &Cluster, person: &Person, reasons: &[&str]) {
    until(&format!("the gate says {reasons:?}"), async || {
        cluster.explain(person).json["reasons"] == json!(reasons)
    })
    .await;
}

/// Trap 23 (GDPR Article 7(3)): withdrawing takes no more steps than granting, for everybody who comes by a
/// page.
#[tokio::test(flavor = "multi_thread")]
async fn trap_23_one_click_opts_out_and_more_is_for_the_person_alone() {
    let cluster = Cluster::start().await;
    let (person, _) = cluster.willing().await;
    let page = link(&cluster, &person);

    // Whoever looks at the link, a machine too, changes nothing; in her language.
    let mut looker = cluster.browser();
    assert!(looker.open(&page).await.has_button("Stop all messages"));
    assert!(looker.open(&format!("{page}?lang=fr")).await.has_button("Arrêter tous les messages"));
    assert!(looker.open(&format!("{page}?lang=ru")).await.has_button("Остановить все сообщения"));
    assert!(!looker.page.contains("You agreed"), "the link tells nothing about her");
    assert_eq!(looker.open("/settings").await.status, 401);
    assert_eq!(looker.open("/p/made-up").await.status, 404);
    assert_eq!(looker.open(&format!("{page}/stop")).await.status, 405, "looking is not stopping");
    becomes(&cluster, &person, &["consent_given"]).await;

    // More begins with a message from her number, and from no other.
    let mut browser = cluster.browser();
    browser.open(&page).await.press("Show my settings").await;
    let prepared = browser.prepared();
    assert_eq!(browser.press("I have sent it").await.status, 409, "it hasn't come");
    let (other, _) = cluster.willing().await;
    assert_eq!(cluster.hears(&other, &prepared).await, 200);
    // The code without what it opens says nothing: she may have been asked for it under a pretext.
    let code = prepared.split_whitespace().next_back().unwrap();
    assert_eq!(cluster.hears(&person, code).await, 200);
    until("both messages were heard", async || {
        let open = "SELECT count(*) FROM declarations WHERE settled_at IS NULL";
        let pool = cluster.pool("messaging").await;
        sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
    assert_eq!(browser.press("I have sent it").await.status, 409);
    assert_eq!(cluster.hears(&person, &prepared).await, 200);
    until("her message has come", async || {
        browser.press("I have sent it").await;
        browser.page.contains("Your settings")
    })
    .await;
    assert!(browser.page.contains("You agreed on 20"), "{}", browser.page);

    // What she agreed to, on paper.
    let place = |name: &str| {
        let start = browser.page.find("/settings/receipts/").expect("a receipt");
        let event = browser.page[start..].split('/').nth(3).unwrap();
        format!("/settings/receipts/{event}/{name}")
    };
    let folder = cluster.dir.join("taken");
    std::fs::create_dir(&folder).unwrap();
    for name in ["receipt.jsonld", "receipt.jws", "receipt.html"] {
        let (_, content) = browser.download(&place(name)).await;
        std::fs::write(folder.join(name), content).unwrap();
    }
    let (file, key) = (folder.join("receipt.jsonld"), cluster.dir.join("keys/receipts.pub.pem"));
    let verified =
        cluster.assent(&["verify", file.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert_eq!((verified.status, &verified.json["valid"]), (0, &json!(true)), "{}", verified.text);

    // No, and yes again, each to one purpose.
    browser.press("No, I don’t").await;
    assert!(browser.page.contains("You withdrew your consent on"), "{}", browser.page);
    becomes(&cluster, &person, &["consent_withdrawn"]).await;
    browser.press("Yes, I agree").await;
    becomes(&cluster, &person, &["consent_given"]).await;
    assert_eq!(cluster.send(&person).status, 0);
    browser.press("Leave this page").await;
    assert_eq!(browser.open("/settings").await.status, 401);

    // The code and its proof work once; who was forwarded the link can only opt her out.
    let mut forwarded = cluster.browser();
    forwarded.open(&page).await.press("Show my settings").await;
    assert_eq!(forwarded.press("I have sent it").await.status, 409);
    let revoked = cluster.assent(&["preferences", "revoke", &person.phone]);
    assert_eq!((revoked.status, &revoked.json["revoked"]), (0, &json!(1)), "{}", revoked.text);
    forwarded.open(&page).await;
    assert!(!forwarded.has_button("Show my settings"));

    // One click, and it is settled.
    let mut out = cluster.browser();
    out.open(&page).await.press("Stop all messages").await;
    assert!(out.page.contains("from now on"), "{}", out.page);
    assert_eq!(cluster.send(&person).json["state"], "refused");
    becomes(&cluster, &person, &["consent_withdrawn"]).await;
    assert_eq!(out.presses, 1);
    // In takes a message at least, and a page before it.
    assert!(!out.has_button("Yes, I agree"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_is_confirmed_from_her_own_number_or_by_her_link() {
    let cluster = Cluster::start().await;
    double_opt_in(&cluster);

    // By a message.
    let person = Person::somebody();
    cluster.import(&person).await;
    becomes(&cluster, &person, &["no_consent"]).await;
    let asked = cluster.grant(&person);
    assert_eq!((asked.status, &asked.json["status"]), (0, &json!("unconfirmed")), "{}", asked.text);
    becomes(&cluster, &person, &["consent_unconfirmed"]).await;
    let code = asked.json["unconfirmed"]["code"].as_str().unwrap();
    let (other, sent) = (Person::somebody(), format!("I agree. {code}"));
    assert_eq!(cluster.hears(&other, &sent).await, 200);
    assert_eq!(cluster.hears(&person, "STOP").await, 200);
    becomes(&cluster, &person, &["consent_withdrawn", "stopped"]).await;
    assert_eq!(cluster.hears(&person, &sent).await, 200);
    let asked = cluster.grant(&person);
    let code = asked.json["unconfirmed"]["code"].as_str().unwrap();
    assert_eq!(cluster.hears(&person, code).await, 200);
    // The new one confirms, and lifts the stop; the one that she stopped did not.
    becomes(&cluster, &person, &["consent_given"]).await;
    let (_, history) = cluster
        .get("consent", &format!("/v1/subjects/{}/consents", id(&cluster, &person).await))
        .await;
    assert_eq!(history["consents"].as_array().map(Vec::len), Some(2), "{history}");

    // By the link, once: looking at it confirms nothing.
    let person = Person::somebody();
    cluster.import(&person).await;
    let asked = cluster.grant(&person);
    let page = format!("/confirm/{}", asked.json["unconfirmed"]["link"].as_str().unwrap());
    let mut browser = cluster.browser();
    assert_eq!(browser.open(&page).await.status, 200);
    assert!(browser.page.contains("news and offers by WhatsApp"), "{}", browser.page);
    becomes(&cluster, &person, &["consent_unconfirmed"]).await;
    assert_eq!(browser.press("Yes, it was me").await.status, 200);
    becomes(&cluster, &person, &["consent_given"]).await;
    assert_eq!(browser.open(&page).await.status, 409, "there is nothing left to confirm");
    assert_eq!(browser.open("/confirm/made-up").await.status, 404);
}

async fn id(cluster: &Cluster, person: &Person) -> String {
    cluster.subject(person).await.expect("she is known")
}

/// The policy in force, with double opt-in for marketing and a notice in French.
fn double_opt_in(cluster: &Cluster) {
    marketing(cluster, "double_opt_in = true\nchange =");
}

/// The policy in force, with these lines instead of marketing's `change =` and a notice in French.
fn marketing(cluster: &Cluster, lines: &str) {
    let dir = cluster.dir.join("policy");
    let dir = dir.to_str().unwrap();
    assert_eq!(cluster.assent(&["policy", "export", dir]).status, 0);
    let edit = |file: &str, from: &str, to: &str| {
        let path = std::path::Path::new(dir).join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    edit("purposes/marketing.toml", "change =", lines);
    let notice = "title = \"Nouvelles\"\ntext = \"Des nouvelles par WhatsApp ?\"\n\
                  withdrawal = \"Écrivez STOP.\"\n";
    std::fs::write(std::path::Path::new(dir).join("notices/marketing/fr.toml"), notice).unwrap();
    let applied = cluster.assent(&["policy", "apply", dir]);
    assert_eq!(applied.status, 0, "{}", applied.text);
}

/// Click-to-chat: a page shows the notice; whoever sends the message agrees to that very text.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_the_prepared_message_agrees_to_the_text_that_was_shown() {
    let cluster = Cluster::start().await;
    double_opt_in(&cluster);
    let mut browser = cluster.browser();
    browser.open("/join?lang=fr").await;
    assert!(browser.page.contains("Nouvelles"), "{}", browser.page);
    browser.open("/join/marketing?lang=fr").await;
    assert!(browser.page.contains("Des nouvelles par WhatsApp"), "{}", browser.page);
    assert_eq!(cluster.browser().open("/join/nothing").await.status, 404);
    let prepared = browser.prepared();
    let code = prepared.strip_prefix("J’accepte. ").expect("in her language").to_owned();

    // A stranger: nothing was known of her, and no second confirmation is asked for.
    let person = Person::somebody();
    assert_eq!(cluster.hears(&person, &prepared).await, 200);
    until("she is known and may be messaged", async || {
        cluster.subject(&person).await.is_some()
            && cluster.explain(&person).json["verdict"] == "allow"
    })
    .await;
    let explained = cluster.explain(&person);
    let hash = explained.json["notice_hash"].as_str().expect("a notice");
    assert_eq!(Code::of_hex(hash).map(|code| code.to_string()), Some(code));
    let (_, history) = cluster
        .get("consent", &format!("/v1/subjects/{}/history", id(&cluster, &person).await))
        .await;
    let granted = history["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|event| event["data"]["notice_hash"] == hash)
        .unwrap_or_else(|| panic!("{history}"));
    assert_eq!(granted["data"]["method"], "click_to_chat", "{history}");
    assert_eq!(cluster.send(&person).status, 0);
}

/// G9: the page's door is open while the consent service is down, and what it took holds.
#[tokio::test(flavor = "multi_thread")]
async fn g9_a_click_opts_out_while_the_consent_service_is_down() {
    let wishes = Wishes {
        only: vec!["gateway", "consent", "vault", "messaging", "console"],
        ..Wishes::default()
    };
    let mut cluster = Cluster::with(wishes).await;
    let (person, subject) = cluster.willing().await;
    let page = link(&cluster, &person);
    cluster.kill("consent");

    let mut browser = cluster.browser();
    assert_eq!(browser.open(&page).await.status, 200);
    assert!(!browser.has_button("Show my settings"));
    browser.press("Stop all messages").await;
    assert_eq!(browser.status, 200, "{}", browser.page);
    assert!(browser.page.contains("all messages to you"), "{}", browser.page);
    let message = cluster.queue(&subject).await;

    cluster.restart("consent").await;
    let view = cluster.settled(&message).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &json!(["stopped"])));
    becomes(&cluster, &person, &["consent_withdrawn", "stopped"]).await;

    // With nobody there to take it she is told how else to stop.
    cluster.kill("consent");
    cluster.kill("messaging");
    let mut browser = cluster.browser();
    browser.open(&page).await;
    assert_eq!(browser.press("Stop all messages").await.status, 503);
    assert!(browser.page.contains("STOP by WhatsApp to +33900000001"), "{}", browser.page);
}

/// The whole road of a question: she writes, she is asked through the gate, her button answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_goes_out_in_her_window_and_its_button_answers() {
    let cluster = Cluster::start().await;
    marketing(&cluster, "ask.template = \"spring_offer\"\nchange =");
    let person = Person::somebody();
    let subject = cluster.import(&person).await;
    let ask = || {
        let purpose = ["--purpose", "marketing", "--channel", "whatsapp", "--language", "fr"];
        cluster.assent(&[&["consent", "ask", &person.phone][..], &purpose].concat())
    };
    let refused = ask();
    assert_eq!(
        (refused.status, &refused.json["reasons"]),
        (1, &json!(["window_closed"])),
        "{}",
        refused.text
    );
    assert_eq!(cluster.hears(&person, "Bonjour, une question").await, 200);
    until("she is asked", async || {
        let asked = ask();
        // Her message may be on its way; then she has been asked once.
        asked.status == 0 || asked.json["reasons"] == json!(["asked_lately"])
    })
    .await;
    until("the question is with her", async || cluster.delivered_to(&person).await.len() == 1)
        .await;
    let call = cluster.delivered_to(&person).await.remove(0);
    let button = &call["body"]["template"]["components"][0];
    assert_eq!((&button["type"], &button["index"]), (&json!("button"), &json!("0")), "{call}");
    assert_eq!(call["body"]["template"]["language"]["code"], "fr");
    assert_eq!(cluster.explain(&person).json["reasons"], json!(["no_consent"]), "asked is no yes");

    let payload = &button["parameters"][0]["payload"];
    let pressed = json!({"from": person.phone, "button": {"payload": payload, "text": "Oui"}});
    let (status, _) = cluster.post("whatsapp-sim", "/_sim/inbound", &pressed, None).await;
    assert_eq!(status, 200);
    becomes(&cluster, &person, &["consent_given"]).await;
    let path = format!("/v1/subjects/{subject}/history");
    let (_, history) = cluster.get("consent", &path).await;
    let granted = |it: &&Value| it["type"] == "assent.consent.granted.v1";
    let granted = history["items"].as_array().unwrap().iter().find(granted).expect("she agreed");
    assert_eq!(granted["data"]["method"], "whatsapp_message", "{history}");
    assert!(granted["data"]["confirms"]["request_id"].is_string(), "{history}");
}

/// A browser within a visit of hers: her link, and the message that it asks for.
async fn visit(cluster: &Cluster, person: &Person) -> Browser {
    let mut browser = cluster.browser();
    browser.open(&link(cluster, person)).await.press("Show my settings").await;
    let prepared = browser.prepared();
    assert_eq!(cluster.hears(person, &prepared).await, 200);
    until("her message has come", async || {
        browser.press("I have sent it").await;
        browser.page.contains("Your settings")
    })
    .await;
    browser
}

/// The reference and the secret that the page before her gives.
fn given(browser: &Browser) -> (String, String) {
    let at = |id: &str| {
        let (_, rest) = browser.page.split_once(&format!("id=\"{id}\">")).expect("it is given");
        rest.split('<').next().unwrap().to_owned()
    };
    (at("reference"), at("secret"))
}

/// What was taken in, newest first, as operators see it.
async fn taken_in(cluster: &Cluster) -> Vec<Value> {
    let (status, listed) = cluster.get("erasure", "/v1/requests").await;
    assert_eq!(status, 200, "{listed}");
    let mut views = Vec::new();
    for item in listed["items"].as_array().unwrap() {
        let path = format!("/v1/requests/{}", item["request_id"].as_str().unwrap());
        views.push(cluster.get("erasure", &path).await.1);
    }
    views
}

/// Her rights are hers to ask for: in her language, without a script, and by nobody who got hold of a link.
#[tokio::test(flavor = "multi_thread")]
async fn she_asks_for_her_rights_on_her_page_once_and_is_given_what_she_tracks_them_by() {
    let cluster = Cluster::start().await;
    let (person, _) = cluster.willing().await;
    let mut browser = visit(&cluster, &person).await;
    for (language, erasure, due) in [
        ("fr", "Demander: Effacement", "vous avez une réponse avant le 20"),
        ("ru", "Попросить: Удаление", "ответ будет до 20"),
        ("en", "Ask: Erasure", "you are answered before 20"),
    ] {
        browser.open(&format!("/settings/requests?lang={language}")).await;
        assert_eq!(browser.status, 200, "{}", browser.page);
        assert!(browser.has_button(erasure), "{}", browser.page);
        assert_eq!(browser.page.matches(due).count(), 7, "each right has its term");
    }

    // Who has the link, and even the page, but not her visit, asks for nothing.
    let mut forwarded = cluster.browser();
    forwarded.open(&link(&cluster, &person)).await;
    assert_eq!(forwarded.open("/settings/requests").await.status, 401);
    forwarded.page.clone_from(&browser.page);
    assert_eq!(forwarded.press("Ask: Erasure").await.status, 401);
    // Nor does she by accident, nor with a place that is none.
    assert_eq!(browser.types("sure", "").press("Ask: Erasure").await.status, 400);
    let access = "Ask: To see what we hold about you";
    browser.open("/settings/requests?lang=en").await;
    assert_eq!(browser.types("place", "Lyon!").press(access).await.status, 400);
    assert_eq!(taken_in(&cluster).await, Vec::<Value>::new());

    browser.open("/settings/requests?lang=en").await;
    browser.types("place", "fr").press(access).await;
    assert_eq!(browser.status, 200, "{}", browser.page);
    let (reference, secret) = given(&browser);
    browser.open("/settings/requests?lang=en").await;
    browser.types("place", "FR").press(access).await;
    assert_eq!(given(&browser), (reference.clone(), secret.clone()), "pressed twice, it is one");
    let opened = taken_in(&cluster).await;
    let [view] = &opened[..] else { panic!("{opened:?}") };
    assert_eq!((&view["kind"], &view["origin"]), (&json!("access"), &json!("page")));
    assert_eq!(view["identity"]["method"], "signed_link", "{view}");
    browser.open("/settings/requests?lang=en").await;
    assert!(browser.page.contains(&reference) && !browser.page.contains(&secret), "shown once");

    // What she was given opens her request, for whoever has it.
    let mut anybody = cluster.browser();
    anybody.open("/requests?lang=en").await;
    anybody.types("reference", &reference).types("secret", &secret);
    assert!(anybody.press("Show my request").await.page.contains(&reference), "{}", anybody.page);

    // And she is forgotten; what she was given before tells her so.
    browser.press("Ask: Erasure").await;
    assert!(browser.page.contains("Your data are being erased"), "{}", browser.page);
    let (reference, secret) = given(&browser);
    until("she is forgotten", async || {
        anybody.open("/requests?lang=en").await;
        anybody.types("reference", &reference).types("secret", &secret);
        anybody.press("Show my request").await.page.contains("Proof that you were erased")
    })
    .await;
    assert_eq!(cluster.subject(&person).await, None);
}

/// What she asks for by a message is handed over, and her page tells what she tracks it by.
#[tokio::test(flavor = "multi_thread")]
async fn she_asks_by_message_reads_the_secret_on_her_page_and_is_erased_when_she_is_sure() {
    let cluster = Cluster::start().await;
    let (person, _) = cluster.willing().await;
    let (other, _) = cluster.willing().await;
    assert_eq!(cluster.hears(&person, "Delete my data").await, 200);
    let mut opened = Vec::new();
    until("it is handed over", async || {
        opened = taken_in(&cluster).await;
        opened.len() == 1
    })
    .await;
    let told = (&opened[0]["origin"], &opened[0]["status"]);
    assert_eq!(told, (&json!("whatsapp_message"), &json!("identity_pending")));
    becomes(&cluster, &person, &["consent_withdrawn", "stopped"]).await;

    let mut browser = visit(&cluster, &person).await;
    browser.open("/settings/requests?lang=en").await;
    let reference = opened[0]["reference"].as_str().unwrap();
    assert!(browser.page.contains(reference), "{}", browser.page);
    browser.press("Show my request").await;
    assert!(browser.page.contains("a proof that it is you"), "{}", browser.page);

    assert_eq!(cluster.hears(&person, "YES, DELETE MY DATA").await, 200);
    until("she is forgotten", async || cluster.subject(&person).await.is_none()).await;
    let views = taken_in(&cluster).await;
    let [view] = &views[..] else { panic!("{views:?}") };
    assert_eq!(view["identity"]["method"], "number_reply", "{view}");
    assert!(cluster.subject(&other).await.is_some(), "nobody else is");
}
