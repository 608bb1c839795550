//! Group commit: commands that arrive together share one transaction and one COMMIT, but not their
//! fate. While a transaction is quick it is the only one, so that those who come meanwhile share
//! the next, and while many come, a little is waited for them to gather; one that hangs on a lock
//! doesn't keep the others. It guarantees that a command runs to its end even if its caller goes away, that a failure
//! touches only the command that caused it, and that no two commands of a batch meet in a stream or
//! an idempotency key; what a command does is left to its [`BatchHandler`].

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{EventStore, Idempotency, Session, StoreError};

/// For how long a transaction is left alone; then another may begin beside it.
const ALONE: Duration = Duration::from_millis(25);
/// After a batch of so many commands as many are about to come again.
const MANY: usize = 8;
/// For how long they are let gather, at most.
const GATHER: Duration = Duration::from_millis(2);
/// How often a command that failed for no fault of its own is tried alone.
const ATTEMPTS_ALONE: usize = 3;

/// What a service does with the commands of a batch.
pub trait BatchHandler: Send + Sync + 'static {
    /// A command, with all that deciding needs: time, ids, trace context.
    type Command: Send + Sync + 'static;
    /// The answer to a command that was carried out.
    type Answer: Send + 'static;
    /// Why a command was refused or failed.
    type Error: From<StoreError> + Send + 'static;

    /// The streams that `command` will lock and the idempotency key that it carries.
    fn footprint(&self, command: &Self::Command) -> Footprint;

    /// Handles `commands` in `session` without committing it: lock all their streams, look for
    /// first answers, decide each, append all. The outcomes are in the order of the commands; a
    /// refusal is an `Err` there, which lets the others be committed.
    ///
    /// May be called again for the same command: after a failed batch each is handled alone. So it
    /// must have no effect outside the session.
    ///
    /// # Errors
    /// When the transaction can't go on.
    fn handle(
        &self,
        session: &mut Session,
        commands: &[Self::Command],
    ) -> impl Future<Output = Result<Outcomes<Self::Answer, Self::Error>, StoreError>> + Send;
}

/// What became of the commands of a batch, in their order.
pub type Outcomes<A, E> = Vec<Result<A, E>>;

/// What commands of one batch must not share.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    /// The streams that the command locks.
    pub streams: Vec<Uuid>,
    /// Its idempotency key.
    pub idempotency: Option<Idempotency>,
}

/// The limits of a batcher.
#[derive(Debug, Clone, Copy)]
pub struct BatcherConfig {
    /// Most commands in one transaction.
    pub max_batch: usize,
    /// Transactions at the same time; each holds a connection.
    pub workers: usize,
    /// Commands that may wait; beyond that they are refused ([`StoreError::Overloaded`]).
    pub queue: usize,
}

impl Default for BatcherConfig {
    fn default() -> Self {
        Self { max_batch: 256, workers: 2, queue: 4096 }
    }
}

struct Submitted<H: BatchHandler> {
    command: H::Command,
    answer: oneshot::Sender<Result<H::Answer, H::Error>>,
}

/// The way to the workers. Cheap to clone; when the last clone is dropped, the workers finish what
/// was submitted and end.
pub struct Batcher<H: BatchHandler> {
    queue: mpsc::Sender<Submitted<H>>,
}

impl<H: BatchHandler> Clone for Batcher<H> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<H: BatchHandler> std::fmt::Debug for Batcher<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").field("free", &self.queue.capacity()).finish_non_exhaustive()
    }
}

impl<H: BatchHandler> Batcher<H> {
    /// Starts the workers of `config` on the current runtime.
    #[must_use]
    pub fn start(store: EventStore, handler: H, config: BatcherConfig) -> Self {
        let (queue, commands) = mpsc::channel(config.queue.max(1));
        let handler = Arc::new(handler);
        let turns = Arc::new(Mutex::new(Turn { commands, likely: 0 }));
        for _ in 0..config.workers.max(1) {
            let worker = Worker {
                store: store.clone(),
                handler: Arc::clone(&handler),
                turns: Arc::clone(&turns),
                max_batch: config.max_batch.max(1),
                waiting: Vec::new(),
            };
            tokio::spawn(worker.run());
        }
        Self { queue }
    }

    /// Runs `command` and waits for its durable outcome. Once submitted it runs to its end, also
    /// when this future is dropped.
    ///
    /// # Errors
    /// The handler's refusal, or a [`StoreError`]: [`StoreError::Overloaded`] when too many wait.
    pub async fn run(&self, command: H::Command) -> Result<H::Answer, H::Error> {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(Submitted { command, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Stopped,
        })?;
        outcome.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
    }

    /// Runs `commands` beside each other; the outcomes are in their order. One's failure is its own.
    pub async fn run_each(
        &self,
        commands: impl IntoIterator<Item = H::Command>,
    ) -> Outcomes<H::Answer, H::Error> {
        join_all(commands.into_iter().map(|command| self.run(command))).await
    }
}

/// Whoever holds it takes the next batch.
struct Turn<H: BatchHandler> {
    commands: mpsc::Receiver<Submitted<H>>,
    /// How many commands are likely to come soon: those of the last batch, whose callers have just
    /// been answered, and those that came meanwhile.
    likely: usize,
}

struct Worker<H: BatchHandler> {
    store: EventStore,
    handler: Arc<H>,
    turns: Arc<Mutex<Turn<H>>>,
    max_batch: usize,
    /// Taken from the queue, but in the way of another of their batch.
    waiting: Vec<Submitted<H>>,
}

