//! How a connection to Kafka is protected and how we show who we are. It guarantees that a password
//! goes only over TLS whose server was verified, and that no secret is printed; who may do what is
//! the broker's to say.

use std::path::PathBuf;

use assent_runtime::Section;
use rdkafka::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};

const ONLY_TLS: &str = "goes with security = \"tls\" only: set that, or leave this out";
const NO_PASSWORD: &str = "is missing for sasl_user (it may also be given as the path of a file, \
                           with _file), or empty";

/// The protection of every connection.
#[derive(Debug, Clone)]
pub enum Security {
    /// None: for a network that nobody else is on.
    Plaintext,
    /// TLS. The server's certificate must be for the name that we call it by.
    Tls {
        /// Who must have signed it (PEM); none: an authority that the system trusts.
        authority: Option<PathBuf>,
        /// Who we are; none: nobody asks.
        user: Option<User>,
    },
}

/// A user of the broker, known by SCRAM-SHA-512 (RFC 5802; the server never learns the password).
#[derive(Debug, Clone)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password. Never printed.
    pub password: SecretString,
}

impl Security {
    /// Reads it from `[kafka]`; what is wrong is recorded in the settings, and then the answer is
    /// `None`.
    #[must_use]
    pub fn read(section: &Section) -> Option<Self> {
        let kind = section.default("security", "plaintext".to_owned());
        let authority = section.optional::<PathBuf>("tls_ca_file");
        let name = section.optional::<String>("sasl_user").filter(|name| !name.is_empty());
        let password = section.optional_secret("sasl_password");
        match kind.as_str() {
            "plaintext" => {
                let given = [
                    ("tls_ca_file", authority.is_some()),
                    ("sasl_user", name.is_some()),
                    ("sasl_password", password.is_some()),
                ];
                for (key, _) in given.iter().filter(|(_, given)| *given) {
                    section.invalid(key, ONLY_TLS);
                }
                given.iter().all(|(_, given)| !given).then_some(Self::Plaintext)
            }
            "tls" => {
                let authority = match authority {
                    Some(path) => Some(certificates(section, path)?),
                    None => None,
                };
                let user = match (name, password) {
                    (Some(name), Some(password)) => Some(User { name, password }),
                    (None, None) => None,
                    (Some(_), None) => {
                        section.invalid("sasl_password", NO_PASSWORD);
                        return None;
                    }
                    (None, Some(_)) => {
                        section.invalid("sasl_user", "is missing: whose is sasl_password?");
                        return None;
                    }
                };
                Some(Self::Tls { authority, user })
            }
            _ => {
                section.invalid("security", "is \"plaintext\" or \"tls\"");
                None
            }
        }
    }

    /// Puts it into a client's settings.
    pub(crate) fn apply(&self, client: &mut ClientConfig) {
        let Self::Tls { authority, user } = self else { return };
        client
            .set("security.protocol", if user.is_some() { "sasl_ssl" } else { "ssl" })
            .set("enable.ssl.certificate.verification", "true")
            .set("ssl.endpoint.identification.algorithm", "https");
        // By its path, so that a client that is made later reads what is there by then. Without
        // one, the client looks where systems keep the authorities that they trust.
        let authority = authority.as_ref().map(|path| path.display().to_string());
        client.set("ssl.ca.location", authority.as_deref().unwrap_or("probe"));
        if let Some(User { name, password }) = user {
            client
                .set("sasl.mechanism", "SCRAM-SHA-512")
                .set("sasl.username", name)
                .set("sasl.password", password.expose_secret());
        }
    }
}

/// The path, if a certificate is there: else every client would fail later, one by one.
fn certificates(section: &Section, path: PathBuf) -> Option<PathBuf> {
    let text = section.file("tls_ca_file")?;
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Some(path);
    }
    let problem = format!("{} holds no certificate (PEM)", path.display());
    section.invalid("tls_ca_file", problem);
    None
}

#[cfg(test)]
mod tests {
    use assent_runtime::{ConfigErrors, Settings};

    use super::*;
    use crate::BusConfig;

    const PASSWORD: &str = "hush-4711";

