//! The provider's rules for the parts of a template: texts, places with their examples, headers, buttons.

use std::collections::BTreeSet;

use super::{DraftButton, DraftHeader, DraftText};
use crate::domain::content::Fault;
use crate::domain::template::places;

/// Longest header, in characters.
const EDGE_CHARS_MAX: usize = 60;
/// Longest text on a button, and longest address behind it, in characters.
const BUTTON_CHARS_MAX: usize = 25;
const URL_CHARS_MAX: usize = 2000;
/// Most buttons of a template.
const TEN: usize = 10;

pub(super) fn chars(field: &str, text: &str, most: usize) -> Result<(), Fault> {
    if text.trim().is_empty() || text.chars().count() > most {
        return Err(format!("{field}: 1 to {most} characters"));
    }
    Ok(())
}

pub(super) fn header(header: &DraftHeader, named: bool) -> Result<(), Fault> {
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

pub(super) fn body(field: &str, body: &DraftText, named: bool, most: usize) -> Result<(), Fault> {
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

pub(super) fn buttons(field: &str, buttons: &[DraftButton]) -> Result<(), Fault> {
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

/// The text on a button that may keep the provider's words.
pub(super) fn button_text(field: &str, text: Option<&str>) -> Result<(), Fault> {
    text.map_or(Ok(()), |text| chars(field, text, BUTTON_CHARS_MAX))
}
