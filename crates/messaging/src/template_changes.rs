//! Templates created, edited and deleted at the provider. It guarantees that a repeat after a lost answer
//! finds what the first call did: name and language are the key, and the provider itself is asked. What
//! becomes of a review comes by webhook and list ([`crate::templates`]).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::Row as _;

use crate::domain::template::{MARKETING, MISSING};
use crate::domain::template_draft::TemplateDraft;
use crate::state::Messaging;
use crate::whatsapp::client::ListError;
use crate::whatsapp::listing::Listed;
use crate::whatsapp::management::{ManageError, Taken};
use crate::whatsapp::template_form::{Creation, Form, components, is_the_same};
use crate::{campaigns, management, templates};

/// What a template is under review as.
const PENDING: &str = "PENDING";
const DELETED: &str = "DELETED";

/// Why a template was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No business account is configured.
    #[error("no business account is configured")]
    NoAccount,
    /// There is no such template.
    #[error("there is no such template")]
    Unknown,
    /// There is one that says something else.
    #[error("there is another template of this name in this language")]
    Exists,
    /// No more calls for so long.
    #[error("no call of the management API for another {0:?}")]
    Resting(Duration),
    /// The provider refuses, or doesn't answer.
    #[error(transparent)]
    Provider(ManageError),
    /// The provider's list can't be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What is known of a template.
struct Known {
    provider_id: Option<String>,
    category: String,
    status: String,
    status_since: Timestamp,
    components: Option<serde_json::Value>,
    named: bool,
    /// The provider's list or an answer of its told of it.
    is_theirs: bool,
}

impl Known {
    fn exists(&self) -> bool {
        self.is_theirs && ![MISSING, DELETED].contains(&self.status.as_str())
    }

    fn says(&self, draft: &TemplateDraft) -> bool {
        let written = components(draft);
        self.named == draft.named()
            && self.components.as_ref().is_some_and(|told| is_the_same(told, &written))
    }
}

/// Has the provider take up a template. One that is there already and says the same is the one meant.
///
/// # Errors
/// [`ChangeError`].
pub async fn create(messaging: &Messaging, draft: &TemplateDraft) -> Result<(), ChangeError> {
    let account = account(messaging)?;
    let known = known(messaging, &draft.name, &draft.language).await?;
    if let Some(known) = known.filter(Known::exists) {
        return if known.says(draft) { Ok(()) } else { Err(ChangeError::Exists) };
    }
    reserve(messaging, account).await?;
    let asked_at = before(messaging.clock.now());
    let taken = messaging.provider.create_template(account, &Creation::new(draft)).await;
    match refused_for_now(messaging, account, taken).await {
        Ok(taken) => took(messaging, draft, taken, asked_at).await,
        // Perhaps an earlier call of ours, whose answer was lost.
        Err(ChangeError::Provider(ManageError::Exists)) => {
            let found = find(messaging, account, &draft.name, &draft.language).await?;
            match found {
                Some(known) if known.says(draft) => Ok(()),
                _ => Err(ChangeError::Exists),
            }
        }
        Err(error) => Err(error),
    }
}

/// Replaces what a template says. It is reviewed anew, and not sent meanwhile.
///
/// # Errors
/// [`ChangeError`].
pub async fn edit(messaging: &Messaging, draft: &TemplateDraft) -> Result<(), ChangeError> {
    // News that came while it was being asked is newer than the edit.
    const EDITED: &str = "
        UPDATE templates
        SET components = $3, named = $4,
            status = CASE WHEN status_since = $7 THEN $6 ELSE status END,
            status_reason = CASE WHEN status_since = $7 THEN NULL ELSE status_reason END,
            status_since = greatest(status_since, $5)
        WHERE name = $1 AND language = $2";
    let account = account(messaging)?;
    let (name, language) = (&draft.name, &draft.language);
    let mut known = known(messaging, name, language).await?.filter(Known::exists);
    if known.as_ref().is_none_or(|it| it.provider_id.is_none() || it.components.is_none()) {
        known = find(messaging, account, name, language).await?;
    }
    let known = known.ok_or(ChangeError::Unknown)?;
    let changes_category = known.category != draft.category.as_str();
    if known.says(draft) && !changes_category && draft.ttl_seconds.is_none() {
        return Ok(());
    }
    let id = known.provider_id.ok_or(ChangeError::Unknown)?;
    reserve(messaging, account).await?;
    let asked_at = before(messaging.clock.now());
    // The category of an approved one can't be edited, so an unchanged one stays unsaid.
    let edited = messaging.provider.edit_template(&id, &Form::new(draft, changes_category)).await;
    match refused_for_now(messaging, account, edited).await {
        Ok(()) => {}
        Err(ChangeError::Provider(ManageError::Gone)) => return Err(ChangeError::Unknown),
        Err(error) => return Err(error),
    }
    let mut transaction = messaging.pool().begin().await?;
    campaigns::order_news(&mut transaction).await?;
    sqlx::query(EDITED)
        .bind(name)
        .bind(language)
        .bind(components(draft))
        .bind(draft.named())
        .bind(asked_at.to_sqlx())
        .bind(PENDING)
        .bind(known.status_since.to_sqlx())
        .execute(&mut *transaction)
        .await?;
    templates::read_soon(&mut transaction, &messaging.config.whatsapp).await?;
    Ok(transaction.commit().await?)
}

