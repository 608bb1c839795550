//! The relay's promises on real Postgres: nothing skipped, order per key, whatever commits late,
//! fails, stalls, is killed or is frozen.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_eventstore::relay::{
    self, Delivery, OutboxRecord, PublishError, Publisher, RelayConfig,
};
use assent_eventstore::{EventStore, Expected};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::event_store::{append, event, id, store_at, until};
use assent_tests::harness;

/// A broker in memory. It delivers in order and nothing of a key behind a record that it refused.
#[derive(Clone, Default)]
struct Broker {
    log: Arc<Mutex<Vec<(Uuid, i64)>>>,
    /// Records to refuse, and how often.
    refusals: Arc<Mutex<HashMap<(Uuid, i64), usize>>>,
    /// When set, each call takes a permit before it delivers.
    gate: Option<Arc<Semaphore>>,
}

impl Publisher for Broker {
    async fn publish(&self, records: &[OutboxRecord]) -> Delivery {
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("the gate is never closed").forget();
        }
        let mut refused = Vec::new();
        let outcomes: Vec<_> = records
            .iter()
            .map(|record| {
                let place = (record.key, record.sequence.expect("an event has a sequence"));
                let mut refusals = self.refusals.lock().unwrap();
                let left = refusals.get_mut(&place).filter(|left| **left > 0);
                if left.is_none() && !refused.contains(&record.key) {
                    self.log.lock().unwrap().push(place);
                    return Ok(());
                }
                if let Some(left) = left {
                    *left -= 1;
                }
                refused.push(record.key);
                Err(PublishError { reason: "refused_by_test".to_owned() })
            })
            .collect();
        Box::pin(async move { outcomes })
    }
}

impl Broker {
    fn gated() -> Self {
        Self { gate: Some(Arc::new(Semaphore::new(0))), ..Self::default() }
    }

    fn open(&self) {
        self.gate.as_ref().expect("this broker has a gate").add_permits(1_000_000);
    }

    fn sequences(&self, key: Uuid) -> Vec<i64> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|(of, _)| *of == key).map(|(_, sequence)| *sequence).collect()
    }

    fn len(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

/// A relay in this process, ended with the test.
struct Relay {
    stopping: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), relay::RelayError>>,
}

/// With a lease that outlasts a pause of the machine: a term that ends early sends rows again.
fn config() -> RelayConfig {
    RelayConfig {
        lease: Duration::from_secs(30),
        candidacy: Duration::from_millis(50),
        retry: Duration::from_millis(50),
        ..RelayConfig::default()
    }
}

