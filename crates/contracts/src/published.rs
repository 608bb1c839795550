//! Every event type that is published: where it stands, what its key means, its schema and its golden
//! examples. It guarantees that every type name that is a constant of this crate is on the list, and that
//! what the examples say is read and written back unchanged; how the list is shown is left to others.

use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::topics::{
    CONSENT_EVENTS, CONSENT_STATE, ERASURE_COMMANDS, ERASURE_EVENTS, MESSAGING_EVENTS, Topic,
    VAULT_EVENTS,
};
use crate::{
    campaigns, consent, conversation, erasure, messaging, policy, purposes, rights, vault,
};

/// What the record key of an event names. Whatever it is, it is a random id or one that is derived: a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A person.
    Subject,
    /// A person, or nobody who is known here.
    SubjectOrNobody,
    /// An address, whoever has it.
    Address,
    /// A person, or an address that belongs to nobody who is known.
    SubjectOrAddress,
    /// A purpose.
    Purpose,
    /// The deployment's policy.
    Policy,
    /// The deployment's rules.
    Rules,
    /// A batch of claimed consents.
    Batch,
    /// A campaign.
    Campaign,
}

impl Key {
    /// Its name in the golden file of what was released.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::SubjectOrNobody => "subject_or_nobody",
            Self::Address => "address",
            Self::SubjectOrAddress => "subject_or_address",
            Self::Purpose => "purpose",
            Self::Policy => "policy",
            Self::Rules => "rules",
            Self::Batch => "batch",
            Self::Campaign => "campaign",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Subject => "the `subject_id`",
            Self::SubjectOrNobody => {
                "the `subject_id`; where nobody who is known asks, a random id of the request's own"
            }
            Self::Address => {
                "an id derived from the address's token, also where a person has the address"
            }
            Self::SubjectOrAddress => {
                "the `subject_id`; where nobody who is known has the address, an id derived from its token, by another rule than the vault's"
            }
            Self::Purpose => "an id derived from the purpose's name",
            Self::Policy => "an id of the deployment's policy",
            Self::Rules => "an id of the deployment's rules",
            Self::Batch => "an id derived from the `batch_id`",
            Self::Campaign => "the campaign's id",
        }
    }
}

/// A schema with the schemas that it refers to, by name.
pub struct Described {
    /// Its own.
    pub schema: RefOr<Schema>,
    /// Those that it refers to.
    pub parts: Vec<(String, RefOr<Schema>)>,
}

/// A published event type.
#[derive(Debug, Clone, Copy)]
pub struct EventType {
    /// The type name on the wire, with its version, such as `assent.consent.granted.v1`.
    pub name: &'static str,
    /// The one topic that it stands in.
    pub topic: Topic,
    /// What the record key names.
    pub key: Key,
    /// Examples of its data, a JSON array: the newest and fullest shape first, then the smallest or an
    /// older one.
    pub golden: &'static str,
    /// The schema of its data.
    pub describe: fn() -> Described,
    /// Reads data and writes it again.
    ///
    /// # Errors
    /// When it can't be read.
    pub reread: fn(&serde_json::Value) -> serde_json::Result<serde_json::Value>,
}

fn describe<T: ToSchema>() -> Described {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    Described { schema: T::schema(), parts }
}

fn reread<T: Serialize + DeserializeOwned>(
    data: &serde_json::Value,
) -> serde_json::Result<serde_json::Value> {
    serde_json::to_value(T::deserialize(data)?)
}

macro_rules! event_types {
    ($($topic:ident $key:ident { $($name:literal $data:path,)+ })+) => {
        /// Every type, by topic.
        pub const ALL: &[EventType] = &[$($(
            EventType {
                name: $name,
                topic: $topic,
                key: Key::$key,
                golden: include_str!(concat!("../golden/", $name, ".json")),
                describe: describe::<$data>,
                reread: reread::<$data>,
            },
        )+)+];
    };
}

