//! Campaigns: nobody is written to twice, nothing goes out while they are paused, and they pause by
//! themselves.

use std::collections::HashSet;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_messaging::campaigns::watch;
use assent_messaging::config::{Campaigns, Pausing};
use assent_messaging::domain::limits::Prices;
use assent_runtime::{Clock as _, SystemClock};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::net::TcpListener;

use super::stand_ins::{Home, Manner, Neighbours, Provider, Replica, Setup, until};

pub async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

pub fn people(neighbours: &Neighbours, count: usize) -> Vec<SubjectId> {
    (1..=count).map(|n| neighbours.person(n)).collect()
}

/// A campaign of the template `hello` to everybody, tried dry; gives its path.
pub async fn tried(replica: &Replica, name: &str) -> String {
    let request = json!({"name": name, "purpose": "marketing", "channel": "whatsapp",
        "template": "hello", "parameters": ["SPRING20"]});
    let (status, drafted) = replica.post("/v1/campaigns", request).await;
    assert_eq!(status, 201, "{drafted}");
    let path = format!("/v1/campaigns/{}", drafted["campaign_id"].as_str().unwrap());
    until("its people are taken", async || replica.get(&path).await["state"] == "draft").await;
    let (status, view) = replica.post(&format!("{path}/dry-run"), json!({})).await;
    assert_eq!(status, 202, "{view}");
    until("tried dry", async || replica.get(&path).await["dry_run"]["done"] == true).await;
    path
}

pub async fn acted(replica: &Replica, path: &str, act: &str) -> Value {
    let (status, view) = replica.post(&format!("{path}/{act}"), json!({})).await;
    assert_eq!(status, 200, "{act}: {view}");
    view
}

pub async fn started(replica: &Replica, name: &str) -> String {
    let path = tried(replica, name).await;
    assert_eq!(acted(replica, &path, "start").await["state"], "running");
    path
}

pub async fn stands(replica: &Replica, path: &str, state: &str) {
    until(&format!("it is {state}"), async || replica.get(path).await["state"] == state).await;
}

pub async fn report(replica: &Replica, path: &str) -> Value {
    replica.get(&format!("{path}/report")).await
}

/// To whom the provider was called, and how often.
fn called(provider: &Provider) -> (usize, usize) {
    let bodies = provider.bodies();
    let to: HashSet<&str> = bodies.iter().map(|body| body["to"].as_str().unwrap()).collect();
    (bodies.len(), to.len())
}

/// One message of another purpose: once it is out, whatever was due before it has been looked at.
async fn barrier(replica: &Replica, neighbours: &Neighbours) {
    let message = replica.send_template(neighbours.person(99_999), "service", "hello").await;
    assert_eq!(replica.settled(message).await["state"], "accepted");
}

async fn tells(replica: &Replica, field: &str, value: Value) {
    let at = SystemClock.now().as_second();
    let body =
        json!({"entry": [{"id": "1", "time": at, "changes": [{"field": field, "value": value}]}]});
    assert_eq!(replica.raw_webhook(&body.to_string(), "app secret").await, 200);
    replica.processed().await;
}

