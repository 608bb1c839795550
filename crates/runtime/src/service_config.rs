//! What every service is told about itself. It guarantees that they all read it by the same names;
//! what else a service must be told is its own.

use std::net::SocketAddr;

use secrecy::SecretString;

use crate::config::Settings;

/// Where a service listens and keeps its rows, and how it says who it is.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where the operations port listens.
    pub ops_listen: SocketAddr,
    /// The service's database.
    pub database_url: SecretString,
    /// Connections to it.
    pub database_connections: u32,
    /// Most requests under way at once; more are turned away.
    pub requests_max: usize,
    /// What this service shows to others.
    pub token: SecretString,
}

/// What a replica takes at once unless it is told.
const REQUESTS_MAX: usize = 4096;

impl ServiceConfig {
    /// Reads it from `[<service>]`, the token also from `[services]`; what is wrong is recorded in
    /// the settings, and then the answer is `None`. `connections` is the default.
    #[must_use]
    pub fn read(settings: &Settings, service: &'static str, connections: u32) -> Option<Self> {
        let own = settings.section(service);
        let listen = own.required("listen");
        let ops_listen = own.required("ops_listen");
        let database_url = own.secret("database_url");
        let database_connections = own.default("database_connections", connections);
        let requests_max = own.default("requests_max", REQUESTS_MAX);
        if requests_max == 0 {
            own.invalid("requests_max", "must be at least 1");
        }
        let shared = settings.section("services");
        let token = own.optional_secret("token").or_else(|| shared.secret("token"));
        Some(Self {
            listen: listen?,
            ops_listen: ops_listen?,
            database_url: database_url?,
            database_connections,
            requests_max,
            token: token?,
        })
    }
}
