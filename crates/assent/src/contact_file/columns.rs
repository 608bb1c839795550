//! Which column holds what: by the operator's word, by the header, else by content. It guarantees
//! that of several numbers the mobile one comes first and that fax machines are left out.

use std::str::FromStr;

use super::headers::{self, Kind, normalise};
use super::{BadRow, Cell, ClaimCells, Contact, FileError, Place, Reason, Row, country};

/// Columns that the operator named: `phone=Handy`, `phone=3`.
#[derive(Debug, Clone, Default)]
pub struct ColumnMap {
    entries: Vec<(Field, String)>,
}

/// A `--map` that can't be understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected FIELD=COLUMN with FIELD one of phone, name, email, country, evidence, agreed-at and COLUMN a name or a number from 1"
)]
pub struct InvalidMapping;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Phone,
    Name,
    Email,
    Country,
    Evidence,
    AgreedAt,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Name => "name",
            Self::Email => "email",
            Self::Country => "country",
            Self::Evidence => "evidence",
            Self::AgreedAt => "agreed-at",
        }
    }
}

impl FromStr for ColumnMap {
    type Err = InvalidMapping;

    fn from_str(text: &str) -> Result<Self, InvalidMapping> {
        let (field, column) = text.split_once('=').ok_or(InvalidMapping)?;
        let field = match field.trim().to_ascii_lowercase().as_str() {
            "phone" => Field::Phone,
            "name" => Field::Name,
            "email" => Field::Email,
            "country" => Field::Country,
            "evidence" => Field::Evidence,
            "agreed-at" => Field::AgreedAt,
            _ => return Err(InvalidMapping),
        };
        if column.trim().is_empty() || column.trim() == "0" {
            return Err(InvalidMapping);
        }
        Ok(Self { entries: vec![(field, column.trim().to_owned())] })
    }
}

impl ColumnMap {
    /// All of `maps` in one.
    #[must_use]
    pub fn all(maps: Vec<Self>) -> Self {
        Self { entries: maps.into_iter().flat_map(|map| map.entries).collect() }
    }

    /// Whether a column was named that holds evidence of consents.
    #[must_use]
    pub fn names_evidence(&self) -> bool {
        self.names(Field::Evidence)
    }

    fn names(&self, field: Field) -> bool {
        self.entries.iter().any(|(mapped, _)| *mapped == field)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PhoneColumn {
    index: usize,
    mobile: bool,
    /// The column that says what kind of number this one is.
    label: Option<usize>,
}

/// The columns of one file (or, with JSON lines, of one row), by index from 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    phones: Vec<PhoneColumn>,
    full_names: Vec<usize>,
    given: Option<usize>,
    middle: Option<usize>,
    family: Option<usize>,
    emails: Vec<usize>,
    countries: Vec<usize>,
    evidence: Vec<usize>,
    agreed_at: Vec<usize>,
}

impl Columns {
    /// Reads the header's names, the operator's word first.
    pub(super) fn from_names(names: &[&str], map: &ColumnMap) -> Self {
        let mut columns = Self::default();
        let mut labels = Vec::new();
        let mut family_named_name = None;
        for (index, name) in names.iter().enumerate() {
            match headers::kind(name) {
                Some(Kind::Phone { mobile }) => {
                    columns.phones.push(PhoneColumn { index, mobile, label: None });
                }
                Some(Kind::PhoneLabel) => labels.push(index),
                Some(Kind::Email) => columns.emails.push(index),
                Some(Kind::Country) => columns.countries.push(index),
                Some(Kind::FullName) => {
                    if normalise(name) == "name" {
                        family_named_name = Some(index);
                    }
                    columns.full_names.push(index);
                }
                Some(Kind::GivenName) => columns.given = columns.given.or(Some(index)),
                Some(Kind::MiddleName) => columns.middle = columns.middle.or(Some(index)),
                Some(Kind::FamilyName) => columns.family = columns.family.or(Some(index)),
                None => {}
            }
        }
        // German exports: `Name` beside `Vorname` is the family name.
        if let (Some(given), Some(name), None) = (columns.given, family_named_name, columns.family)
            && normalise(names[given]) == "vorname"
        {
            columns.family = Some(name);
            columns.full_names.retain(|index| *index != name);
        }
        for phone in &mut columns.phones {
            let stem = label_stem(names[phone.index]);
            phone.label = labels.iter().copied().find(|label| label_stem(names[*label]) == stem);
        }
        columns.apply(map, names);
        columns
    }

