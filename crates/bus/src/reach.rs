//! Whether Kafka lets this process in, and if not, why. It guarantees an answer within a bound that
//! names the cause and no secret; what a client that is in may do there is the broker's to say, and
//! whether a service can do without Kafka is the service's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use assent_contracts::topics::CONSENT_STATE;
use assent_runtime::{Clock as _, Health, Lifecycle, SystemClock};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use crate::config::BusConfig;
use crate::metrics::metrics;

/// How long Kafka may take to answer for the first time.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long one question may take; between two, what the client was told is looked at.
const QUESTION: Duration = Duration::from_millis(500);
/// One try of whoever waits to be let in, and the pause after it. A process that stops waits for the
/// end of one.
const TRY: Duration = Duration::from_secs(2);

/// How long what a client was told is waited for.
const DRAIN: Duration = Duration::from_millis(20);

/// Why Kafka can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unreached {
    /// Kafka is there and refuses us, or we refuse it. Trying again with the same settings is of no use.
    #[error("{why} ({hint}): {said}", why = .cause.why(), hint = .cause.settings())]
    Refused {
        /// What doesn't fit.
        cause: Cause,
        /// The client's own words. They name addresses and mechanisms, never a secret.
        said: String,
    },
    /// Nobody answers.
    #[error("kafka doesn't answer ([kafka] brokers): {0}")]
    Silent(String),
}

/// What doesn't fit between us and Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The user or the password.
    User,
    /// The server's certificate.
    Certificate,
    /// One side speaks TLS, the other doesn't; or one wants a login that the other knows nothing of.
    Protocol,
    /// The client's settings themselves.
    Settings,
}

impl Cause {
    const fn why(self) -> &'static str {
        match self {
            Self::User => "kafka refuses the user or the password",
            Self::Certificate => "kafka's certificate can't be trusted",
            Self::Protocol => "kafka's listener speaks another protocol",
            Self::Settings => "kafka's client refuses its settings",
        }
    }

    /// The settings to look at.
    #[must_use]
    pub const fn settings(self) -> &'static str {
        match self {
            Self::User => "[kafka] sasl_user, sasl_password",
            Self::Certificate => "[kafka] tls_ca_file, and the names in the certificate",
            Self::Protocol => "[kafka] security, sasl_user, and the port in brokers",
            Self::Settings => "[kafka]",
        }
    }
}

/// What a client was told, as far as it says that the same settings will never do.
fn refusal(code: Option<RDKafkaErrorCode>, said: &str) -> Option<Unreached> {
    let cause = match code? {
        // By the code it could be any broken connection.
        _ if said.contains("PLAINTEXT broker listener") => Cause::Protocol,
        RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::Authentication => {
            // A broker that offers no login, or not this one, says so by name.
            if said.contains("handshake") { Cause::Protocol } else { Cause::User }
        }
        RDKafkaErrorCode::SSL => Cause::Certificate,
        RDKafkaErrorCode::UnsupportedSASLMechanism | RDKafkaErrorCode::IllegalSASLState => {
            Cause::Protocol
        }
        _ => return None,
    };
    Some(Unreached::Refused { cause, said: brief(said) })
}

/// Whether the client's log says that Kafka ended a connection before it had answered anything.
fn hung_up(message: &str) -> bool {
    let at_its_first_words = ["in state APIVERSION_QUERY", "in state UP"];
    message.contains("Disconnected") && at_its_first_words.iter().any(|it| message.contains(it))
}

/// Without what the client adds about its own states.
fn brief(said: &str) -> String {
    said.split(" (after ").next().unwrap_or(said).to_owned()
}

/// Listens to what a client is told.
#[derive(Default)]
pub(crate) struct Listener(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    refusal: Option<Unreached>,
    last: Option<String>,
    /// The last word was that Kafka hung up.
    hung_up: bool,
}

impl Heard {
    /// What it comes to when the time is up. A broker that is just stopping hangs up too, but then it
    /// is gone, and that is the last word.
    fn verdict(&mut self) -> Unreached {
        let said = self.last.take().unwrap_or_else(|| "no word from it".to_owned());
        if self.hung_up {
            Unreached::Refused { cause: Cause::Protocol, said }
        } else {
            Unreached::Silent(said)
        }
    }
}

