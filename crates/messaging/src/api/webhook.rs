//! The webhook's door. It guarantees that a body is answered with 200 only after it was verified and
//! is durable, sealed, together with every stop in it, and that neither the consent service nor the
//! vault is needed for that. Everything else about the body is left to the processor.

use assent_contracts::SubjectId;
use assent_http::extract::body_problem;
use assent_http::{Code, Problem, Query};
use assent_runtime::failpoint;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::api;
use crate::declarations::Declared;
use crate::domain::stop::{Form, Will, Words};
use crate::hour_keys::HourKeyError;
use crate::intake::Body;
use crate::state::Messaging;
use crate::tasks::Unattributed;
use crate::whatsapp::envelope::Webhook;
use crate::whatsapp::reaction::PERSON_STOPPED_MARKETING;
use crate::whatsapp::signature;
use crate::whatsapp::updates::{Address, Said, Update};
use crate::{identities, intents};

/// The field that raw bodies are sealed as.
pub const BODY: &str = "webhook.body";
/// The field that the phone number of an opt-in is sealed as.
pub const START_PHONE: &str = "declaration.phone";
/// The field that its user ids are sealed as.
pub const START_ACCOUNT: &str = "declaration.account";

/// The provider's verification request.
#[derive(Deserialize)]
pub struct Verification {
    #[serde(rename = "hub.mode")]
    mode: Option<String>,
    #[serde(rename = "hub.challenge")]
    challenge: Option<String>,
    #[serde(rename = "hub.verify_token")]
    verify_token: Option<String>,
}

/// Proves to the provider that the webhook is ours: the raw challenge comes back.
///
/// # Errors
/// `signature_invalid` when the token is another.
#[utoipa::path(
    get, path = "/webhooks/whatsapp", tag = "webhook",
    params(
        ("hub.mode" = String, Query, description = "`subscribe`"),
        ("hub.challenge" = String, Query, description = "What to answer."),
        ("hub.verify_token" = String, Query, description = "The shared token.")
    ),
    responses(
        (status = 200, description = "The challenge", body = String),
        (status = 401, description = "signature_invalid")
    )
)]
pub async fn verify(
    State(messaging): State<Messaging>,
    Query(verification): Query<Verification>,
) -> Result<String, Problem> {
    let expected = messaging.config.whatsapp.verify_token.expose_secret();
    let given = verification.verify_token.unwrap_or_default();
    let matches = same(expected.as_bytes(), given.as_bytes());
    match verification {
        Verification { mode: Some(mode), challenge: Some(challenge), .. }
            if matches && mode == "subscribe" =>
        {
            Ok(challenge)
        }
        _ => Err(Code::SignatureInvalid.into()),
    }
}

/// Compares without telling by its time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

/// Takes a webhook: verified, stored sealed with the stops it holds, answered, processed later.
///
/// # Errors
/// `signature_invalid`; `dependency_unavailable` when it can't be stored: the provider tries again.
#[utoipa::path(
    post, path = "/webhooks/whatsapp", tag = "webhook",
    params(("X-Hub-Signature-256" = String, Header, description = "`sha256=` and the HMAC of the raw body")),
    request_body(content = Object, description = "As the Cloud API sends it"),
    responses(
        (status = 200, description = "It is durable, and so is every stop in it"),
        (status = 401, description = "signature_invalid"),
        (status = 413, description = "body_too_large")
    )
)]
pub async fn receive(
    State(messaging): State<Messaging>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let body = body.map_err(body_problem)?;
    let signature = headers.get(signature::HEADER).and_then(|value| value.to_str().ok());
    let whatsapp = &messaging.config.whatsapp;
    let secrets = std::iter::once(&whatsapp.app_secret).chain(&whatsapp.previous_app_secret);
    let secrets = secrets.map(|secret| secret.expose_secret().as_bytes());
    if !signature.is_some_and(|it| signature::verify(secrets, &body, it)) {
        return Err(Code::SignatureInvalid.into());
    }
    let (id, received_at) = (messaging.ids.v7(), messaging.clock.now());
    let sealed = messaging.hour_keys.seal(id, BODY, &body).await.map_err(keys)?;
    let Told { lanes, declared, unattributed } = told(&messaging, &body, received_at).await?;
    let body = Body { id, sealed, lanes, received_at, declared, unattributed };
    let declared = messaging.intake.run(body).await.map_err(api::messages::store)?;
    failpoint::hit_async("messaging.webhook_committed").await;
    messaging.received.notify_one();
    if declared > 0 {
        messaging.declared.notify_one();
    }
    Ok(StatusCode::OK)
}

/// What of a body counts before it is processed.
#[derive(Default)]
struct Told {
    /// Who writes in it, see [`lanes`].
    lanes: Vec<i16>,
    declared: Vec<Declared>,
    unattributed: Vec<Unattributed>,
}

