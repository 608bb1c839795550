//! The faults: those of the [plan](super::plan), one after the other, each seen to have happened and noted with
//! its time.

use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use serde_json::json;
use sqlx::PgPool;

use super::history::Fault;
use super::load::Load;
use super::plan::{Injection, Plan, Planned};
use crate::cluster::{Cluster, until};
use crate::servers::Server;

/// What goes wrong at the provider all the time.
///
/// # Panics
/// When the simulator doesn't take it.
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

/// Injects the faults of a plan until `end`.
pub async fn inject(
    cluster: &mut Cluster,
    postgres: &mut Server,
    kafka: &mut Server,
    plan: Plan,
    end: Duration,
    load: &Load,
) -> Vec<Fault> {
    let mut happened = Vec::new();
    for Planned { acts_before, what } in plan {
        if SystemClock.boottime() >= end {
            break;
        }
        let enough = load.acts() + acts_before;
        until("the load goes on", async || load.acts() >= enough || SystemClock.boottime() >= end)
            .await;
        let from = SystemClock.boottime();
        let (kind, target) = match what {
            Injection::RestartKafka => ("restart", restart(kafka, "kafka").await),
            Injection::RestartPostgres => ("restart", restart(postgres, "postgres").await),
            Injection::Cut(name) => {
                cut(cluster.pool(name).await).await;
                ("cut", name)
            }
            Injection::Kill(name, pause) => {
                cluster.kill(name);
                cluster.process(name).died_of_sigkill().await;
                tokio::time::sleep(pause).await;
                cluster.restart(name).await;
                ("kill", name)
            }
            Injection::Freeze(name, pause) => {
                cluster.signal(name, libc::SIGSTOP);
                until("it is frozen", async || cluster.process(name).is_frozen()).await;
                tokio::time::sleep(pause).await;
                cluster.process(name).thaw();
                ("freeze", name)
            }
        };
        let (target, until) = (target.to_owned(), SystemClock.boottime());
        happened.push(Fault { kind, target, from, until });
    }
    happened
}

async fn restart(server: &mut Server, name: &'static str) -> &'static str {
    server.kill().await;
    server.start_again();
    name
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
