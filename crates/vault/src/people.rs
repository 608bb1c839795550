//! Rows of people, of the blind index and of suppressions. It guarantees the order in which an
//! index entry and its successor, a suppression fingerprint, are looked for; deciding what they
//! mean for a caller is left to the endpoints.

use std::collections::HashMap;

use assent_contracts::address::AddressToken;
use assent_contracts::vault::Origin;
use assent_runtime::broken::{self, Guarantee};
use assent_sealing::Fingerprint;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgExecutor, Row as _};
use uuid::Uuid;

use crate::app::{EMAIL, NAME, PARENT_USER_ID, PHONE, USER_ID};
use crate::error::VaultError;

/// Whom an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) subject: Uuid,
    /// An erasure of this person has begun.
    pub(crate) fenced: bool,
}

/// Why an address may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Barred {
    Suppressed,
    Erased,
}

impl Barred {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Suppressed => "suppressed",
            Self::Erased => "erased",
        }
    }
}

/// A person as her row holds her: ciphertext.
pub(crate) struct SealedPerson {
    pub(crate) subject: Uuid,
    pub(crate) key_version: i32,
    /// None: she is known by her user id only.
    pub(crate) phone: Option<Vec<u8>>,
    pub(crate) user_id: Option<Vec<u8>>,
    pub(crate) parent_user_id: Option<Vec<u8>>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) email: Option<Vec<u8>>,
    pub(crate) tokens: Vec<AddressToken>,
    pub(crate) region: Option<String>,
    pub(crate) origin: Origin,
    pub(crate) registered_at: Timestamp,
}

impl SealedPerson {
    /// What is held of a field of hers.
    pub(crate) fn sealed(&self, field: &str) -> Option<&[u8]> {
        match field {
            PHONE => self.phone.as_deref(),
            USER_ID => self.user_id.as_deref(),
            PARENT_USER_ID => self.parent_user_id.as_deref(),
            NAME => self.name.as_deref(),
            EMAIL => self.email.as_deref(),
            _ => None,
        }
    }
}

/// Who has these addresses. Ask this before [`barred`]: an erasure removes the index entry and
/// leaves the fingerprint in one transaction, so whoever asks in this order sees one of the two.
pub(crate) async fn known(
    executor: impl PgExecutor<'_>,
    tokens: &[AddressToken],
) -> Result<HashMap<AddressToken, Known>, VaultError> {
    let tokens: Vec<[u8; 33]> = tokens.iter().map(|token| token.to_bytes()).collect();
    let rows = sqlx::query(
        "SELECT a.token, a.subject_id, t.subject_id IS NOT NULL
         FROM addresses a LEFT JOIN tombstones t USING (subject_id) WHERE a.token = ANY($1)",
    )
    .bind(slices(&tokens))
    .fetch_all(executor)
    .await?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in rows {
        let token = AddressToken::from_bytes(row.try_get(0)?)
            .map_err(|_| VaultError::Corrupt("address token"))?;
        known.insert(token, Known { subject: row.try_get(1)?, fenced: row.try_get(2)? });
    }
    Ok(known)
}

/// What an address can be barred by: its fingerprints, and its tokens where a restored database had nothing
/// else left of it.
pub(crate) fn marks(
    mut fingerprints: Vec<Fingerprint>,
    tokens: &[AddressToken],
) -> Vec<Fingerprint> {
    fingerprints.extend(tokens.iter().map(|token| Fingerprint(token.to_bytes())));
    fingerprints
}

/// Which of these addresses may not come in, because of what was recorded at `since` or later.
pub(crate) async fn barred(
    executor: impl PgExecutor<'_>,
    fingerprints: &[Fingerprint],
    since: Timestamp,
) -> Result<HashMap<Fingerprint, Barred>, VaultError> {
    if fingerprints.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "SELECT fingerprint, reason FROM suppressions
         WHERE fingerprint = ANY($1) AND recorded_at >= $2",
    )
    .bind(fingerprint_slices(fingerprints))
    .bind(since.to_sqlx())
    .fetch_all(executor)
    .await?;
    let mut barred = HashMap::with_capacity(rows.len());
    for row in rows {
        let bytes: &[u8] = row.try_get(0)?;
        let bytes = bytes.try_into().map_err(|_| VaultError::Corrupt("fingerprint"))?;
        let reason = match row.try_get::<&str, _>(1)? {
            "erased" if broken::is(Guarantee::G6) => continue,
            "erased" => Barred::Erased,
            _ => Barred::Suppressed,
        };
        barred.insert(Fingerprint(bytes), reason);
    }
    Ok(barred)
}

