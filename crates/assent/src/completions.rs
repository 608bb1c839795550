//! `assent completions` and `assent man`: what a shell and a reader of manuals want to know about the command line,
//! made from the command line itself.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use crate::outcome::{Failure, Output, Status};

/// Arguments of `assent completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent completions bash > ~/.local/share/bash-completion/completions/assent
  assent completions zsh > ~/.zfunc/_assent
  assent completions fish > ~/.config/fish/completions/assent.fish")]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    /// Runs it; `cli` is the command line.
    ///
    /// # Errors
    /// When standard output can't be written to.
    pub fn run(&self, mut cli: clap::Command) -> Result<Status, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli, "assent", &mut script);
        std::io::stdout()
            .write_all(&script)
            .map_err(|error| Failure::wrong_use(error.to_string()))?;
        Ok(Status::Done)
    }
}

/// Arguments of `assent man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent man ~/.local/share/man/man1
  man assent-import")]
pub struct Man {
    /// The folder to write to: a page for each command.
    dir: PathBuf,
}

impl Man {
    /// Runs it; `cli` is the command line.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn run(&self, cli: clap::Command, output: Output) -> Result<Status, Failure> {
        std::fs::create_dir_all(&self.dir).map_err(|error| Failure::file(&self.dir, error))?;
        clap_mangen::generate_to(cli, &self.dir)
            .map_err(|error| Failure::file(&self.dir, error))?;
        output.print(&self.dir, |dir| format!("manual pages written to {}", dir.display()));
        Ok(Status::Done)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_shell_is_told_of_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "assent", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page_with_its_examples() {
        let dir = std::env::temp_dir()
            .join(format!("assent-man-{}", assent_runtime::Ids::v4(&assent_runtime::SystemIds)));
        let man = Man { dir: dir.clone() };
        man.run(Cli::command(), Output::new(true)).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        for command in Cli::command().get_subcommands() {
            let page = read(&format!("assent-{}.1", command.get_name()));
            assert!(page.contains(".TH"), "{}", command.get_name());
        }
        let page = read("assent-consent-grant.1");
        assert!(page.contains("Examples:"), "{page}");
        // A secret of whoever makes the pages must not stand in them.
        assert!(!read("assent.1").contains("ASSENT_TOKEN="));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
