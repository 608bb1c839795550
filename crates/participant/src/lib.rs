//! A service's side of the erasure saga. It guarantees that a command is heard into the service's
//! own database, that what it asks is done once and its evidence kept in the transaction of the
//! work, that nothing is answered before the command's barrier is consumed nor within a lease of
//! what was taken away, and that it is answered until the saga has heard it: through crashes, by any
//! number of replicas. What a step does is left to the service ([`Steps`]); order, deadlines and
//! who must answer are the saga's business.
//!
//! Files: `arrival` is how a service comes to its database, `commands` hears, `work` does, `answer` answers, `barrier` knows what was consumed, `touched`
//! makes evidence, `purposes` is all that is done for one purpose's data, `redo` does again what a restored database lost, `held` deletes and finds rows about people, `task` is one command of a batch,
//! `keeping` knows for how long what keeps somebody out is kept.

mod answer;
mod arrival;
mod barrier;
mod commands;
pub mod held;
mod keeping;
mod purposes;
mod redo;
mod task;
mod touched;
mod work;

use assent_contracts::erasure::Step;
use assent_eventstore::Session;
use sqlx::migrate::Migrator;

pub use arrival::{Arrival, ArrivalError, Stopped};
pub use barrier::{Follows, reaches};
pub use commands::{Commands, hear, reader};
pub use held::Held;
pub use keeping::Keeping;
pub use purposes::{PurposeRows, PurposeTask};
pub use redo::RedoError;
pub use task::{Task, open, subjects};
pub use touched::Touched;
pub use work::{Open, Participant};

/// What a service does for the steps of an erasure. Its one implementation is the service's file
/// `erasure.rs`.
pub trait Steps: Send + Sync + 'static {
    /// The name that the service is registered under at the saga.
    const PARTICIPANT: &'static str;
    /// The name of its consumer of commands, `<service>.erasure`.
    const CONSUMER: &'static str;
    /// Why a step can't be done now; it is tried again. Its text goes to the log, so it holds no
    /// personal data.
    type Error: std::error::Error + Send + 'static;

    /// Does what can't be part of the transaction, such as what lies in another database. Comes
    /// before [`Steps::carry_out`], and again with it when one of them fails or the process dies:
    /// it must be harmless when repeated. All tasks are of this step.
    fn prepare(
        &self,
        step: Step,
        tasks: &mut [Task],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (step, tasks);
        std::future::ready(Ok(()))
    }

    /// Does the step for all tasks in `session`, which is committed by the caller together with the
    /// evidence of what was touched (or, by a sweep, found) for each. One that can't be done yet is
    /// [put off](Task::put_off); where the whole fails, each is tried alone.
    fn carry_out(
        &self,
        session: &mut Session,
        step: Step,
        tasks: &mut [Task],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Does the step of the task for one purpose's data in `session`, which is committed by the caller together with the
    /// evidence. Somebody who is erased whole meanwhile is nobody to write about. Where it fails, or is
    /// [put off](PurposeTask::put_off), nothing stays written and it is tried again.
    fn carry_out_for_purpose(
        &self,
        session: &mut Session,
        task: &mut PurposeTask,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The migrations of the schema `participant`.
#[must_use]
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    // The service has migrations of its own in `public`: the two must not meet in one table.
    migrator.create_schema("participant");
    migrator.dangerous_set_table_name("participant.migrations");
    migrator
}
