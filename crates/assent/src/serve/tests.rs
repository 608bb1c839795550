//! What deployments are made from, against what the binary reads: a variable that nothing reads is a
//! setting that silently isn't there.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;

use super::*;
use crate::cli::Cli;

/// What any service or command reads from its environment.
fn read_by_the_binary() -> BTreeSet<String> {
    let settings = Settings::from_parts("", []).unwrap();
    let _ = read_shared(&settings);
    for service in Service::ALL {
        let _ = Plan::read(service, &settings);
    }
    let mut names = settings.variables();
    of_arguments(&Cli::command(), &mut names);
    names
}

fn of_arguments(command: &clap::Command, names: &mut BTreeSet<String>) {
    let variables = command.get_arguments().filter_map(|argument| argument.get_env());
    names.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    command.get_subcommands().for_each(|sub| of_arguments(sub, names));
}

/// The names `ASSENT_…` in a text, but those that docker compose puts in itself (`${ASSENT_PORT:-7100}`).
fn named_in(text: &str) -> impl Iterator<Item = &str> {
    let name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.match_indices("ASSENT_").filter(|(at, _)| !text[..*at].ends_with("${")).map(
        move |(at, _)| {
            let rest = &text[at..];
            &rest[..rest.find(|c| !name(c)).unwrap_or(rest.len())]
        },
    )
}

/// Every file below a folder, but the secrets that somebody made there.
fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            files.push(path);
        } else if !path.ends_with("secrets") {
            below(&path, files);
        }
    }
}

#[test]
fn a_deployment_sets_only_what_the_binary_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut files = vec![root.join("docker-compose.yml")];
    below(&root.join("k8s"), &mut files);
    let read = read_by_the_binary();
    let mut named = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for name in named_in(&text) {
            assert!(read.contains(name), "{}: nothing reads {name}", file.display());
            named += 1;
        }
    }
    assert!(named > 100, "only {named} names were found");
}
