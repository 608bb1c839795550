//! vCards of versions 2.1, 3.0 and 4.0, one at a time. It finds where each begins and ends, leaves
//! pictures and sounds out while reading, and lets `calcard` parse what remains.

use calcard::vcard::{
    VCard, VCardEntry, VCardParameterName, VCardParameterValue, VCardProperty, VCardType,
    VCardValue,
};

use super::headers;
use super::text::{Line, Text};
use super::{
    BadRow, Cell, Contact, FileError, Place, RECORD_BYTES_MAX, Reason, Row,
    starts_with_ignoring_case,
};

pub(super) struct VCards {
    text: Text,
    keep_raw: bool,
    line: String,
    card: String,
    /// The line of each `TEL` of the card.
    phone_lines: Vec<u64>,
    /// The line of a `BEGIN` that was met where an `END` should have been.
    begun: Option<u64>,
}

impl VCards {
    pub(super) fn new(text: Text, keep_raw: bool) -> Self {
        let (line, card) = (String::new(), String::new());
        Self { text, keep_raw, line, card, phone_lines: Vec::new(), begun: None }
    }

    pub(super) fn next_row(&mut self) -> Result<Option<Row>, FileError> {
        let begin = match self.begun.take() {
            Some(line) => line,
            None => match self.find_begin()? {
                Begin::Card(line) => line,
                Begin::Junk(row) => return Ok(Some(row)),
                Begin::End => return Ok(None),
            },
        };
        self.card.clear();
        self.card.push_str("BEGIN:VCARD\n");
        self.phone_lines.clear();
        let end = self.read_card()?;
        let place = Place { line: begin, column: 1 };
        let raw = if self.keep_raw { self.card.clone() } else { String::new() };
        let bad = |place, reason, raw| Ok(Some(Row::Bad(BadRow { place, reason, raw })));
        match end {
            CardEnd::Whole => {}
            CardEnd::TooLong => return bad(place, Reason::RecordTooLong, raw),
            CardEnd::Missing => return bad(place, Reason::VcardUnterminated, raw),
        }
        if self.text.undecodable() && self.card.contains('\u{fffd}') {
            return bad(place, Reason::EncodingInvalid, raw);
        }
        match VCard::parse(&self.card) {
            Ok(card) => Ok(Some(contact(&card, place, &self.phone_lines, raw))),
            Err(_) => bad(place, Reason::VcardUnterminated, raw),
        }
    }

    fn find_begin(&mut self) -> Result<Begin, FileError> {
        let mut junk = None;
        loop {
            let line = self.text.line();
            match self.text.read_line(&mut self.line)? {
                Line::End => {
                    return Ok(junk.map_or(Begin::End, Begin::Junk));
                }
                Line::Whole | Line::Cut => {}
            }
            if is_begin(&self.line) {
                return Ok(match junk {
                    None => Begin::Card(line),
                    Some(row) => {
                        self.begun = Some(line);
                        Begin::Junk(row)
                    }
                });
            }
            if !self.line.trim().is_empty() && junk.is_none() {
                let raw = if self.keep_raw { self.line.clone() } else { String::new() };
                let place = Place { line, column: 1 };
                junk = Some(Row::Bad(BadRow { place, reason: Reason::VcardExpected, raw }));
            }
        }
    }

    /// Reads up to `END:VCARD`, without the pictures.
    fn read_card(&mut self) -> Result<CardEnd, FileError> {
        let mut skipping = Skip::No;
        let mut too_long = false;
        loop {
            let line_number = self.text.line();
            let read = self.text.read_line(&mut self.line)?;
            let line = self.line.as_str();
            if read == Line::End {
                return Ok(CardEnd::Missing);
            }
            if is_begin(line) {
                // The card before it never ended; this one is the next row.
                self.begun = Some(line_number);
                return Ok(CardEnd::Missing);
            }
            if starts_with_ignoring_case(line.trim_start(), "END:VCARD") {
                self.card.push_str("END:VCARD\n");
                return Ok(if too_long { CardEnd::TooLong } else { CardEnd::Whole });
            }
            let continues = line.starts_with([' ', '\t']);
            skipping = match skipping {
                Skip::Folded if continues => continue,
                Skip::Base64 if !line.contains(':') => {
                    if line.trim().is_empty() {
                        skipping = Skip::No;
                    }
                    continue;
                }
                _ => media(line, continues),
            };
            if !matches!(skipping, Skip::No) || read == Line::Cut {
                continue;
            }
            if self.card.len() + line.len() > RECORD_BYTES_MAX {
                too_long = true;
                continue;
            }
            if !continues && property_name(line).eq_ignore_ascii_case("TEL") {
                self.phone_lines.push(line_number);
            }
            self.card.push_str(line);
            self.card.push('\n');
        }
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.text.memory_bytes() + self.line.capacity() + self.card.capacity()
    }
}

enum Begin {
    Card(u64),
    Junk(Row),
    End,
}

enum CardEnd {
    Whole,
    TooLong,
    Missing,
}

/// Whether the lines that follow belong to a picture or a sound.
enum Skip {
    No,
    /// Up to the first line that isn't folded (3.0, 4.0).
    Folded,
    /// Base64 as 2.1 writes it: up to an empty line or the next property.
    Base64,
}

