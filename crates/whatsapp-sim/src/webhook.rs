//! Webhooks as Meta sends them: the envelope, the signature over the raw body, and retries until
//! a 200. Order and exactly-once are not promised, and a status may come before its send's answer.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::clock;
use crate::graph_error::GraphError;
use crate::world::World;

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

/// Posts `body` once; the status that came back, or none when nothing answered.
pub async fn post(world: &World, body: &str) -> Option<u16> {
    let url = world.options.webhook_url.as_deref()?;
    let answer = world
        .http
        .post(url)
        .header("content-type", "application/json")
        .header("user-agent", "facebookexternalua")
        .header("x-hub-signature-256", signature(&world.options.app_secret, body.as_bytes()))
        .body(body.to_owned())
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

/// Posts `body`, and again until it is answered with 200.
pub async fn deliver(world: &World, body: &str) {
    if world.options.webhook_url.is_none() {
        return;
    }
    let mut pause = RETRY_PAUSE;
    for _ in 0..TRIES_MAX {
        if post(world, body).await == Some(200) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
    tracing::warn!(tries = TRIES_MAX, "webhook given up");
}

/// Posts `body` and, unless that was answered with 200, goes on trying in the background.
pub async fn deliver_first(world: &Arc<World>, body: String) -> Option<u16> {
    let status = post(world, &body).await;
    if status != Some(200) && world.options.webhook_url.is_some() {
        let world = Arc::clone(world);
        tokio::spawn(async move {
            tokio::time::sleep(RETRY_PAUSE).await;
            deliver(&world, &body).await;
        });
    }
    status
}

/// The envelope around one change.
pub fn envelope(world: &World, field: &str, more: Value) -> String {
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
    json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": options.business_account_id, "changes": [{"field": field, "value": value}]}],
    })
    .to_string()
}

/// A status webhook of the message `wamid`; none if nobody knows that message.
pub fn status(
    world: &World,
    wamid: &str,
    status: &str,
    error: Option<&GraphError>,
) -> Option<String> {
    let mut state = world.state();
    let call = state.call_of(wamid)?;
    call.statuses.push(status.to_owned());
    let mut entry = json!({
        "id": wamid,
        "status": status,
        "timestamp": clock::now().as_second().to_string(),
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
        entry["pricing"] = json!({"billable": true, "pricing_model": "PMP", "type": "regular", "category": "marketing"});
    }
    drop(state);
    Some(envelope(world, "messages", json!({"statuses": [entry]})))
}

/// Runs the statuses that follow an accepted message.
pub async fn run_statuses(world: Arc<World>, wamid: String, failure: Option<GraphError>) {
    let plan = world.state().plan.clone();
    let pause = Duration::from_millis(plan.delay_ms);
    if let Some(error) = failure {
        tokio::time::sleep(pause).await;
        if let Some(body) = status(&world, &wamid, "failed", Some(&error)) {
            deliver(&world, &body).await;
        }
        return;
    }
    for name in plan.statuses {
        tokio::time::sleep(pause).await;
        let Some(body) = status(&world, &wamid, &name, None) else { return };
        deliver(&world, &body).await;
    }
}

/// Meta's handshake: the webhook proves that it knows the verify token by giving the challenge back.
pub async fn verify(world: &World) -> Result<(), String> {
    let url = world.options.webhook_url.as_deref().ok_or("no webhook URL is configured")?;
    let challenge = clock::random().as_u128().to_string();
    let query = [
        ("hub.mode", "subscribe"),
        ("hub.challenge", challenge.as_str()),
        ("hub.verify_token", world.options.verify_token.as_str()),
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
