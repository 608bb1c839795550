//! Who somebody is: by number, by user id, by both; when it is in doubt; and when nobody can say.

use assent_contracts::SubjectId;
use assent_runtime::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::stand_ins::{BAD_USER_ID, Home, Neighbours, Provider, Replica, Setup, phone, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

const PENDING: &str = "SELECT count(*) FROM declarations WHERE settled_at IS NULL";
const UNTOLD: &str = "SELECT count(*) FROM told_identities WHERE sealed IS NOT NULL";
const CONFIRMATIONS: &str = "SELECT count(*) FROM intents WHERE purpose = 'stop_confirmation'";
const INBOUND: &str = "SELECT count(*) FROM inbound_messages";

fn digits(n: usize) -> String {
    phone(n).trim_start_matches('+').to_owned()
}

/// A text message as the platform tells of it.
fn text(id: &str, body: &str, more: Value) -> Value {
    let mut message = json!({"id": id, "type": "text", "text": {"body": body}});
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"messages": [message]})
}

fn from_user_id(id: &str, user_id: &str, body: &str) -> Value {
    text(id, body, json!({"from": "", "from_user_id": user_id}))
}

impl Replica {
    async fn hears_of(&self, value: Value) {
        assert_eq!(self.webhook(value).await, 200);
        self.processed().await;
        until("the vault has heard", async || self.count(UNTOLD).await == 0).await;
    }

    async fn tasks(&self) -> Vec<(String, String)> {
        let tasks = self.get("/v1/tasks").await;
        let said = |task: &Value, key: &str| task[key].as_str().unwrap().to_owned();
        let items = tasks["items"].as_array().unwrap();
        items.iter().map(|task| (said(task, "kind"), said(task, "reason"))).collect()
    }

    async fn task(&self) -> String {
        let tasks = self.get("/v1/tasks").await;
        tasks["items"][0]["task_id"].as_str().unwrap().to_owned()
    }

    /// The outcome of `hello` to her: its state, and why where it didn't go out.
    async fn outcome(&self, subject: SubjectId) -> (String, Vec<String>) {
        let view = self.settled(self.send(subject).await).await;
        let reasons = serde_json::from_value(view["reasons"].clone()).unwrap();
        (view["state"].as_str().unwrap().to_owned(), reasons)
    }
}

fn refused(reason: &str) -> (String, Vec<String>) {
    ("refused".to_owned(), vec![reason.to_owned()])
}

fn accepted() -> (String, Vec<String>) {
    ("accepted".to_owned(), Vec::new())
}

/// A card may be anybody's, but where she was asked for her number the platform says that it is hers.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_she_shares_when_asked_is_told_as_hers_and_no_other_card_is() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person_by_user_id("FR.1");
    for (id, origin, told) in [("wamid.1", "other", 0), ("wamid.2", "contact_request", 1)] {
        let phones = json!([{"phone": phone(1), "wa_id": digits(1), "type": "CELL"}]);
        let card = json!({"from_user_id": "FR.1", "id": id, "type": "contacts",
            "contacts": [{"origin": origin, "phones": phones}]});
        replica.hears_of(json!({"messages": [card]})).await;
        let identities = neighbours.identities();
        let with_number = identities.iter().filter(|it| it.get("phone").is_some());
        assert_eq!(with_number.count(), told, "{origin}: {identities:?}");
    }
    assert!(neighbours.identities().contains(&json!({"phone": phone(1), "user_id": "FR.1"})));
    replica.stop().await;
}

