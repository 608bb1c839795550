//! Ports: the documented default where it is free, else the next free one.

use std::collections::BTreeSet;
use std::net::TcpListener;

/// Hands out ports on 127.0.0.1, never the same twice.
#[derive(Default)]
pub struct Ports {
    given: BTreeSet<u16>,
}

impl Ports {
    /// The first free port from `first` on.
    pub fn from(&mut self, first: u16) -> u16 {
        (first..=u16::MAX)
            .find(|port| !self.given.contains(port) && is_free(*port))
            .inspect(|port| {
                self.given.insert(*port);
            })
            .unwrap_or_else(|| self.any())
    }

    /// Any free port.
    pub fn any(&mut self) -> u16 {
        loop {
            let port = TcpListener::bind(("127.0.0.1", 0))
                .and_then(|listener| listener.local_addr())
                .expect("the system has a free port")
                .port();
            if self.given.insert(port) {
                return port;
            }
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
