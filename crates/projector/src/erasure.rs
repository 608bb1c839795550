//! All that the projector does for erasure, as the participant `projector`. It guarantees that
//! after the fence no row about the person is written, neither by late events nor by rebuilds,
//! and that the sweep looks into every table, the unfinished ones of a rebuild included; that a step
//! is done once, and after everything its barrier names is folded in, is the participant's part.

use std::sync::Arc;

use assent_contracts::erasure::{Command, Step};
use assent_eventstore::{Session, StoreError};
use assent_participant::{Held, Steps, Touched, held};
use assent_runtime::Clock;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

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
        command: &Command,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let (conn, subject) = (session.conn(), command.subject_id);
        match command.step {
            Step::Fence => {
                stop_writers(conn).await?;
                raise(conn, &*self.clock, command).await?;
                touched.add("fences", [subject]);
                touched.keep("fence", "stays_erased", None);
            }
            Step::Delete => {
                stop_writers(conn).await?;
                raise(conn, &*self.clock, command).await?;
                let held = rows(conn).await?;
                held::delete(conn, &held, subject, touched).await?;
            }
            // The projector keeps no keys.
            Step::DestroyKeys => {}
            Step::Sweep => {
                let mut held = rows(conn).await?;
                held.push(UNFENCED.clone());
                held::find(conn, &held, subject, touched).await?;
            }
        }
        Ok(())
    }
}

/// Nothing is written about her any more.
async fn raise(
    conn: &mut PgConnection,
    clock: &dyn Clock,
    command: &Command,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $2, $3)
         ON CONFLICT (subject_id) DO NOTHING",
    )
    .bind(command.subject_id)
    .bind(command.request_id)
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
