//! Data that are kept and not used (GDPR Article 18), at the gate.

use std::time::Duration;

use assent_consent::retention;
use assent_contracts::SubjectId;
use assent_contracts::api::consent::{ConsentAnswer, PermitAsk, RestrictionRequest};
use assent_contracts::consent::STATE;
use assent_runtime::{Clock as _, SystemClock};
use uuid::Uuid;

use super::world::{LEASE, World, code, ticking, world, world_at};

impl World {
    async fn restriction(&self, what: &str, request: &RestrictionRequest) -> ConsentAnswer {
        self.client.post(what, request, None).await.expect("a restriction")
    }

    async fn last_state(&self) -> String {
        let sql = "SELECT convert_from(payload, 'UTF8') FROM eventstore.outbox
                   WHERE event_type = $1 ORDER BY id DESC LIMIT 1";
        sqlx::query_scalar(sql).bind(STATE).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restricted_gets_no_permit_for_anything_until_each_request_is_lifted() {
    let world = world().await;
    let subject = world.consenting(1).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
    let before = world.clock.now();
    let of = |n| RestrictionRequest { subject_id: subject, request_id: Uuid::from_u128(n) };
    let (one, two) = (of(1), of(2));

    let asked = SystemClock.boottime();
    let placed = world.restriction("/v1/restrictions", &one).await;
    assert!(SystemClock.boottime() - asked >= LEASE, "it takes a right away: G1");
    assert_eq!(placed.events.len(), 1);
    assert!(world.restriction("/v1/restrictions", &one).await.events.is_empty(), "a repeat");
    world.restriction("/v1/restrictions", &two).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["restricted"]);
    // Answers by colleagues and by the bot have a purpose of their own, and she agreed to that: no use of any kind.
    let mut service = world.grant_request(subject);
    service.purpose = "service".to_owned();
    world.post_grant(&service, None).await.unwrap();
    let service = PermitAsk { purpose: "service".to_owned(), ..world.ask(subject, &[1]) };
    let permit = world.permits(vec![service]).await.remove(0);
    assert_eq!(permit.verdict.reasons, ["restricted"]);
    assert!(world.last_state().await.contains(r#""restricted":true"#), "other teams hear of it");
    // G3: asked later, the answer is that of its moment.
    let during = world.clock.now();
    assert_eq!(world.as_of(subject, during).await.reasons, ["restricted"]);

    world.restriction("/v1/restrictions/lift", &one).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["restricted"], "the other request stands");
    world.restriction("/v1/restrictions/lift", &two).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
    assert!(world.restriction("/v1/restrictions/lift", &two).await.events.is_empty(), "a repeat");
    assert_eq!(world.as_of(subject, during).await.reasons, ["restricted"]);
    assert_eq!(world.as_of(subject, before).await.reasons, ["consent_given"]);

    // Whoever may write consents may neither restrict nor lift.
    let refused = world.operator.post::<_, ConsentAnswer>("/v1/restrictions", &one, None).await;
    assert_eq!(code(&refused.unwrap_err()), "forbidden");
}

/// Kept: also from periods that end.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_because_time_ran_out_while_her_data_are_restricted() {
    let clock = ticking("2026-01-01T00:00:00Z");
    let world = world_at(clock.clone()).await;
    let subject = world.person(&[1]).await;
    clock.advance(Duration::from_secs(20 * 86_400));
    let goes = async || -> Vec<SubjectId> {
        let mut conn = world.pool.acquire().await.unwrap();
        let due = retention::due(&mut conn, 10, world.clock.now(), Uuid::nil(), 10).await.unwrap();
        let count = retention::count(&mut conn, 10, world.clock.now()).await.unwrap();
        assert_eq!(count, due.len() as i64);
        due.into_iter().map(|it| it.subject_id).collect()
    };
    assert_eq!(goes().await, [subject]);
    let of = RestrictionRequest { subject_id: subject, request_id: Uuid::from_u128(1) };
    world.restriction("/v1/restrictions", &of).await;
    assert!(goes().await.is_empty());
    world.restriction("/v1/restrictions/lift", &of).await;
    assert_eq!(goes().await, [subject]);
}