async fn template_tells(replica: &Replica, field: &str, more: Value) {
    let mut value = json!({"message_template_id": 1, "message_template_name": "hello",
        "message_template_language": "en"});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    tells(replica, field, value).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_goes_from_its_draft_by_a_second_person_to_its_report() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.campaigns = Campaigns {
        approval_above: 4,
        prices: Prices::parse("MARKETING 0.0859", "EUR".to_owned()).unwrap(),
        ..Campaigns::default()
    };
    let replica = home.start(&setup).await;
    let people = people(&neighbours, 5);
    neighbours.exclude(people[0], "stopped");

    let request = json!({"name": "spring", "purpose": "marketing", "channel": "whatsapp",
        "template": "hello", "parameters": ["SPRING20"]});
    let (status, problem) = replica.post_second("/v1/campaigns", request.clone()).await;
    assert_eq!(status, 403, "how many consent is the read models' to tell: {problem}");
    let (_, first) = replica.post_once("/v1/campaigns", &request, "draft-1").await;
    let (status, again) = replica.post_once("/v1/campaigns", &request, "draft-1").await;
    assert_eq!(
        (status, &again["campaign_id"]),
        (201, &first["campaign_id"]),
        "a repeat drafts nothing"
    );
    let path = format!("/v1/campaigns/{}", first["campaign_id"].as_str().unwrap());
    stands(&replica, &path, "draft").await;
    assert_eq!(replica.get(&path).await["members"], 5);

    let refused = async |what: &str, detail: &str| {
        let (status, problem) = replica.post(&format!("{path}/{what}"), json!({})).await;
        assert_eq!(
            (status, &problem["code"]),
            (409, &json!("campaign_state_conflict")),
            "{problem}"
        );
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    };
    refused("start", "not tried dry").await;
    // One who is excluded came by an advertisement too, and for one its time is over.
    sqlx::query(
        "INSERT INTO free_entries (subject_id, entered_at, answered_at)
         VALUES ($1, now(), now()), ($2, now(), now()), ($3, now(), now() - interval '73 hours')",
    )
    .bind(people[0])
    .bind(people[1])
    .bind(people[2])
    .execute(replica.messaging.store.pool())
    .await
    .unwrap();
    replica.post(&format!("{path}/dry-run"), json!({})).await;
    until("tried dry", async || replica.get(&path).await["dry_run"]["done"] == true).await;
    let run = replica.get(&path).await["dry_run"].clone();
    assert_eq!((&run["asked"], &run["allowed"]), (&json!(5), &json!(4)));
    assert_eq!(run["excluded"], json!({"stopped": 1}));
    assert_eq!(run["duration"], json!({"seconds": 1, "limited_by": "rate"}));
    assert_eq!(
        run["cost"],
        json!({"category": "MARKETING", "messages": 4, "free": 1, "price": "0.0859", "total": "0.2577",
            "currency": "EUR"})
    );
    let excluded = replica.get(&format!("{path}/members?state=excluded")).await;
    assert_eq!(
        excluded["items"],
        json!([{"subject_id": people[0], "state": "excluded", "reasons": ["stopped"]}])
    );

    refused("start", "somebody else has to approve it").await;
    let approval = json!({"reason": "looked_at"});
    let (status, _) = replica.post(&format!("{path}/approve"), approval.clone()).await;
    assert_eq!(status, 403, "approving wants a scope of its own");
    let (status, view) = replica.post_second(&format!("{path}/approve"), approval).await;
    assert_eq!((status, &view["approved_by"]), (200, &json!("second")), "{view}");
    assert!(provider.bodies().is_empty(), "nothing went out so far");

    acted(&replica, &path, "start").await;
    stands(&replica, &path, "completed").await;
    assert_eq!(called(&provider), (4, 4));
    let body = &provider.bodies()[0];
    assert_eq!(body["template"]["components"][0]["parameters"][0]["text"], "SPRING20");
    let report = report(&replica, &path).await;
    assert_eq!(report["messages"], json!({"accepted": 4}));
    assert_eq!((&report["excluded"], &report["waiting"]), (&json!({"stopped": 1}), &json!(0)));
    refused("cancel", "not while it is completed").await;
    replica.stop().await;
}

/// What the gate says at the send is what counts: a dry run is a look.
#[tokio::test(flavor = "multi_thread")]
async fn who_says_stop_after_the_dry_run_is_refused_by_the_gate() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let people = people(&neighbours, 3);
    let path = tried(&replica, "spring").await;
    neighbours.exclude(people[1], "consent_withdrawn");
    acted(&replica, &path, "start").await;
    stands(&replica, &path, "completed").await;
    let report = report(&replica, &path).await;
    assert_eq!(report["messages"], json!({"accepted": 2, "refused": 1}));
    assert_eq!(report["reasons"], json!({"consent_withdrawn": 1}));
    assert_eq!(called(&provider), (2, 2));
    replica.stop().await;
}

/// A ceiling of four holds the campaign in mid-flight, whatever the machine's pace; the replica after it has
/// none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_stays_so_over_a_restart_and_nobody_is_written_to_twice() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits.ceilings.daily = Some(4);
    // A pause is answered after one.
    setup.lease = Duration::from_secs(2);
    let replica = home.start(&setup).await;
    people(&neighbours, 9);
    let path = started(&replica, "spring").await;
    until("four are out, five wait", async || {
        let report = report(&replica, &path).await;
        report["messages"] == json!({"accepted": 4, "queued": 5})
            && report["reasons"] == json!({"daily_ceiling": 5})
    })
    .await;
    let asked = SystemClock.boottime();
    assert_eq!(acted(&replica, &path, "pause").await["pause_reason"], "operator");
    assert!(
        SystemClock.boottime() - asked >= setup.lease,
        "what was under lease has started or not"
    );
    assert_eq!(
        acted(&replica, &path, "pause").await["state"],
        "paused",
        "saying so again is no fault"
    );
    replica.stop().await;

    setup.limits.ceilings.daily = None;
    let replica = home.start(&setup).await;
    // They would be due: only the pause holds them.
    replica.sql("UPDATE intents SET not_before = now()").await;
    barrier(&replica, &neighbours).await;
    assert_eq!(called(&provider), (5, 5), "the four, and the barrier");
    acted(&replica, &path, "resume").await;
    stands(&replica, &path, "completed").await;
    assert_eq!(called(&provider), (10, 10));
    assert_eq!(report(&replica, &path).await["messages"], json!({"accepted": 9}));
    replica.stop().await;
}

