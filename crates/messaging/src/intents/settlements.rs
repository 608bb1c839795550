//! What became of intents: decided by the state they are in, written with its event, and followed by its consequences.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::messaging::{
    LEASE_OVERRUN, LeaseOverrun, MESSAGE_ACCEPTED, MESSAGE_FAILED, MESSAGE_REFUSED,
    MESSAGE_UNCERTAIN, MessageAccepted, MessageFailed, MessageRefused, MessageUncertain,
};
use assent_contracts::sealed::Sealed;
use assent_eventstore::{Append, Session, StoreError, to_the_end};
use assent_sealing::to_text;
use uuid::Uuid;

use super::rows::{Move, Named, Row, lock_rows, name, write};
use crate::consequences::Consequence;
use crate::conversations::HANDED_OVER;
use crate::declarations::Declared;
use crate::domain::intent::{Happening, State, after};
use crate::domain::stop::{Form, Will};
use crate::identities::Told;
use crate::person_keys::LeasedKeys;
use crate::state::{Messaging, fenced};
use crate::whatsapp::reaction::Reaction;
use crate::{consequences, conversations, declarations, free_entries, identities, outcomes};

/// Keys that are leased for longer are still good when the transaction has its locks, most likely.
const LONG_ENOUGH: Duration = Duration::from_millis(200);

/// What became of an intent.
#[derive(Clone)]
pub struct Settlement {
    /// Which.
    pub id: Uuid,
    /// Whose.
    pub subject: SubjectId,
    /// Under which claim; none for webhooks, which need none.
    pub claim_id: Option<Uuid>,
    /// What happened.
    pub happening: Happening,
    /// Stable codes.
    pub reasons: Vec<String>,
    /// The provider's error code.
    pub provider_code: Option<i64>,
    /// The provider's message id.
    pub provider_id: Option<String>,
    /// When to try again.
    pub pause: Duration,
    /// By how much the write came after its lease.
    pub overrun: Option<Duration>,
    /// The provider says that she stopped marketing: tokens of her address.
    pub stopped: Option<Vec<AddressToken>>,
    /// What the provider's refusal asks for.
    pub reaction: Option<Reaction>,
    /// What the provider's answer tells of her names.
    pub told: Option<Told>,
}

impl Settlement {
    /// `happening` for an intent, with one reason.
    #[must_use]
    pub fn new(
        id: Uuid,
        subject: SubjectId,
        claim_id: Option<Uuid>,
        happening: Happening,
        reason: &str,
    ) -> Self {
        Self {
            id,
            subject,
            claim_id,
            happening,
            reasons: if reason.is_empty() { Vec::new() } else { vec![reason.to_owned()] },
            provider_code: None,
            provider_id: None,
            pause: Duration::ZERO,
            overrun: None,
            stopped: None,
            reaction: None,
            told: None,
        }
    }
}

/// Applies settlements in one transaction, with their events. Runs to its end even if the caller
/// goes away. Those that change nothing (settled meanwhile, claim lost, row gone) are passed over.
/// Provider ids are sealed under `keys`, or under others once their lease is over.
///
/// # Errors
/// When the transaction fails: nothing was applied, and it may be repeated.
pub async fn settle(
    messaging: &Messaging,
    settlements: Vec<Settlement>,
    keys: Option<Arc<LeasedKeys>>,
) -> Result<(), StoreError> {
    if settlements.is_empty() {
        return Ok(());
    }
    let service = messaging.clone();
    to_the_end(async move { settle_now(&service, settlements, keys).await }).await?;
    messaging.moved.notify_waiters();
    Ok(())
}

async fn settle_now(
    messaging: &Messaging,
    settlements: Vec<Settlement>,
    keys: Option<Arc<LeasedKeys>>,
) -> Result<(), StoreError> {
    let told = settlements.iter().filter_map(|it| it.told.clone()).collect();
    // Statuses tell it again: an outcome doesn't wait for it.
    let news = identities::news(messaging, told).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what an answer tells of people is not kept");
        Vec::new()
    });
    let keys = match keys.filter(|keys| keys.remaining() > LONG_ENOUGH) {
        Some(keys) => Some(keys),
        None => {
            let accepted = settlements.iter().filter(|it| it.provider_id.is_some());
            let accepted: Vec<SubjectId> = accepted.map(|it| it.subject).collect();
            lease_keys(messaging, &accepted).await.map(Arc::new)
        }
    };
    let mut session = messaging.store.begin().await?;
    apply(messaging, &mut session, &settlements, keys.as_deref()).await?;
    identities::insert(messaging, session.conn(), &news).await?;
    session.commit().await
}

/// The keys that seal provider ids. Without them (vault down, person erased) the id itself is
/// dropped: reconciliation needs its hash and our own id only.
pub async fn lease_keys(messaging: &Messaging, subjects: &[SubjectId]) -> Option<LeasedKeys> {
    if subjects.is_empty() {
        return None;
    }
    match messaging.person_keys.lease("seal_provider_id", subjects).await {
        Ok(keys) => Some(keys),
        Err(error) => {
            tracing::warn!(%error, "provider ids are not kept: no keys to seal them");
            None
        }
    }
}

