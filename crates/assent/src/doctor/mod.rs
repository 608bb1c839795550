//! `assent doctor`: what is wrong with a deployment, seen from where a service would run. It guarantees
//! to change nothing and to end within seconds a check; putting it right is the operator's.

mod calls;
mod databases;
mod finding;
mod kafka;
mod keys;

use assent_runtime::{ConfigError, LeaseTerms, Settings};
use clap::Args;

use self::finding::{Finding, State, count, text};
use crate::migrate::DATABASES;
use crate::outcome::{Failure, Output, Status};
use crate::serve::{ConfigFile, Plan, Service, read_shared};

/// Arguments of `assent doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent doctor --config /etc/assent/assent.toml
  assent doctor consent --json

Reads what `assent serve` with the same configuration reads, and looks at: the configuration, key files
and tokens, databases (reachable, schema, clock), Kafka (reachable, topics), and the services that are
called. It changes nothing. Run it where the service runs: another machine reaches other things. Kafka's
version isn't told to clients, so it isn't looked at.

Exit status: 0 nothing is wrong, 1 something is.")]
pub struct Doctor {
    /// Only what these services need [default: all]
    #[arg(value_name = "SERVICE")]
    services: Vec<Service>,
    #[command(flatten)]
    config: ConfigFile,
}

impl Doctor {
    /// Runs it. Whatever is wrong is a finding, so there are no errors.
    pub async fn run(&self, output: Output) -> Status {
        let findings = self.look().await;
        let wrong = count(&findings, State::Wrong);
        let result = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "wrong": wrong,
            "checks": &findings,
        });
        output.print(&result, |_| text(&findings));
        if wrong == 0 { Status::Done } else { Status::Refused }
    }

    async fn look(&self) -> Vec<Finding> {
        let settings = match self.config.load() {
            Ok(settings) => settings,
            Err(Failure { message, .. }) => {
                let remedy = "name a TOML file with --config or ASSENT_CONFIG";
                return vec![Finding::wrong("configuration", message, remedy)];
            }
        };
        let services =
            if self.services.is_empty() { Service::ALL.to_vec() } else { self.services.clone() };
        let mut findings = configuration(&settings, &services);
        let terms = LeaseTerms::read(&settings);
        findings.extend(keys::look(&settings, &services));
        for database in DATABASES.into_iter().filter(|it| services.contains(&it.service)) {
            findings.extend(databases::look(&settings, database, terms).await);
        }
        if DATABASES.iter().any(|database| services.contains(&database.service)) {
            findings.extend(kafka::look(&settings, &services).await);
        }
        findings.extend(calls::look(&settings, &services).await);
        findings
    }
}

/// What is wrong with the configuration itself.
fn configuration(settings: &Settings, services: &[Service]) -> Vec<Finding> {
    for service in services {
        // What is missing is recorded in the settings.
        let _ = Plan::read(*service, settings);
    }
    let _ = read_shared(settings);
    match settings.finish() {
        Ok(()) => {
            let names: Vec<&str> = services.iter().map(|service| service.name()).collect();
            vec![Finding::ok("configuration", names.join(", "))]
        }
        Err(errors) => errors.0.iter().map(setting).collect(),
    }
}

/// One error of the configuration.
fn setting(error: &ConfigError) -> Finding {
    let remedy = match &error.variable {
        _ if error.problem.starts_with("unknown") => "correct the name, or take it out".to_owned(),
        Some(variable) if error.problem.starts_with("is missing") => {
            format!("set it in the file, or by {variable}")
        }
        Some(variable) => format!("correct it in the file, or in {variable} if that is set"),
        None => "correct the file".to_owned(),
    };
    Finding::wrong("configuration", format!("{}: {}", error.place, error.problem), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_setting_and_a_missing_one_are_named() {
        let text = "[gateway]\nlisten = \"127.0.0.1:1\"\nops_listne = \"127.0.0.1:2\"";
        let settings = Settings::from_parts(text, []).unwrap();
        let findings = configuration(&settings, &[Service::Gateway]);
        let said: Vec<&str> = findings.iter().map(|finding| finding.says.as_str()).collect();
        assert!(
            said.iter().any(|it| it.starts_with("gateway.ops_listne: unknown key")),
            "{said:?}"
        );
        assert!(said.contains(&"gateway.ops_listen: is missing"), "{said:?}");
        assert!(findings.iter().all(|it| it.state == State::Wrong && it.remedy.is_some()));
    }

    /// As `serve` reads it.
    #[test]
    fn a_setting_of_telemetry_is_looked_at() {
        let settings = Settings::from_parts("[telemetry]\nsample_ratio = 2.0", []).unwrap();
        let findings = configuration(&settings, &[]);
        assert!(findings.iter().any(|it| it.says.starts_with("telemetry.sample_ratio")));
    }
}
