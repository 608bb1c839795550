//! All that the vault does for erasure, as the participant `vault`. It guarantees that her key ends
//! with the step that destroys it, that a fingerprint of each address stays, and that the sweep
//! tells what is really there; that a step is done once and answered is the participant's part.
//!
//! Keys live in another database, so they can't be part of the transaction: they go first.

use std::collections::HashMap;

use assent_bus::own_log::Fold;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{Stop, StopKind};
use assent_contracts::erasure::Step;
use assent_contracts::topics::VAULT_EVENTS;
use assent_contracts::vault::{
    ADDRESS_SUPPRESSED, AddressSuppressed, IDENTIFIERS_ADDED, IdentifiersAdded, SUBJECT_ERASED,
    SUBJECT_REGISTERED, SubjectRegistered,
};
use assent_eventstore::{Append, Expected, NewEvent, Regained, Session, StoreError, Stream};
use assent_participant::{Held, PurposeTask, Steps, Task, held, open, subjects};
use assent_runtime::telemetry;
use assent_sealing::KeyState;
use jiff_sqlx::ToSqlx as _;
use uuid::Uuid;

use crate::access::{self, Access};
use crate::app::{App, PARENT_USER_ID, PHONE, USER_ID, derived_id};
use crate::domain::{self, Event, State};
use crate::error::VaultError;
use crate::people::{self, Barred};
use crate::resolve::open_names;
use crate::suppress::post_stops;

/// What a sweep looks for here; all are gone after a whole erasure. Her events stay: they hold no
/// more than her random id and keyed hashes.
static LEFT: [Held; 4] = [
    Held::new("people", "people WHERE subject_id = $1", "subject_id::text"),
    Held::new("addresses", "addresses WHERE subject_id = $1", "encode(token, 'hex')"),
    LINKS,
    Held::new(
        "unfenced",
        "(SELECT $1 AS id) AS her
         WHERE NOT EXISTS (SELECT FROM tombstones WHERE subject_id = her.id)",
        "id::text",
    ),
];

const LINKS: Held = Held::new(
    "links",
    "subject_links WHERE subject_id = $1 OR other_id = $1",
    "subject_id::text || other_id::text",
);

impl Steps for App {
    const PARTICIPANT: &'static str = "vault";
    const CONSUMER: &'static str = "vault.erasure";
    type Error = VaultError;