/// Applies settlements within a session. The caller commits.
///
/// # Errors
/// When the database fails.
pub async fn apply(
    messaging: &Messaging,
    session: &mut Session,
    settlements: &[Settlement],
    keys: Option<&LeasedKeys>,
) -> Result<(), StoreError> {
    let now = messaging.clock.now();
    let mut subjects: Vec<SubjectId> = settlements.iter().map(|it| it.subject).collect();
    subjects.sort_unstable();
    subjects.dedup();
    session.lock_versions(&subjects).await?;
    let fenced = fenced(session.conn(), &subjects).await?;
    let mut rows = lock_rows(session, settlements).await?;
    let mut appends = Vec::new();
    let mut consequences = Vec::new();
    let mut unsaid = Vec::new();
    let mut answered = Vec::new();
    let mut known = Vec::new();
    let (mut names, mut moves) = (HashMap::new(), HashMap::new());
    for settlement in settlements {
        if let Some(overrun) = settlement.overrun {
            let is_fenced = fenced.contains(&settlement.subject);
            appends.push(overran(messaging, settlement, overrun, is_fenced, now)?);
        }
        let Some(row) = rows.get_mut(&settlement.id) else { continue };
        consequences.extend(settlement.reaction.map(|reaction| Consequence {
            reaction,
            code: settlement.provider_code,
            subject: settlement.subject,
            template: row.template.clone(),
            said_at: now,
        }));
        let is_ours = row.claim_id.is_none()
            || settlement.claim_id.is_none()
            || row.claim_id == settlement.claim_id;
        let given_up;
        let settlement = if row.taken_back && settlement.happening == Happening::NotSent {
            let (happening, reasons) = (Happening::GivenUp, vec![HANDED_OVER.to_owned()]);
            given_up = Settlement { happening, reasons, ..settlement.clone() };
            &given_up
        } else {
            settlement
        };
        let next = after(row.state, settlement.happening).filter(|_| is_ours);
        let sealed = settlement.provider_id.as_ref().and_then(|provider_id| {
            let plain = provider_id.as_bytes();
            keys?.seal(settlement.subject, settlement.id, "provider_id", plain).ok()
        });
        let hash = settlement.provider_id.as_deref().map(|id| messaging.provider_hashes(id));
        let hash = hash.and_then(|hashes| hashes.into_iter().next());
        let named = Named { hash, sealed: sealed.clone() };
        let Some(next) = next else {
            names.insert(settlement.id, named);
            continue;
        };
        moves.insert(settlement.id, Move::new(settlement, next, named));
        if !fenced.contains(&settlement.subject) {
            if next == State::Accepted {
                answered.push(settlement.subject);
            }
            let provider_id = sealed.map_or(Sealed(String::new()), |it| to_text(&it));
            appends.extend(event(messaging, settlement, next, row, provider_id, now)?);
            // Who said stop wants no human instead.
            let stopped = settlement.reasons.iter().any(|reason| reason == "stopped");
            if row.of_bot && !stopped && matches!(next, State::Refused | State::Failed) {
                unsaid.push(settlement.id);
            }
        }
        if row.state == State::Uncertain {
            known.push(settlement.id);
        }
        row.state = next;
        row.claim_id = None;
    }
    name(session, names).await?;
    write(session, moves, now).await?;
    outcomes::known(session.conn(), &known, now).await?;
    free_entries::answered(session.conn(), &answered, now).await?;
    appends.extend(conversations::unsaid(messaging, session.conn(), &unsaid, now).await?);
    session.append(appends).await?;
    let is_gone = |subject| fenced.contains(&subject);
    consequences::record(messaging, session.conn(), &consequences, is_gone).await?;
    for settlement in settlements {
        let Some(tokens) = &settlement.stopped else { continue };
        let declared = Declared {
            tokens: tokens.clone(),
            said_at: now,
            heard_at: now,
            ..Declared::new(messaging.ids.v7(), Will::Stop, Form::ProviderRefusal)
        };
        declarations::insert(session.conn(), &[declared]).await?;
        messaging.declared.notify_one();
    }
    Ok(())
}

/// The incident of a write that ended after its lease. Nothing of the fenced is written: then it stands in a stream
/// of its own, the message's, which names nobody. It is on record also where the message is deleted already.
fn overran(
    messaging: &Messaging,
    settlement: &Settlement,
    overrun: Duration,
    is_fenced: bool,
    at: jiff::Timestamp,
) -> Result<Append, StoreError> {
    let message_id = settlement.id;
    tracing::error!(%message_id, ?overrun, "a write ended after its lease");
    let event = LeaseOverrun { message_id, overrun_ms: overrun.as_millis() as u64, at };
    let stream = if is_fenced { message_id } else { settlement.subject };
    messaging.event(stream, messaging.ids.v7(), LEASE_OVERRUN, &event, at)
}

/// The event of a move, where it has one: going back to the queue is nobody else's business.
fn event(
    messaging: &Messaging,
    settlement: &Settlement,
    next: State,
    row: &Row,
    provider_id: Sealed,
    at: jiff::Timestamp,
) -> Result<Option<Append>, StoreError> {
    let message_id = settlement.id;
    let id = messaging.ids.v7();
    let reason = || settlement.reasons.first().cloned().unwrap_or_default();
    let subject = settlement.subject;
    let mut append = match next {
        State::Queued | State::Claimed | State::Calling => return Ok(None),
        State::Accepted => {
            let permit_id = row.permit_id.unwrap_or_default();
            let event = MessageAccepted { message_id, permit_id, provider_id, at };
            messaging.event(subject, id, MESSAGE_ACCEPTED, &event, at)?
        }
        State::Refused => {
            let event = MessageRefused { message_id, reasons: settlement.reasons.clone(), at };
            messaging.event(subject, id, MESSAGE_REFUSED, &event, at)?
        }
        State::Failed => {
            let provider_code = settlement.provider_code;
            let event = MessageFailed { message_id, provider_code, reason: reason(), at };
            messaging.event(subject, id, MESSAGE_FAILED, &event, at)?
        }
        State::Uncertain => {
            let event = MessageUncertain { message_id, reason: reason(), at };
            messaging.event(subject, id, MESSAGE_UNCERTAIN, &event, at)?
        }
    };
    if row.traceparent.is_some() {
        append.traceparent.clone_from(&row.traceparent);
    }
    Ok(Some(append))
}
