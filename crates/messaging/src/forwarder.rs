//! Brings declarations to the consent service, in the order in which each address made them. It
//! guarantees that a stop is brought there however long that takes, that a start never lifts a
//! stop that was heard after it, and that the one confirmation goes out only once a stop is settled.
//!
//! There is no leader: a forwarder takes only declarations without an earlier unsettled one of the same
//! address, and holds each for [`HOLD`], longer than its calls can take. A start whose grant got no
//! answer stays unsettled, is repeated with the same idempotency key, and until then holds back the
//! stops behind it; those block sending here meanwhile.

use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{
    STOP_CONFIRMATION, Stop, StopKind, StopsRequest, StopsResponse,
};
use assent_contracts::api::vault::{ResolveRequest, ResolveResponse, ResolvedAddress};
use assent_contracts::code::{Code, NoCode, Sentence};
use assent_contracts::consent::Method;
use assent_contracts::messaging::{MESSAGE_REQUESTED, MessageRequested, STOP_HEARD, StopHeard};
use assent_eventstore::{Append, Session, StoreError, to_the_end};
use assent_http::ClientError;
use assent_runtime::failpoint;
use assent_runtime::ops::Watchdog;
use jiff::SignedDuration;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::declarations::{STOP_OF, bytes, read, sentence};
use crate::domain::stop::Form;
use crate::hour_keys::HourKeyError;
use crate::opt_ins::Counted;
use crate::state::{Messaging, fenced, stranger};
use crate::{consequences, opt_ins, tasks};

/// Most stops in one call.
const STOPS_MAX: i64 = 500;
/// How long a forwarder holds what it took. Longer than its calls (10 s each) can take.
const HOLD: Duration = Duration::from_secs(45);
/// How often declarations are looked for when nothing announces them.
const POLL: Duration = Duration::from_millis(500);
/// How long a message may be on its way before it counts as late.
const ON_ITS_WAY_MAX: SignedDuration = SignedDuration::from_secs(60);

/// A declaration as it is being forwarded.
#[derive(Clone)]
pub struct Pending {
    /// Its id.
    pub id: Uuid,
    /// Its place among all declarations.
    pub position: i64,
    form: String,
    /// Tokens of the address that it came from.
    pub tokens: Vec<AddressToken>,
    /// Of an opt-in: the phone number, sealed under an hourly key.
    pub phone: Option<Vec<u8>>,
    /// Its user ids, sealed likewise.
    pub account: Option<Vec<u8>>,
    /// That key.
    pub hour_key: Option<Uuid>,
    /// Of a stop: whose it is, where that doesn't follow from the address.
    subjects: Vec<SubjectId>,
    /// Of a stop: the language of its word, where that tells one.
    language: Option<String>,
    /// When she said it, by the provider's clock.
    pub said_at: jiff::Timestamp,
    heard_at: jiff::Timestamp,
    /// How often it was taken.
    pub attempts: i32,
    /// The grant may have been made, its answer didn't come.
    pub in_doubt: bool,
    /// The code that she sent, and its sentence.
    code: Option<(Code, Sentence)>,
}

impl Pending {
    /// From when it counts: what she or others said elsewhere since must stand, however long it is on its
    /// way from here. That is when it was heard, since the provider's times are whole seconds; where it came
    /// late (a webhook that fails is repeated for up to seven days), when she said it.
    pub fn counts_from(&self) -> jiff::Timestamp {
        match self.heard_at.duration_since(self.said_at) > ON_ITS_WAY_MAX {
            true => self.said_at,
            false => self.heard_at,
        }
    }
}

/// Why a declaration is still open.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A neighbour.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// An hourly key.
    #[error(transparent)]
    Keys(#[from] HourKeyError),
    /// A neighbour's answer.
    #[error("the answer does not fit the question")]
    Mismatch,
    /// The consent service doesn't know yet that the number is hers.
    #[error("the number is not known to be hers yet")]
    NotYet,
}

/// Forwards until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again, for ever.
pub async fn run(
    messaging: Messaging,
    stopping: CancellationToken,
    watchdog: Watchdog,
) -> Result<(), std::convert::Infallible> {
    let mut failures: u32 = 0;
    while !stopping.is_cancelled() {
        watchdog.progress();
        match pass(&messaging).await {
            Ok(0) => failures = 0,
            Ok(_) => {
                failures = 0;
                continue;
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "stops wait to be forwarded; they hold here");
            }
        }
        let pause = POLL.min(Duration::from_millis(50 << failures.min(4)));
        tokio::select! {
            () = stopping.cancelled() => {}
            () = messaging.declared.notified(), if failures == 0 => {}
            () = tokio::time::sleep(if failures == 0 { POLL } else { pause }) => {}
        }
    }
    Ok(())
}

