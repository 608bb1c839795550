//! What each user may do at Kafka. It guarantees the least that works, made of what the services declare
//! themselves ([`Access`]) and of the topics of the contracts, so that `k8s/`, `assent doctor` and
//! `assent topics rights` say the same; that a broker asks for it is the deployment's.
//!
//! Nobody may use a transactional id: no client of ours has one. Whoever writes needs no right for being idempotent.

mod forms;

use std::str::FromStr;

use assent_bus::access::REPLAY;
use assent_bus::{Access, Reader};
use assent_contracts::topics::{
    self, CONSENT_EVENTS, CONSENT_STATE, ERASURE_COMMANDS, Sequence, Topic,
};
use serde::Serialize;

use crate::serve::Service;

pub use forms::{commands, plan, strimzi};

/// Who creates the topics that are missing.
const MIGRATE: &str = "migrate";
/// Who looks how far consumers are behind, for the autoscaler.
const SCALER: &str = "keda";

/// Something that a user may do. In this order they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Operation {
    /// Make a topic.
    Create,
    /// Take records, or be a member of a group and commit its positions.
    Read,
    /// Write records.
    Write,
    /// See that it is there, how far it reaches, who is its coordinator.
    Describe,
}

impl Operation {
    /// Kafka's word, which is Strimzi's too.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Describe => "Describe",
        }
    }
}

/// What a right is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
}

impl Kind {
    /// Kafka's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
        }
    }
}

/// How a right names what it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// By its whole name.
    Literal,
    /// By what its name begins with.
    Prefix,
}

/// A right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Right {
    /// What it is on.
    pub resource: Kind,
    /// Its name, or the beginning of it.
    pub name: String,
    /// Which of the two.
    pub pattern: Pattern,
    /// What may be done.
    pub operations: Vec<Operation>,
}

/// A user of Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its name.
    pub user: String,
    /// All that it may do.
    pub rights: Vec<Right>,
}

/// A consumer group of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its full name.
    pub group: String,
    /// Whose it is.
    pub service: &'static str,
    /// The full name of the topic that it reads.
    pub topic: String,
}

/// A team that reads topics, and so takes part in erasures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    name: String,
    topics: Vec<Topic>,
}

impl FromStr for Team {
    type Err = String;

    /// `NAME`, for the consents, or `NAME=TOPIC,…`, topics without the deployment's prefix.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, named) = match text.split_once('=') {
            Some((name, named)) => (name, Some(named)),
            None => (text, None),
        };
        let fits =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
            return Err("a team's name is 1 to 64 of a-z, 0-9, `-` and `_`".to_owned());
        }
        let ours = Service::ALL.map(Service::name);
        if ours.contains(&name) || [REPLAY, MIGRATE, SCALER].contains(&name) {
            return Err(format!(
                "`{name}` is a name of Assent's own: the team would get its groups"
            ));
        }
        let topics = match named {
            None => vec![CONSENT_EVENTS, CONSENT_STATE],
            Some(named) => named.split(',').map(topic).collect::<Result<_, _>>()?,
        };
        Ok(Self { name: name.to_owned(), topics })
    }
}

fn topic(suffix: &str) -> Result<Topic, String> {
    topics::by_suffix(suffix).ok_or_else(|| {
        let all: Vec<&str> = topics::ALL.iter().map(|topic| topic.suffix).collect();
        format!("there is no topic `{suffix}`; there are {}", all.join(", "))
    })
}

/// What a service declares.
fn access(service: Service) -> Access {
    match service {
        Service::Consent => assent_consent::access(),
        Service::Vault => assent_vault::access(),
        Service::Messaging => assent_messaging::access(),
        Service::Erasure => assent_erasure::access(),
        Service::Projector => assent_projector::access(),
        Service::Console | Service::Gateway => Access::default(),
    }
}

