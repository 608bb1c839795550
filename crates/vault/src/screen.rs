//! `POST /v1/screenings`: may the people of a list be messaged, and why not? It guarantees that
//! nothing of the list is kept, that whoever asks is on record before the answer, how much one
//! caller may ask in an hour, and that the erased can't be told from those who never consented,
//! except by a caller who may see suppressions. The verdict is the gate's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{Decision, VerdictAsk, VerdictsRequest, VerdictsResponse};
use assent_contracts::api::vault::{ScreenRequest, ScreenResponse, ScreenRow, ScreenedRow};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Listing, Page, Problem, Query};
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::error::VaultError;
use crate::import::busy;
use crate::people::{self, Barred};
use crate::phone::{self, Phone};

/// Most rows of one request.
const ROWS_MAX: usize = 2_000;
/// Over which span a caller's rows are counted.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// The number belongs to another country than the row says.
const WRONG_COUNTRY: &str = "wrong_country";
/// The number can't be one of a mobile phone.
const NOT_MOBILE: &str = "not_mobile";
/// What those are told who may not know that somebody is barred.
const NO_CONSENT: &str = "no_consent";

/// Say of each row of a list whether it may be messaged.
///
/// Needs `screening:run`. Nothing of the rows is kept; who asked, for which purpose and about how
/// many is (`GET /v1/screenings`). Without `suppression:read` an erased or suppressed person reads
/// `no_consent`. Beyond the rows that a caller may screen in an hour it answers 429.
#[utoipa::path(
    post, path = "/v1/screenings", tag = "screenings", security(("bearer" = [])),
    request_body = ScreenRequest,
    responses((status = 200, body = ScreenResponse),
        (status = 404, description = "purpose_unknown"),
        (status = 422, description = "channel_unknown; validation_failed: more than 2,000 rows"),
        (status = 429, description = "rate_limited: more rows than this caller may screen in an hour"),
        (status = 503, description = "dependency_unavailable"))
)]
pub(crate) async fn screen(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<ScreenRequest>,
) -> Result<Json<ScreenResponse>, Problem> {
    caller.require("screening:run")?;
    if request.rows.len() > ROWS_MAX {
        return Err(
            Problem::new(Code::ValidationFailed).detail(format!("at most {ROWS_MAX} rows at once"))
        );
    }
    to_the_end(async move {
        let ScreenRequest { screening_id, purpose, channel, rows } = request;
        let count = rows.len();
        let reader = Arc::clone(&app);
        let rows = busy(move || read_rows(&reader, rows)).await;
        let mut screened = judge(&app, &purpose, &channel, screening_id, rows).await?;
        if !caller.has("suppression:read") {
            screened.iter_mut().for_each(conceal);
        }
        let record = Asked { screening_id, caller: caller.name(), purpose, channel, rows: count };
        put_on_record(&app, &record).await?;
        Ok(Json(ScreenResponse { rows: screened }))
    })
    .await
}

/// A number of the list, as far as it is looked for.
struct Number {
    /// Tokens of all its spellings.
    tokens: Vec<AddressToken>,
    marks: Vec<assent_sealing::Fingerprint>,
    /// What is wrong with the row whoever has the number.
    flaws: Vec<&'static str>,
}

type ReadRow = Result<Number, phone::Invalid>;

fn read_rows(app: &App, rows: Vec<ScreenRow>) -> Vec<ReadRow> {
    let read = |row: ScreenRow| {
        let text = Zeroizing::new(row.phone);
        let phone = phone::parse(&text, row.country.as_deref())?;
        let tokens = app.addresses.all(&phone.e164);
        Ok(Number {
            marks: people::marks(app.fingerprints.all(&phone.e164), &tokens),
            tokens,
            flaws: flaws(&phone, row.country.as_deref()),
        })
    };
    rows.into_iter().map(read).collect()
}

fn flaws(phone: &Phone, country: Option<&str>) -> Vec<&'static str> {
    let country = country.map(str::trim).filter(|country| !country.is_empty());
    let elsewhere = country
        .zip(phone.region.as_deref())
        .is_some_and(|(country, region)| !country.eq_ignore_ascii_case(region));
    let mut flaws = Vec::new();
    if elsewhere {
        flaws.push(WRONG_COUNTRY);
    }
    if phone.is_never_mobile() {
        flaws.push(NOT_MOBILE);
    }
    flaws
}

