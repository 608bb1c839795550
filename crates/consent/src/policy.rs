//! The policy in the store: a stream of its own, beside one for each purpose; what the gate needs is
//! a row per purpose. It guarantees that a policy is applied whole or not at all, on the one that its
//! plan was made on, and that a deployment has its first one before it serves; what a policy means
//! is left to `domain::policy`.

use std::collections::BTreeMap;
use std::sync::Arc;

use assent_contracts::consent::{PURPOSE_DEFINED, PurposeDefined, RULES_LOADED, RulesLoaded};
use assent_contracts::policy::{
    Controller, POLICY_APPLIED, PURPOSE_RETIRED, PlannedChange, Policy, PolicyApplied,
    PolicyInForce, PolicyPlan, PolicyRefusal, PurposeRetired,
};
use assent_contracts::topics::CONSENT_EVENTS;
use assent_eventstore::{
    Append, EventStore, Expected, Idempotency, NewEvent, Session, StoreError, Stream,
};
use assent_rules::RuleSet;
use assent_runtime::{Clock, Ids};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::commands::raw;
use crate::domain::engine::Engine;
use crate::domain::policy::{
    Outcome, Outdated, RETENTION, RULES_STREAM, STREAM, adopted, against, defaults, hash, missing,
    outcome,
};
use crate::domain::purpose::stream_id;
use crate::{retention, stored};

/// A policy was not applied.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It can't be.
    #[error("the policy can't be applied: {}", .0.first().map_or("", |first| &first.reason))]
    Refused(Vec<PolicyRefusal>),
    /// Somebody else applied one since the plan was made.
    #[error("another policy is in force by now: version {0}")]
    Outdated(i64),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PolicyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The policy of this deployment.
#[derive(Clone)]
pub struct Policies {
    /// The events.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
}