impl ClientContext for Listener {
    /// A listener with TLS hangs up on whoever speaks none, and one with a login on whoever shows none;
    /// the client tells it in its log only.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, message: &str) {
        if hung_up(message) {
            let mut heard = lock(&self.0);
            heard.hung_up = true;
            heard.last = Some(brief(message));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let refusal = refusal(error.rdkafka_error_code(), reason);
        let mut heard = lock(&self.0);
        heard.refusal = heard.refusal.take().or(refusal);
        // That all are down is no reason for it.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            heard.last = Some(brief(reason));
            heard.hung_up = false;
        }
    }
}

impl ConsumerContext for Listener {}

/// A client without a group that Kafka has let in. Blocks.
pub(crate) fn client(
    config: &BusConfig,
    patience: Duration,
) -> Result<BaseConsumer<Listener>, Unreached> {
    let mut settings = config.client();
    settings
        .set("log.connection.close", "true")
        .set("log.thread.name", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    let made = settings.create_with_context(Listener::default());
    let client: BaseConsumer<Listener> = made
        .map_err(|error| Unreached::Refused { cause: Cause::Settings, said: error.to_string() })?;
    let give_up = SystemClock.boottime() + patience;
    // About one topic, be it there or not: the answer about all of a big cluster would be long.
    let topic = config.topic_name(&CONSENT_STATE);
    loop {
        if client.fetch_metadata(Some(&topic), QUESTION).is_ok() {
            return Ok(client);
        }
        listen(&client);
        let mut heard = lock(&client.context().0);
        if let Some(refusal) = heard.refusal.take() {
            return Err(refusal);
        }
        if SystemClock.boottime() >= give_up {
            return Err(heard.verdict());
        }
    }
}

/// Hears what the client was told. One poll ends with the first of it.
fn listen(client: &BaseConsumer<Listener>) {
    let end = SystemClock.boottime() + DRAIN;
    loop {
        let left = end.saturating_sub(SystemClock.boottime());
        // Nothing is subscribed to, so there are no messages.
        let _ = client.poll(left);
        if left.is_zero() {
            return;
        }
    }
}

/// Asks Kafka whether it lets us in.
///
/// # Errors
/// [`Unreached`], after `patience` at the latest (and the half second that one question takes).
pub async fn reach(config: &BusConfig, patience: Duration) -> Result<(), Unreached> {
    let config = config.clone();
    let asked = tokio::task::spawn_blocking(move || client(&config, patience).map(drop)).await;
    asked.unwrap_or_else(|_| Err(Unreached::Silent("the process is stopping".to_owned())))
}

/// Asks until Kafka has let this process in. What it says until then is in the log, and each refusal
/// is counted (`assent.bus.refusals`); no service is less ready for it, unless it
/// [asks for that](Watch::gate).
pub fn watch(config: &BusConfig, lifecycle: &Lifecycle) -> Watch {
    let watch = Watch::default();
    let unready_by = Arc::clone(&watch.unready_by);
    let (config, stopping) = (config.clone(), lifecycle.stopping());
    lifecycle.track(async move {
        let mut said = None;
        while !stopping.is_cancelled() {
            let answer = reach(&config, TRY).await;
            *lock(&unready_by) = unready(&answer);
            let Err(answer) = answer else { return };
            if matches!(answer, Unreached::Refused { .. }) {
                metrics().refusals.add(1, &[]);
            }
            if said.as_ref() != Some(&answer) {
                tracing::error!(%answer, "kafka hasn't let this process in");
            }
            said = Some(answer);
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(TRY) => {}
            }
        }
    });
    watch
}

/// What Kafka said to a process that it hasn't let in yet.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    unready_by: Arc<Mutex<Option<String>>>,
}

