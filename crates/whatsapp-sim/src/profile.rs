//! The business profile that people see, with Meta's limits on each field.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::callbacks::success;
use crate::graph::{self, Reading, check_number};
use crate::graph_error::GraphError;
use crate::message::missing;
use crate::world::World;

/// The fields, and most characters of each.
const FIELDS: [(&str, usize); 5] =
    [("about", 139), ("address", 256), ("description", 512), ("email", 128), ("vertical", 40)];
/// The industries that Meta knows.
const VERTICALS: [&str; 20] = [
    "OTHER",
    "AUTO",
    "BEAUTY",
    "APPAREL",
    "EDU",
    "ENTERTAIN",
    "EVENT_PLAN",
    "FINANCE",
    "GROCERY",
    "GOVT",
    "HOTEL",
    "HEALTH",
    "NONPROFIT",
    "PROF_SERVICES",
    "RETAIL",
    "TRAVEL",
    "RESTAURANT",
    "ALCOHOL",
    "ONLINE_GAMBLING",
    "PHYSICAL_GAMBLING",
];

/// What people see of the business.
#[derive(Debug)]
pub struct Profile(Map<String, Value>);

impl Default for Profile {
    fn default() -> Self {
        Self(Map::from_iter([("vertical".to_owned(), json!("OTHER"))]))
    }
}

/// `GET /{version}/{number}/whatsapp_business_profile`.
pub async fn get(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_number(&world, &version, &number, &headers) {
        return error.into_response();
    }
    let whole = Value::Object(world.state().number.profile.0.clone());
    let mut selected = reading.select(&whole, &[]);
    selected["messaging_product"] = json!("whatsapp");
    Json(json!({"data": [selected]})).into_response()
}

/// `POST /{version}/{number}/whatsapp_business_profile`: the fields that are given.
pub async fn update(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let given = check_number(&world, &version, &number, &headers)
        .and_then(|()| graph::object(&body))
        .and_then(|body| fields(&body));
    match given {
        Ok(fields) => {
            world.state().number.profile.0.extend(fields);
            success()
        }
        Err(error) => error.into_response(),
    }
}

fn fields(body: &Map<String, Value>) -> Result<Map<String, Value>, GraphError> {
    if body.get("messaging_product") != Some(&json!("whatsapp")) {
        return Err(missing("messaging_product"));
    }
    let mut fields = Map::new();
    for (name, chars_max) in FIELDS {
        let Some(value) = body.get(name) else { continue };
        let text = value.as_str().ok_or_else(|| invalid(name, "must be a string"))?;
        if text.chars().count() > chars_max {
            return Err(invalid(name, &format!("is longer than {chars_max} characters")));
        }
        match name {
            "about" if text.is_empty() => return Err(invalid(name, "can't be empty")),
            "email" if !text.is_empty() && !text.contains('@') => {
                return Err(invalid(name, "is not an address"));
            }
            "vertical" if !text.is_empty() && !VERTICALS.contains(&text) => {
                return Err(invalid(name, "is not an industry that Meta knows"));
            }
            _ => {}
        }
        fields.insert(name.to_owned(), value.clone());
    }
    if let Some(given) = body.get("websites") {
        fields.insert("websites".to_owned(), json!(websites(given)?));
    }
    if let Some(handle) = body.get("profile_picture_handle").and_then(Value::as_str) {
        let url = format!("https://pps.whatsapp.net/simulated/{}", handle.len());
        fields.insert("profile_picture_url".to_owned(), json!(url));
    }
    Ok(fields)
}

/// An array, or an array in a string, as Meta's own example has it.
fn websites(given: &Value) -> Result<Vec<String>, GraphError> {
    let websites: Option<Vec<String>> = match given {
        Value::String(text) => serde_json::from_str(text).ok(),
        given => serde_json::from_value(given.clone()).ok(),
    };
    websites
        .filter(|it| it.len() <= 2 && it.iter().all(|url| url.chars().count() <= 256))
        .filter(|it| it.iter().all(|url| url.is_empty() || url.starts_with("http")))
        .ok_or_else(|| invalid("websites", "must be at most 2 addresses of 256 characters"))
}

fn invalid(name: &str, why: &str) -> GraphError {
    GraphError::new(100, format!("Param {name} {why}"))
}
