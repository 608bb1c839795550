//! What the service must be told, read once at start.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::BusConfig;
use assent_contracts::api::consent::{CONSENT_REQUEST, STOP_CONFIRMATION};
use assent_http::Keys;
use assent_runtime::{LeaseTerms, Section, ServiceConfig, Settings};
use assent_sealing::KekConfig;
use jiff::SignedDuration;
use secrecy::SecretString;

use crate::bot::files;
use crate::domain::asks::Asks;
use crate::domain::bot::flows::{Around, Bot};
use crate::domain::confirmation::Confirmations;
use crate::domain::limits::{Caps, Ceilings, Prices};
use crate::domain::stop::Words;

/// Longest that the engine may take: a person waits.
const ENGINE_TIMEOUT_MAX: Duration = Duration::from_secs(20);

/// The settings of the messaging service.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens, its database, its token.
    pub service: ServiceConfig,
    /// The database of the hourly keys, which is never part of a data backup.
    pub keys_database_url: SecretString,
    /// The key-encryption key above the hourly keys.
    pub kek: KekConfig,
    /// The keys of the address index; the vault has the same.
    pub index_keys_file: PathBuf,
    /// Keys the hashes of idempotency keys.
    pub idempotency_secret: SecretString,
    /// Kafka.
    pub bus: BusConfig,
    /// Who may call.
    pub keys: Arc<Keys>,
    /// The lease.
    pub terms: LeaseTerms,
    /// The legal entity in whose name messages go out.
    pub controller: String,
    /// The consent service.
    pub consent_url: String,
    /// The vault.
    pub vault_url: String,
    /// The erasure service.
    pub erasure_url: String,
    /// The read models.
    pub projector_url: String,
    /// The WhatsApp number and how to reach the provider.
    pub whatsapp: WhatsApp,
    /// How messages go out.
    pub sending: Sending,
    /// How many may.
    pub limits: Limits,
    /// How campaigns run.
    pub campaigns: Campaigns,
    /// The words that count as a stop or a start.
    pub words: Words,
    /// The purpose that a start agrees to.
    pub start_purpose: String,
    /// The purposes under which marketing templates go out. A message of another purpose with such a
    /// template needs her consent to the first of these as well.
    pub marketing_purposes: Vec<String>,
    /// What the one confirmation after a stop says.
    pub stop_confirmation: Confirmations,
    /// Conversations and the bot.
    pub conversations: Conversations,
}

/// How people are answered.
#[derive(Debug, Clone)]
pub struct Conversations {
    /// The purpose of answers, which each person must have agreed to.
    pub purpose: String,
    /// For how many days what was written is kept.
    pub retention_days: u16,
    /// The bot; none: humans answer.
    pub bot: Option<Arc<Bot>>,
    /// The team's own engine, which answers what the bot's flows don't.
    pub engine: Option<EngineConfig>,
}

impl Default for Conversations {
    fn default() -> Self {
        Self { purpose: "service".to_owned(), retention_days: 365, bot: None, engine: None }
    }
}

/// The team's own engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where it is asked.
    pub url: String,
    /// Signs what it is asked.
    pub secret: SecretString,
    /// How long it may take.
    pub timeout: Duration,
}

