//! `bench`: figures against the limit of this machine, ours and the baseline in turn.

use std::path::Path;

use crate::error::{Error, Result};

/// Runs the named benchmarks, all when none is named.
pub fn run(_names: &[String], _json: Option<&Path>) -> Result<()> {
    Err(Error::Said("benchmarks are not there yet".to_owned()))
}
