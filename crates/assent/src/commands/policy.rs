//! `assent policy plan|apply|export`: what people are asked and told, as a folder of files that can
//! be reviewed. It guarantees that `apply` does what `plan` showed or nothing: it names the version
//! that the plan was made on.

use std::path::PathBuf;

use assent_contracts::policy::{
    Action, ApplyPolicy, FieldChange, PlannedChange, Policy, PolicyInForce, PolicyPlan,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::api::{Api, idempotency_key};
use crate::outcome::{Failure, Output, Status};

mod files;

/// `assent policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show what the files would change, what that means for people, and what they leave out.
    #[command(after_help = "\
Examples:
  assent policy plan policy/
  assent policy plan policy/ --json

Nothing is changed. Exit status: 0 it may be applied, 1 it may not (the reason is shown), 2 a file
makes no sense (with its line), 3 a service didn't answer.")]
    Plan(Folder),
    /// Apply the files, whole or not at all.
    #[command(after_help = "\
Examples:
  assent policy apply policy/
  assent policy apply policy/ --ask-again

Returns when it has settled: no send starts after that which rests on what was taken away. Exit
status: 0 applied or nothing to change, 1 refused, 2 a file makes no sense, 3 a service didn't answer
(run it again).")]
    Apply {
        /// Where the files are.
        #[command(flatten)]
        folder: Folder,
        /// Apply it although people who agreed will have to be asked again.
        #[arg(long)]
        ask_again: bool,
        /// Apply it although people will be erased at once.
        #[arg(long)]
        erase: bool,
    },
    /// Write the policy in force as files into an empty or new folder.
    #[command(after_help = "\
Examples:
  assent policy export policy/

Exit status: 0 written, 2 the folder isn't empty or can't be written, 3 a service didn't answer.")]
    Export(Folder),
}

/// A folder of policy files.
#[derive(Debug, Args)]
pub struct Folder {
    /// The folder: controller.toml, purposes/NAME.toml, notices/NAME/LANGUAGE.toml, retention.toml.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Serialize)]
struct Applied {
    status: &'static str,
    version: i64,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PolicyPlan>,
}

impl PolicyCommand {
    /// Runs it.
    ///
    /// # Errors
    /// When a file makes no sense or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Plan(folder) => {
                let plan = plan(api, &files::read(&folder.dir)?).await?;
                output.print(&plan, text);
                Ok(if plan.refused.is_empty() { Status::Done } else { Status::Refused })
            }
            Self::Apply { folder, ask_again, erase } => {
                let policy = files::read(&folder.dir)?;
                apply(api, output, policy, (*ask_again, *erase)).await
            }
            Self::Export(folder) => {
                let current: PolicyInForce = api.get("/consent/v1/policy").await?;
                let written = files::write(&folder.dir, &current.policy)?;
                let (version, hash) = (current.version, current.hash);
                let exported = Applied { status: "exported", version, hash, plan: None };
                output.print(&exported, |it| format!("version {}: {written} files", it.version));
                Ok(Status::Done)
            }
        }
    }
}

async fn plan(api: &Api, policy: &Policy) -> Result<PolicyPlan, Failure> {
    Ok(api.post("/consent/v1/policy/plan", policy, None).await?)
}

