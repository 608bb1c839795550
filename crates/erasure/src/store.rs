//! Persons in Postgres: the events of their requests, erasures and holds. It guarantees that everything
//! about one person is decided under the lock of her stream and with a registry that nobody changes
//! meanwhile; what is decided is left to the domain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::envelope::{Structured, source};
use assent_contracts::erasure::{COMMAND, Command as SagaCommand};
use assent_contracts::purposes::PURPOSE_COMMAND;
use assent_contracts::topics::{ERASURE_COMMANDS, ERASURE_EVENTS};
use assent_eventstore::{
    Append, EventStore, Expected, FirstAnswer, Idempotency, Message, Session, StoreError, Stream,
};
use assent_http::Caller;
use assent_runtime::{Clock, Ids, telemetry};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde_json::value::to_raw_value;
use uuid::Uuid;

use assent_contracts::rights::{INQUIRY, Inquiry};

use crate::domain::recipients::Asked;
use crate::domain::{Event, Issued, Person, Registry, Summary};
use crate::registry;
use crate::rows::{self, Look};
use crate::tracking::{self, Tracking};
use crate::webhooks::rows::{self as calls, Told};

mod purposes;

/// Events that are read at once.
const PAGE: i64 = 500;

/// The persons of this deployment. Cheap to clone.
#[derive(Clone)]
pub struct Sagas {
    /// The events.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
    /// What people are given to look at their requests.
    pub tracking: Tracking,
}

/// A person under lock, in one transaction with everything that is written about her.
pub struct Held {
    pub(crate) session: Session,
    ids: Arc<dyn Ids>,
    tracking: Tracking,
    subject: SubjectId,
    version: i64,
    /// The traces in which requests were opened.
    traces: BTreeMap<Uuid, String>,
    /// The state, what was recorded in this transaction included.
    pub person: Person,
    /// Who takes part; unchanged until the end of the transaction.
    pub registry: Registry,
    /// Who of them is called.
    called: BTreeSet<String>,
    /// The moment of this transaction.
    pub now: Timestamp,
}

/// What a stream says of a person.
pub(crate) struct Known {
    pub(crate) person: Person,
    pub(crate) version: i64,
    /// The traces in which requests were opened.
    pub(crate) traces: BTreeMap<Uuid, String>,
}

impl Known {
    pub(crate) fn of(stream: &Stream) -> Result<Self, StoreError> {
        let mut person = Person::default();
        let mut traces = BTreeMap::new();
        for stored in &stream.events {
            let Some(event) = Event::read(stored)? else { continue };
            person.evolve(&event);
            if let (Some(request_id), Some(trace)) = (event.request_id(), &stored.traceparent) {
                traces.entry(request_id).or_insert_with(|| trace.clone());
            }
        }
        Ok(Self { person, version: stream.version, traces })
    }

    /// All that follows from a request belongs to its trace, whoever does it and whenever.
    pub(crate) fn trace(&self, request_id: Option<Uuid>) -> Option<String> {
        trace_of(&self.traces, request_id)
    }
}

fn trace_of(traces: &BTreeMap<Uuid, String>, request_id: Option<Uuid>) -> Option<String> {
    let of_request = request_id.and_then(|id| traces.get(&id)).cloned();
    of_request.or_else(telemetry::traceparent)
}

/// A command for its participants, as a message. A repeat is a new message with the same command in it: inboxes
/// must let it through.
pub(crate) fn command_message(
    known: &Known,
    subject: SubjectId,
    issued: &Issued,
    id: Uuid,
    at: Timestamp,
) -> Result<Option<Message>, StoreError> {
    let Some(request) = &known.person.saga.request else { return Ok(None) };
    let trace = known.trace(Some(request.id));
    Ok(Some(message_of(request.id, subject, issued, (id, at, trace))?))
}

fn message_of(
    request_id: Uuid,
    subject: SubjectId,
    issued: &Issued,
    (id, at, traceparent): (Uuid, Timestamp, Option<String>),
) -> Result<Message, StoreError> {
    let command = SagaCommand {
        command_id: issued.command_id,
        request_id,
        subject_id: subject,
        step: issued.step,
        participants: issued.participants.iter().cloned().collect(),
        barrier: issued.barrier.clone(),
        at: issued.at,
    };
    let data = to_raw_value(&command).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let (topic, event_type) = (ERASURE_COMMANDS, COMMAND);
    Ok(Message { id, topic, key: subject, event_type, data, at, traceparent })
}

