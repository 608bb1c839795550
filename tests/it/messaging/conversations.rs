//! Conversations: opened by what she writes, read on record only, answered by one human at a time, forgotten
//! with their retention.

use std::collections::HashSet;

use serde_json::{Value, json};
use sqlx::Row as _;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::stand_ins::{Home, Neighbours, Provider, Replica, Setup, phone, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

/// She writes; the conversation that it belongs to.
async fn writes(replica: &Replica, n: usize, text: &str) -> String {
    replica.hears(n, text).await;
    replica.processed().await;
    let listed = replica.get("/v1/conversations").await;
    let last = listed["items"].as_array().unwrap().last().unwrap();
    last["conversation_id"].as_str().unwrap().to_owned()
}

async fn read(replica: &Replica, conversation: &str, reason: &str) -> (u16, Value) {
    let path = format!("/v1/conversations/{conversation}/read");
    replica.post(&path, json!({"reason": reason})).await
}

async fn published(replica: &Replica, kind: &str) -> Vec<Value> {
    let name = format!("assent.messaging.{kind}.v1");
    let rows = sqlx::query(
        "SELECT data::jsonb FROM eventstore.events WHERE event_type = $1 ORDER BY position",
    )
    .bind(name)
    .fetch_all(replica.messaging.store.pool())
    .await
    .unwrap();
    rows.iter().map(|row| row.try_get(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_what_she_wrote_is_opened_for_whoever_may_and_only_once_that_is_on_record() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let id = writes(&replica, 1, "where is my parcel?").await;
    let view = replica.get(&format!("/v1/conversations/{id}")).await;
    assert_eq!((&view["state"], &view["reason"]), (&json!("waiting"), &json!("no_bot")));
    assert_eq!(view["subject_id"], json!(subject));
    assert!(!view.to_string().contains("parcel"));

    // Without the right, without a reason, without a vault: nothing.
    let path = format!("/v1/conversations/{id}/read");
    let (status, problem) = replica.post_as_colleague(&path, json!({"reason": "answering"})).await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("forbidden")));
    for body in [json!({"reason": ""}), json!({"reason": "She asked!"})] {
        assert_eq!(replica.post(&path, body).await.0, 422);
    }
    assert_eq!(replica.post(&path, json!({})).await.0, 400);
    assert_eq!(published(&replica, "conversation_read").await.len(), 0);
    neighbours.give_keys(false);
    let (status, problem) = read(&replica, &id, "answering").await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("dependency_unavailable")));
    // It was on record before the vault was asked.
    assert_eq!(published(&replica, "conversation_read").await.len(), 1);
    neighbours.give_keys(true);

    let (status, page) = read(&replica, &id, "answering").await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["items"][0]["text"], "where is my parcel?");
    assert_eq!(page["items"][0]["by"], "person");
    let on_record = published(&replica, "conversation_read").await.pop().unwrap();
    assert_eq!(
        (&on_record["reader"], &on_record["reason"], &on_record["conversation_id"]),
        (&json!("test"), &json!("answering"), &json!(id))
    );
    assert!(neighbours.lease_reasons(subject).contains(&"answering".to_owned()));
    // Nothing of it stands in an event.
    let received = published(&replica, "message_received").await;
    assert_eq!(received[0].get("content"), None);
    replica.stop().await;
}

