//! What refusals leave behind, by what their codes ask for. It guarantees one order for everybody, so that two
//! transactions never wait for each other, and that nothing is written of whom nothing may be written any more.

use assent_contracts::SubjectId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

use super::bars::bar;
use super::halts::halt;
use crate::domain::identity::Doubt;
use crate::domain::template;
use crate::state::Messaging;
use crate::whatsapp::reaction::{HOUR, Reaction, TemplateFault};
use crate::{rates, tasks, templates};

/// A refusal, as far as others are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequence {
    /// What the code asks for.
    pub reaction: Reaction,
    /// The code.
    pub code: Option<i64>,
    /// Whose message it was.
    pub subject: SubjectId,
    /// Name and language of the template.
    pub template: Option<(String, String)>,
    /// When the provider said so.
    pub said_at: Timestamp,
}

/// Writes what refusals leave behind. `is_gone` tells of whom nothing may be written any more.
///
/// # Errors
/// When the database fails.
pub async fn record(
    messaging: &Messaging,
    conn: &mut PgConnection,
    consequences: &[Consequence],
    is_gone: impl Fn(SubjectId) -> bool,
) -> Result<(), sqlx::Error> {
    // One order for everybody, so that two transactions never wait for each other. People are locked by
    // their streams.
    let whatsapp = &messaging.config.whatsapp;
    let phone_number_id = &whatsapp.phone_number_id;
    let mut sorted: Vec<&Consequence> = consequences.iter().collect();
    sorted.sort_by_key(|it| (rank(it.reaction), &it.template));
    for it in sorted {
        match it.reaction {
            Reaction::Halt(reach) => {
                halt(conn, phone_number_id, reach, it.code, it.said_at).await?
            }
            Reaction::BackOffHour => rates::hold_back(conn, phone_number_id, HOUR).await?,
            Reaction::SlowNumber => rates::slow(conn, phone_number_id).await?,
            Reaction::Template(fault) => {
                if let Some((name, language)) = &it.template {
                    hold_template(conn, name, language, fault, it.said_at).await?;
                    templates::read_soon(conn, whatsapp).await?;
                }
            }
            Reaction::DelayPair
            | Reaction::CapPerson
            | Reaction::AwaitInbound
            | Reaction::BreakTrust => {
                if !is_gone(it.subject) {
                    bar(conn, it).await?;
                    if it.reaction == Reaction::BreakTrust {
                        tasks::open(messaging, conn, it.subject, Doubt::HashChanged).await?;
                    }
                }
            }
            Reaction::Permanent | Reaction::Ambiguous | Reaction::BackOff | Reaction::OptOut => {}
        }
    }
    Ok(())
}

const fn rank(reaction: Reaction) -> u8 {
    match reaction {
        Reaction::Halt(_) => 0,
        Reaction::BackOffHour | Reaction::SlowNumber => 1,
        Reaction::Template(_) => 2,
        _ => 3,
    }
}

/// A template that the provider knows better than its last news told: that news may be on its way.
async fn hold_template(
    conn: &mut PgConnection,
    name: &str,
    language: &str,
    fault: TemplateFault,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    const HOLD: &str = "
        UPDATE templates SET status = $3, status_since = $4
        WHERE name = $1 AND language = $2 AND date_trunc('second', status_since) <= $4
          AND status <> $3";
    let status = match fault {
        TemplateFault::Missing => template::MISSING,
        TemplateFault::Paused => "PAUSED",
        TemplateFault::Disabled => "DISABLED",
    };
    let held = sqlx::query(HOLD)
        .bind(name)
        .bind(language)
        .bind(status)
        .bind(said_at.to_sqlx())
        .execute(conn)
        .await?;
    if held.rows_affected() > 0 {
        tracing::warn!(template = name, language, status, "the provider refuses a template");
    }
    Ok(())
}
