//! `assent campaign`: messages to many, from the draft to the report.

use std::fmt::Write as _;
use std::time::Duration;

use assent_contracts::api::campaigns::{
    ApproveRequest, Audience, Billed, CampaignState, CampaignView, Consents, DryRun, Member, Report,
};
use assent_http::{Code, Listing};
use assent_runtime::{Clock as _, SystemClock};
use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::upload;
use crate::api::{Api, idempotency_key};
use crate::outcome::{Failure, Output, Status};

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// `assent campaign …`
#[derive(Debug, Subcommand)]
pub enum Campaign {
    /// Draft a campaign and take its people from the read models.
    #[command(after_help = "\
Examples:
  assent campaign draft spring-2027 --purpose marketing --template spring_offer
  assent campaign draft spring-2027 --purpose marketing --template spring_offer --language fr --region FR --region BE
  assent campaign draft who-could-we --purpose marketing --template spring_offer --everybody

Nothing is sent. Exit status: 0 drafted, 1 its people are not all taken yet (it goes on by itself), 2 wrong use, 3 a service didn't answer.")]
    Draft(Draft),
    /// Ask the gate about each of its people: who is excluded and why, how long it takes, what it costs.
    #[command(after_help = "\
Examples:
  assent campaign dry-run 01a217b8-46fe-7c7e-bcf3-1462af6ea944
  assent campaign dry-run 01a217b8-46fe-7c7e-bcf3-1462af6ea944 --json

Nothing is sent. A new dry run takes an approval back. Exit status: 0 done, 1 not done yet (it goes on by itself) or not possible, 2 wrong use, 3 a service didn't answer.")]
    DryRun(Waited),
    /// List who is excluded, and why.
    #[command(after_help = "\
Examples:
  assent campaign excluded 01a217b8-46fe-7c7e-bcf3-1462af6ea944
  assent campaign excluded 01a217b8-46fe-7c7e-bcf3-1462af6ea944 --json")]
    Excluded(One),
    /// Approve a campaign that somebody else drafted.
    #[command(after_help = "\
Examples:
  assent campaign approve 01a217b8-46fe-7c7e-bcf3-1462af6ea944 --reason dry_run_looked_at

Not by the caller that drafted it. Exit status: 0 approved, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Approve {
        /// The campaign.
        campaign: Uuid,
        /// Why, as a code of yours.
        #[arg(long, value_name = "CODE")]
        reason: String,
    },
    /// Send it.
    #[command(after_help = "\
Examples:
  assent campaign start 01a217b8-46fe-7c7e-bcf3-1462af6ea944
  assent campaign start 01a217b8-46fe-7c7e-bcf3-1462af6ea944 --wait

Exit status: 0 it runs (with --wait: it is completed), 1 not possible, or it paused, 2 wrong use, 3 a service didn't answer.")]
    Start {
        /// The campaign.
        campaign: Uuid,
        /// Wait until it is completed, has paused or is cancelled.
        #[arg(long)]
        wait: bool,
        /// How long to wait, in seconds; the campaign goes on by itself.
        #[arg(long, default_value_t = 3600)]
        timeout_s: u64,
    },
    /// Let nothing more of it go out, at once, until it is resumed.
    #[command(after_help = "\
Examples:
  assent campaign pause 01a217b8-46fe-7c7e-bcf3-1462af6ea944

When this returns nothing of it goes out any more. Exit status: 0 paused, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Pause(One),
    /// Let it go on, after somebody has looked at why it paused.
    #[command(after_help = "\
Examples:
  assent campaign resume 01a217b8-46fe-7c7e-bcf3-1462af6ea944

Exit status: 0 it goes on, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Resume(One),
    /// End it, at once and for good.
    #[command(after_help = "\
Examples:
  assent campaign cancel 01a217b8-46fe-7c7e-bcf3-1462af6ea944

When this returns nothing of it goes out any more. Exit status: 0 cancelled, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Cancel(One),
    /// Show where a campaign stands, and its last dry run.
    #[command(after_help = "\
Examples:
  assent campaign show 01a217b8-46fe-7c7e-bcf3-1462af6ea944")]
    Show(One),
    /// Count what became of it, by outcome and reason.
    #[command(after_help = "\
Examples:
  assent campaign report 01a217b8-46fe-7c7e-bcf3-1462af6ea944
  assent campaign report 01a217b8-46fe-7c7e-bcf3-1462af6ea944 --json")]
    Report(One),
    /// List the campaigns, newest first.
    #[command(after_help = "\
Examples:
  assent campaign list
  assent campaign list --json")]
    List,
}

/// One campaign.
#[derive(Debug, Args)]
pub struct One {
    /// The campaign.
    campaign: Uuid,
}

/// One campaign, whose work is waited for.
#[derive(Debug, Args)]
pub struct Waited {
    /// The campaign.
    campaign: Uuid,
    /// How long to wait, in seconds; the work goes on by itself.
    #[arg(long, default_value_t = 3600)]
    timeout_s: u64,
}

