//! The command line: what there is, and which file does it.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::api::Connection;
use crate::backup::{Backup, Restore};
use crate::commands::bot::Bot;
use crate::commands::campaign::Campaign;
use crate::commands::consent::Consent;
use crate::commands::conversation::Conversation;
use crate::commands::erase::Erase;
use crate::commands::evidence::Evidence;
use crate::commands::explain::Explain;
use crate::commands::health::Health;
use crate::commands::hold::Hold;
use crate::commands::import::Import;
use crate::commands::keys::Keys;
use crate::commands::parked::Parked;
use crate::commands::participant::Participant;
use crate::commands::policy::PolicyCommand;
use crate::commands::preferences::Preferences;
use crate::commands::projection::Projection;
use crate::commands::receipt::Receipt;
use crate::commands::request::Request;
use crate::commands::retention::Retention;
use crate::commands::review::Review;
use crate::commands::rules::Rules;
use crate::commands::screen::Screen;
use crate::commands::send::Send;
use crate::commands::suppress::Suppress;
use crate::commands::template::Template;
use crate::commands::topics::Topics;
use crate::commands::verify::Verify;
use crate::completions::{Completions, Man};
use crate::configuration::Configuration;
use crate::doctor::Doctor;
use crate::migrate::Migrate;
use crate::openapi::OpenApi;
use crate::outcome::{Failure, Output, Status};
use crate::schemas::Schemas;
use crate::serve::Serve;

/// From "we have this number" to "we may message this person", lawfully.
#[derive(Debug, Parser)]
#[command(
    name = "assent",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  assent import contacts.csv --country FR
  assent explain '+33 6 39 98 00 01' --purpose marketing
  assent consent grant '+33 6 39 98 00 01' --purpose marketing --channel whatsapp --evidence 'form 12'

Exit status: 0 done, 1 done with refusals, 2 wrong use, 3 a service couldn't be reached."
)]
pub struct Cli {
    #[command(flatten)]
    connection: Connection,
    /// JSON on standard output, for machines.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a contact file into the vault; creates no consent.
    Import(Import),
    /// Say who of a contact file may be messaged, and why the others may not; keeps nothing.
    Screen(Screen),
    /// Load a list of opt-outs: these numbers are kept out.
    Suppress(Suppress),
    /// Say whether a person may be messaged, and why or why not.
    Explain(Explain),
    /// Write a folder that shows why a message was allowed or not, for a dispute.
    Evidence(Evidence),
    /// Write a signed receipt of what a person said, for her.
    Receipt(Receipt),
    /// Record what a person said.
    #[command(subcommand)]
    Consent(Consent),
    /// Look at consents that a list claims, and decide.
    #[command(subcommand)]
    Review(Review),
    /// Give a person a link to her preference page, or take it back.
    #[command(subcommand)]
    Preferences(Preferences),
    /// Look after what people are asked and told: the policy, as files.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Look at the law as data: which rules apply, and whether their files make sense.
    #[command(subcommand)]
    Rules(Rules),
    /// Send one message through the gate and wait for the outcome.
    Send(Send),
    /// Write to many: draft, dry run, approval, start, report.
    #[command(subcommand)]
    Campaign(Campaign),
    /// Create, edit, list and delete templates at WhatsApp.
    #[command(subcommand)]
    Template(Template),
    /// Answer people: who waits, what was written, notes, handing over.
    #[command(subcommand)]
    Conversation(Conversation),
    /// Look at the files of the bot.
    #[command(subcommand)]
    Bot(Bot),
    /// Ask that a person be forgotten.
    Erase(Erase),
    /// Take in what people ask for about their data, and see that it is answered in time.
    #[command(subcommand)]
    Request(Request),
    /// Keep a person's data from destruction, for a reason of law.
    #[command(subcommand)]
    Hold(Hold),
    /// See who is kept no longer, before she goes.
    #[command(subcommand)]
    Retention(Retention),
    /// Say which services take part in erasures, and hold one against the contract.
    #[command(subcommand)]
    Participant(Participant),
    /// Check an erasure certificate, a receipt or the folder of a dispute, offline.
    Verify(Verify),
    /// Look after messages that a consumer could not apply.
    #[command(subcommand)]
    Parked(Parked),
    /// Look after the read models.
    #[command(subcommand)]
    Projection(Projection),
    /// Make the keys and tokens of a deployment.
    #[command(subcommand)]
    Keys(Keys),
    /// Copy the databases, or the key stores, sealed.
    #[command(subcommand)]
    Backup(Backup),
    /// Load a backup into an installation that is stopped and empty.
    #[command(subcommand)]
    Restore(Restore),
    /// Create or update databases, schemas and topics.
    Migrate(Migrate),
    /// Keep the Kafka topics as the contracts say, and say who needs which rights.
    #[command(subcommand)]
    Topics(Topics),
    /// Run services.
    Serve(Serve),
    /// Say whether a service is ready.
    Health(Health),
    /// Say what is wrong with a deployment, and what to do.
    Doctor(Doctor),
    /// Write the OpenAPI documents.
    Openapi(OpenApi),
    /// Write what is published on Kafka: JSON Schemas, AsyncAPI, a reference; or publish the schemas to a registry.
    Schemas(Schemas),
    /// Write the reference of everything that can be set.
    Configuration(Configuration),
    /// Print what a shell needs to complete commands.
    Completions(Completions),
    /// Write manual pages.
    Man(Man),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Err(error) = assent_runtime::broken::announce() {
        return Output::new(false).fail(&Failure::wrong_use(error.to_owned())).into();
    }
    // Wrong use is 2 with clap too; help and version are 0.
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let ended = match &cli.command {
        Command::Serve(serve) => match serve.run() {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Verify(verify) => verify.run(output),
        Command::Rules(rules) => rules.run(output),
        Command::Bot(bot) => bot.run(output),
        Command::Openapi(openapi) => openapi.run(output),
        Command::Schemas(schemas) if schemas.publish().is_none() => schemas.run(output),
        Command::Configuration(configuration) => configuration.run(&Cli::command(), output),
        Command::Completions(completions) => completions.run(Cli::command()),
        Command::Man(man) => man.run(Cli::command(), output),
        _ => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::wrong_use(error.to_string()))
            .and_then(|runtime| runtime.block_on(run(&cli, output))),
    };
    match ended {
        Ok(status) => status.into(),
        Err(failure) => output.fail(&failure).into(),
    }
}

