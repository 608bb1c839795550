//! Parts of bodies: what can't be read or applied is stored on its own. It guarantees that a part lives no
//! longer than the body it comes from, and that a body ends in the transaction that stores its parts.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Failure, Opened, Stored};
use crate::api::webhook::BODY;
use crate::metrics;
use crate::state::Messaging;
use crate::whatsapp::envelope::Place;

/// A part of a body that is stored on its own.
#[derive(Clone)]
pub struct Part {
    id: Uuid,
    sealed: Vec<u8>,
    parked: Option<&'static str>,
}

/// A body that ends, and what is left of it.
pub struct Divided {
    id: Uuid,
    hour_key: Uuid,
    received_at: Timestamp,
    position: i64,
    lanes: Vec<i16>,
    parts: Vec<Part>,
}

impl Divided {
    /// This body, and these parts of it.
    pub fn new(body: &Stored, parts: Vec<Part>) -> Self {
        let Stored { id, hour_key, received_at, position, ref lanes, .. } = *body;
        Self { id, hour_key, received_at, position, lanes: lanes.clone(), parts }
    }
}

/// Parts of a body, sealed under its key: they live no longer than it.
pub async fn resealed(
    messaging: &Messaging,
    body: &Opened,
    parts: Vec<(Vec<Place>, Option<&'static str>)>,
) -> Result<Vec<Part>, Failure> {
    let hour_key = body.stored.hour_key;
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let keys = messaging.hour_keys.earlier(&[hour_key]).await?;
    let mut resealed = Vec::with_capacity(parts.len());
    for (places, parked) in parts {
        let id = messaging.ids.v7();
        let alone = Zeroizing::new(body.webhook.only(&places));
        let sealed = keys.seal_again(id, BODY, hour_key, &alone)?;
        resealed.push(Part { id, sealed, parked });
    }
    Ok(resealed)
}

/// Deletes bodies and stores parts of them. Gives false when another processor was faster with one.
pub async fn divide(conn: &mut PgConnection, divided: &[Divided]) -> Result<bool, sqlx::Error> {
    // Parts stand where their body stood.
    const STORE: &str = "
        INSERT INTO webhook_bodies
            (id, hour_key, sealed, received_at, not_before, parked, position, lanes)
        VALUES ($1, $2, $3, $4, $4, $5, $6, $7)";
    let ids: Vec<Uuid> = divided.iter().map(|body| body.id).collect();
    let deleted = sqlx::query("DELETE FROM webhook_bodies WHERE id = ANY($1)")
        .bind(&ids)
        .execute(&mut *conn)
        .await?;
    if deleted.rows_affected() != ids.len() as u64 {
        return Ok(false);
    }
    for body in divided {
        for part in &body.parts {
            sqlx::query(STORE)
                .bind(part.id)
                .bind(body.hour_key)
                .bind(&part.sealed)
                .bind(body.received_at.to_sqlx())
                .bind(part.parked)
                .bind(body.position)
                .bind(&body.lanes)
                .execute(&mut *conn)
                .await?;
            if let Some(reason) = part.parked {
                tracing::warn!(body = %part.id, reason, "an update of a webhook is parked");
            }
        }
    }
    Ok(true)
}

pub async fn replace(messaging: &Messaging, divided: Divided) -> Result<(), Failure> {
    let mut transaction = messaging.pool().begin().await?;
    let done = divide(&mut transaction, std::slice::from_ref(&divided)).await?;
    if done {
        transaction.commit().await?;
        divided.parts.iter().filter_map(|part| part.parked).for_each(metrics::update);
    }
    messaging.received.notify_one();
    Ok(())
}
