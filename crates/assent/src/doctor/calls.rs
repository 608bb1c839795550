//! The doctor's look at the services that are called: is that the service, and does it know our token.

use std::time::Duration;

use assent_http::{ClientError, Code, ServiceClient};
use assent_runtime::Settings;
use serde::de::IgnoredAny;

use super::finding::Finding;
use super::keys::token;
use crate::serve::Service;

/// How long a service may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at each service that is called, with the token of the first that calls.
pub async fn look(
    settings: &Settings,
    services: &[Service],
    called: &[&'static str],
) -> Vec<Finding> {
    // The gateway passes on what its callers show.
    let shown = services.iter().find_map(|service| token(settings, *service));
    let token = shown.unwrap_or_else(|| String::new().into());
    let mut findings = Vec::new();
    for name in called {
        let check = format!("calls to {name}");
        let url = settings.section("services").optional::<String>(&format!("{name}_url"));
        let Some(url) = url else {
            findings.push(Finding::unknown(check, "its address isn't configured"));
            continue;
        };
        let answer = match ServiceClient::with_timeout(&url, &token, PATIENCE) {
            Ok(client) => client.get::<IgnoredAny>(own_path(name)).await.map(drop),
            Err(error) => Err(error),
        };
        findings.push(judge(&check, name, &url, answer));
    }
    findings
}

/// A path that only this service has.
fn own_path(service: &str) -> &'static str {
    match service {
        "consent" => "/v1/purposes",
        "vault" => "/v1/screenings",
        "messaging" => "/v1/sender",
        "erasure" => "/v1/participants",
        _ => "/v1/projections",
    }
}

fn judge(check: &str, name: &str, url: &str, answer: Result<(), ClientError>) -> Finding {
    let place = format!("[services] {name}_url");
    match answer {
        Ok(()) => Finding::ok(check, url),
        Err(ClientError::Setup(problem)) => {
            Finding::wrong(check, problem, format!("correct {place}"))
        }
        Err(error) => match error.code() {
            Some(Code::Unauthenticated) => Finding::wrong(
                check,
                format!("{url} doesn't know our token"),
                "give all services the callers.toml of the same `assent keys init`, and restart them",
            ),
            Some(Code::NotFound) => Finding::wrong(
                check,
                format!("{url} is there, and is not the {name} service"),
                format!("correct {place}"),
            ),
            // Whether it may do what it will ask for is said by its scopes, when it asks.
            Some(_) => Finding::ok(check, url),
            None => Finding::wrong(
                check,
                format!("{url}: {error}"),
                format!("start it, or correct {place}"),
            ),
        },
    }
}
