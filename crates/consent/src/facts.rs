//! What commands are decided on beside the ledgers: the notices of each purpose, and what stands
//! against the addresses of each person. It guarantees one snapshot per batch and that names which
//! mean nothing here are refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use assent_contracts::SubjectId;
use assent_contracts::consent::{Method, PurposeDefined};
use assent_eventstore::{Session, StoreError};
use assent_rules::{RuleSet, Value};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sqlx::{PgConnection, Row as _};

use crate::asks::CHANNEL;
use crate::commands::{CommandError, LedgerCommand, Shown, Wish};
use crate::domain::decide::{Bars, Refusal};
use crate::domain::event::{Act, Notice};
use crate::domain::scope::{ANY, Scope};
use crate::policy::{self, Version};

/// The facts of one batch.
#[derive(Debug, Default)]
pub struct Facts {
    purposes: HashMap<String, Pursued>,
    /// All versions of those purposes that are granted as of an earlier time, or on a notice that was
    /// named.
    versions: HashMap<String, Vec<Version>>,
    bars: HashMap<SubjectId, Bars>,
    /// How people are asked, by purpose, where somebody is to be.
    asking: BTreeMap<String, PurposeDefined>,
    /// For how long the law leaves people alone who said no.
    quiet_by_law: SignedDuration,
}

/// How somebody is asked.
#[derive(Debug, Clone)]
pub struct HowToAsk {
    /// On which notice she would agree.
    pub notice: Notice,
    /// By which template.
    pub template: String,
    /// In which language.
    pub language: String,
    /// How long before the end of a consent its renewal is asked for.
    pub before: SignedDuration,
    /// How long she is left alone after she was asked or said no.
    pub again_after: SignedDuration,
    /// The notices on which a consent holds today; none: every one.
    pub accepted: Vec<String>,
}

/// The newest version of a purpose.
#[derive(Debug)]
struct Pursued {
    channels: Vec<String>,
    notice: Notice,
    double_opt_in: bool,
}

