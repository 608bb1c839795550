//! Processes stored webhook bodies. It guarantees that each update is applied once, that an update
//! that can't be read or applied is parked alone and never stands in the way of others, and that a body
//! is deleted in the transaction that applies it; the stops in it were taken at the door already.

use std::collections::HashMap;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{LookupRequest, LookupResponse};
use assent_contracts::messaging::{
    MESSAGE_RECEIVED, MessageReceived, STATUS_CHANGED, Status, StatusChanged,
};
use assent_eventstore::{Append, Session, StoreError, to_the_end};
use assent_http::{ClientError, Code};
use assent_runtime::ops::Watchdog;
use assent_sealing::to_text;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgConnection, Row as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::api::webhook::{BODY, said_at};
use crate::consequences::{self, Consequence};
use crate::domain::intent::{Happening, State, advance};
use crate::hour_keys::HourKeyError;
use crate::intents::{self, Settlement};
use crate::person_keys::{KeyError, LeasedKeys};
use crate::state::{Messaging, fenced};
use crate::whatsapp::reaction;
use crate::whatsapp::updates::{
    AccountUpdate, Inbound, Place, StatusUpdate, TemplateUpdate, Update, Webhook,
};
use crate::{metrics, moves, templates};

/// Bodies taken at once.
const TAKE: i64 = 16;
/// How long a processor holds what it took.
const HOLD: Duration = Duration::from_secs(60);
/// Messages that are sealed under one lease of keys.
const SEAL_TOGETHER: usize = 100;
/// How often bodies are looked for when nothing announces them.
const POLL: Duration = Duration::from_millis(500);

/// A body as it was stored.
struct Stored {
    id: Uuid,
    hour_key: Uuid,
    sealed: Vec<u8>,
    received_at: Timestamp,
}

/// Why a body is still there.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Vault(#[from] ClientError),
    #[error(transparent)]
    Keys(#[from] HourKeyError),
    #[error(transparent)]
    PersonKeys(KeyError),
    /// It will never be processed.
    #[error("not processable: {0}")]
    Unprocessable(&'static str),
}

impl Failure {
    /// Whether the body is to blame, and not whoever was asked about it.
    fn is_of_the_body(&self) -> bool {
        let of_the_data = |error: &sqlx::Error| {
            let code = error.as_database_error().and_then(|error| error.code());
            // Data exceptions and violated constraints.
            code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
        };
        match self {
            Self::Database(error) | Self::Store(StoreError::Database(error)) => of_the_data(error),
            // Not a key that is refused, say: that is put right, and the body goes through.
            Self::Vault(error) => matches!(
                error.code(),
                Some(Code::ValidationFailed | Code::MalformedBody | Code::BodyTooLarge)
            ),
            Self::Unprocessable(_) => true,
            Self::Store(_) | Self::Keys(_) | Self::PersonKeys(_) => false,
        }
    }
}

/// Processes until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn run(
    messaging: Messaging,
    stopping: CancellationToken,
    watchdog: Watchdog,
) -> Result<(), std::convert::Infallible> {
    while !stopping.is_cancelled() {
        watchdog.progress();
        let taken = match take(&messaging).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "stored webhooks can't be read");
                Vec::new()
            }
        };
        let idle = taken.is_empty();
        for body in taken {
            watchdog.progress();
            let id = body.id;
            if let Err(error) = process(&messaging, body).await {
                tracing::warn!(%error, body = %id, "a webhook body is not processed yet");
                if let Err(error) = put_back(&messaging, id, &error).await {
                    tracing::warn!(%error, body = %id, "a webhook body can't be put back");
                }
            }
        }
        if idle {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = messaging.received.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
    Ok(())
}

