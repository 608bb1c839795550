//! What is written to `POST /{version}/{phone number id}/messages`. The field set is closed: nothing
//! reaches the provider that is not named here.

use serde::Serialize;
use uuid::Uuid;

use crate::domain::content::{
    self, ButtonText, ButtonValue, Card, Header, Location, MediaSource, Row, Values,
};

/// To whom. No `Debug`: it is an address.
#[derive(Clone, Copy)]
pub enum Recipient<'a> {
    /// A phone number: E.164 *with* its plus sign. Without it the provider would put the business's own
    /// country code in front.
    Phone(&'a str),
    /// A business-scoped user id. Written beside a phone number it would lose against it.
    UserId(&'a str),
}

/// One message. No `Debug`: it holds an address.
#[derive(Serialize)]
pub struct Message<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<&'a str>,
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
    /// Free text, allowed for 24 hours after the person wrote, like all that follows.
    Text {
        /// The text.
        text: Text<'a>,
    },
    /// An image.
    Image {
        /// Which.
        image: &'a MediaSource,
    },
    /// A video.
    Video {
        /// Which.
        video: &'a MediaSource,
    },
    /// A sound.
    Audio {
        /// Which.
        audio: &'a MediaSource,
    },
    /// A document.
    Document {
        /// Which.
        document: &'a MediaSource,
    },
    /// A sticker.
    Sticker {
        /// Which.
        sticker: &'a MediaSource,
    },
    /// A place on the map.
    Location {
        /// Where.
        location: &'a Location,
    },
    /// Text with buttons, or with a list.
    Interactive {
        /// Which.
        interactive: Interactive<'a>,
    },
    /// An emoji on a message of hers.
    Reaction {
        /// Which.
        reaction: Reaction<'a>,
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
    Header {
        parameters: [Parameter<'a>; 1],
    },
    Body {
        parameters: Vec<Parameter<'a>>,
    },
    Button {
        sub_type: &'static str,
        /// A string at the provider.
        index: String,
        parameters: [Parameter<'a>; 1],
    },
    Carousel {
        cards: Vec<CardComponents<'a>>,
    },
}

#[derive(Serialize)]
struct CardComponents<'a> {
    card_index: usize,
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Parameter<'a> {
    Text {
        #[serde(skip_serializing_if = "Option::is_none")]
        parameter_name: Option<&'a str>,
        text: &'a str,
    },
    Payload {
        payload: &'a str,
    },
    CouponCode {
        coupon_code: &'a str,
    },
    Image {
        image: &'a MediaSource,
    },
    Video {
        video: &'a MediaSource,
    },
    Document {
        document: &'a MediaSource,
    },
    Location {
        location: &'a Location,
    },
}

/// Free text.
#[derive(Serialize)]
pub struct Text<'a> {
    body: &'a str,
    preview_url: bool,
}

/// Text with buttons, or with a list.
#[derive(Serialize)]
pub struct Interactive<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<HeaderText<'a>>,
    body: OneText<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    footer: Option<OneText<'a>>,
    action: Action<'a>,
}

#[derive(Serialize)]
struct HeaderText<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
struct OneText<'a> {
    text: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Action<'a> {
    Buttons { buttons: Vec<ReplyButton<'a>> },
    List { button: &'a str, sections: Vec<ListSection<'a>> },
}

#[derive(Serialize)]
struct ReplyButton<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    reply: &'a content::Button,
}

#[derive(Serialize)]
struct ListSection<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    rows: &'a [Row],
}

/// An emoji on a message of hers.
#[derive(Serialize)]
pub struct Reaction<'a> {
    message_id: &'a str,
    emoji: &'a str,
}

