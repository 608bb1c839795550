//! What the provider's refusals leave behind: each row of its table that reaches beyond one message.

use assent_runtime::{Clock as _, SystemClock};
use serde_json::json;
use tokio::net::TcpListener;

use super::stand_ins::{Home, Manner, Neighbours, Provider, Replica, Setup, phone, until};

struct Stage {
    home: Home,
    neighbours: Neighbours,
    provider: Provider,
    replica: Replica,
}

impl Stage {
    async fn new() -> Self {
        let home = Home::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let neighbours = Neighbours::serve(listener, home.index.clone());
        let provider = Provider::serve().await;
        let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
        for (name, category) in [("receipt", "UTILITY"), ("offer", "MARKETING")] {
            let template = json!({"name": name, "language": "en", "category": category});
            assert_eq!(replica.post("/v1/templates", template).await.0, 201);
        }
        Self { home, neighbours, provider, replica }
    }

    async fn restart(&mut self) {
        let setup = Setup::new(self.neighbours.address, self.provider.address);
        let fresh = self.home.start(&setup).await;
        std::mem::replace(&mut self.replica, fresh).stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_holds_everything_through_a_restart_until_it_is_lifted() {
    for code in [190, 131_005, 131_031] {
        let mut stage = Stage::new().await;
        stage.provider.manner(Manner::Refuses(code));
        let first = stage.replica.send(stage.neighbours.person(1)).await;
        assert_eq!(stage.replica.waits(first).await, ["sender_halted"]);
        stage.provider.manner(Manner::Accepts);
        stage.restart().await;
        let second = stage.replica.send(stage.neighbours.person(2)).await;
        assert_eq!(stage.replica.waits(second).await, ["sender_halted"]);
        assert_eq!(stage.provider.bodies().len(), 1, "only the call that was refused");
        let halt = &stage.replica.get("/v1/sender").await["halts"][0];
        assert_eq!((&halt["reach"], &halt["provider_code"]), (&json!("everything"), &json!(code)));

        let (_, answer) =
            stage.replica.post("/v1/sender/lift", json!({"reach": "everything"})).await;
        assert_eq!(answer["lifted"], true);
        for message in [first, second] {
            assert_eq!(stage.replica.settled(message).await["state"], "accepted");
        }
        stage.replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spam_and_unpaid_bills_stop_only_what_they_reach() {
    let Stage { neighbours, provider, replica, .. } = Stage::new().await;
    let sent = replica.send(neighbours.person(1)).await;
    assert_eq!(replica.settled(sent).await["state"], "accepted");
    // By webhook, after the provider had accepted it.
    replica.fails(sent, 131_048).await;
    let offer = replica.send_template(neighbours.person(2), "marketing", "offer").await;
    assert_eq!(replica.waits(offer).await, ["campaigns_halted"]);
    let receipt = replica.send_template(neighbours.person(2), "service", "receipt").await;
    assert_eq!(replica.settled(receipt).await["state"], "accepted");
    // Lifted, it stays lifted when the same webhook comes again.
    replica.post("/v1/sender/lift", json!({"reach": "campaigns"})).await;
    assert_eq!(replica.settled(offer).await["state"], "accepted");
    replica.fails(sent, 131_048).await;
    assert_eq!(replica.get("/v1/sender").await["halts"], json!([]));

    provider.manner(Manner::Refuses(131_042));
    let unpaid = replica.send_template(neighbours.person(3), "service", "receipt").await;
    assert_eq!(replica.waits(unpaid).await, ["billing_halted"]);
    assert_eq!(replica.get("/v1/sender").await["halts"][0]["reach"], "billable");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_let_the_number_rest_an_hour_and_nobody_makes_it_longer() {
    for code in [4, 80_007] {
        let Stage { neighbours, provider, replica, .. } = Stage::new().await;
        provider.manner(Manner::Refuses(code));
        let first = replica.send(neighbours.person(1)).await;
        assert_eq!(replica.waits(first).await, ["provider_asks_to_wait"]);
        provider.manner(Manner::Accepts);
        let rest = "SELECT extract(epoch FROM next_at)::bigint FROM send_rates";
        let until = replica.count(rest).await;
        let seconds = "SELECT extract(epoch FROM next_at - now())::bigint FROM send_rates";
        assert!((3_500..=3_600).contains(&replica.count(seconds).await));
        for n in 2..20 {
            let message = replica.send(neighbours.person(n)).await;
            assert_eq!(replica.waits(message).await, ["number_held_back"]);
        }
        assert_eq!(replica.count(rest).await, until);
        assert_eq!(provider.bodies().len(), 1);
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_too_fast_is_slowed_and_recovers() {
    let Stage { neighbours, provider, replica, .. } = Stage::new().await;
    provider.manner(Manner::Refuses(130_429));
    let message = replica.send(neighbours.person(1)).await;
    let slowed = "SELECT count(*) FROM send_rates WHERE slowness <= 0.25";
    until("slowed twice", async || replica.count(slowed).await == 1).await;
    provider.manner(Manner::Accepts);
    assert_eq!(replica.settled(message).await["state"], "accepted");
    // A long time later it starts from its whole rate again.
    replica.sql("UPDATE send_rates SET slowed_at = now() - interval '1 year'").await;
    provider.manner(Manner::RefusesOnce(130_429));
    let other = replica.send(neighbours.person(2)).await;
    assert_eq!(replica.settled(other).await["state"], "accepted");
    let half = "SELECT count(*) FROM send_rates WHERE slowness = 0.5";
    until("halved once", async || replica.count(half).await == 1).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_pair_waits_longer_each_time_and_others_do_not() {
    let mut stage = Stage::new().await;
    let subject = stage.neighbours.person(1);
    stage.provider.manner(Manner::Refuses(131_056));
    let message = stage.replica.send(subject).await;
    assert_eq!(stage.replica.waits(message).await, ["pair_delayed"]);
    let left = "SELECT ceil(extract(epoch FROM until - now()))::bigint FROM person_bars";
    assert!((1..=4).contains(&stage.replica.count(left).await));
    let times = "SELECT times::bigint FROM person_bars";
    until("delayed again", async || stage.replica.count(times).await == 2).await;
    assert!((10..=16).contains(&stage.replica.count(left).await));

    stage.provider.manner(Manner::Accepts);
    stage.restart().await;
    let hers = stage.replica.send_template(subject, "service", "receipt").await;
    assert_eq!(stage.replica.waits(hers).await, ["pair_delayed"]);
    let another = stage.replica.send(stage.neighbours.person(2)).await;
    assert_eq!(stage.replica.settled(another).await["state"], "accepted");
    stage.replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capped_person_gets_no_marketing_for_a_day_and_is_tried_once_more_at_most() {
    let Stage { neighbours, provider, replica, .. } = Stage::new().await;
    let subject = neighbours.person(1);
    provider.manner(Manner::Refuses(131_049));
    let capped = replica.send(subject).await;
    assert_eq!(replica.waits(capped).await, ["person_capped"]);
    let later = "SELECT count(*) FROM intents
        WHERE state = 'queued' AND not_before >= now() + interval '23 hours 59 minutes'";
    assert_eq!(replica.count(later).await, 1);
    provider.manner(Manner::Accepts);
    let offer = replica.send_template(subject, "marketing", "offer").await;
    assert_eq!(replica.waits(offer).await, ["person_capped"]);
    assert_eq!(replica.count(later).await, 2);
    let receipt = replica.send_template(subject, "service", "receipt").await;
    assert_eq!(replica.settled(receipt).await["state"], "accepted");

    // A day later.
    provider.manner(Manner::Refuses(131_049));
    replica.sql("UPDATE person_bars SET until = now()").await;
    replica
        .sql(
            "UPDATE intents SET not_before = now(), put_off_since = now() - interval '24 hours'
              WHERE state = 'queued' AND template = 'hello'",
        )
        .await;
    let view = replica.settled(capped).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("failed"), &json!(["person_capped"])));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_ends_marketing_until_she_writes() {
    let Stage { neighbours, provider, replica, .. } = Stage::new().await;
    let subject = neighbours.person(1);
    provider.manner(Manner::Refuses(130_472));
    let first = replica.send(subject).await;
    assert_eq!(replica.settled(first).await["reasons"], json!(["experiment"]));
    provider.manner(Manner::Accepts);
    let second = replica.send(subject).await;
    let view = replica.settled(second).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &json!(["experiment"])));
    assert_eq!(provider.bodies().len(), 1);
    // What she wrote an hour before came late.
    let late = SystemClock.now().as_second() - 3_600;
    let message = |id: &str, at: i64| {
        json!({"from": phone(1).trim_start_matches('+'), "id": id, "timestamp": at.to_string(),
            "type": "text", "text": {"body": "when do you open?"}})
    };
    replica.webhook(json!({"messages": [message("wamid.late", late)]})).await;
    replica.processed().await;
    let again = replica.send(subject).await;
    assert_eq!(replica.settled(again).await["reasons"], json!(["experiment"]));
    replica.hears(1, "when do you open?").await;
    replica.processed().await;
    let third = replica.send(subject).await;
    assert_eq!(replica.settled(third).await["state"], "accepted");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_identity_ends_everything_until_it_is_verified() {
    let Stage { neighbours, provider, replica, .. } = Stage::new().await;
    let subject = neighbours.person(1);
    provider.manner(Manner::Refuses(137_000));
    let first = replica.send(subject).await;
    assert_eq!(replica.settled(first).await["reasons"], json!(["identity_changed"]));
    let tasks = replica.get("/v1/tasks").await;
    assert_eq!(tasks["items"][0]["reason"], "identity_hash_changed", "a human is to look");
    provider.manner(Manner::Accepts);
    replica.hears(1, "it is me").await;
    replica.processed().await;
    let second = replica.send_template(subject, "service", "receipt").await;
    assert_eq!(replica.settled(second).await["reasons"], json!(["identity_changed"]));
    let trusted = json!({"subject_id": subject, "reason": "rang_her"});
    let (_, answer) = replica.post("/v1/sender/trust", trusted).await;
    assert_eq!(answer["lifted"], true);
    assert_eq!(neighbours.forgotten(), [json!(subject)]);
    assert!(replica.get("/v1/tasks").await["items"].as_array().unwrap().is_empty());
    let third = replica.send(subject).await;
    assert_eq!(replica.settled(third).await["state"], "accepted");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_the_provider_refuses_is_held_blocked_or_retired_for_everybody() {
    let Stage { neighbours, provider, replica, .. } = Stage::new().await;
    for (code, state, reason, status) in [
        (132_015, "queued", "template_paused", "PAUSED"),
        (132_001, "failed", "template_missing", "MISSING"),
        (132_016, "failed", "template_disabled", "DISABLED"),
    ] {
        let template = json!({"name": "offer", "language": "en", "category": "MARKETING"});
        replica.post("/v1/templates", template).await;
        provider.manner(Manner::Refuses(code));
        let first = replica.send_template(neighbours.person(1), "marketing", "offer").await;
        until("refused", async || replica.look(first, 0).await["reasons"] == json!([reason])).await;
        assert_eq!(replica.look(first, 0).await["state"], state);
        provider.manner(Manner::Accepts);
        let calls = provider.bodies().len();
        let listed = replica.get("/v1/templates").await;
        let offer = listed["templates"].as_array().unwrap().iter().find(|it| it["name"] == "offer");
        assert_eq!(offer.unwrap()["status"], status);
        // Who had asked before that was known.
        replica.sql("UPDATE templates SET status = 'APPROVED' WHERE name = 'offer'").await;
        replica.hold_number().await;
        let second = replica.send_template(neighbours.person(2), "marketing", "offer").await;
        assert_eq!(replica.waits(second).await, ["number_held_back"]);
        replica.sql("UPDATE templates SET status = 'PAUSED' WHERE name = 'offer'").await;
        replica.let_go().await;
        until("held", async || {
            replica.look(second, 0).await["reasons"] == json!(["template_paused"])
        })
        .await;
        assert_eq!(provider.bodies().len(), calls);
        // Another template is none of its business.
        let other = replica.send(neighbours.person(3)).await;
        assert_eq!(replica.settled(other).await["state"], "accepted");
        replica.sql("DELETE FROM intents WHERE state = 'queued'").await;
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_one_message_only_has_its_own_reason() {
    let Stage { neighbours, provider, replica, .. } = Stage::new().await;
    let subject = neighbours.person(1);
    for (code, reason) in [
        (131_026, "undeliverable"),
        (131_047, "window_closed"),
        (130_497, "country_barred"),
        (131_063, "marketing_api_needed"),
        (131_009, "provider_refused"),
        (131_999, "provider_refused"),
    ] {
        provider.manner(Manner::Refuses(code));
        let message = replica.send(subject).await;
        let view = replica.settled(message).await;
        assert_eq!((&view["state"], &view["reasons"]), (&json!("failed"), &json!([reason])));
        assert_eq!(view["provider_code"], code);
    }
    for table in ["SELECT count(*) FROM person_bars", "SELECT count(*) FROM halts"] {
        assert_eq!(replica.count(table).await, 0);
    }
    provider.manner(Manner::Accepts);
    let message = replica.send(subject).await;
    assert_eq!(replica.settled(message).await["state"], "accepted");
    replica.stop().await;
}

/// What the provider seemed to refuse and took all the same is not sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_a_message_that_was_put_off_ends_its_tries() {
    let Stage { neighbours, provider, replica, .. } = Stage::new().await;
    provider.manner(Manner::Refuses(131_016));
    let message = replica.send(neighbours.person(1)).await;
    assert_eq!(replica.waits(message).await, ["provider_asks_to_wait"]);
    replica
        .webhook(json!({"statuses": [{"id": "wamid.after-all", "status": "delivered",
            "recipient_id": "33612300001", "biz_opaque_callback_data": message}]}))
        .await;
    let view = replica.settled(message).await;
    assert_eq!((&view["state"], &view["status"]), (&json!("accepted"), &json!("delivered")));
    let tries = || {
        let bodies = provider.bodies();
        bodies.iter().filter(|it| it["biz_opaque_callback_data"] == json!(message)).count()
    };
    let tried = tries();
    // Another one goes the whole way meanwhile, so the dispatcher has looked again.
    provider.manner(Manner::Accepts);
    let other = replica.send(neighbours.person(2)).await;
    assert_eq!(replica.settled(other).await["state"], "accepted");
    assert_eq!(tries(), tried);
    replica.stop().await;
}

/// Three messages to one person that are refused at once are one burst: her delay is the least.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_heard_in_one_burst_counts_once() {
    let Stage { neighbours, replica, .. } = Stage::new().await;
    let her = neighbours.person(1);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let sent = replica.send(her).await;
        assert_eq!(replica.settled(sent).await["state"], "accepted");
        statuses.push(json!({"id": format!("wamid.{sent}"), "status": "failed",
            "timestamp": SystemClock.now().as_second().to_string(), "errors": [{"code": 131_056}]}));
    }
    assert_eq!(replica.webhook(json!({"statuses": statuses})).await, 200);
    replica.processed().await;
    assert_eq!(replica.count("SELECT times::bigint FROM person_bars WHERE bar = 'pair'").await, 1);
    replica.stop().await;
}
