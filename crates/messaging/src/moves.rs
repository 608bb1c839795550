//! People whose number or user id changed. It guarantees that a stop follows her to the new one, that her
//! consent doesn't, and that nothing more goes to the old one: somebody else may have it by now. That
//! the new one is hers is for her to show, by writing from it. News that comes again changes nothing: somebody
//! may have looked into it since.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{PermitAsk, PermitsRequest, PermitsResponse};
use assent_contracts::api::vault::{LookupRequest, LookupResponse};
use assent_http::ClientError;
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::api::webhook::said_at;
use crate::consequences;
use crate::declarations::{self, Declared};
use crate::domain::stop::{Form, Will};
use crate::seen;
use crate::state::Messaging;
use crate::whatsapp::updates::{Address, Moved};

/// Reasons of the gate that stand against an address, whoever has it.
const OF_THE_ADDRESS: [&str; 3] = ["stopped", "stop_unsettled", "suppressed"];

/// What is known of somebody who moved.
pub struct Looked {
    /// Who, if she is known.
    pub subject: Option<SubjectId>,
    /// The news itself, as it is known again.
    hash: Option<Vec<u8>>,
    /// The stop that follows her.
    stop: Option<Declared>,
    said_at: Timestamp,
}

/// Looks for who moved, and for what stands against her old address.
///
/// # Errors
/// When the vault or the consent service doesn't answer.
pub async fn look(messaging: &Messaging, moved: &Moved) -> Result<Looked, ClientError> {
    let tokens = messaging.tokens(&moved.before);
    let request = LookupRequest { phone: None, country: None, addresses: tokens.clone() };
    let found: LookupResponse = messaging.vault.post("/v1/subjects/lookup", &request, None).await?;
    let ask = PermitAsk {
        message_id: messaging.ids.v7(),
        // The address counts, also where nobody is known to have it.
        subject_id: found.subject_id.unwrap_or_default(),
        addresses: tokens.clone(),
        purpose: messaging.config.start_purpose.clone(),
        channel: "whatsapp".to_owned(),
        template: "moved".to_owned(),
    };
    // First here, then there: a stop that left the local list in between is held there by then.
    let stopped_here = declarations::blocked(messaging.pool(), &tokens)
        .await
        .map_err(|error| ClientError::Protocol(error.to_string()))?;
    let answer: PermitsResponse =
        messaging.consent.post("/v1/permits", &PermitsRequest { asks: vec![ask] }, None).await?;
    let stopped_there = answer.permits.iter().any(|permit| {
        permit.verdict.reasons.iter().any(|reason| OF_THE_ADDRESS.contains(&reason.as_str()))
    });
    let follows = stopped_there || !stopped_here.is_empty();
    let now = messaging.clock.now();
    let said_at = said_at(moved.at, now);
    let hash = messaging.provider_hashes(&news(moved)).into_iter().next();
    let stop = follows.then(|| Declared {
        id: messaging.ids.v7(),
        will: Will::Stop,
        form: Form::Moved,
        source: hash.clone(),
        tokens: messaging.tokens(&moved.after),
        phone: None,
        said_at,
        heard_at: now,
    });
    Ok(Looked { subject: found.subject_id, hash, stop, said_at })
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
    if let Some(hash) = &looked.hash
        && !seen::is_new(conn, hash, messaging.clock.now()).await?
    {
        return Ok(());
    }
    if let Some(subject) = looked.subject.filter(|_| !is_gone) {
        consequences::break_trust(conn, subject, looked.said_at).await?;
    }
    if let Some(stop) = &looked.stop {
        declarations::insert(conn, std::slice::from_ref(stop)).await?;
        messaging.declared.notify_one();
    }
    Ok(())
}
