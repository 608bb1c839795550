//! What the provider's word about a template means for its sends. It does no input or output.

use serde_json::Value;

use crate::consequences::Obstacle;
use crate::domain::content::{ButtonText, ButtonValue, Fault, Header, Parameter, Values};
use crate::whatsapp::reaction::LOOK_AGAIN;

/// The status of a template that the provider doesn't know. Ours: the provider has no name for it.
pub const MISSING: &str = "MISSING";
/// The category under which a template is marketing.
pub const MARKETING: &str = "MARKETING";

/// The statuses under which a template may be sent. Flagged: its quality is low, and it may be paused next;
/// until then it may.
pub const SENDABLE: [&str; 5] = ["APPROVED", "ACTIVE", "REINSTATED", "UNPAUSED", "FLAGGED"];

/// What is known of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is marketing.
    pub marketing: bool,
    /// What stands in the way of its sends.
    pub obstacle: Option<Obstacle>,
}

impl Standing {
    /// From the provider's category and status.
    #[must_use]
    pub fn new(category: &str, status: &str) -> Self {
        Self { marketing: category == MARKETING, obstacle: obstacle(status) }
    }
}

/// What a status stands for. One that this version doesn't know stops sends: the next look at the
/// provider's list tells more.
#[must_use]
pub fn obstacle(status: &str) -> Option<Obstacle> {
    match status {
        sendable if SENDABLE.contains(&sendable) => None,
        "PAUSED" => Some(Obstacle::Wait("template_paused", LOOK_AGAIN)),
        "DISABLED" => Some(Obstacle::Refuse("template_disabled")),
        "REJECTED" => Some(Obstacle::Refuse("template_rejected")),
        MISSING | "DELETED" | "PENDING_DELETION" => Some(Obstacle::Refuse("template_missing")),
        _ => Some(Obstacle::Refuse("template_not_approved")),
    }
}

/// What a template takes, from the provider's own `components`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    header: HeaderShape,
    body: Vec<String>,
    named: bool,
    buttons: Vec<ButtonShape>,
    cards: Vec<Shape>,
}

/// Longest one-time code, in characters.
const CODE_CHARS_MAX: usize = 15;

/// What a header takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum HeaderShape {
    /// Nothing.
    #[default]
    Fixed,
    Text,
    Image,
    Video,
    Document,
    Location,
}

/// What a button takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ButtonShape {
    /// Nothing.
    Fixed,
    /// A payload, if one is wanted.
    QuickReply,
    /// The end of an address.
    Url,
    /// A code.
    Coupon,
    /// The one-time code, which the body takes as well.
    OneTimeCode,
    /// A kind that this version doesn't know: anything or nothing.
    Unknown,
}

impl Shape {
    /// Reads the provider's `components`. What this version doesn't know takes anything.
    #[must_use]
    pub fn read(components: &Value, named: bool) -> Self {
        let mut shape = Self { named, ..Self::default() };
        for component in components.as_array().map_or(&[][..], Vec::as_slice) {
            let text = |key: &str| component.get(key).and_then(Value::as_str).unwrap_or_default();
            let list = |key: &str| component.get(key).and_then(Value::as_array);
            match text("type").to_ascii_uppercase().as_str() {
                "HEADER" => {
                    shape.header = match text("format").to_ascii_uppercase().as_str() {
                        "TEXT" if places(text("text")).is_empty() => HeaderShape::Fixed,
                        "TEXT" => HeaderShape::Text,
                        "IMAGE" => HeaderShape::Image,
                        "VIDEO" => HeaderShape::Video,
                        "DOCUMENT" => HeaderShape::Document,
                        "LOCATION" => HeaderShape::Location,
                        _ => HeaderShape::Fixed,
                    };
                }
                // As it was written for a code: the words, and the place in them, are the provider's.
                "BODY"
                    if component.get("add_security_recommendation").is_some()
                        && text("text").is_empty() =>
                {
                    shape.body = vec!["1".to_owned()];
                }
                "BODY" => shape.body = places(text("text")),
                "BUTTONS" => {
                    shape.buttons = list("buttons").into_iter().flatten().map(button).collect();
                }
                "CAROUSEL" => {
                    let card = |card: &Value| {
                        Self::read(card.get("components").unwrap_or(&Value::Null), named)
                    };
                    shape.cards = list("cards").into_iter().flatten().map(card).collect();
                }
                _ => {}
            }
        }
        shape
    }

    /// Whether values fit.
    ///
    /// # Errors
    /// The first place that doesn't. Names of places are the template's, values stay unsaid.
    pub fn fits(&self, values: &Values) -> Result<(), Fault> {
        self.part_fits("", values.header.as_ref(), &values.parameters, &values.buttons)?;
        if self.cards.len() != values.cards.len() {
            let (takes, given) = (self.cards.len(), values.cards.len());
            return Err(format!("the template takes {takes} cards, {given} are given"));
        }
        for (at, (shape, card)) in self.cards.iter().zip(&values.cards).enumerate() {
            let of = format!("card {at}: ");
            shape.part_fits(&of, Some(&card.header), &card.parameters, &card.buttons)?;
        }
        Ok(())
    }

