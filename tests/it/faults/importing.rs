//! An import that is killed in its middle and run again: every row is in once.

use std::fmt::Write as _;

use serde_json::json;

use assent_tests::cluster::{Cluster, Wishes, until};

const ROWS: i64 = 15_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_in_its_middle_and_run_again_has_every_row_once() {
    let cluster =
        Cluster::with(Wishes { only: vec!["vault", "gateway"], ..Wishes::default() }).await;
    let mut text = "phone;name\n".to_owned();
    for row in 0..ROWS {
        let _ = writeln!(text, "+33613{row:06};Ada {row}");
    }
    let file = cluster.dir.join("many.csv");
    std::fs::write(&file, text).unwrap();
    let vault = cluster.pool("vault").await;
    let people = async || {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM people").fetch_one(&vault).await.unwrap()
    };

    let arguments = ["import", file.to_str().unwrap(), "--country", "FR"];
    let mut import = cluster.begin(&arguments);
    until("some are in", async || people().await >= ROWS / 5).await;
    import.signal(libc::SIGKILL);
    import.died_of_sigkill().await;
    let before = people().await;
    assert!(before < ROWS, "in the middle: {before}");

    // What the vault was still doing is known to nobody who asked, and is found now.
    let again = cluster.assent(&arguments);
    assert_eq!(again.status, 0, "{}", again.text);
    let count = |name: &str| again.json[name].as_i64().expect("a count");
    assert_eq!((count("rows"), count("rejected_total")), (ROWS, 0), "{}", again.text);
    assert_eq!(again.json["complete"], json!(true));
    assert_eq!(count("created") + count("existing"), ROWS);
    assert!(count("existing") >= before && count("created") > 0, "{before}: {}", again.text);
    assert_eq!(people().await, ROWS);
    // One number, one person, and one event of each.
    let (numbers, events): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(DISTINCT subject_id) FROM addresses),
                (SELECT count(*) FROM eventstore.events
                 WHERE event_type = 'assent.vault.subject_registered.v1')",
    )
    .fetch_one(&vault)
    .await
    .unwrap();
    assert_eq!((numbers, events), (ROWS, ROWS));
}
