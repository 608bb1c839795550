//! Turns the bytes of a file into a sliding window of UTF-8 with `\n` or `\r\n` line ends. It
//! guarantees a bounded window and exact physical line numbers; records are for its users.

use std::io::{self, Read};

use encoding_rs::{Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1251, WINDOWS_1252};

use super::{FileError, RECORD_BYTES_MAX};

/// How many bytes are read, and looked at to tell the encoding, at a time.
const CHUNK_BYTES: usize = 64 * 1024;

pub(super) struct Text {
    source: Box<dyn Read + Send>,
    source_ended: bool,
    chunk: Vec<u8>,
    /// None until a byte above ASCII decides.
    decoder: Option<Decoder>,
    decoder_flushed: bool,
    undecodable: bool,
    /// Old Macintosh line ends, settled by the first chunk.
    bare_cr: Option<bool>,
    window: String,
    start: usize,
    line: u64,
}

/// What [`Text::read_line`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Whole,
    /// A line longer than a record may be; only its beginning is there.
    Cut,
    /// The end of the file.
    End,
}

impl Text {
    pub(super) fn open(
        source: Box<dyn Read + Send>,
        encoding: Option<&'static Encoding>,
    ) -> Result<Self, FileError> {
        let mut text = Self {
            source,
            source_ended: false,
            chunk: Vec::with_capacity(CHUNK_BYTES),
            decoder: None,
            decoder_flushed: false,
            undecodable: false,
            bare_cr: None,
            window: String::new(),
            start: 0,
            line: 1,
        };
        text.read_chunk()?;
        if text.chunk.starts_with(b"PK\x03\x04") {
            return Err(FileError::Workbook);
        }
        let (marked, mark_length) = match Encoding::for_bom(&text.chunk) {
            Some((encoding, length)) => (Some(encoding), length),
            None => (None, 0),
        };
        text.chunk.drain(..mark_length);
        text.decoder = encoding
            .or(marked)
            .or_else(|| unmarked_utf16(&text.chunk))
            .map(Encoding::new_decoder_without_bom_handling);
        // A first byte above ASCII ends a filling; formats are told apart by more than what is
        // before it.
        while text.window().len() < CHUNK_BYTES / 2 && text.fill()? {}
        Ok(text)
    }

    /// What is decoded and not consumed yet.
    pub(super) fn window(&self) -> &str {
        &self.window[self.start..]
    }

    /// The physical line on which the window starts.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Whether bytes were met that mean nothing in the encoding; each became U+FFFD.
    pub(super) fn undecodable(&self) -> bool {
        self.undecodable
    }

    /// Consumes `bytes` of the window.
    pub(super) fn advance(&mut self, bytes: usize) {
        let passed = &self.window.as_bytes()[self.start..self.start + bytes];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.start += bytes;
    }

