//! Opt-ins that a person sent from her own number, a word or a code, brought to the consent service. It
//! guarantees that one never lifts a stop that was heard, or said, after it, and that the code of
//! somebody else's number does nothing; in which order declarations go is left to
//! [`crate::forwarder`].

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{CodeAnswer, CodeRequest, ConsentAnswer, GrantRequest};
use assent_contracts::api::vault::{
    ImportOutcome, ImportRequest, ImportResponse, ImportRow, LookupRequest, LookupResponse,
    ResolveRequest, ResolveResponse,
};
use assent_contracts::code::{self, Sentence};
use assent_contracts::consent::{Actor, Method};
use assent_contracts::vault::Origin;
use assent_http::{ClientError, Code};
use uuid::Uuid;

use crate::api::webhook::{START_ACCOUNT, START_PHONE};
use crate::declarations::bytes;
use crate::forwarder::{Failure, Pending};
use crate::hour_keys::HourKeyError;
use crate::state::Messaging;
use crate::whatsapp::updates::Address;
use jiff_sqlx::ToSqlx as _;

/// How often a start is tried while the consent service doesn't know the new person yet.
const START_TRIES: i32 = 30;
/// How often a code is tried while the consent service doesn't know that the number is hers: the news
/// of it may be on its way.
const CODE_TRIES: i32 = 6;

/// What she agreed to.
struct Agreed {
    purpose: String,
    channel: String,
    method: Method,
    notice_hash: Option<String>,
}

/// Brings a code to the consent service, and what it agrees to. Gives whom it concerns.
pub async fn forward_code(
    messaging: &Messaging,
    pending: &Pending,
    (code, sentence): (code::Code, Sentence),
) -> Result<Vec<SubjectId>, Failure> {
    if !pending.in_doubt && overruled(messaging, pending).await? {
        tracing::info!("a code is overruled by a stop that came after it");
        return Ok(Vec::new());
    }
    let request = CodeRequest {
        message_id: pending.id,
        code,
        sentence,
        addresses: pending.tokens.clone(),
        said_at: pending.said_long_before(),
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
        CodeAnswer::Nothing => Ok(Vec::new()),
        CodeAnswer::NotHers if pending.attempts < CODE_TRIES => {
            doubt(messaging, pending, false).await?;
            Err(Failure::NotYet)
        }
        CodeAnswer::NotHers => {
            tracing::info!("a code came from a number that it is not for");
            Ok(Vec::new())
        }
        CodeAnswer::Confirmed { subject_id } | CodeAnswer::Proved { subject_id } => {
            Ok(vec![subject_id])
        }
        CodeAnswer::Join { purpose, channel, notice_hash } => {
            let notice_hash = Some(notice_hash);
            let method = Method::ClickToChat;
            grant(messaging, pending, Agreed { purpose, channel, method, notice_hash }).await
        }
    }
}

/// Grants what a start agrees to. Gives whom it concerns; nobody when it comes to nothing.
pub async fn forward_start(
    messaging: &Messaging,
    start: &Pending,
) -> Result<Vec<SubjectId>, Failure> {
    if !start.in_doubt && overruled(messaging, start).await? {
        tracing::info!("an opt-in is overruled by a stop that came after it");
        return Ok(Vec::new());
    }
    let agreed = Agreed {
        purpose: messaging.config.start_purpose.clone(),
        channel: "whatsapp".to_owned(),
        method: Method::WhatsappMessage,
        notice_hash: None,
    };
    grant(messaging, start, agreed).await
}

/// Grants by her own act: as a new person, if she is not known (any more), and for everybody who is one with
/// her by the platform's word: what she had stopped for all she opens for all.
async fn grant(
    messaging: &Messaging,
    start: &Pending,
    agreed: Agreed,
) -> Result<Vec<SubjectId>, Failure> {
    let acts = who_acts(messaging, start).await?;
    let mut granted = Vec::with_capacity(acts.len());
    for acting in acts {
        granted.extend(grant_one(messaging, start, &agreed, acting).await?);
    }
    Ok(granted)
}

