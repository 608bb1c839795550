//! Many erasures asked for at once: nothing begins by halves, single requests aren't behind them, and a restart makes
//! nobody's twice. Against real Postgres and Kafka.

use std::collections::HashSet;
use std::time::Duration;

use assent_contracts::erasure::Command;
use assent_contracts::rights::REQUEST_OPENED;
use assent_erasure::Pace;
use assent_runtime::{Ids as _, SystemIds};
use assent_tests::cluster::until;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{World, evidence, pace};

/// How many people of a bulk are under way at once, by the pace of these tests.
const WINDOW: i64 = 4;

impl World {
    async fn bulk(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.post("operator", &format!("/v1/bulk-erasures{path}"), body, None).await
    }

    async fn progress(&self, bulk: &str) -> Value {
        let (status, text) = self.get(&format!("/v1/bulk-erasures/{bulk}")).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Answers what was heard and isn't answered, of those whom `of` wants.
    async fn answers(&self, answered: &mut HashSet<Uuid>, of: impl Fn(&Command) -> bool) {
        for command in self.heard().iter().filter(|it| of(it)) {
            if answered.insert(command.command_id) {
                let (status, answer) = self.ack(command, "vault", evidence(command.step)).await;
                assert_eq!(status, StatusCode::OK, "{answer}");
            }
        }
    }
}

fn people(lines: std::ops::RangeInclusive<i64>, of: &[Uuid]) -> Value {
    let one = |line: i64| json!({"line": line, "subject_id": of[line as usize - 1], "number_country": "FR"});
    json!({"people": lines.map(one).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_bulk_begins_whole_leaves_room_for_single_requests_and_outlives_a_restart() {
    let mut world = World::new("vault:keys", pace()).await;
    let everybody: Vec<Uuid> = (0..12).map(|_| SystemIds.v4()).collect();
    let new = json!({"people": 12, "reason": "paper_forms"});
    let (status, _) = world.post("intake", "/v1/bulk-erasures", &new, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "whoever takes requests in vouches for nobody");
    let (status, opened) = world.bulk("", &new).await;
    assert_eq!(status, StatusCode::CREATED, "{opened}");
    let bulk = opened["bulk_id"].as_str().unwrap().to_owned();
    let add = format!("/{bulk}/people");
    let submit = format!("/{bulk}/submit");
    world.bulk(&add, &people(1..=7, &everybody)).await;
    let (status, problem) = world.bulk(&submit, &json!({})).await;
    let why = (StatusCode::CONFLICT, &json!("bulk_incomplete"));
    assert_eq!((status, &problem["reason"]), why, "{problem}");
    let (_, half) = world.bulk(&add, &people(5..=7, &everybody)).await;
    assert_eq!((&half["received"], &half["requested"]), (&json!(7), &json!(0)), "{half}");
    // Nobody is put in another's place: she would silently not be erased.
    let strangers: Vec<Uuid> = (0..12).map(|_| SystemIds.v4()).collect();
    let (status, problem) = world.bulk(&add, &people(7..=8, &strangers)).await;
    let why = (StatusCode::CONFLICT, &json!("bulk_line_taken"));
    assert_eq!((status, &problem["reason"]), why, "{problem}");
    assert_eq!(world.progress(&bulk).await["received"], 7, "nor is anybody added with it");
    world.bulk(&add, &people(8..=12, &everybody)).await;
    assert_eq!(world.events(REQUEST_OPENED).await, 0, "nothing is half taken");
    for _ in 0..2 {
        let (status, view) = world.bulk(&submit, &json!({})).await;
        assert_eq!(status, StatusCode::OK, "{view}");
    }
    let late = world.bulk(&add, &people(1..=1, &everybody)).await;
    assert_eq!((late.0, &late.1["reason"]), (StatusCode::CONFLICT, &json!("bulk_submitted")));

    // As many as fit, while nobody answers; and then somebody asks for herself alone.
    until("the window is full", async || world.progress(&bulk).await["requested"] == WINDOW).await;
    let (_, single) = world.request("key-1").await;
    let mut answered = HashSet::new();
    until("hers is through", async || {
        world.answers(&mut answered, |it| it.request_id == single).await;
        world.view(single).await["status"] == "completed"
    })
    .await;
    let meanwhile = world.progress(&bulk).await;
    assert_eq!(
        (&meanwhile["requested"], &meanwhile["completed"]),
        (&json!(WINDOW), &json!(0)),
        "the bulk is under way, and she was not behind it: {meanwhile}"
    );

    world.kill().await;
    world.start().await;
    until("the bulk is through", async || {
        world.answers(&mut answered, |_| true).await;
        let view = world.progress(&bulk).await;
        let under_way = view["requested"].as_i64().unwrap() - view["completed"].as_i64().unwrap();
        assert!(under_way <= WINDOW, "{view}");
        view["completed"] == 12
    })
    .await;
    assert_eq!(world.events(REQUEST_OPENED).await, 13, "one each, whoever died");
    world.stop().await;
}

/// How many sagas are moved on in one round.
const ROUND: i64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_alone_is_not_behind_a_bulk_that_fills_every_round() {
    const PEOPLE: i64 = 300;
    const UNDER_WAY: i64 = 150;
    // What isn't answered is due again at once: with nobody answering, the bulk alone is more than any round takes.
    let again = Duration::from_millis(1);
    let restless = Pace {
        step_timeout: Duration::from_secs(600),
        retry: again,
        retry_max: again,
        bulk_window: UNDER_WAY,
        ..pace()
    };
    let world = World::new("vault:keys", restless).await;
    let everybody: Vec<Uuid> = (0..PEOPLE).map(|_| SystemIds.v4()).collect();
    let (_, opened) = world.bulk("", &json!({"people": PEOPLE, "reason": "paper_forms"})).await;
    let bulk = opened["bulk_id"].as_str().unwrap().to_owned();
    world.bulk(&format!("/{bulk}/people"), &people(1..=PEOPLE, &everybody)).await;
    let (status, view) = world.bulk(&format!("/{bulk}/submit"), &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{view}");
    until("the window is full", async || world.progress(&bulk).await["requested"] == UNDER_WAY)
        .await;
    until("a whole round of them is under way", async || begun(&world).await >= ROUND).await;

    let (status, single) = world.request("key-1").await;
    assert_eq!(status, StatusCode::CREATED);
    let mut answered = HashSet::new();
    until("hers is through", async || {
        world.answers(&mut answered, |it| it.request_id == single).await;
        world.view(single).await["status"] == "completed"
    })
    .await;
    let (status, certificate) = world.get(&format!("/v1/requests/{single}/certificate")).await;
    assert_eq!(status, StatusCode::OK, "{certificate}");
    let meanwhile = world.progress(&bulk).await;
    assert_eq!(
        (&meanwhile["requested"], &meanwhile["completed"]),
        (&json!(UNDER_WAY), &json!(0)),
        "half of the bulk is under way, and half waits: {meanwhile}"
    );
    // All the time there was more to do for the bulk than fits into a round: each was asked again and again.
    let heard = world.heard();
    let mut of_bulk = heard.iter().filter(|it| it.request_id != single);
    let first = of_bulk.next().expect("the bulk's people were asked").command_id;
    assert!(of_bulk.any(|it| it.command_id == first), "and asked again");
    assert!(begun(&world).await >= ROUND);
    world.stop().await;
}

/// How many of those who wait for answers have had their first step.
async fn begun(world: &World) -> i64 {
    let sql = "SELECT count(*) FROM requests WHERE status = 'fencing' AND look_at IS NOT NULL";
    sqlx::query_scalar(sql).fetch_one(&world.pool).await.unwrap()
}
