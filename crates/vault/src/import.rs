//! `POST /v1/subjects/import`: people in bulk. It guarantees one person per number or user id, whoever else
//! imports it at the same moment, and that the suppressed and the erased stay out; consent is
//! never created here.
//!
//! Keys are minted first, in their own database; then index, rows and events commit together. A
//! crash in between leaves keys that nobody uses.

use std::collections::HashMap;
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{ImportOutcome, ImportRequest, ImportResponse, ImportRow};
use assent_contracts::topics::VAULT_EVENTS;
use assent_contracts::vault::{Origin, SUBJECT_REGISTERED};
use assent_eventstore::{Append, Expected, NewEvent, Session, StoreError, to_the_end};
use assent_http::{Caller, Code, Json, Problem};
use assent_runtime::telemetry;
use assent_sealing::{KeyState, StoredKey};
use axum::extract::State;
use jiff::Timestamp;
use uuid::Uuid;

use crate::app::App;
use crate::contact::{self, Contact, Rejected};
use crate::domain::{self, Command, Event, Registration};
use crate::error::VaultError;
use crate::people::{self, Barred, SealedPerson};
use crate::renew;

/// Most rows of one request.
pub const ROWS_MAX: usize = 2_000;
/// How often a batch is tried while others import the same numbers.
const ATTEMPTS: usize = 8;

/// Register people in bulk.
///
/// Repeating it is harmless: a known number is `existing`. Needs `subjects:write`; the origin
/// `subject` also needs `gate:write`, because it opens what an erasure or a suppression closed.
#[utoipa::path(
    post, path = "/v1/subjects/import", tag = "subjects", security(("bearer" = [])),
    request_body = ImportRequest,
    responses((status = 200, body = ImportResponse), (status = 422, description = "validation_failed: more than 2,000 rows"),
        (status = 503, description = "dependency_unavailable: nothing was written"))
)]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<ImportRequest>,
) -> Result<Json<ImportResponse>, Problem> {
    caller.require("subjects:write")?;
    if request.origin == Origin::Subject {
        caller.require("gate:write")?;
    }
    let told_of = |row: &ImportRow| row.user_id.is_some() || row.parent_user_id.is_some();
    if request.origin != Origin::Subject && request.rows.iter().any(told_of) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("a user id comes with a person's own act, whose origin is subject"));
    }
    if request.rows.len() > ROWS_MAX {
        return Err(
            Problem::new(Code::ValidationFailed).detail(format!("at most {ROWS_MAX} rows at once"))
        );
    }
    let tells = caller.has("suppression:read");
    let fates = to_the_end(async move { import_rows(app, request).await }).await?;
    let outcomes = fates.into_iter().map(|fate| fate.outcome(tells)).collect();
    Ok(Json(ImportResponse { outcomes }))
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Created(Uuid),
    Existing(Uuid),
    Refused(Barred),
    Rejected(Rejected),
}

impl Fate {
    /// As the caller may know it: only some may learn who is suppressed or erased.
    fn outcome(self, tells: bool) -> ImportOutcome {
        match self {
            Self::Created(subject_id) => ImportOutcome::Created { subject_id },
            Self::Existing(subject_id) => ImportOutcome::Existing { subject_id },
            Self::Refused(barred) => {
                let reason = if tells { barred.reason() } else { "refused" };
                ImportOutcome::Refused { reason: reason.to_owned() }
            }
            Self::Rejected(Rejected { reason, field }) => {
                ImportOutcome::Rejected { reason: reason.to_owned(), field: field.to_owned() }
            }
        }
    }
}

/// Where a row's fate is to be found: its number may stand in the batch more than once.
enum Place {
    Rejected(Rejected),
    First(usize),
    Again(usize),
}

/// By which road people come in, and what stands in it.
#[derive(Debug, Clone, Copy)]
struct Road {
    origin: Origin,
    acted_at: Option<Timestamp>,
}

impl Road {
    /// From when on an erasure or a suppression bars it. Her own act opens a new relation, under a new id,
    /// where it came after them; `None`: none of them bars it.
    fn barred_since(self) -> Option<Timestamp> {
        match self.origin {
            Origin::Subject => self.acted_at,
            _ => Some(Timestamp::UNIX_EPOCH),
        }
    }
}

