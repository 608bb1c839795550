//! What a refusal of the provider leaves behind beyond its own message, and what of that stands in the
//! way of a send. It guarantees that both are rows, written in the transaction that settles the
//! message: a restart forgets none, and every replica sees them. Which code asks for what is
//! [`crate::whatsapp::reaction`]'s to say.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use assent_contracts::SubjectId;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::config::WhatsApp;
use crate::domain::identity::Doubt;
use crate::domain::template::{self, Standing as TemplateStanding};
use crate::intents::Claimed;
use crate::state::Messaging;
use crate::whatsapp::reaction::{DAY, HOUR, LOOK_AGAIN, Reach, Reaction, TemplateFault};
use crate::whatsapp::updates::AccountUpdate;
use crate::{campaigns, identities, limits, metrics, rates, tasks, templates};

/// A refusal, as far as others are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequence {
    /// What the code asks for.
    pub reaction: Reaction,
    /// The code.
    pub code: Option<i64>,
    /// Whose message it was.
    pub subject: SubjectId,
    /// Name and language of the template.
    pub template: Option<(String, String)>,
    /// When the provider said so.
    pub said_at: Timestamp,
}

/// Writes what refusals leave behind. `is_gone` tells of whom nothing may be written any more.
///
/// # Errors
/// When the database fails.
pub async fn record(
    messaging: &Messaging,
    conn: &mut PgConnection,
    consequences: &[Consequence],
    is_gone: impl Fn(SubjectId) -> bool,
) -> Result<(), sqlx::Error> {
    // One order for everybody, so that two transactions never wait for each other. People are locked by
    // their streams.
    let whatsapp = &messaging.config.whatsapp;
    let phone_number_id = &whatsapp.phone_number_id;
    let mut sorted: Vec<&Consequence> = consequences.iter().collect();
    sorted.sort_by_key(|it| (rank(it.reaction), &it.template));
    for it in sorted {
        match it.reaction {
            Reaction::Halt(reach) => {
                halt(conn, phone_number_id, reach, it.code, it.said_at).await?
            }
            Reaction::BackOffHour => rates::hold_back(conn, phone_number_id, HOUR).await?,
            Reaction::SlowNumber => rates::slow(conn, phone_number_id).await?,
            Reaction::Template(fault) => {
                if let Some((name, language)) = &it.template {
                    hold_template(conn, name, language, fault, it.said_at).await?;
                    templates::read_soon(conn, whatsapp).await?;
                }
            }
            Reaction::DelayPair
            | Reaction::CapPerson
            | Reaction::AwaitInbound
            | Reaction::BreakTrust => {
                if !is_gone(it.subject) {
                    bar(conn, it).await?;
                    if it.reaction == Reaction::BreakTrust {
                        tasks::open(messaging, conn, it.subject, Doubt::HashChanged).await?;
                    }
                }
            }
            Reaction::Permanent | Reaction::Ambiguous | Reaction::BackOff | Reaction::OptOut => {}
        }
    }
    Ok(())
}

const fn rank(reaction: Reaction) -> u8 {
    match reaction {
        Reaction::Halt(_) => 0,
        Reaction::BackOffHour | Reaction::SlowNumber => 1,
        Reaction::Template(_) => 2,
        _ => 3,
    }
}

/// Halts a number. One that was lifted after the provider said so stays lifted: webhooks come late, and
/// more than once.
///
/// # Errors
/// When the database fails.
pub async fn halt(
    conn: &mut PgConnection,
    phone_number_id: &str,
    reach: Reach,
    code: Option<i64>,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    const HALT: &str = "
        INSERT INTO halts AS halt (phone_number_id, reach, provider_code, since)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (phone_number_id, reach) DO UPDATE
            SET provider_code = EXCLUDED.provider_code, since = EXCLUDED.since, lifted_at = NULL
            WHERE halt.lifted_at < EXCLUDED.since";
    let halted = sqlx::query(HALT)
        .bind(phone_number_id)
        .bind(reach.as_str())
        .bind(code)
        .bind(said_at.to_sqlx())
        .execute(conn)
        .await?;
    if halted.rows_affected() > 0 {
        metrics::halted(reach);
        tracing::error!(
            code,
            reach = reach.as_str(),
            "the provider halts this number: someone must look"
        );
    }
    Ok(())
}