    fn part_fits(
        &self,
        of: &str,
        header: Option<&Header>,
        parameters: &[Parameter],
        buttons: &[ButtonValue],
    ) -> Result<(), Fault> {
        let fits = matches!(
            (self.header, header),
            (HeaderShape::Fixed, None)
                | (HeaderShape::Text, Some(Header::Text { .. }))
                | (HeaderShape::Image, Some(Header::Image(_)))
                | (HeaderShape::Video, Some(Header::Video(_)))
                | (HeaderShape::Document, Some(Header::Document(_)))
                | (HeaderShape::Location, Some(Header::Location(_)))
        );
        if !fits {
            let takes = match self.header {
                HeaderShape::Fixed => "none",
                HeaderShape::Text => "a text",
                HeaderShape::Image => "an image",
                HeaderShape::Video => "a video",
                HeaderShape::Document => "a document",
                HeaderShape::Location => "a location",
            };
            return Err(format!("{of}the header's value: the template takes {takes}"));
        }
        if self.body.len() != parameters.len() {
            let (takes, given) = (self.body.len(), parameters.len());
            return Err(format!("{of}the body takes {takes} parameters, {given} are given"));
        }
        let missing = self.body.iter().find(|place| {
            self.named && !parameters.iter().any(|it| it.name() == Some(place.as_str()))
        });
        if let Some(place) = missing {
            return Err(format!("{of}the body takes a parameter named {place}"));
        }
        if !self.named && parameters.iter().any(|it| it.name().is_some()) {
            return Err(format!("{of}the body's parameters have no names"));
        }
        for given in buttons {
            let index = given.index;
            let takes = self.buttons.get(index);
            let fits = matches!(
                (takes, &given.value),
                (Some(ButtonShape::QuickReply), ButtonText::Payload(_))
                    | (Some(ButtonShape::Url | ButtonShape::OneTimeCode), ButtonText::UrlSuffix(_))
                    | (Some(ButtonShape::Coupon), ButtonText::CouponCode(_))
                    | (Some(ButtonShape::Unknown), _)
            );
            if !fits {
                return Err(format!("{of}button {index} doesn't take this"));
            }
        }
        let wanting = self.buttons.iter().enumerate().find(|(index, takes)| {
            matches!(takes, ButtonShape::Url | ButtonShape::Coupon | ButtonShape::OneTimeCode)
                && !buttons.iter().any(|given| given.index == *index)
        });
        if let Some((index, _)) = wanting {
            return Err(format!("{of}button {index} takes a value"));
        }
        self.same_code(parameters, buttons)
    }

    /// A code's button takes what stands in the body: she would copy another one.
    fn same_code(&self, parameters: &[Parameter], buttons: &[ButtonValue]) -> Result<(), Fault> {
        let takes =
            |it: &&ButtonValue| self.buttons.get(it.index) == Some(&ButtonShape::OneTimeCode);
        let Some(button) = buttons.iter().find(takes) else { return Ok(()) };
        let ButtonText::UrlSuffix(code) = &button.value else { return Ok(()) };
        if code.chars().count() > CODE_CHARS_MAX {
            return Err(format!("a code has at most {CODE_CHARS_MAX} characters"));
        }
        if parameters.first().map(Parameter::text) != Some(code.as_str()) {
            return Err(format!("button {} takes the code of the body", button.index));
        }
        Ok(())
    }
}

fn button(button: &Value) -> ButtonShape {
    let text = |key: &str| button.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("type").to_ascii_uppercase().as_str() {
        "QUICK_REPLY" => ButtonShape::QuickReply,
        "OTP" => ButtonShape::OneTimeCode,
        "URL" if places(text("url")).is_empty() => ButtonShape::Fixed,
        // The provider makes a link of a code's button.
        "URL" if text("url").contains("/otp/code/") => ButtonShape::OneTimeCode,
        "URL" => ButtonShape::Url,
        "COPY_CODE" => ButtonShape::Coupon,
        "PHONE_NUMBER" | "VOICE_CALL" => ButtonShape::Fixed,
        _ => ButtonShape::Unknown,
    }
}