async fn import_rows(app: Arc<App>, request: ImportRequest) -> Result<Vec<Fate>, VaultError> {
    let road = Road { origin: request.origin, acted_at: request.acted_at };
    let reader = Arc::clone(&app);
    let (places, contacts) = busy(move || read_rows(&reader, request)).await;
    let contacts = Arc::new(contacts);
    for _ in 0..ATTEMPTS {
        let Some(fates) = try_import(&app, road, &contacts).await? else { continue };
        let fate = |place| match place {
            Place::Rejected(rejected) => Fate::Rejected(rejected),
            Place::First(contact) => fates[contact],
            Place::Again(contact) => match fates[contact] {
                Fate::Created(subject) => Fate::Existing(subject),
                fate => fate,
            },
        };
        return Ok(places.into_iter().map(fate).collect());
    }
    Err(VaultError::Contended)
}

fn read_rows(app: &App, request: ImportRequest) -> (Vec<Place>, Vec<Contact>) {
    let mut contacts = Vec::with_capacity(request.rows.len());
    let mut seen: HashMap<AddressToken, usize> = HashMap::with_capacity(request.rows.len());
    let mut places = Vec::with_capacity(request.rows.len());
    for row in request.rows {
        places.push(match contact::read(app, row) {
            Err(rejected) => Place::Rejected(rejected),
            Ok(contact) => match seen.get(&contact.tokens[0]) {
                Some(&first) => Place::Again(first),
                None => {
                    seen.insert(contact.tokens[0], contacts.len());
                    contacts.push(contact);
                    Place::First(contacts.len() - 1)
                }
            },
        });
    }
    (places, contacts)
}

/// One try. `None`: somebody else was faster with one of the numbers; look again.
async fn try_import(
    app: &Arc<App>,
    road: Road,
    contacts: &Arc<Vec<Contact>>,
) -> Result<Option<Vec<Fate>>, VaultError> {
    let mut fates = standing(app, road, contacts).await?;
    let new: Vec<usize> = (0..fates.len()).filter(|&index| fates[index].is_none()).collect();
    if !new.is_empty() {
        let subjects: Vec<Uuid> = new.iter().map(|_| app.ids.v4()).collect();
        let written = write(app, road, contacts, &new, &subjects).await;
        // Keys that sealed nothing are taken back; where the outcome is unknown they stay.
        if !matches!(written, Ok(true) | Err(VaultError::Store(StoreError::Unknown(_))))
            && let Err(error) = app.keys.discard_unused(&subjects).await
        {
            tracing::warn!(%error, "unused keys stay in the key store");
        }
        if !written? {
            return Ok(None);
        }
        for (index, subject) in new.into_iter().zip(subjects) {
            fates[index] = Some(Fate::Created(subject));
        }
    }
    Ok(fates.into_iter().collect())
}

/// The fate of everyone who is known or barred already.
async fn standing(
    app: &App,
    road: Road,
    contacts: &[Contact],
) -> Result<Vec<Option<Fate>>, VaultError> {
    let tokens: Vec<AddressToken> =
        contacts.iter().flat_map(|contact| contact.looked_for.iter().copied()).collect();
    let known = people::known(app.pool(), &tokens).await?;
    let mut fates: Vec<Option<Fate>> = contacts
        .iter()
        .map(|contact| {
            let known = contact.looked_for.iter().find_map(|token| known.get(token))?;
            Some(if known.fenced {
                Fate::Refused(Barred::Erased)
            } else {
                Fate::Existing(known.subject)
            })
        })
        .collect();
    if let Some(since) = road.barred_since() {
        let open = contacts.iter().zip(&fates).filter(|(_, fate)| fate.is_none());
        let fingerprints: Vec<_> =
            open.flat_map(|(contact, _)| contact.marks.iter().copied()).collect();
        let barred = people::barred(app.pool(), &fingerprints, since).await?;
        for (contact, fate) in contacts.iter().zip(&mut fates) {
            let reasons = contact.marks.iter().filter_map(|it| barred.get(it));
            if fate.is_none() {
                *fate = reasons.max().map(|reason| Fate::Refused(*reason));
            }
        }
    }
    Ok(fates)
}

