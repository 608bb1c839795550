//! The leader's loop: hands rows to the publisher while earlier ones are under way and deletes
//! exactly those that were delivered. It guarantees order per key under failures (with the
//! [holds](super::holds)); which rows there are and who leads is left to its neighbours.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use assent_runtime::failpoint;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use opentelemetry::metrics::Gauge;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::holds::{Fate, Holds};
use super::reader::{self, Limits, Read};
use super::{OutboxRecord, PublishError, Publisher, RelayConfig};

const DELETE: &str = "DELETE FROM eventstore.outbox WHERE id = ANY($1)";
/// Most ids in one DELETE.
const DELETE_MAX: usize = 20_000;
/// After a DELETE of fewer ids a pause lets them gather: each costs a commit, and nobody waits for
/// it.
const DELETE_FEW: usize = 200;
const DELETE_PAUSE: Duration = Duration::from_millis(50);
/// How long a soft stop waits for what is under way.
const DRAIN: Duration = Duration::from_secs(5);

type Answered = (Vec<OutboxRecord>, Vec<Result<(), PublishError>>);

pub(super) struct Pump<'a, P> {
    publisher: &'a P,
    config: &'a RelayConfig,
    wake: Arc<Notify>,
    started: Instant,

    passes: mpsc::Sender<()>,
    reads: mpsc::Receiver<Read>,
    reading: bool,
    /// There may be rows that no pass has met.
    due: bool,
    /// When the last pass began.
    pass_began: Instant,
    /// Before this no pass begins.
    next_pass: Instant,
    pass: u64,
    /// Rows of this pass that no pass before has met.
    pass_new: usize,

    /// Rows that a pass must not send: under way, or done since the pass took its snapshot.
    taken: HashSet<i64>,
    /// Of these, the ones that are done: the next pass may forget them.
    done: Vec<i64>,
    holds: Holds,
    held: Gauge<u64>,
    deliveries: FuturesOrdered<std::pin::Pin<Box<dyn Future<Output = Answered> + Send>>>,
    unanswered: usize,

    // Unbounded, as the window bounds what can be in them, and a bound of their own could lock
    // the pump and the deleter against each other.
    delete: mpsc::UnboundedSender<Vec<i64>>,
    deleted: mpsc::UnboundedReceiver<Result<Vec<i64>, sqlx::Error>>,
    undeleted: usize,
    /// Reader and deleter; they end with the pump.
    _tasks: JoinSet<()>,
}

impl<'a, P: Publisher> Pump<'a, P> {
    pub(super) async fn start(
        options: &PgConnectOptions,
        publisher: &'a P,
        config: &'a RelayConfig,
        wake: Arc<Notify>,
    ) -> Result<Self, sqlx::Error> {
        let mut tasks = JoinSet::new();
        let limits = Limits { pass_rows: config.pass_rows, batch_rows: config.batch_rows };
        let (passes, reads) = reader::start(options, limits, &mut tasks).await?;
        let (delete, ids) = mpsc::unbounded_channel();
        let (report, deleted) = mpsc::unbounded_channel();
        tasks.spawn(delete_all(reader::connect(options).await?, ids, report));
        Ok(Self {
            publisher,
            config,
            wake,
            started: Instant::now(),
            passes,
            reads,
            reading: false,
            due: true,
            pass_began: Instant::now(),
            next_pass: Instant::now(),
            pass: 0,
            pass_new: 0,
            taken: HashSet::new(),
            done: Vec::new(),
            holds: Holds::default(),
            held: opentelemetry::global::meter("assent")
                .u64_gauge("assent.outbox.held")
                .with_description("Keys held back behind a record that the broker refused")
                .with_unit("{key}")
                .build(),
            deliveries: FuturesOrdered::new(),
            unanswered: 0,
            delete,
            deleted,
            undeleted: 0,
            _tasks: tasks,
        })
    }