async fn judge(
    app: &App,
    purpose: &str,
    channel: &str,
    screening_id: Uuid,
    rows: Vec<ReadRow>,
) -> Result<Vec<ScreenedRow>, Problem> {
    let numbers: Vec<&Number> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
    // One ask for each number, however often it stands there.
    let mut places: HashMap<AddressToken, usize> = HashMap::with_capacity(numbers.len());
    let mut distinct: Vec<&Number> = Vec::with_capacity(numbers.len());
    for &number in &numbers {
        places.entry(number.tokens[0]).or_insert_with(|| {
            distinct.push(number);
            distinct.len() - 1
        });
    }
    let tokens: Vec<AddressToken> =
        distinct.iter().flat_map(|number| number.tokens.iter().copied()).collect();
    let marks: Vec<_> = distinct.iter().flat_map(|number| number.marks.iter().copied()).collect();
    let known = people::known(app.pool(), &tokens).await?;
    let barred = people::barred(app.pool(), &marks, Timestamp::UNIX_EPOCH).await?;

    let asks = distinct.iter().map(|number| {
        let known = number.tokens.iter().find_map(|token| known.get(token));
        match known {
            Some(known) => VerdictAsk { subject_id: Some(known.subject), addresses: Vec::new() },
            None => VerdictAsk { subject_id: None, addresses: number.tokens.clone() },
        }
    });
    let request = VerdictsRequest {
        purpose: purpose.to_owned(),
        channel: channel.to_owned(),
        asks: asks.collect(),
    };
    let answer: VerdictsResponse =
        app.consent.post("/v1/verdicts", &request, None).await.map_err(|error| {
            match error.code() {
                Some(code @ (Code::PurposeUnknown | Code::ChannelUnknown)) => Problem::new(code),
                _ => VaultError::Service("consent", error).into(),
            }
        })?;
    if answer.verdicts.len() != distinct.len() {
        return Err(Problem::internal("the gate answered for another number of asks"));
    }

    let row = |row: &ReadRow| match row {
        Err(invalid) => ScreenedRow {
            verdict: Decision::Deny,
            reasons: vec![invalid.reason().to_owned()],
            field: Some(invalid.field().to_owned()),
            number: None,
        },
        Ok(number) => {
            let verdict = &answer.verdicts[places[&number.tokens[0]]];
            let bar = number.marks.iter().filter_map(|it| barred.get(it)).max();
            let bar = bar.copied().map(Barred::reason);
            let mut reasons: BTreeSet<&str> = number.flaws.iter().copied().chain(bar).collect();
            let said = verdict.reasons.iter().map(String::as_str);
            // About the erased one fixed answer, whatever else is known.
            if bar != Some(Barred::Erased.reason())
                && (verdict.verdict == Decision::Deny || reasons.is_empty())
            {
                reasons.extend(said);
            }
            let denied =
                verdict.verdict == Decision::Deny || bar.is_some() || !number.flaws.is_empty();
            ScreenedRow {
                verdict: if denied { Decision::Deny } else { Decision::Allow },
                reasons: reasons.into_iter().map(str::to_owned).collect(),
                field: None,
                number: Some(alias(screening_id, &number.tokens[0])),
            }
        }
    };
    Ok(rows.iter().map(row).collect())
}

/// Stands for a number within one screening, so that the caller finds it again further down; in
/// another screening it has another.
fn alias(screening_id: Uuid, token: &AddressToken) -> String {
    let (high, _) = Uuid::new_v5(&screening_id, &token.to_bytes()).as_u64_pair();
    format!("{high:016x}")
}

/// Takes out what only some may know, and leaves what would be said of somebody who never
/// consented.
fn conceal(row: &mut ScreenedRow) {
    let secret = |reason: &String| reason == "erased" || reason == "suppressed";
    if !row.reasons.iter().any(secret) {
        return;
    }
    row.reasons.retain(|reason| !secret(reason));
    if row.reasons.iter().all(|reason| reason == WRONG_COUNTRY || reason == NOT_MOBILE) {
        row.reasons.push(NO_CONSENT.to_owned());
        row.reasons.sort_unstable();
    }
}

struct Asked<'a> {
    screening_id: Uuid,
    caller: &'a str,
    purpose: String,
    channel: String,
    rows: usize,
}

/// Notes who asked, or refuses: a caller's requests are counted one after the other.
async fn put_on_record(app: &App, asked: &Asked<'_>) -> Result<(), Problem> {
    const SPENT: &str = "
        SELECT coalesce(sum(rows), 0)::bigint, min(at) FROM screenings WHERE caller = $1 AND at > $2";
    const RECORD: &str = "
        INSERT INTO screenings (id, at, screening_id, caller, purpose, channel, rows)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let rows = i64::try_from(asked.rows).unwrap_or(i64::MAX);
    let mut tx = app.pool().begin().await.map_err(VaultError::from)?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("screening {}", asked.caller))
        .execute(&mut *tx)
        .await
        .map_err(VaultError::from)?;
    let now = app.clock.now();
    let spent = sqlx::query(SPENT)
        .bind(asked.caller)
        .bind((now - WINDOW).to_sqlx())
        .fetch_one(&mut *tx)
        .await
        .map_err(VaultError::from)?;
    let count: i64 = spent.try_get(0).map_err(VaultError::from)?;
    let first: Option<jiff_sqlx::Timestamp> = spent.try_get(1).map_err(VaultError::from)?;
    if count.saturating_add(rows) > app.screening_rows_per_hour {
        let free_at = first.map_or(now, |first| first.to_jiff()) + WINDOW;
        let wait = u32::try_from(free_at.duration_since(now).as_secs()).unwrap_or(0).max(1);
        return Err(Problem::new(Code::RateLimited)
            .detail(format!(
                "at most {} rows may be screened in an hour",
                app.screening_rows_per_hour
            ))
            .retry_after(wait));
    }
    sqlx::query(RECORD)
        .bind(app.ids.v7())
        .bind(now.to_sqlx())
        .bind(asked.screening_id)
        .bind(asked.caller)
        .bind(&asked.purpose)
        .bind(&asked.channel)
        .bind(rows)
        .execute(&mut *tx)
        .await
        .map_err(VaultError::from)?;
    tx.commit().await.map_err(VaultError::from)?;
    Ok(())
}

