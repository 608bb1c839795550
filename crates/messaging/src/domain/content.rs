//! What a message may hold, within the provider's limits. It guarantees that what passes here is of a form
//! that the provider takes; whether it fits the template's shape is [`super::template`]'s to say.
//! Faults name the field, never its value.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest text message, in characters.
const TEXT_CHARS_MAX: usize = 4096;
/// Longest caption and body above buttons, in characters.
const BODY_CHARS_MAX: usize = 1024;
/// Longest header and footer, in characters.
const EDGE_CHARS_MAX: usize = 60;
/// Longest value of a template's parameter, in characters.
const PARAMETER_CHARS_MAX: usize = 1024;
/// Most buttons of a template, and most cards of a carousel.
const TEN: usize = 10;

/// What is wrong with a message: the field and the rule.
pub type Fault = String;

/// The values of a template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// Of the body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// Of the buttons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<ButtonValue>,
    /// Of the cards of a carousel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<Card>,
}

/// A value: by its place, or by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Parameter {
    /// For the next place.
    Text(String),
    /// For the place of this name.
    Named {
        /// The place's name.
        name: String,
        /// The value.
        text: String,
    },
}

impl Parameter {
    /// The value.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Named { text, .. } => text,
        }
    }

    /// The place's name, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Named { name, .. } => Some(name),
        }
    }
}

/// The value of a template's header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Header {
    /// For a header of text with one place.
    Text {
        /// The value.
        text: String,
    },
    /// An image.
    Image(MediaSource),
    /// A video.
    Video(MediaSource),
    /// A document.
    Document(MediaSource),
    /// A place on the map.
    Location(Location),
}

/// Where media come from: one of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MediaSource {
    /// Id of media that were uploaded to the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// An https address that the provider can fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Name of a document's file, as the person sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Text under it; templates have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
}

/// A place on the map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Location {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// What is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// The value of a template's button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ButtonValue {
    /// Which button, from 0.
    pub index: usize,
    /// What it is given.
    #[serde(flatten)]
    pub value: ButtonText,
}

/// What a template's button is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ButtonText {
    /// What a quick reply answers with.
    Payload(String),
    /// The end of a link's address.
    UrlSuffix(String),
    /// The code that is copied.
    CouponCode(String),
}

/// The values of a carousel's card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its picture or video.
    pub header: Header,
    /// Of its body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Of its buttons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<ButtonValue>,
}

