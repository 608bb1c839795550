//! The services as the command line calls them: through the gateway at `ASSENT_URL`, with the
//! token in `ASSENT_TOKEN`. It guarantees that nothing is repeated unless a command says so.

use std::path::PathBuf;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{LookupRequest, LookupResponse};
use assent_http::{ClientError, ServiceClient};
use assent_runtime::{Ids, SystemIds};
use clap::Args;
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::outcome::Failure;

/// Longer than the slowest answer: a settled stop or a long poll.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the services are and who asks.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Address of the gateway (or of an ingress with the same paths).
    #[arg(
        long,
        env = "ASSENT_URL",
        default_value = "http://127.0.0.1:7100",
        global = true,
        help_heading = "Connection"
    )]
    pub url: String,
    /// Bearer token; better given by the environment than on the command line.
    #[arg(
        long,
        env = "ASSENT_TOKEN",
        hide_env_values = true,
        global = true,
        help_heading = "Connection"
    )]
    pub token: Option<Token>,
    /// File that holds the token, where none is given.
    #[arg(
        long,
        env = "ASSENT_TOKEN_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "Connection"
    )]
    pub token_file: Option<PathBuf>,
}

/// A bearer token, hidden from debug output.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

impl Token {
    /// What it is.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(SecretString::from(text.to_owned()))
    }
}

/// The services behind the gateway. Clones share connections.
#[derive(Clone, Debug)]
pub struct Api {
    client: ServiceClient,
}

impl Connection {
    /// A client.
    ///
    /// # Errors
    /// When there is no token, its file can't be read, or the address is none.
    pub fn open(&self) -> Result<Api, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path);
                Token::from(text.map_err(|error| Failure::file(path, error))?.trim_end())
            }
            (None, None) => {
                return Err(Failure::wrong_use(
                    "no token: set ASSENT_TOKEN (after `cargo xtask up`: `. target/dev/env`)",
                ));
            }
        };
        Ok(Api { client: ServiceClient::with_timeout(&self.url, &token.0, CALL_TIMEOUT)? })
    }
}

impl Api {
    /// GET `path` such as `/messaging/v1/messages/…`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, ClientError> {
        self.client.get(path).await
    }

    /// GET every page of the list at `path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn all<R: DeserializeOwned>(&self, path: &str) -> Result<Vec<R>, ClientError> {
        self.client.all(path).await
    }

    /// POST `path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        idempotency: Option<&str>,
    ) -> Result<R, ClientError> {
        self.client.post(path, body, idempotency).await
    }

    /// POST a file of this type.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_file<R: DeserializeOwned>(
        &self,
        path: &str,
        media_type: &'static str,
        file: Vec<u8>,
    ) -> Result<R, ClientError> {
        self.client.post_file(path, media_type, file).await
    }

    /// POST a JSON body for an answer that is no JSON, such as an archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_for_bytes<B: Serialize + ?Sized>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Vec<u8>, ClientError> {
        Ok(self.client.post_for_bytes(path, body).await?.to_vec())
    }

    /// GET a text, such as a certificate.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        self.client.get_text(path).await
    }

    /// DELETE `path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.client.delete(path).await
    }

    /// Who has this number, or this user id?
    ///
    /// # Errors
    /// [`ClientError`], also when the text is neither.
    pub async fn lookup(
        &self,
        phone: String,
        country: Option<String>,
    ) -> Result<LookupResponse, ClientError> {
        let request = if is_user_id(&phone) {
            LookupRequest { user_id: Some(phone), ..LookupRequest::default() }
        } else {
            LookupRequest { phone: Some(phone), country, ..LookupRequest::default() }
        };
        self.post("/vault/v1/subjects/lookup", &request, None).await
    }
}

/// A business-scoped user id begins with its country and a dot: `FR.…`.
fn is_user_id(text: &str) -> bool {
    let text = text.trim().as_bytes();
    text.len() > 3 && text[..2].iter().all(u8::is_ascii_uppercase) && text[2] == b'.'
}

/// A fresh idempotency key: one invocation is one intention.
#[must_use]
pub fn idempotency_key() -> String {
    SystemIds.v4().to_string()
}

/// A person found by her number, or why not.
pub enum Found {
    /// Known.
    Subject(SubjectId),
    /// Unknown; `erased` or `suppressed` if we may know.
    Nobody {
        /// Why she is barred, where she is.
        barred: Option<String>,
    },
}

impl From<LookupResponse> for Found {
    fn from(answer: LookupResponse) -> Self {
        match answer.subject_id {
            Some(subject) => Self::Subject(subject),
            None => Self::Nobody { barred: answer.barred },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_user_id;

    #[test]
    fn a_number_with_dots_is_no_user_id() {
        for number in ["06.12.34.56.78", "33.612345678", "+33612345678", "", "FR.", "fr.1"] {
            assert!(!is_user_id(number), "{number}");
        }
        assert!(is_user_id("FR.13491208655302741918"));
        assert!(is_user_id(" US.ENT.1"));
    }
}
