//! Processes stored webhook bodies, many at a time. It guarantees that each update is applied once, that an
//! update that can't be read or applied is parked alone and never stands in the way of others, that a
//! body is deleted in the transaction that applies it, and that what one person wrote is applied in the order in
//! which it was stored ([`lanes`]); the stops in it were taken at the door already.

mod lanes;
mod messages;
mod parts;
mod statuses;

use std::time::Duration;

use assent_contracts::SubjectId;
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{ClientError, Code};
use assent_runtime::ops::Watchdog;
use assent_runtime::{failpoint, telemetry};
use jiff::Timestamp;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use self::lanes::Behind;
use self::messages::OfPeople;
use self::parts::{Divided, Part, divide, replace, resealed};
use crate::api::webhook::{BODY, said_at};
use crate::consequences;
use crate::hour_keys::{EarlierKeys, HourKeyError};
use crate::identities::{self, Told};
use crate::intents;
use crate::person_keys::KeyError;
use crate::state::{Messaging, fenced};
use crate::whatsapp::envelope::{Place, Webhook};
use crate::whatsapp::updates::{AccountUpdate, Inbound, TemplateUpdate, Update};
use crate::{campaigns, declarations, limits, metrics, moves, rates, requests, templates};

/// Updates that are applied in one transaction, unless a single body has more.
const TOGETHER: usize = 200;
/// How often bodies are looked for when nothing announces them.
const POLL: Duration = Duration::from_millis(500);

/// A body as it was stored.
struct Stored {
    id: Uuid,
    hour_key: Uuid,
    sealed: Vec<u8>,
    received_at: Timestamp,
    /// Its place among all bodies.
    position: i64,
    /// Who writes in it.
    lanes: Vec<i16>,
}

/// Why a body is still there.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Vault(#[from] ClientError),
    #[error(transparent)]
    Keys(#[from] HourKeyError),
    #[error(transparent)]
    Identities(#[from] identities::Failure),
    #[error(transparent)]
    PersonKeys(KeyError),
    /// It will never be processed.
    #[error("not processable: {0}")]
    Unprocessable(&'static str),
}

impl Failure {
    /// Whether the body is to blame, and not whoever was asked about it.
    fn is_of_the_body(&self) -> bool {
        let of_the_data = |error: &sqlx::Error| {
            let code = error.as_database_error().and_then(|error| error.code());
            // A row that is met twice in one statement, data exceptions, violated constraints.
            code.is_some_and(|code| ["21", "22", "23"].iter().any(|class| code.starts_with(class)))
        };
        match self {
            Self::Database(error) | Self::Store(StoreError::Database(error)) => of_the_data(error),
            // Not a key that is refused, say: that is put right, and the body goes through.
            Self::Vault(error) => matches!(
                error.code(),
                Some(Code::ValidationFailed | Code::MalformedBody | Code::BodyTooLarge)
            ),
            Self::Unprocessable(_) => true,
            Self::Store(_) | Self::Keys(_) | Self::Identities(_) | Self::PersonKeys(_) => false,
        }
    }
}

/// Processes until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn run(
    messaging: Messaging,
    stopping: CancellationToken,
    watchdog: Watchdog,
) -> Result<(), std::convert::Infallible> {
    while !stopping.is_cancelled() {
        watchdog.progress();
        let taken = match lanes::take(&messaging).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "stored webhooks can't be read");
                Vec::new()
            }
        };
        let idle = taken.is_empty();
        if !idle {
            failpoint::hit_async("messaging.webhooks_taken").await;
        }
        let mut behind = Behind::default();
        let mut opened = open_all(&messaging, taken, &mut behind).await;
        while !opened.is_empty() {
            watchdog.progress();
            let rest = opened.split_off(together(&opened));
            let some = std::mem::replace(&mut opened, rest);
            process(&messaging, some, &mut behind, &watchdog).await;
        }
        if idle {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = messaging.received.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
    Ok(())
}

