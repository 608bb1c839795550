//! Erasure: fenced first, nothing deleted while something unread may name her, nothing left at the end.

use std::time::Duration;

use assent_bus::producer::Record;
use assent_bus::{BusConfig, Producer};
use assent_contracts::SubjectId;
use assent_contracts::erasure::{COMMAND, Command, Step};
use assent_contracts::purposes::{PURPOSE_COMMAND, PurposeCommand};
use assent_contracts::topics::ERASURE_COMMANDS;
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::stand_ins::{Home, Neighbours, Provider, Replica, Setup, until};
use assent_tests::harness;

pub async fn command(bus: &BusConfig, subject: SubjectId, request_id: Uuid, step: Step) {
    let now = SystemClock.now();
    let id = SystemIds.v7();
    let command = Command {
        command_id: id,
        request_id,
        subject_id: subject,
        step,
        participants: vec!["messaging".to_owned()],
        barrier: Default::default(),
        at: now,
    };
    publish(bus, subject, (id, COMMAND, now), &command).await;
}

async fn publish(
    bus: &BusConfig,
    subject: SubjectId,
    (id, event_type, time): (Uuid, &str, Timestamp),
    command: &impl Serialize,
) {
    let payload = serde_json::to_vec(command).unwrap();
    let record = Record {
        topic: ERASURE_COMMANDS.suffix,
        key: subject,
        sequence: None,
        event_sequence: None,
        id,
        event_type,
        time,
        traceparent: None,
        payload: Some(&payload),
    };
    Producer::new(bus).unwrap().send(&[record]).await.remove(0).unwrap();
}

/// A replica that hears commands.
async fn hearing(home: &Home) -> (Neighbours, Provider, BusConfig, Replica) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let neighbours = Neighbours::serve(listener, home.index.clone());
    let provider = Provider::serve().await;
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.bus = Some(bus.clone());
    // Each step settles one lease.
    setup.lease = Duration::from_secs(1);
    setup.patience = Duration::from_secs(120);
    let replica = home.start(&setup).await;
    (neighbours, provider, bus, replica)
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_an_erasure_is_answered_only_when_nothing_is_left_or_unread() {
    let home = Home::new().await;
    let (neighbours, _provider, bus, replica) = hearing(&home).await;

    let subject = neighbours.person(1);
    let sent = replica.send(subject).await;
    assert_eq!(replica.settled(sent).await["state"], "accepted");
    replica.hears(1, "when do you open?").await;
    let inbound = "SELECT count(*) FROM inbound_messages";
    until("received", async || replica.count(inbound).await == 1).await;
    // She is one of a campaign's people, and somebody else is too.
    replica
        .sql(
            "INSERT INTO campaigns (campaign_id, name, purpose, channel, template, language, audience,
                                    state, drafted_by, drafted_at, changed_at)
             VALUES ('00000000-0000-0000-0000-000000000001', 'spring', 'marketing', 'whatsapp', 'hello',
                     'en', '{}', 'paused', 'crm', now(), now())",
        )
        .await;
    replica
        .sql(
            "INSERT INTO campaign_members (campaign_id, subject_id)
             SELECT '00000000-0000-0000-0000-000000000001', subject_id
             FROM (SELECT DISTINCT subject_id FROM intents
                   UNION SELECT '00000000-0000-0000-0000-000000000002') AS people",
        )
        .await;
    // A conversation with a note, and a message that a bot was about to answer.
    let listed = replica.get("/v1/conversations").await;
    let conversation = listed["items"][0]["conversation_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/conversations/{conversation}");
    assert_eq!(replica.post(&format!("{path}/notes"), json!({"text": "calm her"})).await.0, 201);
    sqlx::query(
        "INSERT INTO bot_turns (message_id, conversation_id, subject_id, generation, not_before)
         VALUES ($1, $1, $2, 0, now() + interval '1 hour')",
    )
    .bind(Uuid::from_u128(7))
    .bind(subject)
    .execute(replica.messaging.store.pool())
    .await
    .unwrap();
    neighbours.deny(Some("address_unlinked"));
    let waiting = replica.send(subject).await;
    // A body that nobody can read: it may name her.
    replica.raw_webhook("not json", "app secret").await;

    let request = SystemIds.v7();
    command(&bus, subject, request, Step::Fence).await;
    until("the fence is answered", async || neighbours.acks("fence").len() == 1).await;
    assert_eq!(replica.request(subject).await.status(), 410, "nothing new for her");
    let view = replica.settled(waiting).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &json!(["erased"])));

    command(&bus, subject, request, Step::Delete).await;
    let open = "SELECT count(*) FROM participant.commands
        WHERE command->>'step' = 'delete' AND answered_at IS NULL";
    until("the command is heard", async || replica.count(open).await == 1).await;
    // Longer than the participant's pause, so that it has looked: a negative can't be waited for.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(neighbours.acks("delete").is_empty(), "a stored body may name her");
    assert_eq!(replica.count(inbound).await, 1);
    // As when the body's hourly key ends.
    sqlx::query("DELETE FROM webhook_bodies WHERE parked IS NOT NULL")
        .execute(replica.messaging.store.pool())
        .await
        .unwrap();
    until("the deletion is answered", async || neighbours.acks("delete").len() == 1).await;
    let counts = neighbours.acks("delete")[0]["evidence"]["counts"].clone();
    assert_eq!((&counts["intents"], &counts["inbound_messages"]), (&json!(2), &json!(1)));
    assert_eq!(counts["campaign_members"], 1);
    assert_eq!(replica.count("SELECT count(*) FROM campaign_members").await, 1, "the other stays");
    for kind in ["conversations", "conversation_notes", "bot_turns"] {
        assert_eq!(counts[kind], json!(1), "{kind}: {counts}");
    }

    command(&bus, subject, request, Step::Sweep).await;
    until("the sweep is answered", async || neighbours.acks("sweep").len() == 1).await;
    let counts = neighbours.acks("sweep")[0]["evidence"]["counts"].clone();
    assert!(counts.as_object().unwrap().values().all(|count| count == 0), "{counts}");
    assert_eq!(replica.count(inbound).await, 0);
    replica.stop().await;
}

