//! `POST /v1/identities/forget`: somebody verified that a number is a person's. It guarantees that her user ids, and
//! who was one with her, are forgotten together and published; what stood against her by them stands on at the
//! gate.

use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{ForgetRequest, ForgetResponse};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Json, Problem};
use axum::extract::State;
use uuid::Uuid;

use crate::access::Access;
use crate::app::{App, PARENT_USER_ID, PHONE, USER_ID};
use crate::domain::Command;
use crate::error::VaultError;
use crate::identities::{append, linked};
use crate::lookup::require_open;
use crate::people;
use crate::resolve::{open_phone, recorded};

/// How often it is tried while others write about the same people.
const ATTEMPTS: usize = 8;

/// Forget a person's user ids, and who is one with her: her number was verified, and the platform will tell them
/// anew.
///
/// Needs `subjects:write` and `gate:write`. What stands against them stands against her on.
#[utoipa::path(
    post, path = "/v1/identities/forget", tag = "subjects", security(("bearer" = [])),
    request_body = ForgetRequest,
    responses((status = 200, body = ForgetResponse), (status = 410, description = "subject_erased"))
)]
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<ForgetRequest>,
) -> Result<Json<ForgetResponse>, Problem> {
    caller.require("subjects:write")?;
    caller.require("gate:write")?;
    let subject = request.subject_id;
    require_open(&app, subject).await?;
    let forgotten = to_the_end(async move {
        for _ in 0..ATTEMPTS {
            if let Some(forgotten) = forget_names(&app, caller.name(), subject).await? {
                return Ok(forgotten);
            }
        }
        Err(VaultError::Contended)
    })
    .await?;
    Ok(Json(ForgetResponse { forgotten }))
}

/// None: others wrote meanwhile, look again. Which of her tokens are her number's can be told from the number
/// alone.
async fn forget_names(app: &App, caller: &str, subject: Uuid) -> Result<Option<bool>, VaultError> {
    let access = Access { caller, reason: "identity_verified", field: PHONE };
    let Some((person, key)) = recorded(app, access, &[], &[subject]).await?.pop().flatten() else {
        return Ok(Some(false));
    };
    let Some(phone) = open_phone(&person, &key)? else { return Ok(Some(false)) };
    let numbers = app.addresses.all(&phone);
    let others = others(app.pool(), subject).await?;

    let mut session = app.store.begin().await?;
    let mut locked: Vec<Uuid> = others.iter().copied().chain([subject]).collect();
    locked.sort_unstable();
    session.lock_versions(&locked).await?;
    let person = people::reachable(&mut *session.conn(), &[subject]).await?.remove(&subject);
    let again = self::others(&mut *session.conn(), subject).await?;
    let Some(person) = person.filter(|_| again == others) else {
        session.rollback().await?;
        return Ok(None);
    };
    let (kept, gone): (Vec<AddressToken>, Vec<AddressToken>) =
        person.tokens.iter().partition(|token| numbers.contains(token));
    let held =
        [(person.user_id.is_some(), USER_ID), (person.parent_user_id.is_some(), PARENT_USER_ID)];
    let held = held.into_iter().filter(|(held, _)| *held);
    let fields: Vec<String> = held.map(|(_, field)| field.to_owned()).collect();
    if fields.is_empty() && others.is_empty() {
        session.rollback().await?;
        return Ok(Some(false));
    }
    people::forget_user_ids(session.conn(), subject, &kept, &gone).await?;
    unlink(session.conn(), subject).await?;
    let open = people::reachable(&mut *session.conn(), &others).await?;
    let forget = Command::Forget { addresses: gone, fields, unlinked: others };
    append(app, &mut session, subject, forget).await?;
    let mut open: Vec<Uuid> = open.into_keys().collect();
    open.sort_unstable();
    for other in open {
        let (addresses, fields) = (Vec::new(), Vec::new());
        let forget = Command::Forget { addresses, fields, unlinked: vec![subject] };
        append(app, &mut session, other, forget).await?;
    }
    session.commit().await?;
    Ok(Some(true))
}

/// Who is one with her.
pub(crate) async fn others(
    executor: impl sqlx::PgExecutor<'_>,
    subject: Uuid,
) -> Result<Vec<Uuid>, VaultError> {
    let links = linked(executor, &[subject]).await?;
    Ok(links.into_iter().map(|(_, other)| other).collect())
}

/// Nobody is one with her any more. Under the locks of all their streams.
pub(crate) async fn unlink(
    connection: &mut sqlx::PgConnection,
    subject: Uuid,
) -> Result<(), VaultError> {
    sqlx::query("DELETE FROM subject_links WHERE subject_id = $1 OR other_id = $1")
        .bind(subject)
        .execute(connection)
        .await?;
    Ok(())
}
