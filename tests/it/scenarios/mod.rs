//! The stories for which Assent exists, end to end against the simulator, with faults: each plays a scenario
//! file, and ends with the proof that its faults happened and that WhatsApp counted no violation.

mod bot;
mod campaign;
mod media;
mod names;
mod recycled;
mod stops;
mod support;
mod tier;
mod world;
