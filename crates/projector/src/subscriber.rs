//! Following a topic: what the bus hands over goes into the live tables.

use assent_bus::{ApplyError, Received, Sequencing, Skipped, Subscriber};
use assent_contracts::topics::Topic;
use assent_runtime::failpoint;
use sqlx::PgConnection;

use crate::apply::{self, Item};
use crate::model::{Projection, Schema};

/// Keeps one projection up to date.
#[derive(Debug, Clone, Copy)]
pub struct Follower(pub Projection);

impl Subscriber for Follower {
    fn name(&self) -> &'static str {
        self.0.consumer()
    }

    fn topics(&self) -> Vec<Topic> {
        vec![self.0.topic()]
    }

    fn sequencing(&self) -> Sequencing {
        Sequencing::Own
    }

    async fn apply(&self, conn: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        // What no fold refuses by itself can be parked by a test.
        if failpoint::fails("projector.refuse").await {
            return Err(ApplyError::Poison { index: 0, reason: apply::MALFORMED_DATA });
        }
        let items: Vec<Item<'_>> =
            batch.iter().map(|event| Item { event, discarded: false }).collect();
        apply::apply(self.0, conn, Schema::Live, &items).await
    }

    async fn skip(&self, conn: &mut PgConnection, skipped: Skipped) -> Result<(), ApplyError> {
        apply::skip(self.0, conn, skipped.key, skipped.sequence).await?;
        Ok(())
    }
}
