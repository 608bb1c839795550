//! Access records and fingerprints end by age, and what would go is told first.

use assent_contracts::api::vault::ImportOutcome;
use assent_contracts::erasure::Step;
use assent_contracts::vault::Origin;
use assent_runtime::{Clock as _, SystemClock};
use assent_vault::retention::{forget, forget_suppressions};
use serde_json::{Value, json};

use super::{number, row, vault};

#[tokio::test]
async fn access_records_end_by_age_told_first_and_no_younger_ones_with_them() {
    let vault = vault().await;
    let subject = vault.register(&number(1)).await;
    for _ in 0..3 {
        vault.resolve(subject).await;
    }
    // Two are as old as that, to the day.
    let aged = "UPDATE access_records SET at = now() - interval '401 days' WHERE id IN
                (SELECT id FROM access_records ORDER BY id LIMIT 2)";
    assert_eq!(sqlx::query(aged).execute(&vault.data).await.unwrap().rows_affected(), 2);
    let look = async |path: &str| vault.all.get::<Value>(path).await.unwrap();
    let now = look("/v1/retention").await;
    assert_eq!(
        (&now["access_record_days"], &now["access_records_due"]),
        (&json!(1095), &json!(0)),
        "{now}"
    );
    let dry = look("/v1/retention?access_record_days=400").await;
    assert_eq!(dry["access_records_due"], 2, "{dry}");
    let count = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM access_records");
        count.fetch_one(&vault.data).await.unwrap()
    };
    let before = count().await;
    assert_eq!(look("/v1/retention?access_record_days=400").await, dry, "looking changes nothing");
    assert_eq!(forget(&vault.data, 402, SystemClock.now()).await.unwrap(), 0, "not yet");
    assert_eq!(forget(&vault.data, 400, SystemClock.now()).await.unwrap(), 2);
    assert_eq!(count().await, before - 2);
    assert_eq!(forget(&vault.data, 400, SystemClock.now()).await.unwrap(), 0, "once");
    let refused = vault.plain.get::<Value>("/v1/retention").await;
    assert!(refused.is_err(), "whoever may not see access records may not count them");
}

/// What keeps somebody out after she has gone has a date; a number that is suppressed anew begins anew.
#[tokio::test]
async fn fingerprints_end_by_their_last_reason_told_first_and_certified_with_a_date() {
    let vault = vault().await;
    let (erased, listed) = (number(1), number(2));
    let subject = vault.register(&erased).await;
    vault.step(subject, Step::Fence).await;
    let delete = vault.heard(subject, Step::Delete).await;
    let evidence = vault.replica().carry_out(&delete).await.unwrap();
    let kept = evidence.kept.iter().find(|kept| kept.what == "suppression").unwrap();
    let days = i64::from(vault.app.keeping.suppression_days);
    let left = kept.until.unwrap().duration_since(SystemClock.now()).as_hours();
    // Until it is looked for at the latest, which is within a day.
    assert!((24 * days..=24 * (days + 1)).contains(&left), "{left} h");
    assert_eq!(vault.suppress(&[&listed]).await.unwrap(), ["suppressed"]);

    let prints = async || vault.count(&vault.data, "suppressions").await;
    let all = prints().await;
    let look = async |path: &str| vault.all.get::<Value>(path).await.unwrap();
    let now = look("/v1/retention").await;
    assert_eq!(
        (&now["suppression_days"], &now["suppressions_kept"], &now["suppressions_due"]),
        (&json!(3650), &json!(all), &json!(0)),
        "{now}"
    );
    let aged = "UPDATE suppressions SET recorded_at = now() - interval '1096 days'";
    sqlx::query(aged).execute(&vault.data).await.unwrap();
    // A list that names the number again is a reason of today, whatever is known of it.
    assert_eq!(vault.suppress(&[&listed]).await.unwrap(), ["already_suppressed"]);
    let dry = look("/v1/retention?suppression_days=1095").await;
    let due = dry["suppressions_due"].as_i64().unwrap();
    assert!(due > 0 && due < all, "{dry}");
    assert_eq!(look("/v1/retention?suppression_days=1095").await, dry, "looking changes nothing");
    let forget = async |days| {
        forget_suppressions(&vault.data, days, SystemClock.now()).await.unwrap().cast_signed()
    };
    assert_eq!(forget(1097).await, 0, "not yet");
    let still = vault.import(Origin::Import, vec![row(&erased)]).await;
    assert_eq!(still, [ImportOutcome::Refused { reason: "erased".into() }]);
    assert_eq!(forget(1095).await, due);
    assert_eq!((prints().await, forget(1095).await), (all - due, 0), "once");
    let listed = vault.import(Origin::Import, vec![row(&listed)]).await;
    assert_eq!(listed, [ImportOutcome::Refused { reason: "suppressed".into() }]);
    let anew = vault.register(&erased).await;
    assert_ne!(anew, subject, "nothing of hers is carried over");
}

/// Whoever is here is found before any fingerprint: its end opens nothing of hers.
#[tokio::test]
async fn a_fingerprint_of_somebody_who_is_here_ends_without_a_word_to_the_gate() {
    let vault = vault().await;
    let subject = vault.register(&number(1)).await;
    vault.suppress(&[&number(1)]).await.unwrap();
    let told = vault.stops.lock().unwrap().len();
    let later = SystemClock.now() + jiff::SignedDuration::from_hours(24 * 1_096);
    assert!(forget_suppressions(&vault.data, 1_095, later).await.unwrap() > 0);
    assert_eq!(vault.stops.lock().unwrap().len(), told, "what stands at the gate stands");
    let existing = vault.import(Origin::Import, vec![row(&number(1))]).await;
    assert_eq!(existing, [ImportOutcome::Existing { subject_id: subject }]);
    // The next list closes the gate again, and leaves its mark.
    vault.suppress(&[&number(1)]).await.unwrap();
    assert!(vault.count(&vault.data, "suppressions").await > 0);
    assert!(vault.stops.lock().unwrap().len() > told);
}
