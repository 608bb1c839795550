//! The pages as templates, and how what the services say turns into what people read.

use askama::Template;
use assent_contracts::consent::{NoticeText, PurposeDefined};
use assent_contracts::policy::Notice;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::language::Language;
use crate::rights_words::RightsWords;
use crate::words::{Words, item_names};

/// What every page has.
pub struct Page<'a> {
    /// Its title, and first heading.
    pub title: String,
    /// Its language.
    pub language: Language,
    /// Its words.
    pub words: &'static Words,
    /// Whether it is offered in other languages.
    pub switchable: bool,
    /// In whose name.
    pub controller: &'a str,
    /// The business number, digits only.
    pub number: &'a str,
}

impl Page<'_> {
    fn languages(&self) -> &'static [Language; 3] {
        &Language::ALL
    }
}

/// A purpose as people read it.
#[derive(Clone)]
pub struct PurposeView {
    /// Its stable name.
    pub name: String,
    /// What it is called.
    pub title: String,
    /// On which channels.
    pub channels: Vec<String>,
    /// What people are told.
    pub notice: NoticeView,
}

/// A notice as people read it.
#[derive(Clone)]
pub struct NoticeView {
    /// Its language.
    pub language: String,
    /// Its hash.
    pub hash: String,
    /// What they agree to.
    pub text: String,
    /// What else they are told, by its name in the language of the page.
    pub items: Vec<(&'static str, String)>,
}

impl PurposeView {
    /// The purpose in this language, or in the purpose's first one.
    #[must_use]
    pub fn new(defined: &PurposeDefined, language: Language, words: &Words) -> Self {
        let spoken = |tag: &&String| Language::of_tag(tag) == Some(language);
        let tag = defined.notices.keys().find(spoken).unwrap_or(&defined.notice_locale);
        let known = defined.notices.get(tag);
        let NoticeText { hash, notice } = known.cloned().unwrap_or_else(|| first(defined));
        Self::showing(defined, tag, hash, &notice, words)
    }

    /// The purpose with the notice that has this hash; none where it has none such.
    #[must_use]
    pub fn of_notice(defined: &PurposeDefined, hash: &str, words: &Words) -> Option<Self> {
        if let Some((tag, text)) = defined.notices.iter().find(|(_, text)| text.hash == hash) {
            return Some(Self::showing(defined, tag, text.hash.clone(), &text.notice, words));
        }
        let NoticeText { hash: own, notice } = first(defined);
        (own == hash).then(|| Self::showing(defined, &defined.notice_locale, own, &notice, words))
    }

    fn showing(
        defined: &PurposeDefined,
        tag: &str,
        hash: String,
        notice: &Notice,
        words: &Words,
    ) -> Self {
        let title = notice.title.clone().unwrap_or_else(|| readable(&defined.purpose));
        let items = item_names(words).into_iter().zip(items(notice));
        let items = items.filter_map(|(name, item)| Some((name, item?.clone()))).collect();
        let (language, text) = (tag.to_owned(), notice.text.clone());
        Self {
            name: defined.purpose.clone(),
            title,
            channels: defined.channels.clone(),
            notice: NoticeView { language, hash, text, items },
        }
    }
}

/// The notice in the purpose's first language, as events from before there were several have it.
fn first(defined: &PurposeDefined) -> NoticeText {
    let text = defined.notice_text.clone();
    NoticeText { hash: defined.notice_hash.clone(), notice: Notice { text, ..Notice::default() } }
}

/// The items of a notice in the order of their names in [`Words`].
fn items(notice: &Notice) -> [Option<&String>; 9] {
    let Notice {
        categories,
        complaint,
        profiling,
        recipients,
        retention,
        rights,
        source,
        transfers,
        withdrawal,
        ..
    } = notice;
    [categories, complaint, profiling, recipients, retention, rights, source, transfers, withdrawal]
        .map(Option::as_ref)
}

/// A name as a title: `order_updates` is "Order updates".
fn readable(name: &str) -> String {
    let spaced = name.replace('_', " ");
    let mut letters = spaced.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A day as everybody reads it.
#[must_use]
pub fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().to_string()
}

/// A moment as everybody reads it.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// The preference page of whoever has the link.
#[derive(Template)]
#[template(path = "preferences.html")]
pub struct Preferences<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// The link.
    pub token: &'a str,
    /// What can be stopped on its own.
    pub purposes: Vec<PurposeView>,
    /// Whether the link leads to more than opting out.
    pub more: bool,
    /// What else is found there.
    pub rights: &'static str,
}

