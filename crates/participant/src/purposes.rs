//! Commands about one purpose's data of one person. It guarantees for them what the crate guarantees for whole persons,
//! one command a transaction: they are few. They lie in a table of their own, so that no replica of the version before
//! takes one for the erasure of the whole person.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use assent_contracts::erasure::{Ack, Evidence, Step};
use assent_contracts::purposes::PurposeCommand;
use assent_runtime::Clock;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::de::IgnoredAny;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::answer::is_heard;
use crate::barrier::Consumed;
use crate::work::{Open, PAUSE};
use crate::{Participant, Steps, Touched};

/// Most of them that are done at once in one process.
const TOGETHER: i64 = 16;

/// A command about one purpose's data that is being done, and what is touched for it.
#[derive(Debug)]
pub struct PurposeTask {
    /// The command.
    pub command: PurposeCommand,
    /// What was touched or, by a sweep, found.
    pub touched: Touched,
    put_off: Option<String>,
}

/// A kind of rows that a service holds of one purpose of a person.
#[derive(Debug, Clone)]
pub struct PurposeRows {
    kind: &'static str,
    rows: Cow<'static, str>,
    name: &'static str,
}

impl PurposeRows {
    /// `rows` is what follows `FROM`: a table, ` WHERE `, and a condition with `$1` for her id, `$2` for the purpose and
    /// `$3` for the moment up to which it is meant; `name` an expression that names a row by an id or a keyed hash, as
    /// text. Neither ever comes from outside the program.
    #[must_use]
    pub const fn new(kind: &'static str, rows: &'static str, name: &'static str) -> Self {
        Self { kind, rows: Cow::Borrowed(rows), name }
    }

    /// As [`PurposeRows::new`], of a table whose schema is known at run time.
    #[must_use]
    pub fn made(kind: &'static str, rows: String, name: &'static str) -> Self {
        Self { kind, rows: Cow::Owned(rows), name }
    }
}

impl PurposeTask {
    fn of(command: PurposeCommand) -> Self {
        Self { command, touched: Touched::default(), put_off: None }
    }

    /// It can't be done yet, and is tried again; nothing that was written for it stays. The reason goes to the log, so it
    /// holds no personal data.
    pub fn put_off(&mut self, why: impl Display) {
        self.put_off = Some(why.to_string());
    }

    /// Deletes these rows, and notes what they were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete(
        &mut self,
        conn: &mut PgConnection,
        rows: &[PurposeRows],
    ) -> Result<(), sqlx::Error> {
        for PurposeRows { kind, rows, name } in rows {
            let names = self.names(conn, format!("DELETE FROM {rows} RETURNING {name}")).await?;
            self.touched.add(kind, names);
        }
        Ok(())
    }

    /// Notes these rows, where there are any.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(
        &mut self,
        conn: &mut PgConnection,
        rows: &[PurposeRows],
    ) -> Result<(), sqlx::Error> {
        for PurposeRows { kind, rows, name } in rows {
            let names = self.names(conn, format!("SELECT {name} FROM {rows}")).await?;
            self.touched.add(kind, names);
        }
        Ok(())
    }

    async fn names(
        &self,
        conn: &mut PgConnection,
        statement: String,
    ) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(self.command.subject_id)
            .bind(&self.command.purpose)
            .bind(self.command.until.to_sqlx())
            .fetch_all(conn)
            .await
    }
}

/// An open one as it is read: the command, how often it was heard, what was done for it.
type Row = (Json<PurposeCommand>, i32, Option<Json<Evidence>>);

