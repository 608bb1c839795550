//! `bench`: the benchmarks in release, on servers of their own that are as durable as any.

use std::path::{Path, PathBuf};

use crate::compile::cargo;
use crate::error::Result;
use crate::machine;
use crate::process::{catch_interrupts, show};
use crate::suite::Stores;
use crate::workspace::{Home, target};

/// Runs the named benchmarks, or all of them.
pub fn bench(names: &[String], json: Option<&Path>) -> Result<()> {
    catch_interrupts();
    let home = Home::open("bench")?;
    machine::prepare(&home)?;
    println!("build (release; the first time takes some minutes)");
    show(&mut cargo(&["build", "--release", "--workspace", "--bins"]), "`cargo build --release`")?;
    show(
        &mut cargo(&["bench", "--workspace", "--bench", "bench", "--no-run"]),
        "`cargo bench --no-run`",
    )?;
    let stores = Stores::start(&home)?;
    let mut bench = cargo(&["bench", "--quiet", "--workspace", "--bench", "bench", "--"]);
    bench.args(names);
    if let Some(path) = json {
        bench.arg("--json").arg(std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)));
    }
    stores.tell(&mut bench, &home, &target().join("release"));
    show(&mut bench, "the benchmarks")
}