/// It is tried again, later each time, or parked.
async fn put_back(messaging: &Messaging, id: Uuid, why: &Failure) {
    const SQL: &str = "
        UPDATE webhook_bodies SET parked = $2,
               not_before = now() + make_interval(secs => least(0.1 * 2 ^ least(attempts, 8), 20))
        WHERE id = $1";
    tracing::warn!(error = %why, body = %id, "a webhook body is not processed yet");
    let parked = match why {
        Failure::Unprocessable(reason) => Some(*reason),
        Failure::Keys(HourKeyError::Ended) => Some("key_ended"),
        _ => None,
    };
    if let Err(error) = sqlx::query(SQL).bind(id).bind(parked).execute(messaging.pool()).await {
        tracing::warn!(%error, body = %id, "a webhook body can't be put back");
    }
}

/// A body that was read.
struct Opened {
    stored: Stored,
    webhook: Webhook,
    /// What of it is not to be read, each alone.
    parked: Vec<Part>,
}

impl Opened {
    fn good(&self) -> impl Iterator<Item = &(Place, Update)> {
        self.webhook.updates().iter().filter(|(_, it)| !is_bad(it))
    }

    fn bad(&self) -> Vec<(Vec<Place>, Option<&'static str>)> {
        let bad = self.webhook.updates().iter().filter(|(_, it)| is_bad(it));
        bad.map(|(place, it)| (vec![*place], Some(it.kind()))).collect()
    }
}

const fn is_bad(update: &Update) -> bool {
    matches!(update, Update::Unknown | Update::Unreadable | Update::Nameless(_))
}

/// Opens bodies; those that can't be are put back.
async fn open_all(messaging: &Messaging, taken: Vec<Stored>, behind: &mut Behind) -> Vec<Opened> {
    if taken.is_empty() {
        return Vec::new();
    }
    let hours: Vec<Uuid> = taken.iter().map(|body| body.hour_key).collect();
    let keys = match messaging.hour_keys.earlier(&hours).await {
        Ok(keys) => keys,
        Err(error) => {
            let failure = Failure::Keys(error);
            for body in taken {
                put_back(messaging, body.id, &failure).await;
            }
            return Vec::new();
        }
    };
    let mut opened = Vec::with_capacity(taken.len());
    for body in taken {
        let (id, lanes) = (body.id, body.lanes.clone());
        match open(messaging, &keys, body).await {
            Ok(body) => opened.push(body),
            Err(failure) => {
                put_back(messaging, id, &failure).await;
                behind.wait(&lanes);
            }
        }
    }
    opened
}

async fn open(
    messaging: &Messaging,
    keys: &EarlierKeys,
    stored: Stored,
) -> Result<Opened, Failure> {
    let raw = keys.open(stored.id, BODY, stored.hour_key, &stored.sealed)?;
    let webhook = Webhook::read(&raw).map_err(|_| Failure::Unprocessable("no_webhook_envelope"))?;
    let mut opened = Opened { stored, webhook, parked: Vec::new() };
    opened.parked = resealed(messaging, &opened, opened.bad()).await?;
    Ok(opened)
}

/// How many of these bodies are processed in one transaction: calls are small, and each costs one.
fn together(bodies: &[Opened]) -> usize {
    let mut updates = 0;
    let fit = bodies.iter().take_while(|body| {
        updates += body.webhook.updates().len();
        updates <= TOGETHER
    });
    fit.count().max(1)
}

/// Processes these bodies, each by itself where they can't be together. Whoever wrote in one that is left is not
/// heard of in those behind it.
async fn process(
    messaging: &Messaging,
    bodies: Vec<Opened>,
    behind: &mut Behind,
    watchdog: &Watchdog,
) {
    let bodies = behind.without(messaging, bodies).await;
    if bodies.is_empty() {
        return;
    }
    let span = tracing::info_span!("process webhooks", bodies = bodies.len());
    match apply(messaging, &bodies).instrument(span).await {
        Ok(true) => {
            let updates = bodies.iter().flat_map(|body| body.webhook.updates());
            updates.for_each(|(_, update)| metrics::update(update.kind()));
            count_heard(messaging, &bodies).await;
            messaging.moved.notify_waiters();
            messaging.turns.notify_one();
        }
        Ok(false) if bodies.len() == 1 => {}
        Err(failure) if bodies.len() == 1 => {
            let body = &bodies[0];
            let kept = if failure.is_of_the_body() {
                halve(messaging, body, failure).await
            } else {
                Err(failure)
            };
            if let Err(failure) = kept {
                put_back(messaging, body.stored.id, &failure).await;
            }
            behind.wait(&body.stored.lanes);
        }
        // One of them is to blame, or is another processor's by now.
        Ok(false) => one_by_one(messaging, bodies, behind, watchdog).await,
        Err(failure) if failure.is_of_the_body() => {
            one_by_one(messaging, bodies, behind, watchdog).await;
        }
        Err(failure) => {
            for body in &bodies {
                put_back(messaging, body.stored.id, &failure).await;
                behind.wait(&body.stored.lanes);
            }
        }
    }
}