    async fn prepare(&self, step: Step, tasks: &mut [Task]) -> Result<(), VaultError> {
        let people = subjects(tasks);
        match step {
            Step::Fence => {}
            Step::Delete => bar_addresses(self, tasks).await?,
            Step::DestroyKeys => {
                self.keys.destroy(&people).await?;
                // By this try, or by one that died before it could say so.
                for task in open(tasks) {
                    task.touched.add("keys", [task.command.subject_id]);
                }
            }
            Step::Sweep => {
                let any = self.keys.count_live(&people).await? > 0;
                for task in open(tasks) {
                    let subject = task.command.subject_id;
                    let live = if any { self.keys.count_live(&[subject]).await? } else { 0 };
                    task.touched.count("keys", live);
                }
            }
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        session: &mut Session,
        step: Step,
        tasks: &mut [Task],
    ) -> Result<(), VaultError> {
        if step == Step::Sweep {
            return Ok(held::find(session.conn(), &LEFT, tasks).await?);
        }
        // What is taken away stays away only behind a fence; it is there already unless this
        // database is older than the saga.
        let streams = session.lock(&subjects(tasks)).await?;
        raise_tombstones(self, session, tasks).await?;
        match step {
            Step::Fence => {
                for task in open(tasks) {
                    task.touched.add("tombstones", [task.command.subject_id]);
                    task.touched.keep("fence", "stays_erased", None);
                }
            }
            Step::Delete => {
                wait_for_linked(session, tasks).await?;
                remove(session, tasks).await?;
                held::delete(session.conn(), &[LINKS], tasks).await?;
            }
            Step::DestroyKeys => {
                record_erased(self, session, tasks, &streams).await?;
                for task in open(tasks) {
                    task.touched.keep("events", "record_of_processing", None);
                }
            }
            Step::Sweep => {}
        }
        Ok(())
    }

    /// Who she is and how she is reached belongs to no single purpose: it stays, and so does her key. That is said.
    async fn carry_out_for_purpose(
        &self,
        _session: &mut Session,
        task: &mut PurposeTask,
    ) -> Result<(), VaultError> {
        if task.command.purpose_step == Step::Fence {
            task.touched.keep("contact_data", "not_of_one_purpose", None);
        }
        Ok(())
    }
}

/// By the platform's word they are one: what is held of the others is hers. Her erasure goes on when theirs have
/// begun; until then it is visibly not done. Under the lock of her stream, behind her fence: nobody is linked
/// with her any more.
async fn wait_for_linked(session: &mut Session, tasks: &mut [Task]) -> Result<(), VaultError> {
    const OPEN: &str = "
        SELECT subject_id, other_id FROM subject_links
        WHERE subject_id = ANY($1) AND other_id NOT IN (SELECT subject_id FROM tombstones)
        ORDER BY other_id";
    let linked: Vec<(Uuid, Uuid)> =
        sqlx::query_as(OPEN).bind(subjects(tasks)).fetch_all(session.conn()).await?;
    for task in tasks {
        let hers = linked.iter().filter(|(subject, _)| *subject == task.command.subject_id);
        let remain: Vec<Uuid> = hers.map(|(_, other)| *other).collect();
        if !remain.is_empty() {
            tracing::error!(open = ?remain, "an erasure waits for requests for those who are one with the person");
            task.put_off(VaultError::LinkedRemain);
        }
    }
    Ok(())
}

/// Removes their rows and their places in the index.
async fn remove(session: &mut Session, tasks: &mut [Task]) -> Result<(), VaultError> {
    let people = subjects(tasks);
    let mut addresses: HashMap<Uuid, Vec<AddressToken>> = HashMap::new();
    for (subject, token) in people::remove(session.conn(), &people).await? {
        addresses.entry(subject).or_default().push(token);
    }
    let removed = people::remove_rows(session.conn(), &people).await?;
    for task in open(tasks) {
        let subject = task.command.subject_id;
        task.touched.add("addresses", addresses.remove(&subject).unwrap_or_default());
        task.touched.add("people", removed.contains(&subject).then_some(subject));
    }
    Ok(())
}

/// Closes the gate for their addresses and leaves a fingerprint of each.
async fn bar_addresses(app: &App, tasks: &mut [Task]) -> Result<(), VaultError> {
    let held = people::held(app.pool(), &subjects(tasks)).await?;
    if held.is_empty() {
        return Ok(());
    }
    // The gate first: it must have closed before nobody knows the addresses any more.
    let heard_at = app.clock.now();
    let stops: Vec<Stop> = open(tasks)
        .filter_map(|task| {
            let person = held.get(&task.command.subject_id)?;
            let (addresses, kind) = (person.tokens.clone(), StopKind::Erased);
            let occasion = format!("stop:erased:{}", task.command.request_id);
            let stop_id = derived_id(&occasion, &addresses);
            Some(Stop { stop_id, addresses, kind, method: None, heard_at })
        })
        .collect();
    post_stops(app, &stops).await?;

    let mut transaction = app.pool().begin().await?;
    for field in [PHONE, USER_ID, PARENT_USER_ID] {
        let with = held.values().filter(|person| person.sealed(field).is_some());
        let with: Vec<Uuid> = with.map(|person| person.subject).collect();
        let access = Access { caller: App::PARTICIPANT, reason: "erasure", field };
        access::record(&mut transaction, app.ids.as_ref(), app.clock.now(), access, &with).await?;
    }
    transaction.commit().await?;
    let known: Vec<Uuid> = held.keys().copied().collect();
    let keys = known.iter().copied().zip(app.keys.get(&known).await?);
    let keys: HashMap<Uuid, KeyState> = keys.collect();
    let mut all = Vec::new();
    let now = app.clock.now();
    for task in open(tasks) {
        let Some(person) = held.get(&task.command.subject_id) else { continue };
        let Some(KeyState::Live(key)) = keys.get(&person.subject) else {
            // A key that is gone already left its fingerprints when it went, unless this database is older.
            // Then her tokens bar her.
            all.extend(people::marks(Vec::new(), &person.tokens));
            continue;
        };
        let names = open_names(person, key)?;
        let prints = names.iter().flat_map(|name| app.fingerprints.fingerprints(name));
        let fingerprints: Vec<_> = prints.collect();
        task.touched.add("suppressions", fingerprints.iter().map(|print| hex(&print.0)));
        let until = app.keeping.suppression_until(now);
        task.touched.keep("suppression", "stays_erased", until);
        all.extend(fingerprints);
    }
    let mut transaction = app.pool().begin().await?;
    people::bar(&mut transaction, &all, Barred::Erased, now).await?;
    transaction.commit().await?;
    Ok(())
}

/// Events that come back to a restored database: whom they say to be erased or suppressed stays out. The people
/// themselves can't come back, since no event holds what they are known by.
pub(crate) struct ComeBack;

impl Fold for ComeBack {
    async fn fold(&self, session: &mut Session, regained: &[Regained]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = regained.iter().map(|it| it.stream).collect();
        let streams = session.lock(&ids).await?;
        for stream in streams.values() {
            let erased_at = stream.events.iter().find(|it| it.event_type == SUBJECT_ERASED);
            let erased_at = erased_at.map(|event| event.recorded_at);
            for event in &stream.events {
                let (tokens, reason, at) = match (event.event_type.as_str(), erased_at) {
                    (SUBJECT_REGISTERED, Some(at)) => {
                        (event.decode::<SubjectRegistered>()?.addresses, Barred::Erased, at)
                    }
                    (IDENTIFIERS_ADDED, Some(at)) => {
                        (event.decode::<IdentifiersAdded>()?.addresses, Barred::Erased, at)
                    }
                    (ADDRESS_SUPPRESSED, _) => {
                        let suppressed: AddressSuppressed = event.decode()?;
                        (suppressed.addresses, Barred::Suppressed, suppressed.at)
                    }
                    _ => continue,
                };
                people::bar(session.conn(), &people::marks(Vec::new(), &tokens), reason, at)
                    .await
                    .map_err(|error| sqlx::Error::Decode(error.into()))?;
            }
        }
        Ok(())
    }
}

/// Publishes that their keys are gone.
async fn record_erased(
    app: &App,
    session: &mut Session,
    tasks: &mut [Task],
    streams: &HashMap<Uuid, Stream>,
) -> Result<(), VaultError> {
    let now = app.clock.now();
    let mut appends = Vec::new();
    for task in open(tasks) {
        let subject = task.command.subject_id;
        let state = streams.get(&subject).map_or(State::Unknown, state_of);
        let erase = domain::Command::Erase { request_id: task.command.request_id };
        if let Ok(Some(Event::Erased(erased))) = domain::decide(state, erase, now) {
            let event = NewEvent::new(app.ids.v7(), SUBJECT_ERASED, &erased)
                .map_err(|_| VaultError::Corrupt("event"))?;
            let append = Append::new(subject, Expected::Any, VAULT_EVENTS, vec![event], now);
            appends.push(Append { traceparent: telemetry::traceparent(), ..append });
        }
    }
    session.append(appends).await?;
    Ok(())
}

/// The tombstones that every write about them looks for. Under the locks of their streams.
async fn raise_tombstones(
    app: &App,
    session: &mut Session,
    tasks: &mut [Task],
) -> Result<(), VaultError> {
    const RAISE: &str = "
        INSERT INTO tombstones (subject_id, request_id, fenced_at)
        SELECT subject_id, request_id, $3
        FROM unnest($1::uuid[], $2::uuid[]) AS t (subject_id, request_id)
        ON CONFLICT (subject_id) DO NOTHING";
    let requests: Vec<Uuid> = open(tasks).map(|task| task.command.request_id).collect();
    sqlx::query(RAISE)
        .bind(subjects(tasks))
        .bind(requests)
        .bind(app.clock.now().to_sqlx())
        .execute(session.conn())
        .await?;
    Ok(())
}

fn state_of(stream: &Stream) -> State {
    stream.events.iter().fold(State::Unknown, |state, event| match event.event_type.as_str() {
        SUBJECT_REGISTERED => State::Registered,
        SUBJECT_ERASED => State::Erased,
        _ => state,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
