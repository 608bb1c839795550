//! The projector against real Kafka and Postgres: rows and position commit together, a rebuild
//! equals the live model (G7) and lands what is appended meanwhile once, the erased stay erased (G6).

mod erasing;
mod following;
mod rebuilding;
mod stage;