/// By a message, a status, the answer to a send, a preference: whatever names her twice.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_the_platform_tells_reach_the_vault_once() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let people: Vec<SubjectId> = (1..=4).map(|n| neighbours.person(n)).collect();

    let contact = json!({"wa_id": digits(1), "user_id": "FR.1", "parent_user_id": "FR.ENT.1"});
    for id in ["wamid.1", "wamid.2"] {
        let mut message = text(id, "hello", json!({"from": digits(1)}));
        message["contacts"] = json!([contact]);
        replica.hears_of(message).await;
    }
    let expected = json!({"phone": phone(1), "user_id": "FR.1", "parent_user_id": "FR.ENT.1"});
    assert_eq!(neighbours.identities(), [expected], "told once");

    let message = replica.send(people[1]).await;
    replica.settled(message).await;
    let status = |more: Value| {
        let mut status = json!({"id": format!("wamid.{message}"), "status": "sent"});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"statuses": [status]})
    };
    let both = json!({"recipient_id": digits(2), "recipient_user_id": "FR.2"});
    replica.hears_of(status(both)).await;
    assert_eq!(neighbours.identities()[1], json!({"phone": phone(2), "user_id": "FR.2"}));

    provider.knows_as(Some("FR.3"));
    replica.settled(replica.send(people[2]).await).await;
    until("the answer's names are told", async || neighbours.identities().len() == 3).await;
    assert_eq!(neighbours.identities()[2], json!({"phone": phone(3), "user_id": "FR.3"}));

    let preference = json!({"wa_id": digits(4), "user_id": "FR.4",
        "category": "marketing_messages", "value": "resume", "timestamp": 1});
    replica.hears_of(json!({"user_preferences": [preference]})).await;
    assert_eq!(neighbours.identities().len(), 4);
    // Where no number is told, it is whoever got the message.
    replica.hears_of(status(json!({"recipient_user_id": "FR.2"}))).await;
    assert_eq!(neighbours.identities()[4], json!({"answers": people[1], "user_id": "FR.2"}));
    // Of strangers nothing stays: they may become known, and then it is told again.
    let mut message = text("wamid.s", "hello", json!({"from": digits(9)}));
    message["contacts"] = json!([{"wa_id": digits(9), "user_id": "FR.9"}]);
    replica.hears_of(message).await;
    assert_eq!(replica.count("SELECT count(*) FROM told_identities").await, 5);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_waits_sealed_until_the_vault_is_back() {
    let home = Home::new().await;
    let provider = Provider::serve().await;
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = reserved.local_addr().unwrap();
    let replica = home.start(&Setup::new(address, provider.address)).await;
    let status = json!({"id": "wamid.x", "status": "sent", "recipient_id": digits(1),
        "recipient_user_id": "FR.canary1"});
    assert_eq!(replica.webhook(json!({"statuses": [status]})).await, 200);
    replica.processed().await;
    assert_eq!(replica.count(UNTOLD).await, 1);
    for canary in ["FR.canary1", "33612300001"] {
        let stored: String = sqlx::query_scalar("SELECT t::text FROM told_identities AS t")
            .fetch_one(replica.messaging.store.pool())
            .await
            .unwrap();
        let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!stored.contains(canary) && !stored.contains(&hex));
    }
    let neighbours = Neighbours::serve(reserved.listen(1_024).unwrap(), home.index.clone());
    neighbours.person(1);
    until("told", async || neighbours.identities().len() == 1).await;
    replica.stop().await;
}

/// People with usernames: no number is told of them, and all goes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn someone_known_by_her_user_id_alone_opts_in_is_written_to_and_stops() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let hers = json!(home.index.tokens("FR.13491208655302741918"));
    replica.hears_of(from_user_id("wamid.1", "FR.13491208655302741918", "START")).await;
    until("the grant", async || neighbours.grants().len() == 1).await;
    let grant = neighbours.grants().remove(0);
    assert_eq!((&grant["actor"], &grant["addresses"]), (&json!("subject"), &hers));
    let subject: SubjectId = grant["subject_id"].as_str().unwrap().parse().unwrap();
    until("settled, her names gone", async || {
        let left =
            "SELECT count(*) FROM declarations WHERE settled_at IS NULL OR account IS NOT NULL";
        replica.count(left).await == 0
    })
    .await;

    let before = replica.count(INBOUND).await;
    replica.hears_of(from_user_id("wamid.2", "FR.13491208655302741918", "when do you open?")).await;
    assert_eq!(replica.count(INBOUND).await, before + 1, "her conversation");
    assert_eq!(replica.outcome(subject).await, accepted());
    let sent = provider.bodies().remove(0);
    assert_eq!(sent["recipient"], "FR.13491208655302741918");
    assert!(sent.get("to").is_none());

    replica.hears_of(from_user_id("wamid.3", "FR.13491208655302741918", "STOP")).await;
    until("the stop arrives", async || neighbours.stops().len() == 1).await;
    assert_eq!(neighbours.stops()[0]["addresses"], hers);
    // The gate found her: nobody has to look for her.
    until("settled", async || replica.count(PENDING).await == 0).await;
    assert!(replica.tasks().await.is_empty());
    until("the confirmation", async || provider.bodies().len() == 2).await;
    assert_eq!(provider.bodies()[1]["recipient"], "FR.13491208655302741918");
    replica.stop().await;
}

