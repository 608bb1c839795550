//! Calls to addresses that somebody typed, such as webhooks of other teams. It guarantees that nobody is called but
//! the hosts that the operator named, over TLS or on this very machine; that a name which leads into a private network
//! is not followed there, whatever it led to when it was typed; and that neither a redirect nor a proxy leads elsewhere.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::Value;

use crate::client::{ClientError, builder};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest address.
const URL_MAX: usize = 500;
/// The name of this machine.
const LOCALHOST: &str = "localhost";

/// Whom calls may go to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    hosts: BTreeSet<String>,
    private: bool,
}

/// Why an address isn't called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// It is no address, or has a part that none may have.
    #[error("it is no http(s) address, or has a user, a fragment or more than 500 bytes")]
    Malformed,
    /// It would be called in the clear.
    #[error(
        "it must begin with https://, unless it is on this machine (127.0.0.1, ::1, localhost)"
    )]
    InTheClear,
    /// The operator named other hosts.
    #[error("its host is none that the operator allowed")]
    HostUnknown,
    /// It lies in a private network.
    #[error("it lies in a private network")]
    PrivateNetwork,
}

impl NotAllowed {
    /// Its stable name, for problem documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "address_malformed",
            Self::InTheClear => "address_in_the_clear",
            Self::HostUnknown => "host_not_allowed",
            Self::PrivateNetwork => "private_network",
        }
    }
}

impl Allowed {
    /// These hosts, commas between, names or IP addresses without a port; with `private` also where they lie in a
    /// private network. None: one of them is no host.
    #[must_use]
    pub fn parse(hosts: &str, private: bool) -> Option<Self> {
        let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
        let hosts = hosts.map(canonical_host).collect::<Option<_>>()?;
        Some(Self { hosts, private })
    }

    /// Whether this address may be called, as far as it tells that itself.
    ///
    /// # Errors
    /// [`NotAllowed`].
    pub fn check(&self, address: &str) -> Result<(), NotAllowed> {
        let url = Url::parse(address).map_err(|_| NotAllowed::Malformed)?;
        let host = url.host_str().ok_or(NotAllowed::Malformed)?;
        let strange = !url.username().is_empty()
            || url.password().is_some()
            || url.fragment().is_some()
            || address.len() > URL_MAX;
        let ip = ip_of(host);
        let here = host == LOCALHOST || ip.is_some_and(|ip| ip.is_loopback());
        match url.scheme() {
            _ if strange => return Err(NotAllowed::Malformed),
            "https" => {}
            "http" if here => {}
            "http" => return Err(NotAllowed::InTheClear),
            _ => return Err(NotAllowed::Malformed),
        }
        if !self.hosts.contains(host) {
            return Err(NotAllowed::HostUnknown);
        }
        // Who names an address of this machine means it.
        match ip {
            Some(ip) if !here && !self.may_reach(ip) => Err(NotAllowed::PrivateNetwork),
            _ => Ok(()),
        }
    }

    fn may_reach(&self, ip: IpAddr) -> bool {
        is_public(ip) || (self.private && !ip.is_unspecified() && !ip.is_multicast())
    }

    /// Which of the addresses behind a name are called.
    fn reachable(&self, name: &str, found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let may = |ip: IpAddr| self.may_reach(ip) || (name == LOCALHOST && ip.is_loopback());
        found.filter(|address| may(address.ip())).collect()
    }
}

/// A host as addresses have it: lower case, brackets around IPv6.
fn canonical_host(host: &str) -> Option<String> {
    let url = Url::parse(&format!("https://{host}/")).ok()?;
    let plain = url.port().is_none() && url.username().is_empty() && url.path() == "/";
    url.host_str().filter(|_| plain && !host.contains(['/', '?', '#', '@'])).map(str::to_owned)
}

fn ip_of(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an address is anybody's on the Internet, and nobody's of this network or machine.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_public_v4(ip),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // shared by carriers
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)); // for benchmarks
    !special
}

/// Of what is given out (2000::/3) all but documentation, and what leads on to IPv4 (Teredo, 6to4).
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    a & 0xe000 == 0x2000 && a != 0x2002 && !(a == 0x2001 && (b == 0 || b == 0xdb8))
}

struct Guard(Arc<Allowed>);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let reachable = allowed.reachable(name.as_str(), found);
            if reachable.is_empty() {
                let refused: Box<dyn std::error::Error + Send + Sync> =
                    NotAllowed::PrivateNetwork.into();
                return Err(refused);
            }
            Ok(Box::new(reachable.into_iter()) as Addrs)
        })
    }
}

