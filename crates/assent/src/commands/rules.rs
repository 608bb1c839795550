//! `assent rules lint|show|diff|test`: the law as data, offline. What comes with Assent is always
//! part of it; a folder adds files of a deployment's own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use assent_rules::{
    Answer, Answers, Because, Change, Facts, Fault, Place, Ranked, Rule, RuleFile, RuleSet,
    difference,
};
use assent_runtime::{Clock as _, SystemClock};
use clap::{Args, Subcommand};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::outcome::{Failure, Output, Status};

/// `assent rules …`
#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Say whether the rule files make sense, each and together.
    #[command(after_help = "\
Examples:
  assent rules lint
  assent rules lint /etc/assent/rules

Exit status: 0 they do, 1 they don't (each fault is shown with its file and line), 2 no such folder.")]
    Lint(Own),
    /// Show which laws apply to a case, why, and what the strictest of their rules come to.
    #[command(after_help = "\
Examples:
  assent rules show --seat FR --person DE
  assent rules show --seat FR --number US --on 2027-05-13 --json

A number tells where it was issued, not where its owner lives: what rests on it is shown as
uncertain, and applied all the same. Exit status: 0 shown, 1 the files make no sense.")]
    Show(Show),
    /// Show what a folder's files change in the rules that come with Assent.
    #[command(after_help = "\
Examples:
  assent rules diff /etc/assent/rules

Exit status: 0 shown, 1 the files make no sense.")]
    Diff(Own),
    /// Run the examples beside the rule files.
    #[command(after_help = "\
Examples:
  assent rules test
  assent rules test /etc/assent/rules --json

Exit status: 0 all hold, 1 one doesn't, or the files make no sense.")]
    Test(Own),
}

/// A deployment's own rule files.
#[derive(Debug, Args)]
pub struct Own {
    /// Folder of your own rule files (NAME.toml and NAME.examples.toml), added to ours
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `assent rules show`
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    own: Own,
    /// Where the controller has its seat: FR, or US-CA
    #[arg(long, value_name = "PLACE")]
    seat: Option<Place>,
    /// Where the person says that she is
    #[arg(long, value_name = "PLACE")]
    person: Option<Place>,
    /// Country of her number; counts only without --person
    #[arg(long, value_name = "PLACE")]
    number: Option<Place>,
    /// The day of the question [default: today]
    #[arg(long, value_name = "DATE")]
    on: Option<Date>,
}

#[derive(Debug, Serialize)]
struct Linted<'a> {
    faults: &'a [Fault],
    /// What dates rest on that was compared with nothing, or soon ends.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    doubts: &'a [Fault],
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    on: Date,
    hash: String,
    #[serde(flatten)]
    answers: Answers,
}

impl Rules {
    /// Runs it.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let own = match self {
            Self::Lint(own) | Self::Diff(own) | Self::Test(own) => own,
            Self::Show(show) => &show.own,
        };
        if let Some(dir) = own.dir.as_deref().filter(|dir| !dir.is_dir()) {
            return Err(Failure::file(dir, "there is no such folder"));
        }
        let set = match RuleSet::with_own(own.dir.as_deref()) {
            Ok(set) => set,
            Err(faults) => {
                let linted = Linted { faults: &faults, doubts: &[], hash: None };
                output.print(&linted, |it| {
                    it.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
                });
                return Ok(Status::Refused);
            }
        };
        Ok(match self {
            Self::Lint(_) => {
                let doubts = set.doubts(today());
                let linted = Linted { faults: &[], doubts: &doubts, hash: Some(set.hash()) };
                output.print(&linted, |linted| lint(&set, linted.doubts));
                Status::Done
            }
            Self::Show(show) => {
                let on = show.on.unwrap_or_else(today);
                let (seat, stated) = (show.seat.clone(), show.person.clone());
                let facts = Facts { on, seat, stated, number: show.number.clone() };
                let shown = Shown { on, hash: set.hash(), answers: set.answers(&facts) };
                output.print(&shown, text);
                Status::Done
            }
            Self::Diff(_) => {
                // Nothing of our own can be wrong here: it was just read.
                let changes = difference(&RuleSet::shipped().unwrap_or_default(), &set);
                output.print(&changes, |changes| match &changes[..] {
                    [] => "no difference".to_owned(),
                    some => some.iter().map(change).collect::<Vec<_>>().join("\n"),
                });
                Status::Done
            }
            Self::Test(own) => test(&set, own.dir.as_deref(), output),
        })
    }
}

fn today() -> Date {
    SystemClock.now().to_zoned(TimeZone::UTC).date()
}

