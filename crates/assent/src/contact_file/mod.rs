//! Reads contact files as phones, spreadsheets and CRMs write them: delimited text, vCard 2.1,
//! 3.0 and 4.0, JSON lines, in any of the encodings they come in. It guarantees flat memory
//! whatever the file's size, and that a bad row is reported and never stops the good ones; whether
//! a phone number is one, and whose, is for the vault to say.

use std::io::{self, Read};

mod annotate;
mod columns;
mod country;
mod delimited;
mod headers;
mod json_lines;
mod text;
mod vcard;

pub use annotate::Annotator;
pub use columns::{ColumnMap, InvalidMapping};

use delimited::Delimited;
use json_lines::JsonLines;
use text::Text;
use vcard::VCards;

/// The most characters that one record may have (bytes of UTF-8); a longer one is a bad row. It
/// bounds the reader's memory, above all where a quote is opened and never closed.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// How a file is to be read.
#[derive(Default)]
pub struct Options {
    /// Columns named by the operator; they win over what the header says.
    pub map: ColumnMap,
    /// The encoding, where the operator knows better than the detection.
    pub encoding: Option<&'static encoding_rs::Encoding>,
    /// Whether rows carry a copy of their source text, for a file of rejects.
    pub keep_raw: bool,
}

/// Where something stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Physical line, from 1.
    pub line: u64,
    /// Field number from 1 in delimited files and JSON lines; character position in JSON that
    /// can't be read; 1 in vCards.
    pub column: u64,
}

/// A text with its place. No `Debug`: it holds plaintext.
#[derive(Clone, PartialEq, Eq)]
pub struct Cell {
    /// The text, trimmed.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

/// One person of the file. No `Debug`: it holds plaintext.
pub struct Contact {
    /// Where the record begins.
    pub place: Place,
    /// Her phone numbers as written, at least one, mobile ones first.
    pub phones: Vec<Cell>,
    /// Country code (ISO 3166-1 alpha-2, upper case) of the row's own country column.
    pub country: Option<Cell>,
    /// Full name.
    pub name: Option<Cell>,
    /// E-mail address.
    pub email: Option<Cell>,
    /// That she agreed, where the operator named a column that shows it.
    pub claim: Option<Box<ClaimCells>>,
    /// The record's source text, if asked for.
    pub raw: String,
}

/// That somebody agreed. No `Debug`: it holds plaintext.
pub struct ClaimCells {
    /// What shows it.
    pub evidence: Cell,
    /// When she did.
    pub agreed_at: Option<Cell>,
}

/// A row that is no contact. No `Debug`: it may hold plaintext.
pub struct BadRow {
    /// Where.
    pub place: Place,
    /// Why.
    pub reason: Reason,
    /// The row's source text, if asked for.
    pub raw: String,
}

/// One row of the file.
pub enum Row {
    /// A contact.
    Contact(Contact),
    /// A row that can't be one.
    Bad(BadRow),
}

/// Why a row can't be read: stable codes, documented in the guide to `assent import`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No phone number in any phone column.
    PhoneMissing,
    /// A spreadsheet turned the number into `3.36399E+10`: its last digits are lost.
    PhoneScientific,
    /// The country column names no country we know.
    CountryUnknown,
    /// More fields than the header: a delimiter inside an unquoted field, as a rule.
    TooManyFields,
    /// A quote is opened and not closed where the row ends.
    QuoteUnclosed,
    /// The record is longer than [`RECORD_BYTES_MAX`].
    RecordTooLong,
    /// Bytes that mean nothing in the file's encoding.
    EncodingInvalid,
    /// The line is no JSON object.
    JsonInvalid,
    /// A vCard without its end.
    VcardUnterminated,
    /// Text outside any vCard.
    VcardExpected,
}

