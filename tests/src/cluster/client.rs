//! Whoever calls a cluster's APIs with the test's token. It can be cloned and outlives faults of the
//! services, but not the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// A caller who may do everything.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    token: Arc<str>,
    urls: Arc<BTreeMap<String, String>>,
}

impl Client {
    pub(super) fn new(token: &str, urls: BTreeMap<String, String>) -> Self {
        let http =
            assent_http::client::http_client(Duration::from_secs(2), Duration::from_secs(30))
                .unwrap();
        Self { http, token: token.into(), urls: Arc::new(urls) }
    }

    /// `POST` to a service with the test's token; the status and the body, null where it has none.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn try_post(
        &self,
        name: &str,
        path: &str,
        body: &Value,
        idempotency: Option<&str>,
    ) -> reqwest::Result<(u16, Value)> {
        let mut request = self
            .http
            .post(format!("{}{path}", self.urls[name]))
            .bearer_auth(&self.token)
            .json(body);
        if let Some(key) = idempotency {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
    }

    /// `GET` from a service with the test's token; as [`Client::try_post`].
    ///
    /// # Errors
    /// There was no answer.
    pub async fn try_get(&self, name: &str, path: &str) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}{path}", self.urls[name]);
        let answer = self.http.get(url).bearer_auth(&self.token).send().await?;
        Ok((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
    }
}