async fn for_purpose(bus: &BusConfig, command: &PurposeCommand) {
    let about = (SystemIds.v7(), PURPOSE_COMMAND, command.at);
    publish(bus, command.subject_id, about, command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_one_purposes_messages_go_and_what_is_of_another_or_came_since_stays() {
    let home = Home::new().await;
    let (neighbours, _provider, bus, replica) = hearing(&home).await;
    let subject = neighbours.person(1);
    let sent = replica.send(subject).await;
    assert_eq!(replica.settled(sent).await["state"], "accepted");
    let other = replica.send_template(subject, "service", "hello").await;
    assert_eq!(replica.settled(other).await["state"], "accepted");
    replica
        .sql(
            "INSERT INTO campaigns (campaign_id, name, purpose, channel, template, language, audience,
                                    state, drafted_by, drafted_at, changed_at)
             VALUES ('00000000-0000-0000-0000-000000000001', 'spring', 'marketing', 'whatsapp', 'hello',
                     'en', '{}', 'paused', 'crm', now(), now())",
        )
        .await;
    replica
        .sql(
            "INSERT INTO campaign_members (campaign_id, subject_id)
             SELECT DISTINCT '00000000-0000-0000-0000-000000000001'::uuid, subject_id FROM intents",
        )
        .await;
    neighbours.deny(Some("address_unlinked"));
    let waiting = replica.send(subject).await;
    replica.waits(waiting).await;

    let until_now = SystemClock.now();
    let of_step = |step: Step| PurposeCommand {
        command_id: SystemIds.v7(),
        request_id: Uuid::from_u128(42),
        subject_id: subject,
        purpose: "marketing".to_owned(),
        purpose_step: step,
        until: until_now,
        participants: vec!["messaging".to_owned()],
        barrier: Default::default(),
        at: until_now,
    };
    let fence = of_step(Step::Fence);
    for_purpose(&bus, &fence).await;
    until("the fence is answered", async || neighbours.acks("fence").len() == 1).await;
    let view = replica.settled(waiting).await;
    assert_eq!((&view["state"], &view["reasons"]), (&json!("refused"), &json!(["erased"])));
    // A repeat is answered with what was done the first time.
    for_purpose(&bus, &fence).await;
    until("the repeat is answered", async || neighbours.acks("fence").len() == 2).await;
    let acks = neighbours.acks("fence");
    assert_eq!(acks[0]["evidence"], acks[1]["evidence"]);
    assert_eq!(acks[0]["evidence"]["counts"]["cancelled"], 1);
    // She is not fenced: what comes since is the gate's matter.
    let since = replica.send(subject).await;
    replica.waits(since).await;

    for_purpose(&bus, &of_step(Step::Delete)).await;
    until("the deletion is answered", async || neighbours.acks("delete").len() == 1).await;
    let counts = neighbours.acks("delete")[0]["evidence"]["counts"].clone();
    assert_eq!((&counts["intents"], &counts["campaign_members"]), (&json!(2), &json!(1)));
    let left = "SELECT count(*) FROM intents";
    assert_eq!(replica.count(left).await, 2, "the other purpose's, and the one of since");
    // A sweep that finds something is no proof.
    let back =
        "INSERT INTO intents (id, subject_id, purpose, channel, state, requested_at, changed_at)
        SELECT gen_random_uuid(), subject_id, 'marketing', 'whatsapp', 'accepted',
               now() - interval '1 day', now() FROM intents LIMIT 1";
    replica.sql(back).await;
    // What was drafted before goes to her if she has agreed anew: no sweep waits for that.
    let fed = [
        "INSERT INTO campaign_members (campaign_id, subject_id, state)
        SELECT DISTINCT '00000000-0000-0000-0000-000000000001'::uuid, subject_id, 'started' FROM intents",
        "INSERT INTO intents (id, subject_id, purpose, channel, state, requested_at, changed_at, campaign_id)
        SELECT gen_random_uuid(), subject_id, 'marketing', 'whatsapp', 'accepted', now(), now(),
               '00000000-0000-0000-0000-000000000001' FROM intents LIMIT 1",
    ];
    for statement in fed {
        replica.sql(statement).await;
    }
    for_purpose(&bus, &of_step(Step::Sweep)).await;
    let heard = "SELECT count(*) FROM participant.purpose_commands
        WHERE command->>'purpose_step' = 'sweep'";
    until("the sweep is heard", async || replica.count(heard).await == 1).await;
    // Longer than the participant's pause, so that it has looked: a negative can't be waited for.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(neighbours.acks("sweep").is_empty(), "one is left");
    replica.sql("DELETE FROM intents WHERE requested_at < now() - interval '12 hours'").await;
    until("the sweep is answered", async || neighbours.acks("sweep").len() == 1).await;
    let counts = neighbours.acks("sweep")[0]["evidence"]["counts"].clone();
    assert!(counts.as_object().unwrap().values().all(|count| count == 0), "{counts}");

    // A replica of before looks here, and would forget her whole.
    assert_eq!(replica.count("SELECT count(*) FROM participant.commands").await, 0);
    assert_eq!(replica.count("SELECT count(*) FROM fences").await, 0);
    replica.stop().await;
}
