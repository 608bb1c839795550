//! Several persons under lock, in one transaction. It guarantees the same as [`Held`](crate::store::Held), in as few
//! statements for many as for one; it writes events of sagas alone, which change nothing of their requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::topics::ERASURE_EVENTS;
use assent_eventstore::{Append, Expected, Message, NewEvent, Session, StoreError};
use assent_runtime::Ids;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use crate::domain::{Event, Issued, Person, Registry, Summary};
use crate::registry;
use crate::rows::Look;
use crate::store::{Known, Sagas, command_message, queue_calls};
use crate::webhooks::rows as calls;

/// Several persons under lock.
pub struct Crowd {
    session: Session,
    ids: Arc<dyn Ids>,
    people: BTreeMap<SubjectId, Known>,
    appends: Vec<Append>,
    messages: Vec<Message>,
    /// Who is called beside a message, about which command.
    calls: Vec<(usize, Vec<String>, Uuid)>,
    /// Who has answered which command.
    answered: Vec<(String, Uuid)>,
    moved: BTreeMap<SubjectId, (Look, Option<i32>)>,
    /// Who takes part; unchanged until the end of the transaction.
    pub registry: Registry,
    /// Who of them is called.
    called: BTreeSet<String>,
    /// The moment of this transaction.
    pub now: Timestamp,
}

impl Sagas {
    /// Locks the streams of `subjects`. Await it, and what follows, in a task that nobody cancels.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_all(&self, subjects: &[SubjectId]) -> Result<Crowd, StoreError> {
        let mut session = self.store.begin().await?;
        let (registry, called) = registry::read_locked(session.conn()).await?;
        let streams = session.lock(subjects).await?;
        let mut people = BTreeMap::new();
        for (subject, stream) in &streams {
            people.insert(*subject, Known::of(stream)?);
        }
        Ok(Crowd {
            session,
            ids: Arc::clone(&self.ids),
            people,
            appends: Vec::new(),
            messages: Vec::new(),
            calls: Vec::new(),
            answered: Vec::new(),
            moved: BTreeMap::new(),
            registry,
            called,
            now: self.clock.now(),
        })
    }

    /// Whom these requests concern, as [`Sagas::subject_of`] says it of one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn subjects_of(
        &self,
        requests: &[Uuid],
    ) -> Result<HashMap<Uuid, SubjectId>, StoreError> {
        const SUBJECTS: &str = "
            SELECT request_id, subject_id FROM subject_requests WHERE request_id = ANY($1)
            UNION SELECT request_id, subject_id FROM requests WHERE request_id = ANY($1)";
        let rows: Vec<(Uuid, SubjectId)> =
            sqlx::query_as(SUBJECTS).bind(requests).fetch_all(self.store.pool()).await?;
        Ok(rows.into_iter().collect())
    }
}

impl Crowd {
    /// A person, what was recorded in this transaction included.
    #[must_use]
    pub fn person(&self, subject: SubjectId) -> Option<&Person> {
        self.people.get(&subject).map(|known| &known.person)
    }

