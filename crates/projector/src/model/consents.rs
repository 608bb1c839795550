//! Consents: per person one line for each purpose and channel that she ever spoke about. Slightly
//! old by nature: audiences are computed on it, sends are decided by the gate.

use std::collections::HashMap;

use assent_bus::Received;
use assent_contracts::consent::{
    CONTACTED, Contacted, ERASED, EXPIRED, Expired, GRANTED, Granted, REFUSED, RESTRICTED,
    RESTRICTION_LIFTED, Refused, Restricted, RestrictionLifted, State, WITHDRAWN, Withdrawn,
};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Event, Malformed, Model, Schema, json};

const EVERY: &str = "*";

/// The read model of consents.
pub struct Consents;

/// What a person said. Keys that are no person (a purpose) have no lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub subject_id: Uuid,
    /// The last sequence folded in.
    pub sequence: i64,
    /// Her lines, sorted by purpose and channel.
    pub consents: Vec<Line>,
    /// The requests that restrict the use of her data, sorted: while there is one she is in no audience.
    pub restricted_by: Vec<Uuid>,
    /// Time of the last event folded in.
    pub updated_at: Timestamp,
}

/// What a person said about one purpose on one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// The purpose; `*` for a withdrawal from every one.
    pub purpose: String,
    /// The channel; `*` for every one.
    pub channel: String,
    /// `given`, `refused`, `withdrawn` or `expired`.
    #[schema(value_type = String)]
    pub state: State,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The event that it rests on.
    pub event_id: Uuid,
    /// Version of the notice that was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_version: Option<u32>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_until: Option<Timestamp>,
    /// Of an expired consent: when she had given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub given_at: Option<Timestamp>,
    /// After how many days without an act of hers it lapses: `valid_until` counts them in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_after_days: Option<u32>,
    /// When it ends whatever she does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
}

impl Line {
    /// When the word was said that the line rests on.
    fn said_at(&self) -> Timestamp {
        self.given_at.unwrap_or(self.since)
    }

    /// An act of hers before her consent would lapse puts that off.
    fn put_off(&mut self, acted_at: Timestamp) {
        let (Some(days), Some(until)) = (self.lapses_after_days, self.valid_until) else { return };
        if self.state == State::Given && acted_at < until {
            let lapses = after_days(acted_at, days).max(until);
            self.valid_until = Some(self.ends_at.map_or(lapses, |end| end.min(lapses)));
        }
    }

    fn is_no(&self) -> bool {
        matches!(self.state, State::Refused | State::Withdrawn)
    }

    fn covers(&self, purpose: &str, channel: &str) -> bool {
        (self.purpose == EVERY || self.purpose == purpose)
            && (self.channel == EVERY || self.channel == channel)
    }
}