/// By whichever of her names she says it: she is answered once, where she is written to.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_by_user_id_of_somebody_with_a_number_is_confirmed_once_at_her_number() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let her = neighbours.person_with(1, "FR.1");
    // Nobody told it here: the gate alone knows whose the user id is.
    replica.hears_of(from_user_id("wamid.1", "FR.1", "STOP")).await;
    until("the confirmation", async || provider.bodies().len() == 1).await;
    let sent = provider.bodies().remove(0);
    assert_eq!(sent["to"], phone(1));
    assert!(sent.get("recipient").is_none() && sent["text"]["body"].is_string());
    assert!(replica.tasks().await.is_empty(), "the gate has found her");
    // Again, by each of her names.
    replica.hears_of(from_user_id("wamid.2", "FR.1", "STOP")).await;
    assert_eq!(replica.hears(1, "STOP").await, 200);
    until("the stops arrive", async || neighbours.stops().len() == 3).await;
    until("settled", async || replica.count(PENDING).await == 0).await;
    assert_eq!(replica.count(CONFIRMATIONS).await, 1);
    let whose: SubjectId =
        sqlx::query_scalar("SELECT subject_id FROM intents WHERE purpose = 'stop_confirmation'")
            .fetch_one(replica.messaging.store.pool())
            .await
            .unwrap();
    assert_eq!(whose, her);
    assert_eq!(provider.bodies().len(), 1);
    replica.stop().await;
}

/// Two people here, and one human: she is not told twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_two_linked_peoples_is_confirmed_once() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let (one, other) = (neighbours.person(1), neighbours.person_by_user_id("FR.1"));
    neighbours.link(one, other);
    let message = replica.send(one).await;
    assert_eq!(replica.settled(message).await["state"], "accepted");
    // Only to whoever wrote may free text go.
    replica.hears_of(from_user_id("wamid.0", "FR.1", "Hello")).await;
    replica.processed().await;
    // From the one's user id, and in answer to what the other got.
    let answer = json!({"from": "", "from_user_id": "FR.1",
        "context": {"id": format!("wamid.{message}")}});
    replica.hears_of(text("wamid.1", "STOP", answer)).await;
    until("settled", async || replica.count(PENDING).await == 0).await;
    let stopped = "SELECT max(cardinality(subjects))::bigint FROM declarations";
    assert_eq!(replica.count(stopped).await, 2, "it is both's");
    assert_eq!(replica.count(CONFIRMATIONS).await, 1);
    until("the confirmation", async || provider.bodies().len() == 2).await;
    assert_eq!(provider.bodies()[1]["recipient"], "FR.1");
    replica.stop().await;
}

/// A yes counts for whom it names: who is one with her may be somebody else by now.
#[tokio::test(flavor = "multi_thread")]
async fn an_opt_in_counts_for_whom_it_names_and_for_nobody_else() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let (one, other) = (neighbours.person(1), neighbours.person_by_user_id("FR.1"));
    neighbours.link(one, other);
    assert_eq!(replica.hears(1, "START").await, 200);
    until("granted", async || replica.count(PENDING).await == 0).await;
    let grants = neighbours.grants();
    assert_eq!((grants.len(), &grants[0]["subject_id"]), (1, &json!(one)));
    assert_eq!(
        grants[0]["addresses"],
        json!(home.index.tokens(&phone(1))),
        "hers alone are lifted"
    );
    // By both names it is said for both.
    let mut both = text("wamid.b", "START", json!({"from": digits(1)}));
    both["contacts"] = json!([{"wa_id": digits(1), "user_id": "FR.1"}]);
    replica.hears_of(both).await;
    until("granted", async || replica.count(PENDING).await == 0).await;
    let whose: Vec<Value> =
        neighbours.grants()[1..].iter().map(|it| it["subject_id"].clone()).collect();
    assert_eq!(whose, [json!(other), json!(one)]);
    replica.stop().await;
}

/// An opt-in that waits is undone by what she says meanwhile, by whichever of her names.
#[tokio::test(flavor = "multi_thread")]
async fn g1_a_start_undoes_no_stop_that_she_said_after_it_by_another_name() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person_with(1, "FR.1");
    neighbours.say_not_who(true);
    assert_eq!(replica.hears(1, "START").await, 200);
    assert_eq!(replica.webhook(from_user_id("wamid.s", "FR.1", "STOP")).await, 200);
    // They share no address, so the stop waits for nobody.
    until("the stop arrives", async || neighbours.stops().len() == 1).await;
    let open = "SELECT count(*) FROM declarations WHERE settled_at IS NULL AND will = 'start'";
    assert_eq!(replica.count(open).await, 1);
    neighbours.say_not_who(false);
    until("settled", async || replica.count(PENDING).await == 0).await;
    assert!(neighbours.grants().is_empty(), "it would lift the stop");

    // The other way round it is her last word, for all her names.
    assert_eq!(replica.webhook(from_user_id("wamid.t", "FR.1", "START")).await, 200);
    until("granted", async || neighbours.grants().len() == 1).await;
    let all = [home.index.tokens("FR.1"), home.index.tokens(&phone(1))].concat();
    assert_eq!(neighbours.grants()[0]["addresses"], json!(all));
    replica.stop().await;
}

