//! Whose a number is, and who stays out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{ImportOutcome, ImportRequest, ImportResponse};
use assent_contracts::vault::Origin;
use assent_http::Code;
use assent_runtime::SystemIds;
use assent_sealing::IndexKeys;
use jiff::Timestamp;
use serde_json::json;

use super::{code, number, row, vault};

#[tokio::test]
async fn a_number_is_one_person_in_any_spelling() {
    let vault = vault().await;
    let first = vault.register("06 12 34 56 78").await;
    let rows = vec![row("+33612345678"), row("+5511987654321"), row("+55 11 8765-4321"), row("x")];
    let outcomes = vault.import(Origin::Import, rows).await;
    assert_eq!(outcomes[0], ImportOutcome::Existing { subject_id: first });
    let ImportOutcome::Created { subject_id: second } = outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[2], ImportOutcome::Existing { subject_id: second });
    assert_eq!(
        outcomes[3],
        ImportOutcome::Rejected { reason: "phone_invalid".into(), field: "phone".into() }
    );
    assert_eq!(vault.lookup("551187654321").await.subject_id, Some(second));
    assert_eq!(vault.resolve(second).await.as_deref(), Some("+5511987654321"));
    let events = vault.app.store.load(second, 0, 10).await.unwrap();
    assert_eq!(events.len(), 1, "one event per person");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_imports_of_the_same_numbers_make_one_person_each() {
    let vault = Arc::new(vault().await);
    let imports = (0..12_usize).map(|import| {
        let vault = Arc::clone(&vault);
        tokio::spawn(async move {
            // Each in another order.
            let rows = (0..120).map(|n| row(&number((n * 7 + import * 13) % 120))).collect();
            vault.import(Origin::Import, rows).await
        })
    });
    let (mut created, mut subjects) = (0, BTreeMap::new());
    for (import, outcomes) in imports.collect::<Vec<_>>().into_iter().enumerate() {
        for (n, outcome) in outcomes.await.unwrap().into_iter().enumerate() {
            let subject = match outcome {
                ImportOutcome::Created { subject_id } => {
                    created += 1;
                    subject_id
                }
                ImportOutcome::Existing { subject_id } => subject_id,
                other => panic!("{other:?}"),
            };
            let number = (n * 7 + import * 13) % 120;
            assert_eq!(*subjects.entry(number).or_insert(subject), subject, "one person each");
        }
    }
    assert_eq!((created, subjects.len()), (120, 120));
    assert_eq!(vault.count(&vault.data, "people").await, 120);
    assert_eq!(vault.count(&vault.keys, "keys").await, 120, "losers' keys were taken back");
}

/// Trap 9: all numbers there are fit into a dictionary, so a hash without a key is no protection.
#[tokio::test]
async fn trap_9_no_dictionary_of_numbers_cracks_a_suppression() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::{Digest as _, Sha256, Sha512};

    let vault = vault().await;
    vault.suppress(&["+33600000001"]).await.unwrap();
    let stored: Vec<Vec<u8>> = sqlx::query_scalar("SELECT fingerprint FROM suppressions")
        .fetch_all(&vault.data)
        .await
        .unwrap();
    let held = |hash: &[u8]| stored.iter().any(|it| it.windows(hash.len()).any(|it| it == hash));
    let own = vault.app.fingerprints.fingerprints("+33600000001");
    assert!(own.iter().any(|it| held(&it.0)), "the comparison finds what is there");

    let mut dictionary = Vec::new();
    for spelling in ["+33600000001", "33600000001", "0033600000001", "0600000001", "600000001"] {
        for text in [spelling.to_owned(), format!("tel:{spelling}"), format!("{spelling}\n")] {
            let plain = Sha256::digest(&text).to_vec();
            dictionary.push(Sha256::digest(&plain).to_vec());
            dictionary.push(plain);
            dictionary.push(Sha512::digest(&text)[..32].to_vec());
            let keys: [&[u8]; 6] = [b"", b"assent", b"suppression", b"fingerprint", &[0; 32], &[1]];
            for key in keys {
                let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
                dictionary.push(mac.chain_update(&text).finalize().into_bytes().to_vec());
            }
        }
    }
    assert!(dictionary.iter().all(|hash| !held(hash)), "an unkeyed hash of the number is stored");
    // Under another deployment's key the same number is another fingerprint.
    let other = IndexKeys::generate(&SystemIds).fingerprints().unwrap();
    assert!(other.fingerprints("+33600000001").iter().all(|it| !held(&it.0[1..])));
}

