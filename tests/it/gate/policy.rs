//! Applying a policy at the store: whole or not at all, on the version that the plan was made on.

use assent_consent::policy::{PolicyError, history, in_force};
use assent_contracts::api::consent::AsOfRequest;
use assent_contracts::policy::{ApplyPolicy, PolicyInForce};
use assent_rules::RuleSet;
use jiff::SignedDuration;

use super::world::{code, world};

#[tokio::test]
async fn a_policy_that_is_refused_changes_nothing_and_says_all_that_is_wrong() {
    let world = world().await;
    let mut conn = world.pool.acquire().await.unwrap();
    let before = in_force(&mut conn).await.unwrap().unwrap();
    let mut wanted = before.policy.clone();
    wanted.purposes.get_mut("marketing").unwrap().validity_days = Some(30);
    wanted.purposes.get_mut("service").unwrap().channels.clear();
    wanted.controller.languages.clear();
    let refused = world.policies.apply(wanted, before.version, "operator", None).await;
    let Err(PolicyError::Refused(reasons)) = refused else { panic!("{refused:?}") };
    assert!(reasons.len() >= 2, "{reasons:?}");
    assert_eq!(in_force(&mut conn).await.unwrap().unwrap(), before);
    assert_eq!(history(&mut conn, "marketing").await.unwrap().len(), 1, "not half of it either");
}

#[tokio::test]
async fn of_two_who_planned_on_the_same_version_one_is_told_to_plan_again() {
    let world = world().await;
    let apply = async |days, key: &str| -> Result<PolicyInForce, _> {
        let mut conn = world.pool.acquire().await.unwrap();
        let current = in_force(&mut conn).await.unwrap().unwrap();
        let mut policy = current.policy;
        policy.purposes.get_mut("marketing").unwrap().validity_days = Some(days);
        world.operator.post("/v1/policy", &ApplyPolicy { version: 1, policy }, Some(key)).await
    };
    let (one, two) = tokio::join!(apply(30, "a"), apply(60, "b"));
    let (applied, refused, key) = match (one, two) {
        (Ok(applied), Err(refused)) => (applied, refused, ("a", 30)),
        (Err(refused), Ok(applied)) => (applied, refused, ("b", 60)),
        both => panic!("{both:?}"),
    };
    assert_eq!(code(&refused), "version_conflict");
    assert_eq!(applied.version, 2);
    // Repeated with its key after a third was applied, the first answer is given again.
    world
        .change_policy(|policy| policy.controller.email = Some("privacy@acme.example".to_owned()))
        .await;
    let body = applied.policy.clone();
    let again: PolicyInForce = world
        .operator
        .post("/v1/policy", &ApplyPolicy { version: 1, policy: body }, Some(key.0))
        .await
        .expect("the first answer");
    assert_eq!(again, applied);
}

/// G3: what was in force at a moment stays what it was.
#[tokio::test]
async fn g3_a_question_about_the_past_is_answered_by_the_purpose_of_that_day() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let before = world.clock.now();
    world
        .change_policy(|policy| {
            let marketing = policy.purposes.get_mut("marketing").unwrap();
            marketing.channels = vec!["email".to_owned()];
        })
        .await;
    let question = |at| AsOfRequest { ..world.question(subject, at) };
    let then = world.bytes(&question(before)).await;
    let now = world.as_of(subject, world.clock.now()).await;
    assert!(then.contains(r#""reasons":["consent_given"]"#), "{then}");
    assert_eq!(now.reasons, ["channel_unknown"]);
    let early = world.as_of(subject, before - SignedDuration::from_hours(24)).await;
    assert!(early.reasons.contains(&"purpose_unknown".to_owned()), "{early:?}");
}

/// A deployment whose purposes were defined one by one, before there was a policy.
#[tokio::test]
async fn purposes_from_before_there_was_a_policy_are_taken_into_the_first_one_and_consents_hold() {
    let world = world().await;
    let subject = world.consenting(1).await;
    world.a_day_long("news").await;
    for old in [
        "DELETE FROM policy",
        "UPDATE purposes SET accepted = NULL, definition = (definition::jsonb
            - 'notices' - 'accepted' - 'data' - 'recipients')::json",
        // She agreed to a text that only her event remembers.
        "UPDATE consent_lines SET notice_hash = repeat('0', 64)",
    ] {
        sqlx::query(old).execute(&world.pool).await.unwrap();
    }
    world.policies.bootstrap("Acme", None).await.unwrap();
    let mut conn = world.pool.acquire().await.unwrap();
    let current = in_force(&mut conn).await.unwrap().unwrap();
    let purposes: Vec<&str> = current.policy.purposes.keys().map(String::as_str).collect();
    assert_eq!(purposes, ["marketing", "news", "service"]);
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);

    // A material change is known to concern her.
    let mut wanted = current.policy;
    let marketing = wanted.purposes.get_mut("marketing").unwrap();
    marketing.notices.get_mut("en").unwrap().text = "Other words.".to_owned();
    let plan = world.policies.plan(&wanted, &RuleSet::default()).await.unwrap();
    assert_eq!(plan.changes[0].asked_again, 1);
    world.change_policy(|policy| *policy = wanted).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["notice_changed"]);
}
