//! What people declared, in the order in which it was heard. It guarantees that a stop blocks its
//! address from the commit that stored it until the consent service's gate holds it; bringing it there
//! is left to [`crate::forwarder`].

use std::collections::HashSet;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::code::Sentence;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::stop::{Form, Will};
use crate::hour_keys::Sealed;

/// The will of a stop that is somebody's whatever address it came from. It has a name of its own so that replicas
/// from before there were any leave it to others.
pub const STOP_OF: &str = "stop_of";

/// A declaration that was heard.
pub struct Declared {
    /// Its id; for the consent service the stop's id.
    pub id: Uuid,
    /// What it says.
    pub will: Will,
    /// How it was said.
    pub form: Form,
    /// Keyed hash of the message that said it.
    pub source: Option<Vec<u8>>,
    /// Tokens of all forms and spellings of the address it came from.
    pub tokens: Vec<AddressToken>,
    /// Of an opt-in: the phone number, sealed under an hourly key.
    pub phone: Option<Sealed>,
    /// Of an opt-in: the user ids, sealed likewise.
    pub account: Option<Sealed>,
    /// Of a stop: whose it is, where that doesn't follow from the address.
    pub subjects: Vec<SubjectId>,
    /// Of a stop: the language of its word, where that tells one.
    pub language: Option<&'static str>,
    /// When she said it, by the provider's clock.
    pub said_at: Timestamp,
    /// When it came in.
    pub heard_at: Timestamp,
}

impl Declared {
    /// A declaration of nobody, of this moment of no clock: the caller says the rest.
    #[must_use]
    pub const fn new(id: Uuid, will: Will, form: Form) -> Self {
        Self {
            id,
            will,
            form,
            source: None,
            tokens: Vec::new(),
            phone: None,
            account: None,
            subjects: Vec::new(),
            language: None,
            said_at: Timestamp::UNIX_EPOCH,
            heard_at: Timestamp::UNIX_EPOCH,
        }
    }
}

/// Stores declarations; gives the ids of those that are new. One that is there, by its id or its source, is
/// passed over.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    conn: &mut PgConnection,
    declared: &[Declared],
) -> Result<Vec<Uuid>, sqlx::Error> {
    const INSERT: &str = "
        INSERT INTO declarations (id, will, form, source, tokens, phone, hour_key, said_at, heard_at,
                                  code, sentence, account, subjects, language)
        -- Nothing of anybody who is being erased.
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                ARRAY(SELECT it FROM unnest($13::uuid[]) AS it
                      WHERE it NOT IN (SELECT subject_id FROM fences)), $14)
        ON CONFLICT DO NOTHING";
    let mut inserted = Vec::new();
    for it in declared {
        let (code, sentence) = match it.will {
            Will::Code(code, sentence) => (Some(code.to_string()), Some(name(sentence))),
            Will::Stop | Will::Start => (None, None),
        };
        let sealed = it.phone.as_ref().or(it.account.as_ref());
        let new = sqlx::query(INSERT)
            .bind(it.id)
            .bind(if it.subjects.is_empty() { it.will.as_str() } else { STOP_OF })
            .bind(it.form.as_str())
            .bind(&it.source)
            .bind(bytes(&it.tokens))
            .bind(it.phone.as_ref().map(|sealed| &sealed.bytes))
            .bind(sealed.map(|sealed| sealed.hour_key))
            .bind(it.said_at.to_sqlx())
            .bind(it.heard_at.to_sqlx())
            .bind(code)
            .bind(sentence)
            .bind(it.account.as_ref().map(|sealed| &sealed.bytes))
            .bind(&it.subjects)
            .bind(it.language)
            .execute(&mut *conn)
            .await?;
        if new.rows_affected() > 0 {
            inserted.push(it.id);
        }
    }
    Ok(inserted)
}

/// A sentence as the database stores it.
const fn name(sentence: Sentence) -> &'static str {
    match sentence {
        Sentence::Alone => "alone",
        Sentence::Agree => "agree",
        Sentence::Open => "open",
    }
}

/// The sentence of this name.
#[must_use]
pub fn sentence(name: &str) -> Sentence {
    match name {
        "agree" => Sentence::Agree,
        "open" => Sentence::Open,
        _ => Sentence::Alone,
    }
}

/// Which of these addresses and people are blocked by a stop that the consent service does not hold yet.
///
/// # Errors
/// When the database fails; then nothing may be sent.
pub async fn blocked(
    pool: &sqlx::PgPool,
    tokens: &[AddressToken],
    subjects: &[SubjectId],
) -> Result<Blocked, sqlx::Error> {
    const BLOCKED: &str = "
        SELECT DISTINCT token FROM declarations, unnest(tokens) AS token
        WHERE will IN ('stop', 'stop_of') AND settled_at IS NULL AND tokens && $1
          AND token = ANY($1)";
    const STOPPED: &str = "
        SELECT DISTINCT subject FROM declarations, unnest(subjects) AS subject
        WHERE will = 'stop_of' AND settled_at IS NULL AND subjects && $1 AND subject = ANY($1)";
    let found: Vec<Vec<u8>> =
        sqlx::query_scalar(BLOCKED).bind(bytes(tokens)).fetch_all(pool).await?;
    let subjects: Vec<SubjectId> =
        sqlx::query_scalar(STOPPED).bind(subjects).fetch_all(pool).await?;
    let tokens = read(&found)?.into_iter().collect();
    Ok(Blocked { tokens, subjects: subjects.into_iter().collect() })
}

/// What stops that were heard here block.
#[derive(Debug, Default)]
pub struct Blocked {
    /// Addresses.
    pub tokens: HashSet<AddressToken>,
    /// People, under every address.
    pub subjects: HashSet<SubjectId>,
}

impl Blocked {
    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.subjects.is_empty()
    }
}

/// Tokens as the database stores them.
#[must_use]
pub fn bytes(tokens: &[AddressToken]) -> Vec<Vec<u8>> {
    tokens.iter().map(|token| token.to_bytes().to_vec()).collect()
}

/// Tokens as the database stored them.
///
/// # Errors
/// When the bytes are none.
pub fn read(tokens: &[Vec<u8>]) -> Result<Vec<AddressToken>, sqlx::Error> {
    tokens
        .iter()
        .map(|bytes| {
            AddressToken::from_bytes(bytes).map_err(|error| sqlx::Error::Decode(error.into()))
        })
        .collect()
}
