//! Events that come back to a restored database. It guarantees that requests, erasures and holds stand as their
//! streams say, so that a saga which had gone on goes on from there and whoever was erased is on the list; a
//! certificate is signed again only where it is byte for byte the one that was.

use std::sync::Arc;

use assent_bus::own_log::Fold;
use assent_contracts::SubjectId;
use assent_contracts::erasure::Completed;
use assent_eventstore::{Regained, Session, StoreError, Stream};
use assent_runtime::Clock;
use assent_signing::Issuer;
use jiff::SignedDuration;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::certificate;
use crate::domain::{Event, Person};
use crate::rows::{self, Look};
use crate::tracking::Tracking;

/// Folds what has come back.
pub struct ComeBack {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// What people were given to look at their requests.
    pub tracking: Tracking,
    /// Signs certificates.
    pub issuer: Arc<Issuer>,
    /// The legal entity that certificates name.
    pub controller: Arc<str>,
    /// How long backups of keys are kept, where that is stated.
    pub key_backup_kept: Option<SignedDuration>,
}

impl Fold for ComeBack {
    async fn fold(&self, session: &mut Session, regained: &[Regained]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = regained.iter().map(|it| it.stream).collect();
        let streams = session.lock(&ids).await?;
        for (subject, stream) in &streams {
            self.write(session.conn(), *subject, stream).await?;
        }
        Ok(())
    }
}

impl ComeBack {
    async fn write(
        &self,
        conn: &mut PgConnection,
        subject: SubjectId,
        stream: &Stream,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let (mut person, mut holds, mut certified) = (Person::default(), Vec::new(), Vec::new());
        for stored in &stream.events {
            let Some(event) = Event::read(stored)? else { continue };
            holds.extend(event.hold_id());
            match &event {
                Event::Completed(it) => certified.push((person.clone(), it.clone(), false)),
                Event::PurposeCompleted(it) => certified.push((person.clone(), it.clone(), true)),
                _ => {}
            }
            person.evolve(&event);
        }
        for request in person.requests.iter() {
            rows::write_request(conn, subject, request, &self.tracking).await?;
        }
        for hold in holds.into_iter().filter_map(|id| person.holds.get(id)) {
            rows::write_hold(conn, subject, hold).await?;
        }
        for request in person.requests.iter().filter(|it| it.purpose.is_some()) {
            let Some(erasure) = person.purposes.get(request.id) else {
                rows::delete_purpose_erasure(conn, request.id).await?;
                continue;
            };
            let over = erasure.request().is_some_and(|it| it.completed_at.is_some());
            let look = Look::At(if over { None } else { Some(now) });
            rows::write_purpose_erasure(conn, subject, &person, request.id, look, now).await?;
        }
        // One that was refused since is nobody's to carry out.
        let stands = person.saga.request.as_ref().map(|erasure| erasure.id);
        let rests = rows::erasure_of(conn, subject).await?;
        if let Some(other) = rests.filter(|id| stands != Some(*id)) {
            rows::delete_erasure(conn, other).await?;
        }
        if let Some(erasure) = &person.saga.request {
            if rests != Some(erasure.id) {
                rows::write_erasure(conn, subject, &person, erasure, now).await?;
            }
            let look = if erasure.completed_at.is_some() { None } else { Some(now) };
            rows::update_erasure(conn, &person, erasure, Look::At(look), now).await?;
        }
        for (person, completed, of_purpose) in certified {
            self.certify(conn, &person, &completed, of_purpose).await?;
        }
        Ok(())
    }

    /// Signs the certificate of a completion again, by what was on record before it.
    async fn certify(
        &self,
        conn: &mut PgConnection,
        person: &Person,
        completed: &Completed,
        of_purpose: bool,
    ) -> Result<(), StoreError> {
        const KEEP: &str =
            "INSERT INTO certificates (request_id, jws) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        const KEEP_OF_PURPOSE: &str = "UPDATE purpose_erasures SET certificate = coalesce(certificate, $2) WHERE request_id = $1";
        let request_id = completed.request_id;
        let answers = if of_purpose { vec![request_id] } else { certificate::answers(person) };
        let secrets = rows::secrets_of(conn, &answers).await?;
        let (controller, key_backup_kept) = (&*self.controller, self.key_backup_kept);
        let terms = certificate::Terms { controller, key_backup_kept };
        let payload = if of_purpose {
            certificate::payload_of_purpose(person, request_id, &secrets, terms, completed.at)
        } else {
            certificate::payload(person, &secrets, terms, completed.at)
        };
        let sha256 = &completed.certificate_sha256;
        let signed = payload.and_then(|it| certificate::sign_again(&self.issuer, &it, sha256));
        match signed {
            Some(signed) => {
                let keep = if of_purpose { KEEP_OF_PURPOSE } else { KEEP };
                let keep = sqlx::query(keep).bind(request_id).bind(signed.jws);
                keep.execute(conn).await?;
            }
            None => tracing::warn!(
                %request_id,
                "a certificate is lost: the signing key, the controller's name or the backups' days are others now"
            ),
        }
        Ok(())
    }
}
