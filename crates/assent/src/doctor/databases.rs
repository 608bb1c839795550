//! The doctor's look at a database: does it answer, has it the tables of this build, does its clock agree with
//! ours, and does the log of a key store's server let go of destroyed keys.

use std::io::ErrorKind;
use std::time::Duration;

use assent_eventstore::connect_options;
use assent_eventstore::schema::{Standing, standing};
use assent_runtime::{Clock as _, LeaseTerms, Settings, SystemClock};
use assent_sealing::wal::keeps_segments;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection};

use super::finding::Finding;
use crate::migrate::Database;

/// How long a database may take to let one in and answer everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at one database.
pub async fn look(settings: &Settings, database: Database, terms: LeaseTerms) -> Vec<Finding> {
    let name = database.name();
    let check = |what: &str| format!("{name} {what}");
    let Some(address) = database.address(settings) else {
        return vec![Finding::unknown(check("database"), "its address isn't configured")];
    };
    let place = database.setting();
    let looked = tokio::time::timeout(PATIENCE, ask(address.expose_secret(), database, terms));
    match looked.await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
        Ok(findings) => findings,
        Err(error) => {
            let (says, remedy) = trouble(&error, &place);
            let unseen = "the database isn't reached";
            let mut findings = vec![
                Finding::wrong(check("database"), says, remedy),
                Finding::unknown(check("schema"), unseen),
                Finding::unknown(check("clock"), unseen),
            ];
            if database.holds_keys() {
                findings.push(Finding::unknown(check("log"), unseen));
            }
            findings
        }
    }
}

async fn ask(
    address: &str,
    database: Database,
    terms: LeaseTerms,
) -> Result<Vec<Finding>, sqlx::Error> {
    let check = |what: &str| format!("{} {what}", database.name());
    let mut connection = PgConnection::connect_with(&connect_options(address)?).await?;
    let version: String =
        sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
    let reached = Finding::ok(check("database"), format!("Postgres {version}"));
    let schema = match standing(&mut connection, &database.migrators()).await {
        Ok(standing) => schema(&check("schema"), database.service.name(), &standing),
        Err(error) => Finding::wrong(check("schema"), error.to_string(), CHECK_RIGHTS),
    };
    let clock = match clock(&mut connection).await {
        Ok(skew) => agreement(&check("clock"), skew, terms),
        Err(error) => Finding::wrong(check("clock"), error.to_string(), CHECK_RIGHTS),
    };
    let mut findings = vec![reached, schema, clock];
    if database.holds_keys() {
        findings.push(match keeps_segments(&mut connection).await {
            Ok(keeps) => log(&check("log"), keeps.as_deref()),
            Err(error) => Finding::wrong(check("log"), error.to_string(), CHECK_RIGHTS),
        });
    }
    Ok(findings)
}

/// Segments that are used again, or kept, hold the bytes of destroyed keys beyond the date on certificates.
fn log(check: &str, keeps: Option<&str>) -> Finding {
    match keeps {
        None => {
            Finding::ok(check, "segments of the write-ahead log go, and destroyed keys with them")
        }
        Some(setting) => {
            let value = if setting == "wal_recycle" { "off" } else { "0" };
            Finding::wrong(
                check,
                format!("{setting} keeps destroyed keys in the write-ahead log"),
                format!("set {setting} = {value} on the key store's server"),
            )
        }
    }
}

const CHECK_RIGHTS: &str = "let its user read its own tables";
const TLS: &str = "look at PGSSLMODE, PGSSLROOTCERT and the server's certificate";

/// What an error of connecting means, and what to do. No address with a password is told.
fn trouble(error: &sqlx::Error, place: &str) -> (String, String) {
    let (says, remedy) = match error {
        sqlx::Error::Database(error) => {
            let remedy = match error.code().as_deref() {
                Some("28P01") => format!("correct the user or the password in {place}"),
                // A server that takes TLS only.
                Some("28000") if error.message().ends_with("no encryption") => TLS.to_owned(),
                Some("28000") => format!("let the user in (pg_hba.conf), or correct {place}"),
                Some("3D000") => "run `assent migrate`, which makes the database".to_owned(),
                Some("53300") => {
                    "give the server more connections, or the services fewer".to_owned()
                }
                Some("57P03") => "wait until the server has started".to_owned(),
                _ => format!("look at the server's log, and at {place}"),
            };
            (error.message().to_owned(), remedy)
        }
        // What TLS refuses of the other side, a certificate above all, comes as data that are invalid.
        sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
            (format!("no TLS: {error}"), TLS.to_owned())
        }
        sqlx::Error::Io(error) => {
            let says = format!("nobody answers: {error}");
            (says, format!("start Postgres, or correct host and port in {place}"))
        }
        sqlx::Error::PoolTimedOut => {
            let says = format!("no answer within {} s", PATIENCE.as_secs());
            (says, format!("look for a firewall between, or correct host and port in {place}"))
        }
        sqlx::Error::Tls(error) => (format!("no TLS: {error}"), TLS.to_owned()),
        sqlx::Error::Configuration(_) => {
            ("this is no Postgres address".to_owned(), format!("correct {place}"))
        }
        error => (error.to_string(), format!("look at the server's log, and at {place}")),
    };
    (says, remedy)
}