async fn grant_one(
    messaging: &Messaging,
    start: &Pending,
    agreed: &Agreed,
    Acting { subject, addresses, key }: Acting,
) -> Result<Option<SubjectId>, Failure> {
    doubt(messaging, start, true).await?;
    let request = GrantRequest {
        subject_id: subject,
        purpose: agreed.purpose.clone(),
        channel: agreed.channel.clone(),
        actor: Actor::Subject,
        method: agreed.method,
        evidence: None,
        acted_at: start.said_long_before(),
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

/// Whether a stop of the same address was heard, or said, after this start.
async fn overruled(messaging: &Messaging, start: &Pending) -> Result<bool, sqlx::Error> {
    const OVERRULED: &str = "
        SELECT EXISTS (SELECT FROM declarations WHERE will = 'stop' AND tokens && $1
                       AND (position > $2 OR said_at > $3))";
    sqlx::query_scalar(OVERRULED)
        .bind(bytes(&start.tokens))
        .bind(start.position)
        .bind(start.said_at.to_sqlx())
        .fetch_one(messaging.pool())
        .await
}

/// Somebody for whom an opt-in counts.
struct Acting {
    subject: SubjectId,
    /// All her addresses: what stood against one of them she lifts from all.
    addresses: Vec<AddressToken>,
    /// Her grant's idempotency key.
    key: String,
}

/// For whom this opt-in counts: nobody, if she can't be made known.
async fn who_acts(messaging: &Messaging, start: &Pending) -> Result<Vec<Acting>, Failure> {
    let Some(names) = names(messaging, start).await? else { return Ok(Vec::new()) };
    let request = if names.is_empty() {
        LookupRequest { addresses: start.tokens.clone(), ..LookupRequest::default() }
    } else {
        messaging.lookup(&names)
    };
    let found: LookupResponse = messaging.vault.post("/v1/subjects/lookup", &request, None).await?;
    let with = |hers: &[AddressToken]| {
        let more = hers.iter().filter(|token| !start.tokens.contains(token));
        start.tokens.iter().chain(more).copied().collect::<Vec<_>>()
    };
    let key = start.id.to_string();
    let Some(subject) = found.subject_id else {
        let subject = register(messaging, names, found.in_doubt).await?;
        let acting = |subject| Acting { subject, addresses: start.tokens.clone(), key };
        return Ok(subject.map(acting).into_iter().collect());
    };
    let mut acts = vec![Acting { subject, addresses: with(&found.hers), key }];
    for other in found.linked {
        let ask = ResolveRequest { reason: "opt_in".to_owned(), subjects: vec![other] };
        let answer: ResolveResponse =
            messaging.vault.post("/v1/addresses/resolve", &ask, None).await?;
        let Some(address) = answer.addresses.into_iter().flatten().next() else { continue };
        let key = Uuid::new_v5(&start.id, other.as_bytes()).to_string();
        acts.push(Acting { subject: other, addresses: with(&address.all()), key });
    }
    Ok(acts)
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

/// Makes her known, by what is hers for certain: a number that is held of somebody with another account is not.
async fn register(
    messaging: &Messaging,
    names: Address,
    in_doubt: bool,
) -> Result<Option<SubjectId>, Failure> {
    let Address { phone, user_id, parent_user_id } = names;
    if phone.is_none() && user_id.is_none() {
        return Ok(None);
    }
    let row = ImportRow {
        phone: phone.filter(|_| !in_doubt).unwrap_or_default(),
        parent_user_id: parent_user_id.filter(|_| user_id.is_some()),
        user_id,
        ..ImportRow::default()
    };
    let request = ImportRequest { origin: Origin::Subject, rows: vec![row] };
    let answer: ImportResponse =
        messaging.vault.post("/v1/subjects/import", &request, None).await?;
    match answer.outcomes.into_iter().next() {
        Some(ImportOutcome::Created { subject_id } | ImportOutcome::Existing { subject_id }) => {
            Ok(Some(subject_id))
        }
        Some(ImportOutcome::Refused { reason } | ImportOutcome::Rejected { reason, .. }) => {
            tracing::warn!(reason, "the vault refuses an opt-in");
            Ok(None)
        }
        None => Err(Failure::Mismatch),
    }
}
