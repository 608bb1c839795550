//! `POST /v1/identities`: what the platform says of people, who have a number, a user id, and one that linked
//! portfolios share. It guarantees that what is new is added to whom it belongs, that people are linked
//! and never merged, and that an answer means settled: the gate knows every address of theirs, and
//! waited one lease where that takes something away. What a doubt leads to is left to messaging.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{Link, LinksRequest, LinksResponse};
use assent_contracts::api::vault::{
    IdentitiesRequest, IdentitiesResponse, IdentityOutcome, ToldIdentity,
};
use assent_contracts::topics::VAULT_EVENTS;
use assent_contracts::vault::{
    IDENTIFIERS_ADDED, IDENTIFIERS_REMOVED, SUBJECT_LINKED, SUBJECT_RECTIFIED,
};
use assent_eventstore::{Append, Expected, NewEvent, Session, to_the_end};
use assent_http::{Caller, Code, Json, Problem};
use assent_runtime::telemetry;
use assent_sealing::{KeyState, StoredKey, seal};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgExecutor;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::{App, PARENT_USER_ID, PHONE, USER_ID, binding};
use crate::domain::identity::{Decision, Kind};
use crate::domain::{self, Command, Event};
use crate::error::VaultError;
use crate::people::{self, Additions, SealedPerson};
use crate::who::{Found, Question};
use crate::{phone, renew, user_id};

/// Most people of one request.
const TOLD_MAX: usize = 100;
/// Most links that the gate takes at once.
const LINKS_MAX: usize = 500;
/// Most addresses of one of them.
const ADDRESSES_MAX: usize = 100;
/// How often a batch is tried while others write about the same people.
const ATTEMPTS: usize = 8;

/// Take note of what the platform says of people.
///
/// Needs `subjects:write` and `gate:write`. Nobody becomes known by it. It answers when settled, and
/// repeating it is harmless.
#[utoipa::path(
    post, path = "/v1/identities", tag = "subjects", security(("bearer" = [])),
    request_body = IdentitiesRequest,
    responses((status = 200, body = IdentitiesResponse),
        (status = 422, description = "validation_failed: more than 100 people"),
        (status = 503, description = "dependency_unavailable: repeat"))
)]
pub(crate) async fn tell(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<IdentitiesRequest>,
) -> Result<Json<IdentitiesResponse>, Problem> {
    caller.require("subjects:write")?;
    caller.require("gate:write")?;
    if request.told.len() > TOLD_MAX {
        return Err(Problem::new(Code::ValidationFailed)
            .detail(format!("at most {TOLD_MAX} people at once")));
    }
    let told: Vec<Result<Names, &'static str>> =
        request.told.into_iter().map(|told| Names::read(&app, told)).collect();
    let outcomes = to_the_end(async move {
        for _ in 0..ATTEMPTS {
            let Some(done) = note(&app, &told).await? else { continue };
            link_at_the_gate(&app, done.links).await?;
            return Ok::<_, VaultError>(done.outcomes);
        }
        Err(VaultError::Contended)
    })
    .await?;
    Ok(Json(IdentitiesResponse { outcomes }))
}

/// Who is one with each of these people, by the platform's word.
pub(crate) async fn linked(
    executor: impl PgExecutor<'_>,
    subjects: &[Uuid],
) -> Result<Vec<(Uuid, Uuid)>, VaultError> {
    const LINKED: &str = "
        SELECT subject_id, other_id FROM subject_links WHERE subject_id = ANY($1)
        ORDER BY subject_id, other_id";
    Ok(sqlx::query_as(LINKED).bind(subjects).fetch_all(executor).await?)
}

/// One identifier that was told.
struct Name {
    kind: Kind,
    text: Zeroizing<String>,
    region: Option<String>,
    tokens: Vec<AddressToken>,
    /// By all keys: by what somebody may be known.
    looked_for: Vec<AddressToken>,
}

/// All that one person was told to be known by.
struct Names {
    answers: Option<Uuid>,
    names: Vec<Name>,
}

impl Names {
    fn read(app: &App, told: ToldIdentity) -> Result<Self, &'static str> {
        let mut names = Vec::new();
        let mut push = |kind, text: Zeroizing<String>, region| {
            let (tokens, looked_for) = (app.addresses.tokens(&text), app.addresses.all(&text));
            names.push(Name { kind, text, region, tokens, looked_for });
        };
        if let Some(text) = told.phone {
            let phone =
                phone::parse(&Zeroizing::new(text), None).map_err(phone::Invalid::reason)?;
            push(Kind::Phone, phone.e164, phone.region);
        }
        for (kind, text) in
            [(Kind::UserId, told.user_id), (Kind::ParentUserId, told.parent_user_id)]
        {
            let Some(text) = text else { continue };
            let user_id = user_id::parse(&Zeroizing::new(text)).ok_or(user_id::INVALID)?;
            push(kind, user_id.text, None);
        }
        Ok(Self { answers: told.answers, names })
    }
}

/// What was written, and what the gate is to know of it.
struct Noted {
    outcomes: Vec<IdentityOutcome>,
    links: Links,
}

