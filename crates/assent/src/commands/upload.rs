//! What `import`, `suppress` and `screen` share: a contact file read on a thread of its own and sent in
//! batches, several under way at once, with a progress bar for whoever watches. It guarantees flat
//! memory and results in the order of the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use assent_http::ClientError;
use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::contact_file::{
    BadRow, Cell, ColumnMap, Contact, ContactReader, FileError, Options, Place, Row,
};
use crate::outcome::{Failure, Output, Status};

/// Most contacts of one batch.
const BATCH_ROWS: usize = 1_000;
/// A batch is closed when its text exceeds this: bodies have a bound.
const BATCH_BYTES: usize = 512 * 1024;
/// Batches under way at once.
pub const IN_FLIGHT: usize = 4;
/// Most rejected rows that a summary lists; the total is always there.
const REJECTED_MAX: usize = 1_000;
/// How often a batch is tried while the service doesn't answer. Both uploads are idempotent.
const ATTEMPTS: u32 = 6;

/// The file to read.
#[derive(Debug, Args)]
pub struct Source {
    /// Contact file: CSV with any delimiter, vCard or JSON lines; `-` reads standard input.
    pub file: PathBuf,
    /// Country of numbers without a country code (ISO 3166-1 alpha-2); a country column beats it.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    pub country: Option<String>,
    /// Name a column: `--map phone=COL`, also for name, email, country; COL is a name or a number
    /// from 1.
    #[arg(long, value_name = "FIELD=COL")]
    pub map: Vec<ColumnMap>,
    /// Encoding of the file, such as `windows-1251`; detected unless given.
    #[arg(long, value_parser = encoding)]
    pub encoding: Option<&'static encoding_rs::Encoding>,
}

/// A country code as an argument.
pub fn country(text: &str) -> Result<String, String> {
    let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_code
        .then(|| text.to_ascii_uppercase())
        .ok_or_else(|| "expected a code of two letters, such as FR".to_owned())
}

fn encoding(label: &str) -> Result<&'static encoding_rs::Encoding, String> {
    encoding_rs::Encoding::for_label(label.as_bytes())
        .ok_or_else(|| "no such encoding; try utf-8, utf-16le, windows-1251, iso-8859-1".to_owned())
}

/// A row that did not come in. It holds no copy of the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Physical line, from 1.
    pub line: u64,
    /// Field number, from 1.
    pub column: u64,
    /// Stable reason code.
    pub reason: String,
}

/// The rejected rows of a file: the first ones, and how many there are.
#[derive(Debug, Default)]
pub struct Rejects {
    listed: Vec<Rejected>,
    total: u64,
    copies: Option<(PathBuf, File)>,
    header: Option<String>,
}

impl Rejects {
    /// An empty list; copies of the rows go to `path`, under the header of their file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn open(path: Option<&Path>, header: Option<&str>) -> Result<Self, Failure> {
        let copies = match path {
            None => None,
            Some(path) => {
                let file = private_file(path).map_err(|error| Failure::file(path, error))?;
                Some((path.to_owned(), file))
            }
        };
        Ok(Self { copies, header: header.map(str::to_owned), ..Self::default() })
    }

    /// Notes a rejected row.
    ///
    /// # Errors
    /// When its copy can't be written.
    pub fn add(&mut self, place: Place, reason: &str, raw: &str) -> Result<(), Failure> {
        self.total += 1;
        if self.listed.len() < REJECTED_MAX {
            let Place { line, column } = place;
            self.listed.push(Rejected { line, column, reason: reason.to_owned() });
        }
        if let Some((path, file)) = &mut self.copies
            && !raw.is_empty()
        {
            let header = self.header.take();
            let written = header.map_or(Ok(()), |header| writeln!(file, "{header}"));
            written
                .and_then(|()| writeln!(file, "{}", raw.trim_end()))
                .map_err(|error| Failure::file(path, error))?;
        }
        Ok(())
    }

    /// The list, by line, and the total.
    #[must_use]
    pub fn into_parts(mut self) -> (Vec<Rejected>, u64) {
        self.listed.sort_by_key(|rejected| (rejected.line, rejected.column));
        (self.listed, self.total)
    }
}