/// Why a call wasn't taken.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// It was not made.
    #[error("not called: {0}")]
    NotAllowed(#[from] NotAllowed),
    /// It failed, or was refused.
    #[error(transparent)]
    Call(#[from] ClientError),
}

/// Calls allowed addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbound {
    http: reqwest::Client,
    allowed: Arc<Allowed>,
}

impl Outbound {
    /// Calls that take at most so long.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(allowed: Allowed, timeout: Duration) -> Result<Self, ClientError> {
        let allowed = Arc::new(allowed);
        let http = builder(CONNECT_TIMEOUT, timeout)
            .no_proxy()
            .dns_resolver(Guard(Arc::clone(&allowed)))
            .build()
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        Ok(Self { http, allowed })
    }

    /// Whom it calls.
    #[must_use]
    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Posts once. Only 2xx is a yes; what the answer says beyond is not read.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub async fn post(
        &self,
        address: &str,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<(), OutboundError> {
        self.allowed.check(address)?;
        let mut request = self.http.post(address).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await.map_err(|error| ClientError::sending(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let refused = ClientError::Problem { status, code: None, detail: None, body: Value::Null };
        Err(refused.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_hosts_are_called_and_only_over_tls_or_on_this_machine() {
        let hosts = "crm.example.org, 127.0.0.1,localhost, [::1], 10.0.0.7, 8.8.8.8";
        let allowed = Allowed::parse(hosts, false).unwrap();
        let refusals = [
            ("https://crm.example.org/assent", None),
            ("https://CRM.example.org:8443/assent?tenant=1", None),
            ("http://127.0.0.1:9000/", None),
            ("http://[::1]:9000/", None),
            ("http://localhost/", None),
            ("https://8.8.8.8/", None),
            // Every spelling of an address is the address.
            ("http://0x7f.1/", None),
            ("http://crm.example.org/", Some(NotAllowed::InTheClear)),
            ("http://8.8.8.8/", Some(NotAllowed::InTheClear)),
            ("https://other.example.org/", Some(NotAllowed::HostUnknown)),
            ("https://crm.example.org.evil.example/", Some(NotAllowed::HostUnknown)),
            ("http://127.0.0.2/", Some(NotAllowed::HostUnknown)),
            ("https://169.254.169.254/", Some(NotAllowed::HostUnknown)),
            ("https://10.0.0.7/", Some(NotAllowed::PrivateNetwork)),
            ("https://ada@crm.example.org/", Some(NotAllowed::Malformed)),
            ("https://crm.example.org/#a", Some(NotAllowed::Malformed)),
            ("ftp://crm.example.org/", Some(NotAllowed::Malformed)),
            ("crm.example.org", Some(NotAllowed::Malformed)),
            ("", Some(NotAllowed::Malformed)),
        ];
        for (address, refusal) in refusals {
            assert_eq!(allowed.check(address).err(), refusal, "{address}");
        }
        let private = Allowed::parse("10.0.0.7", true).unwrap();
        assert_eq!(private.check("https://10.0.0.7/"), Ok(()));
        assert_eq!(
            Allowed::default().check("https://crm.example.org/"),
            Err(NotAllowed::HostUnknown)
        );
        for wrong in ["crm.example.org:80", "https://a", "a/b", "a@b", "a b"] {
            assert_eq!(Allowed::parse(wrong, false), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_not_followed_into_a_private_network() {
        let addresses = [
            "93.184.216.34",
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "2606:2800:220:1::1",
            "::1",
            "fe80::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::1",
            "64:ff9b::a00:1",
            "::",
            "ff02::1",
        ];
        let found = || addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0));
        let reached = |allowed: &Allowed, name: &str| -> Vec<String> {
            allowed.reachable(name, found()).iter().map(|it| it.ip().to_string()).collect()
        };
        let (open, private) = (Allowed::default(), Allowed { private: true, ..Allowed::default() });
        assert_eq!(reached(&open, "crm.example.org"), ["93.184.216.34", "2606:2800:220:1::1"]);
        let here = ["93.184.216.34", "127.0.0.1", "2606:2800:220:1::1", "::1"];
        assert_eq!(reached(&open, "localhost"), here);
        let all = reached(&private, "crm.example.org");
        assert!(all.contains(&"10.1.2.3".to_owned()) && !all.contains(&"0.0.0.0".to_owned()));
    }

    #[tokio::test]
    async fn what_a_name_leads_to_is_looked_at_when_it_is_called() {
        let guard = Guard(Arc::new(Allowed::default()));
        let name = "127.0.0.1".parse::<Name>().unwrap();
        let refused = guard.resolve(name).await.err().expect("refused");
        assert!(refused.to_string().contains("private network"), "{refused}");
    }
}
