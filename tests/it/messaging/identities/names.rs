//! What the platform tells of somebody's names reaches the vault, once and in time.

use super::*;

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