impl Policies {
    /// What applying this policy would change, for how many people, and what it says against these
    /// rules.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan(&self, wanted: &Policy, rules: &RuleSet) -> Result<PolicyPlan, PolicyError> {
        let today = self.clock.now().to_zoned(TimeZone::UTC).date();
        let mut conn = self.store.pool().acquire().await?;
        let current = in_force(&mut conn).await?;
        let newest = purposes(&mut conn).await?;
        let outcome = outcome(current.as_ref().map(|it| &it.policy), &newest, wanted);
        let (changes, in_use) = weighed(&mut conn, &outcome, wanted, self.clock.now()).await?;
        Ok(PolicyPlan {
            version: current.map_or(0, |current| current.version),
            changes,
            missing: missing(wanted),
            against: against(wanted, rules, today),
            refused: [outcome.refused, in_use].concat(),
        })
    }

    /// Applies a policy that was planned on `version`; gives what is in force then. Applying the
    /// same again changes nothing.
    ///
    /// # Errors
    /// [`PolicyError`]; then nothing has changed.
    pub async fn apply(
        &self,
        wanted: Policy,
        version: i64,
        applied_by: &str,
        idempotency: Option<Idempotency>,
    ) -> Result<PolicyInForce, PolicyError> {
        let mut session = self.store.begin().await?;
        let done = self.apply_in(&mut session, wanted, version, applied_by, idempotency).await;
        match done {
            Ok(applied) => {
                session.commit().await?;
                Ok(applied)
            }
            Err(error) => {
                session.rollback().await?;
                Err(error)
            }
        }
    }

    async fn apply_in(
        &self,
        session: &mut Session,
        wanted: Policy,
        version: i64,
        applied_by: &str,
        idempotency: Option<Idempotency>,
    ) -> Result<PolicyInForce, PolicyError> {
        let own = session.lock(&[STREAM]).await?.remove(&STREAM).unwrap_or_default();
        if let Some(key) = idempotency
            && let Some(first) = session.first_answer(key).await?
        {
            return answered(&own, first.version);
        }
        let current = in_force(session.conn()).await?;
        let newest = purposes(session.conn()).await?;
        let held = current.as_ref().map_or(0, |current| current.version);
        let outcome = outcome(current.as_ref().map(|it| &it.policy), &newest, &wanted);
        let now = self.clock.now();
        let (_, in_use) = weighed(session.conn(), &outcome, &wanted, now).await?;
        let refused = [outcome.refused, in_use].concat();
        if !refused.is_empty() {
            return Err(PolicyError::Refused(refused));
        }
        match current {
            Some(current) if current.policy == wanted => {
                let nothing = Append {
                    idempotency,
                    ..Append::new(
                        STREAM,
                        Expected::Any,
                        CONSENT_EVENTS,
                        Vec::new(),
                        self.clock.now(),
                    )
                };
                session.append(vec![nothing]).await?;
                return Ok(current);
            }
            _ if held != version => return Err(PolicyError::Outdated(held)),
            _ => {}
        }
        let streams: Vec<Uuid> = outcome
            .defined
            .iter()
            .map(|defined| &defined.purpose)
            .chain(&outcome.retired)
            .map(|purpose| stream_id(purpose))
            .collect();
        let locked = session.lock(&streams).await?;
        let at = self.not_before(locked.values().chain([&own]));
        let mut appends = Vec::with_capacity(streams.len() + 1);
        for defined in &outcome.defined {
            let id = self.ids.v7();
            write(session.conn(), defined, id).await?;
            let stream = stream_id(&defined.purpose);
            appends.push(append(stream, id, PURPOSE_DEFINED, defined, at));
        }
        for purpose in outcome.retired {
            sqlx::query("DELETE FROM purposes WHERE purpose = $1")
                .bind(&purpose)
                .execute(session.conn())
                .await?;
            let stream = stream_id(&purpose);
            let event = PurposeRetired { purpose, at };
            appends.push(append(stream, self.ids.v7(), PURPOSE_RETIRED, &event, at));
        }
        let (version, id) = (own.version + 1, self.ids.v7());
        let applied_by = applied_by.to_owned();
        let applied =
            PolicyApplied { version, hash: hash(&wanted), applied_by, policy: wanted, at };
        write_policy(session.conn(), &applied, id).await?;
        let last = append(STREAM, id, POLICY_APPLIED, &applied, at);
        appends.push(Append { idempotency, ..last });
        session.append(appends).await?;
        Ok(PolicyInForce { version, hash: applied.hash, event_id: id, policy: applied.policy })
    }

    /// Recorded time never steps back: what was in force at a moment is settled by then.
    fn not_before<'a>(&self, streams: impl Iterator<Item = &'a Stream>) -> Timestamp {
        let last = streams.filter_map(|stream| stream.events.last()).map(|e| e.recorded_at).max();
        let after = |last: Timestamp| last.checked_add(SignedDuration::from_micros(1)).ok();
        let now = self.clock.now();
        last.and_then(after).map_or(now, |last| now.max(last))
    }

    /// Puts the rule set and the engine that are in force on record, unless they are there already.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn rules_loaded(&self, rules: &RuleSet) -> Result<(), PolicyError> {
        let mut session = self.store.begin().await?;
        let own = session.lock(&[RULES_STREAM]).await?.remove(&RULES_STREAM).unwrap_or_default();
        let (rule_set, at) = (rules.hash(), self.not_before(std::iter::once(&own)));
        let newest: Option<RulesLoaded> = own.events.last().map(|it| it.decode()).transpose()?;
        let engine = Some(Engine::default().name().to_owned());
        if newest.is_some_and(|it| it.rule_set == rule_set && it.engine == engine) {
            session.rollback().await?;
            return Ok(());
        }
        let event = RulesLoaded { rule_set, engine, at };
        let appended = append(RULES_STREAM, self.ids.v7(), RULES_LOADED, &event, at);
        session.append(vec![appended]).await?;
        session.commit().await?;
        Ok(())
    }

    /// Applies the first policy where there is none: the purposes that exist already, and those of
    /// the first day.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn bootstrap(
        &self,
        controller: &str,
        country: Option<&str>,
    ) -> Result<(), PolicyError> {
        let mut conn = self.store.pool().acquire().await?;
        if in_force(&mut conn).await?.is_some() {
            return Ok(());
        }
        let mut policy = defaults(controller);
        policy.controller.country = country.map(str::to_owned);
        for (name, defined) in purposes(&mut conn).await? {
            policy.purposes.insert(name, adopted(&defined));
        }
        drop(conn);
        match self.apply(policy, 0, "assent", None).await {
            // Another replica was first.
            Ok(_) | Err(PolicyError::Outdated(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The first answer to a key, again.
fn answered(own: &Stream, version: i64) -> Result<PolicyInForce, PolicyError> {
    let event = own.events.iter().find(|event| event.version == version);
    let Some(event) = event else { return Err(StoreError::Aborted.into()) };
    let applied: PolicyApplied = event.decode()?;
    Ok(PolicyInForce {
        version: applied.version,
        hash: applied.hash,
        event_id: event.id,
        policy: applied.policy,
    })
}

fn append<T: Serialize>(
    stream: Uuid,
    id: Uuid,
    event_type: &'static str,
    data: &T,
    at: Timestamp,
) -> Append {
    let event = NewEvent { id, event_type, data: raw(stored::json(data)) };
    Append::new(stream, Expected::Any, CONSENT_EVENTS, vec![event], at)
}

/// For how many people a change matters, and which purposes can't go because people agreed to them.
async fn weighed(
    conn: &mut PgConnection,
    outcome: &Outcome,
    wanted: &Policy,
    now: Timestamp,
) -> Result<(Vec<PlannedChange>, Vec<PolicyRefusal>), sqlx::Error> {
    const OUTDATED: &str = "
        SELECT count(*) FROM consent_lines
        WHERE purpose = $1 AND state = 'given' AND notice_hash <> ALL($2)
          AND (cardinality($3::text[]) = 0 OR notice_hash = ANY($3))";
    const IN_USE: &str =
        "SELECT count(*) FROM consent_lines WHERE purpose = $1 AND state = 'given'";
    let mut changes = outcome.changes.clone();
    for (purpose, Outdated { before, after }) in &outcome.outdated {
        let what = format!("purposes/{purpose}");
        let Some(change) = changes.iter_mut().find(|change| change.what == what) else { continue };
        let count = sqlx::query_scalar(OUTDATED).bind(purpose).bind(after).bind(before);
        change.asked_again = count.fetch_one(&mut *conn).await?;
    }
    if let Some(change) = changes.iter_mut().find(|change| change.what == RETENTION) {
        change.erased = match wanted.retention.idle_days {
            Some(days) => retention::count(&mut *conn, days, now).await?,
            None => 0,
        };
    }
    let mut in_use = Vec::new();
    for purpose in &outcome.retired {
        let people: i64 = sqlx::query_scalar(IN_USE).bind(purpose).fetch_one(&mut *conn).await?;
        if people > 0 {
            in_use.push(PolicyRefusal {
                at: format!("purposes/{purpose}"),
                reason: format!(
                    "{people} consents to it are in force: a purpose that is in use stays"
                ),
            });
        }
    }
    Ok((changes, in_use))
}

/// The policy in force.
///
/// # Errors
/// When the database fails.
pub async fn in_force(conn: &mut PgConnection) -> Result<Option<PolicyInForce>, sqlx::Error> {
    const POLICY: &str = "SELECT version, hash, event_id, document::text FROM policy";
    let Some(row) = sqlx::query(POLICY).fetch_optional(conn).await? else { return Ok(None) };
    Ok(Some(PolicyInForce {
        version: row.try_get(0)?,
        hash: row.try_get(1)?,
        event_id: row.try_get(2)?,
        policy: read(row.try_get(3)?)?,
    }))
}

/// The newest version of every purpose that is pursued, by name.
///
/// # Errors
/// When the database fails.
pub async fn purposes(
    conn: &mut PgConnection,
) -> Result<BTreeMap<String, PurposeDefined>, sqlx::Error> {
    sqlx::query("SELECT purpose, definition::text FROM purposes")
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, read(row.try_get(1)?)?)))
        .collect()
}

/// One version of a purpose: its event, when it was recorded, and what it says; nothing where the
/// purpose was retired.
pub type Version = (Uuid, Timestamp, Option<PurposeDefined>);

/// All versions of a purpose, oldest first.
///
/// # Errors
/// When the database fails, or an event can't be read.
pub async fn history(conn: &mut PgConnection, purpose: &str) -> Result<Vec<Version>, sqlx::Error> {
    const HISTORY: &str = "
        SELECT id, recorded_at, event_type, data::text FROM eventstore.events
        WHERE stream = $1 ORDER BY version";
    sqlx::query(HISTORY)
        .bind(stream_id(purpose))
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| {
            let at = row.try_get::<jiff_sqlx::Timestamp, _>(1)?.to_jiff();
            let defined = match row.try_get(2)? {
                PURPOSE_DEFINED => Some(read(row.try_get(3)?)?),
                _ => None,
            };
            Ok((row.try_get(0)?, at, defined))
        })
        .collect()
}