/// Takes what is due and forwards it. Gives how many declarations it settled.
async fn pass(messaging: &Messaging) -> Result<usize, Failure> {
    let stops = take(messaging, &["stop", STOP_OF], STOPS_MAX).await?;
    let count = stops.len();
    if !stops.is_empty()
        && let Err(error) = forward_stops(messaging, &stops).await
    {
        put_back(messaging, &stops).await?;
        return Err(error);
    }
    let opt_ins = [take(messaging, &["start"], 16).await?, take(messaging, &["code"], 16).await?];
    let mut settled = count;
    for pending in opt_ins.iter().flatten() {
        failpoint::hit_async("messaging.before_opt_in").await;
        let forwarded = match pending.code {
            Some(code) => opt_ins::forward_code(messaging, pending, code).await,
            None => opt_ins::forward_start(messaging, pending).await,
        };
        match forwarded {
            Ok(counted) => {
                settle_opt_in(messaging, pending, &counted).await?;
                settled += 1;
            }
            Err(error) => {
                tracing::info!(%error, "an opt-in waits");
                put_back(messaging, std::slice::from_ref(pending)).await?;
            }
        }
    }
    Ok(settled)
}

/// Declarations that are due and not behind another of the same address or person. They are held for [`HOLD`].
async fn take(
    messaging: &Messaging,
    wills: &[&str],
    limit: i64,
) -> Result<Vec<Pending>, sqlx::Error> {
    const TAKE: &str = "
        UPDATE declarations SET not_before = now() + make_interval(secs => $3), attempts = attempts + 1
        WHERE id IN (
            SELECT id FROM declarations AS it
            WHERE will = ANY($1) AND settled_at IS NULL AND not_before <= now()
              AND NOT EXISTS (SELECT FROM declarations AS before
                              WHERE before.settled_at IS NULL AND before.position < it.position
                                AND (before.tokens && it.tokens OR before.subjects && it.subjects))
            ORDER BY position LIMIT $2 FOR UPDATE SKIP LOCKED)
        RETURNING id, position, form, tokens, phone, hour_key, said_at, heard_at, attempts, in_doubt,
                  code, sentence, account, subjects, language";
    let rows = sqlx::query(TAKE)
        .bind(wills)
        .bind(limit)
        .bind(HOLD.as_secs_f64())
        .fetch_all(messaging.pool())
        .await?;
    rows.iter().map(pending).collect()
}

fn pending(row: &PgRow) -> Result<Pending, sqlx::Error> {
    Ok(Pending {
        id: row.try_get(0)?,
        position: row.try_get(1)?,
        form: row.try_get(2)?,
        tokens: read(&row.try_get::<Vec<Vec<u8>>, _>(3)?)?,
        phone: row.try_get(4)?,
        hour_key: row.try_get(5)?,
        said_at: row.try_get::<SqlTimestamp, _>(6)?.to_jiff(),
        heard_at: row.try_get::<SqlTimestamp, _>(7)?.to_jiff(),
        attempts: row.try_get(8)?,
        in_doubt: row.try_get(9)?,
        account: row.try_get(12)?,
        subjects: row.try_get(13)?,
        language: row.try_get(14)?,
        code: row
            .try_get::<Option<&str>, _>(10)?
            .map(str::parse)
            .transpose()
            .map_err(|error: NoCode| sqlx::Error::Decode(error.into()))?
            .map(|code| -> Result<_, sqlx::Error> { Ok((code, sentence(row.try_get(11)?))) })
            .transpose()?,
    })
}

/// Makes them due again, after a growing pause.
async fn put_back(messaging: &Messaging, pending: &[Pending]) -> Result<(), sqlx::Error> {
    const PUT_BACK: &str = "
        UPDATE declarations
        SET not_before = now() + make_interval(secs => least(0.05 * 2 ^ least(attempts, 7), 5))
        WHERE id = ANY($1) AND settled_at IS NULL";
    let ids: Vec<Uuid> = pending.iter().map(|it| it.id).collect();
    sqlx::query(PUT_BACK).bind(ids).execute(messaging.pool()).await.map(|_| ())
}