    /// Decodes one more chunk onto the window; false at the end of the file.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        self.window.drain(..self.start);
        self.start = 0;
        let before = self.window.len();
        while self.window.len() == before {
            if self.chunk.len() < CHUNK_BYTES && !self.source_ended {
                self.read_chunk()?;
            }
            if self.chunk.is_empty() && (self.decoder.is_none() || self.decoder_flushed) {
                return Ok(false);
            }
            self.decode();
        }
        self.normalise_line_ends(before);
        Ok(true)
    }

    fn read_chunk(&mut self) -> io::Result<()> {
        let wanted = CHUNK_BYTES - self.chunk.len();
        let read = (&mut self.source).take(wanted as u64).read_to_end(&mut self.chunk)?;
        self.source_ended = read < wanted;
        Ok(())
    }

    /// Moves the chunk into the window. Pure ASCII passes without an encoding being known, so
    /// that the decision is taken on text that can decide it.
    fn decode(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            let room = decoder.max_utf8_buffer_length(self.chunk.len()).unwrap_or(CHUNK_BYTES * 3);
            self.window.reserve(room);
            let (_, read, replaced) =
                decoder.decode_to_string(&self.chunk, &mut self.window, self.source_ended);
            self.undecodable |= replaced;
            self.decoder_flushed = self.source_ended && read == self.chunk.len();
            self.chunk.drain(..read);
            return;
        }
        let ascii = self.chunk.iter().position(|byte| !byte.is_ascii()).unwrap_or(self.chunk.len());
        if ascii == 0 {
            self.decoder = Some(encoding_of(&self.chunk).new_decoder_without_bom_handling());
            return;
        }
        self.window.extend(self.chunk.drain(..ascii).map(char::from));
    }

    fn normalise_line_ends(&mut self, from: usize) {
        let added = &self.window[from..];
        let bare =
            *self.bare_cr.get_or_insert_with(|| added.contains('\r') && !added.contains('\n'));
        if bare && added.contains('\r') {
            let added = added.replace('\r', "\n");
            self.window.truncate(from);
            self.window.push_str(&added);
        }
    }

    /// Passes over line ends and white space at the start of the window.
    pub(super) fn skip_blank(&mut self) -> io::Result<()> {
        loop {
            let window = self.window();
            let blank = window.len() - window.trim_start_matches([' ', '\r', '\n']).len();
            let all = blank == window.len();
            self.advance(blank);
            if !all || !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Passes over the rest of the line, however long it is.
    pub(super) fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(end) = self.window().find('\n') {
                self.advance(end + 1);
                return Ok(());
            }
            self.advance(self.window().len());
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Reads one line into `into`, without its end.
    pub(super) fn read_line(&mut self, into: &mut String) -> io::Result<Line> {
        into.clear();
        let mut searched = 0;
        loop {
            if let Some(end) = self.window()[searched..].find('\n') {
                let end = searched + end;
                let line = &self.window()[..end];
                into.push_str(line.strip_suffix('\r').unwrap_or(line));
                self.advance(end + 1);
                return Ok(Line::Whole);
            }
            searched = self.window().len();
            if searched > RECORD_BYTES_MAX {
                into.push_str(&self.window()[..128.min(floor_char(self.window(), 128))]);
                self.skip_line()?;
                return Ok(Line::Cut);
            }
            if !self.fill()? {
                into.push_str(self.window());
                self.advance(searched);
                return Ok(if searched == 0 { Line::End } else { Line::Whole });
            }
        }
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.chunk.capacity() + self.window.capacity()
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

/// UTF-16 without a mark: the separators, digits and line ends of a contact file have a zero byte
/// on one side.
fn unmarked_utf16(chunk: &[u8]) -> Option<&'static Encoding> {
    let sample = &chunk[..chunk.len().min(4096) & !1];
    let zeros = |parity: usize| sample.iter().skip(parity).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let enough = sample.len() / 20 + 1;
    if odd >= enough && even == 0 {
        Some(UTF_16LE)
    } else if even >= enough && odd == 0 {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// The encoding of a sample that starts with its first byte above ASCII.
fn encoding_of(sample: &[u8]) -> &'static Encoding {
    let (valid, broken) = utf8_counts(sample);
    if valid > broken * 4 {
        return UTF_8;
    }
    // In Windows-1251 whole words are above ASCII; in Latin-1 (of which Windows-1252 is the
    // superset in use) accented letters stand alone between plain ones.
    let is_letter = |byte: u8| byte >= 0xC0 || matches!(byte, 0xA8 | 0xB8);
    let letters = sample.iter().filter(|byte| is_letter(**byte)).count();
    let beside = sample.windows(2).filter(|pair| is_letter(pair[0]) && is_letter(pair[1])).count();
    if beside * 2 > letters { WINDOWS_1251 } else { WINDOWS_1252 }
}

/// How many multi-byte characters of the sample are UTF-8, and how many stretches are not.
fn utf8_counts(mut sample: &[u8]) -> (usize, usize) {
    let above_ascii = |text: &str| text.chars().filter(|c| !c.is_ascii()).count();
    let (mut valid, mut broken) = (0, 0);
    loop {
        match std::str::from_utf8(sample) {
            Ok(text) => return (valid + above_ascii(text), broken),
            Err(error) => {
                let text = std::str::from_utf8(&sample[..error.valid_up_to()]).unwrap_or_default();
                valid += above_ascii(text);
                match error.error_len() {
                    Some(length) => {
                        broken += 1;
                        sample = &sample[error.valid_up_to() + length..];
                    }
                    // The sample ends inside a character.
                    None => return (valid + 1, broken),
                }
            }
        }
    }
}
