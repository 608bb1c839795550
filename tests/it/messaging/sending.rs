//! Sends: once, under a lease, through the gate, or visibly not.

use std::collections::HashSet;
use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};

use super::stand_ins::{Home, Manner, Neighbours, Provider, Setup, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permitted_message_goes_out_and_its_statuses_never_step_back() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let message = replica.send(neighbours.person(1)).await;
    let view = replica.settled(message).await;
    assert_eq!(view["state"], "accepted", "{view}");
    let body = &provider.bodies()[0];
    assert_eq!(body["to"], "+33612300001");
    assert_eq!(body["template"]["components"][0]["parameters"][0]["text"], "Ada");
    // One ask to seal the parameters, one for all of the batch: to open them, and to seal the answer.
    let sealed = "SELECT count(*) FROM intents WHERE provider_id IS NOT NULL";
    assert_eq!((neighbours.key_asks(), replica.count(sealed).await), (2, 1));

    let wamid = format!("wamid.{message}");
    for (status, expected) in [("read", "read"), ("delivered", "read"), ("sent", "read")] {
        // By the provider's id alone: its keyed hash finds the message.
        replica.webhook(json!({"statuses": [{"id": wamid, "status": status}]})).await;
        until("processed", async || {
            replica.count("SELECT count(*) FROM webhook_bodies").await == 0
        })
        .await;
        assert_eq!(replica.look(message, 0).await["status"], expected);
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_with_consent_and_vault_down_nothing_is_sent() {
    let home = Home::new().await;
    let provider = Provider::serve().await;
    // Parameters are sealed at intake, so the vault is there for that, and then goes.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = reserved.local_addr().unwrap();
    let mut setup = Setup::new(address, provider.address);
    setup.patience = Duration::from_millis(500);
    let replica = home.start(&setup).await;
    let subject = uuid::Uuid::from_u128(7);
    sqlx::query(
        "INSERT INTO intents (id, subject_id, purpose, channel, template, language, state, requested_at, changed_at)
         VALUES ($1, $1, 'marketing', 'whatsapp', 'hello', 'en', 'queued', now(), now())",
    )
    .bind(subject)
    .execute(replica.messaging.store.pool())
    .await
    .unwrap();
    let view = replica.settled(subject).await;
    assert_eq!(view["state"], "failed");
    assert_eq!(view["reasons"], json!(["vault_unreachable"]));
    assert!(provider.bodies().is_empty() && provider.without_body() == 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_final_but_an_address_that_is_not_linked_yet_is_waited_for() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    neighbours.deny(Some("no_consent"));
    let refused = replica.send(subject).await;
    let view = replica.settled(refused).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &json!(["no_consent"])));

    neighbours.deny(Some("address_unlinked"));
    let asked = neighbours.asks();
    let waiting = replica.send(subject).await;
    until("asked more than once", async || neighbours.asks() > asked + 1).await;
    neighbours.deny(None);
    assert_eq!(replica.settled(waiting).await["state"], "accepted");
    assert_eq!(provider.bodies().len(), 1);
    replica.stop().await;
}

const HOUR: Duration = Duration::from_secs(3_600);
/// A long night is over: longer than anybody's patience.
const MORNING: &str = "
    UPDATE intents SET not_before = now(), put_off_since = now() - interval '8 hours'
    WHERE state = 'queued'";

/// Longer than the gate's patience: the gate has answered, so nobody gives up.
#[tokio::test(flavor = "multi_thread")]
async fn at_a_quiet_hour_a_message_waits_until_the_hour_is_over() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.patience = Duration::from_millis(100);
    let replica = home.start(&setup).await;
    neighbours.quiet_until(SystemClock.now() + HOUR);
    let message = replica.send(neighbours.person(1)).await;
    assert_eq!(replica.waits(message).await, ["quiet_hours"]);
    let left = "SELECT extract(epoch FROM not_before - now())::bigint FROM intents
        WHERE state = 'queued'";
    assert!((3_500..=3_600).contains(&replica.count(left).await));
    assert_eq!(neighbours.asks(), 1, "nobody asks again in between");
    // An hour later.
    neighbours.quiet_until(SystemClock.now());
    replica.sql(MORNING).await;
    assert_eq!(replica.settled(message).await["state"], "accepted");
    assert_eq!(neighbours.asks(), 2, "the morning's permit is its own");
    assert_eq!(provider.bodies().len(), 1);
    // Whoever has said no in the meantime gets no message in the morning.
    neighbours.quiet_until(SystemClock.now() + HOUR);
    let other = replica.send(neighbours.person(2)).await;
    assert_eq!(replica.waits(other).await, ["quiet_hours"]);
    neighbours.deny(Some("consent_withdrawn"));
    neighbours.quiet_until(SystemClock.now());
    replica.sql(MORNING).await;
    let view = replica.settled(other).await;
    assert_eq!(
        (&view["state"], &view["reasons"]),
        (&json!("refused"), &json!(["consent_withdrawn"]))
    );
    assert_eq!(provider.bodies().len(), 1);
    replica.stop().await;
}