async fn told(messaging: &Messaging, body: &[u8], now: Timestamp) -> Result<Told, Problem> {
    let Ok(webhook) = Webhook::read(body) else { return Ok(Told::default()) };
    let updates = webhook.updates().iter().map(|(_, update)| update);
    let mut all = Told { lanes: lanes(messaging, updates), ..Told::default() };
    for (_, update) in webhook.updates() {
        let Some(heard) = hear(&messaging.config.words, update) else { continue };
        let id = messaging.ids.v7();
        let mut declared = Declared {
            tokens: messaging.tokens(heard.from),
            language: heard.language,
            said_at: said_at(heard.said_at, now),
            heard_at: now,
            ..Declared::new(id, heard.will, heard.form)
        };
        if matches!(heard.will, Will::Start | Will::Code(..)) {
            seal_names(messaging, heard.from, &mut declared).await.map_err(keys)?;
        }
        let source = heard.source.as_deref();
        declared.source =
            source.and_then(|source| messaging.provider_hashes(source).into_iter().next());
        if heard.will == Will::Stop && heard.from.phone.is_none() {
            let (subjects, reason) =
                attribute(messaging, &heard).await.map_err(api::messages::database)?;
            declared.subjects = subjects;
            // Another number's people are looked for by who has that.
            let ours = &messaging.config.whatsapp.phone_number_id;
            let reason = reason.filter(|_| heard.to.is_none_or(|number| number == ours));
            let declaration = (!declared.tokens.is_empty()).then_some(id);
            let source = declared.source.clone();
            all.unattributed.extend(reason.map(|reason| {
                let id = messaging.ids.v7();
                Unattributed { id, declaration, source, reason }
            }));
        }
        if !declared.tokens.is_empty() || !declared.subjects.is_empty() {
            all.declared.push(declared);
        }
    }
    Ok(all)
}

/// In which lanes a body is processed: one for each name of whoever writes in it, or has another number or user id
/// now. What is told of our own messages has no order. A lane is many people's, so that it tells nobody.
fn lanes<'a>(messaging: &Messaging, updates: impl Iterator<Item = &'a Update>) -> Vec<i16> {
    let lane = |hash: &[u8]| match hash {
        [.., high, low] => i16::from_be_bytes([high & 0x7f, *low]),
        _ => 0,
    };
    let mut lanes = Vec::new();
    for update in updates {
        let names = match update {
            Update::Message(message) => &message.from,
            Update::Moved(moved) => &moved.before,
            _ => continue,
        };
        let Address { phone, user_id, parent_user_id } = names;
        for name in phone.iter().chain(user_id).chain(parent_user_id) {
            let hashes = messaging.keyed_hashes(&format!("lane {name}"));
            lanes.extend(hashes.iter().map(|hash| lane(hash)));
        }
    }
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

/// Seals the names of who opts in, for as long as that is under way.
async fn seal_names(
    messaging: &Messaging,
    from: &Address,
    declared: &mut Declared,
) -> Result<(), HourKeyError> {
    let (id, hour_keys) = (declared.id, &messaging.hour_keys);
    if let Some(phone) = &from.phone {
        declared.phone = Some(hour_keys.seal(id, START_PHONE, phone.as_bytes()).await?);
    }
    if from.user_id.is_some() {
        let account = Address { phone: None, ..from.clone() };
        let account = serde_json::to_vec(&account).unwrap_or_default();
        let account = hour_keys.seal(id, START_ACCOUNT, &account).await?;
        // One hour's key for both: the hour may have turned between them.
        if let Some(phone) = &from.phone
            && declared.phone.as_ref().is_some_and(|it| it.hour_key != account.hour_key)
        {
            declared.phone = Some(hour_keys.seal(id, START_PHONE, phone.as_bytes()).await?);
        }
        declared.account = Some(account);
    }
    Ok(())
}

/// Whose a stop without a number is, as far as can be told here: the one to whom we had sent what it answers,
/// or is about. Otherwise, why nobody can be found, unless the user id is known.
async fn attribute(
    messaging: &Messaging,
    heard: &Heard<'_>,
) -> Result<(Vec<SubjectId>, Option<&'static str>), sqlx::Error> {
    let sent = match heard.about {
        Some(about) => intents::sent_to(messaging, &[about]).await?.into_values().next(),
        None => None,
    };
    Ok(match (sent, &heard.from.user_id) {
        (Some(subject), _) => (vec![subject], None),
        (None, Some(user_id)) if identities::is_known(messaging, user_id).await? => {
            (Vec::new(), None)
        }
        (None, Some(_)) => (Vec::new(), Some("user_id_unknown")),
        (None, None) => (Vec::new(), Some("nameless")),
    })
}

/// The provider's time, as far as it can be true: never in the future.
#[must_use]
pub fn said_at(seconds: i64, now: Timestamp) -> Timestamp {
    match Timestamp::from_second(seconds) {
        Ok(said) if seconds > 0 && said < now => said,
        _ => now,
    }
}

/// What an update declares.
struct Heard<'a> {
    will: Will,
    form: Form,
    from: &'a Address,
    source: Option<String>,
    /// To which number of the business, where that is said.
    to: Option<&'a str>,
    /// The provider's id of the message of ours that it answers, or is about.
    about: Option<&'a str>,
    /// In which language, where its word tells that.
    language: Option<&'static str>,
    said_at: i64,
}

