//! The page to read. It loads nothing and runs nothing: a file that is opened where she keeps it.

use askama::Template;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::words::Words;
use super::{Contents, Recipient, Told};
use assent_contracts::rights::{Authority, RequestKind};

#[derive(Template)]
#[template(path = "archive.html")]
struct Page<'a> {
    words: &'static Words,
    title: &'static str,
    contents: &'a Contents,
    prepared: String,
    received: String,
    authorities: &'a [Authority],
    /// Name, whom to turn to, and whether what they hold is in it.
    recipients: Vec<(&'a str, &'a str, &'static str)>,
    sections: Vec<Section>,
}

/// All that is held of one kind, by us or by one recipient outside.
struct Section {
    title: String,
    entries: Vec<Entry>,
}

struct Entry {
    at: String,
    fields: Vec<(String, String)>,
}

/// The page of an archive in one language.
pub fn page(contents: &Contents, words: &'static Words) -> Result<String, askama::Error> {
    let title = match contents.kind {
        RequestKind::Portability => words.portability_title,
        _ => words.access_title,
    };
    let page = Page {
        words,
        title,
        contents,
        prepared: moment(contents.prepared_at),
        received: moment(contents.received_at),
        authorities: &contents.authorities,
        recipients: contents.recipients.iter().map(|it| recipient(it, words)).collect(),
        sections: sections(contents, words),
    };
    page.render()
}

fn recipient<'a>(it: &'a Recipient, words: &Words) -> (&'a str, &'a str, &'static str) {
    let told = match it.answer {
        Told::Included => words.told_included,
        Told::Nothing => words.told_nothing,
        Told::Missing => words.told_missing,
    };
    (it.name.as_str(), it.contact.as_str(), told)
}

/// By kind, in the order in which kinds first come.
fn sections(contents: &Contents, words: &Words) -> Vec<Section> {
    let outside = |held: &super::Held| held.outside.then(|| held.service.clone());
    let mut kinds: Vec<(&str, Option<String>)> = Vec::new();
    for held in &contents.holdings {
        let kind = (held.holding.kind.as_str(), outside(held));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let section = |(kind, by): (&str, Option<String>)| Section {
        title: match &by {
            Some(by) => format!("{by}: {}", words.kind(kind)),
            None => words.kind(kind),
        },
        entries: contents
            .holdings
            .iter()
            .filter(|held| held.holding.kind == kind && outside(held) == by)
            .map(|held| Entry {
                at: held.holding.at.map(moment).unwrap_or_default(),
                fields: fields(&held.holding.data, words),
            })
            .collect(),
    };
    kinds.into_iter().map(section).collect()
}

/// What can be read; documents within stand in the JSON alone.
fn fields(data: &Map<String, Value>, words: &Words) -> Vec<(String, String)> {
    let readable =
        data.iter().filter_map(|(name, value)| Some((words.field(name), text(value, words)?)));
    readable.collect()
}

fn text(value: &Value, words: &Words) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some(words.yes.to_owned()),
        Value::Bool(false) => Some(words.no.to_owned()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(|item| text(item, words)).collect();
            (!items.is_empty()).then(|| items.join(", "))
        }
        Value::Object(_) | Value::Null => None,
    }
}

fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}