/// What the provider tells of the account, and what that means for its number.
///
/// # Errors
/// When the database fails.
pub async fn account(
    conn: &mut PgConnection,
    whatsapp: &WhatsApp,
    update: &AccountUpdate,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let phone_number_id = &whatsapp.phone_number_id;
    let AccountUpdate { number, field, event, ban, tier, .. } = update;
    if field == "phone_number_quality_update" {
        // Not told, or not configured: it may be ours.
        let of_another =
            number.as_ref().zip(whatsapp.number.as_ref()).is_some_and(|(it, ours)| it != ours);
        let event = (!of_another).then_some(event.as_str());
        return limits::number::hear(conn, phone_number_id, event, tier.as_deref(), said_at).await;
    }
    let reach = match (event.as_str(), ban.as_deref()) {
        ("DISABLED_UPDATE", Some("REINSTATE")) => None,
        // Announced; nothing is taken away yet.
        ("DISABLED_UPDATE", Some("SCHEDULE_FOR_DISABLE")) => None,
        ("DISABLED_UPDATE" | "ACCOUNT_DELETED", _) => Some(Reach::Everything),
        ("ACCOUNT_RESTRICTION", _) => Some(Reach::Billable),
        _ => None,
    };
    match reach {
        Some(reach) => halt(conn, phone_number_id, reach, None, said_at).await,
        None => {
            tracing::warn!(field, event, ban, "the provider tells of the account");
            Ok(())
        }
    }
}

/// Lifts a halt; what waited for that is due at once. Gives whether there was one.
///
/// # Errors
/// When the database fails.
pub async fn lift(
    conn: &mut PgConnection,
    phone_number_id: &str,
    reach: Reach,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    const LIFT: &str = "
        UPDATE halts SET lifted_at = $3
        WHERE phone_number_id = $1 AND reach = $2 AND lifted_at IS NULL";
    const WAKE: &str = "
        UPDATE intents SET not_before = now()
        WHERE state = 'queued' AND not_before > now() AND $1 = ANY(reasons)";
    let lifted = sqlx::query(LIFT)
        .bind(phone_number_id)
        .bind(reach.as_str())
        .bind(now.to_sqlx())
        .execute(&mut *conn)
        .await?;
    if lifted.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(WAKE).bind(reach.reason()).execute(conn).await?;
    Ok(true)
}

/// A template that the provider knows better than its last news told: that news may be on its way.
async fn hold_template(
    conn: &mut PgConnection,
    name: &str,
    language: &str,
    fault: TemplateFault,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    const HOLD: &str = "
        UPDATE templates SET status = $3, status_since = $4
        WHERE name = $1 AND language = $2 AND date_trunc('second', status_since) <= $4
          AND status <> $3";
    let status = match fault {
        TemplateFault::Missing => template::MISSING,
        TemplateFault::Paused => "PAUSED",
        TemplateFault::Disabled => "DISABLED",
    };
    let held = sqlx::query(HOLD)
        .bind(name)
        .bind(language)
        .bind(status)
        .bind(said_at.to_sqlx())
        .execute(conn)
        .await?;
    if held.rows_affected() > 0 {
        tracing::warn!(template = name, language, status, "the provider refuses a template");
    }
    Ok(())
}

