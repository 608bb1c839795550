//! Records a yes from a web form, sends one message, and says what became of it.
//!
//!     . target/dev/env && cargo run -p assent-client --example welcome -- '+33 6 39 98 00 01' form-4711
#![allow(clippy::disallowed_macros, dead_code, reason = "an example, which tests take in too")]

use std::time::Duration;

use assent_client::contracts::api::consent::GrantRequest;
use assent_client::contracts::api::vault::LookupRequest;
use assent_client::contracts::consent::{Actor, Method};
use assent_client::{Client, Error};
use serde_json::json;

/// `form` is our own id of what she sent: a repeat changes nothing and sends nothing twice.
pub async fn welcome(assent: &Client, phone: &str, form: &str) -> Result<String, Error> {
    let who = LookupRequest { phone: Some(phone.to_owned()), ..LookupRequest::default() };
    let Some(subject_id) = assent.lookup(&who).await?.subject_id else {
        return Ok("nobody is known by this number".to_owned());
    };
    let yes = GrantRequest {
        subject_id,
        purpose: "marketing".to_owned(),
        channel: "whatsapp".to_owned(),
        actor: Actor::Subject,
        method: Method::WebForm,
        place: Some("checkout".to_owned()),
        evidence: None,
        acted_at: None,
        locale: None,
        notice_hash: None,
        addresses: Vec::new(),
    };
    match assent.grant(&yes, form).await {
        Err(error) if error.code() == Some("consent_not_allowed") => {
            return Ok("only she may lift what stands against it".to_owned());
        }
        granted => granted?,
    };
    let message = json!({"subject_id": subject_id, "purpose": "marketing", "channel": "whatsapp",
                         "template": "hello"});
    let queued = assent.send(&message, &format!("welcome-{form}")).await?;
    let message = assent.message(queued.message_id, Duration::from_secs(20)).await?;
    Ok(message.state)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (url, token) = (std::env::var("ASSENT_URL")?, std::env::var("ASSENT_TOKEN")?);
    let [phone, form] = <[String; 2]>::try_from(std::env::args().skip(1).collect::<Vec<_>>())
        .map_err(|_| "welcome PHONE FORM")?;
    println!("{}", welcome(&Client::new(&url, &token)?, &phone, &form).await?);
    Ok(())
}