/// The gate is told of a link a lease later, and of the stop when it is back: here both hold at once.
#[tokio::test(flavor = "multi_thread")]
async fn g1_a_stop_of_one_of_two_linked_people_blocks_both_at_the_door() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let (one, other) = (neighbours.person(1), neighbours.person_by_user_id("FR.1"));
    let (third, fourth) = (neighbours.person(3), neighbours.person_by_user_id("FR.3"));
    neighbours.link(one, other);
    neighbours.link(third, fourth);
    let message = replica.send(fourth).await;
    replica.settled(message).await;
    for subject in [one, third] {
        assert_eq!(replica.outcome(subject).await, accepted());
    }
    // It is known whose the user id is: nobody has to be looked for.
    let mut both = text("wamid.b", "hello", json!({"from": digits(1)}));
    both["contacts"] = json!([{"wa_id": digits(1), "user_id": "FR.1"}]);
    replica.hears_of(both).await;
    neighbours.refuse_stops(true);
    assert_eq!(replica.webhook(from_user_id("wamid.1", "FR.1", "STOP")).await, 200);
    assert_eq!(replica.outcome(one).await, refused("stopped"));
    // By nothing but the message that it answers.
    let nameless = text("wamid.3", "STOP", json!({"context": {"id": format!("wamid.{message}")}}));
    assert_eq!(replica.webhook(nameless).await, 200);
    assert_eq!(replica.outcome(third).await, refused("stopped"));
    replica.stop().await;
}

/// As long as it is in doubt who she is nobody agrees to anything by her names, and nothing becomes hers.
#[tokio::test(flavor = "multi_thread")]
async fn trap_10_in_doubt_no_opt_in_no_code_and_no_name_counts() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let settled = async || until("settled", async || replica.count(PENDING).await == 0).await;
    // By what was told here.
    let moved = neighbours.person(1);
    let news = json!({"messages": [{"from": digits(1), "type": "system", "id": "wamid.moved",
        "system": {"type": "user_changed_number", "wa_id": digits(11)}}]});
    replica.hears_of(news).await;
    neighbours.codes_mean(json!({"meaning": "join", "purpose": "news", "channel": "whatsapp",
        "notice_hash": "ab"}));
    for body in ["START", "7F3K2-9QMXA"] {
        assert_eq!(replica.hears(1, body).await, 200);
        settled().await;
    }
    let mut message = text("wamid.1", "hello", json!({"from": digits(1)}));
    message["contacts"] = json!([{"wa_id": digits(1), "user_id": "FR.1"}]);
    replica.hears_of(message.clone()).await;
    assert!(neighbours.identities().is_empty(), "it isn't told");
    // By the vault's word; and by a doubt about who is one with her.
    let (doubted, linked) = (neighbours.person(2), neighbours.person(3));
    neighbours.doubt(doubted);
    neighbours.link(moved, linked);
    for n in [2, 3] {
        for body in ["START", "7F3K2-9QMXA"] {
            assert_eq!(replica.hears(n, body).await, 200);
            settled().await;
        }
    }
    assert!(neighbours.codes().is_empty() && neighbours.grants().is_empty());
    assert_eq!(replica.outcome(linked).await, refused("identity_changed"));

    // Somebody looked: what is said from now on is told.
    let trusted = json!({"subject_id": moved, "reason": "rang_her"});
    assert_eq!(replica.post("/v1/sender/trust", trusted).await.1["lifted"], true);
    let mut again = message.clone();
    again["messages"][0]["id"] = json!("wamid.2");
    again["messages"][0]["timestamp"] = json!("1700000000");
    replica.hears_of(again.clone()).await;
    assert!(neighbours.identities().is_empty(), "it was said before");
    again["messages"][0]["id"] = json!("wamid.3");
    again["messages"][0].as_object_mut().unwrap().remove("timestamp");
    replica.hears_of(again).await;
    assert_eq!(neighbours.identities().len(), 1);
    assert_eq!(replica.outcome(linked).await, accepted());
    assert_eq!(replica.hears(3, "START").await, 200);
    until("granted", async || neighbours.grants().len() == 1).await;
    replica.stop().await;
}

