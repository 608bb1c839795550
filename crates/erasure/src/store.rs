//! Persons in Postgres: the events of their requests, erasures and holds, and who takes part in
//! erasures. It guarantees that everything about one person is decided under the lock of her stream
//! and with a registry that nobody changes meanwhile; what is decided is left to the domain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::erasure::{COMMAND, Command as SagaCommand};
use assent_contracts::topics::{ERASURE_COMMANDS, ERASURE_EVENTS};
use assent_eventstore::{
    Append, EventStore, Expected, FirstAnswer, Idempotency, Message, Session, StoreError,
};
use assent_http::Caller;
use assent_runtime::{Clock, Ids, telemetry};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde_json::value::to_raw_value;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::{Event, Issued, Participant, Person, Registry, Summary};
use crate::rows::{self, Look};
use crate::tracking::{self, Tracking};

/// Advisory lock over the registry: shared by whoever decides with it, exclusive to whoever
/// changes it. A newcomer is thus seen by a completion, or comes after it.
const REGISTRY_LOCK: i64 = 0x4153_5345_4e54_0001;

const OWNERS: &str = "SELECT name, owner FROM participants WHERE owner IS NOT NULL";
const CALLERS: &str = "SELECT key, name FROM callers";

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

/// What is shown by name, and stands in events by another.
#[derive(Debug, Default)]
pub struct Names {
    /// The teams to turn to, by participant, where they are known.
    pub owners: BTreeMap<String, String>,
    /// Callers, by their keys.
    callers: BTreeMap<String, String>,
}

impl Names {
    /// Who has, or had, this key; the key itself where nobody knows.
    #[must_use]
    pub fn caller(&self, key: &str) -> String {
        self.callers.get(key).map_or(key, String::as_str).to_owned()
    }
}

/// A person under lock, in one transaction with everything that is written about her.
pub struct Held {
    session: Session,
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
    /// The moment of this transaction.
    pub now: Timestamp,
}

