//! Caps per person, the day's ceiling, the provider's tier: counted at the claim, and by nobody's race exceeded.

use std::time::Duration;

use assent_messaging::config::Limits;
use assent_messaging::domain::limits::{Caps, Ceilings};
use serde_json::json;
use sqlx::Connection as _;

use super::campaigns::{neighbours, people, report, stands, started};
use super::stand_ins::{Home, Manner, Provider, Setup, until};

fn once_a_day() -> Limits {
    Limits { caps: Caps::parse("marketing 1/24h").unwrap(), ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_holds_over_all_campaigns_and_single_messages_of_its_purpose() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits = once_a_day();
    let replica = home.start(&setup).await;
    let people = people(&neighbours, 3);
    // What WhatsApp refused didn't reach her: it counts for nothing.
    provider.manner(Manner::Refuses(131_026));
    let failed = replica.send(people[0]).await;
    assert_eq!(replica.settled(failed).await["state"], "failed");
    provider.manner(Manner::Accepts);
    let first = started(&replica, "spring").await;
    stands(&replica, &first, "completed").await;
    assert_eq!(report(&replica, &first).await["messages"], json!({"accepted": 3}));

    let second = started(&replica, "summer").await;
    stands(&replica, &second, "completed").await;
    let of_second = report(&replica, &second).await;
    assert_eq!(of_second["messages"], json!({"refused": 3}));
    assert_eq!(of_second["reasons"], json!({"frequency_capped": 3}));
    let single = replica.send(people[0]).await;
    assert_eq!(replica.settled(single).await["reasons"], json!(["frequency_capped"]));
    let other = replica.send_template(people[0], "service", "hello").await;
    assert_eq!(replica.settled(other).await["state"], "accepted", "another purpose has its own");
    // The window rolls.
    replica.sql("UPDATE intents SET started_at = started_at - interval '24 hours'").await;
    let later = replica.send(people[0]).await;
    assert_eq!(replica.settled(later).await["state"], "accepted");
    replica.stop().await;
}

/// The test holds the lock of the counts until both replicas have claimed messages and wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn claims_that_race_never_exceed_a_cap() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits = once_a_day();
    // Two messages to a claim: half a lease at this rate.
    setup.per_second = 4;
    setup.lease = Duration::from_secs(1);
    let (one, two) = (home.start(&setup).await, home.start(&setup).await);
    let mut conn = home.connect().await;
    let mut held = conn.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(1, hashtext('106540352242922'))")
        .execute(&mut *held)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO intents (id, subject_id, purpose, channel, template, language, state, requested_at, changed_at)
         SELECT gen_random_uuid(), $1, 'marketing', 'whatsapp', 'hello', 'en', 'queued', now(), now()
         FROM generate_series(1, 4)",
    )
    .bind(neighbours.person(1))
    .execute(two.messaging.store.pool())
    .await
    .unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1 AND objsubid = 2
        AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until("both wait", async || two.count(waiting).await == 2).await;
    held.rollback().await.unwrap();
    let open = "SELECT count(*) FROM intents WHERE state IN ('queued', 'claimed', 'calling')";
    until("all are settled", async || two.count(open).await == 0).await;
    assert_eq!(provider.bodies().len(), 1);
    let capped = "SELECT count(*) FROM intents WHERE reasons = '{frequency_capped}'";
    assert_eq!(two.count(capped).await, 3);
    one.stop().await;
    two.stop().await;
}

