//! A restore of all data databases from before some erasures, Kafka kept: from `assent restore` until every service
//! answers, which none does before those erasures are done again.

use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::{Cluster, SERVICES};
use assent_tests::harness::Stores;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

use crate::messages::{READER, count, queue};
use crate::report::{Goal, Row};
use crate::servers::{self, drained, eventually};
use crate::{erasure, permit};

const PEOPLE: u32 = 20_000;
/// Erased since the backup.
const ERASED: usize = 200;
const DATA: [&str; 5] = ["consent", "vault", "messaging", "erasure", "projector"];
const BOUND: Duration = Duration::from_secs(600);

pub async fn run() -> Row {
    let mut cluster = servers::cluster().await;
    let messaging = cluster.pool("messaging").await;
    assent_tests::whatsapp::rest(&messaging).await;
    messaging.close().await;
    let people: Vec<Uuid> =
        permit::willing(&cluster, PEOPLE).await.into_iter().map(|(it, _)| it).collect();
    queue(&cluster, people.clone()).await;
    drained(&cluster, &["consent", "messaging"], &[READER], BOUND).await;

    let path = |name: &str| cluster.dir.join(name).to_str().expect("UTF-8").to_owned();
    let (folder, key) = (path("backup"), path("backup.key"));
    let taken = cluster.assent(&["backup", "data", &folder, "--key", &key]);
    assert_eq!(taken.status, 0, "{}", taken.text);

    erasure::ask_all(&cluster, &people[..ERASED]).await;
    let saga = cluster.pool("erasure").await;
    erasure::certified(&saga, ERASED as i64).await;
    saga.close().await;
    drained(&cluster, &["consent", "vault", "messaging", "erasure"], &[], BOUND).await;
    for service in SERVICES {
        cluster.kill(service);
    }
    drop_databases(&cluster).await;

    let began = SystemClock.boottime();
    let restored = cluster.assent(&["restore", "data", &folder, "--key", &key]);
    assert_eq!(restored.status, 0, "{}", restored.text);
    let copied = SystemClock.boottime() - began;
    for service in SERVICES {
        cluster.begin_again(service);
    }
    for service in SERVICES {
        eventually("it answers", BOUND, async || cluster.is_ready(service).await).await;
    }
    let took = (SystemClock.boottime() - began).as_secs_f64() * 1_000.0;
    println!("  the copies were back after {:.1} s", copied.as_secs_f64());
    let vault = cluster.pool("vault").await;
    assert_eq!(count(&vault, "people").await, i64::from(PEOPLE) - ERASED as i64, "who is back");
    Row {
        name: "restore",
        unit: "ms until it answers",
        ours: vec![took],
        baseline: Vec::new(),
        latencies_ms: vec![took],
        goal: Goal::Latency { p50_ms: 60_000.0, p99_ms: 60_000.0 },
    }
}

async fn drop_databases(cluster: &Cluster) {
    let url = format!("{}/postgres", Stores::shared().postgres);
    let admin = PgPoolOptions::new().max_connections(1).connect(&url).await;
    let admin = admin.expect("Postgres answers");
    for name in DATA {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", cluster.database(name));
        admin.execute(AssertSqlSafe(drop)).await.expect("nobody needs it any more");
    }
    // A restore wants nobody to be there: the killed have left the key stores too.
    const THERE: &str = "
        SELECT count(*) FROM pg_stat_activity WHERE application_name = 'assent' AND datname = ANY($1)";
    let keys = ["vault_keys", "messaging_keys"].map(|name| cluster.database(name));
    eventually("their connections are gone", BOUND, async || {
        let there = sqlx::query_scalar::<_, i64>(THERE).bind(&keys[..]).fetch_one(&admin).await;
        there.expect("Postgres answers") == 0
    })
    .await;
}