    pub(super) async fn run(mut self, stopping: &CancellationToken) -> Result<(), sqlx::Error> {
        let mut poll = tokio::time::interval(self.config.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A pass meets what is under way again, so it begins only when that is little.
        let little = self.config.window_rows / 8;
        let wake = Arc::clone(&self.wake);
        while !stopping.is_cancelled() {
            let may_begin = self.due && !self.reading && self.unanswered <= little;
            if may_begin && Instant::now() >= self.next_pass {
                self.begin_pass().await?;
                continue;
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                Some(answered) = self.deliveries.next() => self.settle(answered).await?,
                Some(deleted) = self.deleted.recv() => self.forget(deleted?),
                Some(read) = self.reads.recv(), if self.unanswered < self.config.window_rows => {
                    match read {
                        Read::Batch(batch) => {
                            // Waits while the publisher is full, which a stop must cut short.
                            stopping.run_until_cancelled(self.hand_over(batch)).await;
                        }
                        Read::End { more } => {
                            self.reading = false;
                            self.next_pass = self.pass_began + self.config.cadence.after(self.pass_new);
                            self.held.record(self.holds.len() as u64, &[]);
                            self.due |= more;
                        }
                        Read::Failed(error) => return Err(error),
                    }
                }
                () = tokio::time::sleep_until(self.next_pass), if may_begin => {}
                () = wake.notified(), if !self.due => self.due = true,
                _ = poll.tick() => self.due = true,
            }
        }
        let _ = tokio::time::timeout(DRAIN, self.drain()).await;
        Ok(())
    }

    async fn begin_pass(&mut self) -> Result<(), sqlx::Error> {
        failpoint::hit_async("relay.holding_lease").await;
        // What was deleted before this pass takes its snapshot can't be met by it.
        for id in self.done.drain(..) {
            self.taken.remove(&id);
        }
        self.holds.begin_pass();
        self.pass += 1;
        self.pass_new = 0;
        self.due = false;
        self.pass_began = Instant::now();
        self.reading = true;
        self.passes.send(()).await.map_err(|_| sqlx::Error::WorkerCrashed)
    }

    async fn hand_over(&mut self, mut batch: Vec<OutboxRecord>) {
        let now = self.started.elapsed();
        let (taken, holds, pass) = (&mut self.taken, &mut self.holds, self.pass);
        batch.retain(|record| {
            (holds.is_empty() || holds.lets_pass(record, pass, now)) && taken.insert(record.id)
        });
        self.pass_new += batch.len();
        if batch.is_empty() {
            return;
        }
        failpoint::hit_async("relay.before_publish").await;
        let delivery = self.publisher.publish(&batch).await;
        self.unanswered += batch.len();
        self.deliveries.push_back(Box::pin(async move { (batch, delivery.await) }));
    }

    /// Takes the broker's answers to one batch.
    async fn settle(&mut self, (batch, outcomes): Answered) -> Result<(), sqlx::Error> {
        self.unanswered -= batch.len();
        let retry_at = self.started.elapsed() + self.config.retry;
        let mut delivered = Vec::with_capacity(batch.len());
        let mut outcomes = outcomes.into_iter();
        for record in &batch {
            // A publisher that answers too little has not delivered the rest.
            let outcome = outcomes
                .next()
                .unwrap_or_else(|| Err(PublishError { reason: "unanswered".to_owned() }));
            if self.holds.is_empty() && outcome.is_ok() {
                delivered.push(record.id);
                continue;
            }
            if let Err(error) = &outcome {
                tracing::warn!(
                    reason = error.reason, topic = %record.topic, outbox_id = record.id,
                    "a record is held back"
                );
            }
            match self.holds.settle(record, outcome.is_ok(), self.pass, retry_at) {
                Fate::Delete => delivered.push(record.id),
                Fate::Keep => self.done.push(record.id),
            }
        }
        if delivered.is_empty() {
            return Ok(());
        }
        failpoint::hit_async("relay.after_publish").await;
        self.undeleted += delivered.len();
        self.delete.send(delivered).map_err(|_| sqlx::Error::WorkerCrashed)
    }

    fn forget(&mut self, deleted: Vec<i64>) {
        self.undeleted -= deleted.len();
        self.done.extend(deleted);
    }

    async fn drain(&mut self) -> Result<(), sqlx::Error> {
        while let Some(answered) = self.deliveries.next().await {
            self.settle(answered).await?;
        }
        while self.undeleted > 0 {
            let Some(deleted) = self.deleted.recv().await else { break };
            self.forget(deleted?);
        }
        Ok(())
    }
}

/// Deletes ids as they come, many in one statement, and reports them when that is durable.
async fn delete_all(
    mut conn: PgConnection,
    mut ids: mpsc::UnboundedReceiver<Vec<i64>>,
    report: mpsc::UnboundedSender<Result<Vec<i64>, sqlx::Error>>,
) {
    while let Some(mut batch) = ids.recv().await {
        while batch.len() < DELETE_MAX
            && let Ok(more) = ids.try_recv()
        {
            batch.extend(more);
        }
        let few = batch.len() < DELETE_FEW;
        let outcome = sqlx::query(DELETE).bind(&batch).execute(&mut conn).await;
        let failed = outcome.is_err();
        if report.send(outcome.map(|_| batch)).is_err() || failed {
            return;
        }
        if few {
            tokio::time::sleep(DELETE_PAUSE).await;
        }
    }
}
