//! What may become of a campaign: a pure decider. It guarantees that nothing starts without a dry run,
//! above a set size without a second person, and that what has paused goes on only by a person's
//! word; who is written to, and when, is left to the feeder and the dispatcher.
//!
//! ```text
//! gathering ─▶ draft ─▶ approved ─▶ running ─▶ completed
//!                └──── few people ────▲ │
//!                                     │ ▼
//!                                   paused
//! ```
//! Everything but `completed` can be cancelled. A new dry run takes an approval back: it was about another one.

use std::collections::BTreeMap;

use assent_contracts::api::campaigns::CampaignState;
use assent_contracts::campaigns::{
    CampaignApproved, CampaignAudienceTaken, CampaignCancelled, CampaignCompleted, CampaignDrafted,
    CampaignDryRunDone, CampaignPaused, CampaignResumed, CampaignStarted, PauseReason,
};
use jiff::Timestamp;

/// A campaign, folded from its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Where it stands.
    pub state: CampaignState,
    /// Who drafted it.
    pub drafted_by: String,
    /// How many people it is for.
    pub members: u64,
    /// What its last dry run was about: the gate was asked about them.
    pub tried: Option<Tried>,
    /// The last approval: by whom, and why.
    pub approval: Option<(String, String)>,
    /// The template's category at the start.
    pub category: Option<String>,
    /// Why it is paused.
    pub pause_reason: Option<PauseReason>,
}

impl Campaign {
    fn differs(&self, template: &Template) -> Option<Refusal> {
        self.tried.as_ref()?.differs(template)
    }
}

/// What a dry run, and an approval after it, is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The template's category.
    pub category: Option<String>,
    /// SHA-256 of the template's components.
    pub content: Option<String>,
}

impl Tried {
    /// Why a template is not what was looked at; what was not known then is not compared.
    fn differs(&self, template: &Template) -> Option<Refusal> {
        let category = self.category.as_ref().is_some_and(|it| *it != template.category);
        let content = self.content.is_some() && self.content != template.content;
        match () {
            () if category => Some(Refusal::Recategorised),
            () if content => Some(Refusal::Rewritten),
            () => None,
        }
    }
}

/// What somebody wants of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Write it down.
    Draft(CampaignDrafted),
    /// Its people were taken.
    TakeAudience {
        /// How many they are.
        members: u64,
    },
    /// The gate was asked about all of them.
    FinishDryRun {
        /// How many may be written to.
        allowed: u64,
        /// How many may not, by the first reason.
        excluded: BTreeMap<String, u64>,
        /// How its template stands; none: there is none of it any more.
        template: Option<Template>,
    },
    /// Somebody has looked at it.
    Approve {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Send it.
    Start {
        /// Who says so.
        by: String,
        /// How its template stands.
        template: Template,
        /// Above so many people somebody else must have approved it.
        approval_above: u64,
    },
    /// Let nothing more go out for now.
    Pause {
        /// Who says so; none: it pauses by itself.
        by: Option<String>,
        /// Why.
        reason: PauseReason,
    },
    /// Let it go on.
    Resume {
        /// Who says so.
        by: String,
        /// How its template stands.
        template: Template,
    },
    /// End it.
    Cancel {
        /// Who says so.
        by: String,
    },
    /// Each of its messages has its outcome.
    Complete,
}

/// How a campaign's template stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its category.
    pub category: String,
    /// SHA-256 of its components, where they are known.
    pub content: Option<String>,
    /// Why the provider doesn't send it.
    pub unavailable: Option<&'static str>,
}

/// What happened to a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was written down.
    Drafted(CampaignDrafted),
    /// Its people were taken.
    AudienceTaken(CampaignAudienceTaken),
    /// The gate was asked about them.
    DryRunDone(CampaignDryRunDone),
    /// Somebody else has looked at it.
    Approved(CampaignApproved),
    /// Its messages go out.
    Started(CampaignStarted),
    /// Nothing of it goes out.
    Paused(CampaignPaused),
    /// It goes on.
    Resumed(CampaignResumed),
    /// It is ended.
    Cancelled(CampaignCancelled),
    /// Each of its messages has its outcome.
    Completed(CampaignCompleted),
}

/// Why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such campaign.
    #[error("the campaign is not known")]
    Unknown,
    /// It stands elsewhere.
    #[error("not while it is {}", .0.as_str())]
    State(CampaignState),
    /// Nobody knows yet who would be excluded.
    #[error("it was not tried dry")]
    NotTried,
    /// So many people want a second look.
    #[error("it is for so many people that somebody else has to approve it")]
    NotApproved,
    /// Nobody approves what they drafted.
    #[error("who drafted a campaign doesn't approve it")]
    SamePerson,
    /// The provider doesn't send its template now.
    #[error("the provider doesn't send its template now")]
    TemplateUnavailable(&'static str),
    /// Its dry run and its approval were about another category.
    #[error(
        "its template has another category than at its dry run: try it dry again, or draft it anew"
    )]
    Recategorised,
    /// Its dry run and its approval were about another text.
    #[error(
        "its template has another text than at its dry run: try it dry again, or draft it anew"
    )]
    Rewritten,
}

