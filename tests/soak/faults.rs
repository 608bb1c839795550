//! The faults: drawn from the seed, one after the other, each seen to have happened and noted with its time.

use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::{Cluster, until};
use assent_tests::servers::Server;
use serde_json::json;
use sqlx::PgPool;

use crate::dice::Dice;
use crate::history::Fault;
use crate::load::Load;

/// The processes that are killed and frozen.
pub const PROCESSES: [&str; 10] = [
    "consent",
    "consent-2",
    "vault",
    "vault-2",
    "messaging",
    "messaging-2",
    "erasure",
    "erasure-2",
    "projector",
    "projector-2",
];
const DATABASES: [&str; 7] =
    ["consent", "vault", "vault_keys", "messaging", "messaging_keys", "erasure", "projector"];

/// What goes wrong at the provider all the time.
pub async fn of_the_provider(cluster: &Cluster) {
    for fault in [
        json!({"kind": "duplicate_statuses", "share": 0.05}),
        json!({"kind": "disorder_statuses", "share": 0.05}),
        json!({"kind": "delay", "delay_ms": 1500, "share": 0.02}),
        json!({"kind": "drop_connection", "share": 0.02}),
        json!({"kind": "http_status", "status": 503, "share": 0.01}),
    ] {
        let (status, answer) = cluster.post("whatsapp-sim", "/_sim/faults", &fault, None).await;
        assert_eq!(status, 204, "{answer}");
    }
}

/// Injects faults until `end`.
pub async fn inject(
    cluster: &mut Cluster,
    postgres: &mut Server,
    kafka: &mut Server,
    dice: &mut Dice,
    end: Duration,
    load: &Load,
) -> Vec<Fault> {
    let mut happened = Vec::new();
    while SystemClock.boottime() < end {
        // The load has a word in between.
        let enough = load.acts() + 10 + dice.below(40) as usize;
        until("the load goes on", async || load.acts() >= enough || SystemClock.boottime() >= end)
            .await;
        let from = SystemClock.boottime();
        let (kind, target) = match dice.below(20) {
            0 => ("restart", restart(kafka, "kafka").await),
            1 => ("restart", restart(postgres, "postgres").await),
            2..5 => {
                let name = *dice.one_of(&DATABASES);
                cut(cluster.pool(name).await).await;
                ("cut", name.to_owned())
            }
            5..12 => {
                let name = *dice.one_of(&PROCESSES);
                cluster.kill(name);
                cluster.process(name).died_of_sigkill().await;
                tokio::time::sleep(Duration::from_millis(dice.below(3_000))).await;
                cluster.restart(name).await;
                ("kill", name.to_owned())
            }
            _ => {
                let name = *dice.one_of(&PROCESSES);
                cluster.signal(name, libc::SIGSTOP);
                until("it is frozen", async || cluster.process(name).is_frozen()).await;
                tokio::time::sleep(Duration::from_millis(500 + dice.below(7_000))).await;
                cluster.process(name).thaw();
                ("freeze", name.to_owned())
            }
        };
        happened.push(Fault { kind, target, from, until: SystemClock.boottime() });
    }
    happened
}

async fn restart(server: &mut Server, name: &str) -> String {
    server.kill().await;
    server.start_again();
    name.to_owned()
}

/// Ends every connection of a database's clients but our own. None may be there: then nothing happened, and
/// a later round finds some.
async fn cut(pool: PgPool) {
    let ended: Result<Vec<bool>, _> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_all(&pool)
    .await;
    ended.expect("Postgres answers between two faults");
}