/// The message before hers may still come back: only what went out for good uses her cap up for good.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_at_her_cap_by_a_message_on_its_way_waits_for_what_becomes_of_it() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits = once_a_day();
    let replica = home.start(&setup).await;
    let ada = neighbours.person(1);
    sqlx::query(
        "INSERT INTO intents (id, subject_id, purpose, channel, template, language, state, requested_at, changed_at,
                              claim_id, claim_until, started_at)
         VALUES (gen_random_uuid(), $1, 'marketing', 'whatsapp', 'hello', 'en', 'claimed', now(), now(),
                 gen_random_uuid(), now() + interval '1 hour', now())",
    )
    .bind(ada)
    .execute(replica.messaging.store.pool())
    .await
    .unwrap();
    let second = replica.send(ada).await;
    assert_eq!(replica.waits(second).await, ["cap_undecided"]);
    assert!(provider.bodies().is_empty());
    // The gate refused the first one.
    replica
        .sql(
            "UPDATE intents SET state = 'refused', claim_id = NULL, claim_until = NULL, started_at = NULL
             WHERE state = 'claimed' AND claim_until > now() + interval '50 minutes'",
        )
        .await;
    assert_eq!(replica.settled(second).await["state"], "accepted");
    let third = replica.send(ada).await;
    assert_eq!(replica.settled(third).await["reasons"], json!(["frequency_capped"]));
    replica.stop().await;
}

/// The test holds the lock of the counts: what no limit binds passes it by.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_limit_binds_queues_behind_nobodys_count() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits = once_a_day();
    setup.limits.ceilings.daily = Some(9);
    let replica = home.start(&setup).await;
    let mut conn = home.connect().await;
    let mut held = conn.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(1, hashtext('106540352242922'))")
        .execute(&mut *held)
        .await
        .unwrap();
    let order = replica.send_template(neighbours.person(1), "service", "hello").await;
    assert_eq!(replica.settled(order).await["state"], "accepted");
    held.rollback().await.unwrap();
    replica.stop().await;
}