impl Watch {
    /// Makes `/readyz` fail while Kafka *refuses* this process and never let it in. Only for a service
    /// that takes nobody's word: who says STOP must be heard whatever Kafka says (G9).
    pub fn gate(&self, health: &Health) {
        let unready_by = Arc::clone(&self.unready_by);
        health.ready_check("kafka", move || {
            let reason = lock(&unready_by).clone();
            std::future::ready(reason.map_or(Ok(()), Err))
        });
    }
}

/// Why a gated process that got this answer, and none that was better, isn't ready.
fn unready(answer: &Result<(), Unreached>) -> Option<String> {
    answer
        .as_ref()
        .err()
        .filter(|answer| matches!(answer, Unreached::Refused { .. }))
        .map(ToString::to_string)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_is_told_names_what_does_not_fit() {
        use RDKafkaErrorCode as Code;
        let cause = |code, said| match refusal(Some(code), said) {
            Some(Unreached::Refused { cause, .. }) => Some(cause),
            _ => None,
        };
        let handshake = "SASL PLAIN handshake failed: broker's supported mechanisms: ";
        let to_plain =
            "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?";
        for (code, said, wanted) in [
            (Code::Authentication, "Authentication failed: invalid credentials", Some(Cause::User)),
            (Code::SaslAuthenticationFailed, "x", Some(Cause::User)),
            (Code::Authentication, handshake, Some(Cause::Protocol)),
            (Code::UnsupportedSASLMechanism, "x", Some(Cause::Protocol)),
            (Code::SSL, "certificate verify failed", Some(Cause::Certificate)),
            (Code::BrokerTransportFailure, to_plain, Some(Cause::Protocol)),
            (Code::BrokerTransportFailure, "Connection refused", None),
            (Code::AllBrokersDown, "1/1 brokers are down", None),
        ] {
            assert_eq!(cause(code, said), wanted, "{code}: {said}");
        }
    }

    /// A broker that stops hangs up too, but then it is gone.
    #[test]
    fn hanging_up_and_nothing_else_is_another_protocol() {
        let listener = Listener::default();
        let log = |message: &str| listener.log(RDKafkaLogLevel::Info, "FAIL", message);
        for state in ["APIVERSION_QUERY", "UP"] {
            log(&format!("b:1: Disconnected: receive 0 after POLLIN (after 1ms in state {state})"));
            let said = lock(&listener.0).verdict().to_string();
            assert!(said.contains("another protocol") && !said.contains("after 1ms"), "{said}");
        }
        let gone = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        listener.error(gone, "b:1: Connection refused (after 0ms in state CONNECT)");
        let said = lock(&listener.0).verdict();
        assert_eq!(said, Unreached::Silent("b:1: Connection refused".to_owned()));
    }

    #[test]
    fn the_clients_own_states_are_nobodys_business() {
        assert_eq!(brief("b:1: refused (after 5ms in state AUTH_REQ)"), "b:1: refused");
    }

    /// Nobody there is no refusal.
    #[tokio::test]
    async fn nobody_there_is_silence() {
        let nowhere = BusConfig::new("127.0.0.1:1", "t.");
        let answer = reach(&nowhere, Duration::ZERO).await.unwrap_err();
        assert!(matches!(answer, Unreached::Silent(_)), "{answer}");
        assert_eq!(unready(&Err(answer)), None);
    }

    /// Who says STOP is heard by a service that Kafka refuses; only who asks for the gate has it.
    #[tokio::test]
    async fn a_refusal_makes_only_a_gated_service_unready() {
        let watch = Watch { unready_by: Arc::new(Mutex::new(Some("refused".to_owned()))) };
        let (door, models) = (Health::new(), Health::new());
        watch.gate(&models);
        assert_eq!(door.unready().await, []);
        assert_eq!(models.unready().await, [("kafka", "refused".to_owned())]);
        *lock(&watch.unready_by) = None;
        assert_eq!(models.unready().await, []);
    }

    #[test]
    fn only_a_refusal_makes_unready() {
        let refused = Unreached::Refused { cause: Cause::User, said: "no".to_owned() };
        let said = unready(&Err(refused)).unwrap();
        assert!(said.contains("refuses the user") && said.contains("sasl_password"), "{said}");
        assert_eq!(unready(&Ok(())), None);
    }
}
