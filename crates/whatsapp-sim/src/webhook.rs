//! Webhooks as Meta sends them: the envelope, the signature over the raw body, and retries until
//! a 200. Order and exactly-once are not promised, and a status may come before its send's answer.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::graph_error::GraphError;
use crate::world::{State, World};

/// Between the tries of one webhook at first; doubled up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Tries in all (Meta goes on for seven days; the simulator for some ten minutes).
const TRIES_MAX: u32 = 120;

/// `sha256=` and the hex HMAC-SHA-256 of the raw body under the app secret.
#[must_use]
pub fn signature(app_secret: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(app_secret.as_bytes()).expect("any length is a key");
    mac.update(body);
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// A webhook on its way: its body, and where it goes.
#[derive(Debug, Clone)]
pub struct Webhook {
    body: String,
    url: Option<String>,
}

impl Webhook {
    /// A body as it is, to where `messages` go.
    pub fn raw(world: &World, body: String) -> Self {
        let url = world.state().callbacks.url("messages").map(str::to_owned);
        Self { body, url }
    }
}

/// Posts a webhook once; the status that came back, or none when nothing answered.
pub async fn post(world: &World, webhook: &Webhook) -> Option<u16> {
    let body = &webhook.body;
    let answer = world
        .http
        .post(webhook.url.as_deref()?)
        .header("content-type", "application/json")
        .header("user-agent", "facebookexternalua")
        .header("x-hub-signature-256", signature(&world.options.app_secret, body.as_bytes()))
        .body(body.clone())
        .send()
        .await;
    match answer {
        Ok(answer) => Some(answer.status().as_u16()),
        Err(error) => {
            tracing::warn!(error = %error.without_url(), "webhook not delivered");
            None
        }
    }
}

/// Posts a webhook, and again until it is answered with 200.
pub async fn deliver(world: &World, webhook: &Webhook) {
    if webhook.url.is_none() {
        return;
    }
    let mut pause = RETRY_PAUSE;
    for _ in 0..TRIES_MAX {
        if post(world, webhook).await == Some(200) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
    tracing::warn!(tries = TRIES_MAX, "webhook given up");
}

/// Posts a webhook and, unless that was answered with 200, goes on trying in the background.
pub async fn deliver_first(world: &Arc<World>, webhook: Webhook) -> Option<u16> {
    let status = post(world, &webhook).await;
    if status != Some(200) && webhook.url.is_some() {
        let world = Arc::clone(world);
        tokio::spawn(async move {
            tokio::time::sleep(RETRY_PAUSE).await;
            deliver(&world, &webhook).await;
        });
    }
    status
}

/// Delivers in the background.
pub fn deliver_later(world: &Arc<World>, webhooks: Vec<Webhook>) {
    if webhooks.is_empty() {
        return;
    }
    let world = Arc::clone(world);
    tokio::spawn(async move {
        for webhook in &webhooks {
            deliver(&world, webhook).await;
        }
    });
}

/// One change of a field that belongs to the business number.
pub fn change(world: &World, state: &State, field: &str, more: Value) -> Webhook {
    let options = &world.options;
    let mut value = json!({
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": options.display_phone_number,
            "phone_number_id": options.phone_number_id,
        },
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    let entry =
        json!({"id": options.business_account_id, "changes": [{"field": field, "value": value}]});
    whole(state, field, entry)
}

/// One change of a field that belongs to the account: its entry has a time, its value no number.
pub fn account_change(world: &World, state: &State, field: &str, value: Value) -> Webhook {
    let entry = json!({
        "id": world.options.business_account_id,
        "time": world.now().as_second(),
        "changes": [{"field": field, "value": value}],
    });
    whole(state, field, entry)
}

fn whole(state: &State, field: &str, entry: Value) -> Webhook {
    let body = json!({"object": "whatsapp_business_account", "entry": [entry]}).to_string();
    Webhook { body, url: state.callbacks.url(field).map(str::to_owned) }
}

/// A status webhook of the message `wamid`; none if nobody knows that message.
pub fn status(
    world: &World,
    wamid: &str,
    status: &str,
    error: Option<&GraphError>,
) -> Option<Webhook> {
    let mut state = world.state();
    let call = state.call_of(wamid)?;
    call.statuses.push(status.to_owned());
    let mut entry = json!({
        "id": wamid,
        "status": status,
        "timestamp": world.now().as_second().to_string(),
    });
    match (&call.user_id, &call.party) {
        (Some(user_id), _) => entry["recipient_user_id"] = json!(user_id),
        (None, party) => entry["recipient_id"] = json!(party),
    }
    if let Some(data) = &call.callback_data {
        entry["biz_opaque_callback_data"] = json!(data);
    }
    if let Some(error) = error {
        entry["errors"] = json!([error.webhook_entry()]);
    } else if status == "sent" {
        entry["pricing"] = pricing(call.category.as_deref(), call.in_window);
    }
    // Meta's own page has contacts for all statuses but `failed`; clients expect them there too.
    let (party, hidden) = (call.party.clone().unwrap_or_default(), call.user_id.is_some());
    let at = call.at;
    if !entry["pricing"].is_null() && state.people.person(&party).is_free(at) {
        entry["pricing"]["billable"] = json!(false);
        entry["pricing"]["type"] = json!("free_entry_point");
    }
    let contact = state.people.person(&party).contact(hidden);
    let value = json!({"contacts": [contact], "statuses": [entry]});
    Some(change(world, &state, "messages", value))
}

/// Free-form messages cost nothing, nor do utility templates inside the window.
fn pricing(category: Option<&str>, in_window: bool) -> Value {
    let free = category.is_none_or(|category| category == "UTILITY" && in_window);
    json!({
        "billable": !free,
        "pricing_model": "PMP",
        "type": if free { "free_customer_service" } else { "regular" },
        "category": category.map_or("service".to_owned(), str::to_lowercase),
    })
}

/// How the statuses of one message go astray.
#[derive(Debug, Clone, Copy, Default)]
pub struct Astray {
    /// Each comes so much later.
    pub later: Duration,
    /// Each comes twice.
    pub twice: bool,
    /// They come in another order.
    pub disorder: bool,
    /// None comes.
    pub lost: bool,
}

/// Runs the statuses that follow an accepted message.
pub async fn run_statuses(
    world: Arc<World>,
    wamid: String,
    failure: Option<GraphError>,
    astray: Astray,
) {
    let (plan, blocked) = {
        let mut state = world.state();
        let party = state.call_of(&wamid).and_then(|call| call.party.clone());
        let blocked = party.and_then(|it| state.people.get(&it).map(|person| person.blocked));
        (state.plan.clone(), blocked == Some(true))
    };
    let mut names = match failure {
        Some(_) => vec!["failed".to_owned()],
        None => plan.statuses,
    };
    // To somebody who blocked the business a message goes out and never arrives.
    names.retain(|name| !blocked || matches!(name.as_str(), "sent" | "failed"));
    if astray.lost {
        names.clear();
    }
    if astray.disorder {
        let straight = names.clone();
        world.random.shuffle(&mut names);
        if names == straight {
            names.reverse();
        }
    }
    for name in names {
        tokio::time::sleep(Duration::from_millis(plan.delay_ms) + astray.later).await;
        if name != "sent" && name != "failed" && waits(&world, &wamid) {
            continue;
        }
        let Some(webhook) = status(&world, &wamid, &name, failure.as_ref()) else { return };
        deliver(&world, &webhook).await;
        if astray.twice {
            deliver(&world, &webhook).await;
        }
    }
}

/// Whether a message waits for a phone that is off.
fn waits(world: &World, wamid: &str) -> bool {
    let mut state = world.state();
    let party = state.call_of(wamid).and_then(|call| call.party.clone());
    party.is_some_and(|party| state.people.waits(&party, wamid))
}

/// What waited for a phone arrives, at whoever has the number by now; the statuses after `sent` follow.
pub fn arrive(world: &Arc<World>, wamids: Vec<String>) {
    if wamids.is_empty() {
        return;
    }
    let world = Arc::clone(world);
    tokio::spawn(async move {
        let plan = world.state().plan.clone();
        for wamid in &wamids {
            for name in plan.statuses.iter().filter(|name| *name != "sent") {
                tokio::time::sleep(Duration::from_millis(plan.delay_ms)).await;
                let Some(webhook) = status(&world, wamid, name, None) else { break };
                deliver(&world, &webhook).await;
            }
        }
    });
}

/// The handshake with the app's callback and the configured token.
pub async fn verify(world: &World) -> Result<(), String> {
    let url = world.state().callbacks.app.clone().ok_or("no webhook URL is configured")?;
    handshake(world, &url, &world.options.verify_token).await
}

/// Meta's handshake: the webhook proves that it knows the verify token by giving the challenge back.
pub async fn handshake(world: &World, url: &str, token: &str) -> Result<(), String> {
    let challenge = world.random.object_id();
    let query = [
        ("hub.mode", "subscribe"),
        ("hub.challenge", challenge.as_str()),
        ("hub.verify_token", token),
    ];
    let mut url = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
    url.query_pairs_mut().extend_pairs(query);
    let answer =
        world.http.get(url).send().await.map_err(|error| error.without_url().to_string())?;
    let status = answer.status().as_u16();
    let body = answer.text().await.map_err(|error| error.without_url().to_string())?;
    if status == 200 && body == challenge {
        Ok(())
    } else {
        Err(format!("the webhook answered {status} and not the challenge"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha_256_of_the_raw_body() {
        // RFC 4231, test case 2.
        assert_eq!(
            signature("Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