/// What people wrote counts into the rate of the number, once it is processed.
async fn count_heard(messaging: &Messaging, bodies: &[Opened]) {
    let number = &messaging.config.whatsapp.phone_number_id;
    let ours = |it: &Inbound| it.number.as_ref().is_none_or(|it| it == number);
    let updates = bodies.iter().flat_map(Opened::good);
    let written = updates.filter(|(_, it)| matches!(it, Update::Message(it) if ours(it))).count();
    let rate = messaging.config.sending.per_second;
    if written > 0
        && let Err(error) = rates::heard(messaging.pool(), number, written, rate).await
    {
        tracing::warn!(%error, written, "what was heard is not counted into the rate");
    }
}

async fn one_by_one(
    messaging: &Messaging,
    bodies: Vec<Opened>,
    behind: &mut Behind,
    watchdog: &Watchdog,
) {
    for body in bodies {
        watchdog.progress();
        Box::pin(process(messaging, vec![body], behind, watchdog)).await;
    }
}

/// Halves of a body are tried on their own, until what is to blame stands alone.
async fn halve(messaging: &Messaging, body: &Opened, failure: Failure) -> Result<(), Failure> {
    let places: Vec<Place> = body.good().map(|(place, _)| *place).collect();
    let mut parts = match places.len() {
        0 => return Err(failure),
        1 => vec![(places, Some("not_applicable"))],
        many => {
            let (first, second) = places.split_at(many / 2);
            vec![(first.to_vec(), None), (second.to_vec(), None)]
        }
    };
    tracing::warn!(error = %failure, body = %body.stored.id, "an update can't be applied");
    parts.extend(body.bad());
    let parts = resealed(messaging, body, parts).await?;
    replace(messaging, Divided::new(&body.stored, parts)).await
}

/// What is to be read of these bodies, each with when it came in.
fn good(bodies: &[Opened]) -> Vec<(&Update, Timestamp)> {
    let mut all = Vec::new();
    for body in bodies {
        all.extend(body.good().map(|(_, update)| (update, body.stored.received_at)));
    }
    all
}