/// A new file that only its owner may read, for plaintext that the operator asked for.
///
/// # Errors
/// When it can't be made.
pub fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // It may have been there before.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The rejected rows as text.
#[must_use]
pub fn describe(rejected: &[Rejected], total: u64) -> String {
    const SHOWN: usize = 20;
    let mut text = String::new();
    for Rejected { line, column, reason } in rejected.iter().take(SHOWN) {
        text.push_str(&format!("\n  line {line}, column {column}: {reason}"));
    }
    if total > SHOWN as u64 {
        text.push_str(&format!(
            "\n  … and {} more (`--json` lists {REJECTED_MAX})",
            total - SHOWN as u64
        ));
    }
    text
}

/// A part of the file.
#[derive(Default)]
pub struct Batch {
    /// Its contacts.
    pub contacts: Vec<Contact>,
    /// Its rows that are none.
    pub bad: Vec<BadRow>,
    bytes: usize,
    /// How much of the file has been read.
    read: u64,
}

impl Batch {
    /// How many rows of the file it holds.
    #[must_use]
    pub fn rows(&self) -> u64 {
        (self.contacts.len() + self.bad.len()) as u64
    }
}

/// A contact file that is about to be sent.
pub struct Upload<'a> {
    source: &'a Source,
    reader: ContactReader,
    /// How much of the file has been read.
    read: Arc<AtomicU64>,
    size: Option<u64>,
}

impl<'a> Upload<'a> {
    /// Opens the file; `keep_raw` keeps a copy of each row's text beside it.
    ///
    /// # Errors
    /// When it can't be read, or makes no sense as a whole.
    pub fn open(source: &'a Source, keep_raw: bool) -> Result<Self, Failure> {
        let (input, size): (Box<dyn Read + Send>, Option<u64>) = if source.file == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let failed = |error| Failure::file(&source.file, error);
            let file = File::open(&source.file).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            (Box::new(file), Some(size))
        };
        let read = Arc::new(AtomicU64::new(0));
        let input = Box::new(Counted { input, read: Arc::clone(&read) });
        let map = ColumnMap::all(source.map.clone());
        let options = Options { map, encoding: source.encoding, keep_raw };
        let reader = ContactReader::open(input, options).map_err(|error| said(source, &error))?;
        Ok(Self { source, reader, read, size })
    }

    /// The file.
    #[must_use]
    pub fn reader(&self) -> &ContactReader {
        &self.reader
    }

    /// Reads the file and sends each batch by `send`; `settle` gets the results in the order of
    /// the file.
    ///
    /// # Errors
    /// When the file can't be read, or a batch fails for good: what came before it is settled.
    pub async fn run<R, F>(
        self,
        output: Output,
        send: impl Fn(Batch) -> F,
        mut settle: impl FnMut(R) -> Result<(), Failure>,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<(u64, R), Failure>>,
    {
        let Self { source, reader, read, size } = self;
        let bar = progress(output, size);
        let batches = batches(reader, read);
        let mut results = std::pin::pin!(
            batches
                .map(|batch| async {
                    let batch = batch.map_err(|error| said(source, &error))?;
                    let read = batch.read;
                    let (rows, result) = send(batch).await?;
                    Ok::<_, Failure>((read, rows, result))
                })
                .buffered(IN_FLIGHT)
        );
        let mut rows = 0;
        while let Some(result) = results.next().await {
            let (read, settled, result) = result.inspect_err(|_| bar.abandon())?;
            settle(result)?;
            rows += settled;
            bar.set_position(read);
            bar.set_message(format!(
                "{rows} rows, {:.0}/s",
                rows as f64 / bar.elapsed().as_secs_f64().max(0.001)
            ));
        }
        bar.finish_and_clear();
        Ok(())
    }
}

fn said(source: &Source, error: &FileError) -> Failure {
    Failure::file(&source.file, error)
}

