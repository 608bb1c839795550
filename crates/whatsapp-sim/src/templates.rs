//! Templates over the Graph API: created, listed, read, edited, deleted, with Meta's limits on each.
//! What becomes of them afterwards is the business of `review`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use crate::callbacks::success;
use crate::codes;
use crate::graph::{self, Reading, check_account};
use crate::graph_error::GraphError;
use crate::review;
use crate::template::{Template, faulty, text_of};
use crate::world::{self, World};

/// Templates of an account.
const TEMPLATES_MAX: usize = 250;
/// How long the name of a deleted template can't be used again.
const NAME_REST: SignedDuration = SignedDuration::from_hours(30 * 24);
/// What a template shows unless fields are named.
pub const FIELDS: [&str; 7] =
    ["name", "parameter_format", "components", "language", "status", "category", "sub_category"];

/// `POST /{version}/{account}/message_templates`.
pub async fn create(
    State(world): State<Arc<World>>,
    Path((version, account)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let created = check_account(&world, &version, &account, &headers)
        .and_then(|()| graph::object(&body))
        .and_then(|body| insert(&world, &body));
    match created {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.into_response(),
    }
}

fn insert(world: &Arc<World>, body: &Map<String, Value>) -> Result<Value, GraphError> {
    let needed = |key: &str| {
        text_of(body, key).ok_or_else(|| GraphError::new(100, format!("{key} is required")))
    };
    let (name, language) = (needed("name")?, needed("language")?);
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if name.len() > 512 || !name.bytes().all(word) {
        let what = "name has 1 to 512 lower-case letters, digits and underscores";
        return Err(GraphError::new(100, what));
    }
    let category = category(needed("category")?)?;
    let named = is_named(body);
    let components = components(body)?.unwrap_or_default();
    if let Some(fault) = faulty(&components, named) {
        return Err(fault);
    }
    let components = codes::kept(components, &category)?;
    let ttl_s = ttl(body, &category)?;
    let now = world.now();
    let mut state = world.state();
    if state.templates.len() >= TEMPLATES_MAX {
        let details = "A WhatsApp Business Account can have up to 250 message templates.";
        return Err(GraphError::of_management(
            2_388_019,
            "Message Template Limit Exceeded",
            details.to_owned(),
        ));
    }
    let same = |it: &Template| it.name == name && it.language == language && !it.adopted;
    if state.templates.iter().any(same) {
        return Err(GraphError::of_management(
            2_388_024,
            "Content in This Language Already Exists",
            format!("There is already {language} content for this template."),
        ));
    }
    let resting = |at| now.duration_since(at) < NAME_REST;
    if state.reviews.deleted.get(name).is_some_and(|at| resting(*at)) {
        return Err(GraphError::of_management(
            2_388_023,
            "Message Template Language Is Being Deleted",
            "Content of this name was deleted less than 30 days ago.".to_owned(),
        ));
    }
    let id = world.random.object_id();
    state.templates.retain(|it| !(it.adopted && it.name == name && it.language == language));
    state.templates.push(Template {
        category: category.clone(),
        status: "PENDING".to_owned(),
        components,
        named,
        ttl_s,
        adopted: false,
        ..Template::adopted(id.clone(), name, language, now)
    });
    drop(state);
    review::follows(world, id.clone());
    Ok(json!({"id": id, "status": "PENDING", "category": category}))
}

/// `GET /{version}/{account}/message_templates`.
pub async fn list(
    State(world): State<Arc<World>>,
    Path((version, account)): Path<(String, String)>,
    Query(reading): Query<Reading>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_account(&world, &version, &account, &headers) {
        return error.into_response();
    }
    let one_of = |key: &str, value: &str| {
        query.get(key).is_none_or(|wanted| {
            wanted.split(',').any(|wanted| wanted.trim().eq_ignore_ascii_case(value))
        })
    };
    let state = world.state();
    let wanted = |it: &&Template| {
        let content = || Value::Array(it.components.clone()).to_string();
        let part = |key: &str, text: &str| query.get(key).is_none_or(|part| text.contains(part));
        one_of("status", &it.status)
            && one_of("category", &it.category)
            && one_of("language", &it.language)
            && one_of("quality_score", &it.quality.0)
            && part("name", &it.name)
            && part("content", &content())
            && part("name_or_content", &format!("{} {}", it.name, content()))
    };
    let nodes: Vec<Value> = state
        .templates
        .iter()
        .filter(wanted)
        .map(|it| reading.select(&it.node(), &FIELDS))
        .collect();
    let total = nodes.len();
    let mut page = reading.page(&world, &format!("/{version}/{account}/message_templates"), nodes);
    if query.contains_key("summary") {
        page["summary"] = json!({
            "total_count": total,
            "message_template_count": state.templates.len(),
            "message_template_limit": TEMPLATES_MAX,
            "are_translations_complete": true,
        });
    }
    Json(page).into_response()
}

/// `DELETE /{version}/{account}/message_templates?name=&hsm_id=`.
pub async fn delete(
    State(world): State<Arc<World>>,
    Path((version, account)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let deleted = check_account(&world, &version, &account, &headers)
        .and_then(|()| remove(&world, query.get("name"), query.get("hsm_id")));
    match deleted {
        Ok(()) => success(),
        Err(error) => error.into_response(),
    }
}

fn remove(
    world: &Arc<World>,
    name: Option<&String>,
    id: Option<&String>,
) -> Result<(), GraphError> {
    let name = name.ok_or_else(|| GraphError::new(100, "The parameter name is required"))?;
    let mut state = world.state();
    let meant = |it: &Template| it.name == *name && id.is_none_or(|id| it.id == *id);
    let (gone, kept): (Vec<_>, Vec<_>) = state.templates.drain(..).partition(meant);
    state.templates = kept;
    if gone.is_empty() || gone.iter().any(|it| it.status == "DISABLED") {
        let disabled = !gone.is_empty();
        state.templates.extend(gone);
        return Err(if disabled {
            GraphError::new(100, "Templates that are disabled can't be deleted")
        } else {
            GraphError::of_management(
                2_593_002,
                "Message Template Not Found",
                "The template could not be found.".to_owned(),
            )
        });
    }
    if gone.iter().any(|it| it.status == "APPROVED") {
        state.reviews.deleted.insert(name.clone(), world.now());
    }
    let webhooks = gone
        .iter()
        .map(|it| review::status_webhook(world, &state, it, "DELETED", "NONE", None))
        .collect();
    drop(state);
    crate::webhook::deliver_later(world, webhooks);
    Ok(())
}

/// `POST /{version}/{template_id}`: an edit; all components are replaced. Gives the answer.
pub fn edit(world: &Arc<World>, id: &str, body: &Map<String, Value>) -> Result<Value, GraphError> {
    let now = world.now();
    let mut state = world.state();
    let template = find(&mut state, id).ok_or_else(|| GraphError::unknown_object(id))?;
    if !matches!(template.status.as_str(), "APPROVED" | "REJECTED" | "PAUSED") {
        return Err(GraphError::new(
            100,
            "Only approved, rejected or paused templates can be edited",
        ));
    }
    let category = text_of(body, "category").map(category).transpose()?;
    let approved = template.status == "APPROVED";
    if approved && category.as_ref().is_some_and(|it| *it != template.category) {
        return Err(GraphError::new(100, "The category of an approved template can't be edited"));
    }
    let ttl_s = ttl(body, category.as_ref().unwrap_or(&template.category))?;
    let named = if body.contains_key("parameter_format") { is_named(body) } else { template.named };
    let components = components(body)?;
    if let Some(fault) = components.as_ref().and_then(|it| faulty(it, named)) {
        return Err(fault);
    }
    let under = category.as_ref().unwrap_or(&template.category);
    let components = components.map(|it| codes::kept(it, under)).transpose()?;
    if approved {
        let within = |hours| {
            let span = SignedDuration::from_hours(hours);
            template.edits.iter().filter(|at| now.duration_since(**at) < span).count()
        };
        if within(24) >= 1 || within(30 * 24) >= 10 {
            let what = "Approved templates can be edited once in 24 hours and 10 times in 30 days";
            return Err(GraphError::new(100, what));
        }
        template.edits.push(now);
    }
    template.category = category.unwrap_or_else(|| template.category.clone());
    template.components = components.unwrap_or_else(|| template.components.clone());
    template.named = named;
    template.ttl_s = ttl_s.or(template.ttl_s);
    template.adopted = false;
    template.status = "PENDING".to_owned();
    template.paused_until = None;
    let answer = json!({
        "success": true, "id": template.id, "name": template.name, "category": template.category,
    });
    let id = template.id.clone();
    drop(state);
    review::follows(world, id);
    Ok(answer)
}

/// The template with this id.
pub fn find<'a>(state: &'a mut world::State, id: &str) -> Option<&'a mut Template> {
    state.templates.iter_mut().find(|it| it.id == id)
}