/// A draft.
#[derive(Debug, Args)]
pub struct Draft {
    /// Its name, a code of yours.
    name: String,
    /// For which purpose.
    #[arg(long)]
    purpose: String,
    /// On which channel.
    #[arg(long, default_value = "whatsapp")]
    channel: String,
    /// Which approved template.
    #[arg(long)]
    template: String,
    /// Language of the template.
    #[arg(long)]
    language: Option<String>,
    /// Values of the template's parameters, in order; the same for everybody.
    #[arg(long = "parameter", value_name = "TEXT")]
    parameters: Vec<String>,
    /// Only people with numbers of this region; may be given several times.
    #[arg(long = "region", value_name = "CC")]
    regions: Vec<String>,
    /// Everybody who is known, and not only whose consent is in force: the dry run says why the others may
    /// not be written to.
    #[arg(long)]
    everybody: bool,
    /// How long to wait until its people are taken, in seconds; that goes on by itself.
    #[arg(long, default_value_t = 3600)]
    timeout_s: u64,
}

/// A command that only says so.
#[derive(Debug, Clone, Copy)]
enum Act {
    Start,
    Pause,
    Resume,
    Cancel,
}

impl Act {
    const fn path(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

impl Campaign {
    /// Runs it.
    ///
    /// # Errors
    /// When the campaign isn't known, doesn't allow it, or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Draft(draft) => draft.run(api, output).await,
            Self::DryRun(Waited { campaign, timeout_s }) => {
                let path = format!("{}/dry-run", path(*campaign));
                let view: CampaignView = api.post(&path, &json!({}), None).await?;
                let is_done = |it: &CampaignView| it.dry_run.as_ref().is_some_and(|it| it.done);
                let view = until(api, output, view, *timeout_s, is_done).await?;
                output.print(&view, line);
                Ok(if is_done(&view) { Status::Done } else { Status::Refused })
            }
            Self::Excluded(One { campaign }) => excluded(api, output, *campaign).await,
            Self::Approve { campaign, reason } => {
                let request = ApproveRequest { reason: reason.clone() };
                let view: CampaignView =
                    api.post(&format!("{}/approve", path(*campaign)), &request, None).await?;
                output.print(&view, line);
                Ok(Status::Done)
            }
            Self::Start { campaign, wait, timeout_s } => {
                let view = act(api, *campaign, Act::Start).await?;
                let has_stopped = |it: &CampaignView| it.state != CampaignState::Running;
                let timeout_s = if *wait { *timeout_s } else { 0 };
                let view = until(api, output, view, timeout_s, has_stopped).await?;
                output.print(&view, line);
                Ok(match view.state {
                    CampaignState::Completed => Status::Done,
                    CampaignState::Running if !wait => Status::Done,
                    _ => Status::Refused,
                })
            }
            Self::Pause(One { campaign }) => said(api, output, *campaign, Act::Pause).await,
            Self::Resume(One { campaign }) => said(api, output, *campaign, Act::Resume).await,
            Self::Cancel(One { campaign }) => said(api, output, *campaign, Act::Cancel).await,
            Self::Show(One { campaign }) => {
                let view: CampaignView = api.get(&path(*campaign)).await?;
                output.print(&view, line);
                Ok(Status::Done)
            }
            Self::Report(One { campaign }) => {
                let report: Report = api.get(&format!("{}/report", path(*campaign))).await?;
                output.print(&report, report_text);
                Ok(Status::Done)
            }
            Self::List => {
                let all: Vec<CampaignView> = api.all("/messaging/v1/campaigns").await?;
                output.print(&all, |all| all.iter().map(line).collect::<Vec<_>>().join("\n"));
                Ok(Status::Done)
            }
        }
    }
}

impl Draft {
    async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let consents = if self.everybody { Consents::Any } else { Consents::Given };
        let mut request = json!({
            "name": self.name,
            "purpose": self.purpose,
            "channel": self.channel,
            "template": self.template,
            "parameters": self.parameters,
            "audience": Audience { consents, regions: self.regions.clone() },
        });
        if let Some(language) = &self.language {
            request["language"] = json!(language);
        }
        let key = idempotency_key();
        let view: CampaignView = api.post("/messaging/v1/campaigns", &request, Some(&key)).await?;
        let is_taken = |it: &CampaignView| it.state != CampaignState::Gathering;
        let view = until(api, output, view, self.timeout_s, is_taken).await?;
        output.print(&view, line);
        Ok(if is_taken(&view) { Status::Done } else { Status::Refused })
    }
}

fn path(campaign: Uuid) -> String {
    format!("/messaging/v1/campaigns/{campaign}")
}

async fn act(api: &Api, campaign: Uuid, act: Act) -> Result<CampaignView, Failure> {
    let path = format!("{}/{}", path(campaign), act.path());
    match api.post(&path, &json!({}), None).await {
        Ok(view) => Ok(view),
        Err(error) if error.code() == Some(Code::TemplateUnavailable) => {
            Err(Failure { status: Status::Refused, ..error.into() })
        }
        Err(error) => Err(error.into()),
    }
}

