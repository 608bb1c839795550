//! Opt-ins that a person sent from her own number, a word or a code, brought to the consent service. It
//! guarantees that one never lifts a stop that was heard, or said, after it, by whichever of her names, that it counts
//! for whom it names and for nobody while it is in doubt who that is, and that the code of
//! somebody else's number does nothing; in which order declarations go is left to
//! [`crate::forwarder`].

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{CodeAnswer, CodeRequest, ConsentAnswer, GrantRequest};
use assent_contracts::api::vault::{
    Asked, ImportOutcome, ImportRequest, ImportResponse, ImportRow, Standing, Who,
};
use assent_contracts::code::{self, Sentence};
use assent_contracts::consent::{Actor, Method};
use assent_contracts::vault::Origin;
use assent_http::{ClientError, Code};
use jiff_sqlx::ToSqlx as _;
use uuid::Uuid;

use crate::api::webhook::{START_ACCOUNT, START_PHONE};
use crate::declarations::bytes;
use crate::forwarder::{Failure, Pending};
use crate::hour_keys::HourKeyError;
use crate::state::Messaging;
use crate::tasks;
use crate::whatsapp::updates::Address;

/// How often a start is tried while the consent service doesn't know the new person yet.
const START_TRIES: i32 = 30;
/// How often a code is tried while the consent service doesn't know that the number is hers: the news
/// of it may be on its way, for some twenty seconds when much else is.
const CODE_TRIES: i32 = 10;

/// What she agreed to.
struct Agreed {
    purpose: String,
    channel: String,
    method: Method,
    notice_hash: Option<String>,
}

/// What an opt-in came to.
#[derive(Debug, Default)]
pub struct Counted {
    /// Whom it concerns; nobody: it came to nothing.
    pub subjects: Vec<SubjectId>,
    /// To what she agreed by it.
    pub purpose: Option<String>,
}

/// Brings a code to the consent service, and what it agrees to.
pub async fn forward_code(
    messaging: &Messaging,
    pending: &Pending,
    (code, sentence): (code::Code, Sentence),
) -> Result<Counted, Failure> {
    if !pending.in_doubt && overruled(messaging, pending, &pending.tokens, &[]).await? {
        tracing::info!("a code is overruled by a stop that came after it");
        return Ok(Counted::default());
    }
    let Some(sender) = sender(messaging, pending).await? else { return Ok(Counted::default()) };
    let request = CodeRequest {
        message_id: pending.id,
        code,
        sentence,
        addresses: pending.tokens.clone(),
        said_at: Some(pending.counts_from()),
    };
    doubt(messaging, pending, true).await?;
    let answer: Result<CodeAnswer, ClientError> =
        messaging.consent.post("/v1/gate/codes", &request, None).await;
    let answer = match answer {
        // What will never be taken must not hold back the stops behind it.
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, "the consent service refuses a code");
            CodeAnswer::Nothing
        }
        answer => answer?,
    };
    match answer {
        CodeAnswer::Nothing => Ok(Counted::default()),
        CodeAnswer::NotHers if pending.attempts < CODE_TRIES => {
            doubt(messaging, pending, false).await?;
            Err(Failure::NotYet)
        }
        CodeAnswer::NotHers => {
            tracing::info!("a code came from a number that it is not for");
            Ok(Counted::default())
        }
        CodeAnswer::Confirmed { subject_id } | CodeAnswer::Proved { subject_id } => {
            Ok(Counted { subjects: vec![subject_id], purpose: None })
        }
        CodeAnswer::Join { purpose, channel, notice_hash } => {
            let notice_hash = Some(notice_hash);
            let method = Method::ClickToChat;
            let agreed = Agreed { purpose, channel, method, notice_hash };
            grant(messaging, pending, agreed, sender).await
        }
    }
}

/// Grants what a start agrees to.
pub async fn forward_start(messaging: &Messaging, start: &Pending) -> Result<Counted, Failure> {
    if !start.in_doubt && overruled(messaging, start, &start.tokens, &[]).await? {
        tracing::info!("an opt-in is overruled by a stop that came after it");
        return Ok(Counted::default());
    }
    let Some(sender) = sender(messaging, start).await? else { return Ok(Counted::default()) };
    let agreed = Agreed {
        purpose: messaging.config.start_purpose.clone(),
        channel: "whatsapp".to_owned(),
        method: Method::WhatsappMessage,
        notice_hash: None,
    };
    grant(messaging, start, agreed, sender).await
}