/// The topics that a service has to do with: those that it writes, reads, or asks how far they reach.
pub fn topics_of(service: Service) -> Vec<Topic> {
    let access = access(service);
    topics::ALL
        .into_iter()
        .filter(|topic| !operations(service, &access, topic).is_empty())
        .collect()
}

fn operations(service: Service, access: &Access, topic: &Topic) -> Vec<Operation> {
    let (reads, writes) = (access.reads(topic), topic.service() == service.name());
    let describes = reads || writes || access.measured.contains(topic);
    let all =
        [(reads, Operation::Read), (writes, Operation::Write), (describes, Operation::Describe)];
    all.into_iter().filter(|(may, _)| *may).map(|(_, operation)| operation).collect()
}

/// Every user of a deployment: its services, who creates topics, who scales; and these teams.
pub fn users(prefix: &str, teams: &[Team]) -> Vec<User> {
    let mut users: Vec<User> =
        Service::ALL.into_iter().map(|service| of_service(prefix, service)).collect();
    users.retain(|user| !user.rights.is_empty());
    users.push(migrate(prefix));
    users.push(scaler(prefix));
    users.extend(teams.iter().map(|team| of_team(prefix, team)));
    users
}

/// Every consumer group of a deployment.
pub fn groups(prefix: &str) -> Vec<Group> {
    let of_one = |service: Service| {
        access(service).readers.into_iter().map(move |reader| Group {
            group: format!("{prefix}{}", reader.consumer),
            service: service.name(),
            topic: reader.topic.name(prefix),
        })
    };
    Service::ALL.into_iter().flat_map(of_one).collect()
}

fn of_service(prefix: &str, service: Service) -> User {
    let access = access(service);
    let mut rights = Vec::new();
    for topic in topics::ALL {
        let operations = operations(service, &access, &topic);
        if !operations.is_empty() {
            rights.push(on_topic(prefix, &topic, &operations));
        }
    }
    if !access.readers.is_empty() {
        // By the beginning: the next version's consumers need no other rights.
        let name = format!("{prefix}{}.", service.name());
        rights.push(on_group(name, Pattern::Prefix, Operation::Read));
    }
    if topics::ALL.iter().any(|topic| access.reads(topic)) {
        rights.push(on_group(format!("{prefix}{REPLAY}"), Pattern::Literal, Operation::Describe));
    }
    User { user: service.name().to_owned(), rights }
}

fn migrate(prefix: &str) -> User {
    let may = [Operation::Create, Operation::Describe];
    let rights = topics::ALL.iter().map(|topic| on_topic(prefix, topic, &may)).collect();
    User { user: MIGRATE.to_owned(), rights }
}

/// It looks at those who follow another service's events, which are many; commands are few, and what a service reads
/// of its own nobody waits for.
fn scaler(prefix: &str) -> User {
    let watched = |service: Service| -> Vec<Reader> {
        let readers = access(service).readers.into_iter();
        readers
            .filter(|reader| reader.topic.service() != service.name())
            .filter(|reader| reader.topic.sequence == Sequence::Gapless)
            .collect()
    };
    let all: Vec<(Service, Vec<Reader>)> =
        Service::ALL.into_iter().map(|service| (service, watched(service))).collect();
    let mut rights = Vec::new();
    for topic in topics::ALL {
        if all.iter().flat_map(|(_, readers)| readers).any(|reader| reader.topic == topic) {
            rights.push(on_topic(prefix, &topic, &[Operation::Describe]));
        }
    }
    for (service, _) in all.iter().filter(|(_, readers)| !readers.is_empty()) {
        let name = format!("{prefix}{}.", service.name());
        rights.push(on_group(name, Pattern::Prefix, Operation::Describe));
    }
    User { user: SCALER.to_owned(), rights }
}