/// Records that addresses may not come in. `erased` is never weakened to `suppressed`, and the last time
/// counts. Gives how many were not recorded before.
pub(crate) async fn bar(
    connection: &mut PgConnection,
    fingerprints: &[Fingerprint],
    reason: Barred,
    at: Timestamp,
) -> Result<u64, VaultError> {
    let mut fingerprints = fingerprints.to_vec();
    fingerprints.sort_unstable();
    fingerprints.dedup();
    // xmax = 0: inserted, not updated.
    let new: i64 = sqlx::query_scalar(
        "WITH written AS (
             INSERT INTO suppressions AS stored (fingerprint, reason, recorded_at)
             SELECT fingerprint, $2, $3 FROM unnest($1::bytea[]) AS fingerprint ORDER BY 1
             ON CONFLICT (fingerprint) DO UPDATE SET
                 reason = least(stored.reason, excluded.reason),
                 recorded_at = greatest(stored.recorded_at, excluded.recorded_at)
             RETURNING xmax = 0 AS new
         )
         SELECT count(*) FROM written WHERE new",
    )
    .bind(fingerprint_slices(&fingerprints))
    .bind(reason.reason())
    .bind(at.to_sqlx())
    .fetch_one(connection)
    .await?;
    Ok(new.unsigned_abs())
}

/// Whether any of these people is being or was erased. Call it under their streams' locks.
pub(crate) async fn any_fenced(
    connection: &mut PgConnection,
    subjects: &[Uuid],
) -> Result<bool, VaultError> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tombstones WHERE subject_id = ANY($1))")
        .bind(subjects)
        .fetch_one(connection)
        .await?)
}

/// Which of these people are, or are being, erased.
pub(crate) async fn fenced(
    connection: &mut PgConnection,
    subjects: &[Uuid],
) -> Result<Vec<Uuid>, VaultError> {
    Ok(sqlx::query_scalar("SELECT subject_id FROM tombstones WHERE subject_id = ANY($1)")
        .bind(subjects)
        .fetch_all(connection)
        .await?)
}

/// Adds people to the index. False: an address is taken meanwhile, and only a rollback is left.
/// In token order, so that two imports of the same numbers wait instead of deadlocking.
pub(crate) async fn index(
    connection: &mut PgConnection,
    people: &[SealedPerson],
) -> Result<bool, VaultError> {
    let mut entries: Vec<([u8; 33], Uuid)> = people
        .iter()
        .flat_map(|person| person.tokens.iter().map(|it| (it.to_bytes(), person.subject)))
        .collect();
    entries.sort_unstable();
    let tokens: Vec<&[u8]> = entries.iter().map(|(token, _)| token.as_slice()).collect();
    let subjects: Vec<Uuid> = entries.iter().map(|(_, subject)| *subject).collect();
    // ON CONFLICT would do without the error, but costs half as much again for every row.
    let done = sqlx::query(
        "INSERT INTO addresses (token, subject_id) SELECT * FROM unnest($1::bytea[], $2::uuid[])",
    )
    .bind(tokens)
    .bind(subjects)
    .execute(connection)
    .await;
    match done {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Adds the rows of people.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    people: &[SealedPerson],
) -> Result<(), VaultError> {
    let column = |value: fn(&SealedPerson) -> Option<&[u8]>| -> Vec<Option<&[u8]>> {
        people.iter().map(value).collect()
    };
    let tokens: Vec<Vec<u8>> = people.iter().map(|person| join_tokens(&person.tokens)).collect();
    sqlx::query(
        "INSERT INTO people
             (subject_id, key_version, phone, name, email, tokens, region, origin, registered_at,
              user_id, parent_user_id)
         SELECT * FROM unnest($1::uuid[], $2::int[], $3::bytea[], $4::bytea[], $5::bytea[],
                              $6::bytea[], $7::text[], $8::text[], $9::timestamptz[],
                              $10::bytea[], $11::bytea[])",
    )
    .bind(people.iter().map(|person| person.subject).collect::<Vec<_>>())
    .bind(people.iter().map(|person| person.key_version).collect::<Vec<_>>())
    .bind(column(|person| person.phone.as_deref()))
    .bind(column(|person| person.name.as_deref()))
    .bind(column(|person| person.email.as_deref()))
    .bind(tokens)
    .bind(people.iter().map(|person| person.region.as_deref()).collect::<Vec<_>>())
    .bind(people.iter().map(|person| origin_name(person.origin)).collect::<Vec<_>>())
    .bind(people.iter().map(|person| person.registered_at.to_sqlx()).collect::<Vec<_>>())
    .bind(column(|person| person.user_id.as_deref()))
    .bind(column(|person| person.parent_user_id.as_deref()))
    .execute(connection)
    .await?;
    Ok(())
}

/// The rows of those of `subjects` who are held and not fenced.
pub(crate) async fn reachable(
    executor: impl PgExecutor<'_>,
    subjects: &[Uuid],
) -> Result<HashMap<Uuid, SealedPerson>, VaultError> {
    let rows = sqlx::query(
        "SELECT p.* FROM people p
         WHERE p.subject_id = ANY($1)
           AND NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.subject_id = p.subject_id)",
    )
    .bind(subjects)
    .fetch_all(executor)
    .await?;
    let people = rows.iter().map(read).map(|person| person.map(|it| (it.subject, it)));
    people.collect()
}

