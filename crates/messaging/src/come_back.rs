//! Events that come back to a restored database. It guarantees that no message which went out after the backup
//! goes out again: one whose end is on record has it, every other that waited may have been sent, and is
//! `uncertain`, never claimed. What was written in conversations since stays lost.

use assent_bus::own_log::Fold;
use assent_contracts::messaging::{
    MESSAGE_ACCEPTED, MESSAGE_FAILED, MESSAGE_REFUSED, MESSAGE_REQUESTED, MESSAGE_UNCERTAIN,
    MessageRequested,
};
use assent_eventstore::{Regained, Session, StoreError};
use jiff_sqlx::ToSqlx as _;
use serde::Deserialize;
use uuid::Uuid;

use crate::outcomes;

/// Folds what has come back.
pub struct ComeBack;

/// What every event about a message says.
#[derive(Deserialize)]
struct About {
    message_id: Uuid,
}

/// Its content is lost, and it is never sent: the row tells those who count, and who asks again under its id.
const REQUESTED: &str = "
    INSERT INTO intents
        (id, subject_id, purpose, channel, template, kind, state, reasons, requested_at, changed_at,
         started_at, campaign_id)
    VALUES ($1, $2, $3, $4, $5, 'template', 'uncertain', '{restored}', $6, $6, $6,
            (SELECT campaign_id FROM campaigns WHERE campaign_id = $7))
    ON CONFLICT (id) DO NOTHING";

const ENDED: &str = "
    UPDATE intents SET state = $2, claim_id = NULL, claim_until = NULL, changed_at = $3,
           started_at = CASE WHEN $2 IN ('accepted', 'uncertain') THEN coalesce(started_at, $3) END
    WHERE id = $1 AND state IN ('queued', 'claimed', 'calling', 'uncertain')";

/// As if its dispatcher had died in the call: the reaper says so, with an event.
const IN_DOUBT: &str = "
    UPDATE intents SET state = 'calling', claim_id = gen_random_uuid(), claim_until = now()
    WHERE state IN ('queued', 'claimed')";

impl Fold for ComeBack {
    async fn fold(&self, session: &mut Session, regained: &[Regained]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = regained.iter().map(|it| it.stream).collect();
        let streams = session.lock(&ids).await?;
        for Regained { stream: subject, before, .. } in regained {
            let Some(stream) = streams.get(subject) else { continue };
            for event in stream.events.iter().filter(|it| it.version > *before) {
                let state = match event.event_type.as_str() {
                    MESSAGE_REQUESTED => {
                        let asked: MessageRequested = event.decode()?;
                        sqlx::query(REQUESTED)
                            .bind(asked.message_id)
                            .bind(subject)
                            .bind(asked.purpose)
                            .bind(asked.channel)
                            .bind(asked.template)
                            .bind(asked.at.to_sqlx())
                            .bind(asked.campaign_id)
                            .execute(session.conn())
                            .await?;
                        continue;
                    }
                    MESSAGE_ACCEPTED => "accepted",
                    MESSAGE_REFUSED => "refused",
                    MESSAGE_FAILED => "failed",
                    MESSAGE_UNCERTAIN => "uncertain",
                    _ => continue,
                };
                let About { message_id } = event.decode()?;
                if state != "uncertain" {
                    let at = event.recorded_at;
                    outcomes::known(session.conn(), &[message_id], at).await?;
                }
                sqlx::query(ENDED)
                    .bind(message_id)
                    .bind(state)
                    .bind(event.recorded_at.to_sqlx())
                    .execute(session.conn())
                    .await?;
            }
        }
        sqlx::query(IN_DOUBT).execute(session.conn()).await?;
        Ok(())
    }
}
