//! What stands in the way of messages, as the rows say it at one moment. It guarantees that halts and templates come
//! before what holds for one person. Acting on it is left to the dispatcher.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use assent_contracts::SubjectId;
use jiff::Timestamp;
use sqlx::Row as _;
use uuid::Uuid;

use super::bars::{Bar, Barred};
use super::window::windows;
use crate::domain::template::Standing as TemplateStanding;
use crate::intents::Claimed;
use crate::state::Messaging;
use crate::whatsapp::reaction::{LOOK_AGAIN, Reach};
use crate::{campaigns, identities, tasks};

/// What stands in the way of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It waits, and is looked at again after so long.
    Wait(&'static str, Duration),
    /// It ends.
    Refuse(&'static str),
}

/// What stands, at one moment.
#[derive(Debug, Default)]
pub struct Standing {
    halts: HashSet<Reach>,
    bars: HashMap<SubjectId, Vec<Barred>>,
    templates: HashMap<(String, String), TemplateStanding>,
    windows: HashSet<SubjectId>,
    campaigns: HashSet<Uuid>,
    /// Somebody said stop, nobody knows who, and it may have been one of them.
    maybe_stopped: HashSet<SubjectId>,
    /// What they wrote may be a stop.
    unclear: HashSet<SubjectId>,
    marketing_purposes: Vec<String>,
}

/// What stands in the way of these messages. Ask it within their lease.
///
/// # Errors
/// When the database fails; then nothing may be sent.
pub async fn standing(
    messaging: &Messaging,
    intents: &[Claimed],
    now: Timestamp,
) -> Result<Standing, sqlx::Error> {
    const HALTS: &str = "SELECT reach FROM halts WHERE phone_number_id = $1 AND lifted_at IS NULL";
    const BARS: &str = "
        SELECT subject_id, bar, coalesce(extract(epoch FROM until - now()), 0)::float8, lifted_for
        FROM person_bars
        WHERE subject_id = ANY($1) AND (until IS NULL OR until > now())";
    const TEMPLATES: &str = "
        SELECT name, language,
               CASE WHEN next_category_at <= now() THEN next_category ELSE category END, status
        FROM templates WHERE name = ANY($1)";
    let phone_number_id = &messaging.config.whatsapp.phone_number_id;
    let subjects: Vec<SubjectId> = intents.iter().map(|it| it.subject).collect();
    let mut names: Vec<&str> = intents.iter().filter_map(|it| it.template.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let mut standing = Standing::default();
    let mut conn = messaging.pool().acquire().await?;
    let stops = tasks::stops(&mut conn, &subjects).await?;
    if stops.unattributed {
        standing.maybe_stopped = identities::without_account(&mut conn, &subjects).await?;
    }
    standing.unclear = stops.unclear;
    standing.marketing_purposes.clone_from(&messaging.config.marketing_purposes);
    let halts: Vec<String> =
        sqlx::query_scalar(HALTS).bind(phone_number_id).fetch_all(&mut *conn).await?;
    standing.halts = halts.iter().filter_map(|reach| Reach::parse(reach)).collect();
    for row in sqlx::query(BARS).bind(subjects).fetch_all(&mut *conn).await? {
        let Some(bar) = Bar::parse(row.try_get(1)?) else { continue };
        let left = Duration::from_secs_f64(row.try_get::<f64, _>(2)?.max(0.0));
        let barred = Barred { bar, left, lifted_for: row.try_get(3)? };
        standing.bars.entry(row.try_get(0)?).or_default().push(barred);
    }
    for row in sqlx::query(TEMPLATES).bind(names).fetch_all(&mut *conn).await? {
        let known = TemplateStanding::new(row.try_get(2)?, row.try_get(3)?);
        standing.templates.insert((row.try_get(0)?, row.try_get(1)?), known);
    }
    if intents.iter().any(|it| it.campaign.is_some()) {
        let sending = campaigns::sending(&mut conn, phone_number_id).await?;
        standing.campaigns = sending.into_iter().collect();
    }
    let free: Vec<SubjectId> =
        intents.iter().filter(|it| it.is_free_form()).map(|it| it.subject).collect();
    if !free.is_empty() {
        standing.windows = windows(&mut conn, &free, now).await?;
    }
    Ok(standing)
}

impl Standing {
    /// What is known of the template of a message; none for free text, and for a template that nobody
    /// registered: that is the provider's to refuse.
    #[must_use]
    pub fn template(&self, intent: &Claimed) -> Option<&TemplateStanding> {
        let language = intent.language.as_deref().unwrap_or("en");
        self.templates.get(&(intent.template.clone()?, language.to_owned()))
    }

    /// Whether a message is marketing, as the provider sees it.
    #[must_use]
    pub fn is_marketing(&self, intent: &Claimed) -> bool {
        self.template(intent).is_some_and(|it| it.marketing)
    }

    /// Whether its campaign may send; a message of none may.
    #[must_use]
    pub fn may_go_on(&self, intent: &Claimed) -> bool {
        intent.campaign.is_none_or(|campaign| self.campaigns.contains(&campaign))
    }

    /// What stands in the way of a message.
    #[must_use]
    pub fn of(&self, intent: &Claimed) -> Option<Obstacle> {
        let marketing = self.is_marketing(intent);
        let reaches = |reach: &Reach| match reach {
            Reach::Everything => true,
            Reach::Campaigns => marketing,
            Reach::Billable => intent.template.is_some(),
        };
        if let Some(reach) = Reach::ALL.iter().find(|it| self.halts.contains(it) && reaches(it)) {
            return Some(Obstacle::Wait(reach.reason(), LOOK_AGAIN));
        }
        if let Some(obstacle) = self.template(intent).and_then(|it| it.obstacle) {
            return Some(obstacle);
        }
        if intent.is_free_form() && !self.windows.contains(&intent.subject) {
            return Some(Obstacle::Refuse("window_closed"));
        }
        let bars = self.bars.get(&intent.subject).map_or(&[][..], Vec::as_slice);
        let obstacles = bars.iter().filter_map(|it| match it.bar {
            Bar::Pair => Some(Obstacle::Wait("pair_delayed", it.left)),
            Bar::Cap if marketing => Some(Obstacle::Wait("person_capped", it.left)),
            Bar::Experiment if marketing => Some(Obstacle::Refuse("experiment")),
            Bar::Identity | Bar::Silence => it.doubts(intent).map(Obstacle::Refuse),
            Bar::Cap | Bar::Experiment => None,
        });
        let held =
            [(&self.maybe_stopped, tasks::STOP_UNATTRIBUTED), (&self.unclear, tasks::STOP_UNCLEAR)];
        let advertises = marketing || self.marketing_purposes.contains(&intent.purpose);
        let held =
            held.into_iter().filter(|(whom, _)| advertises && whom.contains(&intent.subject));
        let held = held.map(|(_, reason)| Obstacle::Wait(reason, LOOK_AGAIN));
        // Whatever ends it wins, then whatever takes longest.
        obstacles.chain(held).max_by_key(|it| match it {
            Obstacle::Refuse(_) => Duration::MAX,
            Obstacle::Wait(_, left) => *left,
        })
    }
}
