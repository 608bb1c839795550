//! A marketer's campaign: who didn't agree and who said stop are left out, everybody else gets one message,
//! whatever is lost, late, doubled or out of order.

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, TEMPLATE, until};
use serde_json::json;

use super::world::{self, calls, ends_well};

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_reaches_whom_it_may_once_each_with_everything_going_wrong() {
    let cluster = Cluster::with(world::wishes()).await;
    let mut people = Vec::new();
    for _ in 0..7 {
        people.push(cluster.willing().await.0);
    }
    let stranger = Person::somebody();
    cluster.import(&stranger).await;
    let stopped = &people[6];
    assert_eq!(cluster.hears(stopped, "STOP").await, 200);
    until("the gate knows", async || cluster.explain(stopped).json["verdict"] == "deny").await;
    until("the read models know everybody", async || {
        let path = "/v1/audience?purpose=marketing&channel=whatsapp&consents=any";
        let items = cluster.get("projector", path).await.1["items"].clone();
        items.as_array().is_some_and(|it| it.len() == 8)
    })
    .await;
    let six: Vec<&Person> = people[..6].iter().collect();
    world::play(&cluster, include_str!("campaign.toml"), &six).await;

    let what = ["--purpose", "marketing", "--template", TEMPLATE, "--everybody"];
    let drafted = cluster.assent(&[&["campaign", "draft", "spring"][..], &what].concat());
    assert_eq!((drafted.status, &drafted.json["members"]), (0, &json!(8)), "{}", drafted.text);
    let id = drafted.json["campaign_id"].as_str().unwrap();
    let tried = cluster.assent(&["campaign", "dry-run", id]);
    assert_eq!(tried.json["dry_run"]["allowed"], 6, "{}", tried.text);
    let ended = cluster.assent(&["campaign", "start", id, "--wait", "--timeout-s", "120"]);
    assert_eq!((ended.status, &ended.json["state"]), (0, &json!("completed")), "{}", ended.text);
    let report = async || cluster.assent(&["campaign", "report", id]).json;
    until("all were read", async || report().await["statuses"] == json!({"read": 6})).await;
    assert_eq!(report().await["messages"], json!({"accepted": 6}));

    ends_well(&cluster).await;
    for (n, person) in six.iter().enumerate() {
        let refused = usize::from(n == 2);
        assert_eq!(calls(&cluster, person, "template").await, (1, refused), "person {n}");
    }
    for left_out in [stopped, &stranger] {
        assert_eq!(calls(&cluster, left_out, "template").await, (0, 0));
    }
}
