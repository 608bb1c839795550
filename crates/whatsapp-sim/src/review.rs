//! What Meta does with templates by itself: reviews, pauses for low quality, another category,
//! pacing; driven by the inspection API and the clock, each with the webhooks that go with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::later;
use crate::graph_error::GraphError;
use crate::template::{PACING_MAX, PAUSES, Pacing, Template};
use crate::webhook::{Astray, Webhook, account_change, deliver_first, deliver_later, run_statuses};
use crate::world::{self, GivenTemplate, World};
use crate::{inspect, templates};

/// How long a review takes.
const REVIEW: Duration = Duration::from_millis(50);

/// What the reviewers know.
#[derive(Debug, Default)]
pub struct Reviews {
    /// Whether new templates stay pending until a test decides.
    pub hold: bool,
    /// Names of deleted templates, and when they were.
    pub deleted: BTreeMap<String, Timestamp>,
}

/// `PUT /_sim/review`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewRequest {
    /// Whether new templates stay pending.
    hold: bool,
}

/// `PUT /_sim/review`: whether new and edited templates are approved by themselves.
pub async fn review(
    State(world): State<Arc<World>>,
    Json(request): Json<ReviewRequest>,
) -> StatusCode {
    world.state().reviews.hold = request.hold;
    StatusCode::NO_CONTENT
}

/// The review that follows a creation or an edit.
pub fn follows(world: &Arc<World>, id: String) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        tokio::time::sleep(REVIEW).await;
        let webhook = {
            let mut state = world.state();
            if state.reviews.hold {
                return;
            }
            let Some(template) = templates::find(&mut state, &id) else { return };
            if template.status != "PENDING" {
                return;
            }
            template.status = "APPROVED".to_owned();
            let template = template.clone();
            status_webhook(&world, &state, &template, "APPROVED", "NONE", None)
        };
        deliver_later(&world, vec![webhook]);
    });
}

/// `PUT /_sim/templates`: exactly these exist, approved; an empty list: those that are sent.
pub async fn put(
    State(world): State<Arc<World>>,
    Json(given): Json<Vec<GivenTemplate>>,
) -> StatusCode {
    let now = world.now();
    world.state().put_templates(given, &world.random, now);
    StatusCode::NO_CONTENT
}

/// `GET /_sim/templates`: all of them as the Graph API shows them.
pub async fn get(State(world): State<Arc<World>>) -> Json<Value> {
    let nodes: Vec<Value> = world.state().templates.iter().map(Template::node).collect();
    Json(json!({"templates": nodes}))
}

/// What happens to a template.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change", deny_unknown_fields)]
pub enum Change {
    /// Its status changes.
    Status {
        /// `APPROVED`, `REJECTED`, `PAUSED`, `DISABLED`, `FLAGGED`, ….
        to: String,
        /// Why, for a rejection.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Its quality changes; red pauses it, the third time for good.
    Quality {
        /// `GREEN`, `YELLOW`, `RED` or `UNKNOWN`.
        to: String,
    },
    /// Its category changes.
    Category {
        /// The new one.
        to: String,
        /// In how many seconds, announced now; at once unless given.
        #[serde(default)]
        in_s: Option<i64>,
    },
    /// It is paced from now on.
    Pacing {
        /// Messages that still go out.
        after: u64,
    },
}

/// `POST /_sim/templates/{template}`: by id or by name; answers as an inbound message does.
pub async fn change(
    State(world): State<Arc<World>>,
    Path(which): Path<String>,
    Json(change): Json<Change>,
) -> Response {
    let webhooks = {
        let mut state = world.state();
        let found = state.templates.iter().position(|it| it.id == which || it.name == which);
        let Some(at) = found else {
            let what = json!({"error": "no such template"});
            return (StatusCode::NOT_FOUND, Json(what)).into_response();
        };
        apply(&world, &mut state, at, change)
    };
    let mut answered = Some(204);
    for webhook in webhooks {
        answered = deliver_first(&world, webhook).await;
    }
    inspect::webhook_answer(answered, json!({}))
}

fn apply(world: &Arc<World>, state: &mut world::State, at: usize, change: Change) -> Vec<Webhook> {
    let now = world.now();
    let template = &mut state.templates[at];
    match change {
        Change::Status { to, reason } => {
            template.status = to.to_ascii_uppercase();
            template.paused_until = None;
            let reason = reason.unwrap_or_else(|| "NONE".to_owned());
            template.rejected_reason = (template.status == "REJECTED").then(|| reason.clone());
            let template = template.clone();
            vec![status_webhook(world, state, &template, &template.status, &reason, None)]
        }
        Change::Quality { to } => {
            let to = to.to_ascii_uppercase();
            let before = std::mem::replace(&mut template.quality, (to.clone(), now)).0;
            let held = template.pacing.take().map(|pacing| pacing.held).unwrap_or_default();
            let title = (to == "RED").then(|| pause(template, now));
            let template = template.clone();
            let mut webhooks = vec![quality_webhook(world, state, &template, &before)];
            if let Some(title) = title {
                let status = &template.status;
                webhooks.push(status_webhook(world, state, &template, status, "NONE", Some(title)));
            }
            release(world, held, to == "RED");
            webhooks
        }
        Change::Category { to, in_s } => {
            let to = to.to_ascii_uppercase();
            match in_s.filter(|seconds| *seconds > 0) {
                Some(seconds) => {
                    let when = later(now, SignedDuration::from_secs(seconds));
                    template.correct_category = Some((to, when));
                    let template = template.clone();
                    vec![impending_webhook(world, state, &template)]
                }
                None => vec![recategorise(world, state, at, to)],
            }
        }
        Change::Pacing { after } => {
            template.pacing = Some(Pacing { left: after, ..Pacing::default() });
            Vec::new()
        }
    }
}

/// The next pause, or the end; gives the title of its webhook.
fn pause(template: &mut Template, now: Timestamp) -> &'static str {
    let pause = PAUSES.get(template.pauses);
    template.pauses += 1;
    template.paused_until = pause.map(|pause| later(now, *pause));
    template.status = if pause.is_some() { "PAUSED" } else { "DISABLED" }.to_owned();
    match template.pauses {
        1 => "FIRST_PAUSE",
        2 => "SECOND_PAUSE",
        _ => "DISABLED",
    }
}

