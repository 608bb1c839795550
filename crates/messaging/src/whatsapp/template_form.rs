//! What is written to the management API about a template, and how it is known again in the provider's
//! list. The field set is closed, as in [`super::outbound`].

use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::content::Parameter;
use crate::domain::template_draft::codes::{App, AppButton, CodeButton, CodeDraft};
use crate::domain::template_draft::{
    DraftButton, DraftCard, DraftHeader, DraftText, TemplateDraft,
};

/// A template to be.
#[derive(Serialize)]
pub struct Creation<'a> {
    name: &'a str,
    language: &'a str,
    #[serde(flatten)]
    form: Form<'a>,
}

/// What a template becomes: all of it.
#[derive(Serialize)]
pub struct Form<'a> {
    /// None: it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'static str>,
    parameter_format: &'static str,
    components: Vec<Component<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_send_ttl_seconds: Option<u32>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
enum Component<'a> {
    Header {
        format: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        example: Option<Example<'a>>,
    },
    Body {
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        add_security_recommendation: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        example: Option<Example<'a>>,
    },
    Footer {
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        code_expiration_minutes: Option<u8>,
    },
    Buttons {
        buttons: Vec<Button<'a>>,
    },
    Carousel {
        cards: Vec<Card<'a>>,
    },
}

#[derive(Serialize)]
struct Card<'a> {
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Example<'a> {
    HeaderText([&'a str; 1]),
    HeaderTextNamedParams(Vec<Named<'a>>),
    HeaderHandle([&'a str; 1]),
    BodyText([Vec<&'a str>; 1]),
    BodyTextNamedParams(Vec<Named<'a>>),
}

#[derive(Serialize)]
struct Named<'a> {
    param_name: &'a str,
    example: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
enum Button<'a> {
    QuickReply {
        text: &'a str,
    },
    Url {
        text: &'a str,
        url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        example: Option<[&'a str; 1]>,
    },
    PhoneNumber {
        text: &'a str,
        phone_number: &'a str,
    },
    CopyCode {
        example: &'a str,
    },
    Otp {
        otp_type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        autofill_text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        zero_tap_terms_accepted: Option<bool>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        supported_apps: Vec<SupportedApp<'a>>,
    },
}

#[derive(Serialize)]
struct SupportedApp<'a> {
    package_name: &'a str,
    signature_hash: &'a str,
}

impl<'a> Creation<'a> {
    /// Of a draft.
    #[must_use]
    pub fn new(draft: &'a TemplateDraft) -> Self {
        let form = Form::new(draft, true);
        Self { name: &draft.name, language: &draft.language, form }
    }
}

impl<'a> Form<'a> {
    /// Of a draft, with its category or without.
    #[must_use]
    pub fn new(draft: &'a TemplateDraft, with_category: bool) -> Self {
        let mut components: Vec<_> = draft.header.as_ref().map(header).into_iter().collect();
        components.extend(draft.body.as_ref().map(body));
        components.extend(draft.code.as_ref().map(code).into_iter().flatten());
        components.extend(
            draft
                .footer
                .as_deref()
                .map(|text| Component::Footer { text: Some(text), code_expiration_minutes: None }),
        );
        components.extend(buttons(&draft.buttons));
        if !draft.cards.is_empty() {
            let card = |card: &'a DraftCard| Card {
                components: [header(&card.header), body(&card.body)]
                    .into_iter()
                    .chain(buttons(&card.buttons))
                    .collect(),
            };
            components.push(Component::Carousel { cards: draft.cards.iter().map(card).collect() });
        }
        Self {
            category: with_category.then_some(draft.category.as_str()),
            parameter_format: if draft.named() { "NAMED" } else { "POSITIONAL" },
            components,
            message_send_ttl_seconds: draft.ttl_seconds,
        }
    }
}

/// The components as they are written, for what is known of the template.
///
/// # Panics
/// Never: these types always serialise.
#[must_use]
pub fn components(draft: &TemplateDraft) -> Value {
    serde_json::to_value(Form::new(draft, false).components).expect("plain structs serialise")
}

fn header(header: &DraftHeader) -> Component<'_> {
    let handle = |format, handle| Component::Header {
        format,
        text: None,
        example: Some(Example::HeaderHandle([handle])),
    };
    match header {
        DraftHeader::Text(text) => Component::Header {
            format: "TEXT",
            text: Some(&text.text),
            example: text.examples.first().map(|only| match only {
                Parameter::Text(text) => Example::HeaderText([text]),
                Parameter::Named { .. } => Example::HeaderTextNamedParams(named(&text.examples)),
            }),
        },
        DraftHeader::Image { example } => handle("IMAGE", example),
        DraftHeader::Video { example } => handle("VIDEO", example),
        DraftHeader::Document { example } => handle("DOCUMENT", example),
        DraftHeader::Location {} => {
            Component::Header { format: "LOCATION", text: None, example: None }
        }
    }
}

fn body(text: &DraftText) -> Component<'_> {
    let example = text.examples.first().map(|first| match first {
        Parameter::Text(_) => {
            Example::BodyText([text.examples.iter().map(Parameter::text).collect()])
        }
        Parameter::Named { .. } => Example::BodyTextNamedParams(named(&text.examples)),
    });
    Component::Body { text: Some(&text.text), add_security_recommendation: None, example }
}

/// The components around a code, whose words are the provider's.
fn code(code: &CodeDraft) -> Vec<Component<'_>> {
    let button = match &code.button {
        CodeButton::CopyCode { text } => Button::Otp {
            otp_type: "COPY_CODE",
            text: text.as_deref(),
            autofill_text: None,
            zero_tap_terms_accepted: None,
            supported_apps: Vec::new(),
        },
        CodeButton::OneTap(button) => with_apps("ONE_TAP", button, None),
        CodeButton::ZeroTap(it) => with_apps("ZERO_TAP", &it.button, Some(it.terms_accepted)),
    };
    let body = Component::Body {
        text: None,
        add_security_recommendation: Some(code.security_recommendation),
        example: None,
    };
    let footer = code
        .expires_minutes
        .map(|it| Component::Footer { text: None, code_expiration_minutes: Some(it) });
    let buttons = Component::Buttons { buttons: vec![button] };
    [Some(body), footer, Some(buttons)].into_iter().flatten().collect()
}

fn with_apps<'a>(otp_type: &'static str, button: &'a AppButton, terms: Option<bool>) -> Button<'a> {
    Button::Otp {
        otp_type,
        text: button.text.as_deref(),
        autofill_text: button.autofill_text.as_deref(),
        zero_tap_terms_accepted: terms,
        supported_apps: button.apps.iter().map(app).collect(),
    }
}

fn app(app: &App) -> SupportedApp<'_> {
    SupportedApp { package_name: &app.package_name, signature_hash: &app.signature_hash }
}

fn named(examples: &[Parameter]) -> Vec<Named<'_>> {
    let named = examples.iter().filter_map(|it| Some((it.name()?, it.text())));
    named.map(|(param_name, example)| Named { param_name, example }).collect()
}

