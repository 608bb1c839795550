//! `assent topics`: the Kafka topics as the contracts declare them, against those of the broker, and who may do what with
//! them. It reads the configuration of the deployment, not its API: whoever runs it may administer Kafka.

use assent_bus::{BusConfig, Change, TopicError, apply_topics, plan_topics};
use assent_contracts::topics::{ALL, Topic};
use assent_runtime::{ConfigErrors, Settings};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::kafka_rights::{self, Group, Team, User};
use crate::outcome::{Failure, Output, Status};
use crate::serve::{ConfigFile, wrong_configuration};

/// What to do about a partition count, which nobody changes.
const GROWING: &str = "another count would move keys and break their order: nothing is changed. Growing is a topic of the next version \
     beside this one, with publisher and readers changing over";

/// `assent topics …`
#[derive(Debug, Subcommand)]
pub enum Topics {
    /// Say what separates the broker's topics from those of the contracts.
    #[command(after_help = "\
Examples:
  assent topics plan --config /etc/assent/assent.toml
  ASSENT_CONFIG=/etc/assent/assent.toml assent topics plan --json

Changes nothing. Exit status: 0 told, 1 a topic has another partition count, 2 wrong configuration, 3 Kafka didn't answer.")]
    Plan(Where),
    /// Make the broker's topics what the contracts say.
    #[command(after_help = "\
Examples:
  assent topics apply --config /etc/assent/assent.toml

Creates topics and alters cleanup and retention; settings that the contracts don't name stay. It never changes a
partition count. Exit status: 0 done, 1 a topic has another partition count (nothing was changed), 2 wrong configuration,
3 Kafka didn't answer.")]
    Apply(Where),
    /// Say what the Kafka users of services and teams must be allowed, and no more.
    #[command(after_help = "\
Examples:
  assent topics rights
  assent topics rights --as strimzi --team crm --team reports=messaging.events.v1,consent.state.v1
  assent topics rights --as kafka-acls | sh

Changes nothing and asks nobody: of the configuration it reads [kafka] topic_prefix. A team gets its topics (the
consents, unless they are named), erasure.commands.v1, for whoever reads takes part in erasures, and two kinds of groups:
PREFIX + NAME, and whatever begins with PREFIX + NAME + `.`. With --json: users and the consumer groups of services.")]
    Rights(Rights),
}

/// Whose rights, and in which form.
#[derive(Debug, Args)]
pub struct Rights {
    /// A team that reads topics; after registering for erasures. Can be repeated.
    #[arg(long = "team", value_name = "NAME=TOPICS")]
    teams: Vec<Team>,
    /// For people, for Strimzi's operator, or for Kafka's own tool.
    #[arg(long = "as", value_enum, default_value_t = Form::Plan)]
    form: Form,
    /// The name of Strimzi's Kafka cluster.
    #[arg(long, default_value = "assent")]
    cluster: String,
    #[command(flatten)]
    config: ConfigFile,
}

/// A form of the rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A plan for people.
    Plan,
    /// `KafkaUser` resources.
    Strimzi,
    /// Lines for `kafka-acls.sh`.
    KafkaAcls,
}

/// The rights, for machines.
#[derive(Debug, Serialize)]
struct Told {
    users: Vec<User>,
    groups: Vec<Group>,
}

impl Rights {
    fn run(&self, output: Output) -> Result<Status, Failure> {
        let prefix = self.config.topic_prefix()?;
        let users = kafka_rights::users(&prefix, &self.teams);
        let text = match self.form {
            Form::Plan => kafka_rights::plan(&users),
            Form::Strimzi => kafka_rights::strimzi(&users, &self.cluster)?,
            Form::KafkaAcls => kafka_rights::commands(&users),
        };
        let told = Told { users, groups: kafka_rights::groups(&prefix) };
        output.print(&told, |_| text);
        Ok(Status::Done)
    }
}

