//! All that the projector does for erasure, as the participant `projector`. It guarantees that
//! after the fence no row about the person is written, neither by late events nor by rebuilds,
//! and that the sweep looks into every table, the unfinished ones of a rebuild included; that a step
//! is done once, and after everything its barrier names is folded in, is the participant's part.

use std::sync::Arc;

use assent_contracts::erasure::Step;
use assent_contracts::purposes::PurposeCommand;
use assent_eventstore::{Session, StoreError};
use assent_participant::{Held, PurposeRows, PurposeTask, Steps, Task, held, open, subjects};
use assent_runtime::Clock;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::apply::stop_writers;
use crate::model::{Projection, Schema};

/// What the projector does for an erasure.
pub struct Eraser {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

/// Someone whom late events could still write about.
static UNFENCED: Held = Held::new(
    "unfenced",
    "(SELECT $1 AS id) AS her WHERE NOT EXISTS (SELECT FROM fences WHERE subject_id = her.id)",
    "id::text",
);

/// Hers whose purpose was erased: her fence does the same for all.
static ERASED_MESSAGES: Held =
    Held::new("erased_messages", "erased_messages WHERE subject_id = $1", "message_id::text");

/// Likewise the purposes.
static ERASED_PURPOSES: Held =
    Held::new("erased_purposes", "erased_purposes WHERE subject_id = $1", "purpose");

impl Steps for Eraser {
    const PARTICIPANT: &'static str = "projector";
    const CONSUMER: &'static str = "projector.erasure";
    type Error = StoreError;

    async fn carry_out(
        &self,
        session: &mut Session,
        step: Step,
        tasks: &mut [Task],
    ) -> Result<(), StoreError> {
        let conn = session.conn();
        match step {
            Step::Fence => {
                stop_writers(conn).await?;
                raise(conn, &*self.clock, tasks).await?;
                for task in open(tasks) {
                    task.touched.add("fences", [task.command.subject_id]);
                    task.touched.keep("fence", "stays_erased", None);
                }
            }
            Step::Delete => {
                stop_writers(conn).await?;
                raise(conn, &*self.clock, tasks).await?;
                let held = rows(conn).await?;
                held::delete(conn, &held, tasks).await?;
            }
            // The projector keeps no keys.
            Step::DestroyKeys => {}
            Step::Sweep => {
                forget_bars(conn, &subjects(tasks)).await?;
                let mut held = rows(conn).await?;
                held.push(UNFENCED.clone());
                held::find(conn, &held, tasks).await?;
            }
        }
        Ok(())
    }

    /// What consents say stays as the proof of them. Messages go, and are not written again.
    async fn carry_out_for_purpose(
        &self,
        session: &mut Session,
        task: &mut PurposeTask,
    ) -> Result<(), StoreError> {
        let conn = session.conn();
        match task.command.purpose_step {
            Step::Fence => task.touched.keep("consent_proof", "proof_of_consent", None),
            Step::Delete => {
                stop_writers(conn).await?;
                bar_messages(conn, &task.command).await?;
                let rows = messages(conn).await?;
                task.delete(conn, &rows).await?;
            }
            // The projector keeps no keys, and nobody is asked to destroy some for a purpose.
            Step::DestroyKeys => {}
            Step::Sweep => {
                let rows = messages(conn).await?;
                task.find(conn, &rows).await?;
            }
        }
        Ok(())
    }
}

/// Messages of this purpose are not written again, whatever comes late and whatever is rebuilt: what was never written here
/// is known by its purpose and moment, and what is here by its id, since what speaks of it later names no purpose.
async fn bar_messages(
    conn: &mut PgConnection,
    command: &PurposeCommand,
) -> Result<(), sqlx::Error> {
    const BAR: &str = "
        WITH purpose AS (
            INSERT INTO erased_purposes AS held (subject_id, purpose, until)
            SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM fences WHERE fences.subject_id = $1)
            ON CONFLICT (subject_id, purpose) DO UPDATE
                SET until = greatest(held.until, excluded.until))
        INSERT INTO erased_messages (message_id, subject_id)
        SELECT message_id, subject_id FROM live.messages
        WHERE subject_id = $1 AND purpose = $2 AND created_at <= $3
          AND NOT EXISTS (SELECT FROM fences WHERE fences.subject_id = $1)
        ON CONFLICT DO NOTHING";
    sqlx::query(BAR)
        .bind(command.subject_id)
        .bind(&command.purpose)
        .bind(command.until.to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// A replica of the version before deletes all but these, of which it knows nothing: the sweep of one that does would find
/// them for ever. Her fence does the same for all.
async fn forget_bars(conn: &mut PgConnection, people: &[Uuid]) -> Result<(), sqlx::Error> {
    const FORGET: &str = "
        WITH fenced AS (SELECT subject_id FROM fences WHERE subject_id = ANY($1)),
             messages AS (
                 DELETE FROM erased_messages WHERE subject_id IN (SELECT subject_id FROM fenced))
        DELETE FROM erased_purposes WHERE subject_id IN (SELECT subject_id FROM fenced)";
    sqlx::query(FORGET).bind(people).execute(conn).await.map(|_| ())
}

/// The messages of a purpose: the live ones, and those of a rebuild.
async fn messages(conn: &mut PgConnection) -> Result<Vec<PurposeRows>, sqlx::Error> {
    const WHICH: &str = "messages WHERE subject_id = $1 AND purpose = $2 AND created_at <= $3";
    let rebuilt = building(conn).await?.iter().any(|table| table == "messages");
    let schemas = [Schema::Live, Schema::Next].into_iter();
    Ok(schemas
        .filter(|schema| *schema == Schema::Live || rebuilt)
        .map(|schema| (schema, format!("{}.{WHICH}", schema.name())))
        .map(|(schema, rows)| match schema {
            Schema::Live => PurposeRows::made("messages", rows, "message_id::text"),
            Schema::Next => PurposeRows::made("messages.rebuilt", rows, "message_id::text"),
        })
        .collect())
}

/// Nothing is written about them any more.
async fn raise(
    conn: &mut PgConnection,
    clock: &dyn Clock,
    tasks: &mut [Task],
) -> Result<(), sqlx::Error> {
    const RAISE: &str = "
        INSERT INTO fences (subject_id, request_id, fenced_at)
        SELECT subject_id, request_id, $3
        FROM unnest($1::uuid[], $2::uuid[]) AS t (subject_id, request_id)
        ON CONFLICT (subject_id) DO NOTHING";
    let requests: Vec<Uuid> = open(tasks).map(|task| task.command.request_id).collect();
    sqlx::query(RAISE)
        .bind(subjects(tasks))
        .bind(requests)
        .bind(clock.now().to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// The tables of a rebuild that isn't finished.
async fn building(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'next'")
        .fetch_all(conn)
        .await
}

/// The rows of every table that can hold some about a person: the live ones, and those of a rebuild.
async fn rows(conn: &mut PgConnection) -> Result<Vec<Held>, sqlx::Error> {
    let building = building(conn).await?;
    let tables = Projection::ALL.into_iter().flat_map(Projection::tables);
    Ok(tables
        .flat_map(|&table| [(Schema::Live, table), (Schema::Next, table)])
        .filter(|(schema, table)| *schema == Schema::Live || building.iter().any(|b| b == table))
        .map(|(schema, table)| Held::table(table, &format!("{}.{table}", schema.name())))
        .chain([ERASED_MESSAGES.clone(), ERASED_PURPOSES.clone()])
        .collect())
}