async fn forward_stops(messaging: &Messaging, pending: &[Pending]) -> Result<(), Failure> {
    let pending = with_addresses(messaging, pending).await?;
    if pending.is_empty() {
        return Ok(());
    }
    let stops = pending
        .iter()
        .map(|it| Stop {
            stop_id: it.id,
            addresses: it.tokens.clone(),
            kind: StopKind::Stopped,
            method: Some(method(&it.form)),
            heard_at: it.heard_at,
        })
        .collect();
    // It answers when settled: from then on the gate there holds, and the block here may go.
    let answer: StopsResponse =
        messaging.consent.post("/v1/gate/stops", &StopsRequest { stops }, None).await?;
    if answer.subjects.len() != pending.len() {
        return Err(Failure::Mismatch);
    }
    let heard: Vec<Heard> = pending
        .iter()
        .zip(answer.subjects)
        .map(|(it, mut subjects)| {
            let more = it.subjects.iter().filter(|it| !subjects.contains(it));
            subjects.extend(more.copied().collect::<Vec<_>>());
            Heard::of(it, subjects)
        })
        .collect();
    let service = messaging.clone();
    to_the_end(async move { settle_stops(&service, &heard).await }).await?;
    messaging.queued.notify_one();
    Ok(())
}

/// By which road a stop of this form came.
fn method(form: &str) -> Method {
    if form == Form::Page.as_str() {
        Method::PreferencePage
    } else if [Form::Preference, Form::ProviderRefusal].map(Form::as_str).contains(&form) {
        Method::WhatsappPreference
    } else {
        Method::WhatsappMessage
    }
}

/// A stop that the consent service holds.
struct Heard {
    id: Uuid,
    form: String,
    tokens: Vec<AddressToken>,
    subjects: Vec<SubjectId>,
    language: Option<String>,
}

/// With the addresses of those whose stop it is though it came from another one, or from none. Where the vault
/// doesn't answer that stop waits, and the others go on; of who is gone nothing is left to stop.
async fn with_addresses(
    messaging: &Messaging,
    pending: &[Pending],
) -> Result<Vec<Pending>, sqlx::Error> {
    const NOBODYS: &str = "UPDATE declarations SET settled_at = $2 WHERE id = $1";
    let mut all = Vec::with_capacity(pending.len());
    for it in pending {
        let mut it = it.clone();
        if !it.subjects.is_empty() {
            let ask = ResolveRequest { reason: "stop".to_owned(), subjects: it.subjects.clone() };
            let answer = messaging.vault.post("/v1/addresses/resolve", &ask, None).await;
            let answer: ResolveResponse = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!(%error, "a stop waits for the vault; it holds here");
                    put_back(messaging, std::slice::from_ref(&it)).await?;
                    continue;
                }
            };
            let hers = answer.addresses.iter().flatten().flat_map(ResolvedAddress::hers);
            let hers: Vec<AddressToken> = hers.filter(|token| !it.tokens.contains(token)).collect();
            it.tokens.extend(hers);
        }
        if it.tokens.is_empty() {
            let now = messaging.clock.now().to_sqlx();
            sqlx::query(NOBODYS).bind(it.id).bind(now).execute(messaging.pool()).await?;
        } else {
            all.push(it);
        }
    }
    Ok(all)
}

impl Heard {
    fn of(pending: &Pending, subjects: Vec<SubjectId>) -> Self {
        let (form, tokens) = (pending.form.clone(), pending.tokens.clone());
        Self { id: pending.id, form, tokens, subjects, language: pending.language.clone() }
    }

    fn streams(&self) -> Vec<SubjectId> {
        if self.subjects.is_empty() { vec![stranger(&self.tokens)] } else { self.subjects.clone() }
    }

    /// She wrote to us, so she gets an answer, and may: the window for free text is open.
    fn is_conversation(&self) -> bool {
        let hers = [Form::Word, Form::Erasure, Form::Button].map(Form::as_str);
        hers.contains(&self.form.as_str())
    }
}

async fn settle_stops(messaging: &Messaging, heard: &[Heard]) -> Result<(), StoreError> {
    const SETTLED: &str = "
        UPDATE declarations SET settled_at = $2, subjects = $3, tokens = $4
        WHERE id = $1 AND settled_at IS NULL";
    let now = messaging.clock.now();
    let mut streams: Vec<SubjectId> = heard.iter().flat_map(Heard::streams).collect();
    streams.sort_unstable();
    streams.dedup();
    let mut session = messaging.store.begin().await?;
    session.lock_versions(&streams).await?;
    let fenced = fenced(session.conn(), &streams).await?;
    let found: Vec<Uuid> =
        heard.iter().filter(|it| !it.subjects.is_empty()).map(|it| it.id).collect();
    let attributed = tasks::attributed(session.conn(), &found, now).await?;
    let stopped: Vec<SubjectId> = heard.iter().flat_map(|it| it.subjects.clone()).collect();
    // She did mean it.
    let answered = tasks::answered(session.conn(), &stopped, now, now).await?;
    // Of two who are one, it is confirmed to who may get free text.
    let open_to = consequences::windows(session.conn(), &stopped, now).await?;
    let mut appends = Vec::new();
    for it in heard {
        let open: Vec<SubjectId> =
            it.subjects.iter().copied().filter(|it| !fenced.contains(it)).collect();
        // With all the addresses that it stopped: an opt-in from any of them has to know.
        let settled = sqlx::query(SETTLED)
            .bind(it.id)
            .bind(now.to_sqlx())
            .bind(&open)
            .bind(bytes(&it.tokens))
            .execute(session.conn())
            .await?;
        if settled.rows_affected() == 0 {
            continue;
        }
        let mut streams = it.streams();
        streams.retain(|stream| !fenced.contains(stream));
        streams.sort_by_key(|stream| !open_to.contains(stream));
        for stream in streams {
            let event = StopHeard {
                stop_id: it.id,
                addresses: it.tokens.clone(),
                form: it.form.clone(),
                at: now,
            };
            let id = messaging.ids.v7();
            appends.push(messaging.event(stream, id, STOP_HEARD, &event, now)?);
            if it.subjects.contains(&stream) && it.is_conversation() {
                appends.extend(confirm(messaging, &mut session, stream, it, now).await?);
            }
        }
    }
    session.append(appends).await?;
    session.commit().await?;
    if attributed || answered {
        tasks::wake(messaging).await;
    }
    Ok(())
}

