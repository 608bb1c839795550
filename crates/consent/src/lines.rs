//! The ledger lines in Postgres: what holds per person and scope, for the gate to join. It
//! guarantees that lines change in the transaction of the events that change them; folding events
//! into lines is left to `domain::ledger`.

use assent_contracts::SubjectId;
use assent_contracts::consent::State;
use jiff_sqlx::{Timestamp, ToSqlx as _};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::ledger::{Ledger, Line};
use crate::domain::scope::Scope;

/// Lines that are to be written, as columns.
#[derive(Debug, Default)]
pub struct Lines {
    subjects: Vec<SubjectId>,
    purposes: Vec<String>,
    channels: Vec<String>,
    states: Vec<&'static str>,
    events: Vec<Uuid>,
    versions: Vec<i64>,
    since: Vec<Timestamp>,
    notices: Vec<Option<String>>,
    until: Vec<Option<Timestamp>>,
    by_guardian: Vec<bool>,
}

impl Lines {
    /// Takes those lines of `ledger` that changed after stream version `before`.
    pub fn push_changed(&mut self, subject: SubjectId, ledger: &Ledger, before: i64) {
        for (scope, line) in ledger.lines().filter(|(_, line)| line.version > before) {
            self.subjects.push(subject);
            self.purposes.push(scope.purpose.clone());
            self.channels.push(scope.channel.clone());
            self.states.push(state_name(line.state));
            self.events.push(line.event_id);
            self.versions.push(line.version);
            self.since.push(line.since.to_sqlx());
            self.notices.push(line.notice_hash);
            self.until.push(line.valid_until.map(|until| until.to_sqlx()));
            self.by_guardian.push(line.by_guardian);
        }
    }

    /// Writes them, in one statement.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn write(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        const WRITE: &str = "
            INSERT INTO consent_lines (subject_id, purpose, channel, state, event_id, version,
                                       since, notice_hash, valid_until, by_guardian)
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[],
                                 $6::bigint[], $7::timestamptz[], $8::text[], $9::timestamptz[],
                                 $10::boolean[])
            ON CONFLICT (subject_id, purpose, channel) DO UPDATE SET
                state = excluded.state, event_id = excluded.event_id, version = excluded.version,
                since = excluded.since, notice_hash = excluded.notice_hash,
                valid_until = excluded.valid_until, by_guardian = excluded.by_guardian";
        if self.subjects.is_empty() {
            return Ok(());
        }
        sqlx::query(WRITE)
            .bind(&self.subjects)
            .bind(&self.purposes)
            .bind(&self.channels)
            .bind(&self.states)
            .bind(&self.events)
            .bind(&self.versions)
            .bind(&self.since)
            .bind(&self.notices)
            .bind(&self.until)
            .bind(&self.by_guardian)
            .execute(conn)
            .await?;
        Ok(())
    }
}

/// The lines of one person, sorted by scope, and whether she is fenced.
///
/// # Errors
/// When the database fails.
pub async fn of_subject(
    conn: &mut PgConnection,
    subject: SubjectId,
) -> Result<(Vec<(Scope, Line)>, bool), sqlx::Error> {
    const LINES: &str = "
        SELECT purpose, channel, state, event_id, version, since, notice_hash, valid_until,
               by_guardian
        FROM consent_lines WHERE subject_id = $1 ORDER BY purpose, channel";
    let rows = sqlx::query(LINES).bind(subject).fetch_all(&mut *conn).await?;
    let lines = rows
        .iter()
        .map(|row| {
            let line = Line {
                state: state(row.try_get(2)?)?,
                event_id: row.try_get(3)?,
                version: row.try_get(4)?,
                since: row.try_get::<Timestamp, _>(5)?.to_jiff(),
                notice_hash: row.try_get(6)?,
                valid_until: row.try_get::<Option<Timestamp>, _>(7)?.map(Timestamp::to_jiff),
                by_guardian: row.try_get(8)?,
            };
            Ok((Scope { purpose: row.try_get(0)?, channel: row.try_get(1)? }, line))
        })
        .collect::<Result<_, sqlx::Error>>()?;
    let fenced = sqlx::query("SELECT 1 FROM fences WHERE subject_id = $1")
        .bind(subject)
        .fetch_optional(conn)
        .await?
        .is_some();
    Ok((lines, fenced))
}

/// The stable name of a state.
#[must_use]
pub const fn state_name(state: State) -> &'static str {
    match state {
        State::Requested => "requested",
        State::Given => "given",
        State::Refused => "refused",
        State::Withdrawn => "withdrawn",
        State::Expired => "expired",
    }
}

/// The state of this name.
///
/// # Errors
/// When there is none.
pub fn state(name: &str) -> Result<State, sqlx::Error> {
    Ok(match name {
        "requested" => State::Requested,
        "given" => State::Given,
        "refused" => State::Refused,
        "withdrawn" => State::Withdrawn,
        "expired" => State::Expired,
        other => return Err(sqlx::Error::Decode(format!("unknown state {other}").into())),
    })
}