/// Both take its people, try it dry, feed it and watch it, at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_carry_a_campaign_together_and_nobody_is_written_to_twice() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let setup = Setup::new(neighbours.address, provider.address);
    let (one, two) = (home.start(&setup).await, home.start(&setup).await);
    people(&neighbours, 90);
    let path = started(&one, "spring").await;
    stands(&two, &path, "completed").await;
    assert_eq!(called(&provider), (90, 90));
    assert_eq!(report(&two, &path).await["messages"], json!({"accepted": 90}));
    one.stop().await;
    two.stop().await;
}

/// Without the read models it has no people yet, without the gate no dry run; neither is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_waits_for_the_read_models_and_for_the_gate() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    people(&neighbours, 3);
    let request = json!({"name": "spring", "purpose": "marketing", "channel": "whatsapp",
        "template": "hello", "parameters": ["SPRING20"]});
    neighbours.go_away(true);
    let (status, problem) = replica.post("/v1/campaigns", request.clone()).await;
    assert_eq!((status, &problem["code"]), (503, &json!("dependency_unavailable")));
    assert_eq!(replica.count("SELECT count(*) FROM campaigns").await, 0, "nothing is half drafted");
    neighbours.go_away(false);
    let path = tried(&replica, "spring").await;
    neighbours.go_away(true);
    let turned_away = neighbours.turned_away();
    replica.post(&format!("{path}/dry-run"), json!({})).await;
    until("the gate is asked in vain", async || neighbours.turned_away() > turned_away).await;
    assert_eq!(replica.get(&path).await["dry_run"]["done"], false);
    let (status, problem) = replica.post(&format!("{path}/start"), json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("campaign_state_conflict")));
    neighbours.go_away(false);
    until("tried dry", async || replica.get(&path).await["dry_run"]["done"] == true).await;
    acted(&replica, &path, "start").await;
    stands(&replica, &path, "completed").await;
    assert_eq!(called(&provider), (3, 3));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_is_refused_where_it_was_queued_and_stays_so() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits.ceilings.daily = Some(2);
    // A pause is answered after one.
    setup.lease = Duration::from_secs(2);
    let replica = home.start(&setup).await;
    people(&neighbours, 5);
    let path = started(&replica, "spring").await;
    until("two are out, three wait", async || {
        report(&replica, &path).await["messages"] == json!({"accepted": 2, "queued": 3})
    })
    .await;
    acted(&replica, &path, "cancel").await;
    let end = json!({"accepted": 2, "refused": 3});
    until("refused", async || report(&replica, &path).await["messages"] == end).await;
    assert_eq!(report(&replica, &path).await["reasons"], json!({"campaign_cancelled": 3}));
    let (status, problem) = replica.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("campaign_state_conflict")));
    assert_eq!(called(&provider), (2, 2));
    replica.stop().await;
}

/// A message that was claimed before the pause is looked at once more under its lease: the test holds that look
/// up until the campaign is paused.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_before_the_pause_goes_back_to_the_queue() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    people(&neighbours, 1);
    let path = tried(&replica, "spring").await;
    let mut conn = home.connect().await;
    let mut held = conn.begin().await.unwrap();
    sqlx::query("LOCK TABLE halts IN ACCESS EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    acted(&replica, &path, "start").await;
    let looking =
        "SELECT count(*) FROM pg_locks WHERE relation = 'halts'::regclass AND NOT granted";
    until("its look is held up", async || replica.count(looking).await > 0).await;
    replica.sql("UPDATE campaigns SET state = 'paused'").await;
    held.rollback().await.unwrap();
    let back =
        "SELECT count(*) FROM intents WHERE state = 'queued' AND reasons = '{campaign_paused}'";
    until("it is back in the queue", async || replica.count(back).await == 1).await;
    assert!(provider.bodies().is_empty());
    replica.stop().await;
}