/// Queues calls that tell what a message tells.
pub(crate) async fn queue_calls(
    session: &mut Session,
    callees: &[String],
    message: &Message,
    message_id: Uuid,
) -> Result<(), StoreError> {
    let event = Structured {
        id: message.id,
        source: &source(message.topic.suffix),
        event_type: message.event_type,
        time: message.at,
        subject: message.key,
        traceparent: message.traceparent.as_deref(),
        data: &message.data,
    };
    let body = event.body().map_err(|error| sqlx::Error::Encode(error.into()))?;
    let (subject, event_id, at) = (message.key, message.id, message.at);
    let of_purpose = message.event_type == PURPOSE_COMMAND;
    let told = Told { message_id, event_id, subject, body: &body, of_purpose, at };
    Ok(calls::queue(session.conn(), callees, &told).await?)
}

impl Sagas {
    /// Locks the stream of `subject`. Await it, and what follows, in a task that nobody cancels.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold(&self, subject: SubjectId) -> Result<Held, StoreError> {
        let mut session = self.store.begin().await?;
        let (registry, called) = registry::read_locked(session.conn()).await?;
        let stream = session.lock(&[subject]).await?.remove(&subject).unwrap_or_default();
        let Known { person, version, traces } = Known::of(&stream)?;
        Ok(Held {
            session,
            ids: Arc::clone(&self.ids),
            tracking: self.tracking.clone(),
            subject,
            version,
            traces,
            person,
            registry,
            called,
            now: self.clock.now(),
        })
    }

    /// The state of `subject`, without locking it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(&self, subject: SubjectId) -> Result<Person, StoreError> {
        let mut person = Person::default();
        let mut after = 0;
        loop {
            let events = self.store.load(subject, after, PAGE).await?;
            for stored in &events {
                if let Some(event) = Event::read(stored)? {
                    person.evolve(&event);
                }
                after = stored.version;
            }
            if i64::try_from(events.len()) != Ok(PAGE) {
                return Ok(person);
            }
        }
    }

    /// The state of `stream` at a version of it, and the first of these events; none: there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn as_of(
        &self,
        stream: SubjectId,
        version: i64,
        events: &[Uuid],
    ) -> Result<(Person, Option<Event>), StoreError> {
        let (mut person, mut first) = (Person::default(), None);
        let mut after = 0;
        while after < version {
            let page = self.store.load(stream, after, PAGE).await?;
            if page.is_empty() {
                return Err(StoreError::Aborted);
            }
            for stored in page.iter().filter(|stored| stored.version <= version) {
                let Some(event) = Event::read(stored)? else { continue };
                person.evolve(&event);
                if first.is_none() && events.contains(&stored.id) {
                    first = Some(event);
                }
            }
            after = page.last().map_or(version, |last| last.version);
        }
        Ok((person, first))
    }

    /// Whether this is what was kept of a request's secret.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_secret_of(&self, request_id: Uuid, secret: &str) -> Result<bool, StoreError> {
        const KEPT: &str = "SELECT secret_sha256 FROM subject_requests WHERE request_id = $1";
        let kept: Option<Vec<u8>> = sqlx::query_scalar(KEPT)
            .bind(request_id)
            .fetch_optional(self.store.pool())
            .await?
            .flatten();
        Ok(tracking::opens(secret, kept.as_deref()))
    }

    /// Whom a request concerns. One that a replica of the version before took in has its row in
    /// `requests` alone until it moves on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn subject_of(&self, request_id: Uuid) -> Result<Option<SubjectId>, StoreError> {
        const SUBJECT: &str = "
            SELECT subject_id FROM subject_requests WHERE request_id = $1
            UNION SELECT subject_id FROM requests WHERE request_id = $1";
        Ok(sqlx::query_scalar(SUBJECT).bind(request_id).fetch_optional(self.store.pool()).await?)
    }

    /// Puts off when the driver looks at an open saga.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn defer(&self, subject: SubjectId, at: Timestamp) -> Result<(), StoreError> {
        const DEFER: &str =
            "UPDATE requests SET look_at = $2 WHERE subject_id = $1 AND look_at < $2";
        sqlx::query(DEFER).bind(subject).bind(at.to_sqlx()).execute(self.store.pool()).await?;
        Ok(())
    }
}

impl Held {
    /// The first answer to an idempotency key.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`]; when the database fails.
    pub async fn first_answer(
        &mut self,
        key: Idempotency,
    ) -> Result<Option<FirstAnswer>, StoreError> {
        self.session.first_answer(key).await
    }

