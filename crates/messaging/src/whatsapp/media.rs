//! Files at the provider: uploaded, looked up, fetched, deleted; and examples for its reviewers, uploaded to the app.
//! It guarantees that files pass through in pieces, and that the token goes to no address but over TLS or to the
//! configured one. Nothing here sends a message, so all but an upload may be repeated.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::client::Provider;
use super::management::{ManageError, answered, done};

/// How long a file may take.
const TRANSFER: Duration = Duration::from_secs(120);
/// Between the parts of an upload: no file of a kind that is taken begins a line like this.
const BOUNDARY: &str = "assent-7f0e6c1b9d2a4835";

/// A file on its way to the provider, in pieces.
pub struct Outgoing<S> {
    /// Its type.
    pub mime_type: &'static str,
    /// Its bytes, all of them.
    pub length: u64,
    /// The pieces.
    pub pieces: S,
}

/// A file at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Found {
    /// Where it can be fetched, for five minutes.
    pub url: String,
    /// Its type.
    pub mime_type: String,
    /// Its bytes.
    #[serde(default)]
    pub file_size: Option<u64>,
}

#[derive(Deserialize)]
struct Uploaded {
    id: String,
}

#[derive(Deserialize)]
struct Example {
    h: String,
}

impl Provider {
    /// Uploads a file to the number, and gives its id there.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn upload<S, E>(&self, file: Outgoing<S>) -> Result<String, ManageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let Outgoing { mime_type, length, pieces } = file;
        let part =
            |head: &str| format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n");
        let product = part("name=\"messaging_product\"");
        let named = part("name=\"type\"");
        let begin = format!(
            "{product}\r\nwhatsapp\r\n{named}\r\n{mime_type}\r\n{}Content-Type: {mime_type}\r\n\r\n",
            part("name=\"file\"; filename=\"file\""),
        );
        let end = format!("\r\n--{BOUNDARY}--\r\n");
        let whole = length + (begin.len() + end.len()) as u64;
        let piece = |text: String| stream::once(async move { Ok::<_, E>(Bytes::from(text)) });
        let body = piece(begin).chain(pieces).chain(piece(end));
        let request = self
            .http
            .post(format!("{}/media", self.number))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .header(CONTENT_LENGTH, whole)
            .timeout(TRANSFER)
            .body(reqwest::Body::wrap_stream(body));
        answered::<Uploaded>(request).await.map(|it| it.id)
    }

    /// What the provider knows of a file.
    ///
    /// # Errors
    /// [`ManageError`]; [`ManageError::Gone`] where there is none any more.
    pub async fn find_media(&self, id: &str) -> Result<Found, ManageError> {
        // It came from outside, and becomes a part of an address.
        if id.is_empty() || !id.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it))
        {
            return Err(ManageError::Gone);
        }
        let request = self.http.request(Method::GET, self.node(id)?);
        answered(request.header(AUTHORIZATION, self.authorization.clone())).await
    }

    /// Deletes a file. One that is gone already is deleted.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn delete_media(&self, id: &str) -> Result<(), ManageError> {
        let request = self.http.request(Method::DELETE, self.node(id)?);
        let request = request.header(AUTHORIZATION, self.authorization.clone());
        match answered(request).await.and_then(done) {
            Err(ManageError::Gone) => Ok(()),
            other => other,
        }
    }

    /// Fetches a file from where [`Self::find_media`] said.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn fetch_media(&self, found: &Found) -> Result<reqwest::Response, ManageError> {
        let url = Url::parse(&found.url).map_err(|_| ManageError::NoAnswer("address"))?;
        let ours = Url::parse(&self.base).map_err(|_| ManageError::NoAnswer("address"))?;
        if url.scheme() != "https" && url.origin() != ours.origin() {
            return Err(ManageError::NoAnswer("address"));
        }
        let request = self.http.get(url).header(AUTHORIZATION, self.authorization.clone());
        let response = request.timeout(TRANSFER).send().await;
        let response = response.map_err(|_| ManageError::NoAnswer("connection"))?;
        match response.status().as_u16() {
            200 => Ok(response),
            // Its address is over, or it is.
            404 | 410 => Err(ManageError::Gone),
            http_status => {
                Err(ManageError::Refused { http_status, code: None, subcode: None, title: None })
            }
        }
    }

    /// Uploads an example for a template's reviewers to the app, and gives its handle.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn upload_example<S, E>(
        &self,
        app_id: &str,
        file: Outgoing<S>,
    ) -> Result<String, ManageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut url = self.node(&format!("{app_id}/uploads"))?;
        url.query_pairs_mut()
            .append_pair("file_name", "example")
            .append_pair("file_length", &file.length.to_string())
            .append_pair("file_type", file.mime_type);
        let begun = self.http.post(url).header(AUTHORIZATION, self.authorization.clone());
        let session: Uploaded = answered(begun).await?;
        if !session.id.starts_with("upload:") {
            return Err(ManageError::NoAnswer("unreadable"));
        }
        // This one address wants the token under another name.
        let token =
            self.authorization.to_str().unwrap_or_default().replacen("Bearer ", "OAuth ", 1);
        let mut token = HeaderValue::try_from(token).map_err(|_| ManageError::NoAnswer("token"))?;
        token.set_sensitive(true);
        let request = self
            .http
            .post(self.node(&session.id)?)
            .header(AUTHORIZATION, token)
            .header("file_offset", "0")
            .header(CONTENT_LENGTH, file.length)
            .timeout(TRANSFER)
            .body(reqwest::Body::wrap_stream(file.pieces));
        answered::<Example>(request).await.map(|it| it.h)
    }

    /// The address of something that has an id. What stands behind a `?` of the id is a query.
    fn node(&self, id: &str) -> Result<Url, ManageError> {
        Url::parse(&format!("{}/{id}", self.base)).map_err(|_| ManageError::NoAnswer("address"))
    }
}
