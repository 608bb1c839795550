//! From the answer to a grant until the query API shows it, under a steady load.

use std::time::Duration;

use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use hyper::Method;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::append::grant;
use crate::load::Client;
use crate::report::{Goal, Row};
use crate::servers;

const COMMANDS_PER_SECOND: u32 = 200;
const SECONDS: u32 = 30;
/// Askers taking turns: each command keeps one until its row is there.
const ASKERS: usize = 40;
const WARM_UP: usize = 200;
/// Looks cost what the commands need: each is a request.
const LOOK: Duration = Duration::from_millis(3);
const BOUND: Duration = Duration::from_secs(10);

struct Asker {
    consent: Client,
    projector: Client,
}

pub async fn run() -> Row {
    let cluster = servers::cluster().await;
    let (returned, mut askers) = tokio::sync::mpsc::channel(ASKERS);
    for _ in 0..ASKERS {
        let consent = Client::connect(&cluster.url("consent"), cluster.token()).await;
        let projector = Client::connect(&cluster.url("projector"), cluster.token()).await;
        returned.try_send(Asker { consent, projector }).expect("there is room for all");
    }
    // How long a group of consumers takes to form is nothing that a command waits for later.
    for _ in 0..WARM_UP {
        let mut asker = askers.recv().await.expect("somebody comes back");
        asker.grant_and_look().await;
        returned.try_send(asker).expect("there is room for all");
    }
    let mut tick = interval(Duration::from_secs(1) / COMMANDS_PER_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut commands = JoinSet::new();
    let began = SystemClock.boottime();
    for _ in 0..COMMANDS_PER_SECOND * SECONDS {
        tick.tick().await;
        let mut asker = askers.recv().await.expect("somebody comes back");
        let returned = returned.clone();
        commands.spawn(async move {
            let took = asker.grant_and_look().await;
            let _ = returned.send(asker).await;
            took.as_secs_f64() * 1_000.0
        });
    }
    let latencies_ms = commands.join_all().await;
    let rate = latencies_ms.len() as f64 / (SystemClock.boottime() - began).as_secs_f64();
    Row {
        name: "freshness",
        unit: "commands/s",
        ours: vec![rate],
        baseline: Vec::new(),
        latencies_ms,
        goal: Goal::Latency { p50_ms: 15.0, p99_ms: 75.0 },
    }
}

impl Asker {
    async fn grant_and_look(&mut self) -> Duration {
        let subject = SystemIds.v4();
        self.consent.post("/v1/consents/grant", grant(subject)).await;
        let acknowledged = SystemClock.boottime();
        let path = format!("/v1/consents?subject_id={subject}");
        let id = subject.to_string();
        loop {
            let (_, body) = self.projector.ask(Method::GET, &path, Vec::new()).await;
            let now = SystemClock.boottime();
            if String::from_utf8_lossy(&body).contains(&id) {
                return now - acknowledged;
            }
            assert!(now - acknowledged < BOUND, "not readable within {BOUND:?}");
            tokio::time::sleep(LOOK).await;
        }
    }
}
