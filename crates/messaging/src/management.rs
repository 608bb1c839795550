//! How often the management API is called. It guarantees that all replicas together stay below what the
//! provider allows the account in any hour; what is called is left to the callers.

use std::time::Duration;

use sqlx::PgPool;

/// How long an account rests after the provider said that it called too often.
pub const REST: Duration = Duration::from_secs(3600);

/// Takes one call of the account's hour, or tells how long to wait for one.
///
/// # Errors
/// When the database fails.
pub async fn reserve(
    pool: &PgPool,
    account: &str,
    per_hour: u32,
) -> Result<Result<(), Duration>, sqlx::Error> {
    // The row is the lock under which calls are counted.
    const LOCK: &str = "
        INSERT INTO management_accounts AS it (business_account_id) VALUES ($1)
        ON CONFLICT (business_account_id) DO UPDATE SET resting_until = it.resting_until
        RETURNING greatest(0, extract(epoch FROM resting_until - clock_timestamp()))::float8";
    const FORGET: &str = "
        DELETE FROM management_calls
        WHERE business_account_id = $1 AND called_at <= clock_timestamp() - interval '1 hour'";
    // The one that has to leave the hour first.
    const FULL: &str = "
        SELECT extract(epoch FROM called_at + interval '1 hour' - clock_timestamp())::float8
        FROM management_calls WHERE business_account_id = $1
        ORDER BY called_at DESC OFFSET $2 LIMIT 1";
    const CALL: &str = "INSERT INTO management_calls (business_account_id) VALUES ($1)";
    let seconds = |it: f64| Duration::from_secs_f64(it.max(1.0));
    let mut transaction = pool.begin().await?;
    let rests: f64 = sqlx::query_scalar(LOCK).bind(account).fetch_one(&mut *transaction).await?;
    if rests > 0.0 {
        return Ok(Err(seconds(rests)));
    }
    sqlx::query(FORGET).bind(account).execute(&mut *transaction).await?;
    let before_last = i64::from(per_hour) - 1;
    let full: Option<f64> = sqlx::query_scalar(FULL)
        .bind(account)
        .bind(before_last)
        .fetch_optional(&mut *transaction)
        .await?;
    if let Some(wait) = full {
        return Ok(Err(seconds(wait)));
    }
    sqlx::query(CALL).bind(account).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Ok(()))
}

/// Lets the account rest: the provider said that it called too often.
///
/// # Errors
/// When the database fails.
pub async fn rest(pool: &PgPool, account: &str) -> Result<(), sqlx::Error> {
    const HOLD: &str = "
        INSERT INTO management_accounts (business_account_id, resting_until)
        VALUES ($1, clock_timestamp() + make_interval(secs => $2))
        ON CONFLICT (business_account_id) DO UPDATE SET resting_until = EXCLUDED.resting_until";
    sqlx::query(HOLD).bind(account).bind(REST.as_secs_f64()).execute(pool).await.map(|_| ())
}