/// Grants by her own act: for whom its names are, and as a new person if she is not known (any more). What stood
/// against her under any of her own names is lifted, unless it was said after this. For who is one with her it
/// counts only where she is named too.
async fn grant(
    messaging: &Messaging,
    start: &Pending,
    agreed: Agreed,
    Sender { names, who }: Sender,
) -> Result<Counted, Failure> {
    match who.standing {
        Standing::Known => {}
        Standing::Nobody => {
            let subjects = match register(messaging, start, names).await? {
                Some(subject) => {
                    let own = start.tokens.clone();
                    grant_one(messaging, start, &agreed, (subject, own)).await?
                }
                None => None,
            };
            let subjects = subjects.into_iter().collect();
            return Ok(Counted { subjects, purpose: Some(agreed.purpose) });
        }
        // The vault is about to be told that they are one, or whose it is.
        Standing::ToBeLinked if start.attempts < START_TRIES => return Err(Failure::NotYet),
        Standing::ToBeLinked | Standing::InDoubt => return Ok(Counted::default()),
    }
    let more = who.hers.iter().filter(|token| !start.tokens.contains(token));
    let addresses: Vec<AddressToken> = start.tokens.iter().chain(more).copied().collect();
    widen(messaging, start, &addresses, &who.named).await?;
    if !start.in_doubt {
        if behind(messaging, start, &addresses, &who.named).await? {
            return Err(Failure::NotYet);
        }
        let everybody: Vec<SubjectId> = who.everybody().collect();
        if overruled(messaging, start, &addresses, &everybody).await? {
            tracing::info!("an opt-in is overruled by a stop that came after it, by another name");
            return Ok(Counted::default());
        }
    }
    let mut subjects = Vec::with_capacity(who.named.len());
    for subject in who.named {
        let acting = (subject, addresses.clone());
        subjects.extend(grant_one(messaging, start, &agreed, acting).await?);
    }
    Ok(Counted { subjects, purpose: Some(agreed.purpose) })
}