    /// Keeps an idempotency key for a command that changed nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_answer(&mut self, idempotency: Idempotency) -> Result<(), StoreError> {
        self.append(Vec::new(), Some(idempotency)).await
    }

    /// Records events and where things stand after them. If they made something due, the driver
    /// looks at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record(
        &mut self,
        events: Vec<Event>,
        idempotency: Option<Idempotency>,
    ) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let requests: BTreeSet<Uuid> = events.iter().filter_map(Event::request_id).collect();
        let holds: BTreeSet<Uuid> = events.iter().filter_map(Event::hold_id).collect();
        let erasing = self.person.saga.request.as_ref().map(|erasure| erasure.id);
        self.append(events, idempotency).await?;
        let Self { session, person, registry, subject, tracking, now, .. } = self;
        for request in requests.iter().filter_map(|id| person.requests.get(*id)) {
            rows::write_request(session.conn(), *subject, request, tracking).await?;
            rows::write_archive(session.conn(), *subject, request, *now).await?;
            if request.purpose.is_some() && person.purposes.get(request.id).is_none() {
                rows::delete_purpose_erasure(session.conn(), request.id).await?;
            }
        }
        for hold in holds.iter().filter_map(|id| person.holds.get(*id)) {
            rows::write_hold(session.conn(), *subject, hold).await?;
        }
        for (id, erasure) in person.purposes.iter() {
            // A hold may have begun or ended to keep it waiting.
            if holds.is_empty() && !requests.contains(&id) {
                continue;
            }
            let look = match person.next_of_purpose(id, registry, *now) {
                Some(Summary::Held) => Look::At(person.holds.end_for(&erasure.purpose, *now)),
                Some(Summary::Waiting | Summary::Completed) | None => Look::AsBefore,
                Some(Summary::Due(_) | Summary::Proved) => Look::At(Some(*now)),
            };
            rows::write_purpose_erasure(session.conn(), *subject, person, id, look, *now).await?;
        }
        if let Some(stopped) = erasing
            .filter(|id| person.saga.request.as_ref().is_none_or(|erasure| erasure.id != *id))
        {
            rows::delete_erasure(session.conn(), stopped).await?;
        }
        match &person.saga.request {
            None => {}
            Some(erasure) if erasing != Some(erasure.id) => {
                rows::write_erasure(session.conn(), *subject, person, erasure, *now).await?;
            }
            Some(erasure) => {
                let look = match person.next(registry, *now) {
                    Some(Summary::Held) => Look::At(person.holds.end(*now)),
                    Some(Summary::Waiting | Summary::Completed) | None => Look::AsBefore,
                    Some(Summary::Due(_) | Summary::Proved) => Look::At(Some(*now)),
                };
                rows::update_erasure(session.conn(), person, erasure, look, *now).await?;
            }
        }
        Ok(())
    }

    async fn append(
        &mut self,
        events: Vec<Event>,
        idempotency: Option<Idempotency>,
    ) -> Result<(), StoreError> {
        let new = events
            .iter()
            .map(|event| event.to_new(self.ids.v7()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        let mut append =
            Append::new(self.subject, Expected::Exact(self.version), ERASURE_EVENTS, new, self.now);
        append.idempotency = idempotency;
        append.traceparent = self.trace(events.iter().find_map(Event::request_id));
        if let Some(appended) = self.session.append(vec![append]).await?.pop() {
            self.version = appended.version;
        }
        for event in &events {
            self.person.evolve(event);
        }
        Ok(())
    }

    /// All that follows from a request belongs to its trace, whoever does it and whenever.
    fn trace(&self, request_id: Option<Uuid>) -> Option<String> {
        trace_of(&self.traces, request_id)
    }

    /// Keeps what a caller is called: events name her key alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_caller(&mut self, caller: &Caller) -> Result<(), StoreError> {
        Ok(rows::write_caller(self.session.conn(), caller.key(), caller.name()).await?)
    }

    /// Queues a command for its participants, for the first time or again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issue(&mut self, issued: &Issued) -> Result<(), StoreError> {
        let Some(request) = &self.person.saga.request else { return Ok(()) };
        let trace = self.trace(Some(request.id));
        let message =
            message_of(request.id, self.subject, issued, (self.ids.v7(), self.now, trace))?;
        // Who has answered is called no more.
        let missing: Vec<String> = issued.missing().cloned().collect();
        self.publish(message, &missing, issued.command_id).await
    }

    /// Queues a message for Kafka, and calls for those of `participants` that have a webhook.
    async fn publish(
        &mut self,
        message: Message,
        participants: &[String],
        message_id: Uuid,
    ) -> Result<(), StoreError> {
        let callees: Vec<String> =
            participants.iter().filter(|name| self.called.contains(*name)).cloned().collect();
        if !callees.is_empty() {
            queue_calls(&mut self.session, &callees, &message, message_id).await?;
        }
        self.session.enqueue(vec![message]).await
    }

    /// Makes no more calls about a command or an inquiry that was answered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answered(&mut self, name: &str, message_id: Uuid) -> Result<(), StoreError> {
        if self.called.contains(name) {
            calls::settle(self.session.conn(), name, message_id).await?;
        }
        Ok(())
    }

    /// Queues what recipients outside are asked, once: the topic keeps it until they have read it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn inquire(&mut self, request_id: Uuid, asked: &Asked) -> Result<(), StoreError> {
        let inquiry = Inquiry {
            inquiry_id: asked.id,
            request_id,
            subject_id: self.subject,
            task: asked.task,
            fields: asked.fields.clone(),
            participants: asked.recipients.iter().cloned().collect(),
            answer_by: asked.answer_by,
            at: asked.at,
        };
        let data = to_raw_value(&inquiry).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let message = Message {
            id: self.ids.v7(),
            topic: ERASURE_COMMANDS,
            key: self.subject,
            event_type: INQUIRY,
            data,
            at: self.now,
            traceparent: self.trace(Some(request_id)),
        };
        self.publish(message, &inquiry.participants, inquiry.inquiry_id).await
    }

    /// When the driver is to look at it, and how often it has sent again; none while it rests.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due(&mut self) -> Result<Option<i32>, StoreError> {
        const DUE: &str =
            "SELECT tries FROM requests WHERE subject_id = $1 AND look_at <= $2 FOR UPDATE";
        Ok(sqlx::query_scalar(DUE)
            .bind(self.subject)
            .bind(self.now.to_sqlx())
            .fetch_optional(self.session.conn())
            .await?)
    }

    /// Sets when the driver looks again; `None`: never.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look_again(
        &mut self,
        at: Option<Timestamp>,
        tries: i32,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE requests SET look_at = $2, tries = $3 WHERE subject_id = $1")
            .bind(self.subject)
            .bind(at.map(|at| at.to_sqlx()))
            .bind(tries)
            .execute(self.session.conn())
            .await?;
        Ok(())
    }

    /// What was kept of the secrets of these requests.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn secrets_of(&mut self, requests: &[Uuid]) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(rows::secrets_of(self.session.conn(), requests).await?)
    }

    /// Keeps a certificate.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_certificate(
        &mut self,
        request_id: Uuid,
        jws: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO certificates (request_id, jws) VALUES ($1, $2)")
            .bind(request_id)
            .bind(jws)
            .execute(self.session.conn())
            .await?;
        Ok(())
    }

    /// Keeps a sealed archive until it is collected or its time is over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_archive(
        &mut self,
        request_id: Uuid,
        sealed: &[u8],
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        const KEEP: &str = "
            INSERT INTO archives (request_id, subject_id, sealed, look_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (request_id) DO UPDATE
            SET sealed = excluded.sealed, look_at = excluded.look_at, tries = 0";
        sqlx::query(KEEP)
            .bind(request_id)
            .bind(self.subject)
            .bind(sealed)
            .bind(expires_at.to_sqlx())
            .execute(self.session.conn())
            .await?;
        Ok(())
    }

    /// Keeps what a recipient tells, sealed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_disclosure(
        &mut self,
        request_id: Uuid,
        inquiry_id: Uuid,
        recipient: &str,
        sealed: &[u8],
    ) -> Result<(), StoreError> {
        const KEEP: &str = "
            INSERT INTO disclosures (inquiry_id, recipient, request_id, sealed)
            VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        sqlx::query(KEEP)
            .bind(inquiry_id)
            .bind(recipient)
            .bind(request_id)
            .bind(sealed)
            .execute(self.session.conn())
            .await?;
        Ok(())
    }

    /// Sets when an archive that is to be made is looked at again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn await_archive(
        &mut self,
        request_id: Uuid,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE archives SET look_at = $2 WHERE request_id = $1")
            .bind(request_id)
            .bind(at.to_sqlx())
            .execute(self.session.conn())
            .await?;
        Ok(())
    }

    /// Drops an archive's row that nothing stands for any more; what still stands, stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_archive(&mut self, request_id: Uuid) -> Result<(), StoreError> {
        let Some(request) = self.person.requests.get(request_id) else { return Ok(()) };
        let fenced = self.person.saga.is_fenced();
        rows::settle_archive(self.session.conn(), request, fenced).await?;
        Ok(())
    }

    /// Makes all of it durable.
    ///
    /// # Errors
    /// As [`Session::commit`].
    pub async fn commit(self) -> Result<(), StoreError> {
        self.session.commit().await
    }

    /// Ends without a trace.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.session.rollback().await
    }
}
