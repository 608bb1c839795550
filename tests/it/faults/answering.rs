//! The bot never answers twice: killed around the commit of its answer, it goes on where it was.

use serde_json::{Value, json};

use super::SENDING;
use super::durability::{GRANT, grant};
use assent_tests::cluster::person::Person;
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, Wishes};

/// What she was told, in its order.
async fn told(cluster: &Cluster, person: &Person) -> Vec<String> {
    let (_, answer) = cluster.get("whatsapp-sim", "/_sim/messages").await;
    let calls = answer["messages"].as_array().cloned().unwrap_or_default();
    let hers = |call: &&Value| {
        call["to"].as_str().is_some_and(|to| to.ends_with(person.digits()))
            || call["party"] == person.digits()
    };
    calls.iter().filter(hers).map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_dies_around_its_commit_answers_once() {
    let flows = format!("bot_flows = \"{}/../docs/examples/bot\"", env!("CARGO_MANIFEST_DIR"));
    let mut cluster = Cluster::with(Wishes {
        only: SENDING.to_vec(),
        settings: vec![("messaging", &*flows.leak())],
        ..Wishes::default()
    })
    .await;
    // The first commit is the disclosure's, the second the answer's.
    let before_and_after = ["messaging.bot_turn", "messaging.bot_turn_committed"];
    for (point, nth) in before_and_after.into_iter().flat_map(|point| [(point, 1), (point, 2)]) {
        let person = Person::somebody();
        let subject = cluster.import(&person).await;
        let granted = cluster.post("consent", GRANT, &grant(&subject), None).await;
        assert_eq!(granted.0, 200, "{}", granted.1);
        until("the gate knows her number", async || {
            let explained = cluster.assent(&["explain", &person.phone, "--purpose", "service"]);
            explained.json["verdict"] == "allow"
        })
        .await;
        let before = cluster.failpoints("messaging").struck(point).len();
        cluster.failpoints("messaging").set(&format!("{point}=kill*{nth}"));
        assert_eq!(cluster.hears(&person, "opening hours").await, 200);
        until("it dies", async || cluster.failpoints("messaging").struck(point).len() > before)
            .await;
        cluster.failpoints("messaging").clear();
        cluster.restart("messaging").await;
        until("she is answered", async || told(&cluster, &person).await.len() >= 2).await;
        until("nothing waits", async || {
            let pool = cluster.pool("messaging").await;
            let waiting: i64 = sqlx::query_scalar(
                "SELECT (SELECT count(*) FROM bot_turns) + (SELECT count(*) FROM intents
                 WHERE state IN ('queued', 'claimed', 'calling'))",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            waiting == 0
        })
        .await;
        let told = told(&cluster, &person).await;
        assert_eq!(told.len(), 2, "{point} {nth}: {told:?}");
        assert!(told[0].contains("automated assistant"), "{told:?}");
        assert!(told[1].contains("from nine"), "{told:?}");
    }
    let (_, listed) = cluster.get("messaging", "/v1/conversations?state=bot").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(4), "{listed}");
    assert_eq!(listed["items"][0]["language"], json!("en"));
}