/// What a doubt is about is known of nobody: a stop by that name alone is still looked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_makes_no_user_id_known() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    neighbours.identity_is("FR.2", json!({"outcome": "in_doubt", "subjects": [subject]}));
    let mut message = text("wamid.1", "hello", json!({"from": digits(1)}));
    message["contacts"] = json!([{"wa_id": digits(1), "user_id": "FR.2"}]);
    replica.hears_of(message).await;
    assert_eq!(replica.webhook(from_user_id("wamid.2", "FR.2", "STOP")).await, 200);
    let unattributed = ("stop_unattributed".to_owned(), "user_id_unknown".to_owned());
    assert!(replica.tasks().await.contains(&unattributed));
    replica.stop().await;
}

/// Her answer from a number that nobody knows: it stops her too, and a human looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_from_an_unknown_number_that_answers_a_message_is_its_recipients_too() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let message = replica.send(subject).await;
    replica.settled(message).await;
    neighbours.doubt(subject);
    let answer = text(
        "wamid.9",
        "STOP",
        json!({"from": digits(9), "context": {"id": format!("wamid.{message}")}}),
    );
    for _ in 0..2 {
        assert_eq!(replica.webhook(answer.clone()).await, 200);
        replica.processed().await;
    }
    until("both arrive", async || replica.count(PENDING).await == 0).await;
    let mut stopped: Vec<Value> =
        neighbours.stops().iter().map(|stop| stop["addresses"].clone()).collect();
    stopped.sort_by_key(|it| *it != json!(home.index.tokens(&phone(9))));
    let both = [json!(home.index.tokens(&phone(9))), json!(home.index.tokens(&phone(1)))];
    assert_eq!(stopped, both, "each once");
    until("it is told", async || !neighbours.identities().is_empty()).await;
    assert_eq!(neighbours.identities()[0], json!({"answers": subject, "phone": phone(9)}));
    replica.stop().await;
}

/// One that the vault refuses is dropped alone: the others are told, and no erasure waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_name_holds_up_nobody_elses() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.hear_no_names(true);
    for (n, user_id) in [(1, "FR.1"), (2, BAD_USER_ID), (3, "FR.3"), (4, "FR.4")] {
        neighbours.person(n);
        let mut message = text(&format!("wamid.{n}"), "hello", json!({"from": digits(n)}));
        message["contacts"] = json!([{"wa_id": digits(n), "user_id": user_id}]);
        assert_eq!(replica.webhook(message).await, 200);
    }
    replica.processed().await;
    neighbours.hear_no_names(false);
    until("nothing waits", async || replica.count(UNTOLD).await == 0).await;
    let mut told: Vec<String> = neighbours
        .identities()
        .iter()
        .map(|it| it["user_id"].as_str().unwrap().to_owned())
        .collect();
    told.sort_unstable();
    assert_eq!(told, ["FR.1", "FR.3", "FR.4"]);
    assert_eq!(replica.count("SELECT count(*) FROM told_identities").await, 3);
    replica.stop().await;
}

/// What waits to be told counts from when it came in, not from when it was read: an erasure waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn g4_a_name_that_came_in_before_the_fence_is_waited_for() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    neighbours.say_not_who(true);
    let mut message = text("wamid.1", "hello", json!({"from": digits(1)}));
    message["contacts"] = json!([{"wa_id": digits(1), "user_id": "FR.1"}]);
    assert_eq!(replica.webhook(message).await, 200);
    sqlx::query("INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $1, now())")
        .bind(subject)
        .execute(replica.messaging.store.pool())
        .await
        .unwrap();
    neighbours.hear_no_names(true);
    neighbours.say_not_who(false);
    replica.processed().await;
    let waits = "SELECT count(*) FROM told_identities, fences
        WHERE sealed IS NOT NULL AND told_at <= fenced_at";
    assert_eq!(replica.count(waits).await, 1);
    neighbours.hear_no_names(false);
    until("nothing waits", async || replica.count(UNTOLD).await == 0).await;
    replica.stop().await;
}