async fn said(api: &Api, output: Output, campaign: Uuid, what: Act) -> Result<Status, Failure> {
    let view = act(api, campaign, what).await?;
    output.print(&view, line);
    Ok(Status::Done)
}

/// Looks until the work is done, at most so long; tells how far it is.
async fn until(
    api: &Api,
    output: Output,
    mut view: CampaignView,
    timeout_s: u64,
    is_done: impl Fn(&CampaignView) -> bool,
) -> Result<CampaignView, Failure> {
    let give_up = SystemClock.boottime() + Duration::from_secs(timeout_s);
    let bar = upload::progress(output, None);
    while !is_done(&view) && SystemClock.boottime() < give_up {
        bar.set_message(progress(&view));
        bar.tick();
        tokio::time::sleep(LOOK_AGAIN).await;
        match api.get(&path(view.campaign_id)).await {
            Ok(now) => view = now,
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
    }
    bar.finish_and_clear();
    Ok(view)
}

fn progress(view: &CampaignView) -> String {
    match (view.state, &view.dry_run) {
        (CampaignState::Gathering, _) => format!("{} people so far", view.members),
        (CampaignState::Draft | CampaignState::Approved, Some(run)) => {
            format!("{} of {} asked", run.asked, view.members)
        }
        (state, _) => state.as_str().to_owned(),
    }
}

async fn excluded(api: &Api, output: Output, campaign: Uuid) -> Result<Status, Failure> {
    let mut all: Vec<Member> = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("{}/members?state=excluded&limit=500{cursor}", path(campaign));
        let page: Listing<Member> = api.get(&path).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    output.print(&all, |all| {
        let line = |it: &Member| format!("{}  {}", it.subject_id, it.reasons.join(", "));
        if all.is_empty() {
            return "nobody".to_owned();
        }
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(Status::Done)
}

fn line(view: &CampaignView) -> String {
    let CampaignView { campaign_id, name, state, members, purpose, template, language, .. } = view;
    let mut text = format!(
        "{campaign_id}  {name}  {}: {members} people, {purpose}, {template} ({language}), by {}",
        state.as_str(),
        view.drafted_by
    );
    if let Some(reason) = view.pause_reason {
        let _ = write!(text, "\n  paused: {}", reason.as_str());
    }
    match &view.approved_by {
        Some(by) => {
            let _ = write!(text, "\n  approved by {by}");
        }
        None if *members > view.approval_above && *state == CampaignState::Draft => {
            let above = view.approval_above;
            let _ = write!(text, "\n  more than {above} people: somebody else has to approve it");
        }
        None => {}
    }
    if let Some(run) = &view.dry_run {
        text.push_str(&dry_run(run));
    }
    text
}

fn dry_run(run: &DryRun) -> String {
    let excluded: i64 = run.excluded.values().sum();
    let mut text = String::from("\n  dry run");
    if !run.done {
        let _ = write!(text, ", {} asked so far", run.asked);
    }
    let _ = write!(text, ": {} may be written to, {excluded} are excluded", run.allowed);
    for (reason, count) in &run.excluded {
        let _ = write!(text, "\n  {count:>9}  {reason}");
    }
    let _ = write!(
        text,
        "\n  takes at least {}, by the {}; quiet hours come on top",
        span(run.duration.seconds),
        run.duration.limited_by.replace('_', " ")
    );
    if let Some(cost) = &run.cost {
        let _ = write!(
            text,
            "\n  costs at most {} {} ({} {} messages at {})",
            cost.total,
            cost.currency,
            cost.messages,
            cost.category.to_lowercase(),
            cost.price
        );
        if cost.free > 0 {
            let _ = write!(text, "; {} of them free, after an advertisement", cost.free);
        }
    }
    text
}

fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn report_text(report: &Report) -> String {
    let Report { campaign_id, state, members, waiting, stops, .. } = report;
    let mut text = format!("{campaign_id}  {}: {members} people", state.as_str());
    let mut counts = |title: &str, counts: &std::collections::BTreeMap<String, i64>| {
        for (what, count) in counts {
            let _ = write!(text, "\n  {count:>9}  {title}{what}");
        }
    };
    counts("excluded: ", &report.excluded);
    counts("", &report.messages);
    counts("by WhatsApp: ", &report.statuses);
    counts("because of ", &report.reasons);
    for it in &report.billed {
        let Billed { category, billable, free, .. } = it;
        let _ = write!(text, "\n  {billable:>9}  {category}, delivered and charged");
        if let Some(total) = &it.total {
            let _ = write!(text, ": {total} {}", it.currency);
        }
        if *free > 0 {
            let _ = write!(text, "\n  {free:>9}  {category}, delivered and free");
        }
    }
    if let Some(cost) = &report.estimate {
        let _ = write!(text, "\n  was to cost at most {} {}", cost.total, cost.currency);
    }
    let _ = write!(text, "\n  {waiting:>9}  not queued");
    let _ = write!(text, "\n  {stops:>9}  said stop within a day");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let said = [5, 60, 7_260, 180_000].map(span);
        assert_eq!(said, ["5 s", "1 min", "2 h 1 min", "2 d 2 h"]);
    }
}
