//! A list of 100,000 rows screened by the command line, half of whose people are known: rows per
//! second as its user sees them. Nothing runs beside it.

use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use serde_json::json;

use crate::report::{Goal, Row};
use crate::{people, servers};

const ROWS: u32 = 100_000;
const ROUNDS: u32 = 5;

pub async fn run() -> Row {
    let cluster = servers::cluster().await;
    let half = people::contact_file(&cluster, ROWS / 2);
    people::import(&cluster, &half, ROWS / 2).await;
    servers::drained(&cluster, &["vault"], &people::READERS, Duration::from_secs(60)).await;
    let list = people::contact_file(&cluster, ROWS);
    let out = cluster.dir.join("screened.csv");
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        let began = SystemClock.boottime();
        let list = list.to_str().expect("UTF-8");
        let out = out.to_str().expect("UTF-8");
        let ended = cluster.assent(&["screen", list, "--country", "FR", "--out", out]);
        let took = SystemClock.boottime() - began;
        assert_eq!(ended.json["reasons"], json!({"no_consent": ROWS}), "{}", ended.text);
        ours.push(f64::from(ROWS) / took.as_secs_f64());
    }
    Row {
        name: "screen",
        unit: "rows/s",
        ours,
        baseline: Vec::new(),
        latencies_ms: Vec::new(),
        goal: Goal::Rate(12_500.0),
    }
}
