//! Permits on record, and what they rest on: the short look at facts never says more than the whole one.

use assent_consent::domain::verdict::{Addresses, Ask, evaluate};
use assent_consent::permits::{forget, recorded};
use assent_consent::views::{self, Question};
use assent_contracts::SubjectId;
use assent_contracts::api::consent::{Decision, Permit, PermitAsk, StopKind};
use assent_tests::cluster::until;
use jiff::SignedDuration;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{World, world};

/// What is on record of a person, as it was answered.
async fn on_record(world: &World, subject: SubjectId) -> Vec<(Uuid, Uuid, Value, String)> {
    let record = "
        SELECT permit_id, message_id, outcomes -> outcome::int, t.evidence
        FROM permit_batches, unnest(subjects, permit_ids, message_ids, outcome_of, evidence)
             AS t (subject_id, permit_id, message_id, outcome, evidence)
        WHERE t.subject_id = $1 ORDER BY permit_id";
    sqlx::query_as(record).bind(subject).fetch_all(&world.pool).await.unwrap()
}

fn as_recorded(ask: &PermitAsk, permit: &Permit) -> (Uuid, Uuid, Value, String) {
    let verdict = &permit.verdict;
    let outcome = json!({
        "purpose": ask.purpose, "channel": ask.channel, "template": ask.template,
        "allowed": verdict.verdict == Decision::Allow, "reasons": verdict.reasons,
        "notice_hash": verdict.notice_hash,
    });
    let evidence: Vec<String> = verdict.evidence.iter().map(Uuid::to_string).collect();
    (permit.permit_id, permit.message_id, outcome, evidence.join(" "))
}

#[tokio::test]
async fn each_ask_of_a_batch_is_on_record_with_every_reason() {
    let world = world().await;
    let (willing, silent) = (world.consenting(1).await, world.person(&[2]).await);
    world.stop(&[2], StopKind::Stopped).await;
    let mut asks = vec![world.ask(willing, &[1]), world.ask(silent, &[2]), world.ask(willing, &[])];
    asks[2].template = "spring".to_owned();
    let permits = world.permits(asks.clone()).await;
    assert_eq!(permits[0].verdict.reasons, ["consent_given"]);
    assert_eq!(permits[1].verdict.reasons, ["consent_withdrawn", "stopped"]);

    let recorded = |n: usize| as_recorded(&asks[n], &permits[n]);
    let mut both = vec![recorded(0), recorded(2)];
    both.sort_by_key(|it| it.0);
    assert_eq!(on_record(&world, willing).await, both);
    assert_eq!(on_record(&world, silent).await, [recorded(1)]);

    // What a caller makes up isn't kept: it could be a number.
    let made_up = PermitAsk { purpose: "+33612345678".to_owned(), ..world.ask(silent, &[2]) };
    world.permits(vec![made_up]).await;
    assert_eq!(on_record(&world, silent).await[1].2["purpose"], "unknown");
}

/// Two erasures at once take each its own out of the same batch.
#[tokio::test]
async fn who_is_erased_is_taken_out_of_the_record_and_others_stay() {
    let world = world().await;
    let people = [world.consenting(1).await, world.consenting(2).await, world.consenting(3).await];
    let ask = |n: usize| world.ask(people[n], &[n as u16 + 1]);
    let asks = vec![ask(0), ask(1), ask(2), ask(0)];
    let permits = world.permits(asks.clone()).await;
    let alone = world.permits(vec![ask(0)]).await;

    let mut first = world.pool.begin().await.unwrap();
    let mut gone = forget(&mut first, &people[..1]).await.unwrap();
    let mut gone = gone.remove(&people[0]).unwrap();
    gone.sort_unstable();
    assert_eq!(gone, [permits[0].permit_id, permits[3].permit_id, alone[0].permit_id]);
    let pool = world.pool.clone();
    let other = people[1];
    let second = tokio::spawn(async move {
        let mut second = pool.begin().await.unwrap();
        let mut gone = forget(&mut second, &[other]).await.unwrap();
        second.commit().await.unwrap();
        gone.remove(&other).unwrap()
    });
    until("the second waits for the first", async || {
        let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock')";
        sqlx::query_scalar(waiting).fetch_one(&world.pool).await.unwrap()
    })
    .await;
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), [permits[1].permit_id]);

    let mut connection = world.pool.acquire().await.unwrap();
    for (n, left) in [(0, vec![]), (1, vec![]), (2, vec![permits[2].permit_id])] {
        let mut found = recorded(&mut connection, &[people[n]]).await.unwrap();
        assert_eq!(found.remove(&people[n]).unwrap_or_default(), left, "{n}");
    }
    assert_eq!(on_record(&world, people[2]).await, [as_recorded(&asks[2], &permits[2])]);
    // A batch of hers alone is gone.
    let batches: i64 = sqlx::query_scalar("SELECT count(*) FROM permit_batches")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(batches, 1);
}

