//! Developer commands of Assent: a private cluster on this machine and the test suite. It starts
//! and stops only what it started itself.
#![expect(clippy::disallowed_macros, reason = "a command line speaks to its user")]
#![expect(clippy::disallowed_methods, reason = "the dev cluster lives in wall-clock time")]

mod artifacts;
mod bench;
mod book;
mod cargo_tool;
mod ci;
mod clients;
mod cluster;
mod compile;
mod conform;
mod error;
mod example;
mod examples;
mod fuzz;
mod image;
mod kafka;
mod lend;
mod machine;
mod manifests;
mod pin_images;
mod ports;
mod postgres;
mod process;
mod python;
mod secrets;
mod secured;
mod services;
mod soak;
mod suite;
mod tour;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Assent's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start Kafka, Postgres, every service and the WhatsApp simulator on this machine.
    ///
    /// Everything lives under target/dev. Run it again at any time: what runs is left alone, what
    /// died is started again.
    #[command(after_help = "Example:\n  cargo xtask up && . target/dev/env && assent --help")]
    Up,
    /// Stop what `up` started.
    #[command(after_help = "Example:\n  cargo xtask down --purge")]
    Down {
        /// Also delete its data, keys and logs.
        #[arg(long)]
        purge: bool,
    },
    /// Show what runs, where, and whether it is ready.
    Status,
    /// Print a service's log.
    #[command(after_help = "Example:\n  cargo xtask logs consent --follow")]
    Logs {
        /// kafka, postgres, whatsapp-sim, gateway, consent, vault, messaging, erasure, projector
        service: String,
        /// Go on printing as it grows.
        #[arg(long, short)]
        follow: bool,
    },
    /// Formatting, lints, unit, integration and fault tests against real Kafka and Postgres.
    #[command(after_help = "Example:\n  cargo xtask test -- gate::")]
    Test {
        /// Passed on to the test binary: run only the tests whose name contains it.
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Run pywa, a public client library of the Cloud API, against the WhatsApp simulator.
    ///
    /// Needs Python 3 with venv; the library is installed under target/tools.
    Clients,
    /// What must pass before a change lands: `test`, `clients`, `fuzz`, the documentation, `book`, all
    /// dependencies, `conform`, `examples`, `tour`, `manifests`, `upgrade`.
    Ci,
    /// Check the documentation's links and table of contents, and build it as a book: target/book/html/index.html.
    Book,
    /// Hold every HTTP API against its OpenAPI description, with made-up requests.
    ///
    /// On a cluster of its own under target/conform; takes some minutes and needs Python.
    Conform,
    /// Hold what is written for other teams against a cluster: schemas, the AsyncAPI document, the examples in Python,
    /// Java and Node.
    ///
    /// On a cluster of its own under target/examples; needs Python, Node with npm, a JDK and Maven.
    Examples,
    /// Type what pages show of a shell, and hold what is printed against them: every block marked `console`.
    ///
    /// Each page on a new cluster under target/tour. Ids, times and ports may differ; `…` on a page is anything.
    #[command(after_help = "Example:\n  cargo xtask tour README.md docs/guides/engineer.md")]
    Tour {
        /// Which pages, as paths from the repository's root; all that have such blocks when none is named.
        pages: Vec<std::path::PathBuf>,
    },
    /// Damaged webhook bodies and signatures by the million: none may panic, and none may hide a stop.
    #[command(after_help = "Example:\n  cargo xtask fuzz --inputs 100000000 --seed 7")]
    Fuzz {
        /// How many.
        #[arg(long, default_value_t = 1_000_000)]
        inputs: u32,
        /// What they are made from; the same number makes the same inputs.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// A cluster with two replicas of each service under load, with processes killed and frozen, servers restarted,
    /// connections cut; then everything is held against what the clients were told.
    ///
    /// The same seed makes the same choices. Needs some gigabytes of disk for a long run.
    ///
    /// With `--broken` the build breaks that guarantee on purpose, for a short while, and the judge must find it.
    #[command(
        after_help = "Examples:\n  cargo xtask soak --minutes 30 --seed 7 --report soak.json\n  cargo xtask soak --broken G1"
    )]
    Soak {
        /// How long faults are injected.
        #[arg(long, default_value_t = 2)]
        minutes: u32,
        /// What load and faults are drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Judge a build that breaks this guarantee on purpose: G1 to G7, or `all` one after the other.
        #[arg(long, value_name = "GUARANTEE", conflicts_with_all = ["minutes", "seed"])]
        broken: Option<String>,
        /// Also write the history and what was found to a file.
        #[arg(long, value_name = "FILE")]
        report: Option<std::path::PathBuf>,
    },
    /// Replace every process of an older build by this one, one after the other, with two replicas of each service
    /// under load; then everything is held against what the clients were told.
    ///
    /// The older build is compiled from this repository's history, which takes some minutes the first time.
    Upgrade {
        /// Also write the history and what was found to a file.
        #[arg(long, value_name = "FILE")]
        report: Option<std::path::PathBuf>,
    },
    /// Check the Kubernetes manifests without a cluster (schemas, settings, network flows, alerts) and the compose file
    /// without an engine.
    ///
    /// Needs Go and Python; the tools are kept under target/tools.
    Manifests,
    /// How heavy our layer of the image is, without an engine: built as the image has it, and packed.
    Image,
    /// Add to each public image of docker-compose.yml and the Dockerfile the digest that its registry tells for its tag.
    ///
    /// Needs Docker with buildx on a machine that reaches the registries. All digests are read before anything is
    /// written; a digest that is there already is read anew.
    PinImages,
    /// Measure against what bounds it, in the same run: append, relay, projection, freshness,
    /// permit, verdict, import, screen, dispatch, webhook, erasure, restore.
    ///
    /// In release, on a Postgres and a Kafka of its own under target/bench. Fails when a goal of
    /// docs/performance.md is missed.
    #[command(after_help = "Example:\n  cargo xtask bench append relay --json figures.json")]
    Bench {
        /// Which ones; all of them when none is named.
        names: Vec<String>,
        /// Also write the figures to a file.
        #[arg(long, value_name = "FILE")]
        json: Option<std::path::PathBuf>,
    },
    /// Run one server for whoever holds the other end of standard input: for tests that stop it.
    #[command(hide = true)]
    Lend(lend::Lend),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up => cluster::up(),
        Command::Down { purge } => cluster::down(purge),
        Command::Status => cluster::status(),
        Command::Logs { service, follow } => cluster::logs(&service, follow),
        Command::Test { filter } => suite::test(&filter),
        Command::Clients => clients::check(),
        Command::Ci => ci::ci(),
        Command::Book => book::book(),
        Command::Conform => conform::conform(),
        Command::Examples => examples::examples(),
        Command::Tour { pages } => tour::tour(&pages),
        Command::Fuzz { inputs, seed } => fuzz::fuzz(inputs, seed),
        Command::Soak { broken: Some(guarantee), report, .. } => {
            soak::broken(&guarantee, report.as_deref())
        }
        Command::Soak { minutes, seed, report, .. } => soak::soak(minutes, seed, report.as_deref()),
        Command::Upgrade { report } => soak::upgrade(report.as_deref()),
        Command::Manifests => manifests::manifests(),
        Command::Image => image::image(),
        Command::PinImages => pin_images::pin_images(),
        Command::Bench { names, json } => bench::bench(&names, json.as_deref()),
        Command::Lend(lend) => lend.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
