//! What the service must be told, read once at start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use assent_runtime::Settings;
use assent_sealing::LinkKey;
use secrecy::SecretString;

/// The settings of the console.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the pages are.
    pub listen: SocketAddr,
    /// Where the operations port listens.
    pub ops_listen: SocketAddr,
    /// What the console shows to the services.
    pub token: SecretString,
    /// The legal entity in whose name people are asked.
    pub controller: String,
    /// The pages' address as people see it, without a trailing slash.
    pub public_url: String,
    /// The business number that people write to: E.164.
    pub whatsapp_number: String,
    /// Opens links; the consent service has the same key.
    pub links: Arc<LinkKey>,
    /// The consent service.
    pub consent_url: String,
    /// The messaging service.
    pub messaging_url: String,
    /// The erasure service.
    pub erasure_url: String,
}

impl Config {
    /// Reads `[console]` and what it shares with others; what is wrong is recorded in the settings,
    /// and then the answer is `None`.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Self> {
        let own = settings.section("console");
        let services = settings.section("services");
        let listen = own.required("listen");
        let ops_listen = own.required("ops_listen");
        let token = own.optional_secret("token").or_else(|| services.secret("token"));
        let controller = settings.section("controller").required("name");
        let public_url: Option<String> = services.required("public_url");
        let whatsapp_number: Option<String> = own.required("whatsapp_number");
        let whatsapp_number = whatsapp_number.filter(|number| {
            let digits = number.strip_prefix('+').unwrap_or(number);
            let fits =
                (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            if !fits {
                own.invalid("whatsapp_number", "must be E.164, such as +33612345678");
            }
            fits
        });
        let links = own.required::<PathBuf>("link_key_file").and_then(|path| {
            LinkKey::load(&path)
                .map_err(|error| own.invalid("link_key_file", error.to_string()))
                .ok()
        });
        let consent_url = services.required("consent_url");
        let messaging_url = services.required("messaging_url");
        let erasure_url = services.required("erasure_url");
        Some(Self {
            listen: listen?,
            ops_listen: ops_listen?,
            token: token?,
            controller: controller?,
            public_url: public_url?.trim_end_matches('/').to_owned(),
            whatsapp_number: whatsapp_number?,
            links: Arc::new(links?),
            consent_url: consent_url?,
            messaging_url: messaging_url?,
            erasure_url: erasure_url?,
        })
    }
}