async fn take(messaging: &Messaging) -> Result<Vec<Stored>, sqlx::Error> {
    const SQL: &str = "
        UPDATE webhook_bodies SET not_before = now() + make_interval(secs => $2), attempts = attempts + 1
        WHERE id IN (SELECT id FROM webhook_bodies WHERE parked IS NULL AND not_before <= now()
                     ORDER BY not_before, id LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING id, hour_key, sealed, received_at";
    let rows =
        sqlx::query(SQL).bind(TAKE).bind(HOLD.as_secs_f64()).fetch_all(messaging.pool()).await?;
    let mut taken = rows
        .iter()
        .map(|row| {
            Ok(Stored {
                id: row.try_get(0)?,
                hour_key: row.try_get(1)?,
                sealed: row.try_get(2)?,
                received_at: row.try_get::<SqlTimestamp, _>(3)?.to_jiff(),
            })
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    taken.sort_unstable_by_key(|body| body.id);
    Ok(taken)
}

async fn put_back(messaging: &Messaging, id: Uuid, why: &Failure) -> Result<(), sqlx::Error> {
    const SQL: &str = "
        UPDATE webhook_bodies SET parked = $2,
               not_before = now() + make_interval(secs => least(0.1 * 2 ^ least(attempts, 8), 20))
        WHERE id = $1";
    let parked = match why {
        Failure::Unprocessable(reason) => Some(*reason),
        Failure::Keys(HourKeyError::Ended) => Some("key_ended"),
        _ => None,
    };
    sqlx::query(SQL).bind(id).bind(parked).execute(messaging.pool()).await.map(|_| ())
}

/// An inbound message of a person we know.
struct FromPerson {
    subject: SubjectId,
    id: Uuid,
    hash: Vec<u8>,
    kind: &'static str,
    sealed: Vec<u8>,
    said_at: i64,
}

/// A status and the intent that it is about.
struct OfIntent {
    subject: SubjectId,
    id: Uuid,
    status: Status,
    provider_id: String,
    code: Option<i64>,
    /// When, seconds since 1970.
    at: i64,
}

async fn process(messaging: &Messaging, body: Stored) -> Result<(), Failure> {
    let raw = messaging.hour_keys.open(body.id, BODY, body.hour_key, &body.sealed).await?;
    let webhook = Webhook::read(&raw).map_err(|_| Failure::Unprocessable("no_webhook_envelope"))?;
    drop(raw);
    let (bad, good): (Vec<_>, Vec<_>) = webhook
        .updates()
        .iter()
        .partition(|(_, it)| matches!(it, Update::Unknown | Update::Unreadable));
    let parts: Vec<(Vec<Place>, Option<&'static str>)> =
        bad.iter().map(|(place, it)| (vec![*place], Some(it.kind()))).collect();
    let parked = resealed(messaging, &body, &webhook, parts).await?;
    let places: Vec<Place> = good.iter().map(|(place, _)| *place).collect();
    let kinds: Vec<&'static str> = webhook.updates().iter().map(|(_, it)| it.kind()).collect();
    match apply(messaging, &body, good.into_iter().map(|(_, update)| update), parked).await {
        Err(failure) if failure.is_of_the_body() => {
            // Halves are tried on their own, until what is to blame stands alone.
            let parts = match places.len() {
                0 => return Err(failure),
                1 => vec![(places, Some("not_applicable"))],
                many => {
                    let (first, second) = places.split_at(many / 2);
                    vec![(first.to_vec(), None), (second.to_vec(), None)]
                }
            };
            tracing::warn!(error = %failure, body = %body.id, "an update can't be applied");
            let parts = parts
                .into_iter()
                .chain(bad.iter().map(|(place, it)| (vec![*place], Some(it.kind()))))
                .collect();
            let parts = resealed(messaging, &body, &webhook, parts).await?;
            replace(messaging, &body, &parts).await
        }
        Ok(true) => {
            kinds.into_iter().for_each(metrics::update);
            messaging.moved.notify_waiters();
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// A part of a body that is stored on its own.
struct Part {
    id: Uuid,
    sealed: Vec<u8>,
    parked: Option<&'static str>,
}

/// Parts of a body, sealed under its key: they live no longer than it.
async fn resealed(
    messaging: &Messaging,
    body: &Stored,
    webhook: &Webhook,
    parts: Vec<(Vec<Place>, Option<&'static str>)>,
) -> Result<Vec<Part>, Failure> {
    let mut resealed = Vec::with_capacity(parts.len());
    for (places, parked) in parts {
        let id = messaging.ids.v7();
        let alone = Zeroizing::new(webhook.only(&places));
        let sealed = messaging.hour_keys.seal_again(id, BODY, body.hour_key, &alone).await?;
        resealed.push(Part { id, sealed, parked });
    }
    Ok(resealed)
}

/// Deletes a body and stores parts of it. Gives false when another processor was faster.
async fn divide(
    conn: &mut PgConnection,
    body: &Stored,
    parts: &[Part],
) -> Result<bool, sqlx::Error> {
    // Parts come before what was received later.
    const STORE: &str = "
        INSERT INTO webhook_bodies (id, hour_key, sealed, received_at, not_before, parked)
        VALUES ($1, $2, $3, $4, $4, $5)";
    let deleted = sqlx::query("DELETE FROM webhook_bodies WHERE id = $1")
        .bind(body.id)
        .execute(&mut *conn)
        .await?;
    if deleted.rows_affected() == 0 {
        return Ok(false);
    }
    for part in parts {
        sqlx::query(STORE)
            .bind(part.id)
            .bind(body.hour_key)
            .bind(&part.sealed)
            .bind(body.received_at.to_sqlx())
            .bind(part.parked)
            .execute(&mut *conn)
            .await?;
        if let Some(reason) = part.parked {
            tracing::warn!(body = %part.id, reason, "an update of a webhook is parked");
        }
    }
    Ok(true)
}

async fn replace(messaging: &Messaging, body: &Stored, parts: &[Part]) -> Result<(), Failure> {
    let mut transaction = messaging.pool().begin().await?;
    let divided = divide(&mut transaction, body, parts).await?;
    transaction.commit().await?;
    if divided {
        parts.iter().filter_map(|part| part.parked).for_each(metrics::update);
    }
    messaging.received.notify_one();
    Ok(())
}

/// Applies updates, and parks what was not to be read, in one transaction. Gives false when another
/// processor was faster.
async fn apply<'a>(
    messaging: &Messaging,
    body: &Stored,
    updates: impl Iterator<Item = &'a Update>,
    parked: Vec<Part>,
) -> Result<bool, Failure> {
    let mut messages = Vec::new();
    let mut statuses = Vec::new();
    let mut moves = Vec::new();
    let mut news = Vec::new();
    // An app may hear of more than this deployment's account and number. The stops among it were taken.
    let whatsapp = &messaging.config.whatsapp;
    let ours = whatsapp.business_account_id.as_ref();
    let of_another =
        |account: &Option<String>| account.as_ref().zip(ours).is_some_and(|(it, ours)| it != ours);
    let to_another = |number: &Option<String>| {
        number.as_ref().is_some_and(|number| *number != whatsapp.phone_number_id)
    };
    for update in updates {
        match update {
            Update::Message(message) if to_another(&message.number) => {}
            Update::Template(update) if of_another(&update.account) => {}
            Update::Account(update) if of_another(&update.account) => {}
            Update::Message(message) => messages.push(message),
            Update::Status(status) => statuses.extend(of_intent(messaging, status).await?),
            Update::Moved(moved) => moves.push(moves::look(messaging, moved).await?),
            Update::Template(template) => news.push(News::Template(template.clone())),
            Update::Account(account) => news.push(News::Account(account.clone())),
            Update::Preference(_) | Update::Notice(_) | Update::Unknown | Update::Unreadable => {}
        }
    }
    let messages = from_people(messaging, messages).await?;
    let reconciled: Vec<SubjectId> = statuses.iter().map(|it| it.subject).collect();
    let keys = intents::lease_keys(messaging, &reconciled).await;
    let service = messaging.clone();
    let stored = Stored { sealed: Vec::new(), ..*body };
    to_the_end(async move {
        let mut session = service.store.begin().await?;
        let mut subjects: Vec<SubjectId> = messages.iter().map(|it| it.subject).collect();
        subjects.extend(&reconciled);
        subjects.extend(moves.iter().filter_map(|it| it.subject));
        subjects.sort_unstable();
        subjects.dedup();
        session.lock_versions(&subjects).await?;
        let gone = fenced(session.conn(), &subjects).await?;
        if !divide(session.conn(), &stored, &parked).await? {
            session.rollback().await?;
            return Ok(false);
        }
        for it in &news {
            it.apply(&service, session.conn()).await?;
        }
        let mut appends = Vec::new();
        for message in messages.iter().filter(|it| !gone.contains(&it.subject)) {
            appends.extend(receive(&service, session.conn(), message).await?);
        }
        session.append(appends).await?;
        for status in statuses.iter().filter(|it| !gone.contains(&it.subject)) {
            reconcile(&service, &mut session, status, keys.as_ref()).await?;
        }
        for moved in &moves {
            let is_gone = moved.subject.is_some_and(|subject| gone.contains(&subject));
            moves::apply(&service, session.conn(), moved, is_gone).await?;
        }
        session.commit().await?;
        Ok(true)
    })
    .await
}

/// What the provider tells of its own things.
enum News {
    Template(TemplateUpdate),
    Account(AccountUpdate),
}

impl News {
    async fn apply(
        &self,
        messaging: &Messaging,
        conn: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let now = messaging.clock.now();
        match self {
            Self::Template(update) => {
                let at = said_at(update.at, now);
                templates::hear(conn, &messaging.config.whatsapp, update, at).await
            }
            Self::Account(update) => {
                let number = &messaging.config.whatsapp.phone_number_id;
                consequences::account(conn, number, update, said_at(update.at, now)).await
            }
        }
    }
}

/// The messages of people we know, sealed under their keys. What strangers wrote goes with the body: there
/// is no key to keep it under, and no reason.
async fn from_people(
    messaging: &Messaging,
    messages: Vec<&Inbound>,
) -> Result<Vec<FromPerson>, Failure> {
    let mut known: Vec<(SubjectId, &Inbound)> = Vec::with_capacity(messages.len());
    let mut found = HashMap::new();
    for message in messages {
        let tokens = messaging.tokens(&message.from);
        let subject = match found.get(&tokens) {
            Some(subject) => *subject,
            None => {
                let request =
                    LookupRequest { phone: None, country: None, addresses: tokens.clone() };
                let answer: LookupResponse =
                    messaging.vault.post("/v1/subjects/lookup", &request, None).await?;
                found.insert(tokens, answer.subject_id);
                answer.subject_id
            }
        };
        known.extend(subject.map(|subject| (subject, message)));
    }
    let mut sealed = Vec::with_capacity(known.len());
    // No more under one lease than are sealed in a small part of it.
    for some in known.chunks(SEAL_TOGETHER) {
        let mut subjects: Vec<SubjectId> = some.iter().map(|(subject, _)| *subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let keys = messaging.person_keys.lease("receive_message", &subjects).await?;
        for (subject, message) in some {
            sealed.extend(from_person(messaging, &keys, *subject, message)?);
        }
    }
    Ok(sealed)
}

/// None when she is gone.
fn from_person(
    messaging: &Messaging,
    keys: &LeasedKeys,
    subject: SubjectId,
    message: &Inbound,
) -> Result<Option<FromPerson>, Failure> {
    let id = messaging.ids.v7();
    let content = message.raw.to_string();
    let sealed = match keys.seal(subject, id, "content", content.as_bytes()) {
        Ok(sealed) => sealed,
        Err(KeyError::Gone) => return Ok(None),
        Err(error) => return Err(Failure::PersonKeys(error)),
    };
    let Some(hash) = messaging.provider_hashes(&message.id).into_iter().next() else {
        return Ok(None);
    };
    let (kind, said_at) = (message.said.kind(), message.said_at);
    Ok(Some(FromPerson { subject, id, hash, kind, sealed, said_at }))
}

/// Records a message from a person, unless it was seen before.
async fn receive(
    messaging: &Messaging,
    conn: &mut PgConnection,
    message: &FromPerson,
) -> Result<Option<Append>, StoreError> {
    const SEEN: &str =
        "INSERT INTO seen_messages (hash, seen_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    const INSERT: &str = "
        INSERT INTO inbound_messages (id, subject_id, kind, content, received_at, said_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    let now = messaging.clock.now();
    let said = said_at(message.said_at, now);
    let is_new =
        sqlx::query(SEEN).bind(&message.hash).bind(now.to_sqlx()).execute(&mut *conn).await?;
    if is_new.rows_affected() == 0 {
        return Ok(None);
    }
    consequences::she_wrote(&mut *conn, message.subject, said).await?;
    sqlx::query(INSERT)
        .bind(message.id)
        .bind(message.subject)
        .bind(message.kind)
        .bind(&message.sealed)
        .bind(now.to_sqlx())
        .bind(said.to_sqlx())
        .execute(&mut *conn)
        .await?;
    let event = MessageReceived {
        message_id: message.id,
        kind: message.kind.to_owned(),
        content: Some(to_text(&message.sealed)),
        at: now,
        said_at: Some(said),
    };
    messaging.event(message.subject, messaging.ids.v7(), MESSAGE_RECEIVED, &event, now).map(Some)
}

/// The intent that a status is about: by our own id, which comes back, or by the provider's.
async fn of_intent(
    messaging: &Messaging,
    status: &StatusUpdate,
) -> Result<Option<OfIntent>, sqlx::Error> {
    const FIND: &str = "
        SELECT id, subject_id FROM intents WHERE id = $1
        UNION ALL
        SELECT id, subject_id FROM intents WHERE provider_hash = ANY($2)
        LIMIT 1";
    let reported = match status.status.as_str() {
        "sent" => Status::Sent,
        "delivered" => Status::Delivered,
        "read" | "played" => Status::Read,
        "failed" => Status::Failed,
        _ => return Ok(None),
    };
    let ours: Option<Uuid> = status.callback_data.as_deref().and_then(|it| it.parse().ok());
    let row = sqlx::query(FIND)
        .bind(ours)
        .bind(messaging.provider_hashes(&status.id))
        .fetch_optional(messaging.pool())
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(OfIntent {
        id: row.try_get(0)?,
        subject: row.try_get(1)?,
        status: reported,
        provider_id: status.id.clone(),
        code: status.codes.first().copied(),
        at: status.at,
    }))
}

/// Settles an intent whose answer was lost or is not here yet, and moves its status forward.
async fn reconcile(
    messaging: &Messaging,
    session: &mut Session,
    it: &OfIntent,
    keys: Option<&LeasedKeys>,
) -> Result<(), StoreError> {
    const LOOK: &str = "
        SELECT state, status, template, language, permit_id IS NOT NULL FROM intents
        WHERE id = $1 FOR UPDATE";
    const MOVE: &str = "
        UPDATE intents SET status = $2, provider_code = coalesce($3, provider_code), changed_at = $4
        WHERE id = $1";
    let row = sqlx::query(LOOK).bind(it.id).fetch_optional(session.conn()).await?;
    let Some(row) = row else { return Ok(()) };
    let state = State::parse(row.try_get(0)?);
    let current = row.try_get::<Option<&str>, _>(1)?.and_then(status_named);
    let template = row.try_get::<Option<String>, _>(2)?.zip(row.try_get(3)?);
    let waits = matches!(state, Some(State::Queued | State::Claimed));
    // A try that the provider seemed to refuse, and took all the same.
    let went_out = waits && row.try_get(4)? && it.status != Status::Failed;
    if went_out || matches!(state, Some(State::Calling | State::Uncertain)) {
        // A status proves that the provider has it; `failed` says that it did, and gave up.
        let (happening, reason) = match it.status {
            Status::Failed => (Happening::Rejected, failure(it.code)),
            _ => (Happening::Accepted, ""),
        };
        let mut settlement = Settlement::new(it.id, it.subject, None, happening, reason);
        settlement.provider_id = Some(it.provider_id.clone()).filter(|id| !id.is_empty());
        settlement.provider_code = it.code;
        intents::apply(messaging, session, &[settlement], keys).await?;
    } else if waits || state == Some(State::Refused) {
        tracing::error!(message_id = %it.id, "a status for a message that was not sent");
        return Ok(());
    }
    let Some(next) = advance(current, it.status) else { return Ok(()) };
    let now = messaging.clock.now();
    sqlx::query(MOVE)
        .bind(it.id)
        .bind(status_name(next))
        .bind(it.code)
        .bind(now.to_sqlx())
        .execute(session.conn())
        .await?;
    if next == Status::Failed {
        let meaning = reaction::to(None, it.code);
        metrics::provider_error(it.code, meaning);
        let consequence = Consequence {
            reaction: meaning.reaction,
            code: it.code,
            subject: it.subject,
            template,
            said_at: said_at(it.at, now),
        };
        let whatsapp = &messaging.config.whatsapp;
        consequences::record(session.conn(), whatsapp, &[consequence], |_| false).await?;
    }
    let event = StatusChanged {
        message_id: it.id,
        status: next,
        provider_code: it.code.filter(|_| next == Status::Failed),
        at: now,
    };
    let id = messaging.ids.v7();
    let append = messaging.event(it.subject, id, STATUS_CHANGED, &event, now)?;
    session.append(vec![append]).await?;
    Ok(())
}

/// Why it failed, a stable code. By webhook nothing is tried again, whatever the code asks for.
fn failure(code: Option<i64>) -> &'static str {
    let meaning = reaction::to(None, code);
    if meaning.known { meaning.reason } else { "provider_failed" }
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Sent => "sent",
        Status::Delivered => "delivered",
        Status::Read => "read",
        Status::Failed => "failed",
    }
}

fn status_named(name: &str) -> Option<Status> {
    [Status::Sent, Status::Delivered, Status::Read, Status::Failed]
        .into_iter()
        .find(|status| status_name(*status) == name)
}