    fn read(lines: &str) -> Result<BusConfig, ConfigErrors> {
        let text = format!("[kafka]\nbrokers = \"127.0.0.1:1\"\n{lines}");
        let settings = Settings::from_parts(&text, []).unwrap();
        let config = BusConfig::read(&settings);
        settings.finish()?;
        Ok(config.expect("what has no error is there"))
    }

    fn wrong(lines: &str) -> Vec<(String, String)> {
        let errors = read(lines).map(drop).expect_err("it contradicts itself").0;
        let errors = errors.into_iter().map(|error| (error.place, error.problem));
        let errors: Vec<_> = errors.collect();
        assert!(errors.iter().all(|(_, problem)| !problem.contains(PASSWORD)), "{errors:?}");
        errors
    }

    fn places(lines: &str) -> Vec<String> {
        wrong(lines).into_iter().map(|(place, _)| place).collect()
    }

    fn authority(text: &str) -> (PathBuf, String) {
        let name = format!("assent-authority-{}-{}", std::process::id(), text.len());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let line = format!("tls_ca_file = \"{}\"\n", path.display());
        (path, line)
    }

    #[test]
    fn without_settings_it_is_plaintext() {
        let client = read("").unwrap().client();
        assert_eq!(client.get("security.protocol"), None);
        assert_eq!(client.get("sasl.mechanism"), None);
    }

    #[test]
    fn a_user_logs_in_over_verified_tls_only() {
        let (path, line) = authority("-----BEGIN CERTIFICATE-----\nMIIB\n");
        let user = format!("sasl_user = \"consent\"\nsasl_password = \"{PASSWORD}\"\n");
        let config = read(&format!("security = \"tls\"\n{line}{user}")).unwrap();
        let client = config.client();
        for (key, value) in [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "consent"),
            ("sasl.password", PASSWORD),
            ("enable.ssl.certificate.verification", "true"),
            ("ssl.endpoint.identification.algorithm", "https"),
            ("ssl.ca.location", path.to_str().unwrap()),
        ] {
            assert_eq!(client.get(key), Some(value), "{key}");
        }
        for printed in [format!("{config:?}"), format!("{client:?}")] {
            assert!(!printed.contains(PASSWORD), "{printed}");
        }
        let client = read("security = \"tls\"").unwrap().client();
        assert_eq!(client.get("security.protocol"), Some("ssl"));
        assert_eq!(client.get("ssl.ca.location"), Some("probe"));
        std::fs::remove_file(path).unwrap();
    }

    /// A password would go over the wire in the clear's company: nothing is sent until that is settled.
    #[test]
    fn what_needs_tls_is_refused_without() {
        let (path, line) = authority("-----BEGIN CERTIFICATE-----\nMIIBIB\n");
        let user = format!("sasl_user = \"consent\"\nsasl_password = \"{PASSWORD}\"\n");
        let all = ["kafka.sasl_password", "kafka.sasl_user", "kafka.tls_ca_file"];
        assert_eq!(places(&format!("{line}{user}")), all);
        let said = wrong(&format!("security = \"plaintext\"\n{user}"));
        assert!(said.iter().all(|(_, problem)| problem.contains("security = \"tls\"")), "{said:?}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn half_a_user_is_none() {
        let tls = "security = \"tls\"\n";
        assert_eq!(places(&format!("{tls}sasl_user = \"consent\"")), ["kafka.sasl_password"]);
        let alone = format!("{tls}sasl_password = \"{PASSWORD}\"");
        assert_eq!(places(&alone), ["kafka.sasl_user"]);
        let empty = format!("{tls}sasl_user = \"consent\"\nsasl_password = \"\"");
        assert_eq!(places(&empty), ["kafka.sasl_password"]);
    }

    #[test]
    fn an_authority_is_a_certificate_that_can_be_read() {
        let said = wrong("security = \"tls\"\ntls_ca_file = \"/nowhere/ca.crt\"");
        assert!(said[0].1.contains("can't read /nowhere/ca.crt"), "{said:?}");
        let (path, line) = authority("not PEM");
        let said = wrong(&format!("security = \"tls\"\n{line}"));
        assert!(said[0].1.contains("holds no certificate"), "{said:?}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn security_is_one_of_two() {
        let said = wrong("security = \"ssl\"");
        assert_eq!(
            said[0],
            ("kafka.security".to_owned(), "is \"plaintext\" or \"tls\"".to_owned())
        );
    }
}