impl Conversations {
    fn read(own: &Section, controller: Option<&str>, words: &Words) -> Option<Self> {
        let default = Self::default();
        let retention_days = own.default("conversation_retention_days", default.retention_days);
        if retention_days == 0 {
            own.invalid("conversation_retention_days", "must be at least 1");
        }
        let engine = own.optional::<String>("bot_engine_url").and_then(|url| {
            if !is_private(&url) {
                own.invalid("bot_engine_url", "must be https, or http to this machine");
            }
            let secret = own.secret("bot_engine_secret")?;
            let timeout = own.millis("bot_engine_timeout_ms", Duration::from_secs(5));
            if timeout > ENGINE_TIMEOUT_MAX {
                own.invalid("bot_engine_timeout_ms", "must be at most 20000");
            }
            Some(EngineConfig { url, secret, timeout })
        });
        let bot = match own.optional::<PathBuf>("bot_flows") {
            None => None,
            Some(dir) => {
                let around = Around { controller: controller?, words, engine: engine.is_some() };
                let built = files::load(&dir, around).map_err(|faults| {
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    own.invalid("bot_flows", faults.join("; "));
                });
                Some(Arc::new(built.ok()?))
            }
        };
        if bot.is_none() && engine.is_some() {
            own.invalid("bot_engine_url", "needs bot_flows: the disclosure stands there");
        }
        let purpose = own.default("conversation_purpose", default.purpose);
        if ["", STOP_CONFIRMATION, CONSENT_REQUEST].contains(&purpose.as_str()) {
            own.invalid("conversation_purpose", "must be a purpose of the policy");
        }
        Some(Self { purpose, retention_days, bot, engine })
    }
}

/// The phrases that ask for something about her data.
fn asks(own: &Section) -> Asks {
    let without = own.default("request_phrases_without", String::new());
    let with = own.default("request_phrases_with", String::new());
    let asks = Asks::standard().without(without.split(','));
    asks.clone().with(&with).unwrap_or_else(|error| {
        own.invalid("request_phrases_with", error);
        asks
    })
}

/// Whether what she wrote can be read on its way there by nobody else.
fn is_private(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default();
    let is_here = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|it: IpAddr| it.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

/// The provider as configured.
#[derive(Debug, Clone)]
pub struct WhatsApp {
    /// Base address, such as `https://graph.facebook.com`.
    pub base_url: String,
    /// Version, such as `v26.0`.
    pub version: String,
    /// The number's id at the provider.
    pub phone_number_id: String,
    /// The number itself, in digits; none: news of the quality of any number of the account counts as its own.
    pub number: Option<String>,
    /// The business account that the number belongs to; none: its templates are not listed.
    pub business_account_id: Option<String>,
    /// The app at the provider; none: no examples are uploaded to it.
    pub app_id: Option<String>,
    /// Calls of the management API in an hour (200; 5,000 for an account with active numbers).
    pub management_per_hour: u32,
    /// Authorises calls.
    pub access_token: SecretString,
    /// Signs webhooks.
    pub app_secret: SecretString,
    /// The one that signed them before, while it is being rotated.
    pub previous_app_secret: Option<SecretString>,
    /// Answers the webhook's verification.
    pub verify_token: SecretString,
    /// How long a call may take.
    pub timeout: Duration,
}

/// The dispatcher's limits.
#[derive(Debug, Clone, Copy)]
pub struct Sending {
    /// Messages per second of the number, inbound ones not counted (80 unless raised).
    pub per_second: u32,
    /// Batches that are under way at the same time.
    pub batches: usize,
    /// How long a message is put off while the gate can't say (consent or vault not reachable, address not linked yet)
    /// before that becomes its visible end.
    pub gate_patience: Duration,
    /// The same for a provider that can't be reached or asks to wait.
    pub provider_patience: Duration,
    /// How long webhooks are waited for to tell whether a message went out, before somebody is to find out.
    pub outcome_patience: Duration,
    /// How long a claim lasts; also how long after its call began an intent without outcome is taken
    /// for lost.
    pub claim: Duration,
    /// After so long without a message of hers a number may be somebody else's.
    pub silence: Duration,
}

/// Numbers are given to others after 45 days to a year, by country.
const SILENCE_DAYS: u32 = 180;

const fn days(days: u32) -> Duration {
    Duration::from_secs(86_400 * days as u64)
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            per_second: 80,
            batches: 4,
            gate_patience: Duration::from_secs(30),
            provider_patience: Duration::from_secs(6 * 3600),
            outcome_patience: Duration::from_secs(3600),
            claim: Duration::from_secs(30),
            silence: days(SILENCE_DAYS),
        }
    }
}

/// How many messages may go out.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// To one person for one purpose.
    pub caps: Caps,
    /// From the number.
    pub ceilings: Ceilings,
}