/// `days` × 24 h later, as the ledger counts.
fn after_days(at: Timestamp, days: u32) -> Timestamp {
    let span = SignedDuration::from_hours(24 * i64::from(days));
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

impl Row {
    /// Sets the line of this purpose and channel.
    fn set(&mut self, line: Line) {
        let place = self.consents.binary_search_by(|other| {
            (&*other.purpose, &*other.channel).cmp(&(&*line.purpose, &*line.channel))
        });
        match place {
            Ok(index) => self.consents[index] = line,
            Err(index) => self.consents.insert(index, line),
        }
    }

    /// A yes counts from when she said it: a no that is as new or newer stands, of this scope or of
    /// a wider one.
    fn give(&mut self, line: Line) {
        let newest = self
            .consents
            .iter()
            .filter(|other| other.covers(&line.purpose, &line.channel))
            .max_by_key(|other| (other.said_at(), other.is_no()));
        match newest {
            Some(other) if (other.said_at(), other.is_no()) > (line.since, false) => {
                let own = (&other.purpose, &other.channel) == (&line.purpose, &line.channel);
                if !own {
                    let Line { state, since, event_id, .. } = *other;
                    self.set(Line { state, since, event_id, valid_until: None, ..line });
                }
            }
            _ => self.set(line),
        }
    }

    /// A no reaches every older line within its scope and stays on record for scopes never spoken
    /// of.
    fn end(&mut self, event: &Event<'_>, scope: (&str, &str), state: State, since: Timestamp) {
        let (purpose, channel) = scope;
        let covers = |line: &Line| {
            (purpose == EVERY || purpose == line.purpose)
                && (channel == EVERY || channel == line.channel)
        };
        let older = |line: &Line| covers(line) && line.said_at() <= since;
        for line in self.consents.iter_mut().filter(|line| older(line)) {
            line.state = state;
            line.since = since;
            line.event_id = event.id;
            line.valid_until = None;
            line.given_at = None;
        }
        if !self.consents.iter().any(|line| (&*line.purpose, &*line.channel) == scope) {
            self.set(Line {
                purpose: purpose.to_owned(),
                channel: channel.to_owned(),
                state,
                since,
                event_id: event.id,
                notice_version: None,
                valid_until: None,
                given_at: None,
                lapses_after_days: None,
                ends_at: None,
            });
        }
    }
}

impl Model for Consents {
    type Row = Row;

    fn empty(key: Uuid) -> Row {
        let updated_at = Timestamp::UNIX_EPOCH;
        let (consents, restricted_by) = (Vec::new(), Vec::new());
        Row { subject_id: key, sequence: 0, consents, restricted_by, updated_at }
    }

    fn sequence(row: &Row) -> i64 {
        row.sequence
    }

    fn advance(row: &mut Row, sequence: i64) {
        row.sequence = sequence;
    }

    fn fold(row: &mut Row, event: &Event<'_>) -> Result<(), Malformed> {
        match &*event.event_type {
            GRANTED => {
                let data: Granted = event.read()?;
                let acted_at = data.acted_at.unwrap_or(data.at);
                let lapses = data.lapses_after_days.map(|days| after_days(acted_at, days));
                row.give(Line {
                    purpose: data.purpose,
                    channel: data.channel,
                    state: State::Given,
                    // A confirmed yes is of the time when it was first said.
                    since: match data.confirms {
                        Some(confirms) => confirms.requested_at,
                        None => data.acted_at.unwrap_or(data.at),
                    },
                    event_id: event.id,
                    notice_version: Some(data.notice_version),
                    valid_until: [data.valid_until, lapses].into_iter().flatten().min(),
                    given_at: None,
                    lapses_after_days: data.lapses_after_days,
                    ends_at: data.valid_until,
                });
            }
            CONTACTED => {
                let data: Contacted = event.read()?;
                row.consents.iter_mut().for_each(|line| line.put_off(data.acted_at));
            }
            REFUSED => {
                let data: Refused = event.read()?;
                let said = data.acted_at.unwrap_or(data.at);
                row.end(event, (&data.purpose, &data.channel), State::Refused, said);
            }
            WITHDRAWN => {
                let data: Withdrawn = event.read()?;
                let said = data.acted_at.unwrap_or(data.at);
                row.end(event, (&data.purpose, &data.channel), State::Withdrawn, said);
            }
            EXPIRED => {
                let data: Expired = event.read()?;
                let ended = |line: &&mut Line| {
                    (&*line.purpose, &*line.channel) == (&*data.purpose, &*data.channel)
                        && line.state == State::Given
                        && line.valid_until == Some(data.valid_until)
                };
                if let Some(line) = row.consents.iter_mut().find(ended) {
                    line.given_at = Some(line.since);
                    line.state = State::Expired;
                    line.since = data.at;
                    line.event_id = event.id;
                }
            }
            RESTRICTED => {
                let data: Restricted = event.read()?;
                if let Err(place) = row.restricted_by.binary_search(&data.request_id) {
                    row.restricted_by.insert(place, data.request_id);
                }
            }
            RESTRICTION_LIFTED => {
                let data: RestrictionLifted = event.read()?;
                row.restricted_by.retain(|it| *it != data.request_id);
            }
            ERASED => {
                row.consents.clear();
                row.restricted_by.clear();
            }
            _ => {}
        }
        row.updated_at = event.time;
        Ok(())
    }

    async fn load(
        conn: &mut PgConnection,
        schema: Schema,
        keys: &[Uuid],
        _events: &[&Received],
    ) -> Result<HashMap<Uuid, Row>, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT subject_id, sequence, consents, updated_at, restricted_by
             FROM {}.consents WHERE subject_id = ANY($1)",
            schema.name()
        )))
        .bind(keys)
        .fetch_all(conn)
        .await?;
        rows.iter()
            .map(|row| {
                let Json(consents): Json<Vec<Line>> = row.try_get(2)?;
                let row = Row {
                    subject_id: row.try_get(0)?,
                    sequence: row.try_get(1)?,
                    consents,
                    restricted_by: row.try_get::<Json<Vec<Uuid>>, _>(4)?.0,
                    updated_at: row.try_get::<SqlTimestamp, _>(3)?.to_jiff(),
                };
                Ok((row.subject_id, row))
            })
            .collect()
    }

    async fn store(
        conn: &mut PgConnection,
        schema: Schema,
        rows: Vec<Row>,
    ) -> Result<(), sqlx::Error> {
        let count = rows.len();
        let mut subjects = Vec::with_capacity(count);
        let mut sequences = Vec::with_capacity(count);
        let mut consents = Vec::with_capacity(count);
        let mut restricted = Vec::with_capacity(count);
        let mut updated = Vec::with_capacity(count);
        for row in rows {
            subjects.push(row.subject_id);
            sequences.push(row.sequence);
            consents.push(json(&row.consents)?);
            restricted.push(json(&row.restricted_by)?);
            updated.push(row.updated_at.to_sqlx());
        }
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO {}.consents (subject_id, sequence, consents, updated_at, restricted_by)
             SELECT s, q, c::jsonb, u, r::jsonb
             FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[])
                 AS t (s, q, c, u, r)
             ON CONFLICT (subject_id) DO UPDATE SET
                 sequence = excluded.sequence, consents = excluded.consents,
                 updated_at = excluded.updated_at, restricted_by = excluded.restricted_by",
            schema.name()
        )))
        .bind(subjects)
        .bind(sequences)
        .bind(consents)
        .bind(updated)
        .bind(restricted)
        .execute(conn)
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use assent_contracts::consent::{Actor, Method};

    use super::super::testing::{event, time};
    use super::*;

    fn granted(purpose: &str, at: i64) -> Granted {
        Granted {
            purpose: purpose.to_owned(),
            channel: "whatsapp".to_owned(),
            notice_hash: "h".to_owned(),
            notice_version: 3,
            actor: Actor::Subject,
            method: Method::Api,
            place: None,
            confirms: None,
            lapses_after_days: None,
            at: time(at),
            acted_at: None,
            valid_until: Some(time(100)),
            evidence: None,
        }
    }

    fn withdrawn(purpose: &str, channel: &str, at: i64) -> Withdrawn {
        Withdrawn {
            purpose: purpose.to_owned(),
            channel: channel.to_owned(),
            actor: Actor::Subject,
            method: Method::WhatsappMessage,
            place: None,
            at: time(at),
            acted_at: None,
            evidence: None,
        }
    }

    fn states(row: &Row) -> Vec<(&str, State)> {
        row.consents.iter().map(|line| (&*line.purpose, line.state)).collect()
    }

    #[test]
    fn a_withdrawal_from_everything_ends_every_consent_that_was_given() {
        let mut row = Consents::empty(Uuid::nil());
        Consents::fold(&mut row, &event(1, GRANTED, &granted("news", 1))).unwrap();
        Consents::fold(&mut row, &event(2, GRANTED, &granted("marketing", 2))).unwrap();
        Consents::fold(&mut row, &event(3, WITHDRAWN, &withdrawn("*", "*", 3))).unwrap();
        assert_eq!(
            states(&row),
            [("*", State::Withdrawn), ("marketing", State::Withdrawn), ("news", State::Withdrawn)]
        );
        Consents::fold(&mut row, &event(4, GRANTED, &granted("news", 4))).unwrap();
        assert_eq!(states(&row)[2], ("news", State::Given));
    }

    #[test]
    fn what_is_told_later_counts_from_when_it_was_said() {
        let mut row = Consents::empty(Uuid::nil());
        let late = |said| Granted { acted_at: Some(time(said)), ..granted("news", 9) };
        Consents::fold(&mut row, &event(1, WITHDRAWN, &withdrawn("*", "*", 5))).unwrap();
        Consents::fold(&mut row, &event(2, GRANTED, &late(4))).unwrap();
        assert_eq!(states(&row), [("*", State::Withdrawn), ("news", State::Withdrawn)]);
        Consents::fold(&mut row, &event(3, GRANTED, &late(6))).unwrap();
        assert_eq!(states(&row)[1], ("news", State::Given));
        let letter = Withdrawn { acted_at: Some(time(5)), ..withdrawn("news", "whatsapp", 10) };
        Consents::fold(&mut row, &event(4, WITHDRAWN, &letter)).unwrap();
        assert_eq!(states(&row)[1], ("news", State::Given));
        let letter = Withdrawn { acted_at: Some(time(6)), ..letter };
        Consents::fold(&mut row, &event(5, WITHDRAWN, &letter)).unwrap();
        assert_eq!(states(&row)[1], ("news", State::Withdrawn), "of the same instant");
    }

    #[test]
    fn what_two_requests_restrict_is_restricted_until_both_are_lifted() {
        let mut row = Consents::empty(Uuid::nil());
        let of = |n| Restricted { request_id: Uuid::from_u128(n), at: time(1) };
        let lifted = |n| RestrictionLifted { request_id: Uuid::from_u128(n), at: time(2) };
        for (sequence, request) in [(1, 2), (2, 1), (3, 2)] {
            Consents::fold(&mut row, &event(sequence, RESTRICTED, &of(request))).unwrap();
        }
        assert_eq!(row.restricted_by, [Uuid::from_u128(1), Uuid::from_u128(2)]);
        Consents::fold(&mut row, &event(4, RESTRICTION_LIFTED, &lifted(1))).unwrap();
        assert_eq!(row.restricted_by, [Uuid::from_u128(2)]);
        Consents::fold(&mut row, &event(5, RESTRICTION_LIFTED, &lifted(2))).unwrap();
        assert!(row.restricted_by.is_empty());
    }

    #[test]
    fn an_expiry_ends_what_expired_and_nothing_else() {
        let mut row = Consents::empty(Uuid::nil());
        Consents::fold(&mut row, &event(1, GRANTED, &granted("news", 1))).unwrap();
        Consents::fold(&mut row, &event(2, GRANTED, &granted("marketing", 2))).unwrap();
        let expired = Expired {
            purpose: "news".to_owned(),
            channel: "whatsapp".to_owned(),
            valid_until: time(100),
            at: time(101),
        };
        Consents::fold(&mut row, &event(3, EXPIRED, &expired)).unwrap();
        assert_eq!(states(&row), [("marketing", State::Given), ("news", State::Expired)]);
    }
}
