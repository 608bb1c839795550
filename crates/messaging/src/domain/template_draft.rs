//! A template to be, within the rules by which the provider takes one up. It guarantees that what passes
//! here is of a form that it takes; whether it likes the words is its reviewers' to say. It does no input or output.

use std::collections::BTreeSet;

use serde::Deserialize;
use utoipa::ToSchema;

use super::content::{Fault, Parameter};
use super::template::places;

/// Longest body, in characters; of a card's, and of a header or footer.
const BODY_CHARS_MAX: usize = 1024;
const CARD_CHARS_MAX: usize = 160;
const EDGE_CHARS_MAX: usize = 60;
/// Longest text on a button, and longest address behind it, in characters.
const BUTTON_CHARS_MAX: usize = 25;
const URL_CHARS_MAX: usize = 2000;
/// Most buttons of a template, and most cards.
const TEN: usize = 10;

/// A template in one language, as it is given to the provider.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateDraft {
    /// Its name, shared by its languages.
    #[schema(pattern = "^[a-z0-9_]{1,512}$", example = "spring_offer")]
    pub name: String,
    /// Its language code at the provider, such as `en` or `pt_BR`.
    #[schema(pattern = "^[A-Za-z0-9_]{1,16}$", example = "fr")]
    pub language: String,
    /// What it is for; the provider may put it into another category.
    pub category: DraftCategory,
    /// Above the body.
    #[serde(default)]
    pub header: Option<DraftHeader>,
    /// What it says.
    pub body: DraftText,
    /// A line below the body.
    #[serde(default)]
    pub footer: Option<String>,
    /// Its buttons.
    #[serde(default)]
    #[schema(max_items = 10)]
    pub buttons: Vec<DraftButton>,
    /// The cards of a carousel.
    #[serde(default)]
    #[schema(max_items = 10)]
    pub cards: Vec<DraftCard>,
    /// For how many seconds the provider tries to deliver it.
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
}

/// What a template is for. Those that carry one-time codes are written in the WhatsApp Manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DraftCategory {
    /// Offers and news.
    Marketing,
    /// About something that she asked for.
    Utility,
}

impl DraftCategory {
    /// The provider's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Marketing => "MARKETING",
            Self::Utility => "UTILITY",
        }
    }
}

/// A text with places, `{{1}}` or `{{name}}`, and an example for each.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftText {
    /// The text.
    pub text: String,
    /// Invented values that the reviewers see, in order or by name. Nothing of a person belongs here.
    #[serde(default)]
    pub examples: Vec<Parameter>,
}

/// What stands above a body.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum DraftHeader {
    /// A line with one place at most.
    Text(DraftText),
    /// An image; `example` is the handle of one that was uploaded for the reviewers.
    Image {
        /// The handle.
        example: String,
    },
    /// A video, as an image.
    Video {
        /// The handle.
        example: String,
    },
    /// A document, as an image.
    Document {
        /// The handle.
        example: String,
    },
    /// A place on the map.
    Location {},
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum DraftButton {
    /// She answers by it.
    QuickReply {
        /// What stands on it.
        text: String,
    },
    /// It opens a page.
    Url {
        /// What stands on it.
        text: String,
        /// The page; it may end in `{{1}}`.
        url: String,
        /// The whole address with an invented end, where it ends in a place.
        #[serde(default)]
        example: Option<String>,
    },
    /// It calls a number of the business.
    PhoneNumber {
        /// What stands on it.
        text: String,
        /// The number in E.164.
        phone_number: String,
    },
    /// It copies a code.
    CopyCode {
        /// An invented code.
        example: String,
    },
}

/// A card of a carousel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftCard {
    /// Its image or video.
    pub header: DraftHeader,
    /// What it says.
    pub body: DraftText,
    /// One or two, of the same kinds on every card.
    pub buttons: Vec<DraftButton>,
}

