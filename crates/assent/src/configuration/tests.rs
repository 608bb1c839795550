//! The reference against the code: nothing read is undescribed, and no example is refused.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::*;
use crate::cli::Cli;
use crate::commands::keys;

#[test]
fn every_option_that_is_read_is_described_and_no_other() {
    let options = options().unwrap_or_else(|faults| panic!("options.toml:\n{faults}"));
    for (section, of_section) in &options {
        for (key, option) in of_section {
            for text in [&option.said.unit, &option.said.example, &option.said.meaning] {
                // A bar would end a cell of the table.
                assert!(
                    !text.trim().is_empty() && !text.contains('|'),
                    "{section}.{key}: {text:?}"
                );
            }
            let says_none = option.said.meaning.contains("None:");
            assert_eq!(
                says_none,
                option.presence == Presence::Optional,
                "{section}.{key}: says what its absence means, if it may be absent"
            );
        }
    }
    // What is asked for only beside something else.
    let secret = &options["messaging"]["bot_engine_secret"];
    assert_eq!((&secret.presence, secret.may_be_file), (&Presence::Required, true));
    assert_eq!(options["lease"]["length_ms"].presence, Presence::Default("1000".to_owned()));
    assert_eq!(options["services"]["token"].presence, Presence::Optional);
}

/// An example that the reader refuses would lead whoever copies it astray.
#[test]
fn all_examples_together_are_a_configuration() {
    let place = Place::new();
    let described = options().unwrap();
    let mut environment = Vec::new();
    for (section, of_section) in &described {
        for (key, option) in of_section {
            let example = option.said.example.replace("/etc/assent", place.0.to_str().unwrap());
            let key = if option.may_be_file { format!("{key}_file") } else { key.clone() };
            if option.may_be_file && !Path::new(&example).exists() {
                place.write(&example, "a secret");
            }
            environment.push((variable(section, &key), example));
        }
    }
    let settings = Settings::from_parts("", environment).unwrap();
    let plans = Service::ALL.map(|service| Plan::read(service, &settings));
    let _ = read_shared(&settings);
    assert_eq!(settings.finish(), Ok(()));
    assert!(plans.iter().all(Option::is_some));
}

#[test]
fn the_page_names_each_variable_and_each_default() {
    let page = page::reference(&options().unwrap(), &Cli::command());
    for part in [
        "| `length_ms` | `ASSENT_LEASE_LENGTH_MS` | `1000` | ms | `1000` |",
        "| `database_url`, `database_url_file` | `ASSENT_VAULT_DATABASE_URL`, `ASSENT_VAULT_DATABASE_URL_FILE` | required |",
        "| `ASSENT_URL` | `--url` |",
        "Read by consent, console, erasure, messaging.",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

/// What stands for `/etc/assent`; gone when dropped.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!(
            "assent-options-{}",
            assent_runtime::Ids::v4(&assent_runtime::SystemIds)
        ));
        keys::init(&dir.join("keys"), false).unwrap();
        let place = Self(dir);
        for folder in ["rules", "bot"] {
            std::fs::create_dir(place.0.join(folder)).unwrap();
        }
        let bot = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/bot"));
        for file in std::fs::read_dir(bot).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), place.0.join("bot").join(file.file_name())).unwrap();
        }
        let authority = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
        place.write(place.0.join("kafka/ca.pem"), authority);
        place
    }

    fn write(&self, path: impl AsRef<Path>, content: &str) {
        std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