impl<'a> Content<'a> {
    /// A template with its values. Its first quick-reply button answers with `reply`, where there is one.
    #[must_use]
    pub fn template(
        name: &'a str,
        language: &'a str,
        values: &'a Values,
        reply: Option<&'a str>,
    ) -> Self {
        let mut components =
            components(values.header.as_ref(), &values.parameters, &values.buttons);
        components.extend(reply.map(|payload| Component::Button {
            sub_type: "quick_reply",
            index: "0".to_owned(),
            parameters: [Parameter::Payload { payload }],
        }));
        if !values.cards.is_empty() {
            let card = |(card_index, card): (usize, &'a Card)| CardComponents {
                card_index,
                components: self::components(Some(&card.header), &card.parameters, &card.buttons),
            };
            let cards = values.cards.iter().enumerate().map(card).collect();
            components.push(Component::Carousel { cards });
        }
        Self::Template {
            template: Template { name, language: Language { code: language }, components },
        }
    }

    /// Free text without a link preview.
    #[must_use]
    pub const fn text(body: &'a str) -> Self {
        Self::Text { text: Text { body, preview_url: false } }
    }

    /// Free-form content. `reacts_to` is the provider's id of the message that a reaction is about; a
    /// reaction without it can't be written.
    #[must_use]
    pub fn free(content: &'a content::Content, reacts_to: Option<&'a str>) -> Option<Self> {
        use content::Content as Free;
        let edges = |header: &'a Option<String>, footer: &'a Option<String>| {
            let header = header.as_deref().map(|text| HeaderText { kind: "text", text });
            (header, footer.as_deref().map(|text| OneText { text }))
        };
        Some(match content {
            Free::Text { body, preview_url } => {
                Self::Text { text: Text { body, preview_url: *preview_url } }
            }
            Free::Image(image) => Self::Image { image },
            Free::Video(video) => Self::Video { video },
            Free::Audio(audio) => Self::Audio { audio },
            Free::Document(document) => Self::Document { document },
            Free::Sticker(sticker) => Self::Sticker { sticker },
            Free::Location(location) => Self::Location { location },
            Free::Buttons { body, header, footer, buttons } => {
                let (header, footer) = edges(header, footer);
                let reply = |reply| ReplyButton { kind: "reply", reply };
                let action = Action::Buttons { buttons: buttons.iter().map(reply).collect() };
                let body = OneText { text: body };
                Self::Interactive {
                    interactive: Interactive { kind: "button", header, body, footer, action },
                }
            }
            Free::List { body, header, footer, button, sections } => {
                let (header, footer) = edges(header, footer);
                let section = |section: &'a content::Section| ListSection {
                    title: section.title.as_deref(),
                    rows: &section.rows,
                };
                let sections = sections.iter().map(section).collect();
                let action = Action::List { button, sections };
                let body = OneText { text: body };
                Self::Interactive {
                    interactive: Interactive { kind: "list", header, body, footer, action },
                }
            }
            Free::Reaction { emoji, .. } => {
                Self::Reaction { reaction: Reaction { message_id: reacts_to?, emoji } }
            }
        })
    }
}

fn components<'a>(
    header: Option<&'a Header>,
    parameters: &'a [content::Parameter],
    buttons: &'a [ButtonValue],
) -> Vec<Component<'a>> {
    let header = header.map(|header| {
        let parameter = match header {
            Header::Text { text } => Parameter::Text { parameter_name: None, text },
            Header::Image(image) => Parameter::Image { image },
            Header::Video(video) => Parameter::Video { video },
            Header::Document(document) => Parameter::Document { document },
            Header::Location(location) => Parameter::Location { location },
        };
        Component::Header { parameters: [parameter] }
    });
    let text =
        |it: &'a content::Parameter| Parameter::Text { parameter_name: it.name(), text: it.text() };
    let parameters: Vec<_> = parameters.iter().map(text).collect();
    let body = (!parameters.is_empty()).then_some(Component::Body { parameters });
    let button = |it: &'a ButtonValue| {
        let (sub_type, parameter) = match &it.value {
            ButtonText::Payload(payload) => ("quick_reply", Parameter::Payload { payload }),
            ButtonText::UrlSuffix(text) => ("url", Parameter::Text { parameter_name: None, text }),
            ButtonText::CouponCode(coupon_code) => {
                ("copy_code", Parameter::CouponCode { coupon_code })
            }
        };
        Component::Button { sub_type, index: it.index.to_string(), parameters: [parameter] }
    };
    header.into_iter().chain(body).chain(buttons.iter().map(button)).collect()
}

