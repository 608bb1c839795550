//! The team's own engine, asked over HTTP for what the flows don't answer. It guarantees that it learns a
//! random id and what she wrote, and nothing else; that each ask is signed; and that no answer in time, or one
//! that can't be read, is told apart from "nothing to say". It is a recipient of what she wrote.

use std::time::Duration;

use assent_http::ClientError;
use assent_http::client::http_client;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::config::EngineConfig;
use crate::domain::bot::EngineAnswer;

/// The header that proves who asks: `sha256=` and the HMAC of the raw body.
pub const SIGNATURE: &str = "x-assent-signature-256";
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// The engine.
pub struct Engine {
    http: reqwest::Client,
    config: EngineConfig,
}

/// What it is asked. No `Debug`: it holds what she wrote.
#[derive(Serialize)]
pub struct Asked<'a> {
    /// The same when the same message is asked about again, after a crash.
    pub turn_id: Uuid,
    /// Random; the same in one conversation, and in no other.
    pub conversation_id: Uuid,
    /// Her language, where something tells it.
    pub language: Option<&'a str>,
    /// What she wrote, or what stood on the button.
    pub text: &'a str,
    /// When it is asked: an old ask is a replay.
    pub asked_at: Timestamp,
}

#[derive(Deserialize)]
struct Answered {
    #[serde(default)]
    reply: Option<String>,
    #[serde(default)]
    hand_over: bool,
}

impl Engine {
    /// The engine at the configured address.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(config: &EngineConfig) -> Result<Self, ClientError> {
        Ok(Self { http: http_client(CONNECT, config.timeout)?, config: config.clone() })
    }

    /// Asks once. None: no answer in time, or none that can be read.
    pub async fn ask(&self, asked: &Asked<'_>) -> Option<EngineAnswer> {
        let body = serde_json::to_vec(asked).ok()?;
        let secret = self.config.secret.expose_secret().as_bytes();
        let request = self
            .http
            .post(&self.config.url)
            .header("content-type", "application/json")
            .header(SIGNATURE, signature(secret, &body))
            .body(body);
        let mut response = match request.send().await {
            Ok(response) if response.status().is_success() => response,
            Ok(response) => {
                tracing::warn!(status = response.status().as_u16(), "the bot's engine refuses");
                return None;
            }
            Err(error) => {
                tracing::warn!(error = %error.without_url(), "the bot's engine doesn't answer");
                return None;
            }
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                tracing::warn!("the bot's engine answers at too great length");
                return None;
            }
        }
        match serde_json::from_slice(&bytes) {
            Ok(Answered { reply, hand_over }) => Some(EngineAnswer { reply, hand_over }),
            Err(_) => {
                tracing::warn!("the bot's engine answers what can't be read");
                None
            }
        }
    }
}

fn signature(secret: &[u8], body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::signature::verify;

    #[test]
    fn the_signature_is_of_the_form_that_webhooks_have() {
        let signed = signature(b"secret", b"{}");
        assert!(verify([&b"secret"[..]], b"{}", &signed));
        assert!(!verify([&b"other"[..]], b"{}", &signed));
    }
}
