//! What the provider tells of templates: by webhook at once, and by its list now and then. It guarantees
//! that older news never overrules newer, and that a change counts for every send whose lease starts
//! after its commit; what it means for a send is [`crate::domain::template`]'s to say.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::campaigns;
use crate::config::WhatsApp;
use crate::domain::template::MISSING;
use crate::management;
use crate::state::Messaging;
use crate::whatsapp::client::ListError;
use crate::whatsapp::listing::Listed;
use crate::whatsapp::updates::{TemplateNews, TemplateUpdate};

/// Writes what a webhook told.
///
/// # Errors
/// When the database fails.
pub async fn hear(
    conn: &mut PgConnection,
    whatsapp: &WhatsApp,
    update: &TemplateUpdate,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    // Its times are whole seconds: what comes within the second of what is known comes after it. A
    // template that was not known is marketing, the strictest, until its list says otherwise.
    const STATUS: &str = "
        INSERT INTO templates AS known (name, language, category, status, status_reason, status_since)
        VALUES ($1, $2, 'MARKETING', $3, $4, $5)
        ON CONFLICT (name, language) DO UPDATE
            SET status = EXCLUDED.status, status_reason = EXCLUDED.status_reason,
                status_since = EXCLUDED.status_since
            WHERE date_trunc('second', known.status_since) <= EXCLUDED.status_since";
    const CATEGORY: &str = "
        INSERT INTO templates AS known (name, language, category, category_since, next_category,
                                        next_category_at, status)
        VALUES ($1, $2, $3, $4, $5, $6, 'PENDING')
        ON CONFLICT (name, language) DO UPDATE
            SET category = EXCLUDED.category, category_since = EXCLUDED.category_since,
                next_category = EXCLUDED.next_category, next_category_at = EXCLUDED.next_category_at
            WHERE date_trunc('second', known.category_since) <= EXCLUDED.category_since";
    const QUALITY: &str = "
        UPDATE templates SET quality = $3, quality_since = clock_timestamp()
        WHERE name = $1 AND language = $2 AND quality IS DISTINCT FROM $3";
    let TemplateUpdate { name, language, news, .. } = update;
    match news {
        TemplateNews::Status { status, reason } => {
            tracing::info!(template = name, language, status, "a template's status");
            sqlx::query(STATUS)
                .bind(name)
                .bind(language)
                .bind(status)
                .bind(reason)
                .bind(at.to_sqlx())
                .execute(&mut *conn)
                .await?;
        }
        TemplateNews::Category { current, next } => {
            tracing::warn!(template = name, language, current, "a template's category");
            let from = next.as_ref().map(|(_, from)| match Timestamp::from_second(*from) {
                Ok(from) if from > at => from,
                _ => at,
            });
            sqlx::query(CATEGORY)
                .bind(name)
                .bind(language)
                .bind(current)
                .bind(at.to_sqlx())
                .bind(next.as_ref().map(|(next, _)| next))
                .bind(from.map(|from| from.to_sqlx()))
                .execute(&mut *conn)
                .await?;
        }
        TemplateNews::Quality(quality) => {
            tracing::warn!(template = name, language, quality, "a template's quality");
            sqlx::query(QUALITY)
                .bind(name)
                .bind(language)
                .bind(quality)
                .execute(&mut *conn)
                .await?;
        }
        TemplateNews::Components => {}
    }
    read_soon(conn, whatsapp).await
}

/// Has the list read again soon: it knows more than a webhook tells.
///
/// # Errors
/// When the database fails.
pub async fn read_soon(conn: &mut PgConnection, whatsapp: &WhatsApp) -> Result<(), sqlx::Error> {
    const SOON: &str = "
        INSERT INTO template_lists AS list (business_account_id) VALUES ($1)
        ON CONFLICT (business_account_id) DO UPDATE
            -- A minute apart at least: the management API is counted by the hour.
            SET due_at = least(list.due_at,
                               greatest(now(), coalesce(list.read_at, '-infinity') + interval '1 minute'))";
    let Some(account) = &whatsapp.business_account_id else { return Ok(()) };
    sqlx::query(SOON).bind(account).execute(conn).await.map(|_| ())
}

/// How often it is looked whether the list is due.
const POLL: Duration = Duration::from_secs(2);
/// Most pages of one reading.
const PAGES_MAX: usize = 50;

/// Why the list was not read.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the list of templates has more than {PAGES_MAX} pages")]
    TooLong,
    #[error("the management API may not be called for another {0:?}")]
    Resting(Duration),
}