impl TemplateDraft {
    /// Whether its places have names instead of numbers.
    #[must_use]
    pub fn named(&self) -> bool {
        self.texts().any(|text| text.examples.iter().any(|it| it.name().is_some()))
    }

    fn texts(&self) -> impl Iterator<Item = &DraftText> {
        let header = match &self.header {
            Some(DraftHeader::Text(text)) => Some(text),
            _ => None,
        };
        header.into_iter().chain([&self.body]).chain(self.cards.iter().map(|card| &card.body))
    }

    /// Whether the provider would take it up.
    ///
    /// # Errors
    /// The first field that breaks a rule of the provider's, and the rule.
    pub fn check(&self) -> Result<(), Fault> {
        let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if !(1..=512).contains(&self.name.len()) || !self.name.bytes().all(word) {
            return Err("name: 1 to 512 of a-z, 0-9 and _".to_owned());
        }
        let code = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        if !(1..=16).contains(&self.language.len()) || !self.language.bytes().all(code) {
            return Err("language: a code such as en or pt_BR".to_owned());
        }
        let ttl = match self.category {
            DraftCategory::Marketing => 43_200..=2_592_000,
            DraftCategory::Utility => 30..=43_200,
        };
        if self.ttl_seconds.is_some_and(|it| !ttl.contains(&it)) {
            let (least, most) = (ttl.start(), ttl.end());
            return Err(format!("ttl_seconds: {least} to {most} in this category"));
        }
        let named = self.named();
        self.header.as_ref().map_or(Ok(()), |it| header(it, named))?;
        body("body", &self.body, named, BODY_CHARS_MAX)?;
        if let Some(footer) = &self.footer {
            chars("footer", footer, EDGE_CHARS_MAX)?;
            if !places(footer).is_empty() {
                return Err("footer: it has no places".to_owned());
            }
        }
        buttons("buttons", &self.buttons)?;
        self.cards()
    }

    fn cards(&self) -> Result<(), Fault> {
        let Some(first) = self.cards.first() else { return Ok(()) };
        if !(2..=TEN).contains(&self.cards.len()) {
            return Err("cards: 2 to 10".to_owned());
        }
        if self.header.is_some() || self.footer.is_some() || !self.buttons.is_empty() {
            return Err("cards: beside them stands a body only".to_owned());
        }
        let form = |card: &DraftCard| {
            let buttons: Vec<_> = card.buttons.iter().map(std::mem::discriminant).collect();
            (std::mem::discriminant(&card.header), buttons)
        };
        for card in &self.cards {
            if !matches!(card.header, DraftHeader::Image { .. } | DraftHeader::Video { .. }) {
                return Err("cards.header: an image or a video".to_owned());
            }
            header(&card.header, self.named())?;
            body("cards.body", &card.body, self.named(), CARD_CHARS_MAX)?;
            if !(1..=2).contains(&card.buttons.len()) {
                return Err("cards.buttons: one or two".to_owned());
            }
            buttons("cards.buttons", &card.buttons)?;
            if form(card) != form(first) {
                return Err("cards: all have the same kinds of header and buttons".to_owned());
            }
        }
        Ok(())
    }
}

fn chars(field: &str, text: &str, most: usize) -> Result<(), Fault> {
    if text.trim().is_empty() || text.chars().count() > most {
        return Err(format!("{field}: 1 to {most} characters"));
    }
    Ok(())
}

fn header(header: &DraftHeader, named: bool) -> Result<(), Fault> {
    match header {
        DraftHeader::Text(text) => {
            chars("header.text", &text.text, EDGE_CHARS_MAX)?;
            if places(&text.text).len() > 1 {
                return Err("header.text: one place at most".to_owned());
            }
            examples("header", text, named)
        }
        DraftHeader::Image { example }
        | DraftHeader::Video { example }
        | DraftHeader::Document { example } => chars("header.example", example, URL_CHARS_MAX),
        DraftHeader::Location {} => Ok(()),
    }
}

