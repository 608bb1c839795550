//! Webhooks: proved, kept, applied one by one, whatever stands in them.

use std::sync::Arc;

use assent_runtime::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::stand_ins::{Home, Neighbours, Provider, Replica, Setup, phone, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

const SECRET: &str = "app secret";
const PARKED: &str = "SELECT count(*) FROM webhook_bodies WHERE parked IS NOT NULL";
const INBOUND: &str = "SELECT count(*) FROM inbound_messages";

fn change(field: &str, value: Value) -> Value {
    json!({"field": field, "value": value})
}

fn body(changes: Value) -> String {
    let time = SystemClock.now().as_second();
    json!({"object": "whatsapp_business_account",
        "entry": [{"id": "1", "time": time, "changes": changes}]})
    .to_string()
}

fn text(n: usize, id: &str, body: &str) -> Value {
    json!({"from": phone(n).trim_start_matches('+'), "id": id, "type": "text", "text": {"body": body}})
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_app_secret_is_rotated_both_count_and_afterwards_one() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.previous_app_secret = Some("retired secret");
    let empty = body(json!([]));
    let replica = home.start(&setup).await;
    assert_eq!(replica.raw_webhook(&empty, SECRET).await, 200);
    assert_eq!(replica.raw_webhook(&empty, "retired secret").await, 200);
    assert_eq!(replica.raw_webhook(&empty, "another secret").await, 401);
    assert_eq!(replica.raw_webhook(&empty, "").await, 401);
    replica.stop().await;
    setup.previous_app_secret = None;
    let replica = home.start(&setup).await;
    assert_eq!(replica.raw_webhook(&empty, SECRET).await, 200);
    assert_eq!(replica.raw_webhook(&empty, "retired secret").await, 401);
    replica.stop().await;
}

/// One update can't be read, and in another body one can't be written: Postgres takes no NUL in a text. In
/// both the other 999 go through, and the one is kept.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_update_in_a_thousand_is_parked_alone() {
    const GOOD: usize = 999;
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    (0..20).for_each(|n| {
        neighbours.person(n);
    });
    let messages = |of: &str| -> Vec<Value> {
        (0..GOOD).map(|n| text(n % 20, &format!("wamid.{of}{n}"), "when do you open?")).collect()
    };

    let mut unreadable = messages("a");
    unreadable.insert(500, json!({"from": 7, "type": "text"}));
    let changes = json!([change("messages", json!({"messages": unreadable}))]);
    assert_eq!(replica.raw_webhook(&body(changes), SECRET).await, 200);
    replica.processed().await;
    assert_eq!(replica.count(INBOUND).await, GOOD as i64);
    assert_eq!(replica.count(PARKED).await, 1);

    let poison = json!({"message_template_name": "a\u{0}b", "message_template_language": "en",
        "event": "PAUSED"});
    let half = messages("b");
    let changes = json!([
        change("messages", json!({"messages": half[..500]})),
        change("message_template_status_update", poison),
        change("messages", json!({"messages": half[500..]}))
    ]);
    assert_eq!(replica.raw_webhook(&body(changes), SECRET).await, 200);
    replica.processed().await;
    assert_eq!(replica.count(INBOUND).await, 2 * GOOD as i64);
    assert_eq!(replica.count(PARKED).await, 2);

    // Each stands alone, under its body's key.
    let rows: Vec<(uuid::Uuid, uuid::Uuid, Vec<u8>, String)> = sqlx::query_as(
        "SELECT id, hour_key, sealed, parked FROM webhook_bodies ORDER BY parked DESC",
    )
    .fetch_all(replica.messaging.store.pool())
    .await
    .unwrap();
    let reasons: Vec<&str> = rows.iter().map(|row| &*row.3).collect();
    assert_eq!(reasons, ["unreadable", "not_applicable"]);
    let hour_keys: Vec<_> = rows.iter().map(|row| row.1).collect();
    let keys = replica.messaging.hour_keys.earlier(&hour_keys).await.unwrap();
    for (id, hour_key, sealed, reason) in &rows {
        let opened = keys.open(*id, "webhook.body", *hour_key, sealed).unwrap();
        let kept: Value = serde_json::from_slice(&opened).unwrap();
        let changes = kept["entry"][0]["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 1);
        if reason == "unreadable" {
            assert_eq!(changes[0]["value"]["messages"], json!([{"from": 7, "type": "text"}]));
        } else {
            assert_eq!(changes[0]["value"]["event"], "PAUSED");
        }
    }
    // Told again, nothing happens twice.
    let changes = json!([change("messages", json!({"messages": messages("a")}))]);
    assert_eq!(replica.raw_webhook(&body(changes), SECRET).await, 200);
    replica.processed().await;
    assert_eq!(replica.count(INBOUND).await, 2 * GOOD as i64);
    replica.stop().await;
}

/// Bodies that are processed together share a transaction and not a fate.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_applied_stands_in_nobodys_way() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    // While the first one waits for its keys, the others come.
    let held = neighbours.hold_keys().await;
    replica.webhook(json!({"messages": [text(1, "wamid.first", "hello")]})).await;
    until("the first one asks for keys", async || neighbours.key_asks() == 1).await;
    let poison = json!({"message_template_name": "a\u{0}b", "message_template_language": "en",
        "event": "PAUSED"});
    let changes = json!([change("message_template_status_update", poison)]);
    replica.webhook(json!({"messages": [text(1, "wamid.before", "hello")]})).await;
    assert_eq!(replica.raw_webhook(&body(changes), SECRET).await, 200);
    replica.webhook(json!({"messages": [text(1, "wamid.after", "hello")]})).await;
    drop(held);
    replica.processed().await;
    assert_eq!(replica.count(INBOUND).await, 3);
    assert_eq!(replica.count(PARKED).await, 1);
    // With the first, together, and each by itself.
    assert_eq!(neighbours.key_asks(), 4);
    replica.stop().await;
}

