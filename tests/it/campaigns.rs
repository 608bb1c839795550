//! Campaigns on the command line, against a running Assent and the simulator: draft, dry run, a second person,
//! send, report; and what a crash or WhatsApp does to one in mid-flight.

use serde_json::{Value, json};

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, TEMPLATE, Wishes, until};

const DRAFTER: &[&str] = &["messages:read", "messages:write", "query:read", "consent:read"];

fn wishes() -> Wishes {
    Wishes {
        settings: vec![
            ("messaging", "approval_above = 1"),
            ("messaging", "prices = \"MARKETING 0.0859\""),
            ("messaging", "caps = \"marketing 1/24h\""),
            // A claim is over soon after its holder died.
            ("messaging", "whatsapp_timeout_ms = 5000"),
            ("messaging", "claim_ms = 10000"),
        ],
        callers: vec![("crm", DRAFTER)],
        ..Wishes::default()
    }
}

/// People who may be messaged, whom the read models know.
async fn willing(cluster: &Cluster, count: usize) -> Vec<(Person, String)> {
    let mut people = Vec::new();
    for _ in 0..count {
        people.push(cluster.willing().await);
    }
    until("the read models know them", async || {
        let path = "/v1/audience?purpose=marketing&channel=whatsapp";
        cluster.get("projector", path).await.1["items"].as_array().unwrap().len() == count
    })
    .await;
    people
}

/// A campaign that somebody drafted and somebody else approved; its id.
fn approved(cluster: &Cluster, name: &str, members: usize) -> String {
    let what = ["--purpose", "marketing", "--template", TEMPLATE];
    let drafted = cluster.assent_as("crm", &[&["campaign", "draft", name][..], &what].concat());
    assert_eq!(
        (drafted.status, &drafted.json["members"]),
        (0, &json!(members)),
        "{}",
        drafted.text
    );
    let id = drafted.json["campaign_id"].as_str().unwrap().to_owned();
    let tried = cluster.assent_as("crm", &["campaign", "dry-run", &id]);
    assert_eq!(tried.status, 0, "{}", tried.text);
    let approved = cluster.assent(&["campaign", "approve", &id, "--reason", "looked_at"]);
    assert_eq!(
        (approved.status, &approved.json["state"]),
        (0, &json!("approved")),
        "{}",
        approved.text
    );
    id
}

fn report(cluster: &Cluster, id: &str) -> Value {
    cluster.assent_as("crm", &["campaign", "report", id]).json
}

