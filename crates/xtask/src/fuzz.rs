//! `fuzz`: inputs that nobody would send, to what reads them before anybody has looked.

use crate::compile::cargo;
use crate::error::Result;
use crate::process::show;

/// Runs so many inputs, made from this seed.
pub fn fuzz(inputs: u32, seed: u64) -> Result<()> {
    // As the tests are built: what is compiled for them is there already, and overflows are seen.
    let mut fuzz = cargo(&["bench", "--quiet", "--profile", "dev", "-p", "assent-tests"]);
    fuzz.args(["--bench", "fuzz", "--", "--inputs", &inputs.to_string()]);
    fuzz.args(["--seed", &seed.to_string()]);
    show(&mut fuzz, "`cargo xtask fuzz`")
}