/// It reads, and hears erasures; it writes nothing.
fn of_team(prefix: &str, team: &Team) -> User {
    let may = [Operation::Read, Operation::Describe];
    let mut rights: Vec<Right> = topics::ALL
        .iter()
        .filter(|topic| team.topics.contains(topic) || **topic == ERASURE_COMMANDS)
        .map(|topic| on_topic(prefix, topic, &may))
        .collect();
    let own = format!("{prefix}{}", team.name);
    rights.push(on_group(own.clone(), Pattern::Literal, Operation::Read));
    rights.push(on_group(format!("{own}."), Pattern::Prefix, Operation::Read));
    User { user: team.name.clone(), rights }
}

fn on_topic(prefix: &str, topic: &Topic, operations: &[Operation]) -> Right {
    Right {
        resource: Kind::Topic,
        name: topic.name(prefix),
        pattern: Pattern::Literal,
        operations: operations.to_vec(),
    }
}

fn on_group(name: String, pattern: Pattern, operation: Operation) -> Right {
    Right { resource: Kind::Group, name, pattern, operations: vec![operation] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may<'a>(users: &'a [User], user: &str) -> &'a [Right] {
        &users.iter().find(|it| it.user == user).unwrap().rights
    }

    #[test]
    fn a_topic_is_written_by_its_service_and_by_nobody_else() {
        let team: Team = "crm=messaging.events.v1".parse().unwrap();
        let users = users("assent.", &[team]);
        for topic in topics::ALL {
            let name = topic.name("assent.");
            let writers = users.iter().filter(|user| {
                user.rights
                    .iter()
                    .any(|it| it.name == name && it.operations.contains(&Operation::Write))
            });
            let writers: Vec<&str> = writers.map(|user| user.user.as_str()).collect();
            assert_eq!(writers, [topic.service()], "{name}");
        }
        for user in ["console", "gateway"] {
            assert!(users.iter().all(|it| it.user != user), "{user} has nothing to do with Kafka");
        }
    }

    /// A right on a beginning is one on a service's own groups only.
    #[test]
    fn nobody_comes_into_anothers_groups() {
        let teams: [Team; 2] = ["crm".parse().unwrap(), "crm2".parse().unwrap()];
        let users = users("acme.", &teams);
        for user in &users {
            for right in user.rights.iter().filter(|it| it.operations == [Operation::Read]) {
                let own = format!("acme.{}", user.user);
                let inside = right.name == own || right.name == format!("{own}.");
                assert!(right.resource == Kind::Group && inside, "{user:?}");
                assert_eq!(right.pattern == Pattern::Prefix, right.name.ends_with('.'));
            }
        }
    }

    #[test]
    fn a_team_reads_what_it_asked_for_and_hears_erasures() {
        let users = users("assent.", &["crm".parse().unwrap()]);
        let read: Vec<&str> = may(&users, "crm").iter().map(|it| it.name.as_str()).collect();
        let expected = [
            "assent.consent.events.v1",
            "assent.consent.state.v1",
            "assent.erasure.commands.v1",
            "assent.crm",
            "assent.crm.",
        ];
        assert_eq!(read, expected);
        for (text, said) in [
            ("consent", "a name of Assent's own"),
            ("replay", "a name of Assent's own"),
            ("CRM", "1 to 64"),
            ("crm=nothing.v1", "there is no topic `nothing.v1`"),
        ] {
            let refused = text.parse::<Team>().unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }

    /// `k8s/` gives exactly these rights: no more, no less, to nobody else.
    #[test]
    fn the_manifests_give_exactly_these_rights() {
        const FILE: &str = include_str!("../../../k8s/components/kafka-strimzi/kafkauser.yaml");
        let written: Vec<&str> = FILE.lines().filter(|line| !line.starts_with('#')).collect();
        let generated = strimzi(&users("assent.", &[]), "assent").unwrap();
        let generated: Vec<&str> = generated.lines().collect();
        assert_eq!(
            written, generated,
            "k8s/components/kafka-strimzi/kafkauser.yaml: take `assent topics rights --as strimzi`"
        );
    }
}