async fn calls(cluster: &Cluster, people: &[(Person, String)]) -> Vec<usize> {
    let mut calls = Vec::new();
    for (person, _) in people {
        calls.push(cluster.delivered_to(person).await.len());
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_from_its_draft_to_its_report() {
    let cluster = Cluster::with(wishes()).await;
    let people = willing(&cluster, 3).await;
    // Known, without consent; and one who has said stop since the read model heard of her yes.
    let stranger = Person::somebody();
    cluster.import(&stranger).await;
    assert_eq!(cluster.hears(&people[2].0, "STOP").await, 200);
    until("the gate knows", async || cluster.explain(&people[2].0).json["verdict"] == "deny").await;

    let what = ["--purpose", "marketing", "--template", TEMPLATE, "--everybody", "--region", "FR"];
    let drafted = cluster.assent_as("crm", &[&["campaign", "draft", "spring"][..], &what].concat());
    assert_eq!((drafted.status, &drafted.json["members"]), (0, &json!(4)), "{}", drafted.text);
    let id = drafted.json["campaign_id"].as_str().unwrap();
    let none = cluster.assent_as(
        "crm",
        &[&["campaign", "draft", "none"][..], &what[..5], &["--region", "BR"]].concat(),
    );
    assert_eq!(none.json["members"], 0, "nobody has a number of that region: {}", none.text);
    let tried = cluster.assent_as("crm", &["campaign", "dry-run", id]);
    let run = &tried.json["dry_run"];
    assert_eq!((&run["allowed"], tried.status), (&json!(2), 0), "{}", tried.text);
    let excluded = run["excluded"].as_object().unwrap();
    assert_eq!((excluded.len(), &excluded["no_consent"]), (2, &json!(1)), "{}", tried.text);
    assert_eq!(run["cost"]["total"], "0.1718");

    let own = cluster.assent_as("crm", &["campaign", "approve", id, "--reason", "mine"]);
    assert_eq!(own.status, 2, "without the scope: {}", own.text);
    let early = cluster.assent_as("crm", &["campaign", "start", id]);
    assert_eq!(early.status, 1, "{}", early.text);
    let approved = cluster.assent(&["campaign", "approve", id, "--reason", "looked_at"]);
    assert_eq!(approved.status, 0, "{}", approved.text);
    let ended = cluster.assent_as("crm", &["campaign", "start", id, "--wait"]);
    assert_eq!((ended.status, &ended.json["state"]), (0, &json!("completed")), "{}", ended.text);
    assert_eq!(calls(&cluster, &people).await, [1, 1, 0]);
    assert_eq!(cluster.delivered_to(&stranger).await.len(), 0);
    until("delivered", async || report(&cluster, id)["statuses"] == json!({"delivered": 2})).await;
    assert_eq!(report(&cluster, id)["messages"], json!({"accepted": 2}));

    // The operator approves what others drafted, and not her own.
    let drafted = cluster.assent(&[&["campaign", "draft", "own"][..], &what[..4]].concat());
    let own = drafted.json["campaign_id"].as_str().unwrap();
    assert_eq!(cluster.assent(&["campaign", "dry-run", own]).status, 0);
    let refused = cluster.assent(&["campaign", "approve", own, "--reason", "mine"]);
    assert_eq!(refused.status, 1, "{}", refused.text);
    assert!(refused.text.contains("who drafted a campaign doesn't approve it"), "{}", refused.text);

    // A second one to the same people: the cap of the day stands against it.
    let second = self::approved(&cluster, "summer", 2);
    let ended = cluster.assent_as("crm", &["campaign", "start", &second, "--wait"]);
    assert_eq!(ended.json["state"], "completed", "{}", ended.text);
    assert_eq!(report(&cluster, &second)["reasons"], json!({"frequency_capped": 2}));
    assert_eq!(calls(&cluster, &people).await, [1, 1, 0]);
}

/// Killed when it has permits, before the calls; and again while it queues. Whoever might have been called is not
/// called again, everybody else is.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_survives_kill_9_and_nobody_is_written_to_twice() {
    let mut cluster = Cluster::with(wishes()).await;
    let people = willing(&cluster, 4).await;
    let id = approved(&cluster, "spring", 4);
    let failpoints = cluster.failpoints("messaging");
    failpoints.set("messaging.after_permit=kill");
    // The kill may cut its answer off.
    let _ = cluster.assent_as("crm", &["campaign", "start", &id]);
    failpoints.strikes("messaging.after_permit").await;
    cluster.process("messaging").died_of_sigkill().await;
    assert_eq!(calls(&cluster, &people).await, [0; 4], "nothing had been called");
    failpoints.clear();
    cluster.restart("messaging").await;
    let ended = cluster.assent_as("crm", &["campaign", "start", &id, "--wait"]);
    assert_eq!((ended.status, &ended.json["state"]), (0, &json!("completed")), "{}", ended.text);
    assert_eq!(report(&cluster, &id)["messages"], json!({"accepted": 4}));
    assert_eq!(calls(&cluster, &people).await, [1; 4]);
}

/// The number's ceiling of one message a day holds the campaign in mid-flight.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_whatsapp_pauses_stops_its_campaign() {
    let mut wishes = wishes();
    wishes.settings.push(("messaging", "daily_ceiling = 1"));
    let cluster = Cluster::with(wishes).await;
    let people = willing(&cluster, 3).await;
    // The simulator takes the template up with its first message.
    assert_eq!(cluster.send(&people[0].0).status, 0);
    let id = approved(&cluster, "spring", 3);
    let started = cluster.assent_as("crm", &["campaign", "start", &id]);
    assert_eq!(
        (started.status, &started.json["state"]),
        (0, &json!("running")),
        "{}",
        started.text
    );
    let waiting = json!({"refused": 1, "queued": 2});
    until("two wait", async || report(&cluster, &id)["messages"] == waiting).await;
    let becomes = async |status: &str| {
        let body = json!({"change": "status", "to": status});
        let path = format!("/_sim/templates/{TEMPLATE}");
        let (answered, body) = cluster.post("whatsapp-sim", &path, &body, None).await;
        assert_eq!(answered, 200, "{body}");
    };
    let shown = || cluster.assent_as("crm", &["campaign", "show", &id]).json;
    becomes("PAUSED").await;
    until("it has paused", async || shown()["state"] == "paused").await;
    assert_eq!(shown()["pause_reason"], "template_unavailable");
    let resumed = cluster.assent_as("crm", &["campaign", "resume", &id]);
    assert!(resumed.text.contains("template_unavailable"), "{}", resumed.text);
    becomes("APPROVED").await;
    until("it may go on, when somebody says so", async || {
        let resumed = cluster.assent_as("crm", &["campaign", "resume", &id]);
        resumed.json["state"] == "running"
    })
    .await;
    let cancelled = cluster.assent_as("crm", &["campaign", "cancel", &id]);
    assert_eq!(cancelled.json["state"], "cancelled", "{}", cancelled.text);
    until("refused", async || report(&cluster, &id)["messages"] == json!({"refused": 3})).await;
    assert_eq!(calls(&cluster, &people).await, [1, 0, 0]);
}