async fn run(cli: &Cli, output: Output) -> Result<Status, Failure> {
    match &cli.command {
        Command::Keys(keys) if !matches!(keys, Keys::Reindex) => return keys.run(output).await,
        Command::Migrate(migrate) => return migrate.run(output).await,
        Command::Backup(backup) => return backup.run(output).await,
        Command::Restore(restore) => return restore.run(output).await,
        Command::Topics(topics) => return topics.run(output).await,
        Command::Health(health) => return health.run(output).await,
        Command::Doctor(doctor) => return Ok(doctor.run(output).await),
        Command::Schemas(schemas) if let Some(publish) = schemas.publish() => {
            return publish.run(output).await;
        }
        Command::Participant(participant) if let Some(check) = participant.check() => {
            return check.run(output).await;
        }
        _ => {}
    }
    let api = &cli.connection.open()?;
    match &cli.command {
        Command::Import(import) => import.run(api, output).await,
        Command::Screen(screen) => screen.run(api, output).await,
        Command::Suppress(suppress) => suppress.run(api, output).await,
        Command::Explain(explain) => explain.run(api, output).await,
        Command::Evidence(evidence) => evidence.run(api, output).await,
        Command::Receipt(receipt) => receipt.run(api, output).await,
        Command::Consent(consent) => consent.run(api, output).await,
        Command::Review(review) => review.run(api, output).await,
        Command::Preferences(preferences) => preferences.run(api, output).await,
        Command::Policy(policy) => policy.run(api, output).await,
        Command::Send(send) => send.run(api, output).await,
        Command::Campaign(campaign) => campaign.run(api, output).await,
        Command::Template(template) => template.run(api, output).await,
        Command::Conversation(conversation) => conversation.run(api, output).await,
        Command::Erase(erase) => erase.run(api, output).await,
        Command::Request(request) => request.run(api, output).await,
        Command::Hold(hold) => hold.run(api, output).await,
        Command::Retention(retention) => retention.run(api, output).await,
        Command::Participant(participant) => participant.run(api, output).await,
        Command::Parked(parked) => parked.run(api, output).await,
        Command::Projection(projection) => projection.run(api, output).await,
        Command::Keys(Keys::Reindex) => crate::commands::keys::reindex(api, output).await,
        Command::Verify(_)
        | Command::Rules(_)
        | Command::Bot(_)
        | Command::Keys(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Migrate(_)
        | Command::Topics(_)
        | Command::Serve(_)
        | Command::Health(_)
        | Command::Doctor(_)
        | Command::Openapi(_)
        | Command::Schemas(_)
        | Command::Configuration(_)
        | Command::Completions(_)
        | Command::Man(_) => Ok(Status::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Trap 23: withdrawing takes no more than granting (GDPR Article 7(3)): what must be typed.
    #[test]
    fn trap_23_withdrawing_asks_for_no_more_than_granting() {
        let mut cli = Cli::command();
        let consent = cli.find_subcommand_mut("consent").unwrap();
        let mut asked = |name: &str| -> Vec<String> {
            let command = consent.find_subcommand_mut(name).unwrap();
            let required = command.get_arguments().filter(|argument| argument.is_required_set());
            required.map(|argument| argument.get_id().to_string()).collect()
        };
        let (grant, withdraw) = (asked("grant"), asked("withdraw"));
        assert!(withdraw.len() < grant.len(), "{withdraw:?} {grant:?}");
        assert!(withdraw.iter().all(|argument| grant.contains(argument)));
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_some() {
                command.get_subcommands().for_each(|sub| check(sub, &path));
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let call = format!("{} ", path.trim_start());
                assert!(help.contains("Examples:") && help.contains(call.trim_end()), "{path}");
            }
        }
        Cli::command().get_subcommands().for_each(|sub| check(sub, "assent"));
    }
}