fn schema(check: &str, service: &str, standing: &Standing) -> Finding {
    let says = standing.to_string();
    let remedy = if !standing.changed.is_empty() {
        "this build's migrations are not those that were run: install the build that ran them"
            .to_owned()
    } else if !standing.missing.is_empty() {
        format!("run `assent migrate {service}`")
    } else if !standing.newer.is_empty() {
        return Finding::ok(
            check,
            format!("{says}: a newer build was here, which this one may run beside"),
        );
    } else {
        return Finding::ok(check, says);
    };
    Finding::wrong(check, says, remedy)
}

/// How far the database's clock is ahead of ours, as far as it can't be the way between.
async fn clock(connection: &mut PgConnection) -> Result<SignedDuration, sqlx::Error> {
    let before = SystemClock.now();
    let text: String = sqlx::query_scalar(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    )
    .fetch_one(connection)
    .await?;
    let there = text.parse().map_err(|_| sqlx::Error::Protocol("no time".to_owned()))?;
    Ok(skew(before, there, SystemClock.now()))
}

/// Zero while the other clock may have been asked between our two looks.
fn skew(before: Timestamp, there: Timestamp, after: Timestamp) -> SignedDuration {
    if there < before {
        there.duration_since(before)
    } else if there > after {
        there.duration_since(after)
    } else {
        SignedDuration::ZERO
    }
}

/// A lease is measured on elapsed time and needs no clocks that agree; what is recorded of it, and
/// what people read, does.
fn agreement(check: &str, skew: SignedDuration, terms: LeaseTerms) -> Finding {
    let (off, lease) = (skew.unsigned_abs(), terms.length);
    if off <= lease {
        return Finding::ok(check, format!("within {} ms of this machine's", lease.as_millis()));
    }
    let way = if skew.is_negative() { "behind" } else { "ahead of" };
    let says = format!(
        "{} ms {way} this machine's clock, more than a lease ({} ms)",
        off.as_millis(),
        lease.as_millis()
    );
    Finding::wrong(check, says, "let both machines set their clocks by NTP")
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn the_way_between_is_no_skew() {
        assert_eq!(skew(at(100), at(150), at(400)), SignedDuration::ZERO);
        assert_eq!(skew(at(100), at(450), at(400)), SignedDuration::from_millis(50));
        assert_eq!(skew(at(100), at(40), at(400)), SignedDuration::from_millis(-60));
    }

    #[test]
    fn more_than_a_lease_is_wrong() {
        let judged = |millis| {
            let skew = SignedDuration::from_millis(millis);
            agreement("clock", skew, LeaseTerms::default())
        };
        assert_eq!((judged(1000).state, judged(-1000).state), (State::Ok, State::Ok));
        assert_eq!((judged(1001).state, judged(-1001).state), (State::Wrong, State::Wrong));
        assert!(judged(-1001).says.contains("1001 ms behind"), "{}", judged(-1001).says);
    }

    #[test]
    fn a_schema_says_what_to_do() {
        let judged = |missing: &[&str], newer: &[&str], changed: &[&str]| {
            let list = |it: &[&str]| it.iter().map(ToString::to_string).collect();
            let standing =
                Standing { missing: list(missing), newer: list(newer), changed: list(changed) };
            schema("schema", "consent", &standing)
        };
        let remedy = |missing, newer, changed| judged(missing, newer, changed).remedy;
        assert_eq!(remedy(&[], &[], &[]), None);
        assert_eq!(remedy(&["m:2"], &[], &[]).unwrap(), "run `assent migrate consent`");
        assert!(remedy(&["m:2"], &[], &["m:1"]).unwrap().contains("build that ran them"));
        // The build before may run beside a newer one, or come back.
        let newer = judged(&[], &["m:9"], &[]);
        assert!(newer.state == State::Ok && newer.says.contains("newer migrations m:9"));
    }
}
