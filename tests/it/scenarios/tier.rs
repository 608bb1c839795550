//! The portfolio's tier: a campaign that is larger sends what the day allows, waits, and goes on when the first of
//! the last 24 hours are over; also where answers are lost.

use assent_tests::cluster::{Cluster, TEMPLATE, Wishes, until};
use assent_tests::whatsapp;
use serde_json::json;

use super::world::{self, calls, ends_well};

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_beyond_the_tier_goes_on_the_next_day() {
    let mut settings = world::wishes().settings;
    settings.push(("messaging", "people_per_day = 3"));
    let cluster = Cluster::with(Wishes { settings, ..world::wishes() }).await;
    let mut people = Vec::new();
    for _ in 0..5 {
        people.push(cluster.willing().await.0);
    }
    until("the read models know everybody", async || {
        let path = "/v1/audience?purpose=marketing&channel=whatsapp";
        let items = cluster.get("projector", path).await.1["items"].clone();
        items.as_array().is_some_and(|it| it.len() == 5)
    })
    .await;
    world::play(&cluster, include_str!("tier.toml"), &[]).await;

    let what = ["--purpose", "marketing", "--template", TEMPLATE];
    let drafted = cluster.assent(&[&["campaign", "draft", "spring"][..], &what].concat());
    assert_eq!((drafted.status, &drafted.json["members"]), (0, &json!(5)), "{}", drafted.text);
    let id = drafted.json["campaign_id"].as_str().unwrap();
    let tried = cluster.assent(&["campaign", "dry-run", id]);
    assert_eq!(tried.json["dry_run"]["allowed"], 5, "{}", tried.text);
    let started = cluster.assent(&["campaign", "start", id]);
    assert_eq!(started.status, 0, "{}", started.text);
    let report = async || cluster.assent(&["campaign", "report", id]).json;
    until("the day is used up", async || {
        let report = report().await;
        report["messages"] == json!({"accepted": 3, "queued": 2})
            && report["reasons"] == json!({"recipient_tier": 2})
    })
    .await;
    let pool = cluster.pool("messaging").await;
    // They are looked at again, and there is no room.
    whatsapp::go_on(&pool).await;
    let waiting = "SELECT count(*) FROM intents
        WHERE state = 'queued' AND not_before > now() AND reasons = ARRAY['recipient_tier']";
    until("they wait again", async || {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 2
    })
    .await;
    let reached = async || {
        let mut reached = 0;
        for person in &people {
            reached += calls(&cluster, person, "template").await.0;
        }
        reached
    };
    assert_eq!(reached().await, 3);

    // A day passes: for WhatsApp by its own clock, and here by when the messages went out.
    let day = json!({"advance_s": 86_401});
    assert_eq!(cluster.post("whatsapp-sim", "/_sim/clock", &day, None).await.0, 200);
    let passes = "UPDATE intents SET started_at = started_at - interval '1 day'
        WHERE started_at IS NOT NULL";
    sqlx::query(passes).execute(&pool).await.unwrap();
    whatsapp::go_on(&pool).await;
    until("it is completed", async || report().await["state"] == "completed").await;
    until("everybody has hers", async || report().await["statuses"] == json!({"delivered": 5}))
        .await;
    assert_eq!(report().await["messages"], json!({"accepted": 5}));

    ends_well(&cluster).await;
    let mut refused = 0;
    for (n, person) in people.iter().enumerate() {
        let (accepted, more) = calls(&cluster, person, "template").await;
        assert_eq!(accepted, 1, "person {n}");
        refused += more;
    }
    assert_eq!(refused, 1, "the one that was asked to wait");
}