#[tokio::test]
async fn the_suppressed_and_the_erased_stay_out_and_only_some_may_know_why() {
    let vault = vault().await;
    let before = vault.app.clock.now();
    assert_eq!(
        vault.suppress(&["+33600000001", "x"]).await.unwrap(),
        ["suppressed", "phone_invalid"]
    );
    assert_eq!(vault.suppress(&["+33600000001"]).await.unwrap(), ["already_suppressed"]);
    let erased = vault.register("+33600000002").await;
    vault.erase(erased).await;

    let rows = || vec![row("+33600000001"), row("+33600000002")];
    let refused = |reason: &str| ImportOutcome::Refused { reason: reason.to_owned() };
    let told = vault.import(Origin::Operator, rows()).await;
    assert_eq!(told, [refused("suppressed"), refused("erased")]);
    let request = ImportRequest { origin: Origin::Import, acted_at: None, rows: rows() };
    let untold: ImportResponse =
        vault.plain.post("/v1/subjects/import", &request, None).await.unwrap();
    assert_eq!(untold.outcomes, [refused("refused"), refused("refused")]);

    // Her own act makes a new person; whoever merely says so may not.
    let request = ImportRequest { origin: Origin::Subject, acted_at: None, rows: rows() };
    let lie = vault.plain.post::<_, ImportResponse>("/v1/subjects/import", &request, None).await;
    assert_eq!(code(lie), Some(Code::Forbidden));
    // What she said before opens nothing.
    let said = async |at: Timestamp| -> ImportResponse {
        let request = ImportRequest { acted_at: Some(at), ..request.clone() };
        vault.all.post("/v1/subjects/import", &request, None).await.unwrap()
    };
    assert_eq!(said(before).await.outcomes, [refused("suppressed"), refused("erased")]);
    let own = said(vault.app.clock.now()).await.outcomes;
    let ImportOutcome::Created { subject_id } = own[1] else { panic!("{own:?}") };
    assert_ne!(subject_id, erased, "nothing is carried over");
}

#[tokio::test]
async fn a_suppression_is_answered_when_the_gate_has_closed_and_can_be_repeated() {
    let vault = vault().await;
    vault.consent_is_down.store(true, Ordering::SeqCst);
    assert_eq!(code(vault.suppress(&["+33600000001"]).await), Some(Code::DependencyUnavailable));
    assert!(vault.stops.lock().unwrap().is_empty());
    vault.consent_is_down.store(false, Ordering::SeqCst);
    assert_eq!(vault.suppress(&["+33600000001"]).await.unwrap(), ["already_suppressed"]);
    vault
        .suppress(&["06 00 00 00 01".replace(' ', "").replacen('0', "+33", 1).as_str()])
        .await
        .unwrap();
    let stops = vault.stops.lock().unwrap().clone();
    assert_eq!(stops.len(), 2);
    assert_eq!(stops[0]["stop_id"], stops[1]["stop_id"], "a repeat changes nothing");
    assert_eq!(stops[0]["kind"], "suppressed");
    let tokens = vault.app.addresses.tokens("+33600000001");
    assert_eq!(stops[0]["addresses"], json!(tokens));
}

#[test]
fn tokens_in_lookups_are_of_all_spellings() {
    let index = IndexKeys::generate(&SystemIds).addresses();
    let tokens: Vec<AddressToken> = index.tokens("+5511987654321");
    assert_eq!(tokens.len(), 2);
}
