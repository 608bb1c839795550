//! A long run under load and faults, judged afterwards: `--minutes N --seed S`, or with `--from DIR` one
//! rolling replacement of that build by the one under test. The same seed makes the same choices; what the
//! machine makes of them differs. Status 1: a guarantee was broken, or a check had nothing to look at.
//!
//! With `--expect G1` the build under test breaks that guarantee on purpose: status 0 only if the judge finds
//! that one broken, and nothing else.
#![expect(clippy::disallowed_macros, reason = "a command line speaks to its user")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::{Cluster, Wishes};
use assent_tests::servers;
use assent_tests::soak::check::{self, Verdict};
use assent_tests::soak::history::History;
use assent_tests::soak::load::{self, Load};
use assent_tests::soak::plan::Plan;
use assent_tests::soak::{faults, replacing, settling};

/// What is asked for.
struct Asked {
    seconds: u64,
    seed: u64,
    /// The folder of the build that is replaced.
    from: Option<PathBuf>,
    /// The guarantee that the build breaks.
    expect: Option<String>,
    /// Where to write what happened.
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let asked = match arguments() {
        Ok(asked) => asked,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let sound = runtime.expect("a runtime can be built").block_on(run(&asked));
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs, lets everything come to rest, and judges.
async fn run(asked: &Asked) -> bool {
    let (mut postgres, mut kafka) = servers::both().await;
    let mut cluster = Cluster::with(Wishes {
        replicated: vec!["consent", "vault", "messaging", "erasure", "projector"],
        // Kafka soon gives the partitions of the dead to others.
        settings: vec![
            ("kafka", "session_timeout_ms = 6000"),
            ("messaging", "whatsapp_timeout_ms = 5000"),
            ("erasure", "step_timeout_ms = 10000"),
            ("erasure", "retry_ms = 1000"),
        ],
        stores: Some(servers::stores(&postgres, &kafka)),
        build: asked.from.clone(),
        without_scopes: if asked.from.is_some() { replacing::NEW_SCOPES } else { &[] },
        ..Wishes::default()
    })
    .await;
    faults::of_the_provider(&cluster).await;
    let load = Load::start(&cluster.client(), asked.seed, asked.from.is_none());
    println!("seed {}, {} people at a time", asked.seed, load::WORKERS);
    let happened = match &asked.from {
        Some(from) => replacing::everything(&mut cluster, from, &load).await,
        None => {
            let (plan, end) = (Plan::new(asked.seed), Duration::from_secs(asked.seconds));
            let end = SystemClock.boottime() + end;
            faults::inject(&mut cluster, &mut postgres, &mut kafka, plan, end, &load).await
        }
    };
    let history: History = load.stop(happened).await;
    println!("{}", history.summary());
    let unsettled = settling::settle(&cluster, &history).await;
    let verdict = check::all(&cluster, &history, unsettled, &postgres.data(), &kafka.data()).await;
    println!("\n{}", verdict.table());
    if let Some(path) = &asked.report
        && let Err(error) = std::fs::write(path, history.report(&verdict))
    {
        eprintln!("error: {}: {error}", path.display());
        return false;
    }
    let as_wished = is_as_wished(asked, &verdict);
    if !as_wished {
        eprintln!("seed {}; the logs are kept in {}", asked.seed, cluster.dir.display());
        cluster.keep();
    }
    as_wished
}

fn is_as_wished(asked: &Asked, verdict: &Verdict) -> bool {
    let Some(broken) = &asked.expect else { return verdict.is_sound() };
    let found = verdict.violated();
    if verdict.is_blind() {
        eprintln!("a check had nothing to look at");
        return false;
    }
    if found != [broken.as_str()].into() {
        eprintln!("the build breaks {broken}; the judge found {found:?}");
        return false;
    }
    println!("the build breaks {broken}, and the judge found that, and nothing else");
    true
}

/// `--bench` is cargo's own word.
fn arguments() -> Result<Asked, String> {
    let mut asked = Asked { seconds: 120, seed: 1, from: None, expect: None, report: None };
    let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} {value}: not a number"));
        match name.as_str() {
            "--minutes" => asked.seconds = 60 * number()?,
            "--seconds" => asked.seconds = number()?,
            "--seed" => asked.seed = number()?,
            "--from" => asked.from = Some(PathBuf::from(value)),
            "--expect" => asked.expect = Some(value),
            "--report" => asked.report = Some(PathBuf::from(value)),
            _ => {
                let known = "--minutes, --seconds, --seed, --from, --expect and --report";
                return Err(format!("{name} is unknown; there are {known}"));
            }
        }
    }
    Ok(asked)
}