impl Limits {
    fn read(own: &Section) -> Self {
        let read = |key: &str, error: String| own.invalid(key, error);
        let caps = Caps::parse(&own.default("caps", String::new()));
        let ramp_up = Ceilings::parse_ramp_up(&own.default("ramp_up", String::new()));
        Self {
            caps: caps.map_err(|error| read("caps", error)).unwrap_or_default(),
            ceilings: Ceilings {
                daily: own.optional("daily_ceiling"),
                ramp_up: ramp_up.map_err(|error| read("ramp_up", error)).unwrap_or_default(),
                people: own.optional("people_per_day"),
            },
        }
    }
}

/// How campaigns run.
#[derive(Debug, Clone)]
pub struct Campaigns {
    /// Above so many people a campaign wants somebody else's approval.
    pub approval_above: u64,
    /// When one pauses by itself.
    pub pausing: Pausing,
    /// What messages cost.
    pub prices: Prices,
    /// For how long they cost nothing once a person who came by an advertisement was answered.
    pub free_entry: SignedDuration,
}

/// When a campaign pauses by itself: a share of its messages since somebody let it run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pausing {
    /// How many of its last messages are looked at for failures.
    pub sample: i64,
    /// Fewer say nothing.
    pub least: i64,
    /// More than this share of them failed.
    pub failures_percent: u8,
    /// To more than this share of all its messages people said stop.
    pub stops_percent: u8,
}

impl Default for Campaigns {
    fn default() -> Self {
        Self {
            approval_above: 100,
            pausing: Pausing { sample: 200, least: 20, failures_percent: 20, stops_percent: 5 },
            prices: Prices::default(),
            free_entry: SignedDuration::from_hours(72),
        }
    }
}

impl Campaigns {
    fn read(own: &Section) -> Self {
        let Self { approval_above, pausing, free_entry, .. } = Self::default();
        let free_hours = own.default("free_entry_hours", free_entry.as_hours());
        let prices = Prices::parse(
            &own.default("prices", String::new()),
            own.default("currency", "EUR".to_owned()),
        );
        let pausing = Pausing {
            sample: own.default("pause_sample", pausing.sample),
            least: own.default("pause_least", pausing.least),
            failures_percent: own.default("pause_failures_percent", pausing.failures_percent),
            stops_percent: own.default("pause_stops_percent", pausing.stops_percent),
        };
        if pausing.least < 1 || pausing.sample < pausing.least {
            own.invalid("pause_sample", "must be at least pause_least, which must be at least 1");
        }
        Self {
            approval_above: own.default("approval_above", approval_above),
            pausing,
            prices: prices.map_err(|error| own.invalid("prices", error)).unwrap_or_default(),
            free_entry: SignedDuration::from_hours(free_hours.clamp(0, 24 * 365)),
        }
    }
}

