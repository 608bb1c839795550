//! What tests do in WhatsApp's place: sign webhooks, let the number rest.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use sqlx::PgPool;
use uuid::Uuid;

use crate::cluster::until;

/// The signature header of a webhook with this body.
///
/// # Panics
/// Never: HMAC takes keys of any length.
#[must_use]
pub fn signature(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}

/// No message of the messaging service with this database goes out for an hour, or until [`go_on`].
pub async fn rest(messaging: &PgPool) {
    run(
        messaging,
        "INSERT INTO send_rates VALUES ('106540352242922', now() + interval '1 hour')
         ON CONFLICT (phone_number_id) DO UPDATE SET next_at = EXCLUDED.next_at",
    )
    .await;
}

/// What was held back is due at once.
pub async fn go_on(messaging: &PgPool) {
    const CLAIMS: &str = "SELECT DISTINCT claim_id FROM intents WHERE state = 'claimed'";
    const UNDER_WAY: &str =
        "SELECT EXISTS (SELECT FROM intents WHERE state = 'claimed' AND claim_id = ANY($1))";
    run(messaging, "UPDATE send_rates SET next_at = now()").await;
    // Whoever was told of the rest before gives back for as long as that was: that is waited for.
    let told: Vec<Uuid> =
        sqlx::query_scalar(CLAIMS).fetch_all(messaging).await.expect("Postgres answers");
    until("whoever was told of the rest has given back", async || {
        let under_way: bool = sqlx::query_scalar(UNDER_WAY)
            .bind(&told)
            .fetch_one(messaging)
            .await
            .expect("Postgres answers");
        !under_way
    })
    .await;
    // In the order in which everybody else locks them.
    run(
        messaging,
        "UPDATE intents SET not_before = now()
         WHERE id IN (SELECT id FROM intents WHERE state = 'queued' AND not_before > now()
                      ORDER BY id FOR UPDATE)",
    )
    .await;
}

async fn run(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.expect("Postgres answers");
}