impl<H: BatchHandler> Worker<H> {
    async fn run(mut self) {
        let turns = Arc::clone(&self.turns);
        loop {
            let taken =
                if self.waiting.is_empty() { Ok(turns.lock().await) } else { turns.try_lock() };
            let Ok(mut turn) = taken else {
                // Whoever has the turn may be waiting for commands that never come.
                let batch = self.take_batch();
                self.carry_out(batch).await;
                continue;
            };
            if !self.fill(&mut turn).await {
                return;
            }
            let batch = self.take_batch();
            turn.likely = batch.len();
            let mut work = pin!(self.carry_out(batch));
            let is_done = timeout(ALONE, work.as_mut()).await.is_ok();
            turn.likely += turn.commands.len() + self.waiting.len();
            drop(turn);
            if !is_done {
                work.await;
            }
        }
    }

    /// Waits for a command, and while many come, for about as many as are likely; `false` when
    /// there is none and never will be.
    async fn fill(&mut self, turn: &mut Turn<H>) -> bool {
        let room = |waiting: &Vec<_>| self.max_batch.saturating_sub(waiting.len());
        let waiting = &mut self.waiting;
        if waiting.is_empty() {
            turn.commands.recv_many(waiting, room(waiting)).await;
        }
        let wanted = if turn.likely < MANY { 0 } else { turn.likely };
        let gathered = async {
            while waiting.len() < wanted
                && turn.commands.recv_many(waiting, room(waiting)).await > 0
            {}
        };
        let _ = timeout(GATHER, gathered).await;
        while waiting.len() < self.max_batch
            && let Ok(command) = turn.commands.try_recv()
        {
            waiting.push(command);
        }
        !waiting.is_empty()
    }

    /// The waiting commands that don't meet, oldest first. One that meets another also holds its
    /// own streams, so that commands of one stream keep their order.
    fn take_batch(&mut self) -> Vec<Submitted<H>> {
        let mut taken = Footprints::default();
        let (batch, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|submitted| taken.claim(self.handler.footprint(&submitted.command)));
        self.waiting = waiting;
        batch
    }

    async fn carry_out(&self, batch: Vec<Submitted<H>>) {
        let (commands, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|submitted| (submitted.command, submitted.answer)).unzip();
        match self.attempt(&commands).await {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // Nobody may be waiting any more.
                    let _ = answer.send(outcome);
                }
            }
            Err(StoreError::Unknown(error)) => {
                tracing::error!(%error, commands = commands.len(), "a commit's outcome is unknown");
                for answer in answers {
                    let error = StoreError::Unknown(sqlx::Error::WorkerCrashed);
                    let _ = answer.send(Err(error.into()));
                }
            }
            Err(error) => {
                tracing::debug!(%error, commands = commands.len(), "a batch failed: each alone");
                for (command, answer) in commands.iter().zip(answers) {
                    let _ = answer.send(self.alone(command).await);
                }
            }
        }
    }

    async fn alone(&self, command: &H::Command) -> Result<H::Answer, H::Error> {
        let mut attempt = 1;
        loop {
            match self.attempt(std::slice::from_ref(command)).await {
                Ok(mut outcomes) => {
                    return outcomes.pop().unwrap_or_else(|| Err(StoreError::Stopped.into()));
                }
                Err(error) if error.is_transient() && attempt < ATTEMPTS_ALONE => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// All `commands` in one transaction, committed.
    async fn attempt(
        &self,
        commands: &[H::Command],
    ) -> Result<Vec<Result<H::Answer, H::Error>>, StoreError> {
        let mut session = self.store.begin().await?;
        let handled = AssertUnwindSafe(self.handler.handle(&mut session, commands)).catch_unwind();
        let outcomes = match handled.await {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(error)) => {
                session.rollback().await.ok();
                return Err(error);
            }
            Err(_panic) => {
                tracing::error!(commands = commands.len(), "a command handler panicked");
                session.rollback().await.ok();
                return Err(StoreError::Stopped);
            }
        };
        if outcomes.len() != commands.len() {
            tracing::error!("a command handler answered not as many commands as it got");
            session.rollback().await.ok();
            return Err(StoreError::Stopped);
        }
        session.commit().await?;
        Ok(outcomes)
    }
}

/// What the commands of a batch hold together.
#[derive(Default)]
struct Footprints {
    streams: HashSet<Uuid>,
    keys: HashSet<[u8; 32]>,
}

impl Footprints {
    /// Whether `footprint` meets none of those before; it is held in either case.
    fn claim(&mut self, footprint: Footprint) -> bool {
        let mut free = true;
        for stream in footprint.streams {
            free &= self.streams.insert(stream);
        }
        if let Some(key) = footprint.idempotency {
            free &= self.keys.insert(key.key_hash);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(streams: &[u128]) -> Footprint {
        Footprint {
            streams: streams.iter().copied().map(Uuid::from_u128).collect(),
            idempotency: None,
        }
    }

    #[test]
    fn commands_of_one_stream_do_not_share_a_batch() {
        let mut taken = Footprints::default();
        assert!(taken.claim(footprint(&[1])));
        assert!(taken.claim(footprint(&[2])));
        assert!(!taken.claim(footprint(&[1])));
    }

    #[test]
    fn a_waiting_command_is_not_overtaken_in_its_other_streams() {
        let mut taken = Footprints::default();
        assert!(taken.claim(footprint(&[1])));
        assert!(!taken.claim(footprint(&[1, 2])));
        assert!(!taken.claim(footprint(&[2])));
    }

    #[test]
    fn a_repeated_idempotency_key_waits_for_the_first_answer() {
        let key = Idempotency { key_hash: [7; 32], body_hash: [1; 32] };
        let mut taken = Footprints::default();
        let with_key = |stream| Footprint { idempotency: Some(key), ..footprint(&[stream]) };
        assert!(taken.claim(with_key(1)));
        assert!(!taken.claim(with_key(2)));
    }
}
