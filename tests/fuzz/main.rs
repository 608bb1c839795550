//! Webhook bodies that nobody would send, by the million: `--inputs N --seed S`. What is held for each is in
//! [`properties`]; how it is made in [`cases`]. A failure is shrunk and printed, and its seed makes it again.
#![expect(clippy::disallowed_macros, reason = "a command line speaks to its user")]

mod cases;
mod properties;

use std::process::ExitCode;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const INPUTS: u32 = 1_000_000;
/// So many threads, each with a seed of its own: the same for every machine.
const THREADS: u32 = 2;

fn main() -> ExitCode {
    let (inputs, seed) = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            std::thread::spawn(move || {
                let share = inputs / THREADS / 2;
                run("updates", share, seed, thread, &cases::bodies(), properties::of_a_body)?;
                run("signatures", share, seed, thread, &cases::signed(), properties::of_a_signature)
            })
        })
        .collect();
    let mut sound = true;
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                sound = false;
                eprintln!("{failure}\nseed {seed}");
            }
            Err(_) => sound = false,
        }
    }
    if sound {
        println!(
            "{inputs} inputs, seed {seed}: every one was read or refused, and no stop was missed"
        );
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run<S: Strategy>(
    what: &str,
    inputs: u32,
    seed: u64,
    thread: u32,
    strategy: &S,
    holds: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..12].copy_from_slice(&thread.to_le_bytes());
    let config = Config { cases: inputs, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, rng)
        .run(strategy, holds)
        .map_err(|failure| format!("{what}: {failure}"))
}

/// `--bench` is cargo's own word.
fn arguments() -> Result<(u32, u64), String> {
    let (mut inputs, mut seed) = (INPUTS, 1);
    let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| format!("{name} needs a number"))?;
        let number = || format!("{name} {value}: not a number");
        match name.as_str() {
            "--inputs" => inputs = value.parse().map_err(|_| number())?,
            "--seed" => seed = value.parse().map_err(|_| number())?,
            _ => return Err(format!("{name} is unknown; there are --inputs and --seed")),
        }
    }
    Ok((inputs, seed))
}