fn media(line: &str, continues: bool) -> Skip {
    let media = ["PHOTO", "LOGO", "SOUND", "KEY"];
    if continues || !media.iter().any(|name| property_name(line).eq_ignore_ascii_case(name)) {
        return Skip::No;
    }
    let parameters = line.split(':').next().unwrap_or_default().to_ascii_uppercase();
    if parameters.contains("BASE64") { Skip::Base64 } else { Skip::Folded }
}

fn is_begin(line: &str) -> bool {
    starts_with_ignoring_case(line.trim_start_matches(['\u{feff}', ' ']), "BEGIN:VCARD")
}

/// `TEL` in `item1.TEL;type=CELL:…`.
fn property_name(line: &str) -> &str {
    let name = line.split([':', ';']).next().unwrap_or_default();
    name.rsplit('.').next().unwrap_or_default()
}

fn contact(card: &VCard, place: Place, phone_lines: &[u64], raw: String) -> Row {
    let properties = |name: &VCardProperty| {
        let name = name.clone();
        card.entries.iter().filter(move |entry| entry.name == name)
    };
    let mut phones: Vec<(u8, Cell)> = Vec::new();
    for (nth, entry) in properties(&VCardProperty::Tel).enumerate() {
        let Some(text) = text_of(entry) else { continue };
        let number = number_of(&text);
        let line = phone_lines.get(nth).copied().unwrap_or(place.line);
        if let (false, Some(rank)) = (number.is_empty(), rank(card, entry)) {
            let place = Place { line, column: 1 };
            phones.push((rank, Cell { text: number.to_owned(), place }));
        }
    }
    phones.sort_by_key(|(rank, _)| *rank);
    if phones.is_empty() {
        return Row::Bad(BadRow { place, reason: Reason::PhoneMissing, raw });
    }
    let first = |name: &VCardProperty| {
        properties(name).find_map(text_of).filter(|text| !text.trim().is_empty())
    };
    let cell = |text: String| Cell { text: text.trim().to_owned(), place };
    let name = first(&VCardProperty::Fn)
        .or_else(|| properties(&VCardProperty::N).find_map(structured_name))
        .map(cell);
    Row::Contact(Contact {
        claim: None,
        place,
        phones: phones.into_iter().map(|(_, phone)| phone).collect(),
        // An address says where somebody lives, not from where her number is dialled.
        country: None,
        name,
        email: first(&VCardProperty::Email).map(cell),
        raw,
    })
}

/// The number in `tel:+33-6-39-98-00-01;ext=12` (RFC 3966) or as it stands.
fn number_of(value: &str) -> &str {
    let value = value.trim();
    match value.get(..4) {
        Some(scheme) if scheme.eq_ignore_ascii_case("tel:") => {
            value[4..].split(';').next().unwrap_or_default()
        }
        _ => value,
    }
}

/// The order among a person's numbers: a mobile one, then others; none for machines.
fn rank(card: &VCard, entry: &VCardEntry) -> Option<u8> {
    let mut mobile = false;
    for parameter in &entry.params {
        match (&parameter.name, &parameter.value) {
            (VCardParameterName::Type, VCardParameterValue::Type(VCardType::Cell)) => mobile = true,
            (
                VCardParameterName::Type,
                VCardParameterValue::Type(VCardType::Fax | VCardType::Pager),
            ) => return None,
            (VCardParameterName::Type, VCardParameterValue::Text(label)) => {
                mobile |= headers::is_mobile_label(label);
            }
            _ => {}
        }
    }
    // iPhones put the label on a line of the same group: `item1.X-ABLabel:iPhone`.
    let label = entry.group.as_ref().and_then(|group| {
        card.entries
            .iter()
            .filter(|other| other.group.as_ref() == Some(group))
            .find(|other| {
                matches!(&other.name, VCardProperty::Other(name) if name.eq_ignore_ascii_case("X-ABLabel"))
            })
            .and_then(text_of)
    });
    if let Some(label) = label {
        if headers::is_machine_label(&label) {
            return None;
        }
        mobile |= headers::is_mobile_label(&label);
    }
    Some(if mobile { 0 } else { 1 })
}

fn text_of(entry: &VCardEntry) -> Option<String> {
    entry.values.iter().find_map(|value| match value {
        VCardValue::Text(text) => Some(repaired(text)),
        _ => None,
    })
}

/// Given, middle and family name of `N:family;given;middle;prefix;suffix`.
fn structured_name(entry: &VCardEntry) -> Option<String> {
    let part = |index: usize| match entry.values.get(index) {
        Some(VCardValue::Text(text)) => repaired(text),
        Some(VCardValue::Component(parts)) => repaired(&parts.join(" ")),
        _ => String::new(),
    };
    let words = [part(1), part(2), part(0)];
    let words: Vec<&str> =
        words.iter().map(|word| word.trim()).filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Quoted-printable without a charset is read as Latin-1, as version 2.1 says; phones write UTF-8
/// there all the same, and that shows in the bytes.
fn repaired(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let (bytes, _, unmappable) = encoding_rs::WINDOWS_1252.encode(text);
    match std::str::from_utf8(&bytes) {
        Ok(utf8) if !unmappable => utf8.to_owned(),
        _ => text.to_owned(),
    }
}
