//! The doctor's look at what must stay secret: key files that are there and closed to others, and tokens
//! that somebody knows. It says names and files, never what is in them.

use std::path::PathBuf;
use std::sync::Arc;

use assent_http::auth::Keys;
use assent_runtime::{Settings, SystemIds};
use assent_sealing::{FileKek, IndexKeys};
use secrecy::{ExposeSecret as _, SecretString};

use super::finding::Finding;
use crate::serve::Service;

/// Looks at the key files and tokens of the services.
pub fn look(settings: &Settings, services: &[Service]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in services.iter().filter(|it| matches!(it, Service::Vault | Service::Messaging)) {
        findings.extend(files(settings, *service));
    }
    let Some(keys) = Keys::read(settings) else { return findings };
    for service in services {
        if let Some(token) = token(settings, *service) {
            findings.push(caller(
                *service,
                keys.caller(token.expose_secret()).as_ref().map(|it| it.name()),
            ));
        }
    }
    findings
}

/// What a service shows to others; the gateway shows nothing of its own.
pub fn token(settings: &Settings, service: Service) -> Option<SecretString> {
    if service == Service::Gateway {
        return None;
    }
    let own = settings.section(service.name()).optional_secret("token");
    own.or_else(|| settings.section("services").optional_secret("token"))
}

fn files(settings: &Settings, service: Service) -> Vec<Finding> {
    let section = settings.section(service.name());
    let check = format!("{} keys", service.name());
    let answers = [
        section
            .optional::<PathBuf>("kek_file")
            .map(|path| FileKek::load(&path, Arc::new(SystemIds)).map(drop)),
        section.optional::<PathBuf>("index_keys_file").map(|path| IndexKeys::load(&path).map(drop)),
    ];
    let all_configured = answers.iter().all(Option::is_some);
    let wrong: Vec<Finding> = answers
        .into_iter()
        .flatten()
        .filter_map(Result::err)
        .map(|error| {
            let remedy = "bring the file of `assent keys init` there, mode 600; never make a second \
                          one in its place: what the first one sealed would be lost";
            Finding::wrong(&check, error.to_string(), remedy)
        })
        .collect();
    match (wrong.is_empty(), all_configured) {
        (false, _) => wrong,
        (true, true) => vec![Finding::ok(check, "there, and closed to others")],
        (true, false) => vec![Finding::unknown(check, "a key file isn't configured")],
    }
}

/// Whether the token is one of the callers' file, and of this service.
fn caller(service: Service, found: Option<&str>) -> Finding {
    let name = service.name();
    let check = format!("{name} token");
    match found {
        Some(found) if found == name => Finding::ok(check, "known to callers.toml"),
        // They acknowledge no erasure, so a token that is shared does.
        Some(found) if matches!(service, Service::Console | Service::Erasure) => {
            Finding::ok(check, format!("known to callers.toml, as {found:?}"))
        }
        Some(found) => Finding::wrong(
            check,
            format!("the token is that of {found:?}: erasures are answered by name"),
            format!("give it a token of its own: [{name}] token"),
        ),
        None => Finding::wrong(
            check,
            "the token isn't in [auth] keys_file: others will refuse it",
            "take token and callers.toml from the same `assent keys init`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_token_is_known_and_its_own() {
        assert_eq!(caller(Service::Vault, Some("vault")).state, State::Ok);
        assert!(caller(Service::Vault, Some("consent")).says.contains("consent"));
        assert_eq!(caller(Service::Vault, None).state, State::Wrong);
        for service in [Service::Console, Service::Erasure] {
            assert_eq!(caller(service, Some("services")).state, State::Ok);
        }
    }

    #[test]
    fn a_file_that_is_not_configured_is_not_well() {
        let settings = Settings::from_parts("", []).unwrap();
        let states: Vec<State> =
            files(&settings, Service::Vault).iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Unknown]);
    }
}
