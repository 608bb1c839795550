//! The rules over HTTP: what is in force, and what it comes to for a case.

use assent_contracts::rights::{RequestKind, Terms};
use assent_contracts::rules::{RulesAnswer, RulesInForce, RulesQuestion, TermsQuestion};
use jiff::civil::date;

use super::world::{code, world};

#[tokio::test]
async fn the_rules_in_force_answer_for_a_case_with_reasons_and_conflicts() {
    let world = world().await;
    let rules: RulesInForce = world.operator.get("/v1/rules").await.unwrap();
    let fr = rules.jurisdictions.iter().find(|it| it.id == "fr").expect("France is there");
    assert_eq!(fr.refines.as_deref(), Some("eu"));
    assert!(fr.rules.iter().any(|rule| rule.topic == "consent_age" && rule.value == "15 years"));

    let ask = async |question: &RulesQuestion| -> Result<RulesAnswer, _> {
        world.operator.post("/v1/rules/answers", question, None).await
    };
    let question = RulesQuestion {
        on: Some(date(2027, 6, 1)),
        seat: Some("FR".to_owned()),
        person: None,
        number: Some("IN".to_owned()),
    };
    let answer = ask(&question).await.unwrap();
    assert_eq!(answer.hash, rules.hash);
    let india = answer.laws.iter().find(|law| law.jurisdiction == "in").expect("India applies");
    assert_eq!((india.certain, india.because[0].kind.as_str()), (false, "number"));
    let age = answer.answers.iter().find(|it| it.topic == "consent_age").unwrap();
    assert_eq!(age.strictest.value, "18 years");
    assert_eq!(age.others[0].id, "gdpr-consent-age", "she may live where 16 counts");
    let between = ["dpdp-logs".to_owned(), "gdpr-erase".to_owned()];
    assert!(answer.conflicts.iter().any(|conflict| conflict.between == between));

    // Without a seat it is the policy's; what is no place is told.
    world.change_policy(|policy| policy.controller.country = Some("BR".to_owned())).await;
    let answer = ask(&RulesQuestion::default()).await.unwrap();
    let laws: Vec<&str> = answer.laws.iter().map(|law| law.jurisdiction.as_str()).collect();
    assert_eq!(laws, ["br", "whatsapp"]);
    let nowhere = RulesQuestion { person: Some("+33612345678".to_owned()), ..question };
    let refused = ask(&nowhere).await.unwrap_err();
    assert_eq!(code(&refused), "malformed_body");
    assert!(!format!("{refused:?}").contains("612345678"), "what was given is not told again");
}

#[tokio::test]
async fn a_request_from_before_the_first_law_has_no_term_and_is_told_so() {
    let world = world().await;
    let ask = async |received_at: &str| -> Result<Terms, _> {
        let question = TermsQuestion {
            kind: RequestKind::Access,
            received_at: Some(received_at.parse().unwrap()),
            seat: None,
            person: None,
            number: Some("FR".to_owned()),
        };
        world.operator.post("/v1/rules/terms", &question, None).await
    };
    assert!(ask("2026-01-05T09:00:00Z").await.is_ok());
    let refused = ask("2000-01-01T00:00:00Z").await.unwrap_err();
    assert_eq!(code(&refused), "validation_failed");
}