/// Deletes a template in one language, or in all. One that is gone already is deleted.
///
/// # Errors
/// [`ChangeError`].
pub async fn delete(
    messaging: &Messaging,
    name: &str,
    language: Option<&str>,
) -> Result<(), ChangeError> {
    const HERE: &str = "
        SELECT EXISTS (SELECT FROM templates
                       WHERE name = $1 AND language = coalesce($2, language))";
    const GONE: &str = "
        UPDATE templates SET status = $3, status_reason = NULL, status_since = $4
        WHERE name = $1 AND language = coalesce($2, language) AND status <> $3";
    let account = account(messaging)?;
    let mut id = None;
    if let Some(language) = language {
        let mut one = known(messaging, name, language).await?;
        if one.as_ref().is_some_and(|it| it.is_theirs && it.status == DELETED) {
            return Ok(());
        }
        if one.as_ref().is_none_or(|it| it.provider_id.is_none()) {
            one = find(messaging, account, name, language).await?;
        }
        id = Some(one.and_then(|it| it.provider_id).ok_or(ChangeError::Unknown)?);
    }
    reserve(messaging, account).await?;
    let deleted = messaging.provider.delete_template(account, name, id.as_deref()).await;
    match refused_for_now(messaging, account, deleted).await {
        Ok(()) => {}
        Err(ChangeError::Provider(ManageError::Gone)) => {
            let here = sqlx::query_scalar(HERE).bind(name).bind(language);
            if !here.fetch_one(messaging.pool()).await? {
                return Err(ChangeError::Unknown);
            }
        }
        Err(error) => return Err(error),
    }
    let mut transaction = messaging.pool().begin().await?;
    campaigns::order_news(&mut transaction).await?;
    sqlx::query(GONE)
        .bind(name)
        .bind(language)
        .bind(DELETED)
        .bind(messaging.clock.now().to_sqlx())
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

fn account(messaging: &Messaging) -> Result<&str, ChangeError> {
    messaging.config.whatsapp.business_account_id.as_deref().ok_or(ChangeError::NoAccount)
}

/// A webhook's times are whole seconds: news of the second before a call may be newer than the call.
fn before(now: Timestamp) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(1)).unwrap_or(now)
}

async fn reserve(messaging: &Messaging, account: &str) -> Result<(), ChangeError> {
    let per_hour = messaging.config.whatsapp.management_per_hour;
    management::reserve(messaging.pool(), account, per_hour).await?.map_err(ChangeError::Resting)
}

/// What the provider answered; too many calls let the account rest.
async fn refused_for_now<T>(
    messaging: &Messaging,
    account: &str,
    answer: Result<T, ManageError>,
) -> Result<T, ChangeError> {
    match answer {
        Err(ManageError::TooMany) => {
            management::rest(messaging.pool(), account).await?;
            Err(ChangeError::Resting(management::REST))
        }
        other => other.map_err(ChangeError::Provider),
    }
}

async fn took(
    messaging: &Messaging,
    draft: &TemplateDraft,
    taken: Taken,
    asked_at: Timestamp,
) -> Result<(), ChangeError> {
    let listed = Listed {
        id: Some(taken.id),
        name: draft.name.clone(),
        language: draft.language.clone(),
        // Unsaid, it may be the strictest.
        category: taken.category.unwrap_or_else(|| MARKETING.to_owned()),
        status: taken.status.unwrap_or_else(|| PENDING.to_owned()),
        reason: None,
        quality: None,
        components: Some(components(draft)),
        named: draft.named(),
    };
    let mut transaction = messaging.pool().begin().await?;
    campaigns::order_news(&mut transaction).await?;
    templates::learn(&mut transaction, &listed, asked_at).await?;
    templates::read_soon(&mut transaction, &messaging.config.whatsapp).await?;
    Ok(transaction.commit().await?)
}

async fn known(
    messaging: &Messaging,
    name: &str,
    language: &str,
) -> Result<Option<Known>, sqlx::Error> {
    const KNOWN: &str = "
        SELECT provider_id, category, status, components, named,
               provider_id IS NOT NULL OR listed_at IS NOT NULL, status_since
        FROM templates WHERE name = $1 AND language = $2";
    let row = sqlx::query(KNOWN).bind(name).bind(language).fetch_optional(messaging.pool()).await?;
    row.map(|row| {
        Ok(Known {
            provider_id: row.try_get(0)?,
            category: row.try_get(1)?,
            status: row.try_get(2)?,
            components: row.try_get(3)?,
            named: row.try_get(4)?,
            is_theirs: row.try_get(5)?,
            status_since: row.try_get::<SqlTimestamp, _>(6)?.to_jiff(),
        })
    })
    .transpose()
}

/// What the provider tells of a template now, which is learnt thereby.
async fn find(
    messaging: &Messaging,
    account: &str,
    name: &str,
    language: &str,
) -> Result<Option<Known>, ChangeError> {
    let mut after: Option<String> = None;
    loop {
        reserve(messaging, account).await?;
        let asked_at = before(messaging.clock.now());
        let page =
            messaging.provider.templates(account, Some(name), after.as_deref()).await?.read();
        let found = page.listed.iter().find(|it| it.name == name && it.language == language);
        if let Some(found) = found {
            let mut transaction = messaging.pool().begin().await?;
            campaigns::order_news(&mut transaction).await?;
            templates::learn(&mut transaction, found, asked_at).await?;
            transaction.commit().await?;
            return Ok(known(messaging, name, language).await?);
        }
        after = page.after;
        if after.is_none() {
            return Ok(None);
        }
    }
}
