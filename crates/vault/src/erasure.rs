//! All that the vault does for erasure, as the participant `vault`. It guarantees that her key ends
//! with the step that destroys it, that a fingerprint of each address stays, and that the sweep
//! tells what is really there; that a step is done once and answered is the participant's part.
//!
//! Keys live in another database, so they can't be part of the transaction: they go first.

use assent_bus::own_log::Fold;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::StopKind;
use assent_contracts::erasure::{Command, Step};
use assent_contracts::topics::VAULT_EVENTS;
use assent_contracts::vault::{
    ADDRESS_SUPPRESSED, AddressSuppressed, IDENTIFIERS_ADDED, IdentifiersAdded, SUBJECT_ERASED,
    SUBJECT_REGISTERED, SubjectRegistered,
};
use assent_eventstore::{Append, Expected, NewEvent, Regained, Session, StoreError, Stream};
use assent_participant::{Held, Steps, Touched, held};
use assent_runtime::telemetry;
use assent_sealing::KeyState;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::access::{self, Access};
use crate::app::{App, PARENT_USER_ID, PHONE, USER_ID};
use crate::domain::{self, Event, State};
use crate::error::VaultError;
use crate::people::{self, Barred};
use crate::resolve::open_names;
use crate::suppress::close_gate;

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

    async fn prepare(&self, command: &Command, touched: &mut Touched) -> Result<(), VaultError> {
        let subject = command.subject_id;
        match command.step {
            Step::Fence => {}
            Step::Delete => bar_addresses(self, command, touched).await?,
            Step::DestroyKeys => {
                self.keys.destroy(&[subject]).await?;
                // By this try, or by one that died before it could say so.
                touched.add("keys", [subject]);
            }
            Step::Sweep => touched.count("keys", self.keys.count_live(&[subject]).await?),
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        session: &mut Session,
        command: &Command,
        touched: &mut Touched,
    ) -> Result<(), VaultError> {
        let subject = command.subject_id;
        if command.step == Step::Sweep {
            return Ok(held::find(session.conn(), &LEFT, subject, touched).await?);
        }
        // What is taken away stays away only behind a fence; it is there already unless this
        // database is older than the saga.
        let stream = session.lock(&[subject]).await?.remove(&subject).unwrap_or_default();
        raise_tombstone(self, session, command).await?;
        match command.step {
            Step::Fence => {
                touched.add("tombstones", [subject]);
                touched.keep("fence", "stays_erased", None);
            }
            Step::Delete => {
                wait_for_linked(session, subject).await?;
                touched.add("addresses", people::remove(session.conn(), subject).await?);
                let removed = people::remove_row(session.conn(), subject).await?;
                touched.add("people", removed.then_some(subject));
                held::delete(session.conn(), &[LINKS], subject, touched).await?;
            }
            Step::DestroyKeys => {
                record_erased(self, session, command, &stream).await?;
                touched.keep("events", "record_of_processing", None);
            }
            Step::Sweep => {}
        }
        Ok(())
    }
}

/// By the platform's word they are one: what is held of the others is hers. Her erasure goes on when theirs have
/// begun; until then it is visibly not done. Under the lock of her stream, behind her fence: nobody is linked
/// with her any more.
async fn wait_for_linked(session: &mut Session, subject: Uuid) -> Result<(), VaultError> {
    const OPEN: &str = "
        SELECT other_id FROM subject_links
        WHERE subject_id = $1 AND other_id NOT IN (SELECT subject_id FROM tombstones)
        ORDER BY other_id";
    let open: Vec<Uuid> = sqlx::query_scalar(OPEN).bind(subject).fetch_all(session.conn()).await?;
    if open.is_empty() {
        return Ok(());
    }
    tracing::error!(?open, "an erasure waits for requests for those who are one with the person");
    Err(VaultError::LinkedRemain)
}

/// Closes the gate for her addresses and leaves a fingerprint of each.
async fn bar_addresses(
    app: &App,
    command: &Command,
    touched: &mut Touched,
) -> Result<(), VaultError> {
    let subject = command.subject_id;
    let Some(person) = people::find(app.pool(), subject).await? else { return Ok(()) };
    // The gate first: it must have closed before nobody knows the addresses any more.
    let occasion = format!("stop:erased:{}", command.request_id);
    let tokens = std::iter::once(person.tokens.as_slice());
    close_gate(app, StopKind::Erased, &occasion, tokens).await?;

    let mut transaction = app.pool().begin().await?;
    for field in [PHONE, USER_ID, PARENT_USER_ID] {
        if person.sealed(field).is_some() {
            let access = Access { caller: App::PARTICIPANT, reason: "erasure", field };
            let (ids, now) = (app.ids.as_ref(), app.clock.now());
            access::record(&mut transaction, ids, now, access, &[subject]).await?;
        }
    }
    transaction.commit().await?;
    let Some(KeyState::Live(key)) = app.keys.get(&[subject]).await?.pop() else {
        // A key that is gone already left its fingerprints when it went, unless this database is older.
        // Then her tokens bar her.
        let mut connection = app.pool().acquire().await?;
        return bar_by_tokens(&mut connection, &person.tokens, app.clock.now()).await;
    };
    let names = open_names(&person, &key)?;
    let prints = names.iter().flat_map(|name| app.fingerprints.fingerprints(name));
    let fingerprints: Vec<_> = prints.collect();
    let mut transaction = app.pool().begin().await?;
    people::bar(&mut transaction, &fingerprints, Barred::Erased, app.clock.now()).await?;
    transaction.commit().await?;
    touched.add("suppressions", fingerprints.iter().map(|print| hex(&print.0)));
    touched.keep("suppression", "stays_erased", None);
    Ok(())
}

/// Bars addresses of which nothing but their tokens is left.
async fn bar_by_tokens(
    conn: &mut PgConnection,
    tokens: &[AddressToken],
    at: Timestamp,
) -> Result<(), VaultError> {
    people::bar(conn, &people::marks(Vec::new(), tokens), Barred::Erased, at).await?;
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

/// Publishes that her key is gone.
async fn record_erased(
    app: &App,
    session: &mut Session,
    command: &Command,
    stream: &Stream,
) -> Result<(), VaultError> {
    let now = app.clock.now();
    let erase = domain::Command::Erase { request_id: command.request_id };
    if let Ok(Some(Event::Erased(erased))) = domain::decide(state_of(stream), erase, now) {
        let event = NewEvent::new(app.ids.v7(), SUBJECT_ERASED, &erased)
            .map_err(|_| VaultError::Corrupt("event"))?;
        let subject = command.subject_id;
        let append = Append::new(subject, Expected::Any, VAULT_EVENTS, vec![event], now);
        session.append(vec![Append { traceparent: telemetry::traceparent(), ..append }]).await?;
    }
    Ok(())
}

/// The tombstone that every write about her looks for. Under the lock of her stream.
async fn raise_tombstone(
    app: &App,
    session: &mut Session,
    command: &Command,
) -> Result<(), VaultError> {
    sqlx::query(
        "INSERT INTO tombstones (subject_id, request_id, fenced_at) VALUES ($1, $2, $3)
         ON CONFLICT (subject_id) DO NOTHING",
    )
    .bind(command.subject_id)
    .bind(command.request_id)
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
