//! Access records end by age, and what would go is told first.

use assent_runtime::{Clock as _, SystemClock};
use assent_vault::retention::forget;
use serde_json::{Value, json};

use super::{number, vault};

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