    /// The key that answers for each participant, and whether it is suspended; unchanged until the end of
    /// the transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answerers(&mut self) -> Result<HashMap<String, (String, bool)>, StoreError> {
        const ANSWERERS: &str = "SELECT name, key_name, suspended_at IS NOT NULL FROM participants";
        let rows: Vec<(String, String, bool)> =
            sqlx::query_as(ANSWERERS).fetch_all(self.session.conn()).await?;
        Ok(rows.into_iter().map(|(name, key, suspended)| (name, (key, suspended))).collect())
    }

    /// Who of them is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due(&mut self) -> Result<Vec<SubjectId>, StoreError> {
        const DUE: &str = "
            SELECT subject_id FROM requests WHERE subject_id = ANY($1) AND look_at <= $2
            ORDER BY subject_id FOR UPDATE";
        let people: Vec<SubjectId> = self.people.keys().copied().collect();
        Ok(sqlx::query_scalar(DUE)
            .bind(people)
            .bind(self.now.to_sqlx())
            .fetch_all(self.session.conn())
            .await?)
    }

    /// Takes events of a saga in, to be written with the commit. If they made something due, the driver looks at
    /// once.
    ///
    /// # Errors
    /// Never in practice: published types always serialise.
    pub fn record(&mut self, subject: SubjectId, events: &[Event]) -> Result<(), StoreError> {
        let Some(known) = self.people.get_mut(&subject).filter(|_| !events.is_empty()) else {
            return Ok(());
        };
        let new = events
            .iter()
            .map(|event| event.to_new(self.ids.v7()))
            .collect::<Result<Vec<NewEvent>, _>>()
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        let expected = Expected::Exact(known.version);
        let mut append = Append::new(subject, expected, ERASURE_EVENTS, new, self.now);
        append.traceparent = known.trace(events.iter().find_map(Event::request_id));
        self.appends.push(append);
        known.version += events.len() as i64;
        for event in events {
            known.person.evolve(event);
        }
        let look = match known.person.next(&self.registry, self.now) {
            Some(Summary::Held) => Look::At(known.person.holds.end(self.now)),
            Some(Summary::Waiting | Summary::Completed) | None => Look::AsBefore,
            Some(Summary::Due(_) | Summary::Proved) => Look::At(Some(self.now)),
        };
        self.moved.insert(subject, (look, None));
        Ok(())
    }

    /// Queues a command for its participants, and says when the driver looks again.
    ///
    /// # Errors
    /// As [`Crowd::record`].
    pub fn issue(
        &mut self,
        subject: SubjectId,
        issued: &Issued,
        look_at: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(known) = self.people.get(&subject) else { return Ok(()) };
        if let Some(message) = command_message(known, subject, issued, self.ids.v7(), self.now)? {
            // Who has answered is called no more.
            let callees = issued.missing().filter(|name| self.called.contains(*name));
            let callees: Vec<String> = callees.cloned().collect();
            if !callees.is_empty() {
                self.calls.push((self.messages.len(), callees, issued.command_id));
            }
            self.messages.push(message);
        }
        self.moved.insert(subject, (Look::At(Some(look_at)), Some(0)));
        Ok(())
    }

    /// Makes no more calls about a command that was answered.
    pub fn answered(&mut self, name: &str, command_id: Uuid) {
        if self.called.contains(name) {
            self.answered.push((name.to_owned(), command_id));
        }
    }

    /// Writes everything, and makes it durable.
    ///
    /// # Errors
    /// As [`Session::commit`].
    pub async fn commit(mut self) -> Result<(), StoreError> {
        const MOVE: &str = "
            UPDATE requests
            SET status = t.status, tries = coalesce(t.tries, requests.tries),
                look_at = CASE WHEN t.sets THEN t.look_at ELSE requests.look_at END
            FROM unnest($1::uuid[], $2::text[], $3::boolean[], $4::timestamptz[], $5::integer[])
                 AS t (subject_id, status, sets, look_at, tries)
            WHERE requests.subject_id = t.subject_id";
        self.session.append(std::mem::take(&mut self.appends)).await?;
        for (message, callees, command_id) in &self.calls {
            queue_calls(&mut self.session, callees, &self.messages[*message], *command_id).await?;
        }
        for (name, command_id) in &self.answered {
            calls::settle(self.session.conn(), name, *command_id).await?;
        }
        self.session.enqueue(std::mem::take(&mut self.messages)).await?;
        let mut columns = Columns::default();
        for (subject, (look, tries)) in &self.moved {
            let Some(person) = self.people.get(subject).map(|known| &known.person) else {
                continue;
            };
            let Some(saga) = &person.saga.request else { continue };
            let (sets, look_at) = match look {
                Look::AsBefore => (false, None),
                Look::At(at) => (true, *at),
            };
            columns.subjects.push(*subject);
            columns.statuses.push(person.saga_status(saga, self.now).name());
            columns.sets.push(sets);
            columns.looks.push(look_at.map(|at| at.to_sqlx()));
            columns.tries.push(*tries);
        }
        sqlx::query(MOVE)
            .bind(columns.subjects)
            .bind(columns.statuses)
            .bind(columns.sets)
            .bind(columns.looks)
            .bind(columns.tries)
            .execute(self.session.conn())
            .await?;
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

/// What moves, as columns.
#[derive(Default)]
struct Columns {
    subjects: Vec<SubjectId>,
    statuses: Vec<&'static str>,
    sets: Vec<bool>,
    looks: Vec<Option<SqlTimestamp>>,
    tries: Vec<Option<i32>>,
}