/// A category of Meta's.
pub fn category(given: &str) -> Result<String, GraphError> {
    let given = given.to_ascii_uppercase();
    match given.as_str() {
        "MARKETING" | "UTILITY" | "AUTHENTICATION" => Ok(given),
        _ => Err(GraphError::new(100, "category must be MARKETING, UTILITY or AUTHENTICATION")),
    }
}

fn is_named(body: &Map<String, Value>) -> bool {
    text_of(body, "parameter_format").is_some_and(|format| format.eq_ignore_ascii_case("named"))
}

fn components(body: &Map<String, Value>) -> Result<Option<Vec<Value>>, GraphError> {
    match body.get("components") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(components)) => Ok(Some(components.clone())),
        Some(_) => Err(GraphError::new(100, "components must be an array")),
    }
}

/// How long Meta may try to deliver; each category has its own range of seconds.
fn ttl(body: &Map<String, Value>, category: &str) -> Result<Option<i64>, GraphError> {
    let Some(seconds) = body.get("message_send_ttl_seconds").and_then(Value::as_i64) else {
        return Ok(None);
    };
    let range = match category {
        "AUTHENTICATION" => 30..=900,
        "UTILITY" => 30..=43_200,
        _ => 43_200..=2_592_000,
    };
    // -1: thirty days, for any category.
    if seconds == -1 || range.contains(&seconds) {
        Ok(Some(seconds))
    } else {
        Err(GraphError::new(100, format!("message_send_ttl_seconds must be in {range:?}")))
    }
}
