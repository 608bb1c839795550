//! Ages: what is kept of them, what follows from them, and the rule set that says so.

use std::sync::Arc;

use assent_contracts::api::consent::{AgeRequest, ConsentAnswer, GrantRequest, PermitAsk};
use assent_contracts::consent::{Actor, AgeBasis};
use assent_contracts::sealed::Sealed;
use assent_rules::RuleSet;
use assent_runtime::{Clock as _, SystemClock};

use super::world::{LEASE, World, code, ticking, world, world_at};

impl World {
    fn age(
        &self,
        subject_id: assent_contracts::SubjectId,
        years: u8,
        lives_in: &str,
    ) -> AgeRequest {
        AgeRequest {
            subject_id,
            basis: AgeBasis::Stated,
            years,
            lives_in: Some(lives_in.to_owned()),
            number_country: None,
            actor: Actor::Operator,
            evidence: None,
        }
    }

    async fn state_age(&self, request: &AgeRequest) -> ConsentAnswer {
        self.client.post("/v1/ages", request, None).await.expect("an age")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_age_of_her_country_a_parent_agrees_for_her() {
    let world = world().await;
    let subject = world.consenting(1).await;
    // 15 in France, 13 in Belgium: by where she says that she lives.
    world.state_age(&world.age(subject, 14, "BE")).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
    let asked = SystemClock.boottime();
    world.state_age(&world.age(subject, 14, "FR")).await;
    assert!(SystemClock.boottime() - asked >= LEASE, "it takes a right away");
    assert_eq!(world.reasons(subject, &[1]).await, ["parental_consent_needed"]);
    let at = world.clock.now();
    assert_eq!(world.as_of(subject, at).await.reasons, ["parental_consent_needed"]);

    let by_parent = |evidence| GrantRequest {
        actor: Actor::Guardian,
        evidence,
        ..world.grant_request(subject)
    };
    let unproven = world.post_grant(&by_parent(None), None).await;
    assert_eq!(code(&unproven.unwrap_err()), "consent_not_allowed");
    let evidence = Some(Sealed("c2VhbGVk".to_owned()));
    world.post_grant(&by_parent(evidence), None).await.unwrap();
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);

    // What is kept says whether she is old enough, not how old she is.
    let events = world.store.load(subject, 0, 100).await.unwrap();
    let age = events.iter().rfind(|it| it.event_type.contains("age_stated")).unwrap();
    assert!(age.data.contains(r#""of_age":false,"required":15"#), "{}", age.data);
    // Any two digits may stand in a time.
    let mut kept: serde_json::Value = serde_json::from_str(&age.data).unwrap();
    assert!(kept["at"].take().is_string());
    assert!(!kept.to_string().contains("14"), "{kept}");
    let nowhere =
        AgeRequest { lives_in: Some("France".to_owned()), ..world.age(subject, 14, "FR") };
    let refused = world.client.post::<_, ConsentAnswer>("/v1/ages", &nowhere, None).await;
    assert_eq!(code(&refused.unwrap_err()), "malformed_body");
}

/// DPDP: nobody advertises to children; what is no advertising goes on.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_law_says_so_nobody_advertises_to_children() {
    // The rule is in force from 13 May 2027.
    let world = world_at(ticking("2027-06-01T00:00:00Z")).await;
    let subject = world.person(&[1]).await;
    let evidence = Some(Sealed("c2VhbGVk".to_owned()));
    let by_parent = |purpose: &str| GrantRequest {
        purpose: purpose.to_owned(),
        actor: Actor::Guardian,
        evidence: evidence.clone(),
        ..world.grant_request(subject)
    };
    for purpose in ["marketing", "service"] {
        world.post_grant(&by_parent(purpose), None).await.unwrap();
    }
    let mut child = world.age(subject, 16, "IN");
    world.state_age(&child).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["child_not_targeted"]);
    let service = PermitAsk { purpose: "service".to_owned(), ..world.ask(subject, &[1]) };
    let permit = world.permits(vec![service]).await.remove(0);
    assert_eq!(permit.verdict.reasons, ["consent_given"]);
    child.years = 18;
    world.state_age(&child).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
}

/// G3: a verdict names the rule set that was in force at its moment.
#[tokio::test(flavor = "multi_thread")]
async fn g3_a_verdict_names_the_rules_that_were_in_force() {
    let world = Arc::new(world().await);
    let subject = world.consenting(1).await;
    let before = world.clock.now();
    let rules = RuleSet::shipped().unwrap();
    world.policies.rules_loaded(&rules).await.unwrap();
    world.policies.rules_loaded(&rules).await.unwrap();
    let hash = Some(rules.hash());
    assert_eq!(world.verdict(subject).await.rule_set, hash);
    assert_eq!(world.as_of(subject, world.clock.now()).await.rule_set, hash);
    assert_eq!(world.as_of(subject, before).await.rule_set, None, "none was on record then");
    let recorded: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM eventstore.events WHERE event_type = 'assent.consent.rules_loaded.v1'",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(recorded, 1, "what is on record already is not told again");
    let permit = world.permits(vec![world.ask(subject, &[1])]).await.remove(0);
    assert_eq!(permit.verdict.rule_set, hash);
}