fn body(field: &str, body: &DraftText, named: bool, most: usize) -> Result<(), Fault> {
    chars(&format!("{field}.text"), &body.text, most)?;
    let edge = body.text.trim();
    if edge.starts_with("{{") || edge.ends_with("}}") {
        return Err(format!("{field}.text: it neither begins nor ends with a place"));
    }
    examples(field, body, named)
}

/// Places are numbered from 1 without gaps, or have names; each has its example.
fn examples(field: &str, text: &DraftText, named: bool) -> Result<(), Fault> {
    let wanted: BTreeSet<String> = places(&text.text).into_iter().collect();
    let given: BTreeSet<String> = if named {
        text.examples.iter().filter_map(|it| it.name().map(str::to_owned)).collect()
    } else {
        (1..=text.examples.len()).map(|at| at.to_string()).collect()
    };
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if named && !wanted.iter().all(|place| place.bytes().all(word)) {
        return Err(format!("{field}.text: names of places are of a-z, 0-9 and _"));
    }
    if wanted != given || given.len() != text.examples.len() {
        return Err(format!(
            "{field}.examples: one for each place, which are numbered from 1 or all have names"
        ));
    }
    if text.examples.iter().any(|it| it.text().trim().is_empty()) {
        return Err(format!("{field}.examples: none is empty"));
    }
    Ok(())
}

