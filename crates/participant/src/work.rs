//! Works off the commands that were heard. It guarantees that work and evidence
//! commit together, so that a command is done once however often it is tried, and that it stays
//! open until the saga has heard an answer that is younger than its last repeat. Replicas need no
//! claims: the row's lock keeps them from doing a step twice, and an answer may be given twice.
//!
//! Commands of the same step are done together, in one transaction, and answered together (`answer`). Who waits for
//! a lease to end holds no place and no connection: that is what many people's erasures have in common.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assent_bus::{BusConfig, consumer};
use assent_contracts::erasure::{Command, Evidence, Step};
use assent_eventstore::{EventStore, Session, StoreError};
use assent_http::{ClientError, ServiceClient};
use assent_runtime::{Clock, Health, LeaseTerms, Lifecycle, failpoint, settle};
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::types::Json;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::barrier::Consumed;
use crate::task::Task;
use crate::{Commands, Follows, Steps};

/// How often open commands are looked for when nothing announces them, and so how long one rests
/// that could not be done.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
/// How long one rests that waits for something that is nearly there.
const MOMENT: Duration = Duration::from_millis(50);
/// Most commands that are done in one transaction.
pub(crate) const BATCH: usize = 100;
/// Most transactions at once in one process.
const PLACES: usize = 4;
/// Most commands under way in one process, those included that wait for a lease to end.
const UNDER_WAY: usize = 4_000;

/// Takes part in erasures for one service.
pub struct Participant<S> {
    /// What the service does.
    pub steps: S,
    /// The service's database.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The lease.
    pub terms: LeaseTerms,
    /// The saga.
    pub saga: ServiceClient,
    /// Kafka.
    pub bus: BusConfig,
    /// What else the service consumes that may concern people.
    pub follows: Vec<Follows>,
    /// Rings when a command was heard.
    pub heard: Arc<Notify>,
}

/// A command that waits for an answer.
#[derive(Clone)]
pub(crate) struct Waiting {
    pub(crate) command: Command,
    /// How often it had been heard when its work was begun.
    pub(crate) times_heard: i32,
    /// What was done for it, where that is done.
    pub(crate) evidence: Option<Evidence>,
}

/// Commands that this process is at: nobody else in it takes them until this is dropped.
struct Hold {
    all: Arc<Mutex<HashSet<Uuid>>>,
    ids: Vec<Uuid>,
}

impl Hold {
    fn of(all: &Arc<Mutex<HashSet<Uuid>>>, ids: Vec<Uuid>) -> Self {
        all.lock().unwrap_or_else(PoisonError::into_inner).extend(&ids);
        Self { all: Arc::clone(all), ids }
    }

    /// Takes those of these ids out, into a hold of their own.
    fn split(&mut self, ids: &HashSet<Uuid>) -> Self {
        let (out, stay) = self.ids.drain(..).partition(|id| ids.contains(id));
        self.ids = stay;
        Self { all: Arc::clone(&self.all), ids: out }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for id in &self.ids {
            all.remove(id);
        }
    }
}

/// Why a command is still open.
#[derive(Debug, thiserror::Error)]
pub enum Open<E> {
    /// What the barrier names hasn't been consumed.
    #[error("not all that the barrier names has been consumed")]
    Behind,
    /// Another replica is doing it, or it was never heard.
    #[error("another replica is at it")]
    Elsewhere,
    /// The step can't be done now.
    #[error("the step: {0}")]
    Step(E),
    /// It can't be done for this person yet.
    #[error("the step: {0}")]
    PutOff(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The saga could not be told.
    #[error("the answer was not heard: {0}")]
    Unheard(ClientError),
}

impl<E> From<sqlx::Error> for Open<E> {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl<S: Steps> Participant<S> {
    /// The subscriber that hears this participant's commands.
    pub fn commands(&self) -> Commands {
        Commands {
            participant: S::PARTICIPANT,
            consumer: S::CONSUMER,
            clock: Arc::clone(&self.clock),
            heard: Arc::clone(&self.heard),
        }
    }