impl<'a> Message<'a> {
    /// A message to one person. `message_id` comes back in every status, which is how a call whose answer
    /// was lost is reconciled.
    #[must_use]
    pub const fn new(to: Recipient<'a>, message_id: Uuid, content: Content<'a>) -> Self {
        let (to, recipient) = match to {
            Recipient::Phone(phone) => (Some(phone), None),
            Recipient::UserId(id) => (None, Some(id)),
        };
        Self {
            messaging_product: "whatsapp",
            recipient_type: "individual",
            to,
            recipient,
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

/// Tells a person that her message was read, and shows that an answer is being written.
#[derive(Serialize)]
pub struct ReadMark<'a> {
    messaging_product: &'static str,
    status: &'static str,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    typing_indicator: Option<Typing>,
}

#[derive(Serialize)]
struct Typing {
    #[serde(rename = "type")]
    kind: &'static str,
}

impl<'a> ReadMark<'a> {
    /// For the message with this id of the provider's.
    #[must_use]
    pub fn new(message_id: &'a str, typing: bool) -> Self {
        let typing_indicator = typing.then_some(Typing { kind: "text" });
        Self { messaging_product: "whatsapp", status: "read", message_id, typing_indicator }
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
    use serde_json::{Value, json};

    use super::*;

    const ADA: Recipient<'static> = Recipient::Phone("+33612345678");

    fn text(message: &Message<'_>) -> String {
        String::from_utf8(message.to_json()).unwrap()
    }

    fn values(value: Value) -> Values {
        serde_json::from_value(value).unwrap()
    }

    /// What stands beside the address, of free-form content.
    fn free(content: Value) -> Value {
        let content = serde_json::from_value(content).unwrap();
        let content = Content::free(&content, Some("wamid.A")).unwrap();
        let message = Message::new(ADA, Uuid::nil(), content);
        let mut written: Value = serde_json::from_slice(&message.to_json()).unwrap();
        let rest = written.as_object_mut().unwrap();
        for key in ["messaging_product", "recipient_type", "to", "biz_opaque_callback_data"] {
            assert!(rest.remove(key).is_some(), "{key}");
        }
        written
    }

    #[test]
    fn a_template_is_written_exactly_so() {
        let values = values(json!({"parameters": ["Ada"]}));
        let content = Content::template("hello", "en", &values, None);
        assert_eq!(
            text(&Message::new(ADA, Uuid::nil(), content)),
            r#"{"messaging_product":"whatsapp","recipient_type":"individual","to":"+33612345678","biz_opaque_callback_data":"00000000-0000-0000-0000-000000000000","type":"template","template":{"name":"hello","language":{"code":"en"},"components":[{"type":"body","parameters":[{"type":"text","text":"Ada"}]}]}}"#
        );
    }

    #[test]
    fn a_user_id_is_the_recipient_and_stands_alone() {
        let content = Content::text("Done.");
        let message = Message::new(Recipient::UserId("FR.1a"), Uuid::nil(), content);
        let written = text(&message);
        assert!(written.contains(r#""recipient":"FR.1a""#) && !written.contains(r#""to""#));
    }

    #[test]
    fn a_template_without_values_has_no_components() {
        let none = Values::default();
        let content = Content::template("hello", "en", &none, None);
        assert!(text(&Message::new(ADA, Uuid::nil(), content)).ends_with(
            r#""type":"template","template":{"name":"hello","language":{"code":"en"}}}"#
        ));
    }

    #[test]
    fn a_question_is_answered_by_its_first_button() {
        let none = Values::default();
        let content = Content::template("renew", "fr", &none, Some("7F3K2-9QMXA"));
        assert!(text(&Message::new(ADA, Uuid::nil(), content)).ends_with(
            r#""components":[{"type":"button","sub_type":"quick_reply","index":"0","parameters":[{"type":"payload","payload":"7F3K2-9QMXA"}]}]}}"#
        ));
    }

    #[test]
    fn header_body_buttons_and_cards_are_components() {
        let values = values(json!({
            "parameters": [{"name": "city", "text": "Lyon"}],
            "header": {"type": "document", "link": "https://a.example/b.pdf", "filename": "b.pdf"},
            "buttons": [{"index": 1, "url_suffix": "x"}, {"index": 2, "coupon_code": "C"}],
            "cards": [{"header": {"type": "image", "id": "7"}, "parameters": ["a"],
                "buttons": [{"index": 0, "payload": "p"}]}]}));
        let content = Content::template("offer", "fr", &values, None);
        let message = Message::new(ADA, Uuid::nil(), content);
        let written: Value = serde_json::from_slice(&message.to_json()).unwrap();
        assert_eq!(
            written["template"]["components"],
            json!([
                {"type": "header", "parameters": [{"type": "document", "document": {"link": "https://a.example/b.pdf", "filename": "b.pdf"}}]},
                {"type": "body", "parameters": [{"type": "text", "parameter_name": "city", "text": "Lyon"}]},
                {"type": "button", "sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "x"}]},
                {"type": "button", "sub_type": "copy_code", "index": "2", "parameters": [{"type": "coupon_code", "coupon_code": "C"}]},
                {"type": "carousel", "cards": [{"card_index": 0, "components": [
                    {"type": "header", "parameters": [{"type": "image", "image": {"id": "7"}}]},
                    {"type": "body", "parameters": [{"type": "text", "text": "a"}]},
                    {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{"type": "payload", "payload": "p"}]}]}]}
            ])
        );
    }

    #[test]
    fn a_text_is_written_exactly_so() {
        assert!(
            text(&Message::new(ADA, Uuid::nil(), Content::text("Done.")))
                .ends_with(r#""type":"text","text":{"body":"Done.","preview_url":false}}"#)
        );
    }

    #[test]
    fn each_kind_of_content_is_written_as_the_provider_wants_it() {
        for kind in ["image", "video", "audio", "document", "sticker"] {
            assert_eq!(
                free(json!({"type": kind, "id": "7"})),
                json!({"type": kind, kind: {"id": "7"}})
            );
        }
        assert_eq!(
            free(json!({"type": "image", "link": "https://a.example/b", "caption": "c"}))["image"],
            json!({"link": "https://a.example/b", "caption": "c"})
        );
        assert_eq!(
            free(json!({"type": "location", "latitude": 48.5, "longitude": 2.25, "name": "n"})),
            json!({"type": "location", "location": {"latitude": 48.5, "longitude": 2.25, "name": "n"}})
        );
        assert_eq!(
            free(
                json!({"type": "buttons", "body": "b", "header": "h", "footer": "f", "buttons": [{"id": "1", "title": "Yes"}]})
            ),
            json!({"type": "interactive", "interactive": {"type": "button",
                "header": {"type": "text", "text": "h"}, "body": {"text": "b"}, "footer": {"text": "f"},
                "action": {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "Yes"}}]}}})
        );
        assert_eq!(
            free(
                json!({"type": "list", "body": "b", "button": "Choose", "sections": [{"title": "s", "rows": [{"id": "1", "title": "t", "description": "d"}]}]})
            ),
            json!({"type": "interactive", "interactive": {"type": "list", "body": {"text": "b"},
                "action": {"button": "Choose", "sections": [{"title": "s", "rows": [{"id": "1", "title": "t", "description": "d"}]}]}}})
        );
        assert_eq!(
            free(json!({"type": "reaction", "message_id": Uuid::nil(), "emoji": "👍"})),
            json!({"type": "reaction", "reaction": {"message_id": "wamid.A", "emoji": "👍"}})
        );
    }

    #[test]
    fn a_read_mark_may_show_that_somebody_writes() {
        let written = |typing| {
            serde_json::from_slice::<Value>(&ReadMark::new("wamid.A", typing).to_json()).unwrap()
        };
        assert_eq!(
            written(false),
            json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A"})
        );
        assert_eq!(written(true)["typing_indicator"], json!({"type": "text"}));
    }
}
