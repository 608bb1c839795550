//! Takes a campaign's people from the read model, page by page. It guarantees that an interruption goes on
//! where it was, that nobody is taken twice, and nobody who is fenced; who they are is the read
//! model's word, slightly old by nature: what counts is asked again before each send.

use assent_contracts::SubjectId;
use assent_contracts::api::campaigns::{Audience, AudienceMember, CampaignState};
use assent_http::{ClientError, Listing};
use sqlx::Row as _;
use sqlx::types::Json;
use uuid::Uuid;

use super::{CampaignError, command_in, in_state};
use crate::domain::campaign::Command;
use crate::state::Messaging;

/// People of one page: each is a lock of the page's transaction.
const PAGE: usize = 500;

/// Why a page was not taken.
#[derive(Debug, thiserror::Error)]
enum AudienceError {
    /// The read model.
    #[error(transparent)]
    Projector(#[from] ClientError),
    /// The campaign, or the database.
    #[error(transparent)]
    Campaign(#[from] CampaignError),
}

impl From<sqlx::Error> for AudienceError {
    fn from(error: sqlx::Error) -> Self {
        Self::Campaign(error.into())
    }
}

impl From<assent_eventstore::StoreError> for AudienceError {
    fn from(error: assent_eventstore::StoreError) -> Self {
        Self::Campaign(error.into())
    }
}

/// A page for each campaign that is gathering. Gives how many were taken.
///
/// # Errors
/// When the database fails; what was taken stays.
pub async fn round(messaging: &Messaging) -> Result<usize, sqlx::Error> {
    let mut conn = messaging.pool().acquire().await?;
    let gathering = in_state(&mut conn, &[CampaignState::Gathering]).await?;
    drop(conn);
    let mut done = 0;
    for id in gathering {
        match page(messaging, id).await {
            Ok(()) => done += 1,
            // The others go on.
            Err(error) => tracing::warn!(%error, campaign_id = %id, "an audience waits"),
        }
    }
    Ok(done)
}

async fn page(messaging: &Messaging, id: Uuid) -> Result<(), AudienceError> {
    const WANTED: &str = "
        SELECT purpose, channel, audience, audience_cursor FROM campaigns WHERE campaign_id = $1";
    const TAKE: &str = "
        INSERT INTO campaign_members (campaign_id, subject_id)
        SELECT $1, subject_id FROM unnest($2::uuid[]) AS t (subject_id)
        WHERE NOT EXISTS (SELECT FROM fences f WHERE f.subject_id = t.subject_id)
        ON CONFLICT DO NOTHING";
    const MOVE: &str = "
        UPDATE campaigns SET audience_cursor = $3, members = members + $4
        WHERE campaign_id = $1 AND audience_cursor IS NOT DISTINCT FROM $2 AND state = 'gathering'";
    let row = sqlx::query(WANTED).bind(id).fetch_one(messaging.pool()).await?;
    let Json(audience): Json<Audience> = row.try_get(2)?;
    let cursor: Option<String> = row.try_get(3)?;
    let path = path(row.try_get(0)?, row.try_get(1)?, &audience, cursor.as_deref());
    let page: Listing<AudienceMember> = messaging.projector.get(&path).await?;
    let people: Vec<SubjectId> = page.items.iter().map(|it| it.subject_id).collect();
    let mut session = messaging.store.begin().await?;
    // Under the locks of their streams no fence slips past, and under the campaign's no other replica.
    session.lock_versions(&[people.as_slice(), &[id]].concat()).await?;
    let taken =
        sqlx::query(TAKE).bind(id).bind(&people).execute(session.conn()).await?.rows_affected();
    let moved = sqlx::query(MOVE)
        .bind(id)
        .bind(&cursor)
        .bind(&page.next)
        .bind(i64::try_from(taken).unwrap_or(i64::MAX))
        .execute(session.conn())
        .await?;
    if moved.rows_affected() == 0 {
        // Another replica was faster, or it was cancelled.
        session.rollback().await?;
        return Ok(());
    }
    if page.next.is_none() {
        let members: i64 =
            sqlx::query_scalar("SELECT members FROM campaigns WHERE campaign_id = $1")
                .bind(id)
                .fetch_one(session.conn())
                .await?;
        let members = u64::try_from(members).unwrap_or_default();
        command_in(messaging, &mut session, id, Command::TakeAudience { members }).await?;
    }
    session.commit().await?;
    Ok(())
}

fn path(purpose: &str, channel: &str, audience: &Audience, cursor: Option<&str>) -> String {
    let encoded = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let mut path = format!(
        "/v1/audience?purpose={}&channel={}&consents={}&limit={PAGE}",
        encoded(purpose),
        encoded(channel),
        audience.consents.as_str()
    );
    if !audience.regions.is_empty() {
        path.push_str(&format!("&regions={}", encoded(&audience.regions.join(","))));
    }
    if let Some(cursor) = cursor {
        path.push_str(&format!("&cursor={}", encoded(cursor)));
    }
    path
}

#[cfg(test)]
mod tests {
    use assent_contracts::api::campaigns::Consents;

    use super::*;

    #[test]
    fn what_is_asked_for_is_safe_in_an_address() {
        let audience =
            Audience { consents: Consents::Any, regions: vec!["FR".to_owned(), "BE".to_owned()] };
        assert_eq!(
            path("news & more", "whatsapp", &audience, Some("a=")),
            "/v1/audience?purpose=news%20%26%20more&channel=whatsapp&consents=any&limit=500&regions=FR%2CBE&cursor=a%3D"
        );
    }
}