/// The night is no reason to give up in the morning: patience with what hinders then begins then.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waited_through_the_night_has_all_patience_in_the_morning() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    neighbours.quiet_until(SystemClock.now() + HOUR);
    let message = replica.send(neighbours.person(1)).await;
    assert_eq!(replica.waits(message).await, ["quiet_hours"]);
    neighbours.quiet_until(SystemClock.now());
    neighbours.deny(Some("address_unlinked"));
    replica.sql(MORNING).await;
    until("hindered", async || {
        replica.look(message, 0).await["reasons"] == json!(["address_unlinked"])
    })
    .await;
    neighbours.deny(None);
    assert_eq!(replica.settled(message).await["state"], "accepted");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_the_last_look_withholds_the_body_when_the_lease_ran_out_while_connecting() {
    let home = Home::new().await;
    let neighbours = neighbours(&home).await;
    let (listener, fillers) = Provider::unreachable().await;
    let mut setup = Setup::new(neighbours.address, listener.local_addr().unwrap());
    setup.lease = Duration::from_millis(500);
    let replica = home.start(&setup).await;
    let message = replica.send_template(neighbours.person(1), "marketing", "hello").await;
    // The permit is out and the call hangs in its connect.
    until("calling", async || replica.look(message, 0).await["state"] == "calling").await;
    // The SYN is repeated after a second at the earliest: the lease has run out by then.
    tokio::time::sleep(Duration::from_millis(600)).await;
    drop(fillers);
    let provider = Provider::on(listener);
    until("the late connection arrives", async || provider.without_body() > 0).await;
    // Withheld is certainly not sent: it is tried again, with a permit of its own.
    assert_eq!(replica.settled(message).await["state"], "accepted");
    assert!(neighbours.asks() >= 2, "the second try asked the gate anew");
    assert_eq!(provider.bodies().len(), 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_sent_is_uncertain_never_claimed_again_and_settled_by_webhook() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    provider.manner(Manner::HangsUp);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let lost = replica.send(neighbours.person(1)).await;
    assert_eq!(replica.settled(lost).await["state"], "uncertain");
    // Another message goes the whole way meanwhile, so the dispatcher has looked again.
    provider.manner(Manner::Accepts);
    let other = replica.send(neighbours.person(2)).await;
    assert_eq!(replica.settled(other).await["state"], "accepted");
    let sent: Vec<_> = provider
        .bodies()
        .iter()
        .filter(|body| body["biz_opaque_callback_data"] == json!(lost))
        .cloned()
        .collect();
    assert_eq!(sent.len(), 1);

    replica
        .webhook(json!({"statuses": [{"id": "wamid.late", "status": "delivered",
            "recipient_id": "33612300001", "biz_opaque_callback_data": lost}]}))
        .await;
    until("reconciled", async || replica.look(lost, 0).await["status"] == "delivered").await;
    assert_eq!(replica.look(lost, 0).await["state"], "accepted");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_dispatcher_died_is_uncertain_and_a_mere_claim_returns_to_the_queue() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let subject = neighbours.person(1);
    for (id, state) in [(1, "calling"), (2, "claimed")] {
        // As a dispatcher leaves them when it is killed at that point.
        sqlx::query(
            "INSERT INTO intents (id, subject_id, purpose, channel, template, language, state, claim_id,
                 claim_until, requested_at, changed_at)
             VALUES ($1, $2, 'marketing', 'whatsapp', 'hello', 'en', $3, $1, now(), now(), now())",
        )
        .bind(uuid::Uuid::from_u128(id))
        .bind(subject)
        .bind(state)
        .execute(replica.messaging.store.pool())
        .await
        .unwrap();
    }
    let claimed = replica.settled(uuid::Uuid::from_u128(2)).await;
    assert_eq!(claimed["state"], "accepted");
    let calling = replica.settled(uuid::Uuid::from_u128(1)).await;
    assert_eq!(
        (&calling["state"], &calling["reasons"]),
        (&json!("uncertain"), &json!(["dispatcher_lost"]))
    );
    assert_eq!(provider.bodies().len(), 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dispatchers_never_send_a_message_twice() {
    const MESSAGES: usize = 200;
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let setup = Setup::new(neighbours.address, provider.address);
    let replicas = [home.start(&setup).await, home.start(&setup).await];
    let mut messages = HashSet::new();
    for n in 0..MESSAGES {
        let subject = neighbours.person(n);
        messages.insert(replicas[n % 2].send(subject).await);
    }
    for message in &messages {
        assert_eq!(replicas[0].settled(*message).await["state"], "accepted");
    }
    let sent: Vec<String> = provider
        .bodies()
        .iter()
        .map(|body| body["biz_opaque_callback_data"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(sent.len(), MESSAGES, "each once");
    assert_eq!(sent.iter().collect::<HashSet<_>>().len(), MESSAGES);
    for replica in replicas {
        replica.stop().await;
    }
}

/// A vault that answers when the lease is over refuses nobody for good, and loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_come_too_late_are_asked_for_again() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.lease = Duration::from_secs(1);
    let replica = home.start(&setup).await;
    let subject = neighbours.person(1);
    replica.hold_number().await;
    let body = json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
        "template": "hello", "parameters": ["Ada"]});
    let mut queued = json!(null);
    until("queued", async || {
        let (status, answer) = replica.post("/v1/messages", body.clone()).await;
        queued = answer["message_id"].clone();
        status == 202
    })
    .await;
    let message = queued.as_str().unwrap().parse().unwrap();
    assert_eq!(replica.waits(message).await, ["number_held_back"]);
    let held = neighbours.hold_keys().await;
    let asked = neighbours.key_asks();
    replica.hears(1, "when do you open?").await;
    replica.let_go().await;
    until("both ask for keys", async || neighbours.key_asks() == asked + 2).await;
    // Both leases began before they asked.
    tokio::time::sleep(setup.lease).await;
    drop(held);
    assert_eq!(replica.settled(message).await["state"], "accepted");
    until("received", async || replica.count("SELECT count(*) FROM inbound_messages").await == 1)
        .await;
    assert!(neighbours.key_asks() > asked + 3, "both ask again");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_webhooks_wait_answers_go_out_and_nothing_else_does() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let pool = replica.messaging.store.pool();
    let (asker, other) = (neighbours.person(1), neighbours.person(2));
    replica.hears(1, "where is my parcel?").await;
    replica.processed().await;

    // A body that nobody takes, because it is locked.
    let mut stuck = pool.begin().await.unwrap();
    let waits = "INSERT INTO webhook_bodies (id, hour_key, sealed, received_at, not_before, parked)
        VALUES ($1, $1, '\\x00', now(), now() - interval '1 hour', 'stuck')";
    let body = uuid::Uuid::from_u128(7);
    sqlx::query(waits).bind(body).execute(pool).await.unwrap();
    sqlx::query("SELECT FROM webhook_bodies WHERE id = $1 FOR KEY SHARE")
        .bind(body)
        .execute(&mut *stuck)
        .await
        .unwrap();
    sqlx::query("UPDATE webhook_bodies SET parked = NULL WHERE id = $1")
        .bind(body)
        .execute(pool)
        .await
        .unwrap();

    let offer = replica.send(other).await;
    let answer = json!({"subject_id": asker, "purpose": "support", "channel": "whatsapp",
        "content": {"type": "text", "body": "It comes today."}});
    let (status, answer) = replica.post("/v1/messages", answer).await;
    assert_eq!(status, 202, "{answer}");
    let answer = answer["message_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(replica.settled(answer).await["state"], "accepted");
    // The queue was looked at for the answer, when the offer was in it.
    assert_eq!(replica.look(offer, 0).await["state"], "queued");
    assert_eq!(provider.bodies().len(), 1);

    stuck.rollback().await.unwrap();
    sqlx::query("DELETE FROM webhook_bodies WHERE id = $1").bind(body).execute(pool).await.unwrap();
    assert_eq!(replica.settled(offer).await["state"], "accepted");
    replica.stop().await;
}