/// The test holds the message up between its claim and its call.
#[tokio::test(flavor = "multi_thread")]
async fn windows_count_from_the_call_and_not_from_the_claim() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let mut conn = home.connect().await;
    let mut held = conn.begin().await.unwrap();
    sqlx::query("LOCK TABLE halts IN ACCESS EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    let message = replica.send(neighbours.person(1)).await;
    let looking =
        "SELECT count(*) FROM pg_locks WHERE relation = 'halts'::regclass AND NOT granted";
    until("its look is held up", async || replica.count(looking).await > 0).await;
    sqlx::query("CREATE TABLE claims_seen AS SELECT id, started_at FROM intents")
        .execute(replica.messaging.store.pool())
        .await
        .unwrap();
    held.rollback().await.unwrap();
    assert_eq!(replica.settled(message).await["state"], "accepted");
    let later = "SELECT count(*) FROM intents i JOIN claims_seen s USING (id)
        WHERE i.started_at > s.started_at";
    assert_eq!(replica.count(later).await, 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_number_rises_by_steps_and_single_messages_of_other_purposes_pass() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits.ceilings = Ceilings { ramp_up: vec![1, 3], daily: Some(100), people: None };
    let replica = home.start(&setup).await;
    let people = people(&neighbours, 5);
    let path = started(&replica, "spring").await;
    let stand = async |accepted: u64, queued: u64| {
        let expected = json!({"accepted": accepted, "queued": queued});
        until("the day's share is out", async || {
            let report = report(&replica, &path).await;
            report["messages"] == expected && report["reasons"] == json!({"daily_ceiling": queued})
        })
        .await;
    };
    stand(1, 4).await;
    let order = replica.send_template(people[0], "service", "hello").await;
    assert_eq!(replica.settled(order).await["state"], "accepted", "an order is no campaign");
    // The second day.
    let day = "UPDATE sending_numbers SET first_at = first_at - interval '24 hours'";
    let due =
        "UPDATE intents SET started_at = started_at - interval '24 hours', not_before = now()";
    replica.sql(day).await;
    replica.sql(due).await;
    stand(4, 1).await;
    // And the third, when the ramp is over.
    replica.sql(day).await;
    replica.sql(due).await;
    stands(&replica, &path, "completed").await;
    replica.stop().await;
}

/// Its number is in use for longer than there are limits.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_was_in_use_before_there_were_limits_is_no_new_one() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits.ceilings = Ceilings { ramp_up: vec![0, 0], daily: Some(9), people: None };
    let replica = home.start(&setup).await;
    replica
        .sql(
            "INSERT INTO intents (id, subject_id, purpose, channel, template, language, state, requested_at,
                                  changed_at, started_at)
             VALUES (gen_random_uuid(), gen_random_uuid(), 'marketing', 'whatsapp', 'hello', 'en', 'accepted',
                     now(), now(), now() - interval '50 hours')",
        )
        .await;
    replica.send(neighbours.person(1)).await;
    let accepted = "SELECT count(*) FROM intents WHERE state = 'accepted'";
    until("its ramp is over", async || {
        // Whoever found the ceiling waits for a quarter of an hour.
        replica.sql("UPDATE intents SET not_before = now() WHERE state = 'queued'").await;
        replica.count(accepted).await == 2
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_tier_counts_people_and_not_messages_nor_who_wrote_first() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.limits.ceilings.people = Some(2);
    let replica = home.start(&setup).await;
    let people = people(&neighbours, 4);
    for subject in [people[0], people[1], people[0]] {
        let message = replica.send(subject).await;
        assert_eq!(replica.settled(message).await["state"], "accepted");
    }
    assert_eq!(replica.hears(3, "when do you open?").await, 200);
    let written = "SELECT count(*) FROM inbound_messages";
    until("she wrote", async || replica.count(written).await == 1).await;
    let answer = replica.send(people[2]).await;
    assert_eq!(replica.settled(answer).await["state"], "accepted", "she wrote first");
    let third = replica.send(people[3]).await;
    assert_eq!(replica.waits(third).await, ["recipient_tier"]);
    // The provider says otherwise: of another number, but the tier is the portfolio's.
    let value = json!({"display_phone_number": "33900000002", "event": "UPGRADE",
        "max_daily_conversations_per_business": "TIER_2K"});
    let body = json!({"entry": [{"id": "1", "time": 0,
        "changes": [{"field": "phone_number_quality_update", "value": value}]}]});
    assert_eq!(replica.raw_webhook(&body.to_string(), "app secret").await, 200);
    assert_eq!(replica.settled(third).await["state"], "accepted");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_go_to_one_person_at_once_than_the_provider_lends() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, provider.address)).await;
    let (her, another) = (neighbours.person(1), neighbours.person(2));
    let before = "INSERT INTO intents (id, subject_id, purpose, channel, template, language, state,
                                       requested_at, changed_at, started_at)
        SELECT gen_random_uuid(), $1, 'service', 'whatsapp', 'hello', 'en', 'accepted', now(), now(),
               now() - interval '1 minute'
        FROM generate_series(1, 44)";
    let pool = replica.messaging.store.pool();
    sqlx::query(before).bind(her).execute(pool).await.unwrap();
    let last = replica.send(her).await;
    assert_eq!(replica.settled(last).await["state"], "accepted", "the 45th");
    let one_more = replica.send(her).await;
    assert_eq!(replica.waits(one_more).await, ["pair_limit"]);
    let other = replica.send(another).await;
    assert_eq!(replica.settled(other).await["state"], "accepted", "it is hers alone");
    assert_eq!(provider.bodies().len(), 2);

    replica
        .sql("UPDATE intents SET started_at = started_at - interval '4 minutes' WHERE started_at IS NOT NULL")
        .await;
    replica.sql("UPDATE intents SET not_before = now() WHERE state = 'queued'").await;
    assert_eq!(replica.settled(one_more).await["state"], "accepted");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_write_counts_into_the_rate() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    // Thirty messages are half a minute of it.
    setup.per_second = 1;
    let replica = home.start(&setup).await;
    for n in 1..=30 {
        replica.hears(n, "when do you open?").await;
    }
    replica.processed().await;
    until("the number has used half a minute", async || {
        replica
            .count("SELECT count(*) FROM send_rates WHERE next_at > now() + interval '15 seconds'")
            .await
            == 1
    })
    .await;
    replica.stop().await;
}