impl Facts {
    /// Collects them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn collect(
        session: &mut Session,
        commands: &[LedgerCommand],
        rules: &RuleSet,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut facts = Self::newest(session.conn(), commands).await?;
        facts.collect_versions(session, commands).await?;
        if commands.iter().any(|command| matches!(command.wish, Wish::Ask { .. })) {
            facts.asking = policy::purposes(session.conn()).await?;
            facts.quiet_by_law = quiet_by_law(rules, now);
        }
        Ok(facts)
    }

    async fn newest(
        conn: &mut PgConnection,
        commands: &[LedgerCommand],
    ) -> Result<Self, StoreError> {
        // A deployment has a handful of purposes.
        const PURPOSES: &str = "
            SELECT purpose, channels, notice_version, notice_hash, validity_days, double_opt_in,
                   lapses_after_days
            FROM purposes";
        const BARS: &str = "
            SELECT l.subject_id, bool_or(r.stopped_by IS NOT NULL),
                   bool_or(r.suppressed_by IS NOT NULL), bool_or(r.erased_by IS NOT NULL)
            FROM gate_links l JOIN gate_rows r USING (token)
            WHERE l.subject_id = ANY($1) GROUP BY l.subject_id";
        let mut facts = Self::default();
        for row in sqlx::query(PURPOSES).fetch_all(&mut *conn).await? {
            let number = |value: i32| u32::try_from(value).unwrap_or_default();
            let notice = Notice {
                version: number(row.try_get(2)?),
                hash: row.try_get(3)?,
                validity_days: row.try_get::<Option<i32>, _>(4)?.map(number),
                lapses_after_days: row.try_get::<Option<i32>, _>(6)?.map(number),
            };
            let (channels, double_opt_in) = (row.try_get(1)?, row.try_get(5)?);
            facts.purposes.insert(row.try_get(0)?, Pursued { channels, notice, double_opt_in });
        }
        let barred: Vec<SubjectId> = commands
            .iter()
            .filter(|command| match &command.wish {
                Wish::Grant { own_addresses, .. } | Wish::Confirm { own_addresses, .. } => {
                    own_addresses.is_empty()
                }
                Wish::Ask { .. } => true,
                _ => false,
            })
            .map(|command| command.subject)
            .collect();
        if !barred.is_empty() {
            for row in sqlx::query(BARS).bind(&barred).fetch_all(conn).await? {
                let bars = Bars {
                    stopped: row.try_get(1)?,
                    suppressed: row.try_get(2)?,
                    erased: row.try_get(3)?,
                };
                facts.bars.insert(row.try_get(0)?, bars);
            }
        }
        Ok(facts)
    }

    /// The notices of earlier days and of all languages, where a grant needs them: consent points
    /// at the notice that was shown.
    async fn collect_versions(
        &mut self,
        session: &mut Session,
        commands: &[LedgerCommand],
    ) -> Result<(), StoreError> {
        let told: BTreeSet<&str> = commands
            .iter()
            .filter_map(|command| match &command.wish {
                Wish::Grant { scope, act, shown, .. }
                    if act.acted_at.is_some() || *shown != Shown::Default =>
                {
                    Some(&*scope.purpose)
                }
                Wish::Ask { scope, .. } => Some(&*scope.purpose),
                _ => None,
            })
            .filter(|purpose| self.purposes.contains_key(*purpose))
            .collect();
        for purpose in told {
            let versions = policy::history(session.conn(), purpose).await?;
            self.versions.insert(purpose.to_owned(), versions);
        }
        Ok(())
    }

    /// What stands against this person's addresses.
    #[must_use]
    pub fn bars(&self, subject: SubjectId) -> Bars {
        self.bars.get(&subject).copied().unwrap_or_default()
    }

    /// Whether a yes to this purpose counts only once it is confirmed.
    #[must_use]
    pub fn double_opt_in(&self, scope: &Scope) -> bool {
        self.purposes.get(&scope.purpose).is_some_and(|pursued| pursued.double_opt_in)
    }

    /// The notice that she was shown.
    ///
    /// # Errors
    /// When there was none, or the names mean nothing.
    pub fn notice(&self, scope: &Scope, act: &Act, shown: &Shown) -> Result<Notice, CommandError> {
        // What was shown before there was a policy is what the reviewer of its evidence says it was.
        let acted_at = act.acted_at.filter(|_| act.method != Method::Import);
        if scope.is_wide() {
            return Err(Refusal::NotSpecific.into());
        }
        self.known(scope)?;
        let newest = self.purposes.get(&scope.purpose).ok_or(CommandError::PurposeUnknown)?;
        if acted_at.is_none() && *shown == Shown::Default {
            return Ok(newest.notice.clone());
        }
        let versions = self.versions.get(&scope.purpose).map_or(&[][..], Vec::as_slice);
        let then = |at: &Timestamp| acted_at.is_none_or(|acted_at| *at <= acted_at);
        let mut then = versions.iter().rev().filter(|(_, at, _)| then(at));
        let notice = match shown {
            Shown::Notice(hash) => {
                then.find_map(|(_, _, defined)| Notice::with_hash(defined.as_ref()?, hash))
            }
            Shown::InLanguage(locale) => {
                then.next().and_then(|(_, _, it)| Notice::of(it.as_ref()?, Some(locale)))
            }
            Shown::Default => then.next().and_then(|(_, _, it)| Notice::of(it.as_ref()?, None)),
        };
        notice.ok_or(CommandError::NoNoticeThen)
    }

    /// How she is asked for this, in the language that is named, or that of the notice with the hash that
    /// she agreed to, or the purpose's first one.
    ///
    /// # Errors
    /// When nobody is asked for it, or the names mean nothing.
    pub fn how_to_ask(
        &self,
        scope: &Scope,
        locale: Option<&str>,
        agreed: Option<&str>,
    ) -> Result<HowToAsk, CommandError> {
        self.known(scope)?;
        let defined = self.asking.get(&scope.purpose).ok_or(CommandError::PurposeUnknown)?;
        // A message by one channel never rests on what was agreed about another.
        let ask = defined.ask.as_ref().filter(|_| scope.channel == CHANNEL);
        let ask = ask.ok_or(CommandError::NotAskedFor)?;
        let versions = self.versions.get(&scope.purpose).map_or(&[][..], Vec::as_slice);
        let spoken = versions.iter().filter_map(|(_, _, it)| it.as_ref()).find_map(|defined| {
            let (locale, _) =
                defined.notices.iter().find(|(_, text)| Some(&*text.hash) == agreed)?;
            Some(locale.clone())
        });
        let there = |locale: &String| defined.notices.contains_key(locale);
        let language = match locale {
            Some(locale) => locale.to_owned(),
            None => spoken.filter(there).unwrap_or_else(|| defined.notice_locale.clone()),
        };
        let notice = Notice::of(defined, Some(&language)).ok_or(CommandError::NoNoticeThen)?;
        let days = |days: u32| SignedDuration::from_hours(24 * i64::from(days));
        Ok(HowToAsk {
            notice,
            template: ask.template.clone(),
            language,
            before: days(ask.before_days),
            again_after: days(ask.again_after_days).max(self.quiet_by_law),
            accepted: defined.accepted.clone(),
        })
    }

    /// Names that mean nothing here are refused: they would be free text in the ledger.
    ///
    /// # Errors
    /// When the purpose or the channel is unknown.
    pub fn known(&self, scope: &Scope) -> Result<(), CommandError> {
        let mut channels: Box<dyn Iterator<Item = &String>> = if scope.purpose == ANY {
            Box::new(self.purposes.values().flat_map(|pursued| &pursued.channels))
        } else {
            let known = self.purposes.get(&scope.purpose).ok_or(CommandError::PurposeUnknown)?;
            Box::new(known.channels.iter())
        };
        if scope.channel == ANY || channels.any(|channel| *channel == scope.channel) {
            return Ok(());
        }
        Err(CommandError::ChannelUnknown)
    }
}

/// Where a person is isn't known here: the longest term that may apply to her counts.
fn quiet_by_law(rules: &RuleSet, now: Timestamp) -> SignedDuration {
    let on = now.to_zoned(TimeZone::UTC).date();
    let in_force = rules.files().flat_map(|file| &file.rules).filter(|rule| rule.is_in_force(on));
    let terms = in_force.filter_map(|rule| match rule.value {
        Value::AskAgainAfter(period) => Some(period.hours_from(on)),
        _ => None,
    });
    SignedDuration::from_hours(terms.max().unwrap_or(0))
}
