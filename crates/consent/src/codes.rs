//! Codes that a person sends from her own number, and the links beside them: by which a yes is
//! confirmed, by which it is proved who has the preference page before them, or by which whoever
//! has read a notice agrees. It guarantees that a code is worth something from its person's own number
//! only, and once; hearing it is left to messaging.

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{CodeAnswer, ProofCode, Unconfirmed};
use assent_contracts::code::{Code, Sentence};
use assent_contracts::consent::PurposeDefined;
use assent_sealing::{LinkKey, LinkKind};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// The kind of the code that confirms a yes.
const CONFIRM: &str = "confirm";
/// The kind of the code that proves whose page it is.
const PROVE: &str = "prove";

/// A message that was sent in time may come so late: webhooks are repeated for seven days.
const LATE: SignedDuration = SignedDuration::from_hours(8 * 24);

/// The channel that codes come by.
const WHATSAPP: &str = "whatsapp";

/// How long the code of a page is worth something.
const PROVE_WITHIN: SignedDuration = SignedDuration::from_mins(30);

/// How a yes is confirmed.
#[must_use]
pub fn confirmation(
    links: &LinkKey,
    subject: SubjectId,
    request_id: Uuid,
    expires_at: Timestamp,
) -> Unconfirmed {
    Unconfirmed {
        request_id,
        code: confirming(links, request_id),
        link: links.of_person(LinkKind::Confirmation, subject, request_id),
        expires_at,
    }
}

/// The code that confirms a request.
#[must_use]
pub fn confirming(links: &LinkKey, request_id: Uuid) -> Code {
    links.code(CONFIRM, request_id.as_bytes())
}

/// Keeps the code of a yes.
///
/// # Errors
/// When the database fails.
pub async fn keep(
    conn: &mut PgConnection,
    subject: SubjectId,
    unconfirmed: &Unconfirmed,
) -> Result<(), sqlx::Error> {
    let Unconfirmed { request_id, code, expires_at, .. } = unconfirmed;
    store(conn, (*code, CONFIRM), subject, *request_id, *expires_at).await
}

/// A fresh code for a preference page; the one before is worth nothing any more.
///
/// # Errors
/// When the database fails.
pub async fn for_page(
    conn: &mut PgConnection,
    links: &LinkKey,
    (subject, link_id): (SubjectId, Uuid),
    fresh: Uuid,
    now: Timestamp,
) -> Result<ProofCode, sqlx::Error> {
    let expires_at = now.checked_add(PROVE_WITHIN).unwrap_or(Timestamp::MAX);
    let code = links.code(PROVE, fresh.as_bytes());
    store(conn, (code, PROVE), subject, link_id, expires_at).await?;
    Ok(ProofCode { code, expires_at })
}

async fn store(
    conn: &mut PgConnection,
    (code, kind): (Code, &str),
    subject: SubjectId,
    about: Uuid,
    expires_at: Timestamp,
) -> Result<(), sqlx::Error> {
    const STORE: &str = "
        INSERT INTO codes (code, kind, subject_id, about, expires_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (about) DO UPDATE
            SET code = excluded.code, expires_at = excluded.expires_at, addresses = NULL";
    sqlx::query(STORE)
        .bind(code.to_string())
        .bind(kind)
        .bind(subject)
        .bind(about)
        .bind(expires_at.to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// Uses up the proof of a page, if its code has come from the person's number: the address it came
/// from.
///
/// # Errors
/// When the database fails.
pub async fn take_proof(
    conn: &mut PgConnection,
    link_id: Uuid,
    code: Code,
    now: Timestamp,
) -> Result<Option<Vec<AddressToken>>, sqlx::Error> {
    const TAKE: &str = "
        DELETE FROM codes WHERE code = $1 AND kind = $2 AND about = $3 AND expires_at > $4
                            AND addresses IS NOT NULL
        RETURNING addresses";
    let row = sqlx::query(TAKE)
        .bind(code.to_string())
        .bind(PROVE)
        .bind(link_id)
        .bind(now.to_sqlx())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let tokens: Vec<Vec<u8>> = row.try_get(0)?;
    let read = |bytes: &Vec<u8>| AddressToken::from_bytes(bytes);
    let tokens = tokens.iter().map(read).collect::<Result<_, _>>();
    tokens.map(Some).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// What a code means that came from an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// It is told as it is.
    Told(CodeAnswer),
    /// It confirms a yes of this person's.
    Confirms(SubjectId, Uuid),
}

/// Looks a code up, at the time when it was sent. That of a page is marked as proved, if it came with the
/// sentence that says what it opens.
///
/// # Errors
/// When the database fails.
pub async fn hear(
    conn: &mut PgConnection,
    (code, sentence): (Code, Sentence),
    addresses: &[AddressToken],
    now: Timestamp,
) -> Result<Meaning, sqlx::Error> {
    const FIND: &str = "
        SELECT kind, subject_id, about,
               EXISTS (SELECT FROM gate_links l
                       WHERE l.subject_id = codes.subject_id AND l.token = ANY($2))
        FROM codes WHERE code = $1 AND expires_at > $3
          AND NOT EXISTS (SELECT FROM fences f WHERE f.subject_id = codes.subject_id)";
    const PROVED: &str = "UPDATE codes SET addresses = $2 WHERE code = $1";
    let tokens: Vec<Vec<u8>> = addresses.iter().map(|token| token.to_bytes().to_vec()).collect();
    let text = code.to_string();
    let row = sqlx::query(FIND)
        .bind(&text)
        .bind(&tokens)
        .bind(now.to_sqlx())
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = row else { return Ok(Meaning::Told(CodeAnswer::Nothing)) };
    let (kind, subject_id, about): (String, SubjectId, Uuid) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if !row.try_get::<bool, _>(3)? {
        return Ok(Meaning::Told(CodeAnswer::NotHers));
    }
    match (&*kind, sentence) {
        (CONFIRM, Sentence::Alone | Sentence::Agree) => {
            return Ok(Meaning::Confirms(subject_id, about));
        }
        (PROVE, Sentence::Open) => {}
        _ => return Ok(Meaning::Told(CodeAnswer::Nothing)),
    }
    sqlx::query(PROVED).bind(&text).bind(&tokens).execute(conn).await?;
    Ok(Meaning::Told(CodeAnswer::Proved { subject_id }))
}

/// The notice that a code stands for, among those on which consents are asked for today.
#[must_use]
pub fn joins<'a>(
    code: Code,
    purposes: impl IntoIterator<Item = &'a PurposeDefined>,
) -> Option<CodeAnswer> {
    purposes.into_iter().find_map(|purpose| {
        let notice = purpose.notices.values().find(|it| Code::of_hex(&it.hash) == Some(code))?;
        Some(CodeAnswer::Join {
            purpose: purpose.purpose.clone(),
            channel: purpose.channels.iter().find(|channel| *channel == WHATSAPP)?.clone(),
            notice_hash: notice.hash.clone(),
        })
    })
}

/// Forgets codes that are over.
///
/// # Errors
/// When the database fails.
pub async fn forget_old(pool: &sqlx::PgPool, now: Timestamp) -> Result<(), sqlx::Error> {
    const FORGET: &str = "DELETE FROM codes WHERE expires_at <= $1";
    let over = now.checked_sub(LATE).unwrap_or(now);
    sqlx::query(FORGET).bind(over.to_sqlx()).execute(pool).await.map(|_| ())
}
