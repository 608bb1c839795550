//! Questions for consent, as the consent service decides them: each becomes one message. It guarantees that a
//! question that is told twice is one message; that it may go out is the gate's to say, like for any
//! other.

use assent_bus::{ApplyError, Reader, Received, Sequencing, Subscriber};
use assent_contracts::api::consent::CONSENT_REQUEST;
use assent_contracts::consent::{ASKED, Asked};
use assent_contracts::messaging::{MESSAGE_REQUESTED, MessageRequested};
use assent_contracts::topics::{CONSENT_EVENTS, Topic};
use assent_eventstore::StoreError;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

use crate::state::{Messaging, fenced};

/// Its consumer.
pub const READER: Reader = Reader { consumer: "messaging.questions", topic: CONSENT_EVENTS };

/// Follows the consent service.
pub struct Questions(pub Messaging);

impl Subscriber for Questions {
    fn name(&self) -> &'static str {
        READER.consumer
    }

    fn topics(&self) -> Vec<Topic> {
        vec![READER.topic]
    }

    fn sequencing(&self) -> Sequencing {
        Sequencing::Tracked
    }

    /// In a transaction of its own, since it appends.
    async fn apply(&self, _: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        let mut asked = Vec::new();
        for (index, event) in batch.iter().enumerate().filter(|(_, it)| it.event_type == ASKED) {
            let question: Asked = serde_json::from_slice(&event.data)
                .map_err(|_| ApplyError::Poison { index, reason: "malformed_data" })?;
            asked.push((event, question));
        }
        if asked.is_empty() {
            return Ok(());
        }
        self.queue(&asked).await.map_err(|error| {
            tracing::debug!(%error, "questions can't be queued yet");
            ApplyError::Transient("question_not_queued".to_owned())
        })
    }
}

impl Questions {
    async fn queue(&self, asked: &[(&Received, Asked)]) -> Result<(), StoreError> {
        const INSERT: &str = "
            INSERT INTO intents (id, subject_id, purpose, channel, template, language, state,
                                 reply_code, requested_at, changed_at, traceparent)
            VALUES ($1, $2, $3, $4, $5, $6, 'queued', $7, $8, $8, $9) ON CONFLICT (id) DO NOTHING";
        let Self(messaging) = self;
        let now = messaging.clock.now();
        let mut subjects: Vec<_> = asked.iter().map(|(event, _)| event.key).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let mut session = messaging.store.begin().await?;
        session.lock_versions(&subjects).await?;
        let gone = fenced(session.conn(), &subjects).await?;
        let mut appends = Vec::new();
        for (event, question) in asked.iter().filter(|(event, _)| !gone.contains(&event.key)) {
            let inserted = sqlx::query(INSERT)
                .bind(question.request_id)
                .bind(event.key)
                .bind(CONSENT_REQUEST)
                .bind(&question.channel)
                .bind(&question.template)
                .bind(&question.language)
                .bind(question.code.to_string())
                .bind(now.to_sqlx())
                .bind(&event.traceparent)
                .execute(session.conn())
                .await?;
            if inserted.rows_affected() == 0 {
                continue;
            }
            let requested = MessageRequested {
                message_id: question.request_id,
                purpose: CONSENT_REQUEST.to_owned(),
                channel: question.channel.clone(),
                template: question.template.clone(),
                campaign_id: None,
                at: now,
            };
            let id = messaging.ids.v7();
            appends.push(messaging.event(event.key, id, MESSAGE_REQUESTED, &requested, now)?);
        }
        session.append(appends).await?;
        session.commit().await?;
        messaging.queued.notify_one();
        Ok(())
    }
}