fn hear<'a>(words: &Words, update: &'a Update) -> Option<Heard<'a>> {
    match update {
        Update::Message(message) | Update::Nameless(message) => {
            let (will, form, read) = match &message.said {
                Said::Text(text) => (words.in_text(text)?, words.form(text), Some(text)),
                Said::Button { payload, text } => {
                    let will = words.in_button(payload.as_deref(), text.as_deref())?;
                    (will, Form::Button, text.as_ref())
                }
                Said::Other(_) => return None,
            };
            let language = read.and_then(|text| words.language(text));
            // Of nobody nothing but a stop is heard.
            if message.from.is_empty() && will != Will::Stop {
                return None;
            }
            let source = Some(&message.id).filter(|id| !id.is_empty()).cloned();
            let (from, about) = (&message.from, message.answers.as_deref());
            let to = message.number.as_deref();
            let said_at = message.said_at;
            Some(Heard { will, form, from, source, to, about, language, said_at })
        }
        // Resuming at WhatsApp lifts what she had stopped there. It is no consent to a purpose of ours.
        Update::Preference(preference) if preference.stop => Some(Heard {
            will: Will::Stop,
            form: Form::Preference,
            from: &preference.from,
            source: Some(format!(
                "preference {:?} {:?} {}",
                preference.from.phone, preference.from.user_id, preference.said_at
            )),
            to: None,
            about: None,
            language: None,
            said_at: preference.said_at,
        }),
        Update::Status(status) if status.codes.contains(&PERSON_STOPPED_MARKETING) => {
            // The status of a message comes more than once; its refusal is one declaration.
            let source = Some(format!("refusal {}", status.id));
            Some(Heard {
                will: Will::Stop,
                form: Form::ProviderRefusal,
                from: &status.recipient,
                source,
                to: None,
                about: Some(&status.id).filter(|id| !id.is_empty()).map(String::as_str),
                language: None,
                said_at: status.at,
            })
        }
        _ => None,
    }
}

fn keys(error: HourKeyError) -> Problem {
    Problem::unavailable("key store", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(value: &str) -> Vec<(Will, Form)> {
        let body = format!(r#"{{"entry":[{{"changes":[{{"value":{value}}}]}}]}}"#);
        let updates = Webhook::read(body.as_bytes()).unwrap().into_updates();
        let words = Words::standard();
        updates.iter().filter_map(|it| hear(&words, it)).map(|it| (it.will, it.form)).collect()
    }

    #[test]
    fn each_form_of_a_stop_is_heard() {
        let stops = heard(
            r#"{"messages":[
                {"from":"33612345678","id":"1","type":"text","text":{"body":"Stop"}},
                {"from_user_id":"FR.x","id":"2","type":"button","button":{"text":"Stop promotions"}},
                {"from":"33612345678","id":"3","type":"interactive","interactive":{"button_reply":{"id":"stop","title":"No"}}}],
            "user_preferences":[{"wa_id":"33612345678","category":"marketing_messages","value":"stop"}],
            "statuses":[{"id":"w","status":"failed","recipient_id":"33612345678","errors":[{"code":131050}]}]}"#,
        );
        let forms: Vec<_> = stops.iter().map(|(_, form)| *form).collect();
        assert!(stops.iter().all(|(will, _)| *will == Will::Stop));
        // In the order of the envelope's lists.
        assert_eq!(
            forms,
            [Form::Word, Form::Button, Form::Button, Form::ProviderRefusal, Form::Preference]
        );
    }

    #[test]
    fn what_is_no_declaration_is_left_to_the_processor() {
        assert!(
            heard(
                r#"{"messages":[{"from":"1","type":"text","text":{"body":"when do you open?"}},{"from":"1","type":"image"}],
                "user_preferences":[{"wa_id":"1","category":"marketing_messages","value":"resume"}],
                "statuses":[{"id":"w","status":"failed","recipient_id":"1","errors":[{"code":131026}]}]}"#
            )
            .is_empty()
        );
    }

    #[test]
    fn a_time_in_the_future_or_none_is_now() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        assert_eq!(said_at(0, now), now);
        assert_eq!(said_at(now.as_second() + 60, now), now);
        assert_eq!(said_at(now.as_second() - 60, now).as_second(), now.as_second() - 60);
    }
}