/// Held messages go out, or fail.
fn release(world: &Arc<World>, held: Vec<String>, drop: bool) {
    for wamid in held {
        let failure = drop.then(|| {
            GraphError::new(132_015, "Message was dropped because the template was paused.")
        });
        tokio::spawn(run_statuses(Arc::clone(world), wamid, failure, Astray::default()));
    }
}

fn recategorise(world: &World, state: &mut world::State, at: usize, to: String) -> Webhook {
    let template = &mut state.templates[at];
    let before = std::mem::replace(&mut template.category, to.clone());
    template.previous_category = Some(before.clone());
    template.correct_category = None;
    let mut value = named(&state.templates[at]);
    value["previous_category"] = json!(before);
    value["new_category"] = json!(to);
    account_change(world, state, "template_category_update", value)
}

/// What the time has brought: pauses end, categories change, pacing gives up.
pub fn due(world: &Arc<World>) {
    let now = world.now();
    let mut webhooks = Vec::new();
    let mut state = world.state();
    for at in 0..state.templates.len() {
        let template = &mut state.templates[at];
        if template.paused_until.is_some_and(|until| until <= now) {
            template.paused_until = None;
            template.status = "APPROVED".to_owned();
            let template = template.clone();
            let title = Some("UNPAUSE");
            webhooks.push(status_webhook(world, &state, &template, "APPROVED", "NONE", title));
        }
        let template = &mut state.templates[at];
        if let Some(pacing) = &mut template.pacing
            && pacing.since.is_some_and(|since| now.duration_since(since) >= PACING_MAX)
        {
            pacing.since = None;
            release(world, std::mem::take(&mut pacing.held), false);
            template.pacing = None;
        }
        if let Some((to, when)) = template.correct_category.clone()
            && when <= now
        {
            webhooks.push(recategorise(world, &mut state, at, to));
        }
    }
    drop(state);
    deliver_later(world, webhooks);
}

fn named(template: &Template) -> Value {
    json!({
        "message_template_id": template.id.parse::<u64>().unwrap_or_default(),
        "message_template_name": template.name,
        "message_template_language": template.language,
    })
}

/// `message_template_status_update`.
pub fn status_webhook(
    world: &World,
    state: &world::State,
    template: &Template,
    event: &str,
    reason: &str,
    title: Option<&str>,
) -> Webhook {
    let mut value = named(template);
    value["event"] = json!(event);
    value["reason"] = json!(reason);
    value["message_template_category"] = json!(template.category);
    if event == "DISABLED" {
        value["disable_info"] = json!({"disable_date": world.now().as_second()});
    }
    if let Some(title) = title {
        let description = match title {
            "UNPAUSE" => "Your WhatsApp message template has been unpaused.",
            "DISABLED" => "Your WhatsApp message template has been disabled.",
            _ => "Your WhatsApp message template has been paused.",
        };
        value["other_info"] = json!({"title": title, "description": description});
    }
    account_change(world, state, "message_template_status_update", value)
}

/// `message_template_quality_update`.
fn quality_webhook(
    world: &World,
    state: &world::State,
    template: &Template,
    before: &str,
) -> Webhook {
    let mut value = named(template);
    value["previous_quality_score"] = json!(before);
    value["new_quality_score"] = json!(template.quality.0);
    account_change(world, state, "message_template_quality_update", value)
}

/// `template_category_update` of a change that is still to come.
fn impending_webhook(world: &World, state: &world::State, template: &Template) -> Webhook {
    let mut value = named(template);
    value["new_category"] = json!(template.category);
    if let Some((to, when)) = &template.correct_category {
        value["correct_category"] = json!(to);
        value["category_update_timestamp"] = json!(when.as_second());
    }
    account_change(world, state, "template_category_update", value)
}