async fn grant_one(
    messaging: &Messaging,
    start: &Pending,
    agreed: &Agreed,
    (subject, addresses): (SubjectId, Vec<AddressToken>),
) -> Result<Option<SubjectId>, Failure> {
    // One declaration may be the act of several: each has a key of its own, made of both.
    let key = Uuid::new_v5(&start.id, subject.as_bytes()).to_string();
    doubt(messaging, start, true).await?;
    let request = GrantRequest {
        subject_id: subject,
        purpose: agreed.purpose.clone(),
        channel: agreed.channel.clone(),
        actor: Actor::Subject,
        method: agreed.method,
        evidence: None,
        acted_at: Some(start.counts_from()),
        locale: None,
        notice_hash: agreed.notice_hash.clone(),
        place: None,
        addresses,
    };
    let answer: Result<ConsentAnswer, ClientError> =
        messaging.consent.post("/v1/consents/grant", &request, Some(&key)).await;
    match answer {
        Ok(_) => Ok(Some(subject)),
        // The vault's news of her is on its way.
        Err(error)
            if error.code() == Some(Code::SubjectUnknown) && start.attempts < START_TRIES =>
        {
            Err(error.into())
        }
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, "the consent service refuses an opt-in");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether it may have been done: then a stop that comes later doesn't undo it by itself.
async fn doubt(
    messaging: &Messaging,
    pending: &Pending,
    in_doubt: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE declarations SET in_doubt = $2 WHERE id = $1")
        .bind(pending.id)
        .bind(in_doubt)
        .execute(messaging.pool())
        .await
        .map(|_| ())
}

/// Whether a stop of the same address, or of one of these people, was heard, or said, after this start.
async fn overruled(
    messaging: &Messaging,
    start: &Pending,
    tokens: &[AddressToken],
    subjects: &[SubjectId],
) -> Result<bool, sqlx::Error> {
    const OVERRULED: &str = "
        SELECT EXISTS (SELECT FROM declarations WHERE will IN ('stop', 'stop_of')
                       AND (tokens && $1 OR subjects && $4)
                       AND (position > $2 OR said_at > $3))";
    sqlx::query_scalar(OVERRULED)
        .bind(bytes(tokens))
        .bind(start.position)
        .bind(start.said_at.to_sqlx())
        .bind(subjects)
        .fetch_one(messaging.pool())
        .await
}

/// From this commit on a stop under any of these names waits behind this start, or overrules it.
async fn widen(
    messaging: &Messaging,
    start: &Pending,
    addresses: &[AddressToken],
    subjects: &[SubjectId],
) -> Result<(), sqlx::Error> {
    const WIDEN: &str = "UPDATE declarations SET tokens = $2, subjects = $3 WHERE id = $1";
    sqlx::query(WIDEN)
        .bind(start.id)
        .bind(bytes(addresses))
        .bind(subjects)
        .execute(messaging.pool())
        .await
        .map(|_| ())
}

/// Whether something that she declared before, under another of her names, is still on its way.
async fn behind(
    messaging: &Messaging,
    start: &Pending,
    addresses: &[AddressToken],
    subjects: &[SubjectId],
) -> Result<bool, sqlx::Error> {
    const BEHIND: &str = "
        SELECT EXISTS (SELECT FROM declarations WHERE settled_at IS NULL AND position < $2
                       AND (tokens && $1 OR subjects && $3))";
    sqlx::query_scalar(BEHIND)
        .bind(bytes(addresses))
        .bind(start.position)
        .bind(subjects)
        .fetch_one(messaging.pool())
        .await
}

/// From whom an opt-in came.
struct Sender {
    names: Address,
    who: Who,
}

/// From whom it came. None: her names are gone, or it is in doubt who that is, at the vault or here; then it
/// counts for nobody.
async fn sender(messaging: &Messaging, start: &Pending) -> Result<Option<Sender>, Failure> {
    let Some(names) = names(messaging, start).await? else { return Ok(None) };
    let asked = if names.is_empty() {
        Asked { phones: start.tokens.clone(), ..Asked::default() }
    } else {
        messaging.asked(&names, None)
    };
    let who = messaging.who_is(asked).await?;
    let everybody: Vec<SubjectId> = who.everybody().collect();
    let mut conn = messaging.pool().acquire().await?;
    let doubted = tasks::in_doubt(&mut conn, &everybody).await?;
    if who.standing == Standing::InDoubt || !doubted.is_empty() {
        tracing::warn!("an opt-in counts for nobody: it is in doubt who sent it");
        return Ok(None);
    }
    Ok(Some(Sender { names, who }))
}

/// Her names, as they were told with the opt-in; none where they are gone.
async fn names(messaging: &Messaging, start: &Pending) -> Result<Option<Address>, Failure> {
    let Some(hour_key) = start.hour_key else { return Ok(Some(Address::default())) };
    let keys = messaging.hour_keys.earlier(&[hour_key]).await?;
    let open = |field, sealed: &Option<Vec<u8>>| {
        sealed.as_ref().map(|sealed| keys.open(start.id, field, hour_key, sealed)).transpose()
    };
    let (phone, account) =
        match (open(START_PHONE, &start.phone), open(START_ACCOUNT, &start.account)) {
            (Err(HourKeyError::Ended), _) | (_, Err(HourKeyError::Ended)) => {
                tracing::error!("an opt-in could not be forwarded within a day and is lost");
                return Ok(None);
            }
            (phone, account) => (phone?, account?),
        };
    let account: Address =
        account.and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default();
    let phone = phone.map(|phone| String::from_utf8_lossy(&phone).into_owned());
    Ok(Some(Address { phone, ..account }))
}

/// Makes her known by her names. Nobody: the vault refuses.
async fn register(
    messaging: &Messaging,
    start: &Pending,
    names: Address,
) -> Result<Option<SubjectId>, Failure> {
    let Address { phone, user_id, parent_user_id } = names;
    if phone.is_none() && user_id.is_none() {
        return Ok(None);
    }
    let row = ImportRow {
        phone: phone.unwrap_or_default(),
        parent_user_id: parent_user_id.filter(|_| user_id.is_some()),
        user_id,
        ..ImportRow::default()
    };
    let acted_at = Some(start.counts_from());
    let request = ImportRequest { origin: Origin::Subject, acted_at, rows: vec![row] };
    let answer: ImportResponse =
        messaging.vault.post("/v1/subjects/import", &request, None).await?;
    match answer.outcomes.into_iter().next() {
        Some(ImportOutcome::Created { subject_id }) => Ok(Some(subject_id)),
        // She became known meanwhile, by one of them at least: it is looked at again.
        Some(ImportOutcome::Existing { .. }) => Err(Failure::NotYet),
        Some(ImportOutcome::Refused { reason } | ImportOutcome::Rejected { reason, .. }) => {
            tracing::warn!(reason, "the vault refuses an opt-in");
            Ok(None)
        }
        None => Err(Failure::Mismatch),
    }
}