/// The controllers that the policies named, oldest first, each with the time from which it was so.
/// There is at least one once the service serves.
///
/// # Errors
/// When the database fails, an event can't be read, or there is no policy.
pub async fn controllers(
    conn: &mut PgConnection,
) -> Result<Vec<(Timestamp, Controller)>, sqlx::Error> {
    const POLICIES: &str = "
        SELECT recorded_at, data::text FROM eventstore.events
        WHERE stream = $1 AND event_type = $2 ORDER BY version";
    let rows = sqlx::query(POLICIES).bind(STREAM).bind(POLICY_APPLIED).fetch_all(conn).await?;
    if rows.is_empty() {
        return Err(sqlx::Error::RowNotFound);
    }
    rows.iter()
        .map(|row| {
            let at = row.try_get::<jiff_sqlx::Timestamp, _>(0)?.to_jiff();
            let applied: PolicyApplied = read(row.try_get(1)?)?;
            Ok((at, applied.policy.controller))
        })
        .collect()
}

/// The rule set and the engine that were in force at a moment: no rule set before the first was on
/// record, and the first engine before there were two.
///
/// # Errors
/// When the database fails, or an event can't be read: it may be of a newer version that was rolled
/// back since.
pub async fn rules_at(
    conn: &mut PgConnection,
    at: Timestamp,
) -> Result<(Option<String>, Engine), sqlx::Error> {
    const RULE_SET: &str = "
        SELECT data::text FROM eventstore.events WHERE stream = $1 AND recorded_at <= $2
        ORDER BY version DESC LIMIT 1";
    let row = sqlx::query(RULE_SET)
        .bind(RULES_STREAM)
        .bind(jiff_sqlx::ToSqlx::to_sqlx(at))
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok((None, Engine::Spine1)) };
    let RulesLoaded { rule_set, engine, .. } = read(row.try_get(0)?)?;
    let engine = engine.map_or(Some(Engine::Spine1), |name| Engine::named(&name));
    let engine =
        engine.ok_or_else(|| sqlx::Error::Decode("an engine of another version".into()))?;
    Ok((Some(rule_set), engine))
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