impl Config {
    /// Reads `[messaging]` and what it shares with others; what is wrong is recorded in the settings,
    /// and then the answer is `None`.
    #[must_use]
    pub fn read(settings: &Settings) -> Option<Self> {
        let own = settings.section("messaging");
        let services = settings.section("services");
        let service = ServiceConfig::read(settings, "messaging", 16);
        let keys_database_url = own.secret("keys_database_url");
        let kek = KekConfig::read(&own);
        let index_keys_file = own.required("index_keys_file");
        let idempotency_secret = own.optional_secret("idempotency_secret");
        let bus = BusConfig::read(settings);
        let keys = Keys::read(settings);
        let terms = LeaseTerms::read(settings);
        let controller = settings.section("controller").required::<String>("name");
        let consent_url = services.required("consent_url");
        let vault_url = services.required("vault_url");
        let erasure_url = services.required("erasure_url");
        let projector_url = services.required("projector_url");
        let (limits, campaigns) = (Limits::read(&own), Campaigns::read(&own));
        let base_url = own.required("whatsapp_base_url");
        let version = own.default("whatsapp_version", "v26.0".to_owned());
        let phone_number_id = own.required("phone_number_id");
        let number = own.optional::<String>("phone_number");
        let number = number.map(|it| it.chars().filter(char::is_ascii_digit).collect::<String>());
        if number.as_ref().is_some_and(String::is_empty) {
            own.invalid("phone_number", "must have digits");
        }
        let business_account_id = own.optional("business_account_id");
        let app_id = own.optional("app_id");
        let management_per_hour = own.default("management_per_hour", 200);
        if management_per_hour == 0 {
            own.invalid("management_per_hour", "must be at least 1");
        }
        let access_token = own.secret("access_token");
        let app_secret = own.secret("app_secret");
        let previous_app_secret = own.optional_secret("previous_app_secret");
        let verify_token = own.secret("verify_token");
        let timeout = own.millis("whatsapp_timeout_ms", Duration::from_secs(10));
        let default = Sending::default();
        let sending = Sending {
            per_second: own.default("sends_per_second", default.per_second),
            batches: own.default("send_batches", default.batches),
            gate_patience: own.millis("gate_patience_ms", default.gate_patience),
            provider_patience: own.millis("provider_patience_ms", default.provider_patience),
            outcome_patience: own.millis("outcome_patience_ms", default.outcome_patience),
            claim: own.millis("claim_ms", default.claim),
            silence: days(own.default("number_silence_days", SILENCE_DAYS)),
        };
        if sending.per_second == 0 {
            own.invalid("sends_per_second", "must be at least 1");
        }
        if sending.batches == 0 {
            own.invalid("send_batches", "must be at least 1");
        }
        if sending.claim <= timeout + terms.length {
            own.invalid(
                "claim_ms",
                "must be longer than whatsapp_timeout_ms and the lease together",
            );
        }
        let without = own.default("stop_words_without", String::new());
        let with = own.default("stop_words_with", String::new());
        let words = Words::configured(without.split(','), with.split(',')).asking(asks(&own));
        let start_purpose = own.default("start_purpose", "marketing".to_owned());
        let marketing_purposes: Vec<String> = own
            .default("marketing_purposes", "marketing".to_owned())
            .split(',')
            .map(|purpose| purpose.trim().to_owned())
            .filter(|purpose| !purpose.is_empty())
            .collect();
        if marketing_purposes.is_empty() {
            own.invalid("marketing_purposes", "must name at least one purpose");
        }
        let stop_confirmation = own.optional("stop_confirmation_text");
        let conversations = Conversations::read(&own, controller.as_deref(), &words);
        let (controller, service) = (controller?, service?);
        Some(Self {
            keys_database_url: keys_database_url?,
            kek: kek?,
            index_keys_file: index_keys_file?,
            // The token is as secret and as stable; losing it only forgets first answers.
            idempotency_secret: idempotency_secret.unwrap_or_else(|| service.token.clone()),
            bus: bus?,
            keys: keys?,
            terms,
            stop_confirmation: stop_confirmation
                .map_or_else(|| Confirmations::of(&controller), Confirmations::own),
            controller,
            consent_url: consent_url?,
            vault_url: vault_url?,
            erasure_url: erasure_url?,
            projector_url: projector_url?,
            service,
            whatsapp: WhatsApp {
                base_url: base_url?,
                version,
                phone_number_id: phone_number_id?,
                number,
                business_account_id,
                app_id,
                management_per_hour,
                access_token: access_token?,
                app_secret: app_secret?,
                previous_app_secret,
                verify_token: verify_token?,
                timeout,
            },
            sending,
            limits,
            campaigns,
            words,
            start_purpose,
            marketing_purposes,
            conversations: conversations?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_she_wrote_travels_encrypted_or_not_at_all() {
        for (url, private) in [
            ("https://engine.internal/turns", true),
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080/", true),
            ("http://localhost/turns", true),
            ("http://engine.internal/turns", false),
            ("http://127.0.0.1.example/", false),
            ("ftp://127.0.0.1/", false),
            ("engine", false),
        ] {
            assert_eq!(is_private(url), private, "{url}");
        }
    }
}