/// Who is to have which addresses, each once.
pub(crate) type Links = BTreeMap<Uuid, BTreeSet<AddressToken>>;

/// Writes what follows, all or nothing. None: somebody else was faster, and it is to be looked at again.
async fn note(
    app: &App,
    told: &[Result<Names, &'static str>],
) -> Result<Option<Noted>, VaultError> {
    let names = || told.iter().filter_map(|it| it.as_ref().ok());
    let tokens = names().flat_map(|it| &it.names).flat_map(|it| it.looked_for.iter().copied());
    let tokens: Vec<AddressToken> = tokens.collect();
    let known = people::known(app.pool(), &tokens).await?;
    let concerned = known.values().map(|it| it.subject).chain(names().filter_map(|it| it.answers));
    let mut concerned: Vec<Uuid> = concerned.collect();
    let others = linked(app.pool(), &concerned).await?;
    concerned.extend(others.into_iter().map(|(_, other)| other));
    concerned.sort_unstable();
    concerned.dedup();

    let mut session = app.store.begin().await?;
    session.lock_versions(&concerned).await?;
    let mut noted = Noted { outcomes: Vec::with_capacity(told.len()), links: Links::new() };
    for names in told {
        let outcome = match names {
            Err(reason) => Some(IdentityOutcome::Rejected { reason: (*reason).to_owned() }),
            Ok(names) => one(app, &mut session, names, &concerned, &mut noted.links).await?,
        };
        let Some(outcome) = outcome else {
            session.rollback().await?;
            return Ok(None);
        };
        noted.outcomes.push(outcome);
    }
    session.commit().await?;
    Ok(Some(noted))
}

/// What follows for one person. None: look again.
async fn one(
    app: &App,
    session: &mut Session,
    told: &Names,
    locked: &[Uuid],
    links: &mut Links,
) -> Result<Option<IdentityOutcome>, VaultError> {
    let tokens: Vec<AddressToken> =
        told.names.iter().flat_map(|name| name.tokens.iter().copied()).collect();
    let names = told.names.iter().map(|it| (it.kind, it.looked_for.as_slice())).collect();
    let question = Question { names, answers: told.answers };
    let found = Found::by(session.conn(), question).await?;
    let everybody: Vec<Uuid> = found.everybody().into_iter().collect();
    if everybody.iter().any(|it| !locked.contains(it)) {
        return Ok(None);
    }
    let decision = found.decision();
    if !matches!(decision, Decision::Nobody | Decision::Doubt(_)) {
        // What stands against a name by its former tokens stands by those that she is linked by, also where she doesn't
        // get the name because it is barred. Of names that somebody has this is done with hers.
        let held = |name: &Name| {
            let mut people = found.held.values();
            people.any(|person| person.tokens.iter().any(|it| name.looked_for.contains(it)))
        };
        let new = told.names.iter().filter(|name| !held(name));
        let former = new.filter_map(|name| app.former(&name.text)).collect();
        renew::tell_gate(app, former, true).await?;
    }
    Ok(Some(match decision {
        Decision::Nobody => IdentityOutcome::Nobody,
        Decision::Doubt(subjects) => IdentityOutcome::InDoubt { subjects },
        Decision::Known(subject_id) => {
            join(session, &[subject_id], &tokens, links).await?;
            IdentityOutcome::Known { subject_id }
        }
        Decision::Add { subject, kinds } => {
            let Some(person) = found.held.get(&subject) else { return Ok(None) };
            let new: Vec<&Name> =
                told.names.iter().filter(|name| kinds.contains(&name.kind)).collect();
            if !add(app, session, person, &new).await? {
                return Ok(None);
            }
            join(session, &[subject], &tokens, links).await?;
            IdentityOutcome::Known { subject_id: subject }
        }
        Decision::Link(subjects) => {
            // All who are one with any of them are one.
            link(app, session, &everybody).await?;
            join(session, &subjects, &tokens, links).await?;
            IdentityOutcome::Linked { subjects }
        }
    }))
}

/// Adds what is new. What may not come in stays out, and the gate knows it all the same: it stands against
/// her. False: look again.
async fn add(
    app: &App,
    session: &mut Session,
    person: &SealedPerson,
    new: &[&Name],
) -> Result<bool, VaultError> {
    let subject = person.subject;
    // A key that is gone: her erasure has begun behind this look, or ended.
    let Some(KeyState::Live(key)) = app.keys.get(&[subject]).await?.pop() else { return Ok(true) };
    let mut additions = Additions::default();
    let mut fields = Vec::new();
    for name in new {
        let prints = people::marks(app.fingerprints.all(&name.text), &name.looked_for);
        if !people::barred(&mut *session.conn(), &prints, Timestamp::UNIX_EPOCH).await?.is_empty() {
            continue;
        }
        let (field, place) = match name.kind {
            Kind::Phone => (PHONE, &mut additions.phone),
            Kind::UserId => (USER_ID, &mut additions.user_id),
            Kind::ParentUserId => (PARENT_USER_ID, &mut additions.parent_user_id),
        };
        *place = Some(sealed(app, person, &key, field, &name.text));
        additions.region = additions.region.or_else(|| name.region.clone());
        additions.tokens.extend(&name.tokens);
        fields.push(field.to_owned());
    }
    if fields.is_empty() {
        return Ok(true);
    }
    if !people::add(session.conn(), subject, &additions).await? {
        return Ok(false);
    }
    let Additions { region, tokens, .. } = additions;
    let identify = Command::Identify { addresses: tokens.clone(), region, fields };
    append(app, session, subject, identify).await?;
    // Who is one with her is so under her new names too.
    for (_, other) in linked(&mut *session.conn(), &[subject]).await? {
        let linked = Command::Link { others: vec![subject], addresses: tokens.clone() };
        append(app, session, other, linked).await?;
    }
    Ok(true)
}

fn sealed(
    app: &App,
    person: &SealedPerson,
    key: &StoredKey,
    field: &'static str,
    text: &str,
) -> Vec<u8> {
    let aad = binding(person.subject, field, person.key_version);
    seal(&key.key, app.ids.as_ref(), aad, text.as_bytes())
}

/// Records that these people are one. What is recorded already is so once.
async fn link(app: &App, session: &mut Session, subjects: &[Uuid]) -> Result<(), VaultError> {
    const LINK: &str = "
        INSERT INTO subject_links (subject_id, other_id, linked_at)
        SELECT $1, other, $3 FROM unnest($2::uuid[]) AS other WHERE other <> $1 ORDER BY other
        ON CONFLICT DO NOTHING RETURNING other_id";
    let now = app.clock.now();
    let people = people::reachable(&mut *session.conn(), subjects).await?;
    for subject in subjects {
        let others: Vec<Uuid> = sqlx::query_scalar(LINK)
            .bind(subject)
            .bind(subjects)
            .bind(now.to_sqlx())
            .fetch_all(session.conn())
            .await?;
        let theirs = others.iter().filter_map(|other| people.get(other));
        let addresses: Vec<AddressToken> =
            theirs.flat_map(|other| other.tokens.iter().copied()).collect();
        if !others.is_empty() {
            append(app, session, *subject, Command::Link { others, addresses }).await?;
        }
    }
    Ok(())
}

/// What the gate is to know: each of these people, and whoever is one with them, has all their addresses and
/// those that were told.
async fn join(
    session: &mut Session,
    subjects: &[Uuid],
    told: &[AddressToken],
    links: &mut Links,
) -> Result<(), VaultError> {
    let others = linked(&mut *session.conn(), subjects).await?;
    let all = subjects.iter().copied().chain(others.into_iter().map(|(_, other)| other));
    let all: BTreeSet<Uuid> = all.collect();
    let people =
        people::reachable(&mut *session.conn(), &all.into_iter().collect::<Vec<_>>()).await?;
    let theirs = people.values().flat_map(|person| person.tokens.iter().copied());
    let addresses: BTreeSet<AddressToken> = theirs.chain(told.iter().copied()).collect();
    for subject in people.into_keys() {
        links.entry(subject).or_default().extend(&addresses);
    }
    Ok(())
}

/// Appends what follows from a command to the stream of somebody who is registered and not fenced.
pub(crate) async fn append(
    app: &App,
    session: &mut Session,
    subject: Uuid,
    command: Command,
) -> Result<(), VaultError> {
    let now = app.clock.now();
    let event = match domain::decide(domain::State::Registered, command, now) {
        Ok(Some(Event::Identified(it))) => NewEvent::new(app.ids.v7(), IDENTIFIERS_ADDED, &it),
        Ok(Some(Event::Forgotten(it))) => NewEvent::new(app.ids.v7(), IDENTIFIERS_REMOVED, &it),
        Ok(Some(Event::Linked(it))) => NewEvent::new(app.ids.v7(), SUBJECT_LINKED, &it),
        Ok(Some(Event::Rectified(it))) => NewEvent::new(app.ids.v7(), SUBJECT_RECTIFIED, &it),
        _ => return Ok(()),
    };
    let event = event.map_err(|_| VaultError::Corrupt("event"))?;
    let append = Append::new(subject, Expected::Any, VAULT_EVENTS, vec![event], now);
    session.append(vec![Append { traceparent: telemetry::traceparent(), ..append }]).await?;
    Ok(())
}

/// Returns when the gate knows these links, and has waited a lease where they take something away.
pub(crate) async fn link_at_the_gate(app: &App, links: Links) -> Result<(), VaultError> {
    let mut all = Vec::with_capacity(links.len());
    for (subject_id, addresses) in links {
        let addresses: Vec<AddressToken> = addresses.into_iter().collect();
        let some = addresses.chunks(ADDRESSES_MAX);
        all.extend(some.map(|some| Link { subject_id, addresses: some.to_vec() }));
    }
    for links in all.chunks(LINKS_MAX) {
        let request = LinksRequest { links: links.to_vec() };
        let posted: Result<LinksResponse, _> =
            app.consent.post("/v1/gate/links", &request, None).await;
        posted.map_err(|error| VaultError::Service("consent", error))?;
    }
    Ok(())
}