    fn apply(&mut self, map: &ColumnMap, names: &[&str]) {
        let mapped = |field| {
            map.entries
                .iter()
                .filter(move |(mapped, _)| *mapped == field)
                .filter_map(|(_, column)| find(column, names))
                .collect::<Vec<_>>()
        };
        if map.names(Field::Phone) {
            self.phones = mapped(Field::Phone)
                .into_iter()
                .map(|index| PhoneColumn { index, mobile: false, label: None })
                .collect();
        }
        if map.names(Field::Name) {
            self.full_names = mapped(Field::Name);
            (self.given, self.middle, self.family) = (None, None, None);
        }
        if map.names(Field::Email) {
            self.emails = mapped(Field::Email);
        }
        if map.names(Field::Country) {
            self.countries = mapped(Field::Country);
        }
        // Never guessed: a column is evidence because somebody says so.
        self.evidence = mapped(Field::Evidence);
        self.agreed_at = mapped(Field::AgreedAt);
    }

    /// Says so when the operator named a column that isn't there.
    pub(super) fn check_map(map: &ColumnMap, names: &[&str]) -> Result<(), FileError> {
        match map.entries.iter().find(|(_, column)| find(column, names).is_none()) {
            None => Ok(()),
            Some((field, column)) => Err(FileError::NoSuchColumn {
                field: field.name(),
                column: column.clone(),
                columns: names.len(),
            }),
        }
    }

    /// Where no name says it: the column in which most of the sample looks like phone numbers.
    pub(super) fn guess_phone(&mut self, sample: &[Vec<String>]) {
        let width = sample.iter().map(Vec::len).max().unwrap_or(0);
        let likely = (0..width)
            .map(|index| {
                let cells = sample.iter().filter_map(|row| row.get(index));
                (cells.filter(|cell| looks_like_phone(cell)).count(), index)
            })
            .filter(|(count, _)| *count > 0)
            .max_by_key(|(count, index)| (*count, usize::MAX - index));
        if let Some((_, index)) = likely {
            self.phones = vec![PhoneColumn { index, mobile: false, label: None }];
        }
    }

    pub(super) fn has_phone(&self) -> bool {
        !self.phones.is_empty()
    }

