//! What every call of the Graph API has in common: its token, its version, the fields it asks for,
//! the pages in which lists come.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::graph_error::GraphError;
use crate::world::World;

/// Entries of a page, unless the call says otherwise.
const PAGE_ENTRIES: usize = 25;
/// Most entries of a page.
const PAGE_ENTRIES_MAX: usize = 1_000;

/// The token and the version.
pub fn check(world: &World, version: &str, headers: &HeaderMap) -> Result<(), GraphError> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if token != Some(world.options.access_token.as_str()) {
        return Err(GraphError::new(190, "Invalid OAuth access token"));
    }
    let known = version.strip_prefix('v').is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit() || c == b'.')
    });
    if known {
        Ok(())
    } else {
        Err(GraphError::new(2_500, format!("Unknown path components: /{version}")))
    }
}

/// The token, the version, and that the object in the path is the business number.
pub fn check_number(
    world: &World,
    version: &str,
    id: &str,
    headers: &HeaderMap,
) -> Result<(), GraphError> {
    check(world, version, headers)?;
    if id == world.options.phone_number_id { Ok(()) } else { Err(GraphError::unknown_object(id)) }
}

/// The token, the version, and that the object in the path is the business account.
pub fn check_account(
    world: &World,
    version: &str,
    id: &str,
    headers: &HeaderMap,
) -> Result<(), GraphError> {
    check(world, version, headers)?;
    if id == world.options.business_account_id {
        Ok(())
    } else {
        Err(GraphError::unknown_object(id))
    }
}

/// The body as a JSON object; none is an empty one.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, GraphError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(GraphError::new(100, "The request body is not a JSON object")),
    }
}

/// `?fields=`, `?limit=`, `?after=`, `?before=`.
#[derive(Debug, Default, Deserialize)]
pub struct Reading {
    /// Comma-separated names, possibly with arguments in braces or dots.
    fields: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
    before: Option<String>,
}

impl Reading {
    /// The fields asked for, or else `default` of them; the id always.
    pub fn select(&self, node: &Value, default: &[&str]) -> Value {
        let wanted: Vec<&str> = match &self.fields {
            Some(fields) => fields
                .split(',')
                .map(|field| field.trim().split(['.', '{']).next().unwrap_or_default())
                .collect(),
            None => default.to_vec(),
        };
        let selected = node.as_object().into_iter().flatten().filter(|(name, value)| {
            !value.is_null() && (name.as_str() == "id" || wanted.contains(&name.as_str()))
        });
        Value::Object(selected.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// One page of `entries`, with cursors and, where there is more, `next` and `previous`.
    pub fn page(&self, world: &World, path: &str, entries: Vec<Value>) -> Value {
        let limit = self.limit.unwrap_or(PAGE_ENTRIES).clamp(1, PAGE_ENTRIES_MAX);
        let end = entries.len();
        let begin = match (self.after.as_deref(), self.before.as_deref()) {
            (Some(after), _) => position(after).map_or(0, |at| at + 1).min(end),
            (None, Some(before)) => position(before).unwrap_or(0).saturating_sub(limit),
            (None, None) => 0,
        };
        let stop = (begin + limit).min(end);
        if begin >= stop {
            return json!({"data": []});
        }
        let link = |name: &str, at: usize| {
            let fields =
                self.fields.as_ref().map(|fields| format!("fields={fields}&")).unwrap_or_default();
            format!("{}{path}?{fields}limit={limit}&{name}={}", world.url, cursor(at))
        };
        let mut paging = json!({"cursors": {"before": cursor(begin), "after": cursor(stop - 1)}});
        if stop < end {
            paging["next"] = json!(link("after", stop - 1));
        }
        if begin > 0 {
            paging["previous"] = json!(link("before", begin));
        }
        json!({"data": entries[begin..stop], "paging": paging})
    }
}

fn cursor(at: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("entry:{at}"))
}

fn position(cursor: &str) -> Option<usize> {
    let raw = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    std::str::from_utf8(&raw).ok()?.strip_prefix("entry:")?.parse().ok()
}