/// Free-form content: it goes out only within 24 hours of a message of hers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// Text.
    Text {
        /// The text.
        body: String,
        /// Whether the first link is shown with a preview.
        #[serde(default)]
        preview_url: bool,
    },
    /// An image.
    Image(MediaSource),
    /// A video.
    Video(MediaSource),
    /// A sound.
    Audio(MediaSource),
    /// A document.
    Document(MediaSource),
    /// A sticker.
    Sticker(MediaSource),
    /// A place on the map.
    Location(Location),
    /// Text with up to three buttons.
    Buttons {
        /// The text.
        body: String,
        /// A line above it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        header: Option<String>,
        /// A line below it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        footer: Option<String>,
        /// The buttons.
        buttons: Vec<Button>,
    },
    /// Text with a list to choose from.
    List {
        /// The text.
        body: String,
        /// A line above it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        header: Option<String>,
        /// A line below it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        footer: Option<String>,
        /// What opens the list.
        button: String,
        /// The list.
        sections: Vec<Section>,
    },
    /// An emoji on a message of hers.
    Reaction {
        /// Our id of her message.
        message_id: Uuid,
        /// The emoji; empty takes it away.
        emoji: String,
    },
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Button {
    /// What it answers with.
    pub id: String,
    /// What she sees.
    pub title: String,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Section {
    /// Its title; needed where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// A row of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Row {
    /// What it answers with.
    pub id: String,
    /// What she sees.
    pub title: String,
    /// More of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Content {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Image(_) => "image",
            Self::Video(_) => "video",
            Self::Audio(_) => "audio",
            Self::Document(_) => "document",
            Self::Sticker(_) => "sticker",
            Self::Location(_) => "location",
            Self::Buttons { .. } => "buttons",
            Self::List { .. } => "list",
            Self::Reaction { .. } => "reaction",
        }
    }

    /// Whether it keeps to the provider's limits.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), Fault> {
        match self {
            Self::Text { body, .. } => length("content.body", body, 1..=TEXT_CHARS_MAX),
            Self::Image(media) | Self::Video(media) => media.check("content", true, false),
            Self::Document(media) => media.check("content", true, true),
            Self::Audio(media) | Self::Sticker(media) => media.check("content", false, false),
            Self::Location(location) => location.check("content"),
            Self::Buttons { body, header, footer, buttons } => {
                length("content.body", body, 1..=BODY_CHARS_MAX)?;
                edges(header.as_deref(), footer.as_deref())?;
                count("content.buttons", buttons.len(), 1..=3)?;
                for button in buttons {
                    length("content.buttons.id", &button.id, 1..=256)?;
                    length("content.buttons.title", &button.title, 1..=20)?;
                }
                distinct("content.buttons.id", buttons.iter().map(|it| &it.id))?;
                distinct("content.buttons.title", buttons.iter().map(|it| &it.title))
            }
            Self::List { body, header, footer, button, sections } => {
                length("content.body", body, 1..=TEXT_CHARS_MAX)?;
                edges(header.as_deref(), footer.as_deref())?;
                length("content.button", button, 1..=20)?;
                count("content.sections", sections.len(), 1..=TEN)?;
                let rows: Vec<&Row> = sections.iter().flat_map(|it| &it.rows).collect();
                count("content.sections.rows of all sections", rows.len(), 1..=TEN)?;
                for section in sections {
                    count("content.sections.rows", section.rows.len(), 1..=TEN)?;
                    match &section.title {
                        Some(title) => length("content.sections.title", title, 1..=24)?,
                        None if sections.len() > 1 => {
                            return Err("content.sections.title is needed".to_owned());
                        }
                        None => {}
                    }
                }
                for row in &rows {
                    length("content.sections.rows.id", &row.id, 1..=200)?;
                    length("content.sections.rows.title", &row.title, 1..=24)?;
                    let description = row.description.as_deref().unwrap_or_default();
                    length("content.sections.rows.description", description, 0..=72)?;
                }
                distinct("content.sections.rows.id", rows.iter().map(|it| &it.id))
            }
            Self::Reaction { emoji, .. } => length("content.emoji", emoji, 0..=16),
        }
    }
}

