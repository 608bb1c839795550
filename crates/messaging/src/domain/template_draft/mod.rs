//! A template to be, within the rules by which the provider takes one up. It guarantees that what passes
//! here is of a form that it takes; whether it likes the words is its reviewers' to say. It does no input or output.

use serde::Deserialize;
use utoipa::ToSchema;

use super::content::{Fault, Parameter};
use super::template::places;
use codes::CodeDraft;
use rules::{body, buttons, chars, header};

pub mod codes;
mod rules;
#[cfg(test)]
mod tests;

/// Longest body, in characters; of a card's.
const BODY_CHARS_MAX: usize = 1024;
const CARD_CHARS_MAX: usize = 160;
/// Longest footer, in characters.
const EDGE_CHARS_MAX: usize = 60;
/// Most cards.
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
    /// What it says; none only beside `code`.
    #[serde(default)]
    pub body: Option<DraftText>,
    /// A one-time code, in category `AUTHENTICATION`: instead of all else.
    #[serde(default)]
    pub code: Option<CodeDraft>,
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

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DraftCategory {
    /// Offers and news.
    Marketing,
    /// About something that she asked for.
    Utility,
    /// A one-time code.
    Authentication,
}

impl DraftCategory {
    /// The provider's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Marketing => "MARKETING",
            Self::Utility => "UTILITY",
            Self::Authentication => "AUTHENTICATION",
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
        header.into_iter().chain(&self.body).chain(self.cards.iter().map(|card| &card.body))
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
            DraftCategory::Authentication => 30..=900,
        };
        if self.ttl_seconds.is_some_and(|it| !ttl.contains(&it)) {
            let (least, most) = (ttl.start(), ttl.end());
            return Err(format!("ttl_seconds: {least} to {most} in this category"));
        }
        match (&self.code, self.category == DraftCategory::Authentication) {
            (Some(code), true) => return self.alone().and_then(|()| code.check()),
            (None, false) => {}
            _ => return Err("code: in category AUTHENTICATION, and only there".to_owned()),
        }
        let named = self.named();
        self.header.as_ref().map_or(Ok(()), |it| header(it, named))?;
        let text = self.body.as_ref().ok_or_else(|| "body: it is needed".to_owned())?;
        body("body", text, named, BODY_CHARS_MAX)?;
        if let Some(footer) = &self.footer {
            chars("footer", footer, EDGE_CHARS_MAX)?;
            if !places(footer).is_empty() {
                return Err("footer: it has no places".to_owned());
            }
        }
        buttons("buttons", &self.buttons)?;
        self.cards()
    }

    /// The words around a code are the provider's own.
    fn alone(&self) -> Result<(), Fault> {
        let texts = self.header.is_some() || self.body.is_some() || self.footer.is_some();
        if texts || !self.buttons.is_empty() || !self.cards.is_empty() {
            return Err("code: nothing stands beside it".to_owned());
        }
        Ok(())
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