/// Where Kafka is.
#[derive(Debug, Args)]
pub struct Where {
    #[command(flatten)]
    config: ConfigFile,
}

/// A topic with what is to be changed.
#[derive(Debug, Serialize)]
struct Planned {
    topic: String,
    changes: Vec<Line>,
}

/// A change, for people and machines.
#[derive(Debug, Serialize)]
struct Line {
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

impl Topics {
    /// Runs it.
    ///
    /// # Errors
    /// When the configuration is wrong, Kafka doesn't answer, or a partition count is another.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let place = match self {
            Self::Plan(place) | Self::Apply(place) => place,
            Self::Rights(rights) => return rights.run(output),
        };
        let settings = place.config.load()?;
        let Some(bus) = BusConfig::read(&settings) else {
            return Err(wrong_configuration(kafka_errors(&settings)));
        };
        let answer = match self {
            Self::Apply(_) => apply_topics(&bus, &ALL).await,
            _ => plan_topics(&bus, &ALL).await,
        };
        let plan = answer.map_err(failure)?;
        let refused = plan.iter().flat_map(|(_, changes)| changes).any(is_refused);
        let planned: Vec<_> =
            plan.iter().map(|(topic, changes)| planned(&bus, topic, changes)).collect();
        output.print(&planned, |planned| tell(planned, matches!(self, Self::Apply(_))));
        Ok(if refused { Status::Refused } else { Status::Done })
    }
}

/// Only the errors that matter here: the rest of the configuration isn't read.
fn kafka_errors(settings: &Settings) -> ConfigErrors {
    let errors = settings.finish().err().map(|errors| errors.0).unwrap_or_default();
    ConfigErrors(errors.into_iter().filter(|error| error.place.starts_with("kafka.")).collect())
}

fn is_refused(change: &Change) -> bool {
    matches!(change, Change::Partitions { .. })
}

fn planned(bus: &BusConfig, topic: &Topic, changes: &[Change]) -> Planned {
    let line = |change: &Change| match change {
        Change::Create => Line {
            change: "create",
            setting: Some("partitions"),
            from: None,
            to: Some(topic.partitions.to_string()),
        },
        Change::Set { setting, from, to } => Line {
            change: "set",
            setting: Some(setting),
            from: from.clone(),
            to: Some((*to).to_owned()),
        },
        Change::Partitions { found, wanted } => Line {
            change: "refused",
            setting: Some("partitions"),
            from: Some(found.to_string()),
            to: Some(wanted.to_string()),
        },
    };
    Planned { topic: bus.topic_name(topic), changes: changes.iter().map(line).collect() }
}

fn tell(planned: &[Planned], done: bool) -> String {
    let mut lines = Vec::new();
    for Planned { topic, changes } in planned {
        for Line { change, setting, from, to } in changes {
            let from = from.as_deref().unwrap_or("not there");
            let (setting, to) = (setting.unwrap_or_default(), to.as_deref().unwrap_or_default());
            lines.push(match *change {
                "create" => format!("create   {topic} with {to} partitions"),
                "refused" => {
                    format!("REFUSED  {topic}: {from} partitions instead of {to}; {GROWING}")
                }
                _ => format!("set      {topic} {setting}: {from} -> {to}"),
            });
        }
    }
    match (lines.is_empty(), done) {
        (true, _) => format!("{} topics are as the contracts say", planned.len()),
        (false, true) => format!("{}\ndone", lines.join("\n")),
        (false, false) => lines.join("\n"),
    }
}

fn failure(error: TopicError) -> Failure {
    let (status, code) = match error {
        TopicError::Partitions { .. } => (Status::Refused, "partitions_differ"),
        _ => (Status::Unreachable, "unreachable"),
    };
    let more = if status == Status::Refused { format!("; {GROWING}") } else { String::new() };
    Failure { status, code: code.to_owned(), message: format!("kafka: {error}{more}") }
}
