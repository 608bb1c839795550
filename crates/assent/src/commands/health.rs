//! `assent health`: whether a service of this machine or container is ready, for health checks where
//! there is no other HTTP client.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;

use crate::outcome::{Failure, Output, Status};
use crate::serve::{ConfigFile, Service};

/// A probe itself answers within a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of `assent health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent health consent
  assent health gateway --config /etc/assent/assent.toml

Asks /readyz of the operations port that `assent serve SERVICE` with the same configuration has. Exit
status: 0 ready, 1 not ready or not there, 2 wrong configuration.")]
pub struct Health {
    /// Which service.
    service: Service,
    #[command(flatten)]
    config: ConfigFile,
}

impl Health {
    /// Runs it.
    ///
    /// # Errors
    /// When the configuration doesn't say where the operations port is.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let settings = self.config.load()?;
        let name = self.service.name();
        let Some(listen) = settings.section(name).required("ops_listen") else {
            return Err(Failure::wrong_use(format!("{name}.ops_listen is no address, or missing")));
        };
        let url = format!("http://{}/readyz", from_here(listen));
        let client = assent_http::client::http_client(CALL_TIMEOUT, CALL_TIMEOUT)
            .map_err(|error| Failure::wrong_use(error.to_string()))?;
        let (ready, says) = match client.get(url).send().await {
            Ok(answer) => (answer.status().is_success(), answer.text().await.unwrap_or_default()),
            Err(error) => (false, error.without_url().to_string()),
        };
        let result = serde_json::json!({"ready": ready, "says": says.trim_end()});
        output.print(&result, |_| says.trim_end().to_owned());
        Ok(if ready { Status::Done } else { Status::Refused })
    }
}

/// Where a listener on every address is found from here.
fn from_here(listen: SocketAddr) -> SocketAddr {
    let local = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(local, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_the_loopback() {
        let asked = |listen: &str| from_here(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:7201"), "127.0.0.1:7201");
        assert_eq!(asked("[::]:7201"), "[::1]:7201");
        assert_eq!(asked("10.0.0.7:7201"), "10.0.0.7:7201");
    }
}
