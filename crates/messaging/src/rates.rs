//! How fast a number may send. It guarantees that all dispatchers of the deployment share one rate, that
//! whoever is told to come back later has used nothing of it, and that what is called keeps the rate also where what was
//! reserved in time is ready late.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

/// What may be called together, in seconds of the rate. The provider lends one: a quarter is left for the way to it.
const LENT: f64 = 0.75;

/// What a reservation got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// It may send after so long.
    After(Duration),
    /// The number rests for longer than can be waited for.
    Resting(Duration),
}

/// The share of the rate that is used now: it doubles every minute after it was slowed.
macro_rules! share {
    () => {
        "least(1, rate.slowness * 2 ^ least(20, coalesce(
             extract(epoch FROM clock_timestamp() - rate.slowed_at) / 60, 20)))::float8"
    };
}

/// Reserves `count` sends of a number, if the first of them may go out within `wait_max`.
///
/// # Errors
/// When the database fails.
pub async fn reserve(
    pool: &PgPool,
    phone_number_id: &str,
    count: usize,
    per_second: u32,
    wait_max: Duration,
) -> Result<Reserved, sqlx::Error> {
    const RESERVE: &str = concat!(
        "INSERT INTO send_rates AS rate (phone_number_id, next_at)
         VALUES ($1, clock_timestamp() + make_interval(secs => $2))
         ON CONFLICT (phone_number_id) DO UPDATE
             SET next_at = greatest(rate.next_at, clock_timestamp()) + make_interval(secs => $2 / ",
        share!(),
        ")
         WHERE rate.next_at <= clock_timestamp() + make_interval(secs => $3)
         RETURNING extract(epoch FROM next_at - clock_timestamp())::float8 - $2 / ",
        share!()
    );
    const RESTS: &str = "
        SELECT extract(epoch FROM next_at - clock_timestamp())::float8 FROM send_rates
        WHERE phone_number_id = $1";
    let seconds = |seconds: f64| Duration::from_secs_f64(seconds.max(0.0));
    let cost = count as f64 / f64::from(per_second);
    let wait: Option<f64> = sqlx::query_scalar(RESERVE)
        .bind(phone_number_id)
        .bind(cost)
        .bind(wait_max.as_secs_f64())
        .fetch_optional(pool)
        .await?;
    match wait {
        Some(wait) => Ok(Reserved::After(seconds(wait))),
        None => {
            let rests = sqlx::query_scalar(RESTS).bind(phone_number_id).fetch_one(pool).await?;
            Ok(Reserved::Resting(seconds(rests)))
        }
    }
}

/// Counts `count` calls of what was reserved before, just before they are made, if they may be made within `wait_max`.
/// Gives after how long; none: not in time, and nothing is used. What is ready in time waits for nothing but what people
/// wrote meanwhile.
///
/// How far the number was slowed is the reservation's.
///
/// # Errors
/// When the database fails.
pub async fn call(
    pool: &PgPool,
    phone_number_id: &str,
    count: usize,
    per_second: u32,
    wait_max: Duration,
) -> Result<Option<Duration>, sqlx::Error> {
    const CALL: &str = "
        INSERT INTO send_rates AS rate (phone_number_id, next_at, called_until)
        VALUES ($1, clock_timestamp(), clock_timestamp() + make_interval(secs => $2))
        ON CONFLICT (phone_number_id) DO UPDATE
            SET called_until = greatest(rate.called_until, clock_timestamp()) + make_interval(secs => $2)
            WHERE greatest(rate.called_until, clock_timestamp()) + make_interval(secs => $2)
                  <= clock_timestamp() + make_interval(secs => $3::float8 + $4::float8)
        RETURNING extract(epoch FROM called_until - clock_timestamp())::float8 - $3::float8";
    let cost = count as f64 / f64::from(per_second);
    let wait: Option<f64> = sqlx::query_scalar(CALL)
        .bind(phone_number_id)
        .bind(cost)
        // A message that costs more than that alone goes out alone.
        .bind(cost.max(LENT))
        .bind(wait_max.as_secs_f64())
        .fetch_optional(pool)
        .await?;
    Ok(wait.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
}

/// Messages that people wrote count into the number's rate: the provider counts both ways together.
///
/// # Errors
/// When the database fails.
pub async fn heard(
    pool: &PgPool,
    phone_number_id: &str,
    count: usize,
    per_second: u32,
) -> Result<(), sqlx::Error> {
    const HEARD: &str = "
        INSERT INTO send_rates AS rate (phone_number_id, next_at, called_until)
        VALUES ($1, clock_timestamp() + make_interval(secs => $2), clock_timestamp() + make_interval(secs => $2))
        ON CONFLICT (phone_number_id) DO UPDATE
            SET next_at = greatest(rate.next_at, clock_timestamp()) + make_interval(secs => $2),
                called_until = greatest(rate.called_until, clock_timestamp()) + make_interval(secs => $2)";
    sqlx::query(HEARD)
        .bind(phone_number_id)
        .bind(count as f64 / f64::from(per_second))
        .execute(pool)
        .await
        .map(|_| ())
}

/// Lets a number rest for `pause`.
///
/// # Errors
/// When the database fails.
pub async fn hold_back(
    conn: &mut PgConnection,
    phone_number_id: &str,
    pause: Duration,
) -> Result<(), sqlx::Error> {
    const HOLD: &str = "
        INSERT INTO send_rates AS rate (phone_number_id, next_at)
        VALUES ($1, clock_timestamp() + make_interval(secs => $2))
        ON CONFLICT (phone_number_id) DO UPDATE
            SET next_at = greatest(rate.next_at, clock_timestamp() + make_interval(secs => $2))";
    sqlx::query(HOLD)
        .bind(phone_number_id)
        .bind(pause.as_secs_f64())
        .execute(conn)
        .await
        .map(|_| ())
}

/// Halves what a number uses of its rate, down to a sixty-fourth; once a second at most, for the messages of
/// a batch hear it together.
///
/// # Errors
/// When the database fails.
pub async fn slow(conn: &mut PgConnection, phone_number_id: &str) -> Result<(), sqlx::Error> {
    const SLOW: &str = concat!(
        "INSERT INTO send_rates AS rate (phone_number_id, next_at, slowness, slowed_at)
         VALUES ($1, clock_timestamp(), 0.5, clock_timestamp())
         ON CONFLICT (phone_number_id) DO UPDATE
             SET slowness = greatest(",
        share!(),
        " / 2, 1.0 / 64), slowed_at = clock_timestamp()
             WHERE rate.slowed_at IS NULL OR rate.slowed_at < clock_timestamp() - interval '1 second'"
    );
    sqlx::query(SLOW).bind(phone_number_id).execute(conn).await.map(|_| ())
}