/// The places of a text, `{{1}}` or `{{name}}`, each once, in the order of first mention.
pub(super) fn places(text: &str) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for part in text.split("{{").skip(1) {
        let Some((place, _)) = part.split_once("}}") else { continue };
        let place = place.trim();
        if !place.is_empty() && !places.iter().any(|known| known == place) {
            places.push(place.to_owned());
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_to_be_sendable_is_not_sent() {
        for status in ["APPROVED", "ACTIVE", "REINSTATED", "FLAGGED"] {
            assert_eq!(obstacle(status), None, "{status}");
        }
        assert!(matches!(obstacle("PAUSED"), Some(Obstacle::Wait("template_paused", _))));
        let refused = [
            ("DISABLED", "template_disabled"),
            ("REJECTED", "template_rejected"),
            ("DELETED", "template_missing"),
            (MISSING, "template_missing"),
            ("PENDING", "template_not_approved"),
            ("IN_APPEAL", "template_not_approved"),
            ("SOMETHING_NEW", "template_not_approved"),
        ];
        for (status, reason) in refused {
            assert_eq!(obstacle(status), Some(Obstacle::Refuse(reason)), "{status}");
        }
    }

    fn shape(components: Value) -> Shape {
        Shape::read(&components, false)
    }

    fn fits(shape: &Shape, values: Value) -> Result<(), Fault> {
        shape.fits(&serde_json::from_value(values).unwrap())
    }

    #[test]
    fn values_must_fit_the_places_that_the_template_has() {
        let full = shape(json!([
            {"type": "HEADER", "format": "IMAGE"},
            {"type": "BODY", "text": "Hello {{1}}, {{2}} and again {{1}}"},
            {"type": "FOOTER", "text": "f"},
            {"type": "BUTTONS", "buttons": [
                {"type": "QUICK_REPLY", "text": "Stop promotions"},
                {"type": "URL", "text": "Open", "url": "https://a.example/{{1}}"},
                {"type": "URL", "text": "Shop", "url": "https://a.example/"},
                {"type": "COPY_CODE", "text": "Copy"}]}]));
        let whole = json!({"parameters": ["a", "b"], "header": {"type": "image", "id": "1"},
            "buttons": [{"index": 1, "url_suffix": "x"}, {"index": 3, "coupon_code": "C"}]});
        assert_eq!(fits(&full, whole.clone()), Ok(()));
        let with = |key: &str, value: Value| {
            let mut values = whole.clone();
            values[key] = value;
            fits(&full, values).unwrap_err()
        };
        assert_eq!(with("parameters", json!(["a"])), "the body takes 2 parameters, 1 are given");
        assert_eq!(
            with("header", json!({"type": "video", "id": "1"})),
            "the header's value: the template takes an image"
        );
        assert_eq!(with("buttons", json!([])), "button 1 takes a value");
        for button in [
            json!({"index": 0, "url_suffix": "x"}),
            json!({"index": 2, "url_suffix": "x"}),
            json!({"index": 9, "payload": "x"}),
        ] {
            assert!(with("buttons", json!([button])).ends_with("doesn't take this"), "{button}");
        }
        assert_eq!(
            with("cards", json!([{"header": {"type": "image", "id": "1"}}])),
            "the template takes 0 cards, 1 are given"
        );
        assert_eq!(fits(&shape(json!([{"type": "BODY", "text": "Hi"}])), json!({})), Ok(()));
    }

    #[test]
    fn a_code_is_the_same_in_the_body_and_behind_the_button() {
        let otp = |buttons: Value, body: Value| {
            shape(json!([body, {"type": "BUTTONS", "buttons": [buttons]}]))
        };
        let written = otp(
            json!({"type": "OTP", "otp_type": "COPY_CODE"}),
            json!({"type": "BODY", "add_security_recommendation": false}),
        );
        let told = otp(
            json!({"type": "URL", "url": "https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code=otp{{1}}"}),
            json!({"type": "BODY", "text": "*{{1}}* is your code.", "add_security_recommendation": true}),
        );
        let code = |body: &str, button: &str| json!({"parameters": [body], "buttons": [{"index": 0, "url_suffix": button}]});
        for shape in [written, told] {
            assert_eq!(fits(&shape, code("123456", "123456")), Ok(()));
            let other = fits(&shape, code("123456", "654321")).unwrap_err();
            assert_eq!(other, "button 0 takes the code of the body");
            let long = "1".repeat(16);
            assert!(fits(&shape, code(&long, &long)).unwrap_err().starts_with("a code has"));
            let without = json!({"parameters": ["123456"]});
            assert_eq!(fits(&shape, without).unwrap_err(), "button 0 takes a value");
        }
    }

    #[test]
    fn named_places_want_their_names_and_cards_their_own_values() {
        let named = Shape::read(&json!([{"type": "body", "text": "Hi {{name}}, {{city}}"}]), true);
        let given = |one: &str, other: &str| {
            fits(
                &named,
                json!({"parameters": [{"name": one, "text": "a"}, {"name": other, "text": "b"}]}),
            )
        };
        assert_eq!(given("city", "name"), Ok(()));
        assert_eq!(given("name", "town").unwrap_err(), "the body takes a parameter named city");

        let cards = shape(json!([{"type": "BODY", "text": "Hi"}, {"type": "CAROUSEL", "cards": [
            {"components": [{"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "{{1}}"}]}]}]));
        let card = |parameters: Value| {
            fits(
                &cards,
                json!({"cards": [{"header": {"type": "image", "id": "1"}, "parameters": parameters}]}),
            )
        };
        assert_eq!(card(json!(["a"])), Ok(()));
        assert_eq!(
            card(json!([])).unwrap_err(),
            "card 0: the body takes 1 parameters, 0 are given"
        );
    }
}
