//! Events that come back to a restored database. It guarantees that requests, erasures and holds stand as their
//! streams say, so that a saga which had gone on goes on from there and whoever was erased is on the list; a
//! certificate is signed again only where it is byte for byte the one that was.

use std::sync::Arc;

use assent_bus::own_log::Fold;
use assent_contracts::SubjectId;
use assent_eventstore::{Regained, Session, StoreError, Stream};
use assent_runtime::Clock;
use assent_signing::Issuer;
use jiff::{SignedDuration, Timestamp};
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
        let (mut person, mut holds, mut sha256) = (Person::default(), Vec::new(), None);
        for stored in &stream.events {
            let Some(event) = Event::read(stored)? else { continue };
            holds.extend(event.hold_id());
            if let Event::Completed(completed) = &event {
                sha256 = Some(completed.certificate_sha256.clone());
            }
            person.evolve(&event);
        }
        for request in person.requests.iter() {
            rows::write_request(conn, subject, request, &self.tracking).await?;
        }
        for hold in holds.into_iter().filter_map(|id| person.holds.get(id)) {
            rows::write_hold(conn, subject, hold).await?;
        }
        // One that was refused since is nobody's to carry out.
        let stands = person.saga.request.as_ref().map(|erasure| erasure.id);
        let rests = rows::erasure_of(conn, subject).await?;
        if let Some(other) = rests.filter(|id| stands != Some(*id)) {
            rows::delete_erasure(conn, other).await?;
        }
        let Some(erasure) = &person.saga.request else { return Ok(()) };
        if rests != Some(erasure.id) {
            rows::write_erasure(conn, subject, &person, erasure, now).await?;
        }
        let look = if erasure.completed_at.is_some() { None } else { Some(now) };
        rows::update_erasure(conn, &person, erasure, Look::At(look), now).await?;
        if let (Some(at), Some(sha256)) = (erasure.completed_at, sha256) {
            self.certify(conn, &person, at, &sha256).await?;
        }
        Ok(())
    }

    async fn certify(
        &self,
        conn: &mut PgConnection,
        person: &Person,
        at: Timestamp,
        sha256: &str,
    ) -> Result<(), StoreError> {
        const KEEP: &str =
            "INSERT INTO certificates (request_id, jws) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let Some(erasure) = &person.saga.request else { return Ok(()) };
        let asked = person.requests.get(erasure.id);
        let received_at = asked.map_or(erasure.requested_at, |asked| asked.received_at);
        let payload =
            certificate::payload(erasure, received_at, &self.controller, self.key_backup_kept, at);
        match certificate::sign(&self.issuer, &payload) {
            Ok(signed) if signed.payload_sha256 == sha256 => {
                sqlx::query(KEEP).bind(erasure.id).bind(signed.jws).execute(conn).await?;
            }
            _ => tracing::warn!(
                request_id = %erasure.id,
                "a certificate is lost: the controller's name or the backups' days are others now"
            ),
        }
        Ok(())
    }
}