/// People of every kind, and asks about them with right, wrong and missing addresses.
#[tokio::test]
async fn where_the_short_look_suffices_it_says_what_the_whole_one_says() {
    let world = world().await;
    let plain = world.consenting(1).await;
    let silent = world.person(&[2]).await;
    let withdrawn = world.consenting(3).await;
    world.withdraw(withdrawn, None).await.unwrap();
    let stopped = world.consenting(4).await;
    world.stop(&[4], StopKind::Stopped).await;
    let suppressed = world.consenting(5).await;
    world.stop(&[5], StopKind::Suppressed).await;
    let two_numbers = world.consenting(6).await;
    world.link(two_numbers, &[7]).await;
    let sharing = world.consenting(8).await;
    let sharer = world.consenting(8).await;
    world.withdraw(sharer, None).await.unwrap();
    let nobody = world.ids.v4();
    world.stop(&[9], StopKind::Stopped).await;

    let people =
        [plain, silent, withdrawn, stopped, suppressed, two_numbers, sharing, sharer, nobody];
    let mut asks = Vec::new();
    for subject in people {
        for addresses in [&[][..], &[1], &[2], &[3], &[4], &[5], &[6], &[6, 7], &[8], &[9]] {
            asks.push(world.ask(subject, addresses));
        }
    }
    asks.push(PermitAsk { purpose: "unheard_of".to_owned(), ..world.ask(plain, &[1]) });
    asks.push(PermitAsk { purpose: "stop_confirmation".to_owned(), ..world.ask(stopped, &[4]) });
    asks.push(PermitAsk { purpose: "consent_request".to_owned(), ..world.ask(plain, &[1]) });

    let mut connection = world.pool.acquire().await.unwrap();
    let near = views::near(&mut connection, &asks).await.unwrap();
    let mut sufficed = Vec::new();
    for ask in &asks {
        let question = Question {
            subjects: vec![ask.subject_id],
            tokens: ask.addresses.iter().map(|token| token.to_bytes().to_vec()).collect(),
            purposes: vec![ask.purpose.clone()],
            asks: vec![ask.message_id],
        };
        let whole = views::whole(&mut connection, &question).await.unwrap();
        if !views::suffices(&near, ask) {
            continue;
        }
        let say = |view| {
            let about = Ask {
                subject: ask.subject_id,
                addresses: Addresses::Given(&ask.addresses),
                purpose: &ask.purpose,
                channel: &ask.channel,
                message: Some(ask.message_id),
            };
            evaluate(view, about, world.clock.now(), SignedDuration::ZERO).reasons
        };
        assert_eq!(say(&near), say(&whole), "{ask:?}");
        sufficed.push((ask.subject_id, say(&near).join(" ")));
    }
    // It is a short look that most need, and not one that none does.
    for (subject, reasons) in [
        (plain, "consent_given"),
        (silent, "no_consent"),
        (withdrawn, "consent_withdrawn"),
        (stopped, "consent_withdrawn stopped"),
        (suppressed, "consent_withdrawn suppressed"),
        (two_numbers, "consent_given"),
        (nobody, "address_unlinked no_consent stopped"),
    ] {
        assert!(sufficed.contains(&(subject, reasons.to_owned())), "{reasons}: {sufficed:?}");
    }
    assert!(!sufficed.iter().any(|(subject, _)| [sharing, sharer].contains(subject)));
}