async fn apply(
    api: &Api,
    output: Output,
    policy: Policy,
    (ask_again, erase): (bool, bool),
) -> Result<Status, Failure> {
    let plan = plan(api, &policy).await?;
    let asked_again: i64 = plan.changes.iter().map(|change| change.asked_again).sum();
    let erased: i64 = plan.changes.iter().map(|change| change.erased).sum();
    let unmeant = [
        (asked_again, ask_again, "have to be asked again", "--ask-again"),
        (erased, erase, "be erased", "--erase"),
    ];
    let unmeant = unmeant.map(|(people, meant, what, flag)| {
        (people > 0 && !meant)
            .then(|| format!("{people} people would {what}; if that is meant, add {flag}"))
    });
    let refused = !plan.refused.is_empty() || unmeant.iter().any(Option::is_some);
    let status = match () {
        () if refused => "refused",
        () if plan.changes.is_empty() => "unchanged",
        () => "applied",
    };
    let (mut version, mut hash) = (plan.version, String::new());
    if !refused {
        let request = ApplyPolicy { version: plan.version, policy };
        let applied: PolicyInForce =
            api.post("/consent/v1/policy", &request, Some(&idempotency_key())).await?;
        (version, hash) = (applied.version, applied.hash);
    }
    if refused && plan.refused.is_empty() {
        unmeant.iter().flatten().for_each(|remark| output.remark(remark));
    }
    let applied = Applied { status, version, hash, plan: Some(plan) };
    output.print(&applied, |applied| {
        let plan = applied.plan.as_ref().map(text).unwrap_or_default();
        match applied.status {
            "applied" => format!("{plan}\n\napplied: version {version}"),
            "unchanged" => format!("nothing to change: version {version} is in force"),
            _ => format!("{plan}\n\nnot applied"),
        }
    });
    Ok(if refused { Status::Refused } else { Status::Done })
}

fn text(plan: &PolicyPlan) -> String {
    let mut lines = Vec::new();
    for change in &plan.changes {
        let PlannedChange { what, action, fields, asked_again, erased } = change;
        let sign = match action {
            Action::Create => '+',
            Action::Update => '~',
            Action::Delete => '-',
        };
        lines.push(format!("{sign} {what}"));
        if *action != Action::Delete {
            lines.extend(fields.iter().map(field));
        }
        if *asked_again > 0 {
            lines.push(format!("    {asked_again} people will need to be asked again"));
        }
        if *erased > 0 {
            lines.push(format!("    {erased} people will be erased"));
        }
    }
    if plan.changes.is_empty() {
        lines.push(format!("nothing to change: version {} is in force", plan.version));
    }
    if !plan.missing.is_empty() {
        lines.push("\nnot there, although people must be told:".to_owned());
        let missing = plan.missing.iter();
        lines.extend(missing.map(|it| format!("  {}: {} ({})", it.at, it.item, it.rule)));
    }
    if !plan.against.is_empty() {
        lines.push("\nlaxer than the law:".to_owned());
        let against = plan.against.iter();
        lines.extend(against.map(|it| format!("  {}: {} ({})", it.at, it.reason, it.article)));
    }
    if !plan.refused.is_empty() {
        lines.push("\ncan't be applied:".to_owned());
        lines.extend(plan.refused.iter().map(|it| format!("  {}: {}", it.at, it.reason)));
    }
    lines.join("\n")
}

fn field(change: &FieldChange) -> String {
    let FieldChange { field, before, after } = change;
    let (first, second) = (before.as_deref().unwrap_or(""), after.as_deref().unwrap_or(""));
    let same = first.chars().zip(second.chars()).take_while(|(one, other)| one == other).count();
    let shown = |text: &Option<String>| match text {
        None => "–".to_owned(),
        Some(text) => excerpt(text, same),
    };
    format!("    {field}: {} → {}", shown(before), shown(after))
}

/// Enough of a text to see what is different from its character `at` on; the files have it whole.
fn excerpt(text: &str, at: usize) -> String {
    const BEFORE: usize = 20;
    const SHOWN_MAX: usize = 60;
    let length = text.chars().count();
    let start = if length <= SHOWN_MAX { 0 } else { at.saturating_sub(BEFORE) };
    let shown: String = text.chars().skip(start).take(SHOWN_MAX).collect();
    let (left, right) = (start > 0, start + SHOWN_MAX < length);
    format!("{}{shown:?}{}", if left { "…" } else { "" }, if right { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_where_it_is() {
        let long = |end: &str| Some(format!("{}{end}", "word ".repeat(40)));
        let change =
            FieldChange { field: "text".to_owned(), before: long("old"), after: long("new") };
        let line = field(&change);
        assert!(line.contains("old\" → ") && line.ends_with("new\""), "{line}");
        let change = FieldChange {
            field: "channels".to_owned(),
            before: None,
            after: Some("[\"whatsapp\"]".to_owned()),
        };
        assert_eq!(field(&change), "    channels: – → \"[\\\"whatsapp\\\"]\"");
    }
}
