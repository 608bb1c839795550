//! Rights in the forms in which they are read and given: a plan for people, resources for Strimzi's operator, lines for
//! Kafka's own tool. It guarantees that each form says all of them.

use std::fmt::Write as _;

use super::{Pattern, Right, User};
use crate::outcome::Failure;

/// A plan for people.
pub fn plan(users: &[User]) -> String {
    let mut text = String::new();
    for User { user, rights } in users {
        let _ = writeln!(text, "{user}");
        for right in rights {
            let rest = if right.pattern == Pattern::Prefix { "*" } else { "" };
            let name = format!("{}{rest}", right.name);
            let (kind, operations) = (right.resource.word(), words(right).join(", "));
            let _ = writeln!(text, "  {kind}  {name:<32}  {operations}");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// `KafkaUser`s of Strimzi's operator. Users log in by SCRAM, as Assent does.
///
/// # Errors
/// When a name is none that Kubernetes takes.
pub fn strimzi(users: &[User], cluster: &str) -> Result<String, Failure> {
    let mut documents = Vec::new();
    for User { user, rights } in users {
        if user.contains('_') || user.starts_with('-') || user.ends_with('-') {
            return Err(Failure::wrong_use(format!(
                "Kubernetes takes no name like `{user}`: no `_`, and no `-` at an end"
            )));
        }
        let mut document = format!(
            "apiVersion: kafka.strimzi.io/v1
kind: KafkaUser
metadata:
  name: {user}
  labels: {{ strimzi.io/cluster: {cluster} }}
spec:
  authentication: {{ type: scram-sha-512 }}
  authorization:
    type: simple
    acls:
"
        );
        for right in rights {
            let pattern = if right.pattern == Pattern::Prefix { "prefix" } else { "literal" };
            let (kind, operations) = (right.resource.word(), words(right).join(", "));
            let _ = writeln!(
                document,
                "      - {{ resource: {{ type: {kind}, name: {}, patternType: {pattern} }}, operations: [{operations}] }}",
                right.name
            );
        }
        documents.push(document);
    }
    Ok(documents.join("---\n").trim_end().to_owned())
}

/// Lines for `kafka-acls.sh`, which comes with Kafka. All names are of letters, digits, `.`, `_` and `-`, so no shell
/// reads more into them.
pub fn commands(users: &[User]) -> String {
    let mut lines = vec![
        "# KAFKA: host:port of a broker; ADMIN: a file with the login of who may alter rights."
            .to_owned(),
    ];
    for User { user, rights } in users {
        for right in rights {
            let pattern = if right.pattern == Pattern::Prefix { "prefixed" } else { "literal" };
            let operations: String =
                words(right).iter().map(|word| format!(" --operation {word}")).collect();
            lines.push(format!(
                "kafka-acls.sh --bootstrap-server \"$KAFKA\" --command-config \"$ADMIN\" --add \
                 --allow-principal User:{user} --{} {} --resource-pattern-type {pattern}{operations}",
                right.resource.word(),
                right.name
            ));
        }
    }
    lines.join("\n")
}

fn words(right: &Right) -> Vec<&'static str> {
    right.operations.iter().map(|operation| operation.word()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka_rights::users;

    #[test]
    fn every_form_says_every_right() {
        let users = users("acme.", &["crm".parse().unwrap()]);
        let rights: usize = users.iter().map(|user| user.rights.len()).sum();
        assert_eq!(plan(&users).lines().filter(|line| line.starts_with("  ")).count(), rights);
        let strimzi = strimzi(&users, "main").unwrap();
        assert_eq!(strimzi.matches("- { resource: ").count(), rights);
        assert_eq!(strimzi.matches("strimzi.io/cluster: main").count(), users.len());
        let commands = commands(&users);
        assert_eq!(commands.matches("--allow-principal").count(), rights);
        let crm = "--allow-principal User:crm --topic acme.consent.state.v1 --resource-pattern-type literal \
                   --operation Read --operation Describe";
        assert!(commands.contains(crm), "{commands}");
        assert!(commands.contains(
            "User:vault --group acme.vault. --resource-pattern-type prefixed --operation Read\n"
        ));
    }

    #[test]
    fn a_name_that_kubernetes_refuses_is_refused_here() {
        let users = users("assent.", &["crm_eu".parse().unwrap()]);
        assert!(strimzi(&users, "assent").unwrap_err().message.contains("`crm_eu`"));
    }
}