async fn write(
    conn: &mut PgConnection,
    defined: &PurposeDefined,
    event_id: Uuid,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        INSERT INTO purposes (purpose, channels, notice_version, notice_hash, validity_days,
                              definition, event_id, accepted, double_opt_in,
                              lapses_after_days)
        VALUES ($1, $2, $3, $4, $5, $6::json, $7, $8, $9, $10)
        ON CONFLICT (purpose) DO UPDATE SET
            channels = excluded.channels, notice_version = excluded.notice_version,
            notice_hash = excluded.notice_hash, validity_days = excluded.validity_days,
            definition = excluded.definition, event_id = excluded.event_id,
            accepted = excluded.accepted, double_opt_in = excluded.double_opt_in,
            lapses_after_days = excluded.lapses_after_days";
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    sqlx::query(WRITE)
        .bind(&defined.purpose)
        .bind(&defined.channels)
        .bind(number(defined.notice_version))
        .bind(&defined.notice_hash)
        .bind(defined.validity_days.map(number))
        .bind(stored::json(defined))
        .bind(event_id)
        .bind(&defined.accepted)
        .bind(defined.double_opt_in)
        .bind(defined.lapses_after_days.map(number))
        .execute(conn)
        .await?;
    Ok(())
}

async fn write_policy(
    conn: &mut PgConnection,
    applied: &PolicyApplied,
    event_id: Uuid,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        INSERT INTO policy (version, hash, document, event_id) VALUES ($1, $2, $3::json, $4)
        ON CONFLICT (only_one) DO UPDATE SET
            version = excluded.version, hash = excluded.hash, document = excluded.document,
            event_id = excluded.event_id";
    sqlx::query(WRITE)
        .bind(applied.version)
        .bind(&applied.hash)
        .bind(stored::json(&applied.policy))
        .bind(event_id)
        .execute(conn)
        .await?;
    Ok(())
}