/// What a command makes of a campaign; none when it is so already.
///
/// # Errors
/// [`Refusal`].
pub fn decide(
    campaign: Option<&Campaign>,
    command: Command,
    at: Timestamp,
) -> Result<Option<Event>, Refusal> {
    use CampaignState as S;
    let Some(it) = campaign else {
        return match command {
            Command::Draft(drafted) => Ok(Some(Event::Drafted(drafted))),
            _ => Err(Refusal::Unknown),
        };
    };
    let elsewhere = Err(Refusal::State(it.state));
    match command {
        Command::Draft(_) => elsewhere,
        Command::TakeAudience { members } => match it.state {
            S::Gathering => Ok(Some(Event::AudienceTaken(CampaignAudienceTaken { members, at }))),
            _ => elsewhere,
        },
        Command::FinishDryRun { allowed, excluded, template } => match it.state {
            S::Draft | S::Approved => {
                let (category, content) =
                    template.map_or((None, None), |it| (Some(it.category), it.content));
                Ok(Some(Event::DryRunDone(CampaignDryRunDone {
                    allowed,
                    excluded,
                    category,
                    content,
                    at,
                })))
            }
            _ => elsewhere,
        },
        Command::Approve { by, reason } => match it.state {
            _ if it.approval.as_ref() == Some(&(by.clone(), reason.clone())) => Ok(None),
            S::Draft if by == it.drafted_by => Err(Refusal::SamePerson),
            S::Draft if it.tried.is_none() => Err(Refusal::NotTried),
            S::Draft => Ok(Some(Event::Approved(CampaignApproved { approved_by: by, reason, at }))),
            _ => elsewhere,
        },
        Command::Start { by, template, approval_above } => match it.state {
            S::Running => Ok(None),
            S::Draft if it.tried.is_none() => Err(Refusal::NotTried),
            S::Draft if it.members > approval_above => Err(Refusal::NotApproved),
            S::Draft | S::Approved => match (template.unavailable, it.differs(&template)) {
                (Some(reason), _) => Err(Refusal::TemplateUnavailable(reason)),
                (None, Some(refusal)) => Err(refusal),
                (None, None) => {
                    let category = template.category;
                    Ok(Some(Event::Started(CampaignStarted { started_by: by, category, at })))
                }
            },
            _ => elsewhere,
        },
        Command::Pause { by, reason } => match it.state {
            S::Running => Ok(Some(Event::Paused(CampaignPaused { reason, paused_by: by, at }))),
            S::Paused => Ok(None),
            _ => elsewhere,
        },
        Command::Resume { by, template } => match it.state {
            S::Running => Ok(None),
            S::Paused if it.category.as_ref() != Some(&template.category) => {
                Err(Refusal::Recategorised)
            }
            S::Paused => match (template.unavailable, it.differs(&template)) {
                (Some(reason), _) => Err(Refusal::TemplateUnavailable(reason)),
                (None, Some(refusal)) => Err(refusal),
                (None, None) => Ok(Some(Event::Resumed(CampaignResumed { resumed_by: by, at }))),
            },
            _ => elsewhere,
        },
        Command::Cancel { by } => match it.state {
            S::Completed => elsewhere,
            S::Cancelled => Ok(None),
            _ => Ok(Some(Event::Cancelled(CampaignCancelled { cancelled_by: by, at }))),
        },
        Command::Complete => match it.state {
            S::Running => Ok(Some(Event::Completed(CampaignCompleted { at }))),
            S::Completed => Ok(None),
            _ => elsewhere,
        },
    }
}

/// The campaign after an event. An event that can't follow changes nothing.
#[must_use]
pub fn evolve(campaign: Option<Campaign>, event: &Event) -> Option<Campaign> {
    let Some(mut it) = campaign else {
        let Event::Drafted(drafted) = event else { return None };
        return Some(Campaign {
            state: CampaignState::Gathering,
            drafted_by: drafted.drafted_by.clone(),
            members: 0,
            tried: None,
            approval: None,
            category: None,
            pause_reason: None,
        });
    };
    match event {
        Event::Drafted(_) => {}
        Event::AudienceTaken(taken) => {
            it.members = taken.members;
            it.state = CampaignState::Draft;
        }
        Event::DryRunDone(done) => {
            let (category, content) = (done.category.clone(), done.content.clone());
            it.tried = Some(Tried { category, content });
            it.approval = None;
            it.state = CampaignState::Draft;
        }
        Event::Approved(approved) => {
            it.approval = Some((approved.approved_by.clone(), approved.reason.clone()));
            it.state = CampaignState::Approved;
        }
        Event::Started(started) => {
            it.category = Some(started.category.clone());
            it.state = CampaignState::Running;
        }
        Event::Paused(paused) => {
            it.pause_reason = Some(paused.reason);
            it.state = CampaignState::Paused;
        }
        Event::Resumed(_) => {
            it.pause_reason = None;
            it.state = CampaignState::Running;
        }
        Event::Cancelled(_) => it.state = CampaignState::Cancelled,
        Event::Completed(_) => it.state = CampaignState::Completed,
    }
    Some(it)
}

#[cfg(test)]
#[path = "campaign_tests.rs"]
mod tests;