/// A statement that meets one row twice fails however often it is tried: the body is to blame, and not the database.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_meets_a_row_twice_is_parked_alone() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    let template = json!({"name": "twice", "language": "en", "category": "MARKETING"});
    assert_eq!(replica.post("/v1/templates", template).await.0, 201);
    replica
        .sql(
            "CREATE FUNCTION met_twice() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'met twice' USING ERRCODE = '21000'; END $$",
        )
        .await;
    replica
        .sql(
            "CREATE TRIGGER met_twice BEFORE INSERT OR UPDATE ON templates FOR EACH ROW
             WHEN (NEW.name = 'twice') EXECUTE FUNCTION met_twice()",
        )
        .await;
    let poison = json!({"message_template_name": "twice", "message_template_language": "en",
        "event": "PAUSED"});
    let changes = json!([
        change("messages", json!({"messages": [text(1, "wamid.before", "hello")]})),
        change("message_template_status_update", poison),
        change("messages", json!({"messages": [text(1, "wamid.after", "hello")]}))
    ]);
    assert_eq!(replica.raw_webhook(&body(changes), SECRET).await, 200);
    replica.processed().await;
    assert_eq!(replica.count(INBOUND).await, 2);
    assert_eq!(replica.count(PARKED).await, 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_nobody_knows_is_kept_and_a_stop_beside_it_is_heard() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.person(1);
    let stop = json!({"messages": [text(1, "wamid.s", "STOP"),
        {"from": "33612300001", "id": "wamid.h", "type": "hologram", "hologram": {"x": 1}}],
        "never_seen": [1]});
    let changes = json!([
        change("something_new", json!({"x": 1})),
        change("messages", stop),
        change("security", json!({"event": "PIN_CHANGED"}))
    ]);
    assert_eq!(replica.raw_webhook(&body(changes), SECRET).await, 200);
    replica.processed().await;
    let unknown = "SELECT count(*) FROM webhook_bodies WHERE parked = 'unknown'";
    assert_eq!(replica.count(unknown).await, 1);
    assert_eq!(replica.count(PARKED).await, 1);
    let kinds = "SELECT count(*) FROM inbound_messages WHERE kind IN ('text', 'other')";
    assert_eq!(replica.count(kinds).await, 2);
    until("the stop arrives", async || neighbours.stops().len() == 1).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_of_the_account_halts_it_and_a_reinstatement_lifts_nothing() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let ban = |state: &str| {
        let value = json!({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": state}});
        body(json!([change("account_update", value)]))
    };
    replica.raw_webhook(&ban("SCHEDULE_FOR_DISABLE"), SECRET).await;
    replica.processed().await;
    assert_eq!(replica.get("/v1/sender").await["halts"], json!([]));
    for state in ["DISABLE", "REINSTATE"] {
        replica.raw_webhook(&ban(state), SECRET).await;
        replica.processed().await;
        let halts = replica.get("/v1/sender").await["halts"].clone();
        assert_eq!(
            (&halts[0]["reach"], &halts[0]["provider_code"]),
            (&json!("everything"), &json!(null))
        );
    }
    let message = replica.send(neighbours.person(1)).await;
    assert_eq!(replica.waits(message).await, ["sender_halted"]);
    assert!(provider.bodies().is_empty());
    replica.stop().await;
}

/// A stop follows a person to her new number. Her consent doesn't, and the old number gets nothing more:
/// somebody else may have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_follows_her_to_a_new_number_and_the_old_one_gets_nothing_more() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let moved = |from: usize, to: usize| {
        json!({"messages": [{"from": phone(from).trim_start_matches('+'), "type": "system",
            "id": format!("wamid.moved{from}"), "timestamp": "1760000000",
            "system": {"type": "user_changed_number", "wa_id": phone(to).trim_start_matches('+')}}]})
    };
    let free = neighbours.person(1);
    replica.webhook(moved(1, 11)).await;
    replica.processed().await;
    assert_eq!(replica.count("SELECT count(*) FROM declarations").await, 0);
    let message = replica.send(free).await;
    let view = replica.settled(message).await;
    assert_eq!(
        (&view["state"], &view["reasons"]),
        (&json!("refused"), &json!(["identity_changed"]))
    );
    // It is no message of hers: it opens no window.
    assert_eq!(replica.count(INBOUND).await, 0);
    // Somebody looked into it; then the same news comes again.
    let trusted = json!({"subject_id": free, "reason": "rang_her"});
    assert_eq!(replica.post("/v1/sender/trust", trusted).await.1["lifted"], true);
    replica.webhook(moved(1, 11)).await;
    replica.processed().await;
    let message = replica.send(free).await;
    assert_eq!(replica.settled(message).await["state"], "accepted");

    neighbours.deny(Some("stopped"));
    // Twice: webhooks come more than once.
    for _ in 0..2 {
        replica.webhook(moved(2, 12)).await;
        replica.processed().await;
    }
    until("the stop arrives", async || neighbours.stops().len() == 1).await;
    assert_eq!(neighbours.stops()[0]["addresses"], json!(home.index.tokens(&phone(12))));
    assert_eq!(replica.count("SELECT count(*) FROM declarations").await, 1);

    // What is written to another number of the business is another deployment's; a stop is a stop.
    let to_another = |id: &str, text: &str| {
        json!({"metadata": {"phone_number_id": "999"}, "messages": [
            {"from": phone(1).trim_start_matches('+'), "id": id, "type": "text", "text": {"body": text}}]})
    };
    replica.webhook(to_another("wamid.other", "hello")).await;
    replica.webhook(to_another("wamid.stop", "STOP")).await;
    replica.processed().await;
    until("the stop arrives", async || neighbours.stops().len() == 2).await;
    assert_eq!(replica.count(INBOUND).await, 0);

    // A new user id is a new identity too.
    let update = json!({"user_id_update": [{"wa_id": "", "user_id": {"previous": "FR.1", "current": "FR.2"}}]});
    let changes = json!([change("user_id_update", update)]);
    replica.raw_webhook(&body(changes), SECRET).await;
    until("the stop arrives", async || neighbours.stops().len() == 3).await;
    assert_eq!(neighbours.stops()[2]["addresses"], json!(home.index.tokens("FR.2")));
    replica.stop().await;
}