impl Sagas {
    /// Locks the stream of `subject`. Await it, and what follows, in a task that nobody cancels.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold(&self, subject: SubjectId) -> Result<Held, StoreError> {
        let mut session = self.store.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock_shared($1)")
            .bind(REGISTRY_LOCK)
            .execute(session.conn())
            .await?;
        let registry = registry(session.conn()).await?;
        let stream = session.lock(&[subject]).await?.remove(&subject).unwrap_or_default();
        let mut person = Person::default();
        let mut traces = BTreeMap::new();
        for stored in &stream.events {
            let Some(event) = Event::read(stored)? else { continue };
            person.evolve(&event);
            if let (Some(request_id), Some(trace)) = (event.request_id(), &stored.traceparent) {
                traces.entry(request_id).or_insert_with(|| trace.clone());
            }
        }
        Ok(Held {
            session,
            ids: Arc::clone(&self.ids),
            tracking: self.tracking.clone(),
            subject,
            version: stream.version,
            traces,
            person,
            registry,
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

    /// Registers a participant, or changes how it is registered: one that left takes part again, a
    /// suspension stays, and so does the key where none is named. The key of a new one has its name. Every
    /// open saga is looked at again, since it must now be asked too. Tells whether it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn register(
        &self,
        name: &str,
        key_name: Option<&str>,
        owner: Option<&str>,
        participant: Participant,
    ) -> Result<bool, StoreError> {
        const REGISTER: &str = "
            INSERT INTO participants (name, key_name, keeps_keys, registered_at, owner)
            VALUES ($1, coalesce($2, $1), $3, $4, $5)
            ON CONFLICT (name) DO UPDATE
            SET key_name = coalesce($2, participants.key_name), left_at = NULL,
                owner = coalesce(excluded.owner, participants.owner),
                -- Keys that it kept once may still be there.
                keeps_keys = participants.keeps_keys OR excluded.keeps_keys
            RETURNING (xmax = 0) AS new";
        let now = self.clock.now().to_sqlx();
        let mut transaction = self.store.pool().begin().await?;
        lock_registry(&mut transaction).await?;
        let new: bool = sqlx::query_scalar(REGISTER)
            .bind(name)
            .bind(key_name)
            .bind(participant.keeps_keys)
            .bind(now)
            .bind(owner)
            .fetch_one(&mut *transaction)
            .await?;
        // One that is on hold is asked nothing; a replica of before would take it for due.
        const LOOK: &str =
            "UPDATE requests SET look_at = $1 WHERE look_at > $1 AND status <> 'on_hold'";
        sqlx::query(LOOK).bind(now).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(new)
    }

    /// Registers a participant unless it is registered already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn register_once(
        &self,
        name: &str,
        participant: Participant,
    ) -> Result<(), StoreError> {
        let known: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM participants WHERE name = $1)")
                .bind(name)
                .fetch_one(self.store.pool())
                .await?;
        if !known {
            self.register(name, None, None, participant).await?;
        }
        Ok(())
    }

    /// Takes no answers of a participant until it [resumes](Self::resume): once this returns, none is
    /// recorded. Tells whether it was registered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn suspend(&self, name: &str) -> Result<bool, StoreError> {
        const SUSPEND: &str =
            "UPDATE participants SET suspended_at = coalesce(suspended_at, $2) WHERE name = $1";
        let mut transaction = self.store.pool().begin().await?;
        lock_registry(&mut transaction).await?;
        let suspended = sqlx::query(SUSPEND)
            .bind(name)
            .bind(self.clock.now().to_sqlx())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(suspended.rows_affected() == 1)
    }

    /// Takes a participant's answers again. Tells whether it was registered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resume(&self, name: &str) -> Result<bool, StoreError> {
        const RESUME: &str = "UPDATE participants SET suspended_at = NULL WHERE name = $1";
        let resumed = sqlx::query(RESUME).bind(name).execute(self.store.pool()).await?;
        Ok(resumed.rows_affected() == 1)
    }

    /// Whether a key answers for a participant that is suspended.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_suspended(&self, key_name: &str) -> Result<bool, StoreError> {
        const SUSPENDED: &str = "
            SELECT EXISTS (SELECT FROM participants
                           WHERE key_name = $1 AND suspended_at IS NOT NULL)";
        Ok(sqlx::query_scalar(SUSPENDED).bind(key_name).fetch_one(self.store.pool()).await?)
    }

    /// What views name: owners of participants, and callers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn names(&self) -> Result<Names, StoreError> {
        let pool = self.store.pool();
        let owners: Vec<(String, String)> = sqlx::query_as(OWNERS).fetch_all(pool).await?;
        let callers: Vec<(String, String)> = sqlx::query_as(CALLERS).fetch_all(pool).await?;
        let (owners, callers) = (owners.into_iter().collect(), callers.into_iter().collect());
        Ok(Names { owners, callers })
    }

    /// Records that a participant left. It must still answer. Tells whether it was registered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave(&self, name: &str) -> Result<bool, StoreError> {
        const LEAVE: &str =
            "UPDATE participants SET left_at = coalesce(left_at, $2) WHERE name = $1";
        let left = sqlx::query(LEAVE)
            .bind(name)
            .bind(self.clock.now().to_sqlx())
            .execute(self.store.pool())
            .await?;
        Ok(left.rows_affected() == 1)
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

    /// The key that answers for a participant, and whether it is suspended; unchanged until the end of
    /// the transaction. None: nobody has this name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answerer(&mut self, name: &str) -> Result<Option<(String, bool)>, StoreError> {
        const ANSWERER: &str =
            "SELECT key_name, suspended_at IS NOT NULL FROM participants WHERE name = $1";
        Ok(sqlx::query_as(ANSWERER).bind(name).fetch_optional(self.session.conn()).await?)
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
        for request in requests.into_iter().filter_map(|id| person.requests.get(id)) {
            rows::write_request(session.conn(), *subject, request, tracking).await?;
        }
        for hold in holds.into_iter().filter_map(|id| person.holds.get(id)) {
            rows::write_hold(session.conn(), *subject, hold).await?;
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
        let of_request = request_id.and_then(|id| self.traces.get(&id)).cloned();
        of_request.or_else(telemetry::traceparent)
    }

    /// Keeps what a caller is called: events name her key alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_caller(&mut self, caller: &Caller) -> Result<(), StoreError> {
        Ok(rows::write_caller(self.session.conn(), caller.key(), caller.name()).await?)
    }

    /// What views name, as [`Sagas::names`] tells it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn names(&mut self) -> Result<Names, StoreError> {
        let owners = self.owners().await?;
        let callers: Vec<(String, String)> =
            sqlx::query_as(CALLERS).fetch_all(self.session.conn()).await?;
        Ok(Names { owners, callers: callers.into_iter().collect() })
    }

    /// The teams to turn to, by participant, where they are named.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owners(&mut self) -> Result<BTreeMap<String, String>, StoreError> {
        let owners: Vec<(String, String)> =
            sqlx::query_as(OWNERS).fetch_all(self.session.conn()).await?;
        Ok(owners.into_iter().collect())
    }

    /// Queues a command for its participants, for the first time or again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issue(&mut self, issued: &Issued) -> Result<(), StoreError> {
        let Some(request) = &self.person.saga.request else { return Ok(()) };
        let command = SagaCommand {
            command_id: issued.command_id,
            request_id: request.id,
            subject_id: self.subject,
            step: issued.step,
            participants: issued.participants.iter().cloned().collect(),
            barrier: issued.barrier.clone(),
            at: issued.at,
        };
        let data = to_raw_value(&command).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let message = Message {
            // A repeat is a new message with the same command in it: inboxes must let it through.
            id: self.ids.v7(),
            topic: ERASURE_COMMANDS,
            key: self.subject,
            event_type: COMMAND,
            data,
            at: self.now,
            traceparent: self.trace(Some(request.id)),
        };
        self.session.enqueue(vec![message]).await
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

async fn lock_registry(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(REGISTRY_LOCK).execute(conn).await?;
    Ok(())
}

async fn registry(conn: &mut PgConnection) -> Result<Registry, sqlx::Error> {
    sqlx::query("SELECT name, keeps_keys FROM participants")
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, Participant { keeps_keys: row.try_get(1)? })))
        .collect()
}