/// Registers the `new` ones of `contacts` under `subjects`, all or none. False: not now, because
/// a number has been taken or barred meanwhile.
async fn write(
    app: &Arc<App>,
    road: Road,
    contacts: &Arc<Vec<Contact>>,
    new: &[usize],
    subjects: &[Uuid],
) -> Result<bool, VaultError> {
    let keys = app.keys.mint(subjects).await?;
    let Some(keys) = keys.into_iter().map(KeyState::live).collect::<Option<Vec<_>>>() else {
        return Ok(false);
    };
    let people = sealed(app, road.origin, contacts, new, subjects, keys).await;
    // What stands against an address by its former tokens stands by those under which she comes in.
    let former = new.iter().flat_map(|&index| contacts[index].former.iter().cloned()).collect();
    renew::tell_gate(app, former, true).await?;

    let mut session = app.store.begin().await?;
    let done = async {
        let versions = session.lock_versions(subjects).await?;
        if people::any_fenced(session.conn(), subjects).await?
            || versions.values().any(|version| *version > 0)
            || !people::index(session.conn(), &people).await?
        {
            return Ok(false);
        }
        if let Some(since) = road.barred_since() {
            // Looked for again, behind the index entries that are ours now: an erasure that
            // ended between the first look and here has left its fingerprints.
            let fingerprints: Vec<_> =
                new.iter().flat_map(|&index| contacts[index].marks.iter().copied()).collect();
            if !people::barred(session.conn(), &fingerprints, since).await?.is_empty() {
                return Ok(false);
            }
        }
        register(app, &mut session, contacts, new, &people).await
    }
    .await;
    match done {
        Ok(true) => {
            session.commit().await?;
            Ok(true)
        }
        Ok(false) => {
            session.rollback().await?;
            Ok(false)
        }
        Err(error) => {
            drop(session);
            Err(error)
        }
    }
}

async fn register(
    app: &App,
    session: &mut Session,
    contacts: &[Contact],
    new: &[usize],
    people: &[SealedPerson],
) -> Result<bool, VaultError> {
    let now = app.clock.now();
    let traceparent = telemetry::traceparent();
    let mut appends = Vec::with_capacity(people.len());
    for (person, &index) in people.iter().zip(new) {
        let registration = Registration {
            addresses: person.tokens.clone(),
            region: person.region.clone(),
            fields: contacts[index].fields(),
            origin: person.origin,
        };
        let decided = domain::decide(domain::State::Unknown, Command::Register(registration), now);
        let Ok(Some(Event::Registered(registered))) = decided else { return Ok(false) };
        let event = NewEvent::new(app.ids.v7(), SUBJECT_REGISTERED, &registered)
            .map_err(|_| VaultError::Corrupt("event"))?;
        let append =
            Append::new(person.subject, Expected::Exact(0), VAULT_EVENTS, vec![event], now);
        appends.push(Append { traceparent: traceparent.clone(), ..append });
    }
    people::insert(session.conn(), people).await?;
    session.append(appends).await?;
    Ok(true)
}

async fn sealed(
    app: &Arc<App>,
    origin: Origin,
    contacts: &Arc<Vec<Contact>>,
    new: &[usize],
    subjects: &[Uuid],
    keys: Vec<StoredKey>,
) -> Vec<SealedPerson> {
    let (app, contacts) = (Arc::clone(app), Arc::clone(contacts));
    let (new, subjects) = (new.to_vec(), subjects.to_vec());
    let now = app.clock.now();
    busy(move || {
        let people = new.iter().zip(&subjects).zip(&keys);
        let seal = |((&index, &subject), key): ((&usize, &Uuid), &StoredKey)| {
            contact::seal_contact(app.ids.as_ref(), &contacts[index], subject, key, origin, now)
        };
        people.map(seal).collect()
    })
    .await
}

/// Runs work that computes for milliseconds where it holds up no other request.
pub(crate) async fn busy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
