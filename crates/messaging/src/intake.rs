//! Stores webhook bodies as they come in, those that come together in one transaction. It guarantees that a body
//! is durable together with every declaration in it, or not at all.

use assent_eventstore::batcher::{BatchHandler, Footprint, Outcomes};
use assent_eventstore::{Session, StoreError};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use uuid::Uuid;

use crate::declarations::{self, Declared};
use crate::hour_keys::Sealed;
use crate::tasks::{self, Unattributed};

/// A body to store.
pub struct Body {
    /// Its id.
    pub id: Uuid,
    /// The raw body.
    pub sealed: Sealed,
    /// Who writes in it: bodies that share one of these are processed one after the other.
    pub lanes: Vec<i16>,
    /// When it came in.
    pub received_at: Timestamp,
    /// What it declares.
    pub declared: Vec<Declared>,
    /// Which of the stops in it nobody is known for.
    pub unattributed: Vec<Unattributed>,
}

/// Stores bodies; the answer is how many declarations were new.
pub struct Intake;

impl BatchHandler for Intake {
    type Command = Body;
    type Answer = usize;
    type Error = StoreError;

    fn footprint(&self, _: &Body) -> Footprint {
        Footprint::default()
    }

    async fn handle(
        &self,
        session: &mut Session,
        bodies: &[Body],
    ) -> Result<Outcomes<usize, StoreError>, StoreError> {
        const INSERT: &str = "
            INSERT INTO webhook_bodies (id, hour_key, sealed, received_at, lanes)
            SELECT id, hour_key, sealed, received_at, lanes::smallint[]
            FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::timestamptz[], $5::text[])
                 AS it (id, hour_key, sealed, received_at, lanes)";
        let ids: Vec<Uuid> = bodies.iter().map(|body| body.id).collect();
        let hour_keys: Vec<Uuid> = bodies.iter().map(|body| body.sealed.hour_key).collect();
        let sealed: Vec<&[u8]> = bodies.iter().map(|body| body.sealed.bytes.as_slice()).collect();
        let received: Vec<_> = bodies.iter().map(|body| body.received_at.to_sqlx()).collect();
        let lanes: Vec<String> = bodies.iter().map(|body| array(&body.lanes)).collect();
        sqlx::query(INSERT)
            .bind(ids)
            .bind(hour_keys)
            .bind(sealed)
            .bind(received)
            .bind(lanes)
            .execute(session.conn())
            .await?;
        let mut outcomes = Vec::with_capacity(bodies.len());
        for body in bodies {
            let new = declarations::insert(session.conn(), &body.declared).await?;
            for it in &body.unattributed {
                tasks::stop_unattributed(session.conn(), it, &new, body.received_at).await?;
            }
            outcomes.push(Ok(new.len()));
        }
        Ok(outcomes)
    }
}

/// An array as Postgres reads it: one array of arrays can't be taken apart there.
fn array(lanes: &[i16]) -> String {
    let lanes: Vec<String> = lanes.iter().map(ToString::to_string).collect();
    format!("{{{}}}", lanes.join(","))
}
