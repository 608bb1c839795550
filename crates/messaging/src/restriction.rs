//! Whether the use of somebody's data is restricted (GDPR Article 18), by the gate's word. It guarantees that nobody is
//! told that it isn't while the gate can't say; what follows is left to whoever asks: nobody reads, no bot answers.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{Verdict, VerdictRequest};
use assent_http::ClientError;

use crate::state::Messaging;

/// The gate's reason.
const RESTRICTED: &str = "restricted";
/// Restrictions are of all channels.
const CHANNEL: &str = "whatsapp";

/// Whether nothing of hers may be used at present.
///
/// # Errors
/// When the consent service doesn't say.
pub async fn stands(messaging: &Messaging, subject_id: SubjectId) -> Result<bool, ClientError> {
    let ask = VerdictRequest {
        subject_id,
        purpose: messaging.config.conversations.purpose.clone(),
        channel: CHANNEL.to_owned(),
    };
    let verdict: Verdict = messaging.consent.post("/v1/verdict", &ask, None).await?;
    Ok(verdict.reasons.iter().any(|reason| reason == RESTRICTED))
}