/// Reads the list, every quarter of an hour and when something was told, until `stopping`. Any number of
/// replicas may run it; one reads.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn follow(
    messaging: Messaging,
    stopping: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let Some(account) = messaging.config.whatsapp.business_account_id.clone() else {
        stopping.cancelled().await;
        return Ok(());
    };
    while !stopping.is_cancelled() {
        if let Err(error) = read_if_due(&messaging, &account).await {
            tracing::warn!(%error, "the list of templates can't be read");
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}

async fn read_if_due(messaging: &Messaging, account: &str) -> Result<(), Failure> {
    // Whoever fails has put it off by a minute already.
    const TAKE: &str = "
        INSERT INTO template_lists AS list (business_account_id, due_at, read_at)
        VALUES ($1, now() + interval '1 minute', now())
        ON CONFLICT (business_account_id) DO UPDATE
            SET due_at = now() + interval '1 minute', read_at = now()
            WHERE list.due_at <= now()
        RETURNING 1";
    const READ: &str = "
        UPDATE template_lists SET due_at = greatest(due_at, now() + interval '15 minutes')
        WHERE business_account_id = $1";
    let taken = sqlx::query(TAKE).bind(account).fetch_optional(messaging.pool()).await?;
    if taken.is_none() {
        return Ok(());
    }
    // News that comes while it is being read is newer than the list.
    let asked_at = messaging.clock.now();
    let (mut listed, mut whole) = (Vec::new(), true);
    let mut after: Option<String> = None;
    for page in 0.. {
        if page == PAGES_MAX {
            return Err(Failure::TooLong);
        }
        let per_hour = messaging.config.whatsapp.management_per_hour;
        let reserved = management::reserve(messaging.pool(), account, per_hour).await?;
        reserved.map_err(Failure::Resting)?;
        let read = messaging.provider.templates(account, None, after.as_deref()).await?.read();
        listed.extend(read.listed);
        whole &= read.whole;
        after = read.after;
        if after.is_none() {
            break;
        }
    }
    let mut transaction = messaging.pool().begin().await?;
    campaigns::order_news(&mut transaction).await?;
    for it in &listed {
        learn(&mut transaction, it, asked_at).await?;
    }
    if whole {
        lose(&mut transaction, asked_at).await?;
    }
    sqlx::query(READ).bind(account).execute(&mut *transaction).await?;
    transaction.commit().await?;
    tracing::info!(templates = listed.len(), "the list of templates is read");
    Ok(())
}

/// Writes what the list told of a template when it was asked.
///
/// # Errors
/// When the database fails.
pub(crate) async fn learn(
    conn: &mut PgConnection,
    it: &Listed,
    asked_at: Timestamp,
) -> Result<(), sqlx::Error> {
    const LEARN: &str = "
        INSERT INTO templates AS known (name, language, category, status, status_reason, quality,
                                        components, named, listed_at, status_since, category_since,
                                        provider_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9, $10)
        ON CONFLICT (name, language) DO UPDATE
            SET quality_since = CASE WHEN known.quality IS DISTINCT FROM EXCLUDED.quality
                                     THEN clock_timestamp() ELSE known.quality_since END,
                quality = EXCLUDED.quality, components = EXCLUDED.components, named = EXCLUDED.named,
                listed_at = $9, provider_id = coalesce(EXCLUDED.provider_id, known.provider_id),
                category = CASE WHEN known.category_since <= $9 THEN $3 ELSE known.category END,
                -- Announced stays announced until it has happened.
                next_category = CASE WHEN known.next_category = $3 THEN NULL ELSE known.next_category END,
                next_category_at =
                    CASE WHEN known.next_category = $3 THEN NULL ELSE known.next_category_at END,
                status = CASE WHEN known.status_since <= $9 THEN $4 ELSE known.status END,
                status_reason =
                    CASE WHEN known.status_since <= $9 THEN $5 ELSE known.status_reason END,
                status_since = CASE WHEN known.status_since <= $9 AND known.status <> $4
                                    THEN $9 ELSE known.status_since END";
    sqlx::query(LEARN)
        .bind(&it.name)
        .bind(&it.language)
        .bind(&it.category)
        .bind(&it.status)
        .bind(&it.reason)
        .bind(&it.quality)
        .bind(&it.components)
        .bind(it.named)
        .bind(asked_at.to_sqlx())
        .bind(&it.id)
        .execute(conn)
        .await
        .map(|_| ())
}

/// What doesn't stand in the list doesn't exist there.
async fn lose(conn: &mut PgConnection, asked_at: Timestamp) -> Result<(), sqlx::Error> {
    const LOSE: &str = "
        UPDATE templates SET status = $2, status_reason = NULL, status_since = $1
        WHERE listed_at IS DISTINCT FROM $1 AND status_since <= $1 AND status <> $2";
    sqlx::query(LOSE).bind(asked_at.to_sqlx()).bind(MISSING).execute(conn).await.map(|_| ())
}