/// Asks about each contact of a batch by her first number, and where the answer `is_rejected`, by
/// her others: phone books hold short codes and extensions too. The first answer stays if the
/// others are no better.
///
/// # Errors
/// Those of `ask`, and when it answers for another number of rows.
pub async fn by_number<Q, R, F>(
    batch: &Batch,
    row: impl Fn(&Contact, &Cell) -> Q,
    ask: impl Fn(Vec<Q>) -> F,
    is_rejected: impl Fn(&R) -> bool,
) -> Result<Vec<R>, Failure>
where
    F: Future<Output = Result<Vec<R>, ClientError>>,
{
    let mut answers: Vec<R> = Vec::with_capacity(batch.contacts.len());
    let most = batch.contacts.iter().map(|contact| contact.phones.len()).max().unwrap_or(0);
    for rank in 0..most {
        let open: Vec<usize> = (0..batch.contacts.len())
            .filter(|&index| batch.contacts[index].phones.len() > rank)
            .filter(|&index| answers.get(index).is_none_or(&is_rejected))
            .collect();
        if open.is_empty() {
            break;
        }
        let rows = open.iter().map(|&index| {
            let contact = &batch.contacts[index];
            row(contact, &contact.phones[rank])
        });
        let found = ask(rows.collect()).await?;
        if found.len() != open.len() {
            return Err(Failure {
                status: Status::Unreachable,
                code: "protocol".to_owned(),
                message: "the vault answered for another number of rows".to_owned(),
            });
        }
        if rank == 0 {
            answers = found;
            continue;
        }
        for (index, answer) in open.into_iter().zip(found) {
            if !is_rejected(&answer) {
                answers[index] = answer;
            }
        }
    }
    Ok(answers)
}

/// Calls again while the service doesn't answer: the same batch twice changes nothing.
///
/// # Errors
/// The last failure.
pub async fn patiently<R, F>(call: impl Fn() -> F) -> Result<R, ClientError>
where
    F: Future<Output = Result<R, ClientError>>,
{
    let mut pause = Duration::from_millis(200);
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(error) if error.is_transient() => tokio::time::sleep(pause).await,
            settled => return settled,
        }
        pause *= 2;
    }
    call().await
}

/// Parsing runs on a thread of its own: it is work for a core, not for the runtime.
fn batches(
    mut reader: ContactReader,
    read: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Batch, FileError>> {
    let (sender, receiver) = mpsc::channel(2);
    std::thread::spawn(move || {
        let mut batch = Batch::default();
        let close = |batch: &mut Batch| {
            batch.read = read.load(Ordering::Relaxed);
            std::mem::take(batch)
        };
        loop {
            match reader.next_row() {
                Ok(Some(Row::Contact(contact))) => {
                    batch.bytes +=
                        contact.phones.iter().map(|phone| phone.text.len()).sum::<usize>()
                            + contact.name.as_ref().map_or(0, |name| name.text.len())
                            + contact.email.as_ref().map_or(0, |email| email.text.len())
                            + contact.raw.len();
                    batch.contacts.push(contact);
                }
                Ok(Some(Row::Bad(bad))) => batch.bad.push(bad),
                Ok(None) => {
                    if batch.rows() > 0 {
                        let _ = sender.blocking_send(Ok(close(&mut batch)));
                    }
                    return;
                }
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            }
            let full = batch.rows() >= BATCH_ROWS as u64 || batch.bytes >= BATCH_BYTES;
            if full && sender.blocking_send(Ok(close(&mut batch))).is_err() {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|batch| (batch, receiver))
    })
}

struct Counted {
    input: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A bar for whoever watches, up to `size`; none: a sign of life.
pub fn progress(output: Output, size: Option<u64>) -> ProgressBar {
    if !output.is_watched() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:30} {percent:>3} % {msg} {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// Refused and rejected rows make the difference between done and done with refusals.
#[must_use]
pub fn status(refused: bool, rejected: u64) -> Status {
    if refused || rejected > 0 { Status::Refused } else { Status::Done }
}