fn buttons<'a>(buttons: &'a [DraftButton]) -> Option<Component<'a>> {
    let button = |it: &'a DraftButton| match it {
        DraftButton::QuickReply { text } => Button::QuickReply { text },
        DraftButton::Url { text, url, example } => {
            Button::Url { text, url, example: example.as_deref().map(|it| [it]) }
        }
        DraftButton::PhoneNumber { text, phone_number } => {
            Button::PhoneNumber { text, phone_number }
        }
        DraftButton::CopyCode { example } => Button::CopyCode { example },
    };
    (!buttons.is_empty())
        .then(|| Component::Buttons { buttons: buttons.iter().map(button).collect() })
}

/// Whether components as the provider tells them are those that were written, examples aside: it keeps
/// these in its own way, and may add what this version doesn't know.
#[must_use]
pub fn is_the_same(told: &Value, written: &Value) -> bool {
    match (told, written) {
        (Value::Object(told), Value::Object(written))
            if written.get("type") == Some(&OTP.into()) =>
        {
            is_the_code_button(told, written)
        }
        (Value::Object(told), Value::Object(written)) => {
            let alike = |(key, written): (&String, &Value)| match told.get(key) {
                _ if key == "example" => true,
                Some(told) => is_the_same(told, written),
                None => UNSAID.contains(&key.as_str()),
            };
            written.iter().all(alike)
        }
        (Value::Array(told), Value::Array(written)) => {
            told.len() == written.len()
                && told.iter().zip(written).all(|(told, written)| is_the_same(told, written))
        }
        _ => told == written,
    }
}

/// The type of a button that hands out a code.
const OTP: &str = "OTP";
/// What the provider may keep in the text that it made of it.
const UNSAID: [&str; 2] = ["add_security_recommendation", "code_expiration_minutes"];

