//! The provider's rates, as the provider counts them: three dispatchers of one number claim at random moments, and one
//! whose gate is slow has much ready together; the real simulator counts by itself, and finds nothing.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_http::client::http_client;
use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::process::Process;
use assent_tests::cluster::{SIMULATOR, binaries, ports};
use assent_tests::harness;
use assent_tests::soak::dice::Dice;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::campaigns::{neighbours, people};
use super::stand_ins::{Home, Replica, Setup, until};

/// What the number is told to send in a second. Three that didn't share it would send three times as much.
const OURS: u32 = 40;
/// What the simulator lets through. The rest is for a machine that stands still for up to a second: what was to go out
/// meanwhile goes out together.
const THEIRS: u32 = 60;
/// People with one message each.
const MANY: usize = 90;
/// To each of two people, who may get 45 at once.
const EACH: usize = 50;
const LENT: i64 = 45;
/// Whether anything is under way: all that is left waits for a pair.
const UNDER_WAY: &str = "
    SELECT count(*) FROM intents
    WHERE state IN ('claimed', 'calling')
       OR (state = 'queued' AND (reasons <> '{pair_limit}' OR not_before <= now()))";
const LEFT: &str = "SELECT count(*) FROM intents WHERE state <> 'accepted'";

/// The simulator, as it comes, with both rates enforced.
struct Simulator {
    url: String,
    address: std::net::SocketAddr,
    http: reqwest::Client,
    _process: Process,
}

impl Simulator {
    async fn start() -> Self {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let log = std::env::temp_dir().join(harness::unique("assent_sim")).with_extension("log");
        let mut command = Command::new(binaries().join(SIMULATOR));
        command
            .args(["--listen", &address.to_string()])
            .args(["--access-token", "access"])
            .args(["--phone-number-id", "106540352242922"])
            .args(["--rate-per-second", &THEIRS.to_string()])
            .arg("--rate-per-pair");
        let http = http_client(Duration::from_secs(1), Duration::from_secs(10)).unwrap();
        let _process = Process::start(command, &log);
        let it = Self { url: format!("http://{address}"), address, http, _process };
        until("the simulator answers", async || {
            it.http.get(format!("{}/_sim/violations", it.url)).send().await.is_ok()
        })
        .await;
        it
    }

    async fn violations(&self) -> Value {
        let answer = self.http.get(format!("{}/_sim/violations", self.url)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    async fn advance(&self, seconds: i64) {
        let drive = json!({"advance_s": seconds});
        let answer = self.http.post(format!("{}/_sim/clock", self.url)).json(&drive).send().await;
        assert_eq!(answer.unwrap().status(), 200);
    }
}

async fn queue(pool: &PgPool, people: &[SubjectId]) {
    sqlx::query(
        "INSERT INTO intents (id, subject_id, purpose, channel, template, language, state, requested_at, changed_at)
         SELECT gen_random_uuid(), subject, 'marketing', 'whatsapp', 'hello', 'en', 'queued', now(), now()
         FROM unnest($1::uuid[]) AS subject",
    )
    .bind(people)
    .execute(pool)
    .await
    .unwrap();
}

/// So much later: the provider's clock first, so that it is never behind ours. Nothing is under way meanwhile.
async fn later(simulator: &Simulator, pool: &PgPool, seconds: i64) {
    simulator.advance(seconds).await;
    let by = seconds as f64;
    for statement in [
        "UPDATE send_rates SET next_at = next_at - make_interval(secs => $1)",
        "UPDATE intents SET started_at = started_at - make_interval(secs => $1),
                            not_before = not_before - make_interval(secs => $1)",
    ] {
        sqlx::query(statement).bind(by).execute(pool).await.unwrap();
    }
}

async fn quiet(replica: &Replica, simulator: &Simulator, seed: u64) {
    until("nothing is under way", async || replica.count(UNDER_WAY).await == 0).await;
    let violations = simulator.violations().await;
    assert_eq!(violations["total"], 0, "seed {seed}: {violations}");
}

async fn claims_at_random_moments(seed: u64) {
    let home = Home::new().await;
    let (neighbours, simulator) = (neighbours(&home).await, Simulator::start().await);
    let mut setup = Setup::new(neighbours.address, simulator.address);
    setup.per_second = OURS;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(home.start(&setup).await);
    }
    let mut thinks = Dice::new(seed, "gate");
    neighbours.think(move || Duration::from_millis(thinks.below(120)));

    let mut dice = Dice::new(seed, "queue");
    let everybody = people(&neighbours, MANY + 2);
    let (many, two) = everybody.split_at(MANY);
    let mut messages = many.to_vec();
    for subject in two {
        messages.extend([*subject; EACH]);
    }
    for at in (1..messages.len()).rev() {
        messages.swap(at, dice.below(at as u64 + 1) as usize);
    }
    let pool = replicas[0].messaging.store.pool().clone();
    let mut rest = messages.as_slice();
    while !rest.is_empty() {
        let (now, after) = rest.split_at(1 + dice.below(rest.len().min(40) as u64) as usize);
        queue(&pool, now).await;
        dice.one_of(&replicas).messaging.queued.notify_one();
        rest = after;
    }

    quiet(&replicas[0], &simulator, seed).await;
    let sent: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM intents WHERE subject_id = ANY($1) AND state = 'accepted'
         GROUP BY subject_id",
    )
    .bind(two)
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(sent, [LENT, LENT], "seed {seed}: all that is lent, and no more");
    let mut steps = 0;
    while replicas[0].count(LEFT).await > 0 {
        assert!(steps < 40, "seed {seed}: the pairs have room again after a while");
        later(&simulator, &pool, 20 + dice.below(80) as i64).await;
        dice.one_of(&replicas).messaging.queued.notify_one();
        quiet(&replicas[0], &simulator, seed).await;
        steps += 1;
    }
    assert!(steps > 1, "seed {seed}: the pairs had to wait");
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_dispatchers_never_exceed_the_rates_that_the_provider_counts() {
    for seed in [1, 2] {
        claims_at_random_moments(seed).await;
    }
}

/// Half a second of the rate each, reserved one after the other, and ready together: more than the provider lends.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_a_slow_gate_piles_up_do_not_go_out_together() {
    const BATCHES: usize = 4;
    let home = Home::new().await;
    let (neighbours, simulator) = (neighbours(&home).await, Simulator::start().await);
    let mut setup = Setup::new(neighbours.address, simulator.address);
    setup.per_second = OURS;
    let replica = home.start(&setup).await;
    // The gate answers nobody before this moment, and then all.
    let kept = Arc::new(AtomicUsize::new(0));
    let mut opens = None;
    let keeping = Arc::clone(&kept);
    neighbours.think(move || {
        let now = SystemClock.boottime();
        let opens = *opens.get_or_insert(now + Duration::from_secs(3));
        if now < opens {
            keeping.fetch_add(1, Ordering::SeqCst);
        }
        opens.saturating_sub(now)
    });
    let everybody = people(&neighbours, OURS as usize / 2 * BATCHES);
    queue(replica.messaging.store.pool(), &everybody).await;
    replica.messaging.queued.notify_one();
    until("all have gone", async || replica.count(LEFT).await == 0).await;
    assert_eq!(kept.load(Ordering::SeqCst), BATCHES, "they waited for the gate together");
    let violations = simulator.violations().await;
    assert_eq!(violations["total"], 0, "{violations}");
    replica.stop().await;
}