/// The rows of those of `subjects` who are held, fenced or not.
pub(crate) async fn held(
    executor: impl PgExecutor<'_>,
    subjects: &[Uuid],
) -> Result<HashMap<Uuid, SealedPerson>, VaultError> {
    let rows = sqlx::query("SELECT * FROM people WHERE subject_id = ANY($1)")
        .bind(subjects)
        .fetch_all(executor)
        .await?;
    rows.iter().map(read).map(|person| person.map(|it| (it.subject, it))).collect()
}

/// The row of a person, fenced or not.
pub(crate) async fn find(
    executor: impl PgExecutor<'_>,
    subject: Uuid,
) -> Result<Option<SealedPerson>, VaultError> {
    let row = sqlx::query("SELECT * FROM people WHERE subject_id = $1")
        .bind(subject)
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(read).transpose()
}

/// What became known of a person: sealed, with its tokens.
#[derive(Default)]
pub(crate) struct Additions {
    pub(crate) phone: Option<Vec<u8>>,
    pub(crate) user_id: Option<Vec<u8>>,
    pub(crate) parent_user_id: Option<Vec<u8>>,
    pub(crate) region: Option<String>,
    pub(crate) tokens: Vec<AddressToken>,
}

/// Adds identifiers to a person, under her stream's lock. False: one is taken meanwhile, and only a
/// rollback is left.
pub(crate) async fn add(
    connection: &mut PgConnection,
    subject: Uuid,
    additions: &Additions,
) -> Result<bool, VaultError> {
    let mut tokens: Vec<[u8; 33]> = additions.tokens.iter().map(|it| it.to_bytes()).collect();
    tokens.sort_unstable();
    let done =
        sqlx::query("INSERT INTO addresses (token, subject_id) SELECT unnest($1::bytea[]), $2")
            .bind(slices(&tokens))
            .bind(subject)
            .execute(&mut *connection)
            .await;
    match done {
        Ok(_) => {}
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    sqlx::query(
        "UPDATE people SET phone = coalesce(phone, $2), user_id = coalesce(user_id, $3),
                parent_user_id = coalesce(parent_user_id, $4), region = coalesce($5, region),
                tokens = tokens || $6
         WHERE subject_id = $1",
    )
    .bind(subject)
    .bind(&additions.phone)
    .bind(&additions.user_id)
    .bind(&additions.parent_user_id)
    .bind(&additions.region)
    .bind(join_tokens(&additions.tokens))
    .execute(connection)
    .await?;
    Ok(true)
}

/// Takes a person's user ids away, under her stream's lock. `kept` and `gone` are her tokens.
pub(crate) async fn forget_user_ids(
    connection: &mut PgConnection,
    subject: Uuid,
    kept: &[AddressToken],
    gone: &[AddressToken],
) -> Result<(), VaultError> {
    leave_tokens(&mut *connection, subject, kept, gone).await?;
    sqlx::query("UPDATE people SET user_id = NULL, parent_user_id = NULL WHERE subject_id = $1")
        .bind(subject)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes tokens away by which nobody is looked for any more, under her stream's lock. `kept` and `gone` are hers.
pub(crate) async fn leave_tokens(
    connection: &mut PgConnection,
    subject: Uuid,
    kept: &[AddressToken],
    gone: &[AddressToken],
) -> Result<(), VaultError> {
    let gone: Vec<[u8; 33]> = gone.iter().map(|token| token.to_bytes()).collect();
    sqlx::query("DELETE FROM addresses WHERE token = ANY($2) AND subject_id = $1")
        .bind(subject)
        .bind(slices(&gone))
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE people SET tokens = $2 WHERE subject_id = $1")
        .bind(subject)
        .bind(join_tokens(kept))
        .execute(connection)
        .await?;
    Ok(())
}

/// What a person's row is to hold instead, sealed. The outer `None`: it stays.
#[derive(Default)]
pub(crate) struct Corrections {
    /// Her number, its region and tokens. User ids are those of the number that was wrong, and go with it.
    pub(crate) phone: Option<(Vec<u8>, Option<String>, Vec<AddressToken>)>,
    pub(crate) name: Option<Option<Vec<u8>>>,
    pub(crate) email: Option<Option<Vec<u8>>>,
}

/// Corrects a person's row and what she is found by, under her stream's lock. False: a number is taken
/// meanwhile, and only a rollback is left.
pub(crate) async fn correct(
    connection: &mut PgConnection,
    subject: Uuid,
    corrections: &Corrections,
) -> Result<bool, VaultError> {
    const TEXTS: &str = "
        UPDATE people SET name = CASE WHEN $2 THEN $3 ELSE name END,
                          email = CASE WHEN $4 THEN $5 ELSE email END
        WHERE subject_id = $1";
    const PHONE: &str = "
        UPDATE people SET phone = $2, region = $3, tokens = $4, user_id = NULL, parent_user_id = NULL
        WHERE subject_id = $1";
    const INDEX: &str = "INSERT INTO addresses (token, subject_id) SELECT unnest($1::bytea[]), $2";
    sqlx::query(TEXTS)
        .bind(subject)
        .bind(corrections.name.is_some())
        .bind(corrections.name.as_ref().and_then(Option::as_ref))
        .bind(corrections.email.is_some())
        .bind(corrections.email.as_ref().and_then(Option::as_ref))
        .execute(&mut *connection)
        .await?;
    let Some((phone, region, tokens)) = &corrections.phone else { return Ok(true) };
    // By token, as her row lists them.
    remove(&mut *connection, &[subject]).await?;
    sqlx::query(PHONE)
        .bind(subject)
        .bind(phone)
        .bind(region)
        .bind(join_tokens(tokens))
        .execute(&mut *connection)
        .await?;
    let mut sorted: Vec<[u8; 33]> = tokens.iter().map(|it| it.to_bytes()).collect();
    sorted.sort_unstable();
    match sqlx::query(INDEX).bind(slices(&sorted)).bind(subject).execute(connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes people's index entries; gives them.
pub(crate) async fn remove(
    connection: &mut PgConnection,
    people: &[Uuid],
) -> Result<Vec<(Uuid, AddressToken)>, VaultError> {
    // By token, as their rows list them: the index is by token. The sweep looks by subject.
    let rows: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(
        "DELETE FROM addresses a
         USING people p, generate_series(0, octet_length(p.tokens) / 33 - 1) AS n
         WHERE p.subject_id = ANY($1) AND a.subject_id = p.subject_id
           AND a.token = substring(p.tokens FROM n * 33 + 1 FOR 33)
         RETURNING p.subject_id, a.token",
    )
    .bind(people)
    .fetch_all(connection)
    .await?;
    let entry = |(subject, token): (Uuid, Vec<u8>)| {
        AddressToken::from_bytes(&token).map(|token| (subject, token))
    };
    let entries = rows.into_iter().map(entry);
    entries.collect::<Result<_, _>>().map_err(|_| VaultError::Corrupt("address token"))
}

/// Removes people's rows; gives whose there were.
pub(crate) async fn remove_rows(
    connection: &mut PgConnection,
    people: &[Uuid],
) -> Result<Vec<Uuid>, VaultError> {
    Ok(sqlx::query_scalar("DELETE FROM people WHERE subject_id = ANY($1) RETURNING subject_id")
        .bind(people)
        .fetch_all(connection)
        .await?)
}

fn read(row: &sqlx::postgres::PgRow) -> Result<SealedPerson, VaultError> {
    Ok(SealedPerson {
        subject: row.try_get("subject_id")?,
        key_version: row.try_get("key_version")?,
        phone: row.try_get("phone")?,
        user_id: row.try_get("user_id")?,
        parent_user_id: row.try_get("parent_user_id")?,
        name: row.try_get("name")?,
        email: row.try_get("email")?,
        tokens: split_tokens(row.try_get("tokens")?)?,
        region: row.try_get("region")?,
        origin: match row.try_get::<&str, _>("origin")? {
            "import" => Origin::Import,
            "operator" => Origin::Operator,
            "subject" => Origin::Subject,
            _ => return Err(VaultError::Corrupt("origin")),
        },
        registered_at: row.try_get::<jiff_sqlx::Timestamp, _>("registered_at")?.to_jiff(),
    })
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Import => "import",
        Origin::Operator => "operator",
        Origin::Subject => "subject",
    }
}

fn join_tokens(tokens: &[AddressToken]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_bytes()).collect()
}

fn split_tokens(bytes: &[u8]) -> Result<Vec<AddressToken>, VaultError> {
    let split = bytes.chunks(33).map(AddressToken::from_bytes);
    split.collect::<Result<_, _>>().map_err(|_| VaultError::Corrupt("address token"))
}

fn slices(tokens: &[[u8; 33]]) -> Vec<&[u8]> {
    tokens.iter().map(|token| token.as_slice()).collect()
}

fn fingerprint_slices(fingerprints: &[Fingerprint]) -> Vec<&[u8]> {
    fingerprints.iter().map(|fingerprint| fingerprint.0.as_slice()).collect()
}