async fn bar(conn: &mut PgConnection, it: &Consequence) -> Result<(), sqlx::Error> {
    // A pair's delay is 4^n seconds, where n counts delays that follow each other within an hour. What is
    // heard during one is of the same burst.
    const BAR: &str = "
        INSERT INTO person_bars AS held (subject_id, bar, provider_code, since, until)
        VALUES ($1, $2, $3, $4, now() + CASE $2 WHEN 'pair' THEN interval '4 seconds'
                                                WHEN 'cap' THEN make_interval(secs => $5) END)
        ON CONFLICT (subject_id, bar) DO UPDATE
            SET provider_code = EXCLUDED.provider_code, since = EXCLUDED.since,
                times = CASE WHEN held.until > now() THEN held.times
                             WHEN held.until > now() - interval '1 hour' THEN held.times + 1
                             ELSE 1 END,
                until = CASE
                    WHEN $2 <> 'pair' THEN greatest(held.until, EXCLUDED.until)
                    WHEN held.until > now() THEN held.until
                    ELSE now() + make_interval(secs => least(3600, 4 ^ least(6,
                        CASE WHEN held.until > now() - interval '1 hour' THEN held.times + 1 ELSE 1 END)))
                    END";
    let Some(bar) = Bar::of(it.reaction) else { return Ok(()) };
    sqlx::query(BAR)
        .bind(it.subject)
        .bind(bar.as_str())
        .bind(it.code)
        .bind(it.said_at.to_sqlx())
        .bind(DAY.as_secs_f64())
        .execute(conn)
        .await
        .map(|_| ())
}

/// She has another number or another user id: whoever has the old one may be somebody else.
///
/// # Errors
/// When the database fails.
pub async fn break_trust(
    conn: &mut PgConnection,
    subject: SubjectId,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let reaction = Reaction::BreakTrust;
    bar(conn, &Consequence { reaction, code: None, subject, template: None, said_at }).await
}

/// She wrote after a long silence: her number may be somebody else's by now, and what rests on her consent
/// doesn't go out, but for what she agrees to from there now. What she just wrote can be answered. Gives
/// whether it holds from now on. Call it under the lock of her stream.
///
/// # Errors
/// When the database fails.
pub async fn hold_templates(
    conn: &mut PgConnection,
    subject: SubjectId,
    said_at: Timestamp,
) -> Result<bool, sqlx::Error> {
    const HOLD: &str = "
        INSERT INTO person_bars (subject_id, bar, since, lifted_for)
        SELECT $1, 'silence', $2,
               ARRAY(SELECT DISTINCT purpose FROM declarations
                     WHERE will IN ('start', 'code') AND settled_at IS NOT NULL
                       AND purpose IS NOT NULL AND subjects @> ARRAY[$1] AND said_at >= $2)
        ON CONFLICT (subject_id, bar) DO NOTHING";
    let held = sqlx::query(HOLD).bind(subject).bind(said_at.to_sqlx()).execute(conn).await?;
    Ok(held.rows_affected() > 0)
}

/// These people agreed to a purpose by an act of their own: for that they were silent before matters no more. The
/// rest may be somebody else's. Call it under the lock of their streams.
///
/// # Errors
/// When the database fails.
pub async fn opted_in(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    purpose: &str,
) -> Result<(), sqlx::Error> {
    const LIFT: &str = "
        UPDATE person_bars SET lifted_for = array_append(lifted_for, $2)
        WHERE subject_id = ANY($1) AND bar = 'silence' AND $2 <> ALL (lifted_for)";
    sqlx::query(LIFT).bind(subjects).bind(purpose).execute(conn).await.map(|_| ())
}

/// They wrote: what waited for that is over. Webhooks come late: what began after she wrote waits on. The
/// provider says when in whole seconds.
///
/// # Errors
/// When the database fails.
pub async fn they_wrote(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    said_at: &[SqlTimestamp],
) -> Result<(), sqlx::Error> {
    const LIFT: &str = "
        DELETE FROM person_bars USING unnest($1::uuid[], $2::timestamptz[]) AS t (subject_id, said_at)
        WHERE person_bars.subject_id = t.subject_id AND bar = 'experiment'
          AND date_trunc('second', since) <= t.said_at";
    sqlx::query(LIFT).bind(subjects).bind(said_at).execute(conn).await.map(|_| ())
}

