//! Calls of the management API that change templates, and what answers to such calls mean. They send nothing to anybody, and name and language say
//! which template is meant: a call without an answer can be repeated, and the provider tells what it has already.

use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};

use super::client::Provider;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// There is already such a template (of this name in this language).
const EXISTS: i64 = 2_388_024;
/// There is no such template; there is nothing of this id.
const GONE: [i64; 2] = [2_593_002, 33];
/// Too many calls: of the app, of the account, of the account's templates.
const TOO_MANY: [i64; 3] = [4, 80_007, 80_008];

/// A template as the provider has taken it up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Taken {
    /// Its id.
    pub id: String,
    /// Its status; none: it doesn't say, and a review follows.
    #[serde(default)]
    pub status: Option<String>,
    /// Its category, which may be another than was asked for.
    #[serde(default)]
    pub category: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Done {
    #[serde(default)]
    success: bool,
}

/// Why a template was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// There is one of this name in this language.
    #[error("the template exists already")]
    Exists,
    /// There is none (any more).
    #[error("there is nothing of this name or id")]
    Gone,
    /// Too many calls.
    #[error("too many calls of the management API")]
    TooMany,
    /// Another refusal.
    #[error("refused: HTTP {http_status}, code {code:?}, subcode {subcode:?}")]
    Refused {
        /// HTTP status.
        http_status: u16,
        /// The provider's code.
        code: Option<i64>,
        /// The provider's subcode, which says more.
        subcode: Option<i64>,
        /// The provider's title of it.
        title: Option<String>,
    },
    /// No answer, or one that can't be read: it may have happened.
    #[error("no answer: {0}")]
    NoAnswer(&'static str),
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    error: Reason,
}

#[derive(Default, Deserialize)]
struct Reason {
    code: Option<i64>,
    error_subcode: Option<i64>,
    error_user_title: Option<String>,
}

impl Provider {
    /// Creates a template in the account.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn create_template(
        &self,
        account: &str,
        creation: &super::template_form::Creation<'_>,
    ) -> Result<Taken, ManageError> {
        self.manage(Method::POST, &format!("{account}/message_templates"), &[], Some(creation))
            .await
    }

    /// Replaces what a template says.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn edit_template(
        &self,
        id: &str,
        form: &super::template_form::Form<'_>,
    ) -> Result<(), ManageError> {
        self.manage(Method::POST, id, &[], Some(form)).await.and_then(done)
    }

    /// Deletes a template: the one with this id, or all languages of the name.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn delete_template(
        &self,
        account: &str,
        name: &str,
        id: Option<&str>,
    ) -> Result<(), ManageError> {
        let mut query = vec![("name", name)];
        query.extend(id.map(|id| ("hsm_id", id)));
        let path = format!("{account}/message_templates");
        self.manage(Method::DELETE, &path, &query, None::<&()>).await.and_then(done)
    }

    async fn manage<B: Serialize, A: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<A, ManageError> {
        let url = format!("{}/{path}", self.base);
        let mut url = reqwest::Url::parse(&url).map_err(|_| ManageError::NoAnswer("address"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request =
            self.http.request(method, url).header(AUTHORIZATION, self.authorization.clone());
        if let Some(body) = body {
            request = request.json(body);
        }
        answered(request).await
    }
}

/// The answer to a call, or what the refusal means.
pub(super) async fn answered<A: for<'de> Deserialize<'de>>(
    request: reqwest::RequestBuilder,
) -> Result<A, ManageError> {
    let mut response = request.send().await.map_err(|_| ManageError::NoAnswer("connection"))?;
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|_| ManageError::NoAnswer("broken off"))?
    {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ManageError::NoAnswer("too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|_| ManageError::NoAnswer("unreadable"));
    }
    Err(refusal(status.as_u16(), &bytes))
}

pub(super) fn done(answer: Done) -> Result<(), ManageError> {
    match answer {
        Done { success: true } => Ok(()),
        Done { success: false } => Err(ManageError::NoAnswer("unreadable")),
    }
}

fn refusal(http_status: u16, body: &[u8]) -> ManageError {
    let Failure { error } = serde_json::from_slice(body).unwrap_or_default();
    match (error.code, error.error_subcode) {
        (_, Some(EXISTS)) => ManageError::Exists,
        (_, Some(subcode)) if GONE.contains(&subcode) => ManageError::Gone,
        (Some(code), _) if TOO_MANY.contains(&code) => ManageError::TooMany,
        (None, _) if http_status == 429 => ManageError::TooMany,
        // What no refusal of theirs looks like may have been done.
        (None, _) if http_status >= 500 => ManageError::NoAnswer("server error"),
        (Some(1 | 2), _) => ManageError::NoAnswer("server error"),
        (code, subcode) => {
            ManageError::Refused { http_status, code, subcode, title: error.error_user_title }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whether_to_go_on() {
        let read = |status, body: &str| refusal(status, body.as_bytes());
        let subcode = |code| format!(r#"{{"error":{{"code":100,"error_subcode":{code}}}}}"#);
        assert_eq!(read(400, &subcode(EXISTS)), ManageError::Exists);
        for code in GONE {
            assert_eq!(read(400, &subcode(code)), ManageError::Gone);
        }
        for code in TOO_MANY {
            let body = format!(r#"{{"error":{{"code":{code}}}}}"#);
            assert_eq!(read(400, &body), ManageError::TooMany);
        }
        assert_eq!(read(429, "<html>"), ManageError::TooMany);
        assert_eq!(read(502, "<html>"), ManageError::NoAnswer("server error"));
        assert_eq!(
            read(
                400,
                r#"{"error":{"code":100,"error_subcode":7,"error_user_title":"Too long","new":1}}"#
            ),
            ManageError::Refused {
                http_status: 400,
                code: Some(100),
                subcode: Some(7),
                title: Some("Too long".to_owned())
            }
        );
    }
}