/// Trap 10: whoever has the number now inherits nothing, and every no of hers follows.
#[tokio::test(flavor = "multi_thread")]
async fn trap_10_another_account_at_her_number_stops_all_to_her_until_somebody_looked() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    neighbours.identity_is("FR.2", json!({"outcome": "in_doubt", "subjects": [subject]}));
    let message = |id: &str| {
        let mut message = text(id, "hello", json!({"from": digits(1)}));
        message["contacts"] = json!([{"wa_id": digits(1), "user_id": "FR.2"}]);
        message
    };
    replica.hears_of(message("wamid.1")).await;
    assert_eq!(replica.outcome(subject).await, refused("identity_changed"));
    let doubt = ("identity_in_doubt".to_owned(), "another_account".to_owned());
    assert_eq!(replica.tasks().await, std::slice::from_ref(&doubt));
    assert_eq!(replica.count(PENDING).await, 0, "she had said no to nothing");

    // The same again changes nothing: somebody may be looking into it.
    replica.hears_of(message("wamid.2")).await;
    assert_eq!(neighbours.identities().len(), 1);
    let freely = json!({"subject_id": subject, "reason": "She rang us."});
    let (status, problem) = replica.post("/v1/sender/trust", freely).await;
    assert_eq!((status, &problem["code"]), (422, &json!("validation_failed")), "{problem}");
    assert!(neighbours.forgotten().is_empty(), "nothing happened");
    let trusted = json!({"subject_id": subject, "reason": "rang_her"});
    assert_eq!(replica.post("/v1/sender/trust", trusted.clone()).await.1["lifted"], true);
    assert_eq!(neighbours.forgotten(), [json!(subject)]);
    assert!(replica.tasks().await.is_empty());
    let closed = replica.get("/v1/tasks?closed=true").await;
    let on_record = |task: &Value| {
        let of = |field: &str| task[field].as_str().unwrap().to_owned();
        ["reason", "closed_by", "closed_reason"].map(of)
    };
    assert_eq!(on_record(&closed["items"][0]), ["another_account", "test", "rang_her"]);
    assert_eq!(replica.outcome(subject).await, accepted());
    // Nothing is open: that somebody says so is on record as well.
    assert_eq!(replica.post("/v1/sender/trust", trusted).await.1["lifted"], false);
    let closed = replica.get("/v1/tasks?closed=true").await;
    assert_eq!(closed["items"].as_array().unwrap().len(), 2, "{closed}");
    assert_eq!(on_record(&closed["items"][1]), ["by_hand", "test", "rang_her"]);
    assert!(replica.tasks().await.is_empty());

    // A no to one purpose follows as a stop: it is the account's now that was told.
    neighbours.exclude(subject, "consent_withdrawn");
    replica.hears_of(message("wamid.3")).await;
    assert_eq!(neighbours.identities().len(), 2, "told anew");
    until("the stop arrives", async || neighbours.stops().len() == 1).await;
    let told = [home.index.tokens(&phone(1)), home.index.tokens("FR.2")].concat();
    assert_eq!(neighbours.stops()[0]["addresses"], json!(told));
    assert_eq!(replica.tasks().await, [doubt]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_10_a_changed_identity_hash_and_a_long_silence_put_her_in_doubt() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let (hashed, silent) = (neighbours.person(1), neighbours.person(2));
    let message = |n: usize, id: &str, hash: &str| {
        let mut message = text(id, "hello", json!({"from": digits(n)}));
        message["contacts"] = json!([{"wa_id": digits(n), "identity_key_hash": hash}]);
        message
    };
    for id in ["wamid.1", "wamid.2"] {
        replica.hears_of(message(1, id, "Zm9v")).await;
    }
    assert_eq!(replica.outcome(hashed).await, accepted());
    replica.hears_of(message(1, "wamid.3", "YmFy")).await;
    assert_eq!(replica.outcome(hashed).await, refused("identity_changed"));

    replica.hears_of(message(2, "wamid.4", "")).await;
    assert_eq!(replica.outcome(silent).await, accepted());
    let long_ago = "UPDATE identities SET heard_at = heard_at - interval '200 days'
        WHERE identity_hash IS NULL";
    replica.sql(long_ago).await;
    replica.hears_of(message(2, "wamid.5", "")).await;
    assert_eq!(replica.outcome(silent).await, refused("long_silence"));
    // What was just written can be answered, by whoever wrote it.
    let reply = json!({"subject_id": silent, "purpose": "service", "channel": "whatsapp",
        "content": {"type": "text", "body": "Good morning"}});
    let (status, queued) = replica.post("/v1/messages", reply).await;
    assert_eq!(status, 202, "{queued}");
    let reply: Uuid = queued["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(reply).await["state"], "accepted");
    let doubt = |why: &str| ("identity_in_doubt".to_owned(), why.to_owned());
    let tasks = [doubt("identity_hash_changed"), doubt("long_silence")];
    assert_eq!(replica.tasks().await, tasks);

    // Whoever proves to have the number, by a code, has agreed to nothing yet.
    neighbours.codes_mean(json!({"meaning": "proved", "subject_id": silent}));
    assert_eq!(replica.hears(2, "7F3K2-9QMXA").await, 200);
    until("proved", async || replica.count(PENDING).await == 0).await;
    assert_eq!(replica.outcome(silent).await, refused("long_silence"));
    // Her own opt-in counts for its purpose and nothing else, and ends no other doubt.
    for n in [1, 2] {
        assert_eq!(replica.hears(n, "START").await, 200);
    }
    until("granted", async || replica.count(PENDING).await == 0).await;
    assert_eq!(neighbours.grants().len(), 1);
    assert_eq!(replica.outcome(silent).await, accepted());
    let other = replica.send_template(silent, "news", "hello").await;
    assert_eq!(replica.settled(other).await["reasons"], json!(["long_silence"]));
    assert_eq!(replica.outcome(hashed).await, refused("identity_changed"));
    assert_eq!(replica.tasks().await, tasks);
    let trusted = json!({"subject_id": silent, "reason": "rang_her"});
    assert_eq!(replica.post("/v1/sender/trust", trusted).await.1["lifted"], true);
    let other = replica.send_template(silent, "news", "hello").await;
    assert_eq!(replica.settled(other).await["state"], "accepted");

    // Who never wrote was silent since she is known.
    let old = neighbours.person(3);
    neighbours.since(old, SystemClock.now() - jiff::SignedDuration::from_hours(24 * 200));
    replica.hears_of(message(3, "wamid.6", "")).await;
    assert_eq!(replica.outcome(old).await, refused("long_silence"));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_to_her_old_number_after_she_moved_is_told_to_a_human() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let message = replica.send(subject).await;
    replica.settled(message).await;
    let status = |status: &str, at: i64| {
        json!({"statuses": [{"id": format!("wamid.{message}"), "status": status,
            "timestamp": at.to_string()}]})
    };
    let now = SystemClock.now().as_second();
    let moved = json!({"messages": [{"from": digits(1), "type": "system", "id": "wamid.moved",
        "timestamp": (now - 60).to_string(),
        "system": {"type": "user_changed_number", "wa_id": digits(11)}}]});
    replica.hears_of(moved).await;
    let doubt = |why: &str| ("identity_in_doubt".to_owned(), why.to_owned());
    assert_eq!(replica.tasks().await, [doubt("moved")]);
    replica.hears_of(status("delivered", now - 120)).await;
    assert_eq!(replica.tasks().await, [doubt("moved")], "it had reached her before");
    replica.hears_of(status("read", now - 30)).await;
    assert_eq!(replica.tasks().await, [doubt("moved"), doubt("delivered_after_move")]);
    assert_eq!(replica.outcome(subject).await, refused("identity_changed"));
    replica.stop().await;
}

/// The message that she answers tells whose stop it is, though her user id is new and her number isn't told.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_answers_a_message_is_its_recipients() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let people = [neighbours.person(1), neighbours.person(2)];
    let mut sent = Vec::new();
    for subject in people {
        let message = replica.send(subject).await;
        replica.settled(message).await;
        sent.push(format!("wamid.{message}"));
    }
    neighbours.refuse_stops(true);
    let button = json!({"from_user_id": "FR.new", "id": "wamid.b", "type": "button",
        "button": {"text": "Stop promotions"}, "context": {"id": sent[0]}});
    assert_eq!(replica.webhook(json!({"messages": [button]})).await, 200);
    let nameless = text("wamid.n", "STOP", json!({"context": {"id": sent[1]}}));
    assert_eq!(replica.webhook(nameless).await, 200);
    // The gate still allows, and knows neither: the door does.
    for subject in people {
        assert_eq!(replica.outcome(subject).await, refused("stopped"));
    }
    assert!(replica.tasks().await.is_empty());
    neighbours.refuse_stops(false);
    until("both arrive", async || replica.count(PENDING).await == 0).await;
    let addresses: Vec<Value> =
        neighbours.stops().iter().map(|stop| stop["addresses"].clone()).collect();
    let both = [home.index.tokens("FR.new"), home.index.tokens(&phone(1))].concat();
    assert!(addresses.contains(&json!(both)));
    assert!(addresses.contains(&json!(home.index.tokens(&phone(2)))));
    // What it tells of her name reaches the vault, and what she writes is hers.
    replica.processed().await;
    until("told", async || !neighbours.identities().is_empty()).await;
    assert_eq!(neighbours.identities()[0], json!({"answers": people[0], "user_id": "FR.new"}));
    assert_eq!(replica.count(INBOUND).await, 1);
    replica.stop().await;
}

