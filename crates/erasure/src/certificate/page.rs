//! The certificate as a page that a person can read. It loads nothing and runs nothing, and says only what the signed
//! document says: that one is the proof, this is how it reads.

use askama::Template;
use assent_contracts::erasure::Step;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::words::{self, Words};
use super::{Exception, Payload};

#[derive(Template)]
#[template(path = "certificate.html")]
struct Page<'a> {
    words: &'static Words,
    certificate: &'a Payload,
    /// What was done, after the name of who did it.
    summary: &'static str,
    /// The one purpose whose data were erased; empty: all data.
    purpose: &'a str,
    /// What happened when.
    dates: Vec<(&'static str, String)>,
    steps: Vec<StepRows<'a>>,
    kept: Vec<(String, String)>,
    exceptions: Vec<String>,
}

/// What was proved for a step.
struct StepRows<'a> {
    name: &'static str,
    answers: Vec<Answer<'a>>,
}

struct Answer<'a> {
    who: &'a str,
    at: String,
    pieces: String,
    digest: &'a str,
    positions: String,
}

/// The page in a language: `en`, `fr` or `ru`; none: there is no such language.
///
/// # Errors
/// When it can't be written; in memory that doesn't happen.
pub fn page(certificate: &Payload, language: &str) -> Option<Result<String, askama::Error>> {
    let words = words::ALL.into_iter().find(|words| words.tag == language)?;
    let page = Page {
        words,
        certificate,
        summary: if certificate.purpose.is_some() { words.purpose_summary } else { words.summary },
        purpose: certificate.purpose.as_deref().unwrap_or_default(),
        dates: dates(certificate, words),
        steps: steps(certificate, words),
        kept: kept(certificate, words),
        exceptions: exceptions(certificate, words),
    };
    Some(page.render())
}

fn dates(certificate: &Payload, words: &Words) -> Vec<(&'static str, String)> {
    let dates = [
        (words.requested, Some(certificate.requested_at)),
        (words.acknowledged, certificate.acknowledged_at),
        (words.due, certificate.due),
        (words.completed, Some(certificate.completed_at)),
        (words.keys_gone, certificate.keys_destroyed_at),
        (words.backups_gone, certificate.last_key_backup_expires_at),
    ];
    dates.into_iter().filter_map(|(name, at)| Some((name, moment(at?)))).collect()
}

fn steps<'a>(certificate: &'a Payload, words: &Words) -> Vec<StepRows<'a>> {
    let rows = certificate.steps.iter().map(|step| StepRows {
        name: step_name(step.step, words),
        answers: (step.participants.iter())
            .map(|(who, answer)| Answer {
                who,
                at: moment(answer.acknowledged_at),
                pieces: (answer.evidence.counts.iter())
                    .map(|(kind, count)| format!("{}: {count}", kind.replace('_', " ")))
                    .collect::<Vec<_>>()
                    .join(", "),
                digest: &answer.evidence.digest,
                positions: (answer.evidence.positions.iter())
                    .flat_map(|(topic, partitions)| {
                        partitions
                            .iter()
                            .map(move |(partition, next)| format!("{topic}/{partition}: {next}"))
                    })
                    .collect::<Vec<_>>()
                    .join(", "),
            })
            .collect(),
    });
    rows.collect()
}

fn kept(certificate: &Payload, words: &Words) -> Vec<(String, String)> {
    let line = |kept: &super::CertifiedKept| {
        let until = kept.until.map_or_else(
            || words.no_end.to_owned(),
            |until| format!("{} {}", words.until, moment(until)),
        );
        let why = words.ground(&kept.ground);
        (words.kept(&kept.what), format!("{}. {why}. {until}.", kept.participant))
    };
    certificate.kept.iter().map(line).collect()
}

fn exceptions(certificate: &Payload, words: &Words) -> Vec<String> {
    let said = certificate.exceptions.iter().map(|exception| match exception {
        Exception::Late { step, participants } => {
            format!("{} ({}): {}.", words.late, step_name(*step, words), participants.join(", "))
        }
        Exception::Held { from, until } => {
            format!("{} {} – {}.", words.held, moment(*from), moment(*until))
        }
        Exception::AfterDue => words.after_due.to_owned(),
    });
    said.collect()
}

const fn step_name(step: Step, words: &Words) -> &'static str {
    words.steps[match step {
        Step::Fence => 0,
        Step::Delete => 1,
        Step::DestroyKeys => 2,
        Step::Sweep => 3,
    }]
}

fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
