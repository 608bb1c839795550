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
    /// The folder: controller.toml, purposes/NAME.toml, notices/NAME/LANGUAGE.toml.
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
            Self::Apply { folder, ask_again } => {
                let policy = files::read(&folder.dir)?;
                apply(api, output, policy, *ask_again).await
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
    ask_again: bool,
) -> Result<Status, Failure> {
    let plan = plan(api, &policy).await?;
    let asked_again: i64 = plan.changes.iter().map(|change| change.asked_again).sum();
    let refused = !plan.refused.is_empty() || (asked_again > 0 && !ask_again);
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
        output.remark(&format!(
            "{asked_again} people would have to be asked again; if that is meant, add --ask-again"
        ));
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
        let PlannedChange { what, action, fields, asked_again } = change;
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
    }
    if plan.changes.is_empty() {
        lines.push(format!("nothing to change: version {} is in force", plan.version));
    }
    if !plan.missing.is_empty() {
        lines.push("\nnot there, although people must be told:".to_owned());
        let missing = plan.missing.iter();
        lines.extend(missing.map(|it| format!("  {}: {} ({})", it.at, it.item, it.rule)));
    }
    if !plan.refused.is_empty() {
        lines.push("\ncan't be applied:".to_owned());
        lines.extend(plan.refused.iter().map(|it| format!("  {}: {}", it.at, it.reason)));
    }
    lines.join("\n")
}

fn field(change: &FieldChange) -> String {
    /// Enough to recognise a text by; the files have it whole.
    const SHOWN_MAX: usize = 60;
    let shown = |text: &Option<String>| match text {
        None => "–".to_owned(),
        Some(text) if text.chars().count() > SHOWN_MAX => {
            let start: String = text.chars().take(SHOWN_MAX).collect();
            format!("{start:?}…")
        }
        Some(text) => format!("{text:?}"),
    };
    format!("    {}: {} → {}", change.field, shown(&change.before), shown(&change.after))
}
