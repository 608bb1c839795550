//! Puts together what is held on a person, once it is shown that she asks, and destroys what she doesn't collect.
//! It guarantees that what is gathered is written sealed under her own key alone ([ADR 29]), that none is kept once
//! her erasure has issued a command, and that what is due is done after any restart; when one may be made and
//! handed out is the domain's to say, what is in it the services'.
//!
//! [ADR 29]: ../../../docs/adr/0029-an-archive-lies-under-her-own-key.md

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::holdings::{Holding, Provenance};
use assent_contracts::api::vault::{KeyLeaseRequest, KeyLeaseResponse, OpenRequest, OpenResponse};
use assent_contracts::rights::Task;
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{ClientError, Code, ServiceClient};
use assent_runtime::{Lease, LeaseTerms};
use assent_sealing::{Aad, DataKey, SealError, open, seal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use serde_json::{Value, json};
use sqlx::Row as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::archive::{Contents, FORMAT, Held, PackError, Recipient, Told};
use crate::domain::Person;
use crate::domain::archive::{ArchiveRefusal, Prepared};
use crate::domain::recipients::{self, Asking};
use crate::driver::Pace;
use crate::store::Sagas;
use crate::tracking;

/// Archives that are worked on at the same time by one replica.
const TOGETHER: i64 = 4;
/// How long another replica leaves one alone that is being worked on. A second one would do no harm.
const TAKEN: SignedDuration = SignedDuration::from_secs(60);
/// Why keys and evidence are asked for, in access records.
const REASON: &str = "subject_request";
/// What archives are sealed as.
const FIELD: &str = "archive";

/// The services that hold data of people. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Holders {
    /// Who is asked, in the order in which an archive shows it.
    pub services: Vec<(&'static str, ServiceClient)>,
    /// Opens evidence and lends keys.
    pub vault: ServiceClient,
}

/// The worker. Cheap to clone.
#[derive(Clone)]
pub struct Archivist {
    /// The requests.
    pub sagas: Sagas,
    /// Whom to ask.
    pub holders: Holders,
    /// How long her key may be held.
    pub lease: LeaseTerms,
    /// How long an archive waits to be collected.
    pub kept: SignedDuration,
    /// For how long recipients outside are waited for.
    pub inquiry_time: SignedDuration,
    /// The legal entity.
    pub controller: Arc<str>,
    /// How patient it is.
    pub pace: Pace,
}

/// Why there is no archive now.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] ArchiveRefusal),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A service doesn't tell what it holds.
    #[error("{0}: {1}")]
    Holder(&'static str, #[source] ClientError),
    /// Her key was not lent, or not for long enough.
    #[error("the lease of the key has run out")]
    LeaseOver,
    /// What is kept doesn't open.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// It can't be written.
    #[error(transparent)]
    Pack(#[from] PackError),
}

impl From<sqlx::Error> for ArchiveError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Archivist {
    /// Works until `stopping`. Failures are logged and outlived.
    ///
    /// # Errors
    /// Never; the type is the lifecycle's.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), std::convert::Infallible> {
        loop {
            let due = match self.take_due().await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(%error, "due archives can't be looked for");
                    Vec::new()
                }
            };
            for (request_id, subject, tries) in &due {
                if let Err(error) = self.look(*request_id, *subject).await {
                    tracing::warn!(%error, %request_id, "an archive has to wait");
                    self.put_off(*request_id, *tries).await;
                }
            }
            let pause = if due.is_empty() { self.pace.poll } else { Duration::ZERO };
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What is due, left alone by others for a while.
    async fn take_due(&self) -> Result<Vec<(Uuid, SubjectId, i32)>, sqlx::Error> {
        const TAKE: &str = "
            WITH due AS (SELECT request_id FROM archives WHERE look_at <= $1
                         ORDER BY look_at LIMIT $3 FOR UPDATE SKIP LOCKED)
            UPDATE archives SET look_at = $2 FROM due WHERE archives.request_id = due.request_id
            RETURNING archives.request_id, subject_id, tries";
        let now = self.sagas.clock.now();
        let rows = sqlx::query(TAKE)
            .bind(now.to_sqlx())
            .bind(later(now, TAKEN).to_sqlx())
            .bind(TOGETHER)
            .fetch_all(self.sagas.store.pool())
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }

    /// Makes what is to be made, destroys what is over.
    async fn look(&self, request_id: Uuid, subject: SubjectId) -> Result<(), ArchiveError> {
        let person = self.sagas.load(subject).await?;
        let waits = person.requests.get(request_id).is_some_and(|it| it.awaits_archive());
        if waits && !person.saga.is_fenced() {
            let service = self.clone();
            if to_the_end(async move { service.waits_for_others(request_id, subject).await })
                .await?
            {
                return Ok(());
            }
            return self.prepare(request_id).await;
        }
        let service = self.clone();
        Ok(to_the_end(async move { service.tidy(request_id, subject).await }).await?)
    }

    /// Asks recipients outside what they hold, and tells whether it is still to be waited for their answers.
    async fn waits_for_others(
        &self,
        request_id: Uuid,
        subject: SubjectId,
    ) -> Result<bool, StoreError> {
        let mut held = self.sagas.hold(subject).await?;
        let Some(request) = held.person.requests.get(request_id) else {
            held.rollback().await?;
            return Ok(false);
        };
        let answer_by = recipients::answer_by(self.inquiry_time, request.due, held.now);
        let outside = held.owners().await?.into_keys().collect();
        let inquiry_id = self.sagas.ids.v7();
        let asking = Asking { inquiry_id, recipients: outside, answer_by };
        let ask = held.person.ask_to_disclose(request_id, asking, held.now);
        let new = ask.is_some();
        held.record(ask.into_iter().collect(), None).await?;
        let request = held.person.requests.get(request_id);
        let asked = request.and_then(|it| it.asked(Task::Disclose)).cloned();
        let Some(asked) = asked else {
            held.rollback().await?;
            return Ok(false);
        };
        if new {
            held.inquire(request_id, &asked).await?;
        }
        let waits = asked.missing().next().is_some() && held.now < asked.answer_by;
        if waits {
            held.await_archive(request_id, asked.answer_by).await?;
        }
        held.commit().await?;
        Ok(waits)
    }

    /// What a recipient tells of her, sealed under her key.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub async fn seal(
        &self,
        subject: SubjectId,
        inquiry_id: Uuid,
        recipient: &str,
        holdings: &[Holding],
    ) -> Result<Vec<u8>, ArchiveError> {
        let told =
            Zeroizing::new(serde_json::to_vec(&(recipient, holdings)).map_err(PackError::from)?);
        let (key, lease) = self.key_of(subject).await?;
        let sealed = seal(&key, &*self.sagas.ids, disclosed(subject, inquiry_id), &told);
        if !lease.is_live() {
            return Err(ArchiveError::LeaseOver);
        }
        Ok(sealed)
    }

    /// What recipients outside told for a request, by recipient.
    async fn told(
        &self,
        request_id: Uuid,
        subject: SubjectId,
    ) -> Result<BTreeMap<String, Vec<Holding>>, ArchiveError> {
        const TOLD: &str = "SELECT inquiry_id, sealed FROM disclosures WHERE request_id = $1";
        let rows: Vec<(Uuid, Vec<u8>)> =
            sqlx::query_as(TOLD).bind(request_id).fetch_all(self.sagas.store.pool()).await?;
        if rows.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (key, lease) = self.key_of(subject).await?;
        let mut told = BTreeMap::new();
        for (inquiry_id, sealed) in rows {
            let opened = open(&key, disclosed(subject, inquiry_id), &sealed)?;
            let (recipient, holdings): (String, Vec<Holding>) =
                serde_json::from_slice(&opened).map_err(PackError::from)?;
            told.insert(recipient, holdings);
        }
        if !lease.is_live() {
            return Err(ArchiveError::LeaseOver);
        }
        Ok(told)
    }

    /// Records what is over; a row that nothing stands for any more goes with it.
    async fn tidy(&self, request_id: Uuid, subject: SubjectId) -> Result<(), StoreError> {
        let mut held = self.sagas.hold(subject).await?;
        let over = held.person.over(held.now);
        held.record(over, None).await?;
        held.settle_archive(request_id).await?;
        held.commit().await
    }

    async fn put_off(&self, request_id: Uuid, tries: i32) {
        const PUT_OFF: &str =
            "UPDATE archives SET look_at = $2, tries = tries + 1 WHERE request_id = $1";
        let pause = SignedDuration::try_from(self.pace.pause(tries)).unwrap_or(TAKEN);
        let at = later(self.sagas.clock.now(), pause);
        let done = sqlx::query(PUT_OFF)
            .bind(request_id)
            .bind(at.to_sqlx())
            .execute(self.sagas.store.pool())
            .await;
        if let Err(error) = done {
            tracing::warn!(%error, "nor can it be put off");
        }
    }

    /// Puts an archive together and answers the request with it; also anew, in the place of one that waits.
    ///
    /// # Errors
    /// [`ArchiveError`]; nothing changes then.
    pub async fn prepare(&self, request_id: Uuid) -> Result<(), ArchiveError> {
        let subject = self.sagas.subject_of(request_id).await?.ok_or(ArchiveRefusal::Unknown)?;
        let person = self.sagas.load(subject).await?;
        person.may_prepare(request_id)?;
        let contents = self.gather(request_id, subject, &person).await?;
        let packed = contents.pack()?;
        let now = self.sagas.clock.now();
        let (archive_id, expires_at) = (self.sagas.ids.v7(), later(now, self.kept));
        let (key, lease) = self.key_of(subject).await?;
        let sealed = seal(&key, &*self.sagas.ids, aad(subject, archive_id), &packed);
        if !lease.is_live() {
            return Err(ArchiveError::LeaseOver);
        }
        let prepared = Prepared { archive_id, records: contents.records(), expires_at };
        let service = self.clone();
        to_the_end(async move { service.keep(request_id, subject, prepared, &sealed).await }).await
    }

    /// Under the lock of her stream: an erasure that has issued a command meanwhile wins.
    async fn keep(
        &self,
        request_id: Uuid,
        subject: SubjectId,
        prepared: Prepared,
        sealed: &[u8],
    ) -> Result<(), ArchiveError> {
        let mut held = self.sagas.hold(subject).await?;
        let expires_at = prepared.expires_at;
        let events = match held.person.prepare(request_id, prepared, held.now) {
            Ok(events) => events,
            Err(refusal) => {
                held.rollback().await?;
                return Err(refusal.into());
            }
        };
        held.record(events, None).await?;
        held.keep_archive(request_id, sealed, expires_at).await?;
        Ok(held.commit().await?)
    }

    /// The archive of a request, for the only time: that it is handed out is on record before.
    ///
    /// # Errors
    /// [`ArchiveError`]; it can still be collected then.
    pub async fn collect(&self, request_id: Uuid) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
        const SEALED: &str = "SELECT sealed FROM archives WHERE request_id = $1";
        let subject = self.sagas.subject_of(request_id).await?.ok_or(ArchiveRefusal::Unknown)?;
        let person = self.sagas.load(subject).await?;
        person.collect(request_id, self.sagas.clock.now())?;
        let archive = person.requests.get(request_id).and_then(|it| it.waiting_archive());
        let archive_id = archive.ok_or(ArchiveRefusal::Gone)?.id;
        let sealed: Option<Vec<u8>> = sqlx::query_scalar(SEALED)
            .bind(request_id)
            .fetch_optional(self.sagas.store.pool())
            .await?
            .flatten();
        let sealed = sealed.ok_or(ArchiveRefusal::Gone)?;
        let (key, lease) = self.key_of(subject).await?;
        let opened = open(&key, aad(subject, archive_id), &sealed)?;
        if !lease.is_live() {
            return Err(ArchiveError::LeaseOver);
        }
        let service = self.clone();
        to_the_end(async move { service.hand_out(request_id, subject, archive_id).await }).await?;
        Ok(opened)
    }

    /// Records that this archive, and no newer one, is handed out; it is deleted with that.
    async fn hand_out(
        &self,
        request_id: Uuid,
        subject: SubjectId,
        archive_id: Uuid,
    ) -> Result<(), ArchiveError> {
        let mut held = self.sagas.hold(subject).await?;
        let request = held.person.requests.get(request_id);
        let same =
            request.and_then(|it| it.waiting_archive()).is_some_and(|it| it.id == archive_id);
        let collected = held.person.collect(request_id, held.now);
        match collected {
            Ok(event) if same => held.record(vec![event], None).await?,
            collected => {
                held.rollback().await?;
                return Err(collected.err().unwrap_or(ArchiveRefusal::Gone).into());
            }
        }
        Ok(held.commit().await?)
    }

    /// What every service holds on her.
    async fn gather(
        &self,
        request_id: Uuid,
        subject: SubjectId,
        person: &Person,
    ) -> Result<Contents, ArchiveError> {
        let request = person.requests.get(request_id).ok_or(ArchiveRefusal::Unknown)?;
        let now = self.sagas.clock.now();
        let mut holdings = Vec::new();
        for (service, client) in &self.holders.services {
            let path = format!("/v1/subjects/{subject}/holdings");
            let held: Vec<Holding> =
                client.all(&path).await.map_err(|error| ArchiveError::Holder(service, error))?;
            for holding in held {
                let holding = self.with_evidence(subject, holding).await?;
                holdings.push(Held::ours(service, holding));
            }
        }
        let own = own(person, now);
        holdings.extend(own.into_iter().map(|holding| Held::ours("erasure", holding)));
        let names = self.sagas.names().await?;
        let mut told = self.told(request_id, subject).await?;
        let asked = request.asked(Task::Disclose);
        let mut recipients = Vec::new();
        for (name, contact) in names.owners {
            let pieces = told.remove(&name);
            let answered = asked.is_some_and(|it| it.answers.contains_key(&name));
            let records = asked.and_then(|it| it.records.get(&name)).copied().unwrap_or_default();
            let answer = match &pieces {
                Some(_) => Told::Included,
                None if answered && records == 0 => Told::Nothing,
                None => Told::Missing,
            };
            for holding in pieces.into_iter().flatten() {
                holdings.push(Held::others(&name, holding));
            }
            recipients.push(Recipient { name, contact, answer });
        }
        let mut contents = Contents {
            format: FORMAT,
            controller: self.controller.to_string(),
            kind: request.kind,
            reference: tracking::reference(request_id),
            received_at: request.received_at,
            prepared_at: now,
            authorities: request
                .terms
                .as_ref()
                .map(|it| it.authorities.clone())
                .unwrap_or_default(),
            recipients,
            holdings,
        };
        contents.reduce();
        Ok(contents)
    }

    /// With its evidence opened; what doesn't open is kept no longer.
    async fn with_evidence(
        &self,
        subject_id: SubjectId,
        mut holding: Holding,
    ) -> Result<Holding, ArchiveError> {
        let Some(sealed) = holding.evidence.take() else { return Ok(holding) };
        let ask = OpenRequest {
            reason: REASON.to_owned(),
            subject_id,
            field: "consent.evidence".to_owned(),
            sealed,
        };
        let opened: Result<OpenResponse, ClientError> =
            self.holders.vault.post("/v1/open", &ask, None).await;
        match opened {
            Ok(OpenResponse { text }) => {
                holding.data.insert("evidence".to_owned(), Value::from(text));
            }
            Err(error) if error.code() == Some(Code::ValidationFailed) => {
                holding.data.insert("gone".to_owned(), Value::from(true));
            }
            Err(error) => return Err(ArchiveError::Holder("vault", error)),
        }
        Ok(holding)
    }

    /// Her key, derived for this service, for one lease from before it is asked for.
    async fn key_of(&self, subject: SubjectId) -> Result<(DataKey, Lease), ArchiveError> {
        let lease = Lease::start(&self.sagas.clock, &self.lease);
        let ask = KeyLeaseRequest { reason: REASON.to_owned(), subjects: vec![subject] };
        let lent: Result<KeyLeaseResponse, ClientError> =
            self.holders.vault.post("/v1/keys/lease", &ask, None).await;
        let lent = lent.map_err(|error| ArchiveError::Holder("vault", error))?;
        let text = lent.keys.into_iter().next().flatten().map(Zeroizing::new);
        let text = text.ok_or(ArchiveRefusal::Erased)?;
        let mut bytes = Zeroizing::new([0; 32]);
        match STANDARD_NO_PAD.decode_slice(text.as_bytes(), bytes.as_mut_slice()) {
            Ok(32) => Ok((DataKey::from_bytes(*bytes), lease)),
            _ => Err(SealError.into()),
        }
    }
}

