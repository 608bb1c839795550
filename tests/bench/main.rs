//! The benchmarks: each runs Assent and what bounds it in the same run, in turn, on the same
//! servers. They claim nothing about other machines; `cargo xtask bench` builds the release
//! binaries, brings the servers up and calls this.
#![expect(clippy::disallowed_macros, reason = "a command line speaks to its user")]

mod append;
mod dispatch;
mod erasure;
mod freshness;
mod growth;
mod import;
mod load;
mod messages;
mod people;
mod permit;
mod projection;
mod relay;
mod report;
mod restore;
mod screen;
mod servers;
mod verdict;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::report::Row;

const NAMES: [&str; 12] = [
    "append",
    "relay",
    "projection",
    "freshness",
    "permit",
    "verdict",
    "import",
    "screen",
    "dispatch",
    "webhook",
    "erasure",
    "restore",
];
/// Runs only when it is named.
const LONG: &str = "growth";

fn main() -> ExitCode {
    let (names, json) = match arguments() {
        Ok(given) => given,
        Err(said) => {
            eprintln!("error: {said}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let rows = runtime.expect("a runtime can be built").block_on(measure(&names));
    println!("\n{}", report::table(&rows));
    if let Some(path) = json
        && let Err(error) = std::fs::write(&path, report::json(&rows))
    {
        eprintln!("error: {}: {error}", path.display());
        return ExitCode::from(2);
    }
    if rows.iter().all(Row::reaches) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(names: &[String]) -> Vec<Row> {
    println!("{}", servers::settings().await);
    let mut rows = Vec::new();
    for name in names {
        println!("\n{name}");
        let measured: Vec<Row> = match name.as_str() {
            "append" => append::run().await.into(),
            "relay" => vec![relay::run().await],
            "projection" => projection::run().await.into(),
            "freshness" => vec![freshness::run().await],
            "permit" => vec![permit::run().await],
            "dispatch" => dispatch::run().await.into(),
            "webhook" => webhook::run().await.into(),
            "erasure" => erasure::run().await.into(),
            "restore" => vec![restore::run().await],
            "verdict" => vec![verdict::run().await],
            "import" => vec![import::run().await],
            LONG => growth::run().await,
            _ => vec![screen::run().await],
        };
        // The table comes at the end: what is measured is told also if a later one fails.
        measured.iter().for_each(|row| println!("  {}", report::line(row)));
        rows.extend(measured);
    }
    rows
}

/// `[NAME]… [--json FILE]`; without a name all but the long one. `--bench` is cargo's own word.
fn arguments() -> Result<(Vec<String>, Option<PathBuf>), String> {
    let (mut names, mut json) = (Vec::new(), None);
    let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = given.next() {
        if argument == "--json" {
            json = Some(PathBuf::from(given.next().ok_or("--json needs a file")?));
        } else if NAMES.contains(&argument.as_str()) || argument == LONG {
            names.push(argument);
        } else {
            let all = NAMES.join(", ");
            return Err(format!("no benchmark {argument:?}; there are: {all}, {LONG}"));
        }
    }
    if names.is_empty() {
        names = NAMES.iter().map(ToString::to_string).collect();
    }
    Ok((names, json))
}
