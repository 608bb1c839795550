//! People: that they are known, since when, from where, and which fields the vault holds of them.
//! No field's content: that is the vault's alone.

use std::collections::HashMap;

use assent_bus::Received;
use assent_contracts::vault::{
    self, IDENTIFIERS_ADDED, IDENTIFIERS_REMOVED, IdentifiersAdded, IdentifiersRemoved, Origin,
    SUBJECT_ERASED, SUBJECT_RECTIFIED, SUBJECT_REGISTERED, SubjectRectified, SubjectRegistered,
};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::{Event, Malformed, Model, Schema, json};

/// The read model of people.
pub struct Contacts;

/// A person, or a key that is none (then `registered_at` is absent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub subject_id: Uuid,
    /// The last sequence folded in.
    pub sequence: i64,
    /// Since when she is known.
    pub registered_at: Option<Timestamp>,
    /// Region of her number.
    pub region: Option<String>,
    /// By which road she came to be known.
    pub origin: Option<String>,
    /// Which fields are held.
    pub fields: Vec<String>,
    /// How many spellings of addresses are linked.
    pub addresses: i32,
    /// Time of the last event folded in.
    pub updated_at: Timestamp,
}

impl Model for Contacts {
    type Row = Row;

    fn empty(key: Uuid) -> Row {
        Row {
            subject_id: key,
            sequence: 0,
            registered_at: None,
            region: None,
            origin: None,
            fields: Vec::new(),
            addresses: 0,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn sequence(row: &Row) -> i64 {
        row.sequence
    }

    fn advance(row: &mut Row, sequence: i64) {
        row.sequence = sequence;
    }

    fn fold(row: &mut Row, event: &Event<'_>) -> Result<(), Malformed> {
        match &*event.event_type {
            SUBJECT_REGISTERED => {
                let data: SubjectRegistered = event.read()?;
                row.registered_at.get_or_insert(data.at);
                row.region = data.region;
                row.origin = Some(origin(data.origin).to_owned());
                row.fields = data.fields;
                row.addresses = data.addresses.len().try_into().unwrap_or(i32::MAX);
            }
            IDENTIFIERS_ADDED => {
                let data: IdentifiersAdded = event.read()?;
                row.region = data.region.or_else(|| row.region.take());
                row.fields.extend(data.fields);
                let more = data.addresses.len().try_into().unwrap_or(i32::MAX);
                row.addresses = row.addresses.saturating_add(more);
            }
            IDENTIFIERS_REMOVED => {
                let data: IdentifiersRemoved = event.read()?;
                row.fields.retain(|field| !data.fields.contains(field));
                let fewer = data.addresses.len().try_into().unwrap_or(i32::MAX);
                row.addresses = row.addresses.saturating_sub(fewer).max(0);
            }
            SUBJECT_RECTIFIED => {
                let data: SubjectRectified = event.read()?;
                let held = data.fields.into_iter().filter(|it| !data.removed.contains(it));
                let new: Vec<String> = held.filter(|it| !row.fields.contains(it)).collect();
                row.fields.retain(|field| !data.removed.contains(field));
                row.fields.extend(new);
            }
            SUBJECT_ERASED => {
                event.read::<vault::SubjectErased>()?;
                *row = Row { sequence: row.sequence, ..Self::empty(row.subject_id) };
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
            "SELECT subject_id, sequence, registered_at, region, origin, fields, addresses,
                    updated_at
             FROM {}.contacts WHERE subject_id = ANY($1)",
            schema.name()
        )))
        .bind(keys)
        .fetch_all(conn)
        .await?;
        rows.iter()
            .map(|row| {
                let Json(fields): Json<Vec<String>> = row.try_get(5)?;
                let row = Row {
                    subject_id: row.try_get(0)?,
                    sequence: row.try_get(1)?,
                    registered_at: row.try_get::<Option<SqlTimestamp>, _>(2)?.map(|t| t.to_jiff()),
                    region: row.try_get(3)?,
                    origin: row.try_get(4)?,
                    fields,
                    addresses: row.try_get(6)?,
                    updated_at: row.try_get::<SqlTimestamp, _>(7)?.to_jiff(),
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
        let mut registered = Vec::with_capacity(count);
        let mut regions = Vec::with_capacity(count);
        let mut origins = Vec::with_capacity(count);
        let mut fields = Vec::with_capacity(count);
        let mut addresses = Vec::with_capacity(count);
        let mut updated = Vec::with_capacity(count);
        for row in rows {
            subjects.push(row.subject_id);
            sequences.push(row.sequence);
            registered.push(row.registered_at.map(|at| at.to_sqlx()));
            regions.push(row.region);
            origins.push(row.origin);
            fields.push(json(&row.fields)?);
            addresses.push(row.addresses);
            updated.push(row.updated_at.to_sqlx());
        }
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO {}.contacts
                 (subject_id, sequence, registered_at, region, origin, fields, addresses, updated_at)
             SELECT s, q, r, g, o, f::jsonb, a, u
             FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
                         $6::text[], $7::integer[], $8::timestamptz[]) AS t (s, q, r, g, o, f, a, u)
             ON CONFLICT (subject_id) DO UPDATE SET
                 sequence = excluded.sequence, registered_at = excluded.registered_at,
                 region = excluded.region, origin = excluded.origin, fields = excluded.fields,
                 addresses = excluded.addresses, updated_at = excluded.updated_at",
            schema.name()
        )))
        .bind(subjects)
        .bind(sequences)
        .bind(registered)
        .bind(regions)
        .bind(origins)
        .bind(fields)
        .bind(addresses)
        .bind(updated)
        .execute(conn)
        .await?;
        Ok(())
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Import => "import",
        Origin::Operator => "operator",
        Origin::Subject => "subject",
    }
}