/// The provider tells a code's button as it was written, or as the link that it made of it.
fn is_the_code_button(told: &Map<String, Value>, written: &Map<String, Value>) -> bool {
    let text = |of: &Map<String, Value>, key: &str| {
        of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let way = text(written, "otp_type");
    let is_told = text(told, "otp_type") == way
        || text(told, "url").split(['?', '&']).any(|part| part == format!("otp_type={way}"));
    is_told && (written.get("text").is_none() || text(told, "text") == text(written, "text"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draft(value: Value) -> TemplateDraft {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_template_is_written_as_the_provider_wants_it() {
        let draft = draft(json!({"name": "offer", "language": "fr", "category": "MARKETING",
            "header": {"type": "text", "text": "Hi {{1}}", "examples": ["Ada"]},
            "body": {"text": "To {{1}} and {{2}}.", "examples": ["a", "b"]}, "footer": "f",
            "buttons": [{"type": "quick_reply", "text": "Stop"},
                {"type": "url", "text": "See", "url": "https://a.example/{{1}}", "example": "https://a.example/x"},
                {"type": "phone_number", "text": "Call", "phone_number": "+339"},
                {"type": "copy_code", "example": "C"}],
            "ttl_seconds": 43200}));
        assert_eq!(
            serde_json::to_value(Creation::new(&draft)).unwrap(),
            json!({"name": "offer", "language": "fr", "category": "MARKETING",
                "parameter_format": "POSITIONAL", "message_send_ttl_seconds": 43200, "components": [
                {"type": "HEADER", "format": "TEXT", "text": "Hi {{1}}", "example": {"header_text": ["Ada"]}},
                {"type": "BODY", "text": "To {{1}} and {{2}}.", "example": {"body_text": [["a", "b"]]}},
                {"type": "FOOTER", "text": "f"},
                {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Stop"},
                    {"type": "URL", "text": "See", "url": "https://a.example/{{1}}", "example": ["https://a.example/x"]},
                    {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+339"},
                    {"type": "COPY_CODE", "example": "C"}]}]})
        );
        let edit = serde_json::to_value(Form::new(&draft, false)).unwrap();
        assert!(edit.get("category").is_none() && edit.get("name").is_none());
    }

    #[test]
    fn names_and_cards_are_written_too() {
        let draft = draft(json!({"name": "a", "language": "fr", "category": "UTILITY",
            "body": {"text": "In {{city}} now", "examples": [{"name": "city", "text": "Lyon"}]},
            "cards": [{"header": {"type": "image", "example": "4::a"}, "body": {"text": "Bread"},
                "buttons": [{"type": "quick_reply", "text": "Yes"}]}]}));
        let written = serde_json::to_value(Creation::new(&draft)).unwrap();
        assert_eq!(written["parameter_format"], "NAMED");
        assert_eq!(
            written["components"],
            json!([{"type": "BODY", "text": "In {{city}} now", "example":
                    {"body_text_named_params": [{"param_name": "city", "example": "Lyon"}]}},
                {"type": "CAROUSEL", "cards": [{"components": [
                    {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["4::a"]}},
                    {"type": "BODY", "text": "Bread"},
                    {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Yes"}]}]}]}])
        );
    }

    #[test]
    fn a_code_is_written_without_words_and_known_again_in_the_providers() {
        let app = json!([{"package_name": "com.example.app", "signature_hash": "K8a/AINcGX7"}]);
        let draft = draft(json!({"name": "login", "language": "fr", "category": "AUTHENTICATION",
            "code": {"security_recommendation": true, "expires_minutes": 10, "button":
                {"type": "zero_tap", "text": "Copy", "autofill_text": "Fill", "apps": app, "terms_accepted": true}}}));
        let written = components(&draft);
        assert_eq!(
            written,
            json!([{"type": "BODY", "add_security_recommendation": true},
                {"type": "FOOTER", "code_expiration_minutes": 10},
                {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "ZERO_TAP", "text": "Copy",
                    "autofill_text": "Fill", "zero_tap_terms_accepted": true, "supported_apps": app}]}])
        );
        let told = |way: &str| {
            json!([{"type": "BODY", "text": "*{{1}}* is your code.", "add_security_recommendation": true},
                {"type": "FOOTER", "text": "This code expires in 10 minutes."},
                {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Copy", "url":
                    format!("https://www.whatsapp.com/otp/code/?otp_type={way}&code=otp{{{{1}}}}")}]}])
        };
        assert!(is_the_same(&told("ZERO_TAP"), &written) && is_the_same(&written, &written));
        assert!(!is_the_same(&told("COPY_CODE"), &written));
    }

    #[test]
    fn a_template_is_known_again_whatever_the_provider_adds() {
        let written =
            json!([{"type": "BODY", "text": "Hi {{1}}.", "example": {"body_text": [["a"]]}}]);
        let told = json!([{"type": "BODY", "text": "Hi {{1}}.", "id": 7}]);
        assert!(is_the_same(&told, &written));
        for other in [
            json!([{"type": "BODY", "text": "Ho {{1}}."}]),
            json!([{"type": "BODY", "text": "Hi {{1}}."}, {"type": "FOOTER", "text": "f"}]),
            json!([{"type": "BODY"}]),
            json!([]),
        ] {
            assert!(!is_the_same(&other, &written), "{other}");
        }
    }
}
