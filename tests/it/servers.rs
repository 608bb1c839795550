//! The servers that everything is tested on: a result is worth only as much as they are.

use assent_tests::harness;

/// With any of these off, "acknowledged" would mean "perhaps".
#[tokio::test]
async fn durability_is_switched_on() {
    let pool = harness::database("servers").await;
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&pool)
            .await
            .expect("Postgres answers");
        assert_eq!(value, "on", "{setting}");
    }
}
