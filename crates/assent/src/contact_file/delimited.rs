//! Delimited text: comma, semicolon, tab or bar, with or without a header, with quoted fields that
//! may hold line ends. It guarantees that a quote which is never closed costs its own row and not
//! the rest of the file.

use csv_core::ReadRecordResult;

use super::columns::{ColumnMap, Columns, looks_like_phone};
use super::text::Text;
use super::{BadRow, FileError, Place, RECORD_BYTES_MAX, Reason, Row};

/// How many records are looked at to find the delimiter and, without a header, the phone column.
const SAMPLE_RECORDS: usize = 40;

pub(super) struct Delimited {
    text: Text,
    parser: Parser,
    columns: Columns,
    header: Option<String>,
    /// How many fields a row has, by the first record.
    width: usize,
    keep_raw: bool,
}

impl Delimited {
    pub(super) fn open(mut text: Text, map: &ColumnMap, keep_raw: bool) -> Result<Self, FileError> {
        let declared = declared_delimiter(text.window());
        if declared.is_some() {
            text.skip_line()?;
            text.skip_blank()?;
        }
        let delimiter = declared.unwrap_or_else(|| sniff(text.window()));
        let mut parser = Parser::new(delimiter);
        let sample = parser.sample(text.window());
        let Some(first) = sample.first() else { return Err(FileError::Empty) };
        let names: Vec<&str> = first.iter().map(String::as_str).collect();
        Columns::check_map(map, &names)?;

        let has_header = !first.iter().any(|cell| looks_like_phone(cell) || cell.contains('@'));
        let (mut columns, rows) = if has_header {
            (Columns::from_names(&names, map), &sample[1..])
        } else {
            let unnamed = vec![""; names.len()];
            (Columns::from_names(&unnamed, map), &sample[..])
        };
        if !columns.has_phone() {
            columns.guess_phone(rows);
        }
        if !columns.has_phone() {
            return Err(FileError::NoPhoneColumn { columns: names.len() });
        }
        let width = names.len();
        let mut file = Self { text, parser, columns, header: None, width, keep_raw };
        if has_header && let Parsed::Record { bytes } = file.parse()? {
            file.header = Some(file.text.window()[..bytes].trim_end().to_owned());
            file.text.advance(bytes);
        }
        Ok(file)
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.parser.delimiter
    }

    pub(super) fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }

    pub(super) fn next_row(&mut self) -> Result<Option<Row>, FileError> {
        self.text.skip_blank()?;
        if self.text.window().is_empty() {
            return Ok(None);
        }
        let line = self.text.line();
        let bytes = match self.parse()? {
            Parsed::Record { bytes } => bytes,
            Parsed::Unclosed => return self.bad_line(Reason::QuoteUnclosed).map(Some),
            Parsed::Endless => {
                // A row of plain length has run into later ones through its open quote.
                let first_line = self.text.window().find('\n').unwrap_or(usize::MAX);
                let reason = if first_line < RECORD_BYTES_MAX {
                    Reason::QuoteUnclosed
                } else {
                    Reason::RecordTooLong
                };
                return self.bad_line(reason).map(Some);
            }
        };
        let fields = self.parser.fields();
        let source = &self.text.window()[..bytes];
        let several_lines = source.trim_end_matches(['\r', '\n']).contains('\n');
        if several_lines && (fields.len() != self.width || !self.parser.is_well_quoted(source)) {
            return self.bad_line(Reason::QuoteUnclosed).map(Some);
        }
        let raw = if self.keep_raw { source.trim_end().to_owned() } else { String::new() };
        let place = |column: usize| Place { line, column: column as u64 + 1 };
        let row = if let Some(column) =
            fields.iter().skip(self.width).position(|cell| !cell.trim().is_empty())
        {
            Row::Bad(BadRow {
                place: place(self.width + column),
                reason: Reason::TooManyFields,
                raw,
            })
        } else if self.text.undecodable()
            && let Some(column) = fields.iter().position(|cell| cell.contains('\u{fffd}'))
        {
            Row::Bad(BadRow { place: place(column), reason: Reason::EncodingInvalid, raw })
        } else {
            self.columns.row(&fields, line, raw)
        };
        self.text.advance(bytes);
        Ok(Some(row))
    }

    /// Reads the record at the start of the window, filling it as far as it takes.
    fn parse(&mut self) -> Result<Parsed, FileError> {
        let mut ended = false;
        loop {
            match self.parser.parse(self.text.window(), ended) {
                Some(Parsed::Record { bytes }) if bytes > RECORD_BYTES_MAX => {
                    return Ok(Parsed::Endless);
                }
                Some(parsed) => return Ok(parsed),
                None if self.text.window().len() > RECORD_BYTES_MAX => return Ok(Parsed::Endless),
                None => ended = !self.text.fill()?,
            }
        }
    }

    /// Gives up the line at the start of the window; reading goes on with the next.
    fn bad_line(&mut self, reason: Reason) -> Result<Row, FileError> {
        let line = self.text.line();
        let window = self.text.window();
        let end = window.find('\n').unwrap_or(window.len());
        let raw = if self.keep_raw && end <= RECORD_BYTES_MAX {
            window[..end].trim_end().to_owned()
        } else {
            String::new()
        };
        let column = self.parser.field_of_open_quote(&window[..end.min(RECORD_BYTES_MAX)]);
        self.text.skip_line()?;
        Ok(Row::Bad(BadRow { place: Place { line, column }, reason, raw }))
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.text.memory_bytes() + self.parser.unquoted.capacity() + self.parser.ends.capacity() * 8
    }
}

