//! Where webhooks go: the app's callback, which account and number may override for `messages`, and
//! the fields it is subscribed to. Setting one does Meta's handshake first.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::Options;
use crate::graph::{self, check_account};
use crate::graph_error::GraphError;
use crate::template::text_of;
use crate::webhook;
use crate::world::World;

/// Most characters of an overriding address.
const OVERRIDE_CHARS_MAX: usize = 200;

/// The callbacks.
#[derive(Debug)]
pub struct Callbacks {
    /// The app's.
    pub app: Option<String>,
    /// The fields that the app is subscribed to; none: all of them.
    pub fields: Option<Vec<String>>,
    /// Whether the app is subscribed to the account.
    pub subscribed: bool,
    /// The account's own.
    pub account: Option<String>,
    /// The number's own.
    pub number: Option<String>,
}

impl Callbacks {
    /// As configured.
    pub fn new(options: &Options) -> Self {
        Self {
            app: options.webhook_url.clone(),
            fields: None,
            subscribed: true,
            account: None,
            number: None,
        }
    }

    /// Where a webhook of this field goes; none: nowhere.
    pub fn url(&self, field: &str) -> Option<&str> {
        let wanted = self.fields.as_ref().is_none_or(|fields| fields.iter().any(|it| it == field));
        if !wanted || !self.subscribed {
            return None;
        }
        let overriding = self.number.as_deref().or(self.account.as_deref());
        overriding.filter(|_| field == "messages").or(self.app.as_deref())
    }

    /// A number's `webhook_configuration`.
    pub fn configuration(&self) -> Value {
        let named = [
            ("phone_number", &self.number),
            ("whatsapp_business_account", &self.account),
            ("application", &self.app),
        ];
        let given = named.into_iter().filter_map(|(name, url)| Some((name, url.as_ref()?)));
        Value::Object(given.map(|(name, url)| (name.to_owned(), json!(url))).collect())
    }
}

/// `GET /{version}/oauth/access_token`: an app's own token.
pub async fn app_token(
    State(world): State<Arc<World>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let given = |name: &str| query.get(name).map(String::as_str);
    let options = &world.options;
    if given("client_id") != Some(&options.app_id)
        || given("client_secret") != Some(&options.app_secret)
        || given("grant_type") != Some("client_credentials")
    {
        return GraphError::new(1, "Error validating client secret.").into_response();
    }
    Json(json!({"access_token": app_access_token(options), "token_type": "bearer"})).into_response()
}

fn app_access_token(options: &Options) -> String {
    format!("{}|{}", options.app_id, options.app_secret)
}

/// `POST /{version}/{app_id}/subscriptions`: the app's callback and fields.
pub async fn subscribe_app(
    State(world): State<Arc<World>>,
    Path((_, app_id)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let given = |name: &str| query.get(name).map_or("", String::as_str);
    if given("access_token") != app_access_token(&world.options) {
        return GraphError::new(190, "Invalid OAuth access token").into_response();
    }
    if app_id != world.options.app_id {
        return GraphError::unknown_object(&app_id).into_response();
    }
    if given("object") != "whatsapp_business_account" {
        return GraphError::new(100, "object must be whatsapp_business_account").into_response();
    }
    let url = given("callback_url").to_owned();
    if let Err(error) = handshake(&world, &url, given("verify_token")).await {
        return error.into_response();
    }
    let fields: Vec<String> =
        given("fields").split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let mut state = world.state();
    state.callbacks.app = Some(url);
    state.callbacks.fields = Some(fields);
    success()
}

/// `GET /{version}/{account}/subscribed_apps`.
pub async fn subscribed_apps(
    State(world): State<Arc<World>>,
    Path((version, account)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_account(&world, &version, &account, &headers) {
        return error.into_response();
    }
    let app_id = &world.options.app_id;
    let state = world.state();
    let mut app = json!({"whatsapp_business_api_data": {
        "id": app_id, "name": "Simulated app",
        "link": format!("https://www.facebook.com/games/?app_id={app_id}")}});
    if let Some(url) = &state.callbacks.account {
        app["override_callback_uri"] = json!(url);
    }
    let apps: Vec<Value> = Some(app).filter(|_| state.callbacks.subscribed).into_iter().collect();
    Json(json!({"data": apps})).into_response()
}

/// `POST /{version}/{account}/subscribed_apps`: subscribes the app; with an address it overrides the
/// app's callback, without one such an override ends.
pub async fn subscribe(
    State(world): State<Arc<World>>,
    Path((version, account)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let given = check_account(&world, &version, &account, &headers)
        .and_then(|()| graph::object(&body))
        .and_then(|body| overriding(&body));
    match given {
        Ok(None) => {
            let mut state = world.state();
            state.callbacks.subscribed = true;
            state.callbacks.account = None;
            success()
        }
        Ok(Some((url, token))) => match handshake(&world, &url, &token).await {
            Ok(()) => {
                let mut state = world.state();
                state.callbacks.subscribed = true;
                state.callbacks.account = Some(url);
                success()
            }
            Err(error) => error.into_response(),
        },
        Err(error) => error.into_response(),
    }
}

/// `DELETE /{version}/{account}/subscribed_apps`.
pub async fn unsubscribe(
    State(world): State<Arc<World>>,
    Path((version, account)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_account(&world, &version, &account, &headers) {
        return error.into_response();
    }
    let mut state = world.state();
    state.callbacks.subscribed = false;
    state.callbacks.account = None;
    success()
}

/// The part of `POST /{version}/{number}` that sets or ends the number's own callback.
pub async fn configure_number(
    world: &World,
    configuration: &Map<String, Value>,
) -> Result<(), GraphError> {
    let url = match overriding(configuration)? {
        None => None,
        Some((url, token)) => {
            handshake(world, &url, &token).await?;
            Some(url)
        }
    };
    world.state().callbacks.number = url;
    Ok(())
}

/// The address and the token of an override; none: an override ends.
fn overriding(body: &Map<String, Value>) -> Result<Option<(String, String)>, GraphError> {
    let Some(url) = text_of(body, "override_callback_uri") else { return Ok(None) };
    if url.chars().count() > OVERRIDE_CHARS_MAX {
        return Err(GraphError::new(100, "override_callback_uri is longer than 200 characters"));
    }
    let token = text_of(body, "verify_token")
        .ok_or_else(|| GraphError::new(100, "verify_token is required"))?;
    Ok(Some((url.to_owned(), token.to_owned())))
}

async fn handshake(world: &World, url: &str, token: &str) -> Result<(), GraphError> {
    webhook::handshake(world, url, token).await.map_err(|what| {
        GraphError::of_management(
            2_200,
            "Callback verification failed",
            format!("The callback address could not be verified: {what}"),
        )
    })
}

/// `{"success": true}`.
pub fn success() -> Response {
    Json(json!({"success": true})).into_response()
}
