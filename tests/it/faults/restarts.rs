//! G2 when the servers themselves go: the broker killed and started again, then the whole of
//! Postgres, in the middle of grants. No process of Assent is started again: each finds its way back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use assent_contracts::topics::CONSENT_EVENTS;
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::durability::{GRANT, whole_in_topic};
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, SERVICES, Wishes};
use assent_tests::servers;

const CLIENTS: usize = 8;
/// Between two tries of a client: some load, not all there is.
const PAUSE: Duration = Duration::from_millis(20);
const PURPOSES: [&str; 2] = ["marketing", "service"];
/// How soon it must work again after a server is back.
const RECOVERY: Duration = Duration::from_secs(10);
/// The services that stand on Postgres.
const STORING: [&str; 5] = ["consent", "vault", "messaging", "erasure", "projector"];

/// An acknowledged grant: whose, and its event.
type Acknowledged = (String, String);

/// What the clients did, for the test to wait on.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_the_broker_and_then_postgres_restarted_in_mid_flow_lose_and_double_nothing() {
    let (mut postgres, mut kafka) = servers::both().await;
    let stores = Some(servers::stores(&postgres, &kafka));
    let mut cluster = Cluster::with(Wishes { stores, ..Wishes::default() }).await;
    let progress = Arc::new(Progress::default());
    let limit = Duration::from_secs(30);
    let client = Client {
        http: assent_http::client::http_client(limit, limit).unwrap(),
        url: format!("{}{GRANT}", cluster.url("consent")),
        token: cluster.token().to_owned(),
        progress: Arc::clone(&progress),
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(client.clone().grants())).collect();
    let more = async |when: &str, count: usize| {
        let so_far = progress.acknowledged.load(Ordering::Relaxed);
        until(&format!("grants are acknowledged {when}"), async || {
            progress.acknowledged.load(Ordering::Relaxed) >= so_far + count
        })
        .await;
    };
    more("at first", 50).await;

    // Without the broker grants go on; their events wait.
    kafka.kill().await;
    more("without the broker", 100).await;
    let pool = cluster.pool("consent").await;
    assert!(outbox(&pool).await >= 100, "nobody takes them");
    pool.close().await;
    let waiting = newest_in_outbox(&cluster).await;
    kafka.start_again();
    let back = SystemClock.boottime();
    let pool = cluster.pool("consent").await;
    until("what waited for the broker is published", async || {
        let left = "SELECT count(*) FROM eventstore.outbox WHERE id <= $1";
        sqlx::query_scalar::<_, i64>(left).bind(waiting).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
    recovered("the relay", back);
    pool.close().await;
    more("with the broker again", 50).await;

    // Without Postgres nothing is acknowledged, and every service says so.
    postgres.kill().await;
    for service in STORING {
        until("it isn't ready", async || !cluster.is_ready(service).await).await;
    }
    let refused = progress.refused.load(Ordering::Relaxed);
    until("clients are refused", async || {
        progress.refused.load(Ordering::Relaxed) > refused + CLIENTS
    })
    .await;
    postgres.start_again();
    let back = SystemClock.boottime();
    for service in SERVICES {
        until("it is ready again by itself", async || cluster.is_ready(service).await).await;
    }
    recovered("every service", back);
    more("with Postgres again", 50).await;
    recovered("the ledger", back);
    progress.stop.store(true, Ordering::Relaxed);
    let mut acknowledged: Vec<Acknowledged> = Vec::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }

    // Each grant was repeated until it was acknowledged: it is there, once, and nothing else is.
    let once: BTreeSet<Acknowledged> = acknowledged.iter().cloned().collect();
    assert_eq!(once.len(), acknowledged.len());
    let consent = cluster.pool("consent").await;
    let stored: Vec<Acknowledged> = sqlx::query_as(
        "SELECT stream::text, id::text FROM eventstore.events
         WHERE event_type = 'assent.consent.granted.v1'",
    )
    .fetch_all(&consent)
    .await
    .unwrap();
    assert_eq!(stored.len(), once.len());
    assert_eq!(BTreeSet::from_iter(stored), once);
    whole_in_topic(&cluster, "consent", CONSENT_EVENTS).await;
    let projector = cluster.pool("projector").await;
    until("the read model holds what was acknowledged", async || {
        let rows: Vec<Acknowledged> = sqlx::query_as(
            "SELECT subject_id::text, line->>'event_id'
             FROM live.consents, jsonb_array_elements(consents) AS line",
        )
        .fetch_all(&projector)
        .await
        .unwrap();
        rows.len() == once.len() && BTreeSet::from_iter(rows) == once
    })
    .await;

    // And everything else found its way back too: from the vault by Kafka to the gate, and out.
    let (person, _) = cluster.willing().await;
    assert_eq!(cluster.send(&person).json["state"], "accepted");
    for service in SERVICES {
        let process = cluster.process(service);
        assert_eq!(process.ended(), None, "{service} was not started again: {}", process.tail());
    }
}

/// The last event that waits to be published.
async fn newest_in_outbox(cluster: &Cluster) -> i64 {
    let pool = cluster.pool("consent").await;
    let newest = "SELECT max(id) FROM eventstore.outbox";
    sqlx::query_scalar::<_, Option<i64>>(newest).fetch_one(&pool).await.unwrap().expect("some wait")
}

fn recovered(who: &str, back: Duration) {
    let took = SystemClock.boottime().saturating_sub(back);
    assert!(took <= RECOVERY, "{who} took {took:?} after the server was back");
}

async fn outbox(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM eventstore.outbox").fetch_one(pool).await.unwrap()
}

#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
    progress: Arc<Progress>,
}

impl Client {
    /// Grants for one new person after another, each repeated with its key until it is
    /// acknowledged.
    async fn grants(self) -> Vec<Acknowledged> {
        let mut acknowledged = Vec::new();
        while !self.progress.stop.load(Ordering::Relaxed) {
            let subject = SystemIds.v4().to_string();
            for purpose in PURPOSES {
                let command = json!({"subject_id": subject, "purpose": purpose,
                    "channel": "whatsapp", "actor": "operator", "method": "api"});
                let answer = loop {
                    match self.grant(&command, &format!("{subject}:{purpose}")).await {
                        Some(answer) => break answer,
                        None => _ = self.progress.refused.fetch_add(1, Ordering::Relaxed),
                    }
                    tokio::time::sleep(PAUSE).await;
                };
                let [event] = &answer["events"].as_array().unwrap()[..] else { panic!("{answer}") };
                acknowledged.push((subject.clone(), event.as_str().unwrap().to_owned()));
                self.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        }
        acknowledged
    }

    async fn grant(&self, command: &Value, key: &str) -> Option<Value> {
        let request = self.http.post(&self.url).bearer_auth(&self.token).json(command);
        let answer = request.header("idempotency-key", key).send().await.ok()?;
        if answer.status() == 200 { answer.json().await.ok() } else { None }
    }
}