#[cfg(test)]
mod tests {
    use assent_contracts::address::AddressToken;

    use super::super::testing::{event, time};
    use super::*;

    #[test]
    fn a_person_keeps_the_day_she_became_known() {
        let mut row = Contacts::empty(Uuid::nil());
        let registered = |at| SubjectRegistered {
            addresses: Vec::new(),
            region: Some("FR".to_owned()),
            fields: vec!["phone".to_owned()],
            origin: Origin::Import,
            at: time(at),
        };
        Contacts::fold(&mut row, &event(1, SUBJECT_REGISTERED, &registered(1))).unwrap();
        Contacts::fold(&mut row, &event(2, SUBJECT_REGISTERED, &registered(2))).unwrap();
        assert_eq!(row.registered_at, Some(time(1)));
        assert_eq!(row.updated_at, time(2));
        assert_eq!(row.origin.as_deref(), Some("import"));
    }

    #[test]
    fn what_the_platform_calls_her_as_well_is_counted() {
        let mut row = Contacts::empty(Uuid::nil());
        row.region = Some("FR".to_owned());
        row.fields = vec!["phone".to_owned()];
        let added = IdentifiersAdded {
            addresses: vec![AddressToken { key_id: 1, mac: [7; 32] }],
            region: None,
            fields: vec!["user_id".to_owned()],
            at: time(2),
        };
        Contacts::fold(&mut row, &event(2, IDENTIFIERS_ADDED, &added)).unwrap();
        assert_eq!(
            (&row.fields[..], row.addresses),
            (&["phone".to_owned(), "user_id".to_owned()][..], 1)
        );
        assert_eq!(row.region.as_deref(), Some("FR"));
        let removed = IdentifiersRemoved {
            addresses: added.addresses,
            fields: added.fields,
            unlinked: Vec::new(),
            at: time(3),
        };
        Contacts::fold(&mut row, &event(3, IDENTIFIERS_REMOVED, &removed)).unwrap();
        assert_eq!((&row.fields[..], row.addresses), (&["phone".to_owned()][..], 0));
    }

    #[test]
    fn after_an_erasure_nothing_is_left_of_her() {
        let mut row = Contacts::empty(Uuid::nil());
        row.registered_at = Some(time(1));
        row.region = Some("FR".to_owned());
        let erased = vault::SubjectErased { request_id: Uuid::nil(), at: time(3) };
        Contacts::fold(&mut row, &event(3, SUBJECT_ERASED, &erased)).unwrap();
        assert_eq!(row, Row { updated_at: time(3), ..Contacts::empty(Uuid::nil()) });
    }

    #[test]
    fn malformed_data_is_told_and_unknown_types_pass() {
        let mut row = Contacts::empty(Uuid::nil());
        assert_eq!(Contacts::fold(&mut row, &event(1, SUBJECT_REGISTERED, &1)), Err(Malformed));
        assert_eq!(Contacts::fold(&mut row, &event(1, "assent.vault.other.v1", &1)), Ok(()));
    }
}