enum Parsed {
    /// A record of so many bytes of the window, its end included.
    Record { bytes: usize },
    /// The file ends inside a quoted field.
    Unclosed,
    /// Longer than a record may be.
    Endless,
}

struct Parser {
    csv: csv_core::Reader,
    delimiter: u8,
    /// The fields of the last record one after the other, without their quotes.
    unquoted: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Parser {
    fn new(delimiter: u8) -> Self {
        let csv = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { csv, delimiter, unquoted: vec![0; 4096], ends: vec![0; 64], count: 0 }
    }

    /// Reads the record at the start of `window`; none when it goes on beyond it.
    fn parse(&mut self, window: &str, ended: bool) -> Option<Parsed> {
        self.csv.reset();
        let mut input = window.as_bytes();
        let (mut read, mut written, mut fields) = (0, 0, 0);
        let mut closing = false;
        loop {
            let (result, consumed, produced, new_ends) = self.csv.read_record(
                &input[read..],
                &mut self.unquoted[written..],
                &mut self.ends[fields..],
            );
            read += consumed;
            written += produced;
            fields += new_ends;
            match result {
                ReadRecordResult::Record => {
                    self.count = fields;
                    return Some(Parsed::Record {
                        bytes: if closing { window.len() } else { read },
                    });
                }
                ReadRecordResult::InputEmpty if closing => return Some(Parsed::Unclosed),
                // A line end that the file's last line lacks closes a record, but not a quote.
                ReadRecordResult::InputEmpty if ended => {
                    (input, read, closing) = (b"\n", 0, true);
                }
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return None,
                ReadRecordResult::OutputFull => self.unquoted.resize(self.unquoted.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
            }
        }
    }

    /// The fields of the record read last.
    fn fields(&self) -> Vec<&str> {
        let mut start = 0;
        self.ends[..self.count]
            .iter()
            .map(|end| {
                let field = std::str::from_utf8(&self.unquoted[start..*end]).unwrap_or_default();
                start = *end;
                field
            })
            .collect()
    }

    /// The first records of `window`.
    fn sample(&mut self, mut window: &str) -> Vec<Vec<String>> {
        let mut records = Vec::new();
        while records.len() < SAMPLE_RECORDS {
            window = window.trim_start_matches(['\r', '\n']);
            // The window ends in the middle of a record, unless the file ends with it.
            let parsed = match self.parse(window, false) {
                None if records.is_empty() || window.len() < 4096 => self.parse(window, true),
                parsed => parsed,
            };
            let Some(Parsed::Record { bytes }) = parsed else { break };
            if bytes == 0 {
                break;
            }
            records.push(self.fields().into_iter().map(str::to_owned).collect());
            window = &window[bytes..];
        }
        records
    }

    /// Whether every closing quote ends its field. One that doesn't is the opening quote of a later
    /// row, which an open quote has swallowed.
    fn is_well_quoted(&self, record: &str) -> bool {
        let mut bytes = record.bytes().peekable();
        let mut at_start = true;
        let mut quoted = false;
        while let Some(byte) = bytes.next() {
            if quoted && byte == b'"' {
                match bytes.peek() {
                    Some(b'"') => {
                        bytes.next();
                    }
                    None | Some(b'\r' | b'\n') => quoted = false,
                    Some(next) if *next == self.delimiter => quoted = false,
                    Some(_) => return false,
                }
            } else if !quoted {
                quoted = at_start && byte == b'"';
                at_start = byte == self.delimiter;
            }
        }
        !quoted
    }

    /// The number, from 1, of the first field whose quote stays open on this line.
    fn field_of_open_quote(&self, line: &str) -> u64 {
        let mut field = 1;
        let mut quoted = false;
        let mut opened_in = 1;
        for byte in line.bytes() {
            if byte == b'"' {
                quoted = !quoted;
                opened_in = field;
            } else if byte == self.delimiter && !quoted {
                field += 1;
            }
        }
        opened_in
    }
}

/// `sep=;`, as Excel writes and reads it.
fn declared_delimiter(window: &str) -> Option<u8> {
    let line = window.lines().next()?;
    match line.trim_end().as_bytes() {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => Some(*delimiter),
        _ => None,
    }
}

/// The delimiter under which the first records agree best on how many fields they have.
fn sniff(window: &str) -> u8 {
    let judge = |delimiter: u8| {
        let sample = Parser::new(delimiter).sample(window);
        let widths: Vec<usize> = sample.iter().map(Vec::len).collect();
        let (width, agreeing) = widths
            .iter()
            .map(|width| (*width, widths.iter().filter(|other| *other == width).count()))
            .max_by_key(|(width, agreeing)| (*agreeing, *width))
            .unwrap_or((1, 0));
        let consistent = agreeing * 10 >= widths.len() * 9;
        (width > 1, consistent, width.min(100), agreeing)
    };
    [b'|', b'\t', b';', b','].into_iter().max_by_key(|delimiter| judge(*delimiter)).unwrap_or(b',')
}