/// Applies what these bodies tell, and parks what was not to be read, in one transaction. Gives false when
/// another processor was faster.
async fn apply(messaging: &Messaging, bodies: &[Opened]) -> Result<bool, Failure> {
    let mut messages = Vec::new();
    let mut statuses = Vec::new();
    let mut moves = Vec::new();
    let mut news = Vec::new();
    let mut told = Vec::new();
    // An app may hear of more than this deployment's account and number. The stops among it were taken.
    let whatsapp = &messaging.config.whatsapp;
    let ours = whatsapp.business_account_id.as_ref();
    let of_another =
        |account: &Option<String>| account.as_ref().zip(ours).is_some_and(|(it, ours)| it != ours);
    let to_another = |number: &Option<String>| {
        number.as_ref().is_some_and(|number| *number != whatsapp.phone_number_id)
    };
    for (update, heard_at) in good(bodies) {
        match update {
            Update::Message(message) if to_another(&message.number) => {}
            Update::Template(update) if of_another(&update.account) => {}
            Update::Account(update) if of_another(&update.account) => {}
            Update::Message(message) => {
                let times = (said_at(message.said_at, heard_at), heard_at);
                told.extend(Told::by(&message.from, times));
                messages.push((message, heard_at));
            }
            Update::Status(status) => {
                let times = (said_at(status.at, heard_at), heard_at);
                told.extend(Told::by(&status.recipient, times));
                statuses.push(status);
            }
            Update::Moved(moved) => moves.push(moves::look(messaging, moved).await?),
            Update::Template(template) => news.push(News::Template(template.clone())),
            Update::Account(account) => news.push(News::Account(account.clone())),
            Update::Preference(preference) => {
                let times = (said_at(preference.said_at, heard_at), heard_at);
                told.extend(Told::by(&preference.from, times));
            }
            Update::Notice(_) | Update::Unknown | Update::Unreadable | Update::Nameless(_) => {}
        }
    }
    let statuses = statuses::of_intents(messaging, &statuses).await?;
    let causes = statuses.iter().filter_map(|it| it.traceparent.as_deref());
    telemetry::links(&Span::current(), causes);
    // The earliest of these bodies': none of them is gone before all of them are.
    let heard_at = bodies.iter().map(|body| body.stored.received_at).min().unwrap_or_default();
    told.extend(statuses.iter().filter_map(|it| it.told(heard_at)));
    let OfPeople { messages, told: more, stops, doubted } =
        messages::of_people(messaging, messages).await?;
    told.extend(more);
    let told = identities::news(messaging, told).await?;
    let mut unsettled: Vec<SubjectId> =
        statuses.iter().filter(|it| !it.settled).map(|it| it.subject).collect();
    unsettled.sort_unstable();
    unsettled.dedup();
    let keys = intents::lease_keys(messaging, &unsettled).await;
    let service = messaging.clone();
    let divided: Vec<Divided> =
        bodies.iter().map(|body| Divided::new(&body.stored, body.parked.clone())).collect();
    to_the_end(async move {
        let mut session = service.store.begin().await?;
        let mut subjects: Vec<SubjectId> = messages.iter().map(|it| it.subject).collect();
        subjects.extend(messages.iter().flat_map(|it| it.one_with.iter().copied()));
        subjects.extend(doubted.iter().map(|it| it.subject));
        subjects.extend(statuses.iter().map(|it| it.subject));
        subjects.extend(moves.iter().filter_map(|it| it.subject));
        subjects.sort_unstable();
        subjects.dedup();
        session.lock_versions(&subjects).await?;
        let gone = fenced(session.conn(), &subjects).await?;
        if !divide(session.conn(), &divided).await? {
            session.rollback().await?;
            return Ok(false);
        }
        if !news.is_empty() {
            campaigns::order_news(session.conn()).await?;
        }
        for it in &news {
            it.apply(&service, session.conn()).await?;
        }
        let asking = messages.iter().any(|it| it.asked.is_some());
        let messages = messages.iter().filter(|it| !gone.contains(&it.subject)).collect();
        let appends = messages::receive(&service, session.conn(), messages, &gone).await?;
        session.append(appends).await?;
        requests::hear_doubted(&service, session.conn(), &doubted, &gone).await?;
        let statuses: Vec<_> = statuses.iter().filter(|it| !gone.contains(&it.subject)).collect();
        statuses::reconcile(&service, &mut session, &statuses, keys.as_ref()).await?;
        for moved in &moves {
            let is_gone = moved.subject.is_some_and(|subject| gone.contains(&subject));
            moves::apply(&service, session.conn(), moved, is_gone).await?;
        }
        if !declarations::insert(session.conn(), &stops).await?.is_empty() {
            service.declared.notify_one();
        }
        identities::insert(&service, session.conn(), &told).await?;
        session.commit().await?;
        if asking {
            service.asked.notify_one();
        }
        // After the commit: these are messages of anybody, locked in no order of this transaction's.
        if news.iter().any(News::is_of_the_number)
            && let Err(error) = limits::number::wake(service.pool()).await
        {
            tracing::warn!(%error, "what waits for the tier is looked at later");
        }
        Ok(true)
    })
    .await
}

/// What the provider tells of its own things.
enum News {
    Template(TemplateUpdate),
    Account(AccountUpdate),
}

impl News {
    /// Whether it tells of the number's quality or tier.
    fn is_of_the_number(&self) -> bool {
        matches!(self, Self::Account(update) if update.field == "phone_number_quality_update")
    }

    async fn apply(
        &self,
        messaging: &Messaging,
        conn: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let now = messaging.clock.now();
        match self {
            Self::Template(update) => {
                let at = said_at(update.at, now);
                templates::hear(conn, &messaging.config.whatsapp, update, at).await
            }
            Self::Account(update) => {
                let whatsapp = &messaging.config.whatsapp;
                consequences::account(conn, whatsapp, update, said_at(update.at, now)).await
            }
        }
    }
}
