//! The event store's promises on real Postgres: versions, first answers, one commit without one
//! fate, callers that go away, a connection cut between COMMIT and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use assent_contracts::topics;
use assent_eventstore::batcher::{BatchHandler, Batcher, BatcherConfig, Footprint};
use assent_eventstore::{
    Append, EventStore, Expected, FirstAnswer, Idempotency, Message, NewEvent, Session,
    StateRecord, StoreError,
};
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use uuid::Uuid;

use assent_tests::harness;

const HAPPENED: &str = "assent.test.happened.v1";
const SECRET: &[u8] = b"the idempotency secret of the tests";

pub async fn store_at(url: &str, connections: u32) -> EventStore {
    let pool = assent_eventstore::connect(url, connections).await.expect("the database answers");
    assent_eventstore::schema::migrate(&pool, [assent_eventstore::migrator()])
        .await
        .expect("the migrations apply");
    EventStore::new(pool, SECRET)
}

async fn store(connections: u32) -> EventStore {
    store_at(&harness::database_url("es").await, connections).await
}

pub fn id() -> Uuid {
    SystemIds.v7()
}

pub fn event(data: &str) -> NewEvent {
    let data = RawValue::from_string(data.to_owned()).expect("the test writes JSON");
    NewEvent { id: id(), event_type: HAPPENED, data }
}