/// Asks for a message from the person's number.
#[derive(Template)]
#[template(path = "prove.html")]
pub struct Prove<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// The link.
    pub token: &'a str,
    /// The code.
    pub code: String,
    /// What to send.
    pub sentence: String,
    /// It was looked for, and hasn't come.
    pub not_yet: bool,
}

/// What holds for a person, and what she may change.
#[derive(Template)]
#[template(path = "settings.html")]
pub struct Settings<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// One per purpose and channel.
    pub lines: Vec<SettingsLine>,
    /// Newest first.
    pub receipts: Vec<ReceiptLine>,
    /// What leads to her rights.
    pub rights: &'static str,
    /// Something was just changed.
    pub saved: bool,
}

/// What holds for one purpose on one channel.
pub struct SettingsLine {
    /// The purpose.
    pub purpose: PurposeView,
    /// The channel.
    pub channel: String,
    /// What holds, in words.
    pub state: String,
}

/// A receipt that can be taken.
pub struct ReceiptLine {
    /// The event that it is of.
    pub id: uuid::Uuid,
    /// When.
    pub at: Timestamp,
    /// The same, as people read it.
    pub day: String,
    /// About what.
    pub what: String,
}

/// What can be agreed to.
#[derive(Template)]
#[template(path = "joins.html")]
pub struct Joins<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// The purposes.
    pub purposes: Vec<PurposeView>,
}

/// A notice, and how to agree.
#[derive(Template)]
#[template(path = "join.html")]
pub struct Join<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// The purpose.
    pub purpose: PurposeView,
    /// What she sends.
    pub sentence: String,
}

/// Asks to confirm a yes.
#[derive(Template)]
#[template(path = "confirm.html")]
pub struct Confirm<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// The link.
    pub token: &'a str,
    /// What she would agree to.
    pub purpose: PurposeView,
}

/// Where one asks for a request.
#[derive(Template)]
#[template(path = "requests.html")]
pub struct Requests<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// Whether what was typed is none.
    pub unknown: bool,
}

/// Where a request stands. No `Debug`: it holds its secret.
#[derive(Template)]
#[template(path = "request.html")]
pub struct Request<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// Its reference.
    pub reference: String,
    /// Its secret, for the next button.
    pub secret: &'a str,
    /// What is asked for.
    pub kind: &'static str,
    /// The one purpose whose data are meant; empty: all.
    pub purpose: String,
    /// When it was received.
    pub received: String,
    /// By when it is answered.
    pub due: String,
    /// Where it stands.
    pub state: String,
    /// Whether it is not over.
    pub open: bool,
    /// Why it takes longer, or is refused.
    pub letters: Vec<String>,
    /// What is said of the data that it is answered with.
    pub archive: Option<String>,
    /// Whether they can be taken.
    pub ready: bool,
    /// Whether her erasure's certificate can be taken.
    pub certificate: bool,
}

/// What she can ask for, and has asked for. No `Debug`: it holds secrets.
#[derive(Template)]
#[template(path = "rights.html")]
pub struct Rights<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// Its own words.
    pub says: &'static RightsWords,
    /// What she has asked for, oldest first.
    pub asked: Vec<AskedLine>,
    /// What she can ask for.
    pub rights: Vec<Right>,
}

/// A request that she made. No `Debug`: it holds its secret.
pub struct AskedLine {
    /// What was asked for.
    pub kind: &'static str,
    /// When it was received.
    pub received: String,
    /// Its reference.
    pub reference: String,
    /// Its secret, where she was not given it.
    pub secret: Option<String>,
}

/// A right.
pub struct Right {
    /// Its stable name.
    pub kind: &'static str,
    /// Its name in her language.
    pub title: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// By when she is answered.
    pub due: String,
    /// Whether it destroys.
    pub erases: bool,
}

/// What she is given when she has asked. No `Debug`: it holds the secret.
#[derive(Template)]
#[template(path = "asked.html")]
pub struct Asked<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// Its own words.
    pub says: &'static RightsWords,
    /// What was asked for.
    pub kind: &'static str,
    /// By when it is answered.
    pub due: String,
    /// Its reference.
    pub reference: String,
    /// Its secret; none: it can't be said again.
    pub secret: Option<String>,
    /// Where she looks.
    pub address: String,
    /// Whether it destroys.
    pub erases: bool,
}

/// One thing to say.
#[derive(Template)]
#[template(path = "message.html")]
pub struct Message<'a> {
    /// What every page has.
    pub page: Page<'a>,
    /// What.
    pub text: &'a str,
}

/// The page as an answer.
pub fn answer(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => assent_http::Problem::internal(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_title_can_be_read() {
        assert_eq!(readable("order_updates"), "Order updates");
        assert_eq!(readable(""), "");
    }
}