event_types! {
    CONSENT_EVENTS Subject {
        "assent.consent.requested.v1" consent::Requested,
        "assent.consent.asked.v1" consent::Asked,
        "assent.consent.contacted.v1" consent::Contacted,
        "assent.consent.age_stated.v1" consent::AgeStated,
        "assent.consent.restricted.v1" consent::Restricted,
        "assent.consent.restriction_lifted.v1" consent::RestrictionLifted,
        "assent.consent.granted.v1" consent::Granted,
        "assent.consent.refused.v1" consent::Refused,
        "assent.consent.withdrawn.v1" consent::Withdrawn,
        "assent.consent.expired.v1" consent::Expired,
        "assent.consent.standing_changed.v1" consent::StandingChanged,
        "assent.consent.erased.v1" consent::Erased,
    }
    CONSENT_EVENTS Purpose {
        "assent.consent.purpose_defined.v1" consent::PurposeDefined,
        "assent.consent.purpose_retired.v1" policy::PurposeRetired,
    }
    CONSENT_EVENTS Policy {
        "assent.consent.policy_applied.v1" policy::PolicyApplied,
    }
    CONSENT_EVENTS Rules {
        "assent.consent.rules_loaded.v1" consent::RulesLoaded,
    }
    CONSENT_EVENTS Batch {
        "assent.consent.claims_submitted.v1" consent::ClaimsSubmitted,
        "assent.consent.claims_decided.v1" consent::ClaimsDecided,
    }
    CONSENT_STATE Subject {
        "assent.consent.state.v1" consent::ConsentState,
    }
    VAULT_EVENTS Subject {
        "assent.vault.subject_registered.v1" vault::SubjectRegistered,
        "assent.vault.identifiers_added.v1" vault::IdentifiersAdded,
        "assent.vault.identifiers_removed.v1" vault::IdentifiersRemoved,
        "assent.vault.subject_linked.v1" vault::SubjectLinked,
        "assent.vault.subject_rectified.v1" vault::SubjectRectified,
        "assent.vault.subject_erased.v1" vault::SubjectErased,
    }
    VAULT_EVENTS Address {
        "assent.vault.address_suppressed.v1" vault::AddressSuppressed,
    }
    MESSAGING_EVENTS SubjectOrNobody {
        "assent.messaging.lease_overrun.v1" messaging::LeaseOverrun,
    }
    MESSAGING_EVENTS Subject {
        "assent.messaging.message_requested.v1" messaging::MessageRequested,
        "assent.messaging.message_refused.v1" messaging::MessageRefused,
        "assent.messaging.message_accepted.v1" messaging::MessageAccepted,
        "assent.messaging.message_failed.v1" messaging::MessageFailed,
        "assent.messaging.message_uncertain.v1" messaging::MessageUncertain,
        "assent.messaging.status_changed.v1" messaging::StatusChanged,
        "assent.messaging.message_received.v1" messaging::MessageReceived,
        "assent.messaging.subject_erased.v1" messaging::SubjectErased,
        "assent.messaging.conversation_opened.v1" conversation::ConversationOpened,
        "assent.messaging.conversation_handed_over.v1" conversation::ConversationHandedOver,
        "assent.messaging.conversation_assigned.v1" conversation::ConversationAssigned,
        "assent.messaging.conversation_closed.v1" conversation::ConversationClosed,
        "assent.messaging.conversation_noted.v1" conversation::ConversationNoted,
        "assent.messaging.conversation_read.v1" conversation::ConversationRead,
        "assent.messaging.bot_disclosed.v1" conversation::BotDisclosed,
    }
    MESSAGING_EVENTS SubjectOrAddress {
        "assent.messaging.stop_heard.v1" messaging::StopHeard,
    }
    MESSAGING_EVENTS Campaign {
        "assent.messaging.campaign_drafted.v1" campaigns::CampaignDrafted,
        "assent.messaging.campaign_audience_taken.v1" campaigns::CampaignAudienceTaken,
        "assent.messaging.campaign_dry_run_done.v1" campaigns::CampaignDryRunDone,
        "assent.messaging.campaign_approved.v1" campaigns::CampaignApproved,
        "assent.messaging.campaign_started.v1" campaigns::CampaignStarted,
        "assent.messaging.campaign_paused.v1" campaigns::CampaignPaused,
        "assent.messaging.campaign_resumed.v1" campaigns::CampaignResumed,
        "assent.messaging.campaign_cancelled.v1" campaigns::CampaignCancelled,
        "assent.messaging.campaign_completed.v1" campaigns::CampaignCompleted,
    }
    ERASURE_COMMANDS Subject {
        "assent.erasure.command.v1" erasure::Command,
        "assent.erasure.inquiry.v1" rights::Inquiry,
        "assent.erasure.purpose_command.v1" purposes::PurposeCommand,
    }
    ERASURE_EVENTS Subject {
        "assent.erasure.requested.v1" erasure::Requested,
        "assent.erasure.step_started.v1" erasure::StepStarted,
        "assent.erasure.acknowledged.v1" erasure::Acknowledged,
        "assent.erasure.overdue.v1" erasure::Overdue,
        "assent.erasure.completed.v1" erasure::Completed,
        "assent.erasure.purpose_requested.v1" purposes::PurposeRequested,
        "assent.erasure.purpose_step_started.v1" erasure::StepStarted,
        "assent.erasure.purpose_acknowledged.v1" erasure::Acknowledged,
        "assent.erasure.purpose_overdue.v1" erasure::Overdue,
        "assent.erasure.purpose_completed.v1" erasure::Completed,
        "assent.erasure.hold_placed.v1" rights::HoldPlaced,
        "assent.erasure.hold_reviewed.v1" rights::HoldReviewed,
        "assent.erasure.hold_released.v1" rights::HoldReleased,
        "assent.erasure.hold_refused.v1" rights::HoldRefused,
        "assent.erasure.request_rectified.v1" rights::RequestRectified,
        "assent.erasure.restriction_placed.v1" rights::RestrictionPlaced,
        "assent.erasure.restriction_end_told.v1" rights::RestrictionEndTold,
        "assent.erasure.restriction_released.v1" rights::RestrictionReleased,
        "assent.erasure.recipients_asked.v1" rights::RecipientsAsked,
        "assent.erasure.recipient_answered.v1" rights::RecipientAnswered,
        "assent.erasure.archive_prepared.v1" rights::ArchivePrepared,
        "assent.erasure.archive_collected.v1" rights::ArchiveCollected,
        "assent.erasure.archive_removed.v1" rights::ArchiveRemoved,
    }
    ERASURE_EVENTS SubjectOrNobody {
        "assent.erasure.request_opened.v1" rights::RequestOpened,
        "assent.erasure.purpose_request_opened.v1" purposes::PurposeRequestOpened,
        "assent.erasure.request_acknowledged.v1" rights::RequestAcknowledged,
        "assent.erasure.identity_confirmed.v1" rights::IdentityConfirmed,
        "assent.erasure.request_extended.v1" rights::RequestExtended,
        "assent.erasure.request_refused.v1" rights::RequestRefused,
        "assent.erasure.request_answered.v1" rights::RequestAnswered,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn examples(event: &EventType) -> Vec<Value> {
        serde_json::from_str(event.golden).unwrap_or_else(|error| panic!("{}: {error}", event.name))
    }

    /// What is published today is read for ever.
    #[test]
    fn golden_events_are_read_and_nothing_of_them_is_lost() {
        for event in ALL {
            for (index, example) in examples(event).iter().enumerate() {
                let again = (event.reread)(example)
                    .unwrap_or_else(|error| panic!("{}: {error}", event.name));
                if index == 0 {
                    assert_eq!(&again, example, "{}: the fullest shape", event.name);
                }
                let mut fields = example.as_object().unwrap().keys();
                assert!(fields.all(|field| again.get(field).is_some()), "{}", event.name);
                assert!(!has_null(&again), "{}: what isn't there is left out", event.name);
            }
        }
    }

    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(items) => items.iter().any(has_null),
            Value::Object(fields) => fields.values().any(has_null),
            _ => false,
        }
    }

    #[test]
    fn the_first_golden_event_shows_every_field() {
        for event in ALL {
            let schema = serde_json::to_value((event.describe)().schema).unwrap();
            let described: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
            let examples = examples(event);
            let shown: BTreeSet<_> = examples[0].as_object().unwrap().keys().collect();
            assert_eq!(shown, described, "{}", event.name);
        }
    }

    /// The type names stand in the files as constants; each of them is on the list, once.
    #[test]
    fn every_type_name_is_on_the_list() {
        let mut named = BTreeSet::new();
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        for entry in std::fs::read_dir(sources).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter(|line| line.starts_with("pub const "));
                let names = lines.filter_map(|line| line.split('"').nth(1));
                named.extend(names.filter(|name| name.starts_with("assent.")).map(str::to_owned));
            }
        }
        let listed: BTreeSet<String> = ALL.iter().map(|event| event.name.to_owned()).collect();
        assert_eq!(named, listed);
        assert_eq!(ALL.len(), listed.len(), "none twice");
    }

    fn read(file: &str) -> String {
        let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn short(event: &EventType) -> &'static str {
        event.name.trim_start_matches("assent.consent.").trim_end_matches(".v1")
    }

    /// Which keys name nobody: the guide says it, and the examples pass over just these types.
    #[test]
    fn what_the_guide_and_the_examples_say_of_keys_is_what_the_list_says() {
        let guide = read("docs/guides/consuming.md");
        for event in ALL {
            let said = match event.key {
                Key::Subject => "the `subject_id`",
                Key::SubjectOrNobody => "requests of nobody",
                Key::Address | Key::SubjectOrAddress => "addresses",
                Key::Purpose => "purposes",
                Key::Policy => "the policy",
                Key::Rules => "rules",
                Key::Batch => "batches of claims",
                Key::Campaign => "campaigns",
            };
            assert!(guide.contains(said), "consuming.md doesn't speak of {said}: {}", event.name);
        }
        let consent: Vec<&EventType> =
            ALL.iter().filter(|event| event.topic == CONSENT_EVENTS).collect();
        let nobody: BTreeSet<&str> =
            consent.iter().filter(|it| it.key != Key::Subject).map(|it| short(it)).collect();
        for file in ["python/follow.py", "node/follow.mjs", "java/Follow.java"] {
            let source = read(&format!("docs/examples/{file}"));
            let list = source.split_once("ABOUT_NOBODY").unwrap().1.split("\n\n").next().unwrap();
            let words: BTreeSet<&str> =
                list.split(|it: char| !(it.is_ascii_lowercase() || it == '_')).collect();
            let listed: BTreeSet<&str> =
                consent.iter().map(|it| short(it)).filter(|name| words.contains(name)).collect();
            assert_eq!(listed, nobody, "{file}");
        }
    }

    /// The guide's table of what an event makes of a reader's lines names events that there are.
    #[test]
    fn the_guide_names_events_that_are_published() {
        let guide = read("docs/guides/consuming.md");
        let table = guide.split_once("| Event | Lines |").unwrap().1.split("\n\n").next().unwrap();
        let named = table.lines().filter_map(|row| row.split('|').nth(1));
        let named: Vec<&str> = named.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert!(named.len() >= 6, "{named:?}");
        for name in named {
            let full = format!("assent.consent.{name}.v1");
            let there = ALL.iter().any(|event| event.name == full && event.key == Key::Subject);
            assert!(there, "consuming.md: there is no {full} about a person");
        }
    }

    #[test]
    fn a_type_stands_in_a_topic_of_its_service_and_every_topic_has_some() {
        let service = |name: &str, at: usize| name.split('.').nth(at).map(str::to_owned);
        for event in ALL {
            assert_eq!(service(event.name, 1), service(event.topic.suffix, 0), "{}", event.name);
        }
        for topic in crate::topics::ALL {
            assert!(ALL.iter().any(|event| event.topic == topic), "{}", topic.suffix);
        }
    }
}