/// One event for `stream`.
pub fn append(stream: Uuid, expected: Expected) -> Append {
    let now = SystemClock.now();
    Append::new(stream, expected, topics::CONSENT_EVENTS, vec![event(r#"{"n":1}"#)], now)
}

async fn count(store: &EventStore, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.expect("the count is given")
}

/// Waits until `reached` holds; panics after 40 seconds.
pub async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let give_up = SystemClock.boottime() + Duration::from_secs(40);
    while SystemClock.boottime() < give_up {
        if reached().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not reached within 40 seconds: {what}");
}

#[tokio::test]
async fn an_append_at_another_version_is_a_conflict_and_writes_nothing() {
    let store = store(2).await;
    let stream = id();
    assert_eq!(store.append(append(stream, Expected::Exact(0))).await.unwrap().version, 1);
    let error = store.append(append(stream, Expected::Exact(0))).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { expected: 0, actual: 1, .. }), "{error:?}");
    assert_eq!(store.load(stream, 0, 10).await.unwrap().len(), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM eventstore.outbox").await, 1);
}

#[tokio::test]
async fn of_many_appends_that_expect_one_version_exactly_one_happens() {
    let store = store(8).await;
    let stream = id();
    let tries = (0..32).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.append(append(stream, Expected::Exact(0))).await })
    });
    let mut happened = 0;
    for outcome in tries.collect::<Vec<_>>() {
        match outcome.await.unwrap() {
            Ok(_) => happened += 1,
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => panic!("neither appended nor refused: {error:?}"),
        }
    }
    assert_eq!(happened, 1);
    assert_eq!(store.load(stream, 0, 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn versions_of_a_stream_have_no_holes_whoever_appends() {
    let store = store(8).await;
    let stream = id();
    let tries = (0..40).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.append(append(stream, Expected::Any)).await.unwrap() })
    });
    let mut versions = Vec::new();
    for outcome in tries.collect::<Vec<_>>() {
        versions.push(outcome.await.unwrap().version);
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_stream_is_loaded_page_by_page() {
    let store = store(2).await;
    let stream = id();
    let mut long = append(stream, Expected::Exact(0));
    long.events = (1..=250).map(|n| event(&format!(r#"{{"n":{n}}}"#))).collect();
    store.append(long).await.unwrap();
    store.append(append(id(), Expected::Any)).await.unwrap();

    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let after = seen.last().copied().unwrap_or(0);
        let page = store.load(stream, after, 100).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.iter().all(|event| event.stream == stream));
        seen.extend(page.iter().map(|event| event.version));
        pages += 1;
    }
    assert_eq!((pages, seen), (3, (1..=250).collect::<Vec<_>>()));
}

#[tokio::test]
async fn the_bytes_of_an_event_are_kept() {
    let store = store(2).await;
    let stream = id();
    // What jsonb would change: order, duplicates, spaces, escapes, the form of numbers.
    let data = r#"{"b": 1.50,  "a":"\u00e9é", "b":2e0}"#;
    let mut odd = append(stream, Expected::Any);
    odd.events = vec![event(data)];
    store.append(odd).await.unwrap();
    assert_eq!(store.load(stream, 0, 1).await.unwrap()[0].data, data);
    let payload: Vec<u8> = sqlx::query_scalar("SELECT payload FROM eventstore.outbox")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(payload, data.as_bytes());
}

#[tokio::test]
async fn a_state_record_carries_the_last_event_sequence_that_it_reflects() {
    let store = store(2).await;
    let stream = id();
    let data = RawValue::from_string("{}".to_owned()).unwrap();
    let mut with_state = append(stream, Expected::Any);
    with_state.events.push(event("{}"));
    with_state.state = Some(StateRecord {
        id: id(),
        topic: topics::CONSENT_STATE,
        event_type: "assent.consent.state.v1",
        data: Some(data),
    });
    store.append(with_state).await.unwrap();
    let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(
        "SELECT topic, sequence, event_sequence FROM eventstore.outbox ORDER BY topic, sequence",
    )
    .fetch_all(store.pool())
    .await
    .unwrap();
    let (events, state) = (topics::CONSENT_EVENTS.suffix, topics::CONSENT_STATE.suffix);
    assert_eq!(
        rows,
        [(events.into(), 1, None), (events.into(), 2, None), (state.into(), 2, Some(2))]
    );
}

#[tokio::test]
async fn messages_to_other_services_share_the_transaction() {
    let store = store(2).await;
    let message = |key| Message {
        id: id(),
        topic: topics::ERASURE_COMMANDS,
        key,
        event_type: "assent.erasure.fence.v1",
        data: RawValue::from_string("{}".to_owned()).unwrap(),
        at: SystemClock.now(),
        traceparent: None,
    };
    let mut session = store.begin().await.unwrap();
    session.enqueue(vec![message(id())]).await.unwrap();
    session.rollback().await.unwrap();
    assert_eq!(store.backlog(10).await.unwrap(), 0);
    let mut session = store.begin().await.unwrap();
    session.enqueue(vec![message(id()), message(id())]).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(store.backlog(10).await.unwrap(), 2);
}

#[tokio::test]
async fn a_repeated_idempotency_key_gives_the_first_answer() {
    let store = store(8).await;
    let stream = id();
    let with_key = || {
        let key = store.idempotency("crm", "order-1", b"{}");
        Append { idempotency: Some(key), ..append(stream, Expected::Any) }
    };
    let first = store.append(with_key()).await.unwrap();
    store.append(append(stream, Expected::Any)).await.unwrap();
    assert_eq!(store.append(with_key()).await.unwrap(), first);
    assert_eq!(store.load(stream, 0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn repeats_that_race_for_different_streams_append_once() {
    let store = store(8).await;
    let key = store.idempotency("crm", "order-1", b"{}");
    // Different streams, so that no lock but that of the key can keep them apart.
    let tries = (0..16).map(|_| {
        let store = store.clone();
        let racing = Append { idempotency: Some(key), ..append(id(), Expected::Any) };
        tokio::spawn(async move { store.append(racing).await.unwrap() })
    });
    let mut answers = Vec::new();
    for outcome in tries.collect::<Vec<_>>() {
        answers.push(outcome.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(count(&store, "SELECT count(*) FROM eventstore.events").await, 1);
}

#[tokio::test]
async fn an_idempotency_key_with_another_body_is_refused() {
    let store = store(2).await;
    let stream = id();
    let with_body = |body: &[u8]| Append {
        idempotency: Some(store.idempotency("crm", "order-1", body)),
        ..append(stream, Expected::Any)
    };
    store.append(with_body(b"one")).await.unwrap();
    let error = store.append(with_body(b"other")).await.unwrap_err();
    assert!(matches!(error, StoreError::KeyReused), "{error:?}");
    assert_eq!(store.load(stream, 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn first_answers_are_kept_seven_days_and_hold_no_plaintext() {
    let store = store(2).await;
    let key = store.idempotency("crm", "+33612345678", b"+33612345678");
    let now = SystemClock.now();
    let with_key = Append { idempotency: Some(key), ..append(id(), Expected::Any) };
    store.append(with_key).await.unwrap();
    let kept: String = sqlx::query_scalar(
        "SELECT encode(key_hash, 'escape') || encode(body_hash, 'escape') FROM eventstore.idempotency_keys",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert!(!kept.contains("612345678"));

    let days = |n: i64| jiff::SignedDuration::from_hours(24 * n);
    assert_eq!(store.clean(now + days(6)).await.unwrap(), 0);
    assert_eq!(store.clean(now + days(8)).await.unwrap(), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM eventstore.idempotency_keys").await, 0);
}

#[tokio::test]
async fn a_commit_after_a_failed_statement_is_not_called_a_success() {
    let store = store(2).await;
    let stream = id();
    let mut session = store.begin().await.unwrap();
    session.append(vec![append(stream, Expected::Any)]).await.unwrap();
    // The service swallows the failure of its own statement: Postgres would answer COMMIT with a
    // silent rollback.
    sqlx::query("SELECT 1 / 0").execute(session.conn()).await.unwrap_err();
    session.commit().await.unwrap_err();
    assert!(store.load(stream, 0, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_is_locked_before_it_has_events() {
    let store = store(3).await;
    let stream = id();
    let mut first = store.begin().await.unwrap();
    assert_eq!(first.lock(&[stream, stream]).await.unwrap()[&stream].version, 0);
    let second = tokio::spawn({
        let store = store.clone();
        async move { store.append(append(stream, Expected::Any)).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until("the second waits", async || count(&store, waiting).await == 1).await;
    first.append(vec![append(stream, Expected::Exact(0))]).await.unwrap();
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap().unwrap().version, 2);
}

/// Appends one event per command. What else it does is said by the command.
struct TestHandler {
    began: Arc<AtomicUsize>,
    /// Each call takes a permit; without one it stands in the middle of its transaction.
    gate: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
struct Command {
    stream: Uuid,
    fault: Option<Fault>,
    key: Option<Idempotency>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Sql,
    Panic,
    Refused,
}

#[derive(Debug)]
enum TestError {
    Refused,
    Store(StoreError),
}

impl From<StoreError> for TestError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl BatchHandler for TestHandler {
    type Command = Command;
    type Answer = i64;
    type Error = TestError;

    fn footprint(&self, command: &Command) -> Footprint {
        Footprint { streams: vec![command.stream], idempotency: command.key }
    }

    async fn handle(
        &self,
        session: &mut Session,
        commands: &[Command],
    ) -> Result<Vec<Result<i64, TestError>>, StoreError> {
        self.began.fetch_add(1, Ordering::SeqCst);
        let streams: Vec<Uuid> = commands.iter().map(|command| command.stream).collect();
        let locked = session.lock(&streams).await?;
        self.gate.acquire().await.expect("the gate is never closed").forget();
        let keys: Vec<Idempotency> = commands.iter().filter_map(|command| command.key).collect();
        let mut firsts = session.first_answers(&keys).await?.into_iter();
        let (mut appends, mut outcomes) = (Vec::new(), Vec::new());
        for command in commands {
            match command.fault {
                Some(Fault::Panic) => panic!("injected"),
                Some(Fault::Refused) => {
                    outcomes.push(Err(TestError::Refused));
                    continue;
                }
                Some(Fault::Sql) => {
                    sqlx::query("SELECT 1 / 0").execute(session.conn()).await?;
                }
                None => {}
            }
            if command.key.is_some()
                && let Some(FirstAnswer { version, .. }) = firsts.next().expect("one per key")?
            {
                outcomes.push(Ok(version));
                continue;
            }
            let version = locked[&command.stream].version;
            let append = append(command.stream, Expected::Exact(version));
            appends.push(Append { idempotency: command.key, ..append });
            outcomes.push(Ok(version + 1));
        }
        session.append(appends).await?;
        Ok(outcomes)
    }
}

struct Batching {
    store: EventStore,
    batcher: Batcher<TestHandler>,
    began: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

async fn batching(connections: u32, workers: usize) -> Batching {
    let store = store(connections).await;
    let (began, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let handler = TestHandler { began: Arc::clone(&began), gate: Arc::clone(&gate) };
    let config = BatcherConfig { workers, ..BatcherConfig::default() };
    Batching { batcher: Batcher::start(store.clone(), handler, config), store, began, gate }
}

impl Batching {
    fn submit(&self, command: Command) -> tokio::task::JoinHandle<Result<i64, TestError>> {
        let batcher = self.batcher.clone();
        tokio::spawn(async move { batcher.run(command).await })
    }

    /// Occupies the only worker, so that what is submitted from now on waits and arrives together.
    async fn occupy(&self) -> tokio::task::JoinHandle<Result<i64, TestError>> {
        let first = self.submit(plain());
        until("the worker is busy", async || self.began.load(Ordering::SeqCst) == 1).await;
        first
    }

    async fn submitted(&self, count: usize) {
        let free = format!("{:?}", BatcherConfig::default().queue - count);
        until("all commands wait", async || format!("{:?}", self.batcher).contains(&free)).await;
    }
}

fn plain() -> Command {
    Command { stream: id(), fault: None, key: None }
}

#[tokio::test]
async fn commands_that_arrive_together_share_one_commit() {
    let batching = batching(2, 1).await;
    let first = batching.occupy().await;
    let others: Vec<_> = (0..20).map(|_| batching.submit(plain())).collect();
    batching.submitted(20).await;
    batching.gate.add_permits(2);
    first.await.unwrap().unwrap();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), 1);
    }
    let transactions = "SELECT count(DISTINCT xmin::text) FROM eventstore.events";
    assert_eq!(count(&batching.store, transactions).await, 2);
    assert_eq!(count(&batching.store, "SELECT count(*) FROM eventstore.events").await, 21);
}

#[tokio::test]
async fn a_transaction_that_hangs_does_not_keep_the_next() {
    let batching = batching(4, 2).await;
    let hanging = batching.occupy().await;
    let next = batching.submit(plain());
    until("the next has begun", async || batching.began.load(Ordering::SeqCst) == 2).await;
    assert!(!hanging.is_finished());
    batching.gate.add_permits(2);
    assert_eq!(next.await.unwrap().unwrap(), 1);
    assert_eq!(hanging.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_shared_commit_is_not_a_shared_fate() {
    for fault in [Fault::Sql, Fault::Panic, Fault::Refused] {
        let batching = batching(2, 1).await;
        let first = batching.occupy().await;
        let good: Vec<_> = (0..10).map(|_| batching.submit(plain())).collect();
        let bad = batching.submit(Command { fault: Some(fault), ..plain() });
        batching.submitted(11).await;
        batching.gate.add_permits(100);
        first.await.unwrap().unwrap();
        for command in good {
            assert_eq!(command.await.unwrap().unwrap(), 1);
        }
        match (fault, bad.await.unwrap().unwrap_err()) {
            (Fault::Sql, TestError::Store(StoreError::Database(_)))
            | (Fault::Panic, TestError::Store(StoreError::Stopped))
            | (Fault::Refused, TestError::Refused) => {}
            (_, error) => panic!("another outcome than the injected fault: {error:?}"),
        }
        assert_eq!(count(&batching.store, "SELECT count(*) FROM eventstore.events").await, 11);
    }
}

#[tokio::test]
async fn commands_of_one_stream_or_one_key_are_handled_one_after_the_other() {
    let batching = batching(4, 1).await;
    let first = batching.occupy().await;
    let stream = id();
    let of_one_stream: Vec<_> =
        (0..5).map(|_| batching.submit(Command { stream, ..plain() })).collect();
    let key = Some(batching.store.idempotency("crm", "k", b"{}"));
    let of_one_key: Vec<_> = (0..5).map(|_| batching.submit(Command { key, ..plain() })).collect();
    batching.submitted(10).await;
    batching.gate.add_permits(100);
    first.await.unwrap().unwrap();
    let mut versions = Vec::new();
    for command in of_one_stream {
        versions.push(command.await.unwrap().unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
    for command in of_one_key {
        assert_eq!(command.await.unwrap().unwrap(), 1);
    }
    assert_eq!(count(&batching.store, "SELECT count(*) FROM eventstore.events").await, 1 + 5 + 1);
}

/// Both workers are idle, and nobody comes after: the second command must not wait for a third.
#[tokio::test]
async fn commands_that_meet_are_answered_although_nobody_comes_after_them() {
    let batching = batching(4, 2).await;
    batching.gate.add_permits(1_000);
    for round in 1..=20 {
        let stream = id();
        let both = [(); 2].map(|()| batching.submit(Command { stream, ..plain() }));
        for command in both {
            let answered = tokio::time::timeout(Duration::from_secs(20), command).await;
            answered.unwrap_or_else(|_| panic!("round {round}: never")).unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_neither_stops_its_command_nor_leaks_a_transaction() {
    // One connection: a leaked transaction would be met by the next user of the pool.
    let batching = batching(1, 1).await;
    let gone = batching.occupy().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    batching.gate.add_permits(1);
    until("the abandoned command is stored", async || {
        count(&batching.store, "SELECT count(*) FROM eventstore.events").await == 1
    })
    .await;

    // The same for appends of one's own, given up at every moment of their life.
    let store = &batching.store;
    let given_up = Arc::new(AtomicU64::new(0));
    for (before, micros) in (1..).zip((0..4_000).step_by(50)) {
        // None waits for the connection of another: the moments are those of its own life.
        until("the one before has happened", async || {
            count(store, "SELECT count(*) FROM eventstore.events").await == before
        })
        .await;
        let (store, given_up) = (store.clone(), Arc::clone(&given_up));
        let append = append(id(), Expected::Any);
        let appending = async move { store.append(append).await };
        if tokio::time::timeout(Duration::from_micros(micros), appending).await.is_err() {
            given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
    assert!(given_up.load(Ordering::SeqCst) > 0, "no append was given up");
    until("every append has happened all the same", async || {
        count(store, "SELECT count(*) FROM eventstore.events").await == 1 + 80
    })
    .await;
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(count(store, open).await, 0);
}

/// Stands between the store and Postgres and, once armed, cuts the connection at the next COMMIT:
/// before Postgres has seen it, or after Postgres has answered it.
struct Cutter {
    url: String,
    mode: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
}

const BEFORE_COMMIT: usize = 1;
const AFTER_COMMIT: usize = 2;

impl Cutter {
    async fn start(url: &str) -> Self {
        let (_, address) = url.rsplit_once('@').expect("the test's address names a user");
        let (server, database) = address.split_once('/').expect("and a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cutter = Self {
            url: url.replace(server, &format!("127.0.0.1:{port}")),
            mode: Arc::default(),
            cuts: Arc::default(),
        };
        assert!(cutter.url.ends_with(database));
        let (server, mode, cuts) =
            (server.to_owned(), Arc::clone(&cutter.mode), Arc::clone(&cutter.cuts));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(Self::forward(client, server, Arc::clone(&mode), Arc::clone(&cuts)));
            }
        });
        cutter
    }

    async fn forward(
        mut client: TcpStream,
        mut server: TcpStream,
        mode: Arc<AtomicUsize>,
        cuts: Arc<AtomicUsize>,
    ) {
        let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Ok(n @ 1..) = read else { return };
                    let commit = asked[..n].windows(7).any(|bytes| bytes == b"COMMIT\0");
                    let mode = if commit { mode.swap(0, Ordering::SeqCst) } else { 0 };
                    if mode == BEFORE_COMMIT {
                        cuts.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    if server.write_all(&asked[..n]).await.is_err() { return }
                    if mode == AFTER_COMMIT {
                        // The answer is awaited and not passed on.
                        let n = server.read(&mut answered).await.unwrap_or(0);
                        assert!(answered[..n].windows(7).any(|bytes| bytes == b"COMMIT\0"));
                        cuts.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
                read = server.read(&mut answered) => {
                    let Ok(n @ 1..) = read else { return };
                    if client.write_all(&answered[..n]).await.is_err() { return }
                }
            }
        }
    }

    fn arm(&self, mode: usize) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_cut_between_commit_and_its_answer_neither_loses_nor_doubles() {
    let url = harness::database_url("es").await;
    let direct = store_at(&url, 1).await;
    let cutter = Cutter::start(&url).await;
    let store = store_at(&cutter.url, 2).await;

    let stream = id();
    cutter.arm(AFTER_COMMIT);
    let appended = store.append(append(stream, Expected::Exact(0))).await.unwrap();
    assert_eq!(cutter.cuts(), 1, "the connection was not cut");
    let stored = direct.load(stream, 0, 10).await.unwrap();
    assert_eq!((stored.len(), stored[0].id), (1, appended.event_ids[0]));

    let stream = id();
    cutter.arm(BEFORE_COMMIT);
    store.append(append(stream, Expected::Exact(0))).await.unwrap_err();
    assert_eq!(cutter.cuts(), 2, "the connection was not cut");
    assert!(direct.load(stream, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_batcher_answers_each_command_once_through_a_cut_commit() {
    for mode in [BEFORE_COMMIT, AFTER_COMMIT] {
        let cutter = Cutter::start(&harness::database_url("es").await).await;
        let store = store_at(&cutter.url, 2).await;
        let gate = Arc::new(Semaphore::new(1_000));
        let handler = TestHandler { began: Arc::default(), gate };
        let batcher = Batcher::start(store.clone(), handler, BatcherConfig::default());
        cutter.arm(mode);
        let answers = (0..20).map(|_| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.run(plain()).await })
        });
        for answer in answers.collect::<Vec<_>>() {
            assert_eq!(answer.await.unwrap().unwrap(), 1);
        }
        assert_eq!(cutter.cuts(), 1, "the connection was not cut");
        assert_eq!(count(&store, "SELECT count(*) FROM eventstore.events").await, 20);
    }
}