    /// The contact that a row of cells holds.
    pub(super) fn row(&self, cells: &[&str], line: u64, raw: String) -> Row {
        let cell = |index: usize| -> Option<Cell> {
            let text = clean(cells.get(index)?);
            let place = Place { line, column: index as u64 + 1 };
            (!text.is_empty()).then(|| Cell { text: text.to_owned(), place })
        };
        let bad = |column: usize, reason, raw| {
            Row::Bad(BadRow { place: Place { line, column: column as u64 + 1 }, reason, raw })
        };

        let mut phones: Vec<(bool, Cell)> = Vec::new();
        let mut scientific = None;
        for column in &self.phones {
            let Some(Cell { text, place }) = cell(column.index) else { continue };
            let label = column.label.and_then(cell).map(|label| label.text);
            // Google joins several numbers of one label, and their labels stay one.
            if label.as_deref().is_some_and(headers::is_machine_label) {
                continue;
            }
            let mobile = column.mobile || label.as_deref().is_some_and(headers::is_mobile_label);
            for number in text.split(":::").map(str::trim).filter(|number| !number.is_empty()) {
                if is_scientific(number) {
                    scientific = scientific.or(Some(column.index));
                } else {
                    phones.push((mobile, Cell { text: number.to_owned(), place }));
                }
            }
        }
        phones.sort_by_key(|(mobile, _)| !mobile);
        let phones: Vec<Cell> = phones.into_iter().map(|(_, phone)| phone).collect();
        let Some(first) = phones.first() else {
            return match scientific {
                Some(column) => bad(column, Reason::PhoneScientific, raw),
                None => {
                    let column = self.phones.first().map_or(0, |phone| phone.index);
                    bad(column, Reason::PhoneMissing, raw)
                }
            };
        };

        let mut country = None;
        if let Some(Cell { text, place }) = self.countries.iter().copied().find_map(cell) {
            match country::code(&text) {
                Some(code) => country = Some(Cell { text: code, place }),
                None if is_international(&first.text) => {}
                None => {
                    return bad(place.column as usize - 1, Reason::CountryUnknown, raw);
                }
            }
        }
        let name = self.full_names.iter().copied().find_map(cell).or_else(|| {
            let parts: Vec<Cell> = [self.given, self.middle, self.family]
                .into_iter()
                .flatten()
                .filter_map(cell)
                .collect();
            let place = parts.first()?.place;
            let words: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
            Some(Cell { text: words.join(" "), place })
        });
        let email = self.emails.iter().copied().find_map(cell).map(|Cell { text, place }| Cell {
            text: text.split(":::").next().unwrap_or_default().trim().to_owned(),
            place,
        });
        let claim = self.evidence.iter().copied().find_map(cell).map(|evidence| {
            let agreed_at = self.agreed_at.iter().copied().find_map(cell);
            Box::new(ClaimCells { evidence, agreed_at })
        });
        Row::Contact(Contact {
            place: Place { line, column: 1 },
            phones,
            country,
            name,
            email,
            claim,
            raw,
        })
    }
}

/// A column by number from 1, else by name.
fn find(column: &str, names: &[&str]) -> Option<usize> {
    match column.parse::<usize>() {
        Ok(number) if (1..=names.len()).contains(&number) => Some(number - 1),
        _ => names.iter().position(|name| normalise(name) == normalise(column)),
    }
}

/// `Phone 1 - Value` and `Phone 1 - Type` share the stem `phone 1`.
fn label_stem(name: &str) -> String {
    let name = normalise(name);
    match name.rsplit_once(' ') {
        Some((
            stem,
            "type" | "label" | "value" | "typ" | "тип" | "wert" | "valeur" | "значение",
        )) => stem.to_owned(),
        _ => name,
    }
}

/// The cell without what spreadsheets put around it: `="+33…"`, a leading apostrophe.
fn clean(cell: &str) -> &str {
    let cell = cell.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\u{200e}');
    let cell =
        cell.strip_prefix("=\"").and_then(|formula| formula.strip_suffix('"')).unwrap_or(cell);
    cell.strip_prefix('\'').unwrap_or(cell).trim()
}

/// Whether a number names its country itself.
pub(super) fn is_international(phone: &str) -> bool {
    let phone = phone.strip_prefix("tel:").unwrap_or(phone);
    phone.trim_start_matches(['(', ' ', '\u{202a}', '\u{a0}']).starts_with(['+', '＋'])
}

/// `3.36399E+10`, as a spreadsheet writes a number of which it has lost the end.
pub(super) fn is_scientific(phone: &str) -> bool {
    let Some((mantissa, exponent)) = phone.split_once(['E', 'e']) else { return false };
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(exponent) && digits(&mantissa.replacen(['.', ','], "", 1))
}

/// Whether a text could be a phone number: enough digits, nothing but what one writes around
/// them, and no date.
pub(super) fn looks_like_phone(text: &str) -> bool {
    let text = clean(text);
    let text = text.strip_prefix("tel:").unwrap_or(text);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let around = |c: char| {
        c.is_ascii_digit()
            || c.is_whitespace()
            || "+()-./\u{2010}\u{2011}\u{2013}\u{202a}\u{202c}".contains(c)
    };
    (7..=16).contains(&digits) && text.chars().all(around) && !looks_like_date(text)
}

fn looks_like_date(text: &str) -> bool {
    let day = text.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split(['-', '.', '/']).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    parts.len() == 3
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
        && (lengths == [4, 2, 2] || lengths == [2, 2, 4])
}
