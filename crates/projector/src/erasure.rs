//! All that the projector does for erasure, as the participant `projector`. It guarantees that
//! after the fence no row about the person is written, neither by late events nor by rebuilds,
//! and that the sweep looks into every table, the unfinished ones of a rebuild included; that a step
//! is done once, and after everything its barrier names is folded in, is the participant's part.

use std::sync::Arc;

use assent_contracts::erasure::Step;
use assent_eventstore::{Session, StoreError};
use assent_participant::{Held, Steps, Task, held, open, subjects};
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
                let mut held = rows(conn).await?;
                held.push(UNFENCED.clone());
                held::find(conn, &held, tasks).await?;
            }
        }
        Ok(())
    }
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

/// The rows of every table that can hold some about a person: the live ones, and those of a rebuild.
async fn rows(conn: &mut PgConnection) -> Result<Vec<Held>, sqlx::Error> {
    let building: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'next'")
            .fetch_all(conn)
            .await?;
    let tables = Projection::ALL.into_iter().flat_map(Projection::tables);
    Ok(tables
        .flat_map(|&table| [(Schema::Live, table), (Schema::Next, table)])
        .filter(|(schema, table)| *schema == Schema::Live || building.iter().any(|b| b == table))
        .map(|(schema, table)| Held::table(table, &format!("{}.{table}", schema.name())))
        .collect())
}