/// Nobody can be found: whom it may concern gets no marketing until a human closed the task.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_nobody_known_holds_marketing_to_whom_it_may_concern() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    // Written to, and her user id is known, or isn't; never written to.
    let (known, unknown, new) = (neighbours.person(1), neighbours.person(2), neighbours.person(3));
    for subject in [known, unknown] {
        assert_eq!(replica.outcome(subject).await, accepted());
    }
    let mut message = text("wamid.1", "hello", json!({"from": digits(1)}));
    message["contacts"] = json!([{"wa_id": digits(1), "user_id": "FR.1"}]);
    replica.hears_of(message).await;

    replica.hears_of(from_user_id("wamid.2", "FR.x", "STOP")).await;
    until("the stop is held", async || replica.count(PENDING).await == 0).await;
    assert_eq!(neighbours.stops()[0]["addresses"], json!(home.index.tokens("FR.x")));
    let task = ("stop_unattributed".to_owned(), "user_id_unknown".to_owned());
    assert_eq!(replica.tasks().await, std::slice::from_ref(&task));
    let held = replica.send(unknown).await;
    assert_eq!(replica.waits(held).await, ["stop_unattributed"]);
    for subject in [known, new] {
        assert_eq!(replica.outcome(subject).await, accepted());
    }
    // Told again it is the same stop.
    replica.hears_of(from_user_id("wamid.2", "FR.x", "STOP")).await;
    assert_eq!(replica.tasks().await, [task]);

    let (status, problem) =
        replica.post(&format!("/v1/tasks/{}/close", Uuid::nil()), json!({})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("task_unknown")));
    let close = format!("/v1/tasks/{}/close", replica.task().await);
    let (status, closed) = replica.post(&close, json!({})).await;
    assert_eq!((status, &closed["closed_by"]), (200, &json!("test")));
    assert_eq!(replica.settled(held).await["state"], "accepted");
    assert_eq!(replica.post(&close, json!({})).await.0, 200, "again");

    // Of a message that says nothing of its sender only the stop counts.
    replica.hears_of(text("wamid.3", "hello", json!({}))).await;
    replica.hears_of(text("wamid.4", "START", json!({}))).await;
    assert!(replica.tasks().await.is_empty());
    for _ in 0..2 {
        replica.hears_of(text("wamid.5", "STOP", json!({}))).await;
    }
    let nameless = ("stop_unattributed".to_owned(), "nameless".to_owned());
    assert_eq!(replica.tasks().await, [nameless]);
    let held = replica.send(unknown).await;
    assert_eq!(replica.waits(held).await, ["stop_unattributed"]);

    // A human found out whose it was.
    let close = format!("/v1/tasks/{}/close", replica.task().await);
    let (status, _) = replica.post(&close, json!({"subject_id": unknown})).await;
    assert_eq!(status, 200);
    until("the stop arrives", async || neighbours.stops().len() == 2).await;
    assert_eq!(neighbours.stops()[1]["addresses"], json!(home.index.tokens(&phone(2))));
    let heard = "SELECT count(*) FROM eventstore.events
        WHERE event_type = 'assent.messaging.stop_heard.v1' AND data::jsonb ->> 'form' = 'attributed'";
    until("it is on record", async || replica.count(heard).await == 1).await;
    replica.stop().await;
}

/// The gate knows whose user id it is, though nobody told it here: the task is over by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_the_gate_attributes_needs_no_human() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person_by_user_id("FR.1");
    neighbours.refuse_stops(true);
    assert_eq!(replica.webhook(from_user_id("wamid.1", "FR.1", "STOP")).await, 200);
    assert_eq!(replica.tasks().await.len(), 1, "until the gate has said");
    neighbours.refuse_stops(false);
    until("nobody has to look", async || replica.tasks().await.is_empty()).await;
    let closed = replica.get("/v1/tasks?closed=true").await;
    assert!(closed["items"][0].get("closed_by").is_none());
    replica.stop().await;
}
