//! More than a service can carry. It turns away at once, with a time to come again; what it has taken it finishes; its
//! memory doesn't grow with what it turns away; and it takes more as soon as it can.

use std::time::Duration;

use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use reqwest::header::RETRY_AFTER;
use serde_json::Value;

use super::durability::{GRANT, grant};
use assent_tests::cluster::{Cluster, Wishes, until};

/// What the service carries at once in this test.
const CARRIED: usize = 64;
/// How often as much again comes on top of it.
const WAVES: usize = 20;
/// What the refusals may cost, of which each batch of a store's own would take more.
const GROWTH_BYTES_MAX: u64 = 32 << 20;
const RECOVERY: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Caller {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// What was answered: status, `Retry-After`, code.
type Answered = (u16, Option<u32>, String);

type Call = tokio::task::JoinHandle<Answered>;

impl Caller {
    fn of(cluster: &Cluster) -> Self {
        let limit = Duration::from_secs(60);
        Self {
            http: assent_http::client::http_client(limit, limit).unwrap(),
            url: format!("{}{GRANT}", cluster.url("consent")),
            token: cluster.token().to_owned(),
        }
    }

    async fn grants(self) -> Answered {
        let subject = SystemIds.v4().to_string();
        let request = self.http.post(&self.url).bearer_auth(&self.token).json(&grant(&subject));
        let answer = request.header("idempotency-key", &subject).send().await.unwrap();
        let status = answer.status().as_u16();
        let after = answer.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
        let body: Value = answer.json().await.unwrap_or_default();
        (status, after, body["code"].as_str().unwrap_or_default().to_owned())
    }

    /// As many at once as the service carries.
    fn wave(&self) -> Vec<Call> {
        (0..CARRIED).map(|_| tokio::spawn(self.clone().grants())).collect()
    }
}

async fn turned_away(calls: Vec<Call>) {
    for call in calls {
        let (status, after, code) = call.await.unwrap();
        assert_eq!((status, code.as_str()), (503, "overloaded"));
        assert!(after.is_some_and(|seconds| seconds > 0), "it says when to come again");
    }
}

/// The memory that a process has, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn at_twice_its_load_a_service_says_when_to_come_again_and_takes_no_more_memory() {
    let mut cluster = Cluster::with(Wishes {
        only: vec!["consent"],
        settings: vec![("consent", "requests_max = 64")],
        ..Wishes::default()
    })
    .await;
    let caller = Caller::of(&cluster);
    let store = cluster.pool("consent").await;
    let failpoints = cluster.failpoints("consent");
    failpoints.set("eventstore.before_commit=hold");
    // Twice as much at once: one half is turned away, the other waits for the store.
    let waiting: Vec<Call> = [caller.wave(), caller.wave()].into_iter().flatten().collect();
    until("half of it is turned away", async || {
        waiting.iter().filter(|call| call.is_finished()).count() == CARRIED
    })
    .await;
    failpoints.strikes("eventstore.before_commit").await;
    let (refused, taken): (Vec<Call>, Vec<Call>) =
        waiting.into_iter().partition(|call| call.is_finished());
    turned_away(refused).await;

    // As much again on top of it, wave after wave: the first one shows what connections cost.
    let pid = cluster.process("consent").pid();
    let mut before = None;
    for _ in 0..WAVES {
        turned_away(caller.wave()).await;
        before.get_or_insert_with(|| resident(pid));
    }
    // The alert on errors counts who was turned away.
    let told = cluster.metrics("consent").await;
    let errors = told.lines().filter(|line| {
        line.starts_with("http_server_request_duration_seconds_count{")
            && line.contains("http_response_status_code=\"503\"")
    });
    let errors = errors.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert_eq!(errors.sum::<f64>(), (CARRIED * (WAVES + 1)) as f64);
    let grown = resident(pid).saturating_sub(before.unwrap());
    assert!(grown <= GROWTH_BYTES_MAX, "{grown} bytes for {} refusals", WAVES * CARRIED);

    // What it had taken is done, once, and there is room again.
    failpoints.clear();
    let clear = SystemClock.boottime();
    for done in taken {
        assert_eq!(done.await.unwrap().0, 200);
    }
    until("it takes more", async || caller.clone().grants().await.0 == 200).await;
    let took = SystemClock.boottime().saturating_sub(clear);
    assert!(took <= RECOVERY, "{took:?}");
    let granted: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM eventstore.events WHERE event_type = 'assent.consent.granted.v1'",
    )
    .fetch_one(&store)
    .await
    .unwrap();
    assert_eq!(granted as usize, CARRIED + 1, "each that was taken, and nothing that was refused");
}
