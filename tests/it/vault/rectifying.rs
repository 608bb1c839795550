//! What is held of a person is put right (GDPR Article 16): row, index, events and the gate together.

use assent_contracts::api::vault::ImportRow;
use assent_contracts::api::vault::{RectifyRequest, RectifyResponse};
use assent_contracts::vault::{IDENTIFIERS_ADDED, IDENTIFIERS_REMOVED, Origin, SUBJECT_RECTIFIED};
use assent_http::{ClientError, Code};
use serde_json::json;
use uuid::Uuid;

use super::{Vault, code, number, row, vault};

fn right(n: u128) -> RectifyRequest {
    RectifyRequest {
        request_id: Uuid::from_u128(n),
        phone: None,
        country: Some("FR".to_owned()),
        name: None,
        email: None,
    }
}

impl Vault {
    async fn rectify(&self, subject: Uuid, to: RectifyRequest) -> Result<Vec<String>, ClientError> {
        let path = format!("/v1/subjects/{subject}/rectify");
        self.all.post::<_, RectifyResponse>(&path, &to, None).await.map(|answer| answer.fields)
    }

    async fn held(&self, subject: Uuid) -> serde_json::Value {
        self.all.get(&format!("/v1/subjects/{subject}")).await.unwrap()
    }
}

#[tokio::test]
async fn name_and_address_change_under_her_key_and_the_repeat_gives_the_same_answer() {
    let vault = vault().await;
    let before = ImportRow { name: Some("Ana Alt".into()), ..row(&number(1)) };
    vault.import(Origin::Import, vec![before]).await;
    let subject = vault.lookup(&number(1)).await.subject_id.unwrap();
    let to = RectifyRequest {
        name: Some("Canary Ana".into()),
        email: Some(" ana@example.org ".into()),
        ..right(1)
    };
    for _ in 0..2 {
        assert_eq!(vault.rectify(subject, to.clone()).await.unwrap(), ["email", "name"]);
    }
    assert_eq!(vault.events(subject, SUBJECT_RECTIFIED).await, 1);
    assert_eq!(vault.held(subject).await["fields"], json!(["phone", "name", "email"]));
    assert!(
        vault
            .rectify(subject, RectifyRequest { name: Some("Canary Ana".into()), ..right(2) })
            .await
            .unwrap()
            .is_empty()
    );
    // What was wrong goes.
    let gone = RectifyRequest { email: Some(String::new()), ..right(3) };
    assert_eq!(vault.rectify(subject, gone).await.unwrap(), ["email"]);
    assert_eq!(vault.held(subject).await["fields"], json!(["phone", "name"]));
    assert!(vault.links.lock().unwrap().is_empty(), "nothing for the gate");
    let plain: bool =
        sqlx::query_scalar("SELECT bool_or(position('Canary'::bytea IN name) > 0) FROM people")
            .fetch_one(&vault.data)
            .await
            .unwrap();
    assert!(!plain, "G5");
    assert_eq!(code(vault.rectify(subject, right(4)).await), Some(Code::ValidationFailed));
    let wrong = RectifyRequest { email: Some("no address".into()), ..right(4) };
    assert_eq!(code(vault.rectify(subject, wrong).await), Some(Code::ValidationFailed));
    assert_eq!(code(vault.rectify(Uuid::from_u128(9), to).await), Some(Code::SubjectUnknown));
}

#[tokio::test]
async fn a_number_that_was_wrong_is_hers_no_more_and_the_gate_knows_the_new_one() {
    let vault = vault().await;
    let subject = vault.register(&number(1)).await;
    let to = |n: usize| RectifyRequest { phone: Some(number(n)), ..right(n as u128) };
    for _ in 0..2 {
        assert_eq!(vault.rectify(subject, to(2)).await.unwrap(), ["phone"]);
    }
    assert_eq!(vault.resolve(subject).await, Some(number(2)), "messages go there");
    assert_eq!(vault.lookup(&number(2)).await.subject_id, Some(subject));
    assert_eq!(vault.lookup(&number(1)).await.subject_id, None);
    assert_eq!(vault.events(subject, IDENTIFIERS_ADDED).await, 1);
    assert_eq!(vault.events(subject, IDENTIFIERS_REMOVED).await, 1);
    // The repeat tells it the gate too: the first answer may have been lost before that.
    let links = vault.links.lock().unwrap().clone();
    assert_eq!(links.len(), 2);
    assert!(links.iter().all(|link| link["subject_id"] == json!(subject)), "{links:?}");
    // Trap 10: whoever has the old number is somebody else.
    let other = vault.register(&number(1)).await;
    assert_ne!(other, subject);

    let taken = vault.rectify(subject, to(1)).await.unwrap_err();
    let ClientError::Problem { body, .. } = &taken else { panic!("{taken}") };
    assert_eq!(
        (taken.code(), &body["reason"]),
        (Some(Code::RequestStateConflict), &json!("number_taken"))
    );
    vault.suppress(&[&number(3)]).await.unwrap();
    let barred = vault.rectify(subject, to(3)).await.unwrap_err();
    let ClientError::Problem { body, .. } = &barred else { panic!("{barred}") };
    assert_eq!(body["reason"], "number_barred", "trap 8: what was suppressed comes in by no road");
    assert_eq!(vault.resolve(subject).await, Some(number(2)), "nothing changed");
}
