//! What the provider takes away from a whole number or account, and gives back. It guarantees that what somebody lifted
//! isn't halted anew by old news, and that what waited for it is due at once.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

use crate::config::WhatsApp;
use crate::whatsapp::reaction::Reach;
use crate::whatsapp::updates::AccountUpdate;
use crate::{limits, metrics};

/// Halts a number. One that was lifted after the provider said so stays lifted: webhooks come late, and
/// more than once.
///
/// # Errors
/// When the database fails.
pub(super) async fn halt(
    conn: &mut PgConnection,
    phone_number_id: &str,
    reach: Reach,
    code: Option<i64>,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    const HALT: &str = "
        INSERT INTO halts AS halt (phone_number_id, reach, provider_code, since)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (phone_number_id, reach) DO UPDATE
            SET provider_code = EXCLUDED.provider_code, since = EXCLUDED.since, lifted_at = NULL
            WHERE halt.lifted_at < EXCLUDED.since";
    let halted = sqlx::query(HALT)
        .bind(phone_number_id)
        .bind(reach.as_str())
        .bind(code)
        .bind(said_at.to_sqlx())
        .execute(conn)
        .await?;
    if halted.rows_affected() > 0 {
        metrics::halted(reach);
        tracing::error!(
            code,
            reach = reach.as_str(),
            "the provider halts this number: someone must look"
        );
    }
    Ok(())
}

/// What the provider tells of the account, and what that means for its number.
///
/// # Errors
/// When the database fails.
pub async fn account(
    conn: &mut PgConnection,
    whatsapp: &WhatsApp,
    update: &AccountUpdate,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let phone_number_id = &whatsapp.phone_number_id;
    let AccountUpdate { number, field, event, ban, tier, .. } = update;
    if field == "phone_number_quality_update" {
        // Not told, or not configured: it may be ours.
        let of_another =
            number.as_ref().zip(whatsapp.number.as_ref()).is_some_and(|(it, ours)| it != ours);
        let event = (!of_another).then_some(event.as_str());
        return limits::number::hear(conn, phone_number_id, event, tier.as_deref(), said_at).await;
    }
    let reach = match (event.as_str(), ban.as_deref()) {
        ("DISABLED_UPDATE", Some("REINSTATE")) => None,
        // Announced; nothing is taken away yet.
        ("DISABLED_UPDATE", Some("SCHEDULE_FOR_DISABLE")) => None,
        ("DISABLED_UPDATE" | "ACCOUNT_DELETED", _) => Some(Reach::Everything),
        ("ACCOUNT_RESTRICTION", _) => Some(Reach::Billable),
        _ => None,
    };
    match reach {
        Some(reach) => halt(conn, phone_number_id, reach, None, said_at).await,
        None => {
            tracing::warn!(field, event, ban, "the provider tells of the account");
            Ok(())
        }
    }
}

/// Lifts a halt; what waited for that is due at once. Gives whether there was one.
///
/// # Errors
/// When the database fails.
pub async fn lift(
    conn: &mut PgConnection,
    phone_number_id: &str,
    reach: Reach,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    const LIFT: &str = "
        UPDATE halts SET lifted_at = $3
        WHERE phone_number_id = $1 AND reach = $2 AND lifted_at IS NULL";
    const WAKE: &str = "
        UPDATE intents SET not_before = now()
        WHERE state = 'queued' AND not_before > now() AND $1 = ANY(reasons)";
    let lifted = sqlx::query(LIFT)
        .bind(phone_number_id)
        .bind(reach.as_str())
        .bind(now.to_sqlx())
        .execute(&mut *conn)
        .await?;
    if lifted.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(WAKE).bind(reach.reason()).execute(conn).await?;
    Ok(true)
}