/// The claim itself looks: also before anybody has written down that it paused.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_paused_or_recategorised_stops_its_campaigns() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits.ceilings.daily = Some(1);
    let replica = home.start(&setup).await;
    people(&neighbours, 3);
    let path = started(&replica, "spring").await;
    until("one is out", async || {
        report(&replica, &path).await["messages"] == json!({"accepted": 1, "queued": 2})
    })
    .await;
    let status = "message_template_status_update";
    template_tells(&replica, status, json!({"event": "PAUSED"})).await;
    stands(&replica, &path, "paused").await;
    assert_eq!(replica.get(&path).await["pause_reason"], "template_unavailable");
    let (code, problem) = replica.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!((code, &problem["reason"]), (409, &json!("template_paused")), "{problem}");
    replica.stop().await;

    setup.limits.ceilings.daily = None;
    let replica = home.start(&setup).await;
    // The template is back: nothing goes on by itself.
    template_tells(&replica, status, json!({"event": "APPROVED"})).await;
    replica.sql("UPDATE intents SET not_before = now() WHERE state = 'queued'").await;
    barrier(&replica, &neighbours).await;
    assert_eq!(called(&provider), (2, 2), "the one, and the barrier");
    let now = json!({"previous_category": "MARKETING", "new_category": "UTILITY"});
    template_tells(&replica, "template_category_update", now).await;
    let (code, problem) = replica.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!((code, &problem["code"]), (409, &json!("campaign_state_conflict")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("another category"), "{problem}");
    let back = json!({"previous_category": "UTILITY", "new_category": "MARKETING"});
    template_tells(&replica, "template_category_update", back).await;
    acted(&replica, &path, "resume").await;
    stands(&replica, &path, "completed").await;
    assert_eq!(called(&provider), (4, 4));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_its_dry_run_wants_another_one() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    people(&neighbours, 1);
    replica
        .sql("UPDATE templates SET components = '[{\"type\": \"BODY\", \"text\": \"{{1}}\"}]'")
        .await;
    let path = tried(&replica, "spring").await;
    for (change, says) in [
        ("UPDATE templates SET category = 'UTILITY'", "another category"),
        (
            "UPDATE templates SET category = 'MARKETING',
                    components = '[{\"type\": \"BODY\", \"text\": \"Now {{1}}\"}]'",
            "another text",
        ),
    ] {
        replica.sql(change).await;
        let (status, problem) = replica.post(&format!("{path}/start"), json!({})).await;
        assert_eq!(
            (status, &problem["code"]),
            (409, &json!("campaign_state_conflict")),
            "{problem}"
        );
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    let done = "SELECT count(*) FROM eventstore.events
        WHERE event_type = 'assent.messaging.campaign_dry_run_done.v1'";
    replica.post(&format!("{path}/dry-run"), json!({})).await;
    until("tried dry again", async || replica.count(done).await == 2).await;
    acted(&replica, &path, "start").await;
    stands(&replica, &path, "completed").await;
    assert_eq!(called(&provider), (1, 1));
    replica.stop().await;
}

/// The row says running, and no event says otherwise: nothing is claimed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn bad_news_counts_from_its_commit_and_not_from_when_it_is_written_down() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits.ceilings.daily = Some(0);
    let replica = home.start(&setup).await;
    people(&neighbours, 2);
    let path = started(&replica, "spring").await;
    until("two wait", async || {
        report(&replica, &path).await["reasons"] == json!({"daily_ceiling": 2})
    })
    .await;
    replica.stop().await;
    setup.limits.ceilings.daily = None;
    for news in [
        "UPDATE templates SET status = 'REJECTED'",
        "UPDATE templates SET status = 'APPROVED', category = 'UTILITY'",
        "UPDATE templates SET category = 'MARKETING', next_category = 'UTILITY', next_category_at = now()",
        "UPDATE templates SET next_category = NULL, next_category_at = NULL, quality = 'RED',
                quality_since = clock_timestamp()",
        "UPDATE sending_numbers SET flagged_at = clock_timestamp()",
    ] {
        home.sql(news).await;
        home.sql("UPDATE intents SET not_before = '2000-01-01' WHERE state = 'queued'").await;
        let replica = home.start(&setup).await;
        stands(&replica, &path, "paused").await;
        assert!(provider.bodies().is_empty(), "{news}");
        replica.stop().await;
        // As if nobody had written it down; what was not there at its start is older news next time.
        home.sql("UPDATE campaigns SET state = 'running', running_since = clock_timestamp()").await;
        let resumed =
            "UPDATE eventstore.events SET event_type = 'assent.messaging.of_a_later_version.v1'
            WHERE event_type = 'assent.messaging.campaign_paused.v1'";
        home.sql(resumed).await;
    }
}

