//! The doctor's look at what must stay secret: key files that are there, closed to others and of one mind, and tokens
//! that somebody knows. It says names and files, never what is in them.

use std::path::PathBuf;
use std::sync::Arc;

use assent_http::auth::Keys;
use assent_runtime::{Ids, Section, Settings, SystemIds};
use assent_sealing::{IndexKeys, KekConfig, KekError};
use secrecy::{ExposeSecret as _, SecretString};

use super::finding::Finding;
use crate::serve::Service;

/// Looks at the key files and tokens of the services.
pub fn look(settings: &Settings, services: &[Service]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in services.iter().filter(|it| matches!(it, Service::Vault | Service::Messaging)) {
        findings.extend(files(settings, *service));
    }
    if [Service::Vault, Service::Messaging].iter().all(|it| services.contains(it)) {
        findings.extend(index_keys(settings));
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
    let (kek, modules) = kek(&section);
    let index_keys = section.optional::<PathBuf>("index_keys_file");
    let answers =
        [kek, index_keys.map(|path| IndexKeys::load(&path).map(drop).map_err(KekError::from))];
    let all_configured = answers.iter().all(Option::is_some);
    let wrong: Vec<Finding> = answers
        .into_iter()
        .flatten()
        .filter_map(Result::err)
        .map(|error| Finding::wrong(&check, error.to_string(), remedy(&error)))
        .collect();
    match (wrong.is_empty(), all_configured, modules) {
        (false, ..) => wrong,
        (true, true, Kept::File) => vec![Finding::ok(check, "there, and closed to others")],
        (true, true, Kept::Module) => {
            vec![Finding::ok(
                check,
                "there, closed to others; the wrapping key stays in its module",
            )]
        }
        (true, true, Kept::Both) => vec![Finding::ok(
            check,
            format!(
                "there, closed to others; a module and kek_file hold wrapping keys: `assent keys rewrap {0}`, and take \
                 out of the settings what `assent keys status {0}` shows no key for",
                service.name()
            ),
        )],
        (true, false, _) => vec![Finding::unknown(check, "a key file isn't configured")],
    }
}

/// Whether messaging hashes addresses as the vault does; none where both files aren't here, or one can't be read.
fn index_keys(settings: &Settings) -> Option<Finding> {
    let load = |service: Service| {
        let path = settings.section(service.name()).optional::<PathBuf>("index_keys_file")?;
        IndexKeys::load(&path).ok()
    };
    let (vault, messaging) = (load(Service::Vault)?, load(Service::Messaging)?);
    let check = "index keys";
    Some(if messaging.has_addresses_of(&vault) {
        Finding::ok(check, "messaging has the address keys of the vault")
    } else {
        Finding::wrong(
            check,
            "messaging and the vault have other [[address]] keys, or use them otherwise: a stop may not be found",
            "bring the [[address]] tables of the vault's file into messaging's, in their order; `assent keys change` takes \
             both files at once",
        )
    })
}

/// Where the wrapping key is kept.
enum Kept {
    File,
    Module,
    Both,
}

/// Whether the wrapping key can be used: a key in a module seals and opens something.
fn kek(section: &Section) -> (Option<Result<(), KekError>>, Kept) {
    let named = ["kek_file", "kek_module"].map(|key| section.optional::<PathBuf>(key).is_some());
    if named == [false, false] {
        return (None, Kept::File);
    }
    let kept = match named {
        [_, false] => Kept::File,
        [false, true] => Kept::Module,
        [true, true] => Kept::Both,
    };
    // What is set by halves is said by the look at the settings.
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let usable = KekConfig::read(section).map(|kek| kek.open(&ids).and_then(|keks| keks.look()));
    (usable, kept)
}

fn remedy(error: &KekError) -> &'static str {
    match error {
        KekError::File(_) => {
            "bring the file of `assent keys init` there, mode 600; never make a second one in its place: what the \
             first one sealed would be lost"
        }
        KekError::Module { .. } => {
            "kek_module is the vendor's shared library, for this machine's architecture and libc; a static binary \
             loads none"
        }
        KekError::Token { .. } => {
            "kek_token is the token's label; look with `pkcs11-tool --module MODULE --list-slots` whether this user \
             sees it"
        }
        KekError::Login { .. } => {
            "write the PIN of the token's user into kek_pin_file, mode 600, before it is tried too often: tokens lock \
             themselves"
        }
        KekError::Key { .. } => {
            "kek_label is the label of one AES-256 key that may not leave its token; `assent keys generate` makes it"
        }
        KekError::Call(_) => "look at the module's own log, and whether it is reachable from here",
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
    fn messaging_must_have_the_index_keys_of_the_vault() {
        let folder = std::env::temp_dir().join(format!("assent-doctor-{}", SystemIds.v4()));
        std::fs::create_dir(&folder).unwrap();
        let files = ["vault.toml", "messaging.toml"].map(|name| folder.join(name));
        let keys = IndexKeys::generate(&SystemIds);
        keys.write(&files[0]).unwrap();
        let [vault, messaging] = files.each_ref().map(|path| path.display());
        let text = format!(
            "[vault]\nindex_keys_file = \"{vault}\"\n[messaging]\nindex_keys_file = \"{messaging}\"\n"
        );
        let settings = Settings::from_parts(&text, []).unwrap();
        let state = || index_keys(&settings).map(|finding| finding.state);
        assert_eq!(state(), None, "said by the look at the files");
        keys.write_address_only(&files[1]).unwrap();
        assert_eq!(state(), Some(State::Ok));
        IndexKeys::add(&files[..1], &SystemIds).unwrap();
        assert_eq!(state(), Some(State::Wrong));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_not_configured_is_not_well() {
        let settings = Settings::from_parts("", []).unwrap();
        let states: Vec<State> =
            files(&settings, Service::Vault).iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Unknown]);
    }
}
