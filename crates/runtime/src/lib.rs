//! What a process needs to live: configuration, telemetry, lifecycle, clock, ids, the lease,
//! the ops port and failpoints. It guarantees that time, randomness and stopping are passed in,
//! never ambient; what a service does with its life is left to the service.

pub mod broken;
mod cadence;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod ids;
pub mod lease;
pub mod lifecycle;
pub mod ops;
mod service_config;
pub mod telemetry;

pub use cadence::Cadence;
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{ConfigError, ConfigErrors, Presence, Section, Settings};
pub use ids::{Ids, SystemIds};
pub use lease::{Lease, LeaseTerms, settle};
pub use lifecycle::Lifecycle;
pub use ops::Health;
pub use service_config::ServiceConfig;
pub use telemetry::Telemetry;