/// Somebody whose message can't go out yet keeps each campaign of these from its end.
async fn pausing(home: &Home, pausing: Pausing) -> (Neighbours, Provider, Replica, String) {
    let (neighbours, provider) = (neighbours(home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.patience = Duration::from_secs(600);
    setup.campaigns.pausing = pausing;
    let replica = home.start(&setup).await;
    let people = people(&neighbours, 7);
    let path = tried(&replica, "spring").await;
    neighbours.exclude(people[6], "address_unlinked");
    (neighbours, provider, replica, path)
}

const WATCHFUL: Pausing =
    Pausing { sample: 100, least: 6, failures_percent: 20, stops_percent: 20 };

/// It still runs after somebody has looked at what came back.
async fn runs_on(replica: &Replica, path: &str, why: &str) {
    watch::round(&replica.messaging).await.unwrap();
    assert_eq!(replica.get(path).await["state"], "running", "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_pauses_when_messages_fail() {
    let home = Home::new().await;
    let (neighbours, provider, replica, path) = pausing(&home, WATCHFUL).await;
    provider.manner(Manner::Refuses(131_026));
    acted(&replica, &path, "start").await;
    stands(&replica, &path, "paused").await;
    assert_eq!(replica.get(&path).await["pause_reason"], "failures");
    assert_eq!(report(&replica, &path).await["reasons"]["undeliverable"], 6);
    // Somebody has looked: what failed before that counts no more.
    provider.manner(Manner::Accepts);
    acted(&replica, &path, "resume").await;
    barrier(&replica, &neighbours).await;
    runs_on(&replica, &path, "it was resumed").await;
    replica.stop().await;
}

/// Among the last two messages there is nobody who said stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_pauses_when_people_say_stop_however_many_messages_went_out_since() {
    let home = Home::new().await;
    let pausing = Pausing { sample: 2, ..WATCHFUL };
    let (_neighbours, _provider, replica, path) = self::pausing(&home, pausing).await;
    acted(&replica, &path, "start").await;
    let sent = "SELECT count(*) FROM intents WHERE state = 'accepted'";
    until("six are out", async || replica.count(sent).await == 6).await;
    assert_eq!(replica.hears(1, "STOP").await, 200);
    until("one stop of six is counted", async || report(&replica, &path).await["stops"] == 1).await;
    runs_on(&replica, &path, "at the share").await;
    assert_eq!(replica.hears(2, "STOP").await, 200);
    stands(&replica, &path, "paused").await;
    assert_eq!(replica.get(&path).await["pause_reason"], "blocks");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_pauses_when_quality_drops_and_goes_on_by_a_persons_word() {
    let home = Home::new().await;
    let (neighbours, _provider, replica, path) = pausing(&home, Campaigns::default().pausing).await;
    acted(&replica, &path, "start").await;
    let tells_of = async |number: &str, event: &str| {
        let value =
            json!({"display_phone_number": number, "event": event, "current_limit": "TIER_2K"});
        tells(&replica, "phone_number_quality_update", value).await;
    };
    let flagged = "SELECT count(*) FROM sending_numbers WHERE flagged_at IS NOT NULL";
    tells_of("33900000002", "FLAGGED").await;
    assert_eq!(replica.count(flagged).await, 0, "another number of the account");
    runs_on(&replica, &path, "its own quality is as it was").await;
    tells_of("33900000001", "FLAGGED").await;
    tells_of("33900000002", "UNFLAGGED").await;
    assert_eq!(replica.count(flagged).await, 1, "another number's good news is not ours");
    stands(&replica, &path, "paused").await;
    assert_eq!(replica.get(&path).await["pause_reason"], "quality");
    acted(&replica, &path, "resume").await;
    barrier(&replica, &neighbours).await;
    runs_on(&replica, &path, "the same news pauses it once").await;
    template_tells(
        &replica,
        "message_template_quality_update",
        json!({"new_quality_score": "RED"}),
    )
    .await;
    stands(&replica, &path, "paused").await;
    assert_eq!(replica.get(&path).await["pause_reason"], "quality");
    replica.stop().await;
}
