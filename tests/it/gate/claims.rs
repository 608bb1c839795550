//! Claims at the ledger: each becomes one consent, whoever carries it out how often.

use assent_consent::claims::{round, stream_id};
use assent_contracts::api::claims::{
    BatchState, Claim, ClaimBatch, ClaimDecision, ClaimsRequest, DecideRequest,
};
use assent_contracts::sealed::Sealed;
use assent_http::ClientError;
use assent_participant::Keeping;
use assent_tests::cluster::until;
use sqlx::Row as _;
use uuid::Uuid;

use super::world::{World, code, world};

impl World {
    pub async fn bring(&self, batch_id: Uuid, subjects: &[Uuid]) -> Result<(), ClientError> {
        let claim = |subject_id: &Uuid| Claim {
            subject_id: *subject_id,
            acted_at: self.clock.now(),
            evidence: Sealed("c2VhbGVk".to_owned()),
        };
        let request = ClaimsRequest {
            batch_id,
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
            locale: None,
            claims: subjects.iter().map(claim).collect(),
        };
        self.operator.post("/v1/claims", &request, None).await
    }

    pub async fn submit(&self, batch: Uuid) -> Result<ClaimBatch, ClientError> {
        let path = format!("/v1/claims/{batch}/submit");
        self.operator.post(&path, &serde_json::json!({}), None).await
    }

    pub async fn approve(&self, batch: Uuid) -> Result<ClaimBatch, ClientError> {
        let decision = ClaimDecision::Approve;
        let request = DecideRequest { decision, reason: "form_log_checked".to_owned() };
        self.client.post(&format!("/v1/claims/{batch}/decide"), &request, None).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_one_consent_although_it_is_carried_out_twice() {
    let world = world().await;
    let (subject, other) = (world.person(&[1]).await, world.person(&[2]).await);
    let batch = world.ids.v7();
    world.bring(batch, &[subject, other]).await.unwrap();
    world.bring(batch, &[subject]).await.unwrap();
    assert_eq!(world.submit(batch).await.unwrap().claims, 2);
    assert_eq!(code(&world.bring(batch, &[subject]).await.unwrap_err()), "request_state_conflict");
    world.approve(batch).await.unwrap();
    assert_eq!(world.approve(batch).await.unwrap().state, BatchState::Approved, "again");

    // Two replicas at once: both have carried the claims out before either can say so.
    let mut held = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE claims IN EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    let let_go = async {
        until("both replicas want to settle", async || {
            let waiting = "SELECT count(*) FROM pg_locks
                           WHERE relation = 'claims'::regclass AND NOT granted";
            sqlx::query(waiting).fetch_one(&world.pool).await.unwrap().get::<i64, _>(0) == 2
        })
        .await;
        held.rollback().await.unwrap();
    };
    let carry_out = || round(&world.store, world.app.batcher());
    let (first, second, ()) = tokio::join!(carry_out(), carry_out(), let_go);
    assert_eq!((first, second), (Ok(2), Ok(2)));
    // One that had died before it could say so.
    sqlx::query("UPDATE claims SET outcome = NULL, evidence = 'c2VhbGVk'")
        .execute(&world.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE claim_batches SET state = 'approved'").execute(&world.pool).await.unwrap();
    carry_out().await.unwrap();
    for subject in [subject, other] {
        assert_eq!(world.store.load(subject, 0, 10).await.unwrap().len(), 1);
        assert_eq!(world.verdict(subject).await.reasons, ["consent_given"]);
    }
}

/// A caller names its batches; it may not write into anybody's stream by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_by_the_name_of_a_person_leaves_her_ledger_alone() {
    let world = world().await;
    let subject = world.consenting(1).await;
    world.bring(subject, &[]).await.unwrap();
    world.submit(subject).await.unwrap();
    assert_eq!(world.store.load(subject, 0, 10).await.unwrap().len(), 1);
    assert_eq!(world.store.load(stream_id(subject), 0, 10).await.unwrap().len(), 1);
    world.withdraw(subject, None).await.unwrap();
}

/// A no that came after it may have ended: evidence that is older can't speak for her any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_from_before_what_keeps_people_out_is_refused_and_its_evidence_not_kept() {
    let world = world().await;
    let days = i64::from(Keeping::default().suppression_days);
    let ago = |days: i64| world.clock.now() - jiff::SignedDuration::from_hours(24 * days);
    let mut claims = Vec::new();
    for (n, acted_at) in [(1, ago(days + 1)), (2, ago(days - 1))] {
        let subject_id = world.person(&[n]).await;
        claims.push(Claim { subject_id, acted_at, evidence: Sealed("c2VhbGVk".to_owned()) });
    }
    let batch_id = world.ids.v7();
    let request = ClaimsRequest {
        batch_id,
        purpose: "marketing".to_owned(),
        channel: "whatsapp".to_owned(),
        locale: None,
        claims,
    };
    world.operator.post::<_, ()>("/v1/claims", &request, None).await.unwrap();
    let kept = async || -> Vec<(Option<String>, bool)> {
        let kept = "SELECT outcome, evidence IS NOT NULL FROM claims ORDER BY acted_at";
        sqlx::query_as(kept).fetch_all(&world.pool).await.unwrap()
    };
    let too_old = (Some("too_old".to_owned()), false);
    assert_eq!(kept().await, [too_old.clone(), (None, true)]);
    world.submit(batch_id).await.unwrap();
    world.approve(batch_id).await.unwrap();
    assert_eq!(round(&world.store, world.app.batcher()).await, Ok(1), "the other one");
    let done = kept().await;
    assert_eq!(done[0], too_old);
    assert!(done[1].0.is_some() && done[1].0 != too_old.0, "{done:?}");
    assert!(world.store.load(request.claims[0].subject_id, 0, 10).await.unwrap().is_empty());
}
