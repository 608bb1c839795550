//! It may be somebody else by now: nothing counts, and nothing goes out, until somebody has looked.

use super::*;

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
