//! The doctor's look at the services that are called: is that the service, and does it know our token.

use std::time::Duration;

use assent_http::{ClientError, Code, ServiceClient};
use assent_runtime::Settings;
use futures_util::future::join_all;
use secrecy::SecretString;
use serde::de::IgnoredAny;

use super::finding::Finding;
use super::keys::token;
use crate::gateway::UPSTREAMS;
use crate::serve::{Plan, Service};

/// How long a service may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at each service that one of these calls, with the caller's token. All at once: the ones that
/// don't answer are waited for together.
pub async fn look(settings: &Settings, services: &[Service]) -> Vec<Finding> {
    let mut calls = Vec::new();
    for caller in services {
        for called in called_by(*caller) {
            let url = settings.section("services").optional::<String>(&format!("{called}_url"));
            let token = token(settings, *caller);
            calls.push(call(*caller, called, url, token));
        }
    }
    join_all(calls).await
}

/// The services that a service calls, by the addresses that it asks for.
fn called_by(service: Service) -> impl Iterator<Item = &'static str> {
    let blank = Settings::default();
    // What is missing is nobody's mistake here.
    let _ = Plan::read(service, &blank);
    let asked = blank.variables();
    let asks =
        move |name: &&str| asked.contains(&format!("ASSENT_SERVICES_{}_URL", name.to_uppercase()));
    UPSTREAMS.into_iter().filter(asks)
}

async fn call(
    caller: Service,
    called: &'static str,
    url: Option<String>,
    token: Option<SecretString>,
) -> Finding {
    let check = format!("{} calls {called}", caller.name());
    let Some(url) = url else {
        return Finding::unknown(check, "its address isn't configured");
    };
    // The gateway passes on what its callers show: that somebody refuses it is all that it can see.
    let shows = caller != Service::Gateway;
    if shows && token.is_none() {
        return Finding::unknown(check, "its token isn't configured");
    }
    let token = token.unwrap_or_else(|| String::new().into());
    let answer = match ServiceClient::with_timeout(&url, &token, PATIENCE) {
        Ok(client) => client.get::<IgnoredAny>(own_path(called)).await.map(drop),
        Err(error) => Err(error),
    };
    judge(&check, called, &url, shows, answer)
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

fn judge(
    check: &str,
    name: &str,
    url: &str,
    shows: bool,
    answer: Result<(), ClientError>,
) -> Finding {
    let place = format!("[services] {name}_url");
    match answer {
        Ok(()) => Finding::ok(check, url),
        Err(ClientError::Setup(problem)) => {
            Finding::wrong(check, problem, format!("correct {place}"))
        }
        Err(error) => match error.code() {
            // Whether it may do what it will ask for is said by its scopes, when it asks.
            Some(Code::Forbidden) => Finding::ok(check, url),
            Some(Code::Unauthenticated) if !shows => Finding::ok(check, url),
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
            Some(_) => Finding::wrong(
                check,
                format!("{url}: {error}"),
                format!("run `assent doctor {name}` where it runs, and look at its log"),
            ),
            None => Finding::wrong(
                check,
                format!("{url}: {error}"),
                format!("start it, or correct {place}"),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn only_what_a_service_calls_is_looked_at() {
        assert_eq!(called_by(Service::Projector).collect::<Vec<_>>(), ["erasure"]);
        assert_eq!(called_by(Service::Gateway).collect::<Vec<_>>(), UPSTREAMS);
    }

    #[test]
    fn only_an_answer_and_a_missing_scope_are_well() {
        let judged = |code: Code, shows| {
            let answer = ClientError::Problem {
                status: code.status(),
                code: Some(code.name().to_owned()),
                detail: None,
                body: serde_json::Value::Null,
            };
            judge("check", "vault", "http://v", shows, Err(answer)).state
        };
        assert_eq!(judge("check", "vault", "http://v", true, Ok(())).state, State::Ok);
        assert_eq!(judged(Code::Forbidden, true), State::Ok);
        assert_eq!(judged(Code::Unauthenticated, true), State::Wrong);
        // The gateway has no token of its own.
        assert_eq!(judged(Code::Unauthenticated, false), State::Ok);
        for code in
            [Code::NotFound, Code::Internal, Code::DependencyUnavailable, Code::MethodNotAllowed]
        {
            assert_eq!(judged(code, true), State::Wrong, "{}", code.name());
        }
    }
}