impl<S: Steps> Participant<S> {
    /// Works until `stopping`.
    pub(crate) async fn run_for_purposes(self: Arc<Self>, stopping: CancellationToken) {
        while !stopping.is_cancelled() {
            match self.open_for_purposes().await {
                Ok(open) => {
                    let mut working = JoinSet::new();
                    for row in open {
                        let this = Arc::clone(&self);
                        working.spawn(async move { this.work_for_purpose(row).await });
                    }
                    working.join_all().await;
                }
                Err(error) => tracing::warn!(%error, "erasure commands for purposes wait"),
            }
            stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }

    async fn open_for_purposes(&self) -> Result<Vec<Row>, sqlx::Error> {
        const OPEN: &str = "
            SELECT command, times_heard, evidence FROM participant.purpose_commands
            WHERE answered_at IS NULL ORDER BY random() LIMIT $1";
        sqlx::query_as(OPEN).bind(TOGETHER).fetch_all(self.store.pool()).await
    }

    async fn work_for_purpose(&self, (Json(command), times_heard, kept): Row) {
        let (request_id, step) = (command.request_id, command.purpose_step.name());
        let done = match kept {
            Some(Json(evidence)) => Ok(evidence),
            None => self.do_for_purpose(&command).await,
        };
        let answered = match done {
            Ok(evidence) => {
                self.settle(command.purpose_step).await;
                self.answer_for_purpose(&command, times_heard, evidence).await
            }
            Err(error) => Err(error),
        };
        match answered {
            Ok(()) => {}
            // Both pass by themselves.
            Err(error @ (Open::Behind | Open::Elsewhere)) => {
                tracing::debug!(%error, %request_id, step, "a step for a purpose is still open");
            }
            Err(error) => {
                tracing::warn!(%error, %request_id, step, "a step for a purpose is still open");
            }
        }
    }

    /// Does a step in one transaction with its evidence, or finds what was done for it before.
    pub(crate) async fn do_for_purpose(
        &self,
        command: &PurposeCommand,
    ) -> Result<Evidence, Open<S::Error>> {
        const OLD_LOG: &str = "SELECT at FROM participant.log_begins";
        const TAKE: &str = "
            SELECT evidence FROM participant.purpose_commands WHERE command_id = $1
            FOR UPDATE SKIP LOCKED";
        const KEEP: &str = "
            UPDATE participant.purpose_commands SET evidence = $2::jsonb WHERE command_id = $1";
        let pool = self.store.pool();
        let log_begins: Option<SqlTimestamp> =
            sqlx::query_scalar(OLD_LOG).fetch_optional(pool).await?;
        let is_of_old_log = log_begins.is_some_and(|at| at.to_jiff() > command.at);
        let consumed = Consumed::read(pool, &self.bus, &self.follows).await?;
        if !is_of_old_log && !consumed.is_at(&command.barrier) {
            return Err(Open::Behind);
        }
        let mut session = self.store.begin().await?;
        let taken: Option<Option<Json<Evidence>>> = sqlx::query_scalar(TAKE)
            .bind(command.command_id)
            .fetch_optional(session.conn())
            .await?;
        match taken {
            Some(None) => {}
            // Another replica was faster, or is at it.
            Some(Some(Json(kept))) => {
                session.rollback().await?;
                return Ok(kept);
            }
            None => {
                session.rollback().await?;
                return Err(Open::Elsewhere);
            }
        }
        let mut task = PurposeTask::of(command.clone());
        self.steps.carry_out_for_purpose(&mut session, &mut task).await.map_err(Open::Step)?;
        if let Some(why) = task.put_off.take() {
            session.rollback().await?;
            return Err(Open::PutOff(why));
        }
        let evidence = task.touched.evidence(consumed.positions());
        if command.purpose_step == Step::Sweep && evidence.counts.values().any(|n| *n > 0) {
            tracing::error!(counts = ?evidence.counts, "the sweep for a purpose found something left");
            session.rollback().await?;
            return Err(Open::PutOff("the sweep found something left".to_owned()));
        }
        let text = serde_json::to_string(&evidence);
        let text = text.map_err(|error| sqlx::Error::Encode(error.into()))?;
        let keep = sqlx::query(KEEP).bind(command.command_id).bind(text);
        keep.execute(session.conn()).await?;
        session.commit().await?;
        Ok(evidence)
    }

    /// Tells the saga what was done, and closes the command unless it was heard again meanwhile.
    async fn answer_for_purpose(
        &self,
        command: &PurposeCommand,
        times_heard: i32,
        evidence: Evidence,
    ) -> Result<(), Open<S::Error>> {
        const ANSWERED: &str = "
            UPDATE participant.purpose_commands SET answered_at = $3
            WHERE command_id = $1 AND times_heard = $2";
        let (command_id, request_id) = (command.command_id, command.request_id);
        let participant = S::PARTICIPANT.to_owned();
        let ack = Ack { command_id, step: command.purpose_step, participant, evidence };
        let path = format!("/v1/requests/{request_id}/acks");
        match self.saga.post::<_, IgnoredAny>(&path, &ack, None).await {
            Ok(_) => {}
            // Should the saga wait for another answer, it repeats the command.
            Err(error) if error.code().is_some_and(is_heard) => {
                tracing::warn!(%error, %request_id, "an answer was refused");
            }
            Err(error) => return Err(Open::Unheard(error)),
        }
        sqlx::query(ANSWERED)
            .bind(command_id)
            .bind(times_heard)
            .bind(self.clock.now().to_sqlx())
            .execute(self.store.pool())
            .await?;
        Ok(())
    }
}

/// Takes commands over. A repeat is answered again, with what was done the first time.
///
/// # Errors
/// When the database fails.
pub(crate) async fn hear_for_purposes(
    conn: &mut PgConnection,
    clock: &dyn Clock,
    commands: &[PurposeCommand],
) -> Result<(), sqlx::Error> {
    const HEAR: &str = "
        INSERT INTO participant.purpose_commands (command_id, command, heard_at)
        VALUES ($1, $2::jsonb, $3)
        ON CONFLICT (command_id) DO UPDATE
            SET answered_at = NULL, times_heard = purpose_commands.times_heard + 1";
    for command in commands {
        let text = serde_json::to_string(command);
        let text = text.map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query(HEAR)
            .bind(command.command_id)
            .bind(text)
            .bind(clock.now().to_sqlx())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