impl Reason {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::PhoneMissing => "phone_missing",
            Self::PhoneScientific => "phone_scientific",
            Self::CountryUnknown => "country_unknown",
            Self::TooManyFields => "too_many_fields",
            Self::QuoteUnclosed => "quote_unclosed",
            Self::RecordTooLong => "record_too_long",
            Self::EncodingInvalid => "encoding_invalid",
            Self::JsonInvalid => "json_invalid",
            Self::VcardUnterminated => "vcard_unterminated",
            Self::VcardExpected => "vcard_expected",
        }
    }
}

/// The file as a whole can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The source failed.
    #[error("the file can't be read: {0}")]
    Io(#[from] io::Error),
    /// It has no rows at all.
    #[error("the file is empty")]
    Empty,
    /// It is a workbook or another archive.
    #[error("this is a workbook or an archive (it starts with PK): save it as CSV first")]
    Workbook,
    /// It is one JSON array.
    #[error("this is one JSON array: write one object per line (`jq -c '.[]' FILE`)")]
    JsonArray,
    /// No column holds phone numbers.
    #[error(
        "no column with phone numbers was found; name it with `--map phone=COLUMN` (name or number, {columns} columns)"
    )]
    NoPhoneColumn {
        /// How many columns there are.
        columns: usize,
    },
    /// `--map` names a column that isn't there.
    #[error("`--map {field}={column}`: the file has no such column ({columns} columns)")]
    NoSuchColumn {
        /// The field.
        field: &'static str,
        /// The column as given.
        column: String,
        /// How many columns there are.
        columns: usize,
    },
}

/// What kind of file it is, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Delimited text (CSV and its kin).
    Delimited,
    /// vCards.
    Vcard,
    /// One JSON object per line.
    JsonLines,
}

enum Source {
    Delimited(Box<Delimited>),
    Vcards(VCards),
    JsonLines(JsonLines),
}

/// Reads one contact file, row by row.
pub struct ContactReader {
    source: Source,
}

impl ContactReader {
    /// Looks at the beginning of `source` and settles encoding, format, delimiter and columns.
    ///
    /// # Errors
    /// [`FileError`] when the file as a whole makes no sense.
    pub fn open(source: Box<dyn Read + Send>, options: Options) -> Result<Self, FileError> {
        let mut text = Text::open(source, options.encoding)?;
        text.skip_blank()?;
        let start = text.window();
        let source = if start.is_empty() {
            return Err(FileError::Empty);
        } else if starts_with_ignoring_case(start, "BEGIN:VCARD") {
            Source::Vcards(VCards::new(text, options.keep_raw))
        } else if start.starts_with('{') {
            Source::JsonLines(JsonLines::new(text, options.map, options.keep_raw))
        } else if start.starts_with('[') {
            return Err(FileError::JsonArray);
        } else {
            Source::Delimited(Box::new(Delimited::open(text, &options.map, options.keep_raw)?))
        };
        Ok(Self { source })
    }

    /// What kind of file it is.
    #[must_use]
    pub fn format(&self) -> Format {
        match &self.source {
            Source::Delimited(_) => Format::Delimited,
            Source::Vcards(_) => Format::Vcard,
            Source::JsonLines(_) => Format::JsonLines,
        }
    }

    /// The header line as it stands in the file, which a file of rejects repeats.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match &self.source {
            Source::Delimited(file) => file.header(),
            Source::Vcards(_) | Source::JsonLines(_) => None,
        }
    }

    /// The next row; none at the end of the file.
    ///
    /// # Errors
    /// [`FileError`] when the source fails or `--map` names what isn't there.
    pub fn next_row(&mut self) -> Result<Option<Row>, FileError> {
        match &mut self.source {
            Source::Delimited(file) => file.next_row(),
            Source::Vcards(file) => file.next_row(),
            Source::JsonLines(file) => file.next_row(),
        }
    }

    #[cfg(test)]
    fn memory_bytes(&self) -> usize {
        match &self.source {
            Source::Delimited(file) => file.memory_bytes(),
            Source::Vcards(file) => file.memory_bytes(),
            Source::JsonLines(file) => file.memory_bytes(),
        }
    }
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests;