/// GDPR Article 18: stored, and not used. A colleague who may read conversations may not read this one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_restricted_is_opened_for_its_own_right_alone() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    let id = writes(&replica, 1, "my name is wrong").await;
    neighbours.deny_purpose("service", "restricted");
    let (status, problem) = read(&replica, &id, "answering").await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("forbidden")));
    assert!(problem["detail"].as_str().unwrap().contains("restricted:read"), "{problem}");
    assert!(published(&replica, "conversation_read").await.is_empty());
    let path = format!("/v1/conversations/{id}/read");
    let (status, problem) = replica.post_second(&path, json!({})).await;
    assert_eq!(status, 400, "a reason, whatever the right: {problem}");
    let (status, page) = replica.post_second(&path, json!({"reason": "legal_claim"})).await;
    assert_eq!((status, &page["items"][0]["text"]), (200, &json!("my name is wrong")), "{page}");
    let on_record = published(&replica, "conversation_read").await.pop().unwrap();
    assert_eq!(on_record["reason"], "legal_claim");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_author_has_lost_the_conversation_meanwhile_is_not_sent() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    let id = writes(&replica, 1, "where is my parcel?").await;
    let reply = format!("/v1/conversations/{id}/reply");
    let assign = format!("/v1/conversations/{id}/assign");
    // It has taken the conversation, and waits for the key that seals what it says.
    let held = neighbours.hold_keys().await;
    let answers = replica.post(&reply, json!({"content": {"type": "text", "body": "On its way."}}));
    let loses = async {
        until("it is taken", async || {
            replica.get(&format!("/v1/conversations/{id}")).await["assignee"] == "test"
        })
        .await;
        let (status, view) = replica.post_as_colleague(&assign, json!({"from": "test"})).await;
        assert_eq!((status, &view["assignee"]), (200, &json!("colleague")));
        drop(held);
    };
    let ((status, problem), ()) = tokio::join!(answers, loses);
    assert_eq!((status, &problem["assignee"]), (409, &json!("colleague")), "{problem}");
    assert_eq!(problem["code"], "conversation_state_conflict");
    assert_eq!(replica.count("SELECT count(*) FROM intents").await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_human_answers_at_a_time_and_each_answer_goes_through_the_gate() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    let id = writes(&replica, 1, "where is my parcel?").await;
    let path = |act: &str| format!("/v1/conversations/{id}/{act}");
    let text = |body: &str| json!({"content": {"type": "text", "body": body}});

    let (status, queued) = replica.post_once(&path("reply"), &text("On its way."), "first").await;
    assert_eq!(status, 202, "{queued}");
    let message: Uuid = queued["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(message).await["purpose"], "service");
    let again = replica.post_once(&path("reply"), &text("On its way."), "first").await;
    assert_eq!((again.0, &again.1["message_id"]), (202, &queued["message_id"]));
    assert_eq!(provider.bodies().len(), 1);
    assert_eq!(provider.bodies()[0]["text"]["body"], "On its way.");
    let view = replica.get(&format!("/v1/conversations/{id}")).await;
    assert_eq!((&view["state"], &view["assignee"]), (&json!("human"), &json!("test")));

    // A colleague takes it only from who has it.
    let (status, problem) = replica.post_as_colleague(&path("reply"), text("Me too.")).await;
    assert_eq!((status, &problem["assignee"]), (409, &json!("test")), "{problem}");
    assert_eq!(problem["code"], "conversation_state_conflict");
    assert_eq!(replica.post_as_colleague(&path("assign"), json!({})).await.0, 409);
    let (status, view) = replica.post_as_colleague(&path("assign"), json!({"from": "test"})).await;
    assert_eq!((status, &view["assignee"]), (200, &json!("colleague")));
    // It is published: what is no name of a key that may answer isn't taken.
    for assignee in ["+33612345678", "second", ""] {
        let body = json!({"assignee": assignee, "from": "colleague"});
        assert_eq!(replica.post(&path("assign"), body).await.0, 422, "{assignee}");
    }
    let (status, noted) =
        replica.post_as_colleague(&path("notes"), json!({"text": "calm her"})).await;
    assert_eq!(status, 201, "{noted}");

    // The gate says no: it is shown, and nothing went out.
    neighbours.deny_purpose("service", "consent_withdrawn");
    let (status, queued) = replica.post_as_colleague(&path("reply"), text("Sorry.")).await;
    assert_eq!(status, 202);
    let message: Uuid = queued["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(message).await["reasons"], json!(["consent_withdrawn"]));
    assert_eq!(provider.bodies().len(), 1);

    let (_, page) = read(&replica, &id, "answering").await;
    let told: Vec<(&str, &str)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["by"].as_str().unwrap(), it["text"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("person", "where is my parcel?"),
            ("human", "On its way."),
            ("note", "calm her"),
            ("human", "Sorry.")
        ]
    );
    assert_eq!(page["items"][3]["author"], "colleague");
    // Page by page it is the same.
    let mut cursor = Value::Null;
    let mut paged = Vec::new();
    loop {
        let mut body = json!({"reason": "answering", "limit": 1});
        if !cursor.is_null() {
            body["cursor"] = cursor;
        }
        let (_, page) = replica.post(&path("read"), body).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(json!(paged), page["items"]);

    let (status, _) = replica.post(&path("handover"), json!({"to": "bot"})).await;
    assert_eq!(status, 409, "there is no bot");
    let (_, view) = replica.post(&path("handover"), json!({"to": "human"})).await;
    assert_eq!((&view["state"], &view["assignee"]), (&json!("waiting"), &Value::Null));
    assert_eq!(replica.post(&path("close"), json!({})).await.0, 200);
    assert_eq!(replica.post(&path("reply"), text("Late.")).await.0, 409);
    let next = writes(&replica, 1, "hello again").await;
    assert_ne!(next, id);
    let events: Vec<String> = sqlx::query_scalar(
        "SELECT event_type FROM eventstore.events WHERE stream = $1 AND event_type LIKE '%.conversation\\_%'
         AND event_type NOT LIKE '%_read.v1' ORDER BY version",
    )
    .bind(subject)
    .fetch_all(replica.messaging.store.pool())
    .await
    .unwrap();
    let kinds: Vec<&str> = events.iter().map(|it| it.split('.').nth(2).unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "conversation_opened",
            "conversation_assigned",
            "conversation_assigned",
            "conversation_noted",
            "conversation_handed_over",
            "conversation_closed",
            "conversation_opened"
        ]
    );
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_the_window_the_refusal_names_the_templates_that_her_consent_covers() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    let id = writes(&replica, 1, "where is my parcel?").await;
    replica
        .sql("INSERT INTO templates (name, language, category) VALUES ('parcel', 'en', 'UTILITY')")
        .await;
    replica
        .sql("INSERT INTO templates (name, language, category, status) VALUES ('old', 'en', 'UTILITY', 'PAUSED')")
        .await;
    replica.sql("UPDATE inbound_messages SET said_at = now() - interval '25 hours'").await;
    neighbours.deny_purpose("marketing", "no_consent");
    let body = json!({"content": {"type": "text", "body": "On its way."}});
    let (status, problem) = replica.post(&format!("/v1/conversations/{id}/reply"), body).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("window_closed")));
    let covered = json!([{"name": "parcel", "language": "en", "purpose": "service"}]);
    assert_eq!(problem["templates"], covered);
    assert_eq!(provider.bodies().len(), 0);
    // Nobody took it by trying.
    assert_eq!(replica.get(&format!("/v1/conversations/{id}")).await["state"], "waiting");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_opens_no_conversation_and_lists_are_filtered_and_paged() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    for n in 1..=3 {
        neighbours.person(n);
    }
    for n in 1..=3 {
        writes(&replica, n, "hello").await;
    }
    neighbours.person(4);
    replica.hears(4, "STOP").await;
    replica.processed().await;
    assert_eq!(replica.count("SELECT count(*) FROM conversations").await, 3);
    let first = replica.get("/v1/conversations?limit=2").await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let next = first["next"].as_str().unwrap();
    let second = replica.get(&format!("/v1/conversations?limit=2&cursor={next}")).await;
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second.get("next"), None);
    let id = second["items"][0]["conversation_id"].as_str().unwrap();
    replica.post(&format!("/v1/conversations/{id}/assign"), json!({"assignee": "colleague"})).await;
    let hers = replica.get("/v1/conversations?assignee=colleague").await;
    assert_eq!(hers["items"][0]["conversation_id"], json!(id));
    let waiting = replica.get("/v1/conversations?state=waiting").await;
    assert_eq!(waiting["items"].as_array().unwrap().len(), 2);
    let unknown = format!("/v1/conversations/{}/close", Uuid::from_u128(7));
    let (status, problem) = replica.post(&unknown, json!({})).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("conversation_unknown")));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_ends_with_its_retention_and_that_it_was_stays() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.conversations.retention_days = 30;
    let replica = home.start(&setup).await;
    neighbours.person(1);
    let id = writes(&replica, 1, "where is my parcel?").await;
    let path = |act: &str| format!("/v1/conversations/{id}/{act}");
    replica.post(&path("notes"), json!({"text": "calm her"})).await;
    let body = json!({"content": {"type": "text", "body": "On its way."}});
    let (_, queued) = replica.post(&path("reply"), body).await;
    let message: Uuid = queued["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(message).await["state"], "accepted");
    writes(&replica, 1, "thank you").await;
    replica.stop().await;

    let pool = sqlx::PgPool::connect(home.database_url()).await.unwrap();
    for statement in [
        "UPDATE inbound_messages SET said_at = now() - interval '31 days' WHERE id = (SELECT min(id::text)::uuid FROM inbound_messages)",
        "UPDATE intents SET requested_at = now() - interval '31 days'",
        "UPDATE conversation_notes SET written_at = now() - interval '31 days'",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    // Told before it is done, by a service that would keep them for longer.
    setup.conversations.retention_days = 3650;
    let replica = home.start(&setup).await;
    let kept = replica.get("/v1/retention").await;
    assert_eq!(kept["due"], json!({"from_people": 0, "to_people": 0, "notes": 0}), "{kept}");
    let dry = replica.get("/v1/retention?conversation_days=30").await;
    assert_eq!(dry["due"], json!({"from_people": 1, "to_people": 1, "notes": 1}), "{dry}");
    assert_eq!(dry, replica.get("/v1/retention?conversation_days=30").await, "nothing is done");
    replica.stop().await;
    setup.conversations.retention_days = 30;
    // Housekeeping begins with the service.
    let replica = home.start(&setup).await;
    until("the texts are gone", async || {
        replica
            .count(
                "SELECT (SELECT count(*) FROM inbound_messages WHERE content IS NOT NULL)
                     + (SELECT count(*) FROM intents WHERE parameters IS NOT NULL)
                     + (SELECT count(*) FROM conversation_notes)",
            )
            .await
            == 1
    })
    .await;
    let (_, page) = read(&replica, &id, "answering").await;
    let told: Vec<(&str, bool, &Value)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["by"].as_str().unwrap(), it["gone"].as_bool().unwrap(), &it["text"]))
        .collect();
    assert_eq!(told.iter().filter(|(_, gone, text)| *gone && text.is_null()).count(), 2);
    assert!(told.contains(&("person", false, &json!("thank you"))), "{told:?}");
    replica.stop().await;
}