fn disclosed(subject: SubjectId, inquiry_id: Uuid) -> Aad<'static> {
    Aad { subject, record: inquiry_id, field: "disclosure", version: 1 }
}

fn aad(subject: SubjectId, archive_id: Uuid) -> Aad<'static> {
    Aad { subject, record: archive_id, field: FIELD, version: 1 }
}

/// What this service holds on her itself. Why her data are on hold may be others' to know: that they are is hers.
fn own(person: &Person, now: Timestamp) -> Vec<Holding> {
    let asked = person.requests.iter().map(|request| {
        let data = json!({
            "kind": request.kind,
            "reference": tracking::reference(request.id),
            "state": request.state(),
            "due": request.due,
            "country": request.terms.as_ref().map(|terms| terms.answer.jurisdiction.clone()),
        });
        let holding = Holding::new("request", Provenance::Provided, data);
        Holding { id: Some(request.id), at: Some(request.received_at), ..holding }
    });
    let holds = person.holds.standing(now).map(|hold| {
        let data = json!({"purpose": hold.placed.purpose, "review_on": hold.review_on});
        let holding = Holding::new("hold", Provenance::Recorded, data);
        Holding { at: Some(hold.placed.at), ..holding }
    });
    let holds: Vec<Holding> = holds.collect();
    asked.chain(holds).collect()
}

fn later(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}
