//! What is written to `POST /{version}/{phone number id}/messages`. The field set is closed: nothing
//! reaches the provider that is not named here.

use serde::Serialize;
use uuid::Uuid;

/// Longest body of a text message, in characters.
pub const TEXT_BODY_CHARS_MAX: usize = 4096;

/// One message. No `Debug`: `to` is a phone number.
#[derive(Serialize)]
pub struct Message<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    to: &'a str,
    biz_opaque_callback_data: Uuid,
    #[serde(flatten)]
    content: Content<'a>,
}

/// What is said.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content<'a> {
    /// An approved template, allowed at any time.
    Template {
        /// Which, and with which values.
        template: Template<'a>,
    },
    /// Free text, allowed for 24 hours after the person wrote.
    Text {
        /// The text.
        text: Text<'a>,
    },
}

/// A template with its values.
#[derive(Serialize)]
pub struct Template<'a> {
    name: &'a str,
    language: Language<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
struct Language<'a> {
    code: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Component<'a> {
    Body {
        parameters: Vec<Parameter<'a>>,
    },
    Button {
        sub_type: &'static str,
        /// A string at the provider.
        index: &'static str,
        parameters: [Parameter<'a>; 1],
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Parameter<'a> {
    Text { text: &'a str },
    Payload { payload: &'a str },
}

/// Free text.
#[derive(Serialize)]
pub struct Text<'a> {
    body: &'a str,
    preview_url: bool,
}

impl<'a> Content<'a> {
    /// A template whose body takes `parameters` in order, and whose first quick-reply button answers with
    /// `reply`, where there is one.
    #[must_use]
    pub fn template(
        name: &'a str,
        language: &'a str,
        parameters: &'a [String],
        reply: Option<&'a str>,
    ) -> Self {
        let parameters: Vec<_> = parameters.iter().map(|text| Parameter::Text { text }).collect();
        let body = (!parameters.is_empty()).then_some(Component::Body { parameters });
        let button = reply.map(|payload| Component::Button {
            sub_type: "quick_reply",
            index: "0",
            parameters: [Parameter::Payload { payload }],
        });
        let components = body.into_iter().chain(button).collect();
        Self::Template {
            template: Template { name, language: Language { code: language }, components },
        }
    }

    /// Free text without a link preview.
    #[must_use]
    pub const fn text(body: &'a str) -> Self {
        Self::Text { text: Text { body, preview_url: false } }
    }
}

impl<'a> Message<'a> {
    /// A message to one person. `to` is E.164 *with* its plus sign: without it the provider would
    /// put the business's own country code in front. `message_id` comes back in every status, which
    /// is how a call whose answer was lost is reconciled.
    #[must_use]
    pub const fn new(to: &'a str, message_id: Uuid, content: Content<'a>) -> Self {
        Self {
            messaging_product: "whatsapp",
            recipient_type: "individual",
            to,
            biz_opaque_callback_data: message_id,
            content,
        }
    }

    /// The body to send.
    ///
    /// # Panics
    /// Never: these types always serialise.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain structs of strings serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(message: &Message<'_>) -> String {
        String::from_utf8(message.to_json()).unwrap()
    }

    #[test]
    fn a_template_is_written_exactly_so() {
        let parameters = ["Ada".to_owned()];
        let content = Content::template("hello", "en", &parameters, None);
        assert_eq!(
            json(&Message::new("+33612345678", Uuid::nil(), content)),
            r#"{"messaging_product":"whatsapp","recipient_type":"individual","to":"+33612345678","biz_opaque_callback_data":"00000000-0000-0000-0000-000000000000","type":"template","template":{"name":"hello","language":{"code":"en"},"components":[{"type":"body","parameters":[{"type":"text","text":"Ada"}]}]}}"#
        );
    }

    #[test]
    fn a_template_without_values_has_no_components() {
        let message =
            Message::new("+33612345678", Uuid::nil(), Content::template("hello", "en", &[], None));
        assert!(json(&message).ends_with(
            r#""type":"template","template":{"name":"hello","language":{"code":"en"}}}"#
        ));
    }

    #[test]
    fn a_question_is_answered_by_its_first_button() {
        let content = Content::template("renew", "fr", &[], Some("7F3K2-9QMXA"));
        assert!(json(&Message::new("+33612345678", Uuid::nil(), content)).ends_with(
            r#""components":[{"type":"button","sub_type":"quick_reply","index":"0","parameters":[{"type":"payload","payload":"7F3K2-9QMXA"}]}]}}"#
        ));
    }

    #[test]
    fn a_text_is_written_exactly_so() {
        let message = Message::new("+33612345678", Uuid::nil(), Content::text("Done."));
        assert!(
            json(&message)
                .ends_with(r#""type":"text","text":{"body":"Done.","preview_url":false}}"#)
        );
    }
}