/// GDPR Article 18(1)(b) and (c): what she has restricted instead of deleted, or needs for a claim, outlives its period.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_does_not_end_by_age_while_its_use_is_restricted() {
    const OLD: &str = "UPDATE inbound_messages SET said_at = now() - interval '31 days'";
    const LEFT: &str = "SELECT (SELECT count(*) FROM inbound_messages WHERE content IS NOT NULL)
                              + (SELECT count(*) FROM conversation_notes)";
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.conversations.retention_days = 30;
    let replica = home.start(&setup).await;
    let hers = neighbours.person(1);
    neighbours.person(2);
    writes(&replica, 1, "my name is wrong").await;
    writes(&replica, 2, "where is my parcel?").await;
    replica
        .sql(
            "INSERT INTO conversation_notes
                 (id, conversation_id, subject_id, author, body, written_at)
             SELECT gen_random_uuid(), conversation_id, subject_id, 'colleague', content,
                    now() - interval '31 days'
             FROM inbound_messages",
        )
        .await;
    replica.sql(OLD).await;
    assert_eq!(replica.count(LEFT).await, 4);
    replica.stop().await;
    neighbours.exclude(hers, "restricted");

    // Housekeeping begins with the service. Both are looked at together.
    let replica = home.start(&setup).await;
    until("the other's texts are gone", async || replica.count(LEFT).await == 2).await;
    let left: Vec<Uuid> = sqlx::query_scalar(
        "SELECT subject_id FROM inbound_messages WHERE content IS NOT NULL
         UNION ALL SELECT subject_id FROM conversation_notes",
    )
    .fetch_all(replica.messaging.store.pool())
    .await
    .unwrap();
    assert_eq!(left, [hers, hers], "what she wrote, and what was noted of her");
    replica.stop().await;

    neighbours.include(hers);
    let replica = home.start(&setup).await;
    until("hers are gone too", async || replica.count(LEFT).await == 0).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_person_writes_in_one_call_is_recorded_in_one_transaction_and_in_her_order() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let (her, other) = (neighbours.person(1), neighbours.person(2));
    let said = |n: usize, id: &str| {
        json!({"from": phone(n).trim_start_matches('+'), "id": id, "timestamp": "1700000000",
            "type": "text", "text": {"body": "when do you open?"}})
    };
    let messages = [said(1, "a"), said(2, "b"), said(1, "c"), said(1, "a")];
    assert_eq!(replica.webhook(json!({"messages": messages})).await, 200);
    replica.processed().await;
    let rows = sqlx::query(
        "SELECT subject_id, conversation_id, xmin::text FROM inbound_messages ORDER BY id",
    )
    .fetch_all(replica.messaging.store.pool())
    .await
    .unwrap();
    let people: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let of = |row: usize, column: usize| rows[row].get::<Uuid, _>(column);
    assert_eq!(people, [her, other, her], "one of hers came twice");
    assert_eq!(of(0, 1), of(2, 1), "one conversation");
    assert_ne!(of(0, 1), of(1, 1));
    let transactions: HashSet<String> = rows.iter().map(|row| row.get(2)).collect();
    assert_eq!(transactions.len(), 1, "a body that had to be halved is several");
    replica.stop().await;
}