/// Those that come together share a transaction and not their fate: Postgres refuses one of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_stored_fails_alone_and_its_stop_with_it() {
    const GOOD: usize = 19;
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let replica = Arc::new(replica);
    replica
        .sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF octet_length(NEW.sealed) > 50000 THEN RAISE ''too long''; END IF; RETURN NEW; END'",
        )
        .await;
    replica
        .sql("CREATE TRIGGER refuse BEFORE INSERT ON webhook_bodies FOR EACH ROW EXECUTE FUNCTION refuse()")
        .await;
    // What comes while the first ones wait for the table comes together.
    let mut held = home.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE webhook_bodies IN EXCLUSIVE MODE")
        .execute(&mut held)
        .await
        .unwrap();
    let refused = json!({"messages": [text(0, "0", "Stop"), text(0, "long", &"x".repeat(50_000))]});
    let mut good = JoinSet::new();
    for n in 1..=GOOD {
        let replica = Arc::clone(&replica);
        let stop = json!({"messages": [text(n, &n.to_string(), "Stop")]});
        good.spawn(async move { replica.webhook(stop).await });
    }
    let let_go = async {
        until("the first ones wait", async || {
            replica.count("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'webhook_bodies'::regclass").await > 0
        })
        .await;
        sqlx::raw_sql("COMMIT").execute(&mut held).await.unwrap();
    };
    let (bad, good, ()) = tokio::join!(replica.webhook(refused.clone()), good.join_all(), let_go);
    assert_eq!((bad, good), (503, vec![200; GOOD]));
    let stops = "SELECT count(*) FROM declarations WHERE will = 'stop'";
    assert_eq!(replica.count(stops).await, GOOD as i64, "the one of the refused body is not there");
    replica.sql("DROP TRIGGER refuse ON webhook_bodies").await;
    assert_eq!(replica.webhook(refused).await, 200, "the provider tries again");
    assert_eq!(replica.count(stops).await, GOOD as i64 + 1);
    Arc::into_inner(replica).unwrap().stop().await;
}