fn lint(set: &RuleSet, doubts: &[Fault]) -> String {
    let rules: usize = set.files().map(|file| file.rules.len()).sum();
    let mut text = String::new();
    for file in set.files() {
        let _ = writeln!(text, "{:<10} {:>3} rules  {}", file.id, file.rules.len(), file.name);
    }
    let _ = write!(text, "{} files, {rules} rules, hash {}", set.files().count(), set.hash());
    for doubt in doubts {
        let _ = write!(text, "\ndoubtful: {doubt}");
    }
    text
}

fn text(shown: &Shown) -> String {
    let mut text = format!("on {}, these apply:\n", shown.on);
    for law in &shown.answers.laws {
        let because: Vec<String> = law.because.iter().map(reason).collect();
        let doubt = if law.certain { "" } else { " – not certain" };
        let _ = writeln!(text, "  {}: {}{doubt}", law.name, because.join(", "));
    }
    text.push_str("\nthe strictest counts:\n");
    for Answer { topic, strictest, others } in &shown.answers.answers {
        let _ = writeln!(text, "  {topic}: {}", ranked(strictest));
        for other in others.iter().filter(|it| it.rule.value != strictest.rule.value) {
            let _ = writeln!(text, "      beside {}", ranked(other));
        }
    }
    if !shown.answers.conflicts.is_empty() {
        text.push_str("\nin conflict:\n");
    }
    for conflict in &shown.answers.conflicts {
        let _ = writeln!(text, "  {}\n      {}", conflict.says, conflict.way_out);
    }
    text.trim_end().to_owned()
}

fn reason(because: &Because) -> String {
    match because {
        Because::Always => "always".to_owned(),
        Because::Seat(place) => format!("the controller's seat is in {place}"),
        Because::PersonStated(place) => format!("she says that she is in {place}"),
        Because::PersonMayBeThere(place) => format!("she says no more than {place}"),
        Because::Number(place) => format!("her number was issued in {place}"),
    }
}

fn ranked(ranked: &Ranked) -> String {
    let Rule { id, article, value, .. } = &ranked.rule;
    format!("{value} ({article}; {id})")
}

fn change(change: &Change) -> String {
    match change {
        Change::Added { jurisdiction, rule } => {
            format!("+ {jurisdiction}: {} = {}, {}", rule.id, rule.value, rule.article)
        }
        Change::Removed { jurisdiction, rule } => {
            format!("- {jurisdiction}: {} = {}, {}", rule.id, rule.value, rule.article)
        }
        Change::Changed { jurisdiction, before, after } => {
            let mut line = format!("~ {jurisdiction}: {}", after.id);
            let fields = |rule: &Rule| {
                let Rule { article, says, from, until, source, value, .. } = rule;
                let until = until.map_or("–".to_owned(), |until| until.to_string());
                [
                    ("value", value.to_string()),
                    ("from", from.to_string()),
                    ("until", until),
                    ("article", article.clone()),
                    ("source", source.clone()),
                    ("says", says.clone()),
                ]
            };
            for ((name, before), (_, after)) in fields(before).into_iter().zip(fields(after)) {
                if before != after {
                    let _ = write!(line, "\n    {name}: {before} → {after}");
                }
            }
            line
        }
        Change::Jurisdiction { jurisdiction } => {
            format!("~ {jurisdiction}: another name, reach or general law")
        }
    }
}

fn test(set: &RuleSet, own: Option<&Path>, output: Output) -> Status {
    // Ours on what we ship, yours on everything: what you add may well change what ours come to.
    let shipped = RuleSet::shipped().unwrap_or_default();
    let is_shipped = |id: &str| {
        let same = |file: &&RuleFile| file.id == id;
        set.files().find(same) == shipped.files().find(same)
    };
    let (ours, _, mut failed) = shipped.test(|_| true);
    let (yours, unspoken, yours_failed) = set.test(|id| !is_shipped(id));
    let examples = ours + yours;
    failed.extend(yours_failed);
    let tested = serde_json::json!({
        "examples": examples, "failed": failed, "rules_without_example": unspoken,
    });
    output.print(&tested, |_| {
        let mut text = String::new();
        for it in &failed {
            let _ = writeln!(text, "{}: {}", it.jurisdiction, it.says);
            for reason in &it.reasons {
                let _ = writeln!(text, "    {reason}");
            }
        }
        let _ = write!(text, "{} of {examples} examples hold", examples - failed.len());
        text
    });
    if !unspoken.is_empty() && own.is_some() {
        let names: Vec<&str> = unspoken.iter().map(String::as_str).collect();
        output.remark(&format!("no example speaks of {}", names.join(", ")));
    }
    if failed.is_empty() { Status::Done } else { Status::Refused }
}