/// Queues the confirmation, unless she got one within a day, or whoever is one with her and stopped by the same words:
/// in the language of her word, else in that in which the bot understood her last, else in that of the last template
/// that went to her.
async fn confirm(
    messaging: &Messaging,
    session: &mut Session,
    subject: SubjectId,
    heard: &Heard,
    now: jiff::Timestamp,
) -> Result<Option<Append>, StoreError> {
    const INSERT: &str = "
        INSERT INTO intents (id, subject_id, purpose, channel, kind, state, requested_at, changed_at,
                             asks_erasure, language)
        SELECT $1, $2, $3, 'whatsapp', 'text', 'queued', $4, $4, $7,
               coalesce($5,
                   (SELECT language FROM conversations
                    WHERE subject_id = $2 AND language IS NOT NULL ORDER BY opened_at DESC LIMIT 1),
                   (SELECT language FROM intents
                    WHERE subject_id = $2 AND language IS NOT NULL AND state = 'accepted'
                    ORDER BY requested_at DESC LIMIT 1))
        WHERE NOT EXISTS (SELECT FROM intents WHERE subject_id = ANY($6) AND purpose = $3
                          AND requested_at > $4 - interval '24 hours')";
    let id = messaging.ids.v7();
    let inserted = sqlx::query(INSERT)
        .bind(id)
        .bind(subject)
        .bind(STOP_CONFIRMATION)
        .bind(now.to_sqlx())
        .bind(&heard.language)
        .bind(&heard.subjects)
        .bind(heard.form == Form::Erasure.as_str())
        .execute(session.conn())
        .await?;
    if inserted.rows_affected() == 0 {
        return Ok(None);
    }
    let event = MessageRequested {
        message_id: id,
        purpose: STOP_CONFIRMATION.to_owned(),
        channel: "whatsapp".to_owned(),
        template: "text".to_owned(),
        campaign_id: None,
        at: now,
    };
    messaging.event(subject, id, MESSAGE_REQUESTED, &event, now).map(Some)
}

/// Her names go as soon as they are not needed.
async fn settle_opt_in(
    messaging: &Messaging,
    pending: &Pending,
    Counted { subjects, purpose }: &Counted,
) -> Result<(), StoreError> {
    const SETTLED: &str = "
        UPDATE declarations SET settled_at = $2, subjects = $3, purpose = $4, phone = NULL,
               account = NULL, hour_key = NULL
        WHERE id = $1";
    let now = messaging.clock.now();
    let mut streams = subjects.clone();
    streams.sort_unstable();
    streams.dedup();
    let mut session = messaging.store.begin().await?;
    session.lock_versions(&streams).await?;
    let fenced = fenced(session.conn(), &streams).await?;
    let open: Vec<SubjectId> = subjects.iter().copied().filter(|it| !fenced.contains(it)).collect();
    sqlx::query(SETTLED)
        .bind(pending.id)
        .bind(now.to_sqlx())
        .bind(&open)
        .bind(purpose)
        .execute(session.conn())
        .await?;
    if let Some(purpose) = purpose {
        consequences::opted_in(session.conn(), &open, purpose).await?;
    }
    // What she wrote before, and may have meant as a stop, is answered by this.
    let agreed = if purpose.is_some() { &open[..] } else { &[] };
    let answered = tasks::answered(session.conn(), agreed, pending.heard_at, now).await?;
    session.commit().await?;
    messaging.declared.notify_one();
    if answered {
        tasks::wake(messaging).await;
    }
    Ok(())
}
