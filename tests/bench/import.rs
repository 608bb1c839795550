//! A million rows of a contact file into sealed, searchable people, with relay and projectors
//! running: rows per second as the command line's user sees them.

use std::time::Duration;

use crate::report::{Goal, Row};
use crate::{people, servers};

const ROWS: u32 = 1_000_000;
/// How long relay and projectors may take after the last row.
const DRAINED: Duration = Duration::from_secs(60);

pub async fn run() -> Row {
    let cluster = servers::cluster().await;
    let file = people::contact_file(&cluster, ROWS);
    let took = people::import(&cluster, &file, ROWS).await;
    let drained = servers::drained(&cluster, &["vault"], &people::READERS, DRAINED).await;
    println!("  backlog gone after {:.1} s", drained.as_secs_f64());
    Row {
        name: "import",
        unit: "rows/s",
        ours: vec![f64::from(ROWS) / took.as_secs_f64()],
        baseline: Vec::new(),
        latencies_ms: Vec::new(),
        goal: Goal::Rate(6_000.0),
    }
}