/// Three statuses of each message move its row: it stays on its page, and no index is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_changes_no_column_that_an_index_knows() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let indexed: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT attname::text FROM pg_depend
         JOIN pg_class ON pg_class.oid = objid AND relkind = 'i'
         JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
         WHERE refobjid = 'intents'::regclass",
    )
    .fetch_all(replica.messaging.store.pool())
    .await
    .unwrap();
    assert!(indexed.iter().any(|column| column == "settled_at"), "{indexed:?}");
    for column in ["status", "provider_code", "changed_at"] {
        assert!(!indexed.iter().any(|it| it == column), "{column} is in an index");
    }
    replica.stop().await;
}

/// What each person wrote, by when she wrote it, in the order in which it was recorded.
const RECORDED: &str = "
    SELECT stream::text, data::jsonb ->> 'said_at' FROM eventstore.events
    WHERE event_type = 'assent.messaging.message_received.v1' ORDER BY stream, version";

/// The `at`th message of the `n`th person, of an hour ago.
fn written(n: usize, at: i64) -> Value {
    let mut message = text(n, &format!("wamid.{n}.{at}"), "hello");
    message["timestamp"] = json!((SystemClock.now().as_second() - 3_600 + at * 10).to_string());
    json!({"messages": [message]})
}

async fn recorded_in_order(replica: &Replica, count: usize) {
    replica.processed().await;
    let pool = replica.messaging.store.pool();
    let recorded: Vec<(String, String)> = sqlx::query_as(RECORDED).fetch_all(pool).await.unwrap();
    assert_eq!(recorded.len(), count);
    assert!(recorded.is_sorted(), "{recorded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_she_writes_overtakes_nothing_of_hers_that_a_dead_replica_had_taken() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    neighbours.person(1);
    neighbours.person(2);
    let setup = Setup::new(neighbours.address, provider.address);
    let first = home.start(&setup).await;
    neighbours.say_not_who(true);
    assert_eq!(first.webhook(written(1, 0)).await, 200);
    first.stop().await;
    // It died with her message in its hands.
    home.sql("UPDATE webhook_bodies SET not_before = now() + interval '1 hour'").await;
    neighbours.say_not_who(false);

    let second = home.start(&setup).await;
    assert_eq!(second.webhook(written(1, 1)).await, 200);
    assert_eq!(second.webhook(written(2, 0)).await, 200);
    until("others are heard", async || second.count(INBOUND).await == 1).await;
    let untouched = "SELECT count(*) FROM webhook_bodies WHERE attempts = 0";
    assert_eq!(second.count(untouched).await, 1, "hers waits, and nobody has taken it");
    second.sql("UPDATE webhook_bodies SET not_before = now()").await;
    recorded_in_order(&second, 3).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_applied_yet_is_not_overtaken_in_the_same_replica() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    neighbours.person(1);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.say_not_who(true);
    assert_eq!(replica.webhook(written(1, 0)).await, 200);
    let tried = "SELECT count(*) FROM webhook_bodies WHERE attempts > 1";
    until("it is tried in vain", async || replica.count(tried).await == 1).await;
    assert_eq!(replica.webhook(written(1, 1)).await, 200);
    until("it is tried again", async || {
        replica.count("SELECT max(attempts)::bigint FROM webhook_bodies").await > 3
    })
    .await;
    neighbours.say_not_who(false);
    recorded_in_order(&replica, 2).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_record_what_each_person_wrote_in_its_order() {
    const EACH: i64 = 30;
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let setup = Setup::new(neighbours.address, provider.address);
    let replicas = [home.start(&setup).await, home.start(&setup).await];
    let replicas = Arc::new(replicas);
    let mut writing = JoinSet::new();
    for n in 1..=4 {
        neighbours.person(n);
        let replicas = replicas.clone();
        writing.spawn(async move {
            for at in 0..EACH {
                let replica = &replicas[usize::from(at % 2 == 1)];
                assert_eq!(replica.webhook(written(n, at)).await, 200);
            }
        });
    }
    writing.join_all().await;
    recorded_in_order(&replicas[0], 4 * 30).await;
    for replica in Arc::into_inner(replicas).unwrap() {
        replica.stop().await;
    }
}