impl Values {
    /// Whether they keep to the provider's limits, whatever the template.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), Fault> {
        part("", self.header.as_ref(), &self.parameters, &self.buttons)?;
        count("cards", self.cards.len(), 0..=TEN)?;
        for card in &self.cards {
            part("cards.", Some(&card.header), &card.parameters, &card.buttons)?;
        }
        Ok(())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn part(
    of: &str,
    header: Option<&Header>,
    parameters: &[Parameter],
    buttons: &[ButtonValue],
) -> Result<(), Fault> {
    count(&format!("{of}parameters"), parameters.len(), 0..=32)?;
    for parameter in parameters {
        value(&format!("{of}parameters"), parameter.text(), PARAMETER_CHARS_MAX)?;
        length(&format!("{of}parameters.name"), parameter.name().unwrap_or_default(), 0..=64)?;
    }
    distinct(&format!("{of}parameters.name"), parameters.iter().filter_map(Parameter::name))?;
    match header {
        Some(Header::Text { text }) => value(&format!("{of}header.text"), text, EDGE_CHARS_MAX)?,
        Some(Header::Image(media) | Header::Video(media)) => {
            media.check(&format!("{of}header"), false, false)?;
        }
        Some(Header::Document(media)) => media.check(&format!("{of}header"), false, true)?,
        Some(Header::Location(location)) => location.check(&format!("{of}header"))?,
        None => {}
    }
    for button in buttons {
        count(&format!("{of}buttons.index"), button.index, 0..=TEN - 1)?;
        match &button.value {
            ButtonText::Payload(text) => length(&format!("{of}buttons.payload"), text, 1..=128)?,
            ButtonText::UrlSuffix(text) => {
                length(&format!("{of}buttons.url_suffix"), text, 1..=2000)?;
            }
            ButtonText::CouponCode(text) => {
                length(&format!("{of}buttons.coupon_code"), text, 1..=20)?;
            }
        }
    }
    distinct(&format!("{of}buttons.index"), buttons.iter().map(|it| it.index))
}

impl MediaSource {
    fn check(&self, field: &str, caption: bool, filename: bool) -> Result<(), Fault> {
        match (&self.id, &self.link) {
            (Some(id), None) => length(&format!("{field}.id"), id, 1..=256)?,
            (None, Some(link)) => {
                length(&format!("{field}.link"), link, 9..=2048)?;
                if !link.starts_with("https://") {
                    return Err(format!("{field}.link must begin with https://"));
                }
            }
            _ => return Err(format!("{field} has either an id or a link")),
        }
        match &self.caption {
            Some(text) if caption => length(&format!("{field}.caption"), text, 1..=BODY_CHARS_MAX)?,
            Some(_) => return Err(format!("{field} has no caption")),
            None => {}
        }
        match &self.filename {
            Some(text) if filename => length(&format!("{field}.filename"), text, 1..=240),
            Some(_) => Err(format!("{field} has no filename")),
            None => Ok(()),
        }
    }
}

impl Location {
    fn check(&self, field: &str) -> Result<(), Fault> {
        if !(-90.0..=90.0).contains(&self.latitude) || !(-180.0..=180.0).contains(&self.longitude) {
            return Err(format!("{field} is not on the map"));
        }
        length(&format!("{field}.name"), self.name.as_deref().unwrap_or_default(), 0..=1000)?;
        length(&format!("{field}.address"), self.address.as_deref().unwrap_or_default(), 0..=1000)
    }
}

fn edges(header: Option<&str>, footer: Option<&str>) -> Result<(), Fault> {
    for (field, text) in [("content.header", header), ("content.footer", footer)] {
        if let Some(text) = text {
            length(field, text, 1..=EDGE_CHARS_MAX)?;
        }
    }
    Ok(())
}

/// The provider takes no line breaks, tabs or runs of blanks within a template's values.
fn value(field: &str, text: &str, most: usize) -> Result<(), Fault> {
    length(field, text, 1..=most)?;
    if text.trim().is_empty() || text.contains(['\n', '\r', '\t']) || text.contains("     ") {
        return Err(format!(
            "{field} must hold something, and no line break, tab or more than four blanks in a row"
        ));
    }
    Ok(())
}

fn length(field: &str, text: &str, allowed: std::ops::RangeInclusive<usize>) -> Result<(), Fault> {
    if allowed.contains(&text.chars().count()) {
        return Ok(());
    }
    Err(format!("{field} must have {} to {} characters", allowed.start(), allowed.end()))
}

fn count(field: &str, count: usize, allowed: std::ops::RangeInclusive<usize>) -> Result<(), Fault> {
    if allowed.contains(&count) {
        return Ok(());
    }
    Err(format!("{field} must be {} to {}", allowed.start(), allowed.end()))
}

fn distinct<T: Eq + std::hash::Hash>(
    field: &str,
    values: impl Iterator<Item = T>,
) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    for value in values {
        if !seen.insert(value) {
            return Err(format!("{field} must be distinct"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn content(value: Value) -> Result<(), Fault> {
        serde_json::from_value::<Content>(value).unwrap().check()
    }

    fn values(value: Value) -> Result<(), Fault> {
        serde_json::from_value::<Values>(value).unwrap().check()
    }

    #[test]
    fn each_kind_of_content_within_its_limits_passes() {
        let row = json!({"id": "r", "title": "t", "description": "d"});
        for it in [
            json!({"type": "text", "body": "x".repeat(4096)}),
            json!({"type": "image", "link": "https://a.example/b.png", "caption": "c"}),
            json!({"type": "video", "id": "7"}),
            json!({"type": "audio", "id": "7"}),
            json!({"type": "document", "id": "7", "filename": "f.pdf"}),
            json!({"type": "sticker", "id": "7"}),
            json!({"type": "location", "latitude": 48.8, "longitude": 2.3, "name": "n"}),
            json!({"type": "buttons", "body": "b", "buttons": [{"id": "1", "title": "Yes"}, {"id": "2", "title": "No"}]}),
            json!({"type": "list", "body": "b", "button": "Choose", "sections": [{"rows": [row]}]}),
            json!({"type": "reaction", "message_id": Uuid::nil(), "emoji": "👍"}),
        ] {
            let kind = it["type"].as_str().unwrap().to_owned();
            let read: Content = serde_json::from_value(it.clone()).unwrap();
            assert_eq!(read.kind(), kind);
            assert_eq!(read.check(), Ok(()), "{kind}");
        }
    }

    #[test]
    fn what_is_beyond_a_limit_is_told_by_its_field() {
        let button = |id: &str, title: &str| json!({"id": id, "title": title});
        let buttons = |all: Vec<Value>| json!({"type": "buttons", "body": "b", "buttons": all});
        let list = |sections: Value| json!({"type": "list", "body": "b", "button": "c", "sections": sections});
        let row = |id: usize| json!({"id": id.to_string(), "title": "t"});
        for (it, field) in [
            (json!({"type": "text", "body": ""}), "content.body"),
            (json!({"type": "text", "body": "x".repeat(4097)}), "content.body"),
            (json!({"type": "image"}), "content has either"),
            (
                json!({"type": "image", "id": "1", "link": "https://a.example"}),
                "content has either",
            ),
            (json!({"type": "image", "link": "http://a.example/b"}), "content.link"),
            (json!({"type": "audio", "id": "1", "caption": "c"}), "content has no caption"),
            (json!({"type": "video", "id": "1", "filename": "f"}), "content has no filename"),
            (json!({"type": "location", "latitude": 91.0, "longitude": 0.0}), "content is not on"),
            (buttons(vec![]), "content.buttons"),
            (
                buttons((0..4).map(|n| button(&n.to_string(), &n.to_string())).collect()),
                "content.buttons",
            ),
            (buttons(vec![button("1", &"x".repeat(21))]), "content.buttons.title"),
            (buttons(vec![button(&"x".repeat(257), "t")]), "content.buttons.id"),
            (
                buttons(vec![button("1", "a"), button("1", "b")]),
                "content.buttons.id must be distinct",
            ),
            (list(json!([])), "content.sections"),
            (
                list(json!([{"rows": (0..11).map(row).collect::<Vec<_>>()}])),
                "content.sections.rows",
            ),
            (list(json!([{"rows": [row(1)]}, {"rows": [row(2)]}])), "content.sections.title"),
            (list(json!([{"rows": [row(1), row(1)]}])), "content.sections.rows.id"),
        ] {
            let fault = content(it.clone()).unwrap_err();
            assert!(fault.starts_with(field), "{it}: {fault}");
        }
    }

    #[test]
    fn values_of_templates_have_limits_of_their_own() {
        assert_eq!(
            values(json!({"parameters": ["Ada", {"name": "city", "text": "Lyon"}],
                "header": {"type": "image", "id": "7"},
                "buttons": [{"index": 0, "payload": "stop"}, {"index": 1, "url_suffix": "a?b"}]})),
            Ok(())
        );
        for (it, field) in [
            (json!({"parameters": [""]}), "parameters"),
            (json!({"parameters": ["a\nb"]}), "parameters"),
            (json!({"parameters": ["a     b"]}), "parameters"),
            (json!({"parameters": ["x".repeat(1025)]}), "parameters"),
            (json!({"header": {"type": "text", "text": "x".repeat(61)}}), "header.text"),
            (
                json!({"header": {"type": "image", "id": "7", "caption": "c"}}),
                "header has no caption",
            ),
            (json!({"buttons": [{"index": 10, "payload": "p"}]}), "buttons.index"),
            (json!({"buttons": [{"index": 0, "payload": "x".repeat(129)}]}), "buttons.payload"),
            (
                json!({"buttons": [{"index": 0, "payload": "a"}, {"index": 0, "payload": "b"}]}),
                "buttons.index",
            ),
            (json!({"cards": [{"header": {"type": "image"}}]}), "cards.header"),
        ] {
            let fault = values(it.clone()).unwrap_err();
            assert!(fault.starts_with(field), "{it}: {fault}");
        }
    }
}
