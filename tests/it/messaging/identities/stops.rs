//! Stops and opt-ins by whichever of somebody's names, and whose they are.

use super::*;

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