    /// Starts hearing and working. Gives the subscriber, for parked messages.
    pub fn start(mut self, health: &Health, lifecycle: &Lifecycle) -> Arc<Commands> {
        let commands = Arc::new(self.commands());
        self.follows.push(Follows::of(&*commands));
        let (bus, pool) = (self.bus.clone(), self.store.pool().clone());
        consumer::spawn(lifecycle, bus, pool, Arc::clone(&commands)).watch(health);
        lifecycle.spawn("participant", self.run(lifecycle.stopping()));
        commands
    }

    /// Works until `stopping`; what is under way is finished. Any number of replicas may.
    ///
    /// # Errors
    /// Never: what fails is logged and tried again.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), std::convert::Infallible> {
        let this = Arc::new(self);
        let for_purposes = Arc::clone(&this).run_for_purposes(stopping.clone());
        tokio::join!(this.run_for_people(stopping), for_purposes);
        Ok(())
    }

    async fn run_for_people(self: Arc<Self>, stopping: CancellationToken) {
        let this = self;
        let places = Arc::new(Semaphore::new(PLACES));
        let all = Arc::new(Mutex::new(HashSet::new()));
        let mut working = JoinSet::new();
        while !stopping.is_cancelled() {
            while working.try_join_next().is_some() {}
            let under_way: Vec<Uuid> =
                all.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
            // What nobody has a place for stays where it is, and comes in larger batches.
            let room =
                (places.available_permits() * BATCH).min(UNDER_WAY.saturating_sub(under_way.len()));
            match this.open(under_way, room).await {
                Ok(commands) => {
                    for batch in batches(commands) {
                        let ids = batch.iter().map(|it| it.command.command_id).collect();
                        let hold = Hold::of(&all, ids);
                        let (this, places) = (Arc::clone(&this), Arc::clone(&places));
                        let stopping = stopping.clone();
                        working.spawn(async move {
                            this.work(batch, hold, &places, &stopping).await;
                        });
                    }
                }
                Err(error) => tracing::warn!(%error, "erasure commands wait"),
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = this.heard.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        working.join_all().await;
    }

    /// Open commands, in any order, so that those that can't be done don't stand before those that
    /// can.
    async fn open(&self, under_way: Vec<Uuid>, room: usize) -> Result<Vec<Waiting>, StoreError> {
        const OPEN: &str = "
            SELECT command, times_heard, evidence FROM participant.commands
            WHERE answered_at IS NULL AND command_id <> ALL ($1) ORDER BY random() LIMIT $2";
        if room == 0 {
            return Ok(Vec::new());
        }
        let commands: Vec<Row> = sqlx::query_as(OPEN)
            .bind(under_way)
            .bind(room as i64)
            .fetch_all(self.store.pool())
            .await?;
        let waiting = |(command, times_heard, evidence): Row| Waiting {
            command: command.0,
            times_heard,
            evidence: evidence.map(|kept| kept.0),
        };
        Ok(commands.into_iter().map(waiting).collect())
    }

    /// Commands of one step: those that can be done are, and answered together one lease later; the
    /// others rest meanwhile.
    async fn work(
        &self,
        batch: Vec<Waiting>,
        mut hold: Hold,
        places: &Semaphore,
        stopping: &CancellationToken,
    ) {
        let (mut done, new): (Vec<Waiting>, Vec<Waiting>) =
            batch.into_iter().partition(|it| it.evidence.is_some());
        let mut rest = Duration::ZERO;
        let mut left = HashSet::new();
        if !new.is_empty() {
            let commands = new.iter().map(|it| it.command.clone()).collect();
            let place = places.acquire().await;
            let mut outcomes = self.do_all(commands).await;
            drop(place);
            // Somebody may have waited for the place.
            self.heard.notify_one();
            for waiting in new {
                let command_id = waiting.command.command_id;
                match outcomes.remove(&command_id) {
                    Some(Ok(evidence)) => {
                        done.push(Waiting { evidence: Some(evidence), ..waiting });
                    }
                    Some(Err(error)) => {
                        rest = rest.max(still_open(&waiting.command, &error));
                        left.insert(command_id);
                    }
                    None => {
                        left.insert(command_id);
                    }
                }
            }
        }
        let resting = async {
            if left.is_empty() {
                return;
            }
            let held = hold.split(&left);
            stopping.run_until_cancelled(tokio::time::sleep(rest)).await;
            drop(held);
            self.heard.notify_one();
        };
        let answering = async {
            let Some(step) = done.first().map(|it| it.command.step) else { return };
            self.settle(step).await;
            if let Err(error) = self.answer(&done).await {
                for waiting in &done {
                    still_open(&waiting.command, &error);
                }
                stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        };
        tokio::join!(resting, answering);
        drop(hold);
    }

    /// Whoever takes something away answers one lease later, and so does whoever finds it
    /// taken away: when that was isn't known.
    pub(crate) async fn settle(&self, step: Step) {
        if step != Step::Sweep {
            settle(&*self.clock, &self.terms).await;
        }
    }

    /// Does what a command asks, which was [heard](crate::hear), or finds what was done for it
    /// before. Returns when it may be answered.
    ///
    /// # Errors
    /// [`Open`]; nothing was half done in this database: try again.
    pub async fn carry_out(&self, command: &Command) -> Result<Evidence, Open<S::Error>> {
        const KEPT: &str = "SELECT evidence FROM participant.commands WHERE command_id = $1";
        let kept: Option<Option<Json<Evidence>>> = sqlx::query_scalar(KEPT)
            .bind(command.command_id)
            .fetch_optional(self.store.pool())
            .await?;
        let evidence = match kept.flatten() {
            Some(kept) => kept.0,
            None => self.first_time(command).await?,
        };
        self.settle(command.step).await;
        Ok(evidence)
    }

    async fn first_time(&self, command: &Command) -> Result<Evidence, Open<S::Error>> {
        let mut outcomes = self.together(slice::from_ref(command)).await?;
        outcomes.remove(&command.command_id).unwrap_or(Err(Open::Elsewhere))
    }

    /// Does commands of one step together; each alone where that fails, so that one that can't be done
    /// keeps no other from it.
    pub(crate) async fn do_all(&self, commands: Vec<Command>) -> Outcomes<S::Error> {
        match self.together(&commands).await {
            Ok(outcomes) => return outcomes,
            Err(error) if commands.len() == 1 => {
                return HashMap::from([(commands[0].command_id, Err(error))]);
            }
            Err(error) => tracing::warn!(%error, "erasure steps are done one by one"),
        }
        let mut outcomes = HashMap::with_capacity(commands.len());
        for command in commands {
            match self.together(slice::from_ref(&command)).await {
                Ok(one) => outcomes.extend(one),
                Err(error) => {
                    outcomes.insert(command.command_id, Err(error));
                }
            }
        }
        outcomes
    }

    /// One transaction for all of them; what can't be done for one is told of that one.
    async fn together(&self, commands: &[Command]) -> Result<Outcomes<S::Error>, Open<S::Error>> {
        const OLD_LOG: &str = "SELECT at FROM participant.log_begins";
        const TAKE: &str = "
            SELECT command_id, evidence FROM participant.commands WHERE command_id = ANY($1)
            ORDER BY command_id FOR UPDATE SKIP LOCKED";
        let Some(step) = commands.first().map(|command| command.step) else {
            return Ok(HashMap::new());
        };
        let pool = self.store.pool();
        let log_begins: Option<SqlTimestamp> =
            sqlx::query_scalar(OLD_LOG).fetch_optional(pool).await?;
        let log_begins = log_begins.map(|at| at.to_jiff());
        let consumed = Consumed::read(pool, &self.bus, &self.follows).await?;
        let mut outcomes: Outcomes<S::Error> = HashMap::with_capacity(commands.len());
        let mut tasks = Vec::with_capacity(commands.len());
        for command in commands {
            let is_of_old_log = log_begins.is_some_and(|at| at > command.at);
            if is_of_old_log || consumed.is_at(&command.barrier) {
                tasks.push(Task::of(command.clone()));
            } else {
                outcomes.insert(command.command_id, Err(Open::Behind));
            }
        }
        let positions = consumed.positions();
        if tasks.is_empty() {
            return Ok(outcomes);
        }
        self.steps.prepare(step, &mut tasks).await.map_err(Open::Step)?;
        set_aside(&mut tasks, &mut outcomes);

        let mut session = self.store.begin().await?;
        let ids: Vec<Uuid> = tasks.iter().map(|task| task.command.command_id).collect();
        let taken: Vec<(Uuid, Option<Json<Evidence>>)> =
            sqlx::query_as(TAKE).bind(ids).fetch_all(session.conn()).await?;
        let mut taken: HashMap<Uuid, Option<Json<Evidence>>> = taken.into_iter().collect();
        tasks.retain(|task| {
            let command_id = task.command.command_id;
            let outcome = match taken.remove(&command_id) {
                Some(None) => return true,
                // Another replica was faster, or is at it.
                Some(Some(Json(kept))) => Ok(kept),
                None => Err(Open::Elsewhere),
            };
            outcomes.insert(command_id, outcome);
            false
        });
        if tasks.is_empty() {
            session.rollback().await?;
            return Ok(outcomes);
        }
        self.steps.carry_out(&mut session, step, &mut tasks).await.map_err(Open::Step)?;
        set_aside(&mut tasks, &mut outcomes);
        let mut proved = BTreeMap::new();
        for task in tasks {
            let evidence = task.touched.evidence(positions.clone());
            // A sweep that found something is no proof: it is looked again.
            let found = step == Step::Sweep && evidence.counts.values().any(|n| *n > 0);
            if found {
                tracing::error!(counts = ?evidence.counts, "the sweep found something left");
            } else {
                let text = serde_json::to_string(&evidence);
                let text = text.map_err(|error| sqlx::Error::Encode(error.into()))?;
                proved.insert(task.command.command_id, text);
            }
            outcomes.insert(task.command.command_id, Ok(evidence));
        }
        keep(&mut session, proved).await?;
        pass(step, "before_commit").await;
        session.commit().await?;
        pass(step, "after_commit").await;
        Ok(outcomes)
    }
}

/// An open command as it is read.
type Row = (Json<Command>, i32, Option<Json<Evidence>>);

/// What became of commands, by their ids.
pub(crate) type Outcomes<E> = HashMap<Uuid, Result<Evidence, Open<E>>>;

/// Takes out what is put off.
fn set_aside<E>(tasks: &mut Vec<Task>, outcomes: &mut Outcomes<E>) {
    tasks.retain(|task| {
        let Some(why) = task.why_put_off() else { return true };
        outcomes.insert(task.command.command_id, Err(Open::PutOff(why.to_owned())));
        false
    });
}

/// By step, so that each batch is one transaction with few statements.
fn batches(commands: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut by_step: BTreeMap<Step, Vec<Waiting>> = BTreeMap::new();
    for waiting in commands {
        by_step.entry(waiting.command.step).or_default().push(waiting);
    }
    let cut = |all: Vec<Waiting>| all.chunks(BATCH).map(<[Waiting]>::to_vec).collect::<Vec<_>>();
    by_step.into_values().flat_map(cut).collect()
}

/// Writes evidence down, in the transaction of the work.
async fn keep(session: &mut Session, proved: BTreeMap<Uuid, String>) -> Result<(), sqlx::Error> {
    const KEEP: &str = "
        UPDATE participant.commands SET evidence = t.evidence::jsonb
        FROM unnest($1::uuid[], $2::text[]) AS t (id, evidence) WHERE command_id = t.id";
    let (ids, evidence): (Vec<Uuid>, Vec<String>) = proved.into_iter().unzip();
    sqlx::query(KEEP).bind(ids).bind(evidence).execute(session.conn()).await?;
    Ok(())
}

/// Says that a command is still open, and for how long it rests.
fn still_open<E: std::error::Error>(command: &Command, error: &Open<E>) -> Duration {
    let (request_id, step) = (command.request_id, command.step.name());
    match error {
        // Both pass by themselves.
        Open::Behind | Open::Elsewhere => {
            tracing::debug!(%error, %request_id, step, "an erasure step is still open");
            MOMENT
        }
        _ => {
            tracing::warn!(%error, %request_id, step, "an erasure step is still open");
            PAUSE
        }
    }
}

pub(crate) async fn pass(step: Step, place: &str) {
    failpoint::hit_async(&format!("participant.{}.{place}", step.name())).await;
}
