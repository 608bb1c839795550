//! People whose number or user id changed, or may be somebody else's. It guarantees that every opt-out follows
//! her to the new one, that her consent doesn't, and that nothing more goes to the old one: somebody else may have
//! it by now. That the new one is hers is for her to show, by writing from it. News that comes again changes
//! nothing: somebody may have looked into it since.

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{PermitAsk, PermitsRequest, PermitsResponse};
use assent_contracts::api::vault::{ResolveRequest, ResolveResponse};
use assent_http::ClientError;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

use crate::api::webhook::said_at;
use crate::declarations::{self, Declared};
use crate::domain::identity::Doubt;
use crate::domain::stop::{Form, Will};
use crate::state::Messaging;
use crate::whatsapp::updates::{Address, Moved};
use crate::{seen, tasks};

/// Reasons of the gate that are opt-outs: of the address, whoever has it, or of the person. A no to one purpose
/// becomes a stop of the new address: that she said no there is not to be lost, and her own act lifts it.
const OPT_OUTS: [&str; 6] = [
    "stopped",
    "stop_unsettled",
    "suppressed",
    "consent_withdrawn",
    "consent_refused",
    "linked_subject_denies",
];

/// What is known of somebody who moved.
pub struct Looked {
    /// Who, if she is known.
    pub subject: Option<SubjectId>,
    /// The news itself, as it is known again.
    hash: Option<Vec<u8>>,
    follows: Follows,
    said_at: Timestamp,
}

/// The opt-out that follows somebody, if she has.
pub struct Follows(Option<Declared>);

impl Follows {
    /// The stop of the new address.
    #[must_use]
    pub const fn stop(&self) -> Option<&Declared> {
        self.0.as_ref()
    }
}

/// Looks for who moved, and for what stands against her and her old address.
///
/// # Errors
/// When the vault or the consent service doesn't answer.
pub async fn look(messaging: &Messaging, moved: &Moved) -> Result<Looked, ClientError> {
    let found = messaging.who_is(messaging.asked(&moved.before, None)).await?;
    // Also where that is in doubt: a doubt more does no harm.
    let subject = found.named.first().copied();
    let now = messaging.clock.now();
    let said_at = said_at(moved.at, now);
    let hash = messaging.provider_hashes(&news(moved)).into_iter().next();
    let mut tokens = messaging.looked_for(&moved.before);
    tokens.extend(found.hers.iter().filter(|it| !tokens.contains(it)).copied().collect::<Vec<_>>());
    let opted_out = opted_out(messaging, subject, &tokens).await?;
    let follows = follow(messaging, opted_out, &moved.after, hash.clone(), said_at);
    Ok(Looked { subject, hash, follows, said_at })
}

/// Looks for what stands against people of whom it is in doubt whether this address is theirs.
///
/// # Errors
/// When the vault or the consent service doesn't answer.
pub async fn doubted(
    messaging: &Messaging,
    subjects: &[SubjectId],
    address: &Address,
) -> Result<Follows, ClientError> {
    let ask = ResolveRequest { reason: "identity".to_owned(), subjects: subjects.to_vec() };
    let answer: ResolveResponse = messaging.vault.post("/v1/addresses/resolve", &ask, None).await?;
    let mut any = false;
    for (subject, known) in subjects.iter().zip(answer.addresses) {
        let Some(known) = known else { continue };
        any |= opted_out(messaging, Some(*subject), &known.all()).await?;
    }
    Ok(follow(messaging, any, address, None, messaging.clock.now()))
}

/// Whether somebody said no to anything that is marketing, here or at the gate.
async fn opted_out(
    messaging: &Messaging,
    subject: Option<SubjectId>,
    tokens: &[AddressToken],
) -> Result<bool, ClientError> {
    let config = &messaging.config;
    let mut purposes = config.marketing_purposes.clone();
    if !purposes.contains(&config.start_purpose) {
        purposes.push(config.start_purpose.clone());
    }
    let ask = |purpose| PermitAsk {
        message_id: messaging.ids.v7(),
        // The address counts, also where nobody is known to have it.
        subject_id: subject.unwrap_or_default(),
        addresses: tokens.to_vec(),
        purpose,
        channel: "whatsapp".to_owned(),
        template: "moved".to_owned(),
    };
    let asks = purposes.into_iter().map(ask).collect();
    // First here, then there: a stop that left the local list in between is held there by then.
    let subjects: Vec<SubjectId> = subject.into_iter().collect();
    let stopped_here = declarations::blocked(messaging.pool(), tokens, &subjects)
        .await
        .map_err(|error| ClientError::Protocol(error.to_string()))?;
    let answer: PermitsResponse =
        messaging.consent.post("/v1/permits", &PermitsRequest { asks }, None).await?;
    let mut reasons = answer.permits.iter().flat_map(|permit| &permit.verdict.reasons);
    Ok(reasons.any(|reason| OPT_OUTS.contains(&reason.as_str())) || !stopped_here.is_empty())
}

fn follow(
    messaging: &Messaging,
    opted_out: bool,
    to: &Address,
    source: Option<Vec<u8>>,
    said_at: Timestamp,
) -> Follows {
    Follows(opted_out.then(|| Declared {
        source,
        tokens: messaging.tokens(to),
        said_at,
        heard_at: messaging.clock.now(),
        ..Declared::new(messaging.ids.v7(), Will::Stop, Form::Moved)
    }))
}

/// What stays the same when it comes again: its id, or all that it says.
fn news(moved: &Moved) -> String {
    if !moved.id.is_empty() {
        return moved.id.clone();
    }
    let form = |address: &Address| {
        format!("{:?} {:?}", address.phone.as_deref(), address.user_id.as_deref())
    };
    format!("{} {} {}", form(&moved.before), form(&moved.after), moved.at)
}

/// Writes what follows.
///
/// # Errors
/// When the database fails.
pub async fn apply(
    messaging: &Messaging,
    conn: &mut PgConnection,
    looked: &Looked,
    is_gone: bool,
) -> Result<(), sqlx::Error> {
    const MOVED: &str = "
        INSERT INTO identities AS held (subject_id, moved_at) VALUES ($1, $2)
        ON CONFLICT (subject_id) DO UPDATE
            SET moved_at = greatest(held.moved_at, excluded.moved_at)";
    if let Some(hash) = &looked.hash
        && !seen::is_new(conn, hash, messaging.clock.now()).await?
    {
        return Ok(());
    }
    if let Some(subject) = looked.subject.filter(|_| !is_gone) {
        sqlx::query(MOVED).bind(subject).bind(looked.said_at.to_sqlx()).execute(&mut *conn).await?;
        tasks::doubt(messaging, conn, subject, Doubt::Moved, looked.said_at).await?;
    }
    if let Some(stop) = looked.follows.stop() {
        declarations::insert(conn, std::slice::from_ref(stop)).await?;
        messaging.declared.notify_one();
    }
    Ok(())
}