/// Somebody verified that her number is hers. Gives whether that was in doubt.
///
/// # Errors
/// When the database fails.
pub async fn trust_again(conn: &mut PgConnection, subject: SubjectId) -> Result<bool, sqlx::Error> {
    sqlx::query("DELETE FROM person_bars WHERE subject_id = $1 AND bar IN ('identity', 'silence')")
        .bind(subject)
        .execute(conn)
        .await
        .map(|done| done.rows_affected() > 0)
}

/// What holds for one person's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bar {
    Pair,
    Cap,
    Experiment,
    Identity,
    Silence,
}

impl Bar {
    const fn of(reaction: Reaction) -> Option<Self> {
        match reaction {
            Reaction::DelayPair => Some(Self::Pair),
            Reaction::CapPerson => Some(Self::Cap),
            Reaction::AwaitInbound => Some(Self::Experiment),
            Reaction::BreakTrust => Some(Self::Identity),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Cap => "cap",
            Self::Experiment => "experiment",
            Self::Identity => "identity",
            Self::Silence => "silence",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Pair, Self::Cap, Self::Experiment, Self::Identity, Self::Silence]
            .into_iter()
            .find(|bar| bar.as_str() == text)
    }
}

/// A bar as it stands.
#[derive(Debug)]
struct Barred {
    bar: Bar,
    left: Duration,
    /// Of a silence: the purposes to which she has agreed since.
    lifted_for: Vec<String>,
}

impl Barred {
    /// Why it is in doubt that a message would reach the person who agreed to it.
    fn doubts(&self, intent: &Claimed) -> Option<&'static str> {
        match self.bar {
            Bar::Identity => Some("identity_changed"),
            Bar::Silence if intent.template.is_some() => {
                (!self.lifted_for.contains(&intent.purpose)).then_some("long_silence")
            }
            Bar::Silence | Bar::Pair | Bar::Cap | Bar::Experiment => None,
        }
    }
}

/// In what doubt people are.
#[derive(Debug, Default)]
pub struct Doubts(HashMap<SubjectId, Vec<Barred>>);

impl Doubts {
    /// Of these people, at one moment.
    ///
    /// # Errors
    /// When the database fails; then nothing may be sent.
    pub async fn of(conn: &mut PgConnection, subjects: &[SubjectId]) -> Result<Self, sqlx::Error> {
        const BARS: &str = "
            SELECT subject_id, bar, lifted_for FROM person_bars
            WHERE subject_id = ANY($1) AND bar IN ('identity', 'silence')";
        let mut all: HashMap<_, Vec<Barred>> = HashMap::new();
        if subjects.is_empty() {
            return Ok(Self(all));
        }
        for row in sqlx::query(BARS).bind(subjects).fetch_all(conn).await? {
            let Some(bar) = Bar::parse(row.try_get(1)?) else { continue };
            let barred = Barred { bar, left: Duration::ZERO, lifted_for: row.try_get(2)? };
            all.entry(row.try_get(0)?).or_default().push(barred);
        }
        Ok(Self(all))
    }

    /// Why a message can't go out, where one of these people is one with whom it is for.
    #[must_use]
    pub fn about(&self, intent: &Claimed, people: &[SubjectId]) -> Option<&'static str> {
        let bars = people.iter().filter_map(|it| self.0.get(it)).flatten();
        bars.filter_map(|it| it.doubts(intent)).next()
    }
}

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

/// For so long after her last message free-form messages can reach her.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// For whom of these people the window for free-form messages is open.
///
/// # Errors
/// When the database fails.
pub async fn windows(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    now: Timestamp,
) -> Result<HashSet<SubjectId>, sqlx::Error> {
    const WINDOWS: &str = "
        SELECT DISTINCT subject_id FROM inbound_messages WHERE subject_id = ANY($1) AND said_at > $2";
    let since = now.checked_sub(WINDOW).unwrap_or(now);
    let open: Vec<SubjectId> =
        sqlx::query_scalar(WINDOWS).bind(subjects).bind(since.to_sqlx()).fetch_all(conn).await?;
    Ok(open.into_iter().collect())
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