fn buttons(field: &str, buttons: &[DraftButton]) -> Result<(), Fault> {
    if buttons.len() > TEN {
        return Err(format!("{field}: 10 at most"));
    }
    for button in buttons {
        let on = format!("{field}.text");
        match button {
            DraftButton::QuickReply { text } => chars(&on, text, BUTTON_CHARS_MAX)?,
            DraftButton::Url { text, url, example } => {
                chars(&on, text, BUTTON_CHARS_MAX)?;
                chars(&format!("{field}.url"), url, URL_CHARS_MAX)?;
                let open = places(url);
                if !url.starts_with("https://") || !(open.is_empty() || url.ends_with("{{1}}")) {
                    return Err(format!(
                        "{field}.url: https, with nothing open but {{{{1}}}} at its end"
                    ));
                }
                if open.len() > 1 || open.is_empty() == example.is_some() {
                    return Err(format!(
                        "{field}.example: for an address with a place, and only there"
                    ));
                }
            }
            DraftButton::PhoneNumber { text, phone_number } => {
                chars(&on, text, BUTTON_CHARS_MAX)?;
                let digits = phone_number.strip_prefix('+').unwrap_or_default();
                if !(6..=15).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_digit())
                {
                    return Err(format!("{field}.phone_number: + and digits"));
                }
            }
            DraftButton::CopyCode { example } => chars(&format!("{field}.example"), example, 15)?,
        }
    }
    let count = |is: fn(&DraftButton) -> bool| buttons.iter().filter(|it| is(it)).count();
    if count(|it| matches!(it, DraftButton::Url { .. })) > 2
        || count(|it| matches!(it, DraftButton::PhoneNumber { .. })) > 1
        || count(|it| matches!(it, DraftButton::CopyCode { .. })) > 1
    {
        return Err(format!("{field}: 2 pages, 1 number and 1 code at most"));
    }
    // Quick replies stand together, before or after the others.
    let quick = |it: &&DraftButton| matches!(it, DraftButton::QuickReply { .. });
    let changes = buttons.windows(2).filter(|it| quick(&&it[0]) != quick(&&it[1])).count();
    if changes > 1 {
        return Err(format!("{field}: quick replies stand together"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn whole() -> Value {
        json!({"name": "spring_offer", "language": "fr", "category": "MARKETING",
            "header": {"type": "text", "text": "Hello {{1}}", "examples": ["Ada"]},
            "body": {"text": "Spring is here, {{1}}: {{2}} off.", "examples": ["Ada", "10 %"]},
            "footer": "Example",
            "buttons": [{"type": "quick_reply", "text": "Stop promotions"},
                {"type": "url", "text": "See", "url": "https://a.example/{{1}}", "example": "https://a.example/x"},
                {"type": "phone_number", "text": "Call", "phone_number": "+33900000001"},
                {"type": "copy_code", "example": "SPRING"}],
            "ttl_seconds": 43_200})
    }

    fn check(draft: Value) -> Result<(), Fault> {
        serde_json::from_value::<TemplateDraft>(draft).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn what_the_provider_would_take_up_passes() {
        assert_eq!(check(whole()), Ok(()));
        let card = |name: &str| {
            json!({"header": {"type": "image", "example": "4::aW"},
                "body": {"text": "Our {{thing}} here", "examples": [{"name": "thing", "text": name}]},
                "buttons": [{"type": "quick_reply", "text": "Stop"}]})
        };
        let carousel = json!({"name": "a", "language": "pt_BR", "category": "UTILITY",
            "body": {"text": "Look"}, "cards": [card("bread"), card("cake")]});
        assert_eq!(check(carousel), Ok(()));
    }

    #[test]
    fn what_it_would_refuse_is_told_by_its_field() {
        let text = |text: &str, examples: Value| json!({"text": text, "examples": examples});
        let named = |name: &str| json!([{"name": name, "text": "x"}]);
        let url = |url: &str, example: Value| json!([{"type": "url", "text": "a", "url": url, "example": example}]);
        let quick = json!({"type": "quick_reply", "text": "a"});
        let page = json!({"type": "url", "text": "a", "url": "https://a.example"});
        let card =
            json!({"header": {"type": "location"}, "body": {"text": "a"}, "buttons": [quick]});
        for (field, value, fault) in [
            ("name", json!("Spring"), "name"),
            ("language", json!("pt-BR"), "language"),
            ("ttl_seconds", json!(30), "ttl_seconds"),
            (
                "header",
                json!({"type": "text", "text": "{{1}} {{2}}", "examples": ["a", "b"]}),
                "header.text",
            ),
            ("header", json!({"type": "text", "text": "x".repeat(61)}), "header.text"),
            ("header", json!({"type": "image", "example": ""}), "header.example"),
            ("body", text("", json!([])), "body.text"),
            ("body", text(&"x".repeat(1025), json!([])), "body.text"),
            ("body", text("{{1}} hello", json!(["a"])), "body.text"),
            ("body", text("hello {{1}}", json!(["a"])), "body.text"),
            ("body", text("a {{1}} b", json!([])), "body.examples"),
            ("body", text("a {{2}} b", json!(["a"])), "body.examples"),
            ("body", text("a {{1}} b", json!([""])), "body.examples"),
            ("body", text("a {{City}} b", named("City")), "header.examples"),
            ("footer", json!("a {{1}} b"), "footer"),
            ("buttons", json!([quick, page, quick]), "buttons: quick replies"),
            ("buttons", json!([page, page, page]), "buttons: 2 pages"),
            ("buttons", json!(vec![quick.clone(); 11]), "buttons: 10"),
            ("buttons", json!([{"type": "quick_reply", "text": "x".repeat(26)}]), "buttons.text"),
            ("buttons", url("http://a.example", json!(null)), "buttons.url"),
            ("buttons", url("https://a.example/{{1}}/b", json!("x")), "buttons.url"),
            ("buttons", url("https://a.example/{{1}}", json!(null)), "buttons.example"),
            (
                "buttons",
                json!([{"type": "phone_number", "text": "a", "phone_number": "0900"}]),
                "buttons.phone_number",
            ),
            ("cards", json!([card.clone()]), "cards: 2 to 10"),
            ("cards", json!([card.clone(), card]), "cards: beside them"),
        ] {
            let mut draft = whole();
            draft[field] = value;
            let found = check(draft).unwrap_err();
            assert!(found.starts_with(fault), "{field}: {found}, not {fault}");
        }
        assert!(check(json!({"name": "a", "more": 1})).is_err());
    }
}