/// A screening that was done.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Screening {
    /// Its id, as the caller gave it.
    pub screening_id: Uuid,
    /// The name of the caller's key.
    pub caller: String,
    /// For which purpose.
    pub purpose: String,
    /// On which channel.
    pub channel: String,
    /// When its first rows were asked about.
    pub began_at: Timestamp,
    /// When its last ones were.
    pub ended_at: Timestamp,
    /// About how many rows.
    pub rows: i64,
}

/// List screenings by id: who asked about how many, when, and for what.
///
/// Two callers who gave the same id are two screenings. Needs `subjects:resolve`, like the access
/// records.
#[utoipa::path(
    get, path = "/v1/screenings", tag = "screenings", security(("bearer" = [])), params(Page),
    responses((status = 200, body = Listing<Screening>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<Screening>>, Problem> {
    const LIST: &str = "
        SELECT screening_id, caller, purpose, channel, min(at), max(at), sum(rows)::bigint
        FROM screenings WHERE (screening_id, caller, purpose, channel) > ($1, $2, $3, $4)
        GROUP BY screening_id, caller, purpose, channel
        ORDER BY screening_id, caller, purpose, channel LIMIT $5";
    caller.require("subjects:resolve")?;
    let (id, name, purpose, channel) =
        page.after::<(Uuid, String, String, String)>()?.unwrap_or_default();
    let rows = sqlx::query(LIST)
        .bind(id)
        .bind(name)
        .bind(purpose)
        .bind(channel)
        .bind(page.limit() as i64 + 1)
        .fetch_all(app.pool())
        .await
        .map_err(VaultError::from)?;
    let screening = |row: &sqlx::postgres::PgRow| {
        let time = |index| row.try_get::<jiff_sqlx::Timestamp, _>(index).map(|it| it.to_jiff());
        Ok(Screening {
            screening_id: row.try_get(0)?,
            caller: row.try_get(1)?,
            purpose: row.try_get(2)?,
            channel: row.try_get(3)?,
            began_at: time(4)?,
            ended_at: time(5)?,
            rows: row.try_get(6)?,
        })
    };
    let screenings: Result<Vec<_>, sqlx::Error> = rows.iter().map(screening).collect();
    let screenings = screenings.map_err(VaultError::from)?;
    Ok(Json(Listing::cut(screenings, page.limit(), |last| {
        let Screening { screening_id, caller, purpose, channel, .. } = last;
        (*screening_id, caller.clone(), purpose.clone(), channel.clone())
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screened(reasons: &[&str]) -> ScreenedRow {
        ScreenedRow {
            verdict: Decision::Deny,
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            field: None,
            number: None,
        }
    }

    #[test]
    fn what_is_barred_reads_as_no_consent() {
        for (reasons, told) in [
            (&["erased"][..], &["no_consent"][..]),
            (&["no_consent", "suppressed"], &["no_consent"]),
            (&["consent_withdrawn", "suppressed"], &["consent_withdrawn"]),
            (&["consent_withdrawn"], &["consent_withdrawn"]),
            (&["not_mobile", "suppressed"], &["no_consent", "not_mobile"]),
        ] {
            let mut row = screened(reasons);
            conceal(&mut row);
            assert_eq!(row.reasons, told);
        }
    }

    #[test]
    fn an_alias_means_nothing_in_another_screening() {
        let token = AddressToken { key_id: 1, mac: [7; 32] };
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(alias(first, &token), alias(first, &token));
        assert_ne!(alias(first, &token), alias(second, &token));
    }

    #[test]
    fn a_row_of_another_country_and_a_land_line_are_flawed() {
        let flaws_of = |text, country| flaws(&phone::parse(text, country).ok().unwrap(), country);
        assert_eq!(flaws_of("+33612345678", Some("fr")), [""; 0]);
        assert_eq!(flaws_of("+33612345678", None), [""; 0]);
        assert_eq!(flaws_of("+33612345678", Some("DE")), ["wrong_country"]);
        assert_eq!(flaws_of("+33145678901", Some("FR")), ["not_mobile"]);
        // A range that the numbering plan doesn't know may be a mobile one.
        assert_eq!(flaws_of("+33639980001", Some("FR")), [""; 0]);
    }
}