fn start(store: &EventStore, publisher: impl Publisher, config: RelayConfig) -> Relay {
    let stopping = CancellationToken::new();
    let task = tokio::spawn(relay::run(store.clone(), publisher, config, stopping.clone()));
    Relay { stopping, task }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn store() -> (String, EventStore) {
    let url = harness::database_url("relay").await;
    let store = store_at(&url, 8).await;
    (url, store)
}

async fn drained(store: &EventStore) {
    until("the outbox is empty", async || store.backlog(1).await.unwrap() == 0).await;
}

async fn backlog(store: &EventStore) -> i64 {
    store.backlog(1_000_000).await.unwrap()
}

async fn append_to(store: &EventStore, stream: Uuid) {
    store.append(append(stream, Expected::Any)).await.unwrap();
}

#[tokio::test]
async fn a_slow_writer_with_low_ids_is_not_skipped() {
    let (_, store) = store().await;
    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    let slow = id();
    let mut session = store.begin().await.unwrap();
    session.append(vec![append(slow, Expected::Any)]).await.unwrap();
    for _ in 0..50 {
        append_to(&store, id()).await;
    }
    until("the fast ones are out", async || broker.len() == 50).await;
    assert!(broker.sequences(slow).is_empty());
    session.commit().await.unwrap();
    drained(&store).await;
    assert_eq!((broker.sequences(slow), broker.len()), (vec![1], 51));
}

#[tokio::test]
async fn the_order_of_a_stream_survives_a_transaction_that_began_early_and_appends_late() {
    let (_, store) = store().await;
    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    let stream = id();
    let mut early = store.begin().await.unwrap();
    // The transaction id is drawn here; the stream's turn comes later.
    early.append(vec![append(id(), Expected::Any)]).await.unwrap();
    append_to(&store, stream).await;
    early.append(vec![append(stream, Expected::Any)]).await.unwrap();
    early.commit().await.unwrap();
    append_to(&store, stream).await;
    drained(&store).await;
    assert_eq!(broker.sequences(stream), [1, 2, 3]);
}

#[tokio::test]
async fn a_late_row_is_not_overtaken_by_its_successor_in_the_middle_of_a_pass() {
    let (_, store) = store().await;
    for _ in 0..20 {
        append_to(&store, id()).await;
    }
    let stream = id();
    let mut late = store.begin().await.unwrap();
    late.append(vec![append(stream, Expected::Any)]).await.unwrap();
    for _ in 0..20 {
        append_to(&store, id()).await;
    }
    // Batches of one: the pass stands between rows, above the late one and below its successor.
    let broker = Broker::gated();
    let _relay = start(&store, broker.clone(), RelayConfig { batch_rows: 1, ..config() });
    broker.gate.as_ref().unwrap().add_permits(30);
    until("the pass is past the late row", async || broker.len() == 30).await;
    late.commit().await.unwrap();
    append_to(&store, stream).await;
    broker.open();
    drained(&store).await;
    assert_eq!((broker.sequences(stream), broker.len()), (vec![1, 2], 42));
}

#[tokio::test]
async fn an_idle_transaction_elsewhere_does_not_stop_the_relay() {
    let (url, store) = store().await;
    let other_url = harness::database_url("relay").await;
    let mut idle = Vec::new();
    for url in [&url, &other_url] {
        let mut conn = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql("CREATE TABLE elsewhere (n int); BEGIN; INSERT INTO elsewhere VALUES (1)")
            .execute(&mut conn)
            .await
            .unwrap();
        idle.push(conn);
    }
    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    for _ in 0..100 {
        append_to(&store, id()).await;
    }
    drained(&store).await;
    assert_eq!(broker.len(), 100);
    for mut conn in idle {
        let assigned: bool =
            sqlx::query_scalar("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert!(assigned, "the idle transaction is not open");
    }
}

#[tokio::test]
async fn ids_lost_to_rollbacks_are_not_waited_for() {
    let (_, store) = store().await;
    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    for n in 0..20 {
        let mut session = store.begin().await.unwrap();
        session.append(vec![append(id(), Expected::Any)]).await.unwrap();
        if n % 2 == 0 { session.rollback().await.unwrap() } else { session.commit().await.unwrap() }
    }
    drained(&store).await;
    assert_eq!(broker.len(), 10);
    let drawn: i64 = sqlx::query_scalar(
        "SELECT last_value FROM pg_sequences WHERE schemaname = 'eventstore' AND sequencename LIKE 'outbox%'",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert_eq!(drawn, 20, "the rollbacks lost no ids");
}

#[tokio::test]
async fn a_row_locked_by_a_stranger_does_not_split_its_key() {
    let (url, store) = store().await;
    let stream = id();
    for _ in 0..3 {
        append_to(&store, stream).await;
    }
    let mut stranger = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM eventstore.outbox ORDER BY id LIMIT 1 FOR UPDATE")
        .execute(&mut stranger)
        .await
        .unwrap();
    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    until("the rows are out", async || broker.len() >= 3).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut stranger).await.unwrap();
    drained(&store).await;
    assert_eq!(broker.sequences(stream), [1, 2, 3]);
}

#[tokio::test]
async fn a_notification_before_the_rows_are_visible_loses_nothing() {
    let (url, store) = store().await;
    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    append_to(&store, id()).await;
    drained(&store).await;

    // A store of another process, so that the relay of this one gets no hint of the commit.
    let elsewhere = store_at(&url, 2).await;
    let mut session = elsewhere.begin().await.unwrap();
    session.append(vec![append(id(), Expected::Any)]).await.unwrap();
    sqlx::query("SELECT pg_notify('assent_outbox', '')").execute(store.pool()).await.unwrap();
    append_to(&store, id()).await;
    until("the relay has looked", async || broker.len() == 2).await;
    session.commit().await.unwrap();
    drained(&store).await;
    assert_eq!(broker.len(), 3);
}

#[tokio::test]
async fn a_commit_wakes_the_relay_in_this_and_in_another_process() {
    let (url, store) = store().await;
    let broker = Broker::default();
    // Without hints nothing would move for a minute.
    let deaf = RelayConfig { poll: Duration::from_secs(60), ..config() };
    let _leader = start(&store, broker.clone(), deaf);
    append_to(&store, id()).await;
    drained(&store).await;
    append_to(&store, id()).await;
    drained(&store).await;

    let elsewhere = store_at(&url, 2).await;
    let _follower = start(&elsewhere, broker.clone(), deaf);
    append_to(&elsewhere, id()).await;
    drained(&store).await;
    assert_eq!(broker.len(), 3);
}

#[tokio::test]
async fn a_refused_record_holds_its_key_and_no_other() {
    let (_, store) = store().await;
    let (refused, other) = (id(), id());
    for _ in 0..4 {
        append_to(&store, refused).await;
        append_to(&store, other).await;
    }
    let broker = Broker::default();
    broker.refusals.lock().unwrap().insert((refused, 2), 3);
    let _relay = start(&store, broker.clone(), RelayConfig { batch_rows: 1, ..config() });
    drained(&store).await;
    assert_eq!(broker.sequences(other), [1, 2, 3, 4]);
    let mut first_seen = broker.sequences(refused);
    // With batches of one, later rows were under way when the refusal came; they went out again.
    let repeated = first_seen.split_off(first_seen.len() - 3);
    assert_eq!(repeated, [2, 3, 4]);
    assert_eq!(broker.refusals.lock().unwrap()[&(refused, 2)], 0, "nothing was refused");
}

#[tokio::test]
async fn a_backlog_larger_than_a_pass_is_relayed_once_and_in_order() {
    let (_, store) = store().await;
    let streams: Vec<Uuid> = (0..50).map(|_| id()).collect();
    for _ in 0..4 {
        let mut session = store.begin().await.unwrap();
        let appends = streams.iter().map(|stream| {
            let mut append = append(*stream, Expected::Any);
            append.events = (0..25).map(|_| event("{}")).collect();
            append
        });
        session.append(appends.collect()).await.unwrap();
        session.commit().await.unwrap();
    }
    assert_eq!(backlog(&store).await, 5_000);
    let broker = Broker::default();
    let narrow = RelayConfig { batch_rows: 100, pass_rows: 700, window_rows: 300, ..config() };
    let _relay = start(&store, broker.clone(), narrow);
    drained(&store).await;
    for stream in streams {
        assert_eq!(broker.sequences(stream), (1..=100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_soft_stop_waits_for_what_is_under_way() {
    let (_, store) = store().await;
    let broker = Broker::default();
    let mut relay = start(&store, broker.clone(), config());
    for _ in 0..200 {
        append_to(&store, id()).await;
    }
    until("the relay is at work", async || broker.len() > 0).await;
    relay.stopping.cancel();
    (&mut relay.task).await.unwrap().unwrap();
    assert_eq!(i64::try_from(broker.len()).unwrap() + backlog(&store).await, 200);
}

/// A relay in a process of its own, which appends what it publishes to a file: a broker that
/// outlives its clients.
struct Process {
    child: Child,
    published: PathBuf,
    faults: PathBuf,
}

const CHILD_URL: &str = "ASSENT_TEST_RELAY_URL";
const CHILD_FILE: &str = "ASSENT_TEST_RELAY_FILE";

impl Process {
    fn start(url: &str, fault: &str) -> Self {
        let directory = std::env::temp_dir().join(harness::unique("assent-relay"));
        std::fs::create_dir_all(&directory).unwrap();
        let (published, faults) = (directory.join("published"), directory.join("faults"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "relay::as_a_process_of_its_own", "--nocapture"])
            .env(CHILD_URL, url)
            .env(CHILD_FILE, &published)
            .env("ASSENT_FAILPOINTS", fault)
            .env("ASSENT_FAILPOINTS_LOG", &faults)
            .spawn()
            .unwrap();
        Self { child, published, faults }
    }

    fn published(&self) -> Vec<(Uuid, i64)> {
        let lines = std::fs::read_to_string(&self.published).unwrap_or_default();
        lines
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(key, sequence)| (key.parse().unwrap(), sequence.parse().unwrap()))
            .collect()
    }

    /// The proof that the fault happened, in this process.
    async fn faulted(&self, point: &str) {
        let line = format!("{point} {}", self.child.id());
        until("the fault has happened", async || {
            std::fs::read_to_string(&self.faults).unwrap_or_default().contains(&line)
        })
        .await;
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        #[expect(unsafe_code, reason = "there is no safe kill(2) in std")]
        // SAFETY: a plain system call on the pid of our own child.
        let outcome = unsafe { libc::kill(pid, signal) };
        assert_eq!(outcome, 0);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

struct FileBroker(Mutex<std::fs::File>);

impl FileBroker {
    fn open(path: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        Self(Mutex::new(file.unwrap()))
    }
}

impl Publisher for FileBroker {
    async fn publish(&self, records: &[OutboxRecord]) -> Delivery {
        let lines: String = records
            .iter()
            .map(|record| format!("{} {}\n", record.key, record.sequence.unwrap_or(0)))
            .collect();
        self.0.lock().unwrap().write_all(lines.as_bytes()).unwrap();
        let outcomes = vec![Ok(()); records.len()];
        Box::pin(async move { outcomes })
    }
}

/// Not a test of its own: what [`Process`] runs. Without the environment of one it does nothing.
#[tokio::test]
async fn as_a_process_of_its_own() {
    let (Ok(url), Ok(file)) = (std::env::var(CHILD_URL), std::env::var(CHILD_FILE)) else { return };
    let store = store_at(&url, 2).await;
    let broker = FileBroker::open(Path::new(&file));
    // A short lease: the one that is frozen must lose it.
    let config = RelayConfig { lease: Duration::from_secs(1), ..config() };
    relay::run(store, broker, config, CancellationToken::new()).await.unwrap();
}

/// What a consumer keeps that drops every sequence it has seen: it must not find a hole.
fn without_duplicates(log: impl IntoIterator<Item = (Uuid, i64)>) -> HashMap<Uuid, i64> {
    let mut last = HashMap::new();
    for (key, sequence) in log {
        let last = last.entry(key).or_insert(0);
        if sequence > *last {
            assert_eq!(sequence, *last + 1, "a hole before {sequence} of {key}");
            *last = sequence;
        }
    }
    last
}

async fn three_streams_of_five(store: &EventStore) -> HashMap<Uuid, i64> {
    let streams: Vec<Uuid> = (0..3).map(|_| id()).collect();
    for stream in streams.iter().cycle().take(15) {
        append_to(store, *stream).await;
    }
    streams.into_iter().map(|stream| (stream, 5)).collect()
}

#[tokio::test]
async fn a_kill_between_commit_and_publish_loses_nothing() {
    let (url, store) = store().await;
    let all = three_streams_of_five(&store).await;
    let killed = Process::start(&url, "relay.before_publish=kill");
    killed.faulted("relay.before_publish").await;
    assert!(killed.published().is_empty());
    assert_eq!(backlog(&store).await, 15);
    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    drained(&store).await;
    assert_eq!(broker.len(), 15);
    assert_eq!(without_duplicates(broker.log.lock().unwrap().iter().copied()), all);
}

#[tokio::test]
async fn a_kill_between_publish_and_delete_only_duplicates() {
    let (url, store) = store().await;
    let all = three_streams_of_five(&store).await;
    let killed = Process::start(&url, "relay.after_publish=kill");
    killed.faulted("relay.after_publish").await;
    let mut log = killed.published();
    assert_eq!((log.len(), backlog(&store).await), (15, 15));
    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    drained(&store).await;
    log.extend(broker.log.lock().unwrap().iter());
    assert_eq!((log.len(), without_duplicates(log)), (30, all));
}

#[tokio::test]
async fn a_leader_frozen_past_its_lease_is_replaced_and_only_duplicates_when_it_wakes() {
    let (url, store) = store().await;
    let mut all = three_streams_of_five(&store).await;
    let frozen = Process::start(&url, "relay.before_publish=stop*1");
    frozen.faulted("relay.before_publish").await;
    assert_eq!(backlog(&store).await, 15);

    let broker = Broker::default();
    let _relay = start(&store, broker.clone(), config());
    drained(&store).await;
    let later: Vec<Uuid> = all.keys().copied().collect();
    for stream in later {
        append_to(&store, stream).await;
        all.insert(stream, 6);
    }
    drained(&store).await;
    let mut log = broker.log.lock().unwrap().clone();
    assert_eq!((log.len(), without_duplicates(log.iter().copied())), (18, all.clone()));

    frozen.signal(libc::SIGCONT);
    until("the deposed leader has sent what it held", async || frozen.published().len() == 15)
        .await;
    // What it sends late comes after all of this in the topic.
    log.extend(frozen.published());
    assert_eq!(without_duplicates(log), all);

    // And it has learnt that it doesn't lead any more: one of the two publishes. (On a starved machine
    // the lease may pass once more, and with it a row twice.)
    until("only one of them publishes", async || {
        let before = frozen.published().len() + broker.len();
        append_to(&store, id()).await;
        drained(&store).await;
        frozen.published().len() + broker.len() == before + 1
    })
    .await;
}
